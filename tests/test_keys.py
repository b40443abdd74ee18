"""A key that a verb would not read, and a value that it could not mean, is one line before anything is built."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract import ConfigError, UnsupportedEngine
from experiments import gate, run, stream
from experiments.checks import gpu as gpu_check
from experiments.checks import overhead
from experiments.common.cli import run_verb
from experiments.compare import __main__ as compare
from experiments.load import __main__ as load
from experiments.measuring.validate import validate
from experiments.optimize import __main__ as optimize
from experiments.scoring import floor
from experiments.selftest import __main__ as selftest
from experiments.selftest import stored as gate_selftest
from experiments.serve import __main__ as serve
from experiments.settings.compose import compose_config
from experiments.solvers import calibrate_reuse
from experiments.solvers import fit as fit_solver
from experiments.sweep import __main__ as sweep

Verb = Callable[[Sequence[str]], int]
EXPERIMENTS = Path(run.__file__).parent
COMPOSING: dict[str, tuple[Verb, list[str]]] = {
    "run": (run.main, []), "sweep": (sweep.main, ["engine=fp32,bf16"]), "stream": (stream.main, []),
    "floor": (floor.main, []), "fit_solver": (fit_solver.main, ["workload=smoke"]), "optimize": (optimize.main, []),
    "load": (load.main, []), "serve": (serve.main, []), "calibrate_reuse": (calibrate_reuse.main, []),
    "overhead": (overhead.main, []), "gpu_check": (gpu_check.main, []),
}  # fmt: skip
COMPARING: dict[str, tuple[Verb, list[str]]] = {
    "compare": (compare.main, ["reference.engine=fp32", "candidate.engine=bf16"]),
    "gate_selftest": (gate_selftest.main, ["minutes=1", "keep=false"]),
    "selftest": (selftest.main, ["minutes=1", "keep=false"]),
}
# Two for every verb: what is no value, and what is no key
NO_VALUES = ["device.threads=two", "seed=1.5", "seed=yes"]
NO_KEYS = ["device.thread=2", "+device.cores=2", "nonsense=1", "model.nam=x"]
COUNTING_NOTHING = {
    "run": "measure.rounds=-1", "sweep": "gate.confidence=2", "optimize": "model.arch.depth=1.5",
    "load": "tracking.timeout_s=0", "serve": "model.arch.dim=-1",
}  # fmt: skip


def refusal(verb: Verb, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run_verb(verb, argv) == 2, argv
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1), argv
    assert said.err.startswith("error: ")
    return said.err


@pytest.fixture(autouse=True)
def _own_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))


@pytest.mark.parametrize("name", [*COMPOSING, *COMPARING])
def test_every_verb_refuses_them_in_one_line(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    verb, own = {**COMPOSING, **COMPARING}[name]
    number = [*COMPOSING, *COMPARING].index(name)
    wrong = [NO_VALUES[number % 3], NO_KEYS[number % 4]]
    for text in wrong if name != "gpu_check" else ["device.thread=2", "nonsense=1"]:  # its parts look at values
        said = refusal(verb, [*own, text, f"out={tmp_path / 'out'}"] if name != "overhead" else [*own, text], capsys)
        key = text.lstrip("+").partition("=")[0]
        assert key.rpartition(".")[2] in said, said


@pytest.mark.parametrize("name", COUNTING_NOTHING)
def test_a_measurement_refuses_a_number_that_counts_nothing(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (verb, own), text = COMPOSING[name], COUNTING_NOTHING[name]
    assert text.partition("=")[0] in refusal(verb, [*own, text, f"out={tmp_path / 'out'}"], capsys)


@pytest.mark.parametrize(
    ("verb", "argv", "says"),
    [
        (gpu_check.main, ["gpu_check.max_rft=0.5"], "did you mean gpu_check.max_rtf?"),
        (gpu_check.main, ["gpu_check.max_rtf=fast"], "gpu_check.max_rtf=fast"),
        (gpu_check.main, ["gpu_check.max_rtf=-1"], "gpu_check.max_rtf=-1"),
        (gpu_check.main, ["gpu_check.max_rtf=nan"], "gpu_check.max_rtf=nan"),
        (selftest.main, ["replays=0.5"], "replays=0.5"), (selftest.main, ["replays=0"], "replays=0"),
        (selftest.main, ["ratios=[1]"], "is for live comparisons"),
        (selftest.main, ["minutes=1", "replays=5"], "is for replays"),
        (selftest.main, ["minutes=1", "ratios=[1]", "record="], "record="),
        (selftest.main, ["minutes=1", "ratios=[1]", "record=../x"], "record=../x"),
        (selftest.main, ["minute=1"], "did you mean minutes?"), (gate_selftest.main, ["minute=1"], "minutes"),
        (overhead.main, ["--pairs", "0"], "--pairs=0"),
        (stream.main, ["round=5"], "did you mean rounds?"), (stream.main, ["gate.catch_ratio=2"], "does not read it"),
        (fit_solver.main, ["workload=smoke", "step=3"], "did you mean steps?"),
        (fit_solver.main, ["workload=smoke", "measure.rounds=3"], "does not read it"),
        (calibrate_reuse.main, ["alpha=0.1"], "did you mean alphas?"),
        (load.main, ["max_eror_frac=0.5"], "did you mean max_error_frac?"),
        (compare.main, ["reference.engine=fp32", "candidate.engine=bf16", "pair=4"], "did you mean pairs?"),
        (compare.main, ["candidate.engin=fp32"], "candidate.engin=fp32: no such key, did you mean candidate.engine?"),
        (compare.main, ["reference.engine=fp23"], "reference.engine=fp23: did you mean reference.engine=fp32?"),
        (compare.main, ["engin=fp32"], "engin=fp32: no such key, did you mean engine?"),
        (gate.main, ["nightly", "gate.catch_rate=2"], "did you mean gate.catch_ratio?"),
        (gate.main, ["nightly", "gate.confidence=2"], "gate.confidence=2"),
        (run.main, ["+gate.catch_rate=2"], "did you mean gate.catch_ratio?"), (run.main, ["out=5"], "out=5"),
        (run.main, ["solver.grid=3"], "solver.grid=3"), (run.main, ["tracking.uri=5"], "tracking.uri=5"),
    ],
)  # fmt: skip
def test_a_key_of_its_own_that_a_verb_would_swallow_is_named(
    verb: Verb, argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refusal(verb, argv, capsys)


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path


DEFAULTS = compose_config(["workload=smoke"])
# `reference.voices` and the texts are files of users, with tests of their own
LEAVES = sorted(path for path in leaves(DEFAULTS) if path != ("reference", "voices"))
VALUES = st.sampled_from(["two", "", -1, 0, 1.5, True, None, [1], {"a": 1}, float("nan"), float("inf"), 10**30])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.sampled_from(LEAVES), value=VALUES)
def test_any_value_anywhere_is_taken_or_refused_by_its_key(path: tuple[str, ...], value: object) -> None:
    changed = copy.deepcopy(DEFAULTS)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with suppress(ConfigError, UnsupportedEngine):
        validate(changed, check_texts=False)


def test_nobody_calls_a_wait_an_error() -> None:
    """What the device lock says while it waits goes to stderr as it is."""
    for path in sorted(EXPERIMENTS.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "device_lock":
                names = [arg.id for arg in node.args if isinstance(arg, ast.Name)]
                assert "complain" not in names, path.name
