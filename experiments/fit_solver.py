"""Fits a solver of few evaluations to a model: `python -m experiments.fit_solver steps=3 [KEY=VALUE ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.build import build_engine, target_of, upstream
from engine.clock import make_clock
from engine.contract import ConfigError, UnsupportedEngine
from engine.pipeline import F5Engine
from engine.solver import SolverSpec, solver_spec
from experiments.cli import EXIT_OK, run_verb
from experiments.front import answered
from experiments.run import default_out
from experiments.validate import one_cell
from experiments.workload import load_workload
from metrics.record import write_atomically

HELP = """Fit a solver of few evaluations to a model: its times, guidance strengths and weights.

The teacher is `solver` (euler; default euler_32) in the engine given. Every third sentence is held out: its error is
printed and never fitted to. The result is a cheaper answer like any other: put the file below conf/solver/ and let
`experiments.quality_gate` decide, on sentences that it was not fitted to.

  steps=N      evaluations of the new solver, 2 to 8 (default 3)
  tries=N      candidates of the search, each of N evaluations on every sentence (default 120)
  name=NAME    of the preset (default fitted_N)

examples:
  python -m experiments.fit_solver steps=3 engine=bf16 workload=seeds_en workload.limit=12
  python -m experiments.fit_solver steps=4 model=f5tts_v1_base vocoder=vocos_mel_24khz device=cuda workload=seeds_en

Leaves NAME.yaml in out=DIR.
"""
OWN = ("steps", "tries", "name")
STEPS = range(2, 9)
FEWEST = 3  # sentences: two to fit, one held out


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The verb's own settings; rest: overrides for the engine."""

    steps: int
    tries: int
    name: str
    rest: tuple[str, ...]


def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    from experiments.fitting import Fit, utterances_of

    asked = read_asked(argv)
    config = dict(one_cell(asked.rest).config)
    teacher = solver_spec(config["solver"])
    check_teacher(teacher, asked.steps)
    if target_of(config["engine"]) is upstream:
        raise UnsupportedEngine("upstream takes no times but its own", "use engine=fp32 or engine=bf16")
    requests = load_workload(config).requests
    if len(requests) < FEWEST:
        raise ConfigError("workload", len(requests), f"has too few sentences, {FEWEST} are needed", "raise the limit")
    with build_engine(
        {**config, "solver": fine_solver(config, teacher)}, make_clock(config["device"]["kind"])
    ) as engine:
        assert isinstance(engine, F5Engine)  # all but upstream are
        print(f"teacher: {teacher.name}, {len(requests)} sentences", file=sys.stderr, flush=True)
        utterances = utterances_of(engine, requests, teacher)
        fitted = [u for i, u in enumerate(utterances) if i % 3 != 2]
        held = [u for i, u in enumerate(utterances) if i % 3 == 2]
        fit = Fit(teacher, str(config["model"]["name"]))
        found = fit.search(fitted, asked.steps, asked.tries, _say)
        held_error = fit.error(held, found)
    out = Path(config["out"] or default_out("fit_solver")) / f"{asked.name}.yaml"
    made = (
        f"Fitted to {teacher.name} of model={config['model']['name']} by experiments.fit_solver on {len(fitted)} "
        f"sentences of {config['workload']['name']}: mel within {found.error:.3f} nats, "
        f"{held_error:.3f} on {len(held)} held out."
    )
    write_atomically(out, preset(asked.name, str(config["model"]["name"]), teacher.cfg_strength, found, made))
    print(out.read_text(encoding="utf-8"), end="")
    print(f"preset  {out}", file=sys.stderr)
    return EXIT_OK


def check_teacher(teacher: SolverSpec, steps: int) -> None:
    """Raises ConfigError for a teacher that is no plain guided euler of more steps."""
    if teacher.method != "euler" or teacher.options():
        raise ConfigError("solver", teacher.name, "the teacher must be a plain euler", "use solver=euler_32")
    if teacher.cfg_strength <= 0 or teacher.steps <= steps:
        raise ConfigError(
            "solver",
            teacher.name,
            f"the teacher must be guided and have more than {steps} steps",
            "use solver=euler_32",
        )


def fine_solver(config: dict[str, Any], teacher: SolverSpec) -> dict[str, Any]:
    """The solver group of the engine that is asked: euler on every time that a candidate may have."""
    from experiments.fitting import fine_times

    return {**config["solver"], "name": "fine", "grid": list(fine_times(teacher)), "steps": None, "num_evals": None}


def preset(name: str, model: str, cfg_strength: float, found: Any, made: str) -> str:
    """The YAML of conf/solver/NAME.yaml. found: an experiments.fitting.Candidate."""
    schedule = [[t, float(f"{s / cfg_strength:.6g}")] for t, s in zip(found.times, found.strengths, strict=True)]
    weights = ",\n    ".join(str(list(row)) for row in found.weights)
    return (
        f"# {made}\n"
        "defaults: [base/plain@_here_]\n"
        f"name: {name}\nmethod: fitted\n"
        f"grid: {[*found.times, 1.0]}\n"
        f"cfg_strength: {cfg_strength}\n"
        f"guidance_schedule: {schedule}\n"
        f"fitted:\n  model: {model}\n  weights: [\n    {weights},\n  ]\n"
    )


def read_asked(argv: Sequence[str]) -> Asked:
    """Raises ConfigError."""
    own = {key: text.partition("=")[2] for text in argv if (key := text.partition("=")[0]) in OWN}
    rest = [text for text in argv if text.partition("=")[0] not in OWN]
    if not any(text.startswith("solver=") for text in rest):
        rest.append("solver=euler_32")
    steps = _whole("steps", own.get("steps", "3"), STEPS.start, STEPS.stop - 1)
    name = own.get("name", f"fitted_{steps}")
    if not name.isidentifier():
        raise ConfigError("name", name, "must be letters, digits and underscores", "use name=fitted_3")
    return Asked(steps=steps, tries=_whole("tries", own.get("tries", "120"), 1, 10_000), name=name, rest=tuple(rest))


def _whole(key: str, text: str, least: int, most: int) -> int:
    if not text.isdigit() or not least <= int(text) <= most:
        raise ConfigError(key, text, f"must be a whole number from {least} to {most}", f"leave {key}= out")
    return int(text)


def _say(number: int, found: Any) -> None:
    times = ", ".join(f"{t:.3f}" for t in found.times)
    print(f"try {number}: {found.error:.4f} nats at t = {times}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_verb(main))
