"""Fits a solver of few evaluations to a model: `python -m experiments.solvers.fit workload=seeds_en [KEY=VALUE
...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.build import target_of
from engine.clock import make_clock
from engine.contract import ConfigError, SynthesisRequest, UnsupportedEngine
from engine.settings import SolverSettings
from engine.upstream.build import upstream
from engine.weights.checkpoint import is_random
from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.plain import Config
from experiments.common.presets import with_presets
from experiments.measuring.engines import build_by_name
from experiments.measuring.running import default_out
from experiments.measuring.validate import one_cell, validate_out
from experiments.settings.front import answered
from experiments.settings.keys import refuse_misspelt, refuse_unread
from experiments.workload.requests import load_workload
from metrics.record import write_atomically

if TYPE_CHECKING:
    from engine.pipeline import F5Engine
    from engine.solver.methods import SolverSpec
    from experiments.solvers.fitting import Candidate

HELP = """Fit a solver of few evaluations to a model: its times, guidance strengths and weights.

The teacher is `solver` (euler; default euler_32) in the engine given. Every third sentence is held out: its error is
printed and never fitted to. The result is a cheaper answer like any other: put the file below conf/solver/ and let
`experiments.quality_gate` decide, on sentences that it was not fitted to.

  steps=N      evaluations of the new solver, 2 to 8 (default 3)
  tries=N      candidates of the search, each of N evaluations on every sentence (default 120)
  name=NAME    of the preset (default fitted_N)

examples:
  python -m experiments.solvers.fit steps=3 engine=bf16 workload=seeds_en workload.limit=14
  python -m experiments.solvers.fit steps=4 model=f5tts_v1_base vocoder=vocos_mel_24khz device=cuda workload=seeds_en

