"""A search proposes cells, keeps to its conditions, and goes on where it was killed."""

import json
import sys
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import ConfigError
from experiments.common.progress import Board
from experiments.optimize import __main__ as optimize
from experiments.optimize import asking, request
from experiments.optimize.__main__ import main, run_search
from experiments.optimize.request import new_search
from experiments.optimize.space import Constraint, NoFigure, directions_of, figure_of, read_constraints, read_space
from experiments.settings.compose import compose_cell
from experiments.sweep.cells import Watch
from experiments.sweep.running import lock_devices
from experiments.telemetry.backends import Nothing
from metrics.pareto import pareto_front
from metrics.record import RunRecord, Score
from metrics.speed.steady import counters_score
from tests.test_energy_pass import Wall
from tests.tracking_folders import record

FAKE = (sys.executable, "-m", "tests.fakes")
SMALL = [
    "workload=smoke", "measure.rounds=1", "measure.warmup_rounds=0", "measure.calibration=none", "tracking=none",
    "measure.gemm_peak=false", "quality.metrics=[snr]", "out=out",
    "sweep.objectives=[rtf,snr_vs_reference_db]", "sweep.sampler=random",
    'sweep.constraints=["snr_vs_reference_db>=59"]',
]  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    return tmp_path


def trials() -> list[dict[str, Any]]:
    return list(json.loads(Path("out/search.json").read_text())["trials"])


def labels() -> dict[str, int]:
    cells = json.loads(Path("out/sweep.json").read_text())["cells"]
    return {cell["label"]: len(cell["attempts"]) for cell in cells}


