"""A search and a gate on the machines of a fleet: each host class by itself; what cannot be spread says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from baselines.stored.store import Baseline, save_baseline
from engine.contract import ConfigError
from experiments import gate
from experiments.common.cli import run_verb
from experiments.optimize.__main__ import run_search
from experiments.optimize.fleet import resume_fleet_search, run_fleet_search
from experiments.optimize.request import new_search
from experiments.selftest.__main__ import read_asked as read_live
from experiments.selftest.stored import read_asked as read_stored
from experiments.sweep.fleet import resume_fleet, run_fleet
from experiments.sweep.once import one_run_a_class
from metrics.record import Score, load_record, save_record
from tests.fleets import ALL_CORES, ONE_CORE, Pipes, class_of
from tests.test_fleet import FAKE, SMALL, SWEEP, elsewhere, needs_two_cores, no_reports, pipes, records

__all__ = ["elsewhere", "no_reports", "pipes"]  # fixtures of the other file, for these tests as well
SEARCH = (
    *SMALL, "engine=fp32,bf16,int8", "solver=euler_6,euler_7", "sweep.sampler=random", "sweep.objectives=[rtf]",
    "sweep.constraints=[]", "sweep.num_trials=3", "measure.rounds=1",
)  # fmt: skip
FLEET = ("launcher=ray", "launcher.address=here", "out=out")
RUN = (*SMALL, "engine=fp32")


@pytest.fixture(autouse=True)
def scores_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring and reports are those of any sweep: audio is said to be valid without a process for each cell."""
    monkeypatch.setattr("experiments.sweep.running._score_all", lambda todo, held: sum(valid(*one) for one in todo) * 0)
    monkeypatch.setattr("experiments.optimize.asking.score", valid)
    monkeypatch.setattr("experiments.optimize.__main__.publish", lambda sweep: 0)
    monkeypatch.setattr("experiments.optimize.fleet.report", lambda folder: True)


def valid(folder: Path, *_: object) -> bool:
    record = load_record(folder / "result.json")
    scores = [
        Score(metric="audio_valid", utterance_id=one.utterance_id, value=1.0, status="ok", reason=None, better="higher")
        for one in record.utterances
    ]
    save_record(replace(record, scores=(*record.scores, *scores)), folder / "result.json")
    return True


def asked(folder: Path) -> list[str]:
    return [row["label"] for row in json.loads((folder / "search.json").read_text())["trials"]]


def attempts(folder: Path) -> dict[str, list[str]]:
    cells = json.loads((folder / "sweep.json").read_text())["cells"]
    return {cell["label"]: [one["outcome"] for one in cell["attempts"]] for cell in cells}


@needs_two_cores
def test_every_class_has_a_search_of_its_own(pipes: Pipes, capfd: pytest.CaptureFixture[str]) -> None:
    here = new_search([*SEARCH, "out=here"])
    here.sweep.command = FAKE
    assert run_search(here) == 0
    assert run_fleet_search([*SEARCH, *FLEET], FAKE) == 0
    one, all_of_them = (Path("out") / class_of(cores) for cores in (ONE_CORE, ALL_CORES))
    assert asked(all_of_them) == asked(Path("here")), "one machine is asked what a search here is asked"
    for folder in (one, all_of_them):
        assert len(asked(folder)) == 3
        found = records(folder)
        assert set(found) == set(asked(folder))
        assert {record.environment["host_class"] for record in found.values()} == {folder.name}
        assert {len(outcomes) for outcomes in attempts(folder).values()} == {1}, "nothing is measured twice"
        rows = json.loads((folder / "search.json").read_text())["trials"]
        assert sum(row["is_on_front"] for row in rows) == 1, "a front is of one class"
        assert {row["label"][:4] for row in rows if row["values"] is None} <= {"int8"}
    assert {"one", "two"} <= set(pipes.busy), "equal machines are asked at once"
    fronts = [line for line in capfd.readouterr().out.splitlines() if line.startswith("front ")]
    assert [line.rpartition("(")[2] for line in fronts[-2:]] == [
        f"{folder.name})" for folder in sorted((one, all_of_them))
    ]


