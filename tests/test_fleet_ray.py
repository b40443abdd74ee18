"""The fleet on Ray itself: three nodes on this machine, two host classes; a worker, a node and the head killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from engine.contract import ConfigError
from experiments.checks.fleet.chaos import FleetChaos
from experiments.checks.fleet.local import LocalFleet
from experiments.fleet.__main__ import status_lines
from experiments.fleet.cluster import connected
from experiments.optimize.fleet import run_fleet_search
from experiments.settings.compose import compose_cells
from experiments.sweep.fleet import run_fleet
from experiments.sweep.once import one_run_a_class
from experiments.sweep.running import new_sweep, run_sweep
from metrics.record import load_record
from tests.fleets import ALL_CORES, ONE_CORE, class_of, cores
from tests.test_fleet import FAKE, SMALL, never_two_at_once, no_reports, records, spoken, trials
from tests.test_fleet_verbs import valid

if importlib.util.find_spec("ray") is None:
    pytest.skip("the extra `ray` is not installed", allow_module_level=True)
pytestmark = [
    pytest.mark.enable_socket, pytest.mark.slow,
    pytest.mark.skipif(len(ALL_CORES) < 2, reason="a second host class needs a second core"),
]  # fmt: skip
PATIENCE_S = 120.0
__all__ = ["no_reports"]  # a fixture of the other file, for these tests as well


@pytest.fixture(scope="module")
def ray_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    with LocalFleet(tmp_path_factory.mktemp("fleet"), {"FAKE_CALL_S": "0.2"}) as made:
        for name, cores in (("one", ONE_CORE), ("two", ONE_CORE), ("big", ALL_CORES)):
            made.add(name, cores)
        yield made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_fleet: LocalFleet) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_ADDRESS", ray_fleet.address)
    return tmp_path


def test_two_classes_give_two_tables_equal_to_one_made_here() -> None:
    here = new_sweep(compose_cells([*SMALL, "out=here", "engine=fp32,bf16"]))
    here.command = FAKE
    assert run_sweep(here) == 0
    assert run_fleet([*SMALL, "launcher=ray", "out=out", "engine=fp32,bf16"], FAKE) == 0
    for name in (class_of(ONE_CORE), class_of(ALL_CORES)):
        found, local = records(Path("out") / name), records(Path("here"))
        assert spoken(Path("out") / name) == spoken(Path("here")), "bit-equal audio"
        assert {record.environment["host_class"] for record in found.values()} == {name}
        assert {label: len(one.trials) for label, one in found.items()} == {
            label: len(one.trials) for label, one in local.items()
        }
    assert never_two_at_once(Path("out") / class_of(ALL_CORES))


def test_a_class_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=f"is no host class of the fleet; there are .*{class_of(ALL_CORES)}"):
        run_fleet([*SMALL, "launcher=ray", "out=out", "engine=fp32", "sweep.hosts=[jetson-*]"], FAKE)
    with connected({"name": "ray"}) as cluster:
        lines = status_lines(cluster, cluster.ray.available_resources())
    assert any(line.startswith(f"{class_of(ALL_CORES)}: 1 joined") for line in lines)


def test_a_killed_worker_and_a_killed_node_lose_no_trial_that_came_back(ray_fleet: LocalFleet) -> None:
    name = class_of(ONE_CORE)
    cell = Path("out") / name / "cells" / "fp32-euler_7"
    seen: list[set[str]] = []

    def kill_twice() -> None:
        worker = once(lambda: _worker_with_trials(cell))
        seen.append(set(trials(cell / "journal.jsonl")))
        worker.kill()
        worker.wait(PATIENCE_S)
        worker = once(lambda: _worker_with_trials(cell))
        seen.append(set(trials(cell / "journal.jsonl")))
        os.kill(next(one.pid for one in worker.parents() if one.name() == "raylet"), signal.SIGKILL)

    killer = threading.Thread(target=kill_twice)
    killer.start()
    words = [*SMALL, "launcher=ray", "out=out", "engine=fp32", f"sweep.hosts=[{name}]", "measure.rounds=12"]
    assert run_fleet(words, FAKE) == 0
    killer.join()
    (entry,) = json.loads((cell.parents[1] / "sweep.json").read_text())["cells"]
    assert [(one["outcome"], one["failure"]) for one in entry["attempts"]] == [
        ("failed", "killed"), ("lost", None), ("ok", None),
    ]  # fmt: skip
    assert seen[0] <= set(trials(cell / "journal.1.jsonl"))
    assert seen[1] <= set(trials(cell / "journal.2.jsonl"))
    record = load_record(cell / "result.json")
    assert (record.run_id, len(record.trials)) == (entry["attempts"][-1]["run_id"], 24)


def _worker_with_trials(cell: Path) -> psutil.Process | None:
    """Of the attempt that runs, once a trial of it has come back."""
    job, journal = cell / "job.json", cell / "journal.jsonl"
    if not trials(journal):
        return None
    run_id = json.loads(job.read_text("utf-8"))["run_id"]
    return next((one for one in _workers() if run_id and one.is_running()), None)


def _workers() -> Iterator[psutil.Process]:
    """Ours: another test process may have workers of its own."""
    for one in psutil.Process().children(recursive=True):
        try:
            if "tests.fakes" in one.cmdline() and "--watch-parent" in one.cmdline():
                yield one
        except psutil.Error:
            continue


def once(found: Callable[[], psutil.Process | None]) -> psutil.Process:
    """What is there as soon as it is."""
    wait = threading.Event()
    for _ in range(int(PATIENCE_S / 0.02)):
        if (one := found()) is not None:
            return one
        wait.wait(0.02)
    raise AssertionError("nothing came back in time")


def test_a_search_and_a_gate_measure_on_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they do with it is tried without Ray; here that two verbs after one another find their machines."""
    monkeypatch.setattr("experiments.optimize.asking.score", valid)
    monkeypatch.setattr("experiments.optimize.fleet.report", lambda folder: True)
    words = [*SMALL, "launcher=ray", "sweep.sampler=random", "sweep.objectives=[rtf]", "sweep.constraints=[]"]
    assert run_fleet_search([*words, "engine=fp32,bf16", "sweep.num_trials=2", "out=search"], FAKE) == 0
    classes = sorted([class_of(ONE_CORE), class_of(ALL_CORES)])
    for name in classes:
        assert {label.partition("-")[0] for label in records(Path("search") / name)} == {"fp32", "bf16"}
    asked = one_run_a_class([*SMALL, "launcher=ray"], lambda name: [*SMALL, "launcher=ray"], Path("gate"), FAKE)
    for name, ended in zip(classes, asked, strict=True):
        assert ended.folder is not None
        assert load_record(ended.folder / "result.json").environment["host_class"] == ended.host_class == name


def test_a_head_that_is_killed_costs_no_trial_that_came_back(tmp_path: Path) -> None:
    """The sweep ends by itself and says how it goes on; with another head it measures what was not done."""
    with cores(ALL_CORES):  # two classes take two
        chaos = FleetChaos(tmp_path, seed=1, reach_s=6.0, cells="fp32,upstream", targets=("head",))
        tally = chaos.run(num_kills=1)
    assert tally.problems == []
    assert tally.kills == {"head": 1}
    assert tally.outcomes["ok"] >= 4
    assert "the head of the fleet has not answered" in (tmp_path / "sweep-0.log").read_text()


def test_who_has_no_token_is_refused(ray_fleet: LocalFleet) -> None:
    """Ray listens on every interface, and who may call may run code."""
    bare = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"} | {
        "RAY_AUTH_MODE": "disabled"
    }
    calls = f"from ray._raylet import GcsClient; GcsClient(address={ray_fleet.address!r}).get_all_node_info()"
    done = subprocess.run([sys.executable, "-c", calls], env=bare, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode != 0
    assert b"InvalidAuthToken" in done.stderr