@pytest.mark.slow
def test_a_search_measures_a_whole_small_space_and_goes_on_where_it_was_killed(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    search = new_search([*SMALL, "engine=bf16,int8,fp16", "sweep.num_trials=3"])
    search.sweep.command = FAKE
    measured = optimize.measure_cell

    def measure_and_die(*given: Any) -> Any:
        result = measured(*given)
        if result.status == "ok":
            raise KeyboardInterrupt  # after the measurement, before Optuna hears of it
        return result

    monkeypatch.setattr(optimize, "measure_cell", measure_and_die)
    assert run_search(search) == 130
    assert "python -m experiments.optimize resume=out" in capfd.readouterr().err
    monkeypatch.setattr(optimize, "measure_cell", measured)
    resumed = request.resumed_search(["resume=out", "sweep.num_trials=9"])
    resumed.sweep.command = FAKE
    assert run_search(resumed) == 0
    assert {name.split("-")[0] for name in labels()} == {"bf16", "int8", "fp16"}
    assert set(labels().values()) == {1}, "nothing is measured twice"
    by_engine = {trial["label"].split("-")[0]: trial for trial in trials()}
    assert by_engine["bf16"]["is_on_front"]
    assert by_engine["bf16"]["values"][1] == pytest.approx(60.0, abs=0.1)
    assert by_engine["int8"]["values"] is None
    assert "the quantiser fell over" in by_engine["int8"]["reason"]
    assert "no kernels here" in by_engine["fp16"]["reason"]
    report = Path("out/report.md").read_text()
    assert "## The front" in report
    assert "2 more have no number" in report
    assert Path("out/plots/search.png").is_file()
    assert "front    bf16-euler_7" in capfd.readouterr().out


def test_a_search_that_was_stopped_by_its_policy_is_not_done(capfd: pytest.CaptureFixture[str]) -> None:
    search = new_search([*SMALL, "engine=int8,bf16", "sweep.num_trials=6", "sweep.fail_fast=true"])
    search.sweep.command = FAKE
    assert run_search(search) == 14
    assert trials()[-1]["label"].startswith("int8")
    assert json.loads(Path("out/sweep.json").read_text())["status"] == "interrupted"
    assert "python -m experiments.optimize resume=out" in capfd.readouterr().err


def test_what_could_not_be_scored_is_asked_again_when_the_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    search = new_search([*SMALL, "engine=bf16,fp32", "sweep.num_trials=2"])
    search.sweep.command = FAKE
    with monkeypatch.context() as broken:
        broken.setattr(asking, "score", lambda *given: False)
        assert run_search(search) == 14
    assert json.loads(Path("out/sweep.json").read_text())["status"] == "interrupted"
    resumed = request.resumed_search(["resume=out"])
    resumed.sweep.command = FAKE
    assert run_search(resumed) == 0
    assert set(labels().values()) == {1}, "nothing is measured twice"
    assert all(trial["values"] for trial in trials())


def test_every_device_of_a_space_is_locked_once(tmp_path: Path) -> None:
    cells = [compose_cell([f"device.kind={kind}"], []) for kind in ("cpu", "cuda", "cuda:0")]
    with ExitStack() as stack:
        watch = Watch(Board([]), lock_devices(cells[:1], Board([]), stack))
        for cell in cells:
            watch = optimize._locked(watch, cell, stack)
    assert set(watch.locks) == {"cpu", "cuda", "cuda:0"}
    assert watch.locks["cuda"] == watch.locks["cuda:0"] != watch.locks["cpu"]


def test_a_space_is_written_as_hydra_writes_sweeps() -> None:
    argv = ["engine=fp32,bf16", "solver.steps=range(4,12,2)", "solver.sway=interval(-1,0.5)", "seed=3"]
    space = read_space(argv, {"engine": "int8,fp16"})
    engine, steps, sway = space.dimensions
    assert engine.choices == ("fp32", "bf16")
    assert (steps.low, steps.high, steps.size, steps.is_whole) == (4, 10, 4, True)
    assert (sway.low, sway.high, sway.size) == (-1.0, 0.5, None)
    assert (space.fixed, space.size) == (("seed=3",), None)


def test_without_a_sweep_the_default_space_is_searched_but_for_what_is_fixed() -> None:
    space = read_space(["engine=bf16"], {"engine": "int8,fp16", "solver": "euler_6,euler_7"})
    assert [dimension.key for dimension in space.dimensions] == ["solver"]
    assert (space.fixed, space.size) == (("engine=bf16",), 2)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (['sweep.constraints=["speed>=1"]'], "is not METRIC>=NUMBER"),
        (["sweep.objectives=[rtf,beauty]"], "no such figure"),
        (["sweep.num_trials=0"], "must be a whole number"),
        (["sweep.sampler=luck"], "must be one of tpe, nsga2, random"),
    ],
)
def test_a_mistake_is_found_before_anything_is_measured(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        new_search(["out=out", *argv])
    assert not Path("out").exists()


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "python -m experiments.optimize engine=fp32,bf16,int8" in capsys.readouterr().out


def test_conditions_and_directions() -> None:
    (upper, lower) = read_constraints(["rtf<=0.5", "stoi_vs_reference >= 0.9"])
    assert (upper, str(lower)) == (Constraint(metric="rtf", is_upper=True, limit=0.5), "stoi_vs_reference>=0.9")
    assert (upper.excess(0.75), lower.excess(0.9)) == (0.25, 0.0)
    assert directions_of(["rtf", "snr_vs_reference_db", "peak_bytes"]) == ("minimize", "maximize", "minimize")


def test_a_figure_needs_valid_audio_and_every_sentence() -> None:
    good = record("r", "fp32-euler_7", "sqlite:///x.db")
    assert figure_of(good, "rtf") == pytest.approx(0.515 / 2)
    with pytest.raises(NoFigure, match="lengths differ"):
        figure_of(good, "snr_vs_reference_db")
    silent = Score(metric="audio_valid", utterance_id="a", value=None, status="error", reason="silent", better="higher")
    with pytest.raises(NoFigure, match="audio invalid"):
        figure_of(replace(good, scores=(silent,)), "rtf")
    with pytest.raises(NoFigure, match=r"audio not checked \(a\)"):
        figure_of(replace(good, scores=()), "peak_bytes")  # the scorer crashed
    with pytest.raises(NoFigure, match="failed"):
        figure_of(replace(good, status="failed", reason="it failed"), "rtf")
    moved = counters_score({"captures": 1}, {"captures": 2})
    assert moved is not None
    with pytest.raises(NoFigure, match="not steady: captures went from 1 to 2"):
        figure_of(replace(good, scores=(*good.scores, moved)), "rtf")


def with_joules(run: RunRecord, value: float | None, reason: str | None = None) -> RunRecord:
    status = "ok" if value is not None else "too_few"
    score = Score(
        metric="energy_j_per_audio_s", utterance_id=None, value=value, status=status, reason=reason, better="lower"
    )
    return replace(run, scores=(*run.scores, score))


def test_joules_are_a_figure_and_the_memory_of_a_board_is_the_one_that_it_has() -> None:
    good = record("r", "fp32-euler_7", "sqlite:///x.db")
    assert figure_of(with_joules(good, 6.5), "energy_j_per_audio_s") == 6.5
    assert directions_of(["rtf", "energy_j_per_audio_s"]) == ("minimize", "minimize")
    with pytest.raises(NoFigure, match="measured without measure=energy"):
        figure_of(good, "energy_j_per_audio_s")
    for name in ("energy_j_per_audio_s", "energy_net_j_per_audio_s"):
        with pytest.raises(NoFigure, match=f"{name}: 3 new values while busy"):
            figure_of(with_joules(good, None, "3 new values while busy"), name)
    board = replace(
        good, peak_device_bytes=2**20, environment={**good.environment, "unified_memory": {"lost_bytes": 5}}
    )
    assert figure_of(board, "peak_bytes") == 5
    assert figure_of(replace(board, environment=good.environment), "peak_bytes") == 2**20


def test_a_search_for_joules_needs_their_pass_and_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"energy_j_per_audio_s: needs a pass of its own"):
        new_search(["out=out", "workload=smoke", "sweep.objectives=[rtf,energy_j_per_audio_s]"])
    assert not Path("out").exists()
    space, config = request.asked(["measure=energy", 'sweep.constraints=["power_mean_w<=15"]'])
    for source, said in ((Nothing({"rapl": "only root may read it"}), "only root may read it"), (Wall(), None)):
        monkeypatch.setattr(request, "choose", lambda kind, found=source: found)
        with pytest.raises(ConfigError, match=f"no source of power here: {said}") if said else nullcontext():
            request._refuse_without_energy(space, config)


POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=12)


@given(POINTS)
def test_the_front_is_what_nobody_beats(points: list[tuple[int, int, int]]) -> None:
    front = set(pareto_front(points, ["minimize", "maximize", "minimize"]))
    for index, (a, b, c) in enumerate(points):
        beaten = any(x <= a and y >= b and z <= c and (x, y, z) != (a, b, c) for x, y, z in points)
        assert (index in front) == (not beaten)


def test_points_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="2 figures"):
        pareto_front([(1.0,)], ["minimize", "minimize"])
