"""measure=energy: a pass of its own whose figures stand in the record, or the reason why there are none."""

from __future__ import annotations

import json
import math
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract import ConfigError
from experiments.jetson.tree import Tree
from experiments.measuring import energy as energy_pass
from experiments.measuring.energy import energy_in, energy_of, launch_with_energy, work_for
from experiments.measuring.job import Launcher, new_job
from experiments.measuring.validate import validate
from experiments.telemetry.backends import Nothing
from experiments.telemetry.reading import Reading
from metrics.power.energy import NoEnergy
from metrics.power.figures import energy_scores
from metrics.record import load_record
from tests.engines import config
from tests.fakes import FakeClock, FakeEngine, facts, request
from tests.test_run import FAKE

HEAD = {
    "kind": "head", "source": "rails", "rule": "vdd-in", "total_of": ["VDD_IN"], "periods_s": {"power": 0.1},
    "chips": [{"name": "ina3221", "samples": 512, "update_interval_ms": 430}],
}  # fmt: skip
START_S, BUSY_S = 20.0, 30.0
FAST = ("workload=smoke", "measure.gemm_peak=false", "measure.calibration=none", "measure.warmup_rounds=0")


def watts_at(t_s: float, chance: random.Random) -> float:
    return (17.0 if START_S <= t_s < START_S + BUSY_S else 5.0) + chance.uniform(-0.01, 0.01)


def sampled(head: dict[str, Any], counter: bool) -> list[dict[str, Any]]:
    """Of a board that uses 5 W, and 17 W while it speaks."""
    chance, joules, lines = random.Random(0), 60_000.0, [head]
    for i in range(700):
        watts = watts_at(0.1 * i - (0.05 if counter else 0), chance)  # a counter has what was before it
        joules += 0.1 * watts
        said: dict[str, Any] = {"counters_j": {"card": joules % 65_000}} if counter else {"total_w": watts}
        lines += [{"kind": "power", "t_s": 0.1 * i, **said}, {"kind": "state", "t_s": 0.1 * i}]
    return lines


@pytest.mark.parametrize("counter", [False, True])
def test_samples_and_counters_give_the_same_energy(counter: bool) -> None:
    head = {**HEAD, "total_of": ["card"], "span_j": {"card": 65_000.0}, "chips": []} if counter else HEAD
    found = energy_in(sampled(head, counter), START_S, START_S + BUSY_S)
    assert found.gross_j == pytest.approx(17 * BUSY_S, rel=0.006)
    assert found.net_j == pytest.approx(12 * BUSY_S, rel=0.006)


def test_a_sample_without_a_total_is_a_gap_and_no_zero() -> None:
    lines = sampled(HEAD, counter=False)
    for line in lines:
        if 25 < line.get("t_s", 0) < 27:
            line.pop("total_w", None)
    with pytest.raises(NoEnergy, match="without a sample"):
        energy_in(lines, START_S, START_S + BUSY_S)