def test_a_search_whose_machines_are_lost_goes_on_with_what_came_back(
    pipes: Pipes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes.machines = {"one": ONE_CORE}
    real = Pipes._talk

    def dies_at_the_third_job(self: Pipes, name: str, line: str) -> Iterator[str]:
        if '"ask": "job"' in line and len(self.busy) == 2:
            self.kill(name)
        yield from real(self, name, line)

    with monkeypatch.context() as patch:
        patch.setattr(Pipes, "_talk", dies_at_the_third_job)
        assert run_fleet_search([*SEARCH, *FLEET, "launcher.wait_s=0"], FAKE) == 12
    assert "python -m experiments.optimize resume=out" in capfd.readouterr().err
    folder = Path("out") / class_of(ONE_CORE)
    before = {label: record.run_id for label, record in records(folder).items()}
    assert len(before) == 2
    with pytest.raises(ConfigError, match=re.escape("is a search; use `python -m experiments.optimize resume=out")):
        resume_fleet(Path("out"), FAKE)
    pipes.revive("one")
    assert resume_fleet_search(["resume=out", "sweep.num_trials=4"], FAKE) == 0
    after = {label: record.run_id for label, record in records(folder).items()}
    assert len(after) == len(set(asked(folder))) == 4
    assert before.items() <= after.items(), "what had been measured is not measured again"
    assert sorted(map(len, attempts(folder).values())) == [1, 1, 1, 2]


def keep_baselines(monkeypatch: pytest.MonkeyPatch, classes: list[str]) -> list[str]:
    """Of the classes, by a sweep on the fleet; the words of a gate that asks for them."""
    assert run_fleet([*SWEEP, *RUN, "out=first"], FAKE) == 0
    for name in classes:
        (run,) = records(Path("first") / name).values()
        save_baseline(
            Baseline(
                name="nightly", host_class=name, recorded="2026-01-01T00:00:00Z", recorded_by="tests", why="a test",
                git_commit=None, calibrations={}, runs=(run,),
            ),
            Path("kept"),
        )  # fmt: skip
    monkeypatch.setattr(gate, "one_run_a_class", partial(one_run_a_class, command=FAKE))
    return ["gate.baseline=nightly", "gate.records=kept", "tracking=none", *FLEET]


@needs_two_cores
def test_a_gate_judges_every_class_by_its_own_baseline(pipes: Pipes, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = sorted([class_of(ONE_CORE), class_of(ALL_CORES)])
    words = keep_baselines(monkeypatch, classes)
    code = run_verb(gate.main, words)
    verdicts: dict[str, dict[str, Any]] = {
        path.parents[2].name: json.loads(path.read_text()) for path in Path("out").glob("*/cells/*/verdict.json")
    }
    assert sorted(verdicts) == classes
    for name, verdict in verdicts.items():
        (run,) = records(Path("out") / name).values()
        (stored,) = records(Path("first") / name).values()
        assert (verdict["baseline"]["host_class"], verdict["baseline"]["run_ids"]) == (name, [stored.run_id])
        assert run.environment["host_class"] == name
        assert run.run_id != stored.run_id
    codes = [int(verdict["exit_code"]) for verdict in verdicts.values()]
    assert code == max(codes, key=gate.WORST.index)
    assert run_verb(gate.main, words) == 2, "nothing measured is overwritten"


@needs_two_cores
def test_a_class_without_the_baseline_is_said_before_anything_is_measured(
    pipes: Pipes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = keep_baselines(monkeypatch, [class_of(ONE_CORE)])
    num_jobs = len(pipes.busy)
    assert run_verb(gate.main, words) == 13
    assert class_of(ALL_CORES) in capsys.readouterr().err
    assert len(pipes.busy) == num_jobs
    assert run_verb(gate.main, [*words, f"sweep.hosts=[{class_of(ONE_CORE)}]"]) != 13


def test_a_gate_whose_machine_is_lost_says_what_makes_its_run(
    pipes: Pipes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipes.machines = {"one": ONE_CORE}
    words = keep_baselines(monkeypatch, [class_of(ONE_CORE)])
    real = Pipes._talk

    def dies_at_the_job(self: Pipes, name: str, line: str) -> Iterator[str]:
        if '"ask": "job"' in line:
            self.kill(name)
        yield from real(self, name, line)

    monkeypatch.setattr(Pipes, "_talk", dies_at_the_job)
    assert run_verb(gate.main, [*words, "launcher.wait_s=0"]) == 12
    said = capsys.readouterr().err.splitlines()[-1]
    assert "no machine of it is left" in said
    assert "experiments.sweep resume=out" in said
    monkeypatch.setattr(Pipes, "_talk", real)
    pipes.revive("one")
    assert resume_fleet(Path("out"), FAKE) == 0
    run = re.search(r"gate\.run=(\S+)", said)
    assert run is not None
    assert run_verb(gate.main, [*words[:2], f"gate.run={run[1]}"]) in (0, 10, 11, 12)


@pytest.mark.parametrize("read", [read_live, read_stored])
def test_a_selftest_is_of_the_machine_that_it_runs_on(read: Any) -> None:
    with pytest.raises(ConfigError, match="launcher=ray: a self-test is of the machine that it runs on"):
        read(["minutes=1", "keep=false", "launcher=ray"])