Leaves NAME.yaml in out=DIR, the best so far also when interrupted.
"""
OWN = ("steps", "tries", "name")
UNREAD = ("gate", "measure", "quality", "stream", "enhance")
TEACHER = "solver=euler_32"
LEAST_CFG = 0.8  # a preset's shares of it go up to 10, the search's strengths to 8
STEPS = range(2, 9)
FEWEST = 3  # sentences: two to fit, one held out


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The verb's own settings; rest: overrides for the engine."""

    steps: int
    tries: int
    name: str
    rest: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is fitted: the settings, the composed configuration, its solver, and where the preset goes."""

    asked: Asked
    config: Config
    teacher: SolverSpec
    path: Path


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered([text for text in argv if text.partition("=")[0] not in OWN], HELP, first=[TEACHER]):
        return EXIT_OK
    asked = read_asked(argv)
    config = one_cell(asked.rest).config
    from engine.solver.methods import solver_spec

    teacher = solver_spec(config["solver"])
    check(config, teacher, asked.steps)
    requests = load_workload(config).requests
    if len(requests) < FEWEST:
        raise ConfigError("workload", len(requests), f"has too few sentences, {FEWEST} are needed", "raise the limit")
    folder = Path(config["out"] or default_out("fit_solver"))
    path = folder / f"{asked.name}.yaml"
    if path.exists():
        raise ConfigError("out", folder, f"already holds {path.name}, and nothing is overwritten", "choose another")
    validate_out(folder, 1, 1)
    from engine.pipeline import F5Engine

    clock = make_clock(str(config["device"]["kind"]))
    with build_by_name({**config, "solver": fine_solver(config, teacher)}, clock) as engine:
        assert isinstance(engine, F5Engine)  # all but upstream are
        fit_to(engine, requests, Order(asked=asked, config=config, teacher=teacher, path=path))
    print(path.read_text(encoding="utf-8"), end="")
    print(f"preset  {path}", file=sys.stderr)
    return EXIT_OK


def fit_to(engine: F5Engine, requests: Sequence[SynthesisRequest], order: Order) -> None:
    """The search. Every better candidate is written at once, so that an interrupted one leaves what it found."""
    from experiments.solvers.fitting import Fit, utterances_of

    teacher = order.teacher
    print(f"teacher: {teacher.name}, {len(requests)} sentences", file=sys.stderr, flush=True)
    utterances = utterances_of(engine, requests, teacher)
    fitted = [u for i, u in enumerate(utterances) if i % 3 != 2]
    held = [u for i, u in enumerate(utterances) if i % 3 == 2]
    fit = Fit(teacher, str(order.config["model"]["name"]))

    def keep(number: int, found: Candidate) -> None:
        times = ", ".join(f"{t:.3f}" for t in found.times)
        print(f"try {number}: {found.error:.4f} nats at t = {times}", file=sys.stderr, flush=True)
        made = f"mel within {found.error:.3f} nats, {fit.error(held, found):.3f} on {len(held)} held out"
        write_atomically(order.path, preset(order, found, f"{len(fitted)} sentences: {made}."))

    fit.search(fitted, order.asked.steps, order.asked.tries, keep)


def check(config: Config, teacher: SolverSpec, steps: int) -> None:
    """Raises ConfigError for a teacher that is no plain guided euler of more steps, UnsupportedEngine for engines that
    cannot be asked at any time and for drawn weights."""
    if teacher.method != "euler" or teacher.options():
        raise ConfigError("solver", teacher.name, "the teacher must be a plain euler", "use solver=euler_32")
    if 0 < teacher.cfg_strength < LEAST_CFG or teacher.steps <= steps:
        raise ConfigError(
            "solver", teacher.name,
            f"the teacher must be guided (cfg_strength from {LEAST_CFG:g}, or 0 for a student that has guidance in its "
            f"one row) and have more than {steps} steps",
            "use solver=euler_32",
        )  # fmt: skip
    if target_of(config["engine"]) is upstream or {"calibration", "profiles"} & set(config["engine"]):
        name = config["engine"]["name"]
        raise UnsupportedEngine(f"{name} is built for the times of one solver", "use engine=fp32 or engine=bf16")
    if is_random(config["model"]["checkpoint"]):
        raise UnsupportedEngine(
            "drawn weights have no speech to fit to", "use model=pocket, or a checkpoint of its own"
        )


def fine_solver(config: Config, teacher: SolverSpec) -> SolverSettings:
    """The solver group of the engine that is asked: euler on every time that a candidate may have."""
    from experiments.solvers.fitting import fine_times

    return {**config["solver"], "name": "fine", "grid": list(fine_times(teacher)), "steps": None, "num_evals": None}


def preset(order: Order, found: Candidate, made: str) -> str:
    """The YAML of conf/solver/NAME.yaml, which is a solver that can be built."""
    teacher, asked = order.teacher, order.asked
    schedule = "null" if not teacher.guided else str([
        [t, float(f"{s / teacher.cfg_strength:.6g}")] for t, s in zip(found.times, found.strengths, strict=True)
    ])  # fmt: skip
    weights = ",\n    ".join(str(list(row)) for row in found.weights)
    rest = [text for text in asked.rest if not text.startswith("out=")]
    return (
        f"# Fitted by experiments.solvers.fit to {teacher.name} of model={order.config['model']['name']} on {made}\n"
        f"# steps={asked.steps} tries={asked.tries} {' '.join(rest)}\n"
        "defaults: [base/plain@_here_]\n"
        f"name: {asked.name}\nmethod: fitted\n"
        f"grid: {[*found.times, 1.0]}\n"
        f"cfg_strength: {teacher.cfg_strength}\n"
        f"guidance_schedule: {schedule}\n"
        f"fitted:\n  model: {order.config['model']['name']}\n  weights: [\n    {weights},\n  ]\n"
    )


def read_asked(argv: Sequence[str]) -> Asked:
    """Raises ConfigError."""
    own = {key: text.partition("=")[2] for text in argv if (key := text.partition("=")[0]) in OWN}
    rest = [text for text in argv if text.partition("=")[0] not in OWN]
    refuse_unread(rest, UNREAD, "a fit")
    for text in rest:
        refuse_misspelt(*text.partition("=")[::2], OWN)
    if not any(text.startswith("solver=") for text in rest):
        rest.append(TEACHER)
    if not any(text.startswith(("workload=", "workload.")) for text in rest):
        raise ConfigError(
            "workload", "(not given)", "must name the sentences to fit to, other than those that will judge the solver",
            "use workload=seeds_en workload.limit=14",
        )  # fmt: skip
    steps = _whole("steps", own.get("steps", "3"), STEPS.start, STEPS.stop - 1)
    name = own.get("name", f"fitted_{steps}")
    if not name.isidentifier():
        raise ConfigError("name", name, "must be letters, digits and underscores, a letter first", "use name=fitted_3")
    return Asked(steps=steps, tries=_whole("tries", own.get("tries", "120"), 1, 10_000), name=name, rest=tuple(rest))


def _whole(key: str, text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ConfigError(key, text, f"must be a whole number from {least} to {most}", f"leave {key}= out")
    return int(text)


if __name__ == "__main__":
    sys.exit(run_verb(main))