def test_the_figures_are_per_second_of_speech_and_say_how_they_were_got() -> None:
    found = energy_in(sampled(HEAD, counter=False), START_S, START_S + BUSY_S)
    scores = {score.metric: score for score in energy_scores(found, 60.0, "source rails, rule vdd-in")}
    assert scores["energy_j_per_audio_s"].value == pytest.approx(17 * BUSY_S / 60, rel=0.006)
    assert scores["energy_net_j_per_audio_s"].value == pytest.approx(12 * BUSY_S / 60, rel=0.006)
    assert scores["power_mean_w"].value == pytest.approx(17, rel=0.006)
    assert scores["power_idle_w"].value == pytest.approx(5, rel=0.006)
    assert (scores["energy_j_per_audio_s"].reason or "").startswith("source rails, rule vdd-in; 30.0 s of work, ")
    with pytest.raises(ValueError, match="must be above 0"):
        energy_scores(found, 0.0, "source")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's quiet times and the rule's, shortened alike."""
    monkeypatch.setattr(energy_pass, "QUIET_S", 0.01)


def test_the_worker_speaks_whole_passes_and_notes_when(hasty: None) -> None:
    requests = [request("a"), request("b")]
    noted = work_for(FakeEngine(facts()), requests, FakeClock(), busy_s=0.05)
    assert noted["num_calls"] % len(requests) == 0
    assert noted["num_calls"] >= len(requests)
    assert noted["end_s"] - noted["start_s"] >= 0.05
    assert noted["audio_s"] > 0


class Wall:
    """A source whose power is known."""

    source = "wall"

    def __init__(self) -> None:
        self._chance, self._lock = random.Random(0), threading.Lock()

    def head(self) -> dict[str, Any]:
        return {"rule": "wall", "total_of": ["wall"]}

    def read(self) -> Reading:
        with self._lock:
            watts = 10 + self._chance.random()
        return Reading(rails_w={"wall": watts}, total_w=watts)


def test_a_machine_without_a_source_has_its_reason_and_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy_pass, "choose", lambda kind: Nothing({"rapl": "/sys/class/powercap: holds no package"}))
    chosen = config(*FAST, "measure=energy")
    result = launch_with_energy(new_job(tmp_path, "fp32-euler_7", "measure", chosen), Launcher(command=FAKE))
    assert result.record.status == "ok"
    assert result.record.steady_trials
    (score,) = load_record(tmp_path / "result.json").scores_of("energy_j_per_audio_s")
    assert (score.value, score.status) == (None, "unavailable")
    assert score.reason == "no total of power here: /sys/class/powercap: holds no package"
    assert not (tmp_path / "energy").exists()


def test_work_that_was_too_short_is_refused_with_the_reason(tmp_path: Path) -> None:
    """A real worker and a real sampler: the fake engine's quiet times are the true ones, so its work is short."""
    chosen = config(*FAST, "measure=energy", "measure.energy_busy_s=10")
    short = {**chosen, "measure": {**chosen["measure"], "energy_busy_s": 0.2}}
    spec = new_job(tmp_path, "fp32-euler_7", "measure", short)
    quick = (*FAKE[:1], "-c", QUICK)
    scores = energy_of(spec, Launcher(command=quick, machines=None), Wall(), Tree(tmp_path))
    assert [(score.metric, score.status) for score in scores] == [("energy_j_per_audio_s", "too_few")]
    assert "of work are too short for its energy, it takes 10 s" in (scores[0].reason or "")
    entries = [json.loads(line) for line in (tmp_path / "energy" / "telemetry.jsonl").open()]
    assert entries[0]["source"] == "wall"
    assert all(math.isfinite(line["total_w"]) for line in entries if line["kind"] == "power")


QUICK = """
import sys
from experiments.measuring import energy
energy.QUIET_S = 0.05
from experiments.measuring.worker import main
from tests.fakes import build
sys.exit(main(sys.argv[1:], build))
"""


def test_a_pass_that_fails_leaves_the_times(tmp_path: Path) -> None:
    spec = new_job(tmp_path, "fp32-euler_7", "measure", config(*FAST, "measure=energy"))
    broken = Launcher(command=(FAKE[0], "-c", "import sys; sys.exit('no GPU today')"), machines=None)
    (score,) = energy_of(spec, broken, Wall(), Tree(tmp_path))
    assert (score.status, score.value) == ("error", None)
    assert "the energy pass failed: the worker ended with exit code 1: no GPU today" in (score.reason or "")


def test_without_being_asked_there_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy_pass, "energy_of", lambda *_: pytest.fail("nobody asked"))
    spec = new_job(tmp_path, "fp32-euler_7", "measure", config(*FAST))
    record = launch_with_energy(spec, Launcher(command=FAKE)).record
    assert not record.scores_of("energy_j_per_audio_s")
    asked = replace(spec, config={**spec.config, "measure": {**spec.config["measure"], "energy_busy_s": 30}})
    failed = Launcher(command=(FAKE[0], "-c", "import sys; sys.exit(1)"))
    assert launch_with_energy(asked, failed).record.status == "failed"


@pytest.mark.parametrize("value", [1, 9.9])
def test_less_than_a_sensor_can_see_is_refused(value: float) -> None:
    composed = config("workload=smoke")
    with pytest.raises(ConfigError, match=r"measure\.energy_busy_s"):
        validate({**composed, "measure": {**composed["measure"], "energy_busy_s": value}}, check_texts=False)
