"""Telemetry beside a measurement: what voids it, what memory lost, what a Jetson cannot have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from baselines.class_history import machine_fault
from baselines.paired.data import Block
from engine.contract import ConfigError
from engine.paths import ROOT
from experiments.common.cli import EXIT_ENVIRONMENT
from experiments.compare import session
from experiments.compare.processes import SideSpec
from experiments.compare.settings import SIDES, read_settings
from experiments.jetson.board import read_jetson
from experiments.jetson.memory import refused_allocator
from experiments.jetson.tree import Tree
from experiments.load.__main__ import exit_code
from experiments.load.report import LoadReport, content_of, markdown_of
from experiments.load.scenarios import Result
from experiments.measuring import cold, job
from experiments.measuring import validate as validating
from experiments.measuring.validate import validate
from experiments.selftest import live
from experiments.stream import Measured
from experiments.stream import _finish as stream_finish
from experiments.telemetry.sampler import TELEMETRY
from experiments.telemetry.watch import watched, watching
from tests.engines import config
from tests.jetson_trees import AGX_JP6, plant, throttles
from tests.test_paired_rule import block


@pytest.fixture(autouse=True)
def no_nvpmodel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"var/lib/nvpmodel/status": "pmode:0002"}, "the power mode was MAXN (id 0) and is MODE_30W (id 2)"),
        ({"sys/class/devfreq/17000000.gpu/min_freq": "306000000"}, "the clocks were locked and are unlocked"),
        ({"var/lib/nvpmodel/status": "?"}, "the power mode was MAXN (id 0) and is unknown"),
        (throttles((1, 0, 2)), "1 events of under-voltage (OC1)"),
        (throttles((0, 0, 2), acting=True), "cpu-throttle-alert was throttling"),
    ],
)
def test_what_changed_while_it_was_measured_voids_the_run(
    changed: dict[str, str], said: str | None, tmp_path: Path
) -> None:
    tree = plant(tmp_path, AGX_JP6)
    board = read_jetson(tree)
    assert board is not None
    with watching(tmp_path, tree) as watch:
        assert watch is not None
        plant(tmp_path, changed)
    fault = watch.fault({"jetson": board.content()})
    assert (fault is None) if said is None else (fault or "").startswith(f"while it was measured: {said}")
    head = json.loads((tmp_path / TELEMETRY).read_text().splitlines()[0])
    assert (head["source"], head["rule"]) == ("rails", "agx-orin-rails")


def test_a_throttle_that_was_over_before_the_end_voids_the_run_as_well(tmp_path: Path) -> None:
    tree = plant(tmp_path, AGX_JP6)
    board = read_jetson(tree)
    assert board is not None
    with watching(tmp_path, tree) as watch:
        assert watch is not None
        plant(tmp_path, throttles((0, 0, 2), acting=True))
        watch.state()  # as the sampler does
        plant(tmp_path, throttles((0, 0, 2)))
    assert "cpu-throttle-alert was throttling" in (watch.fault({"jetson": board.content()}) or "")


def test_a_run_that_a_throttle_was_in_is_void_in_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = plant(tmp_path / "tree", AGX_JP6)

    @contextmanager
    def browned_out(folder: Path) -> Iterator[Any]:
        with watching(folder, tree) as watch:
            yield watch
        plant(tmp_path / "tree", throttles((4, 0, 2)))

    monkeypatch.setattr(job, "watching", browned_out)
    spec = job.new_job(tmp_path / "run", "fp32-euler_7", "measure", config("workload=smoke"))
    launcher = job.Launcher(command=(*job.Launcher().command[:2], "tests.stub_worker"), machines=lambda: tmp_path / "m")
    record = job.launch(spec, launcher).record
    assert "4 events of under-voltage" in (machine_fault(record.environment) or "")
    assert (tmp_path / "run" / TELEMETRY).is_file()
    assert not (tmp_path / "m").exists(), "a voided run is not what is remembered of the machine"


def test_a_stream_or_a_load_on_a_board_that_was_let_go_has_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = plant(tmp_path / "tree", AGX_JP6)
    board = read_jetson(tree)
    assert board is not None
    environment = {"host_class": "h", "jetson": board.content()}
    with watching(tmp_path, tree) as watch:
        plant(tmp_path / "tree", {"sys/class/devfreq/17000000.gpu/min_freq": "306000000"})
    seen = watched(environment, watch, tmp_path)
    assert seen["telemetry"]["rule"] == "agx-orin-rails"
    assert "unified_memory" in seen
    report = LoadReport(
        label="x", head={"settings": {"scenario": "closed", "transport": "inprocess"}, "environment": seen},
        result=Result(), num_heard=1, num_distinct=1, invalid=(),
    )  # fmt: skip
    assert (content_of(report)["status"], "levels" in content_of(report)) == ("void", False)
    assert "the machine was not in order: while it was measured: the clocks were locked" in markdown_of(report)
    assert exit_code(report) == EXIT_ENVIRONMENT
    facts = {"random_weights": True}
    about = {"facts": facts, "environment": seen, "config": {"stream": {"name": "first_clause"}}}
    assert stream_finish(tmp_path, "fp16-euler_7", Measured(), about, []) == EXIT_ENVIRONMENT
    assert json.loads((tmp_path / "stream.json").read_text())["summary"] is None
    assert capsys.readouterr().err.count("the clocks were locked and are unlocked") == 2


class Blocks:
    """In the place of a bench: blocks in which both sides took the same time, and what befalls the board meanwhile."""

    facts: ClassVar[dict[str, Any]] = {"reference": {}, "candidate": {}}
    proof = SimpleNamespace(checked={}, answers=lambda: None)

    def __init__(self, keep: Path, befalls: Callable[[], object]):
        self.keep, self._befalls = keep, befalls

    def block(self) -> Block:
        self._befalls()
        return block(1.0, 1.0)

    def memory_bytes(self) -> dict[str, float]:
        return {"reference": 1.0, "candidate": 1.0}


@pytest.mark.parametrize(
    ("changed", "outcome", "said"),
    [
        ({}, "PASS", None),
        (throttles((0, 2, 2)), "INVALID_ENV", "2 events of average over-current (OC2)"),
        ({"sys/class/devfreq/17000000.gpu/min_freq": "306000000"}, "INVALID_ENV", "the clocks were locked and are"),
        ({"var/lib/nvpmodel/status": "pmode:0002"}, "INVALID_ENV", "the power mode was MAXN (id 0) and is MODE_30W"),
    ],
)
def test_a_comparison_on_a_board_that_changed_is_void(
    changed: dict[str, str], outcome: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = plant(tmp_path / "tree", AGX_JP6)
    monkeypatch.setattr(session, "watching", lambda folder: watching(folder, tree))
    monkeypatch.setattr(session, "fingerprint", lambda device: environment_of(tree))
    prepared = SimpleNamespace(
        settings=read_settings([]), device=None, labels=dict.fromkeys(SIDES, "x"), commits=dict.fromkeys(SIDES),
        named={}, specs=[SimpleNamespace(side=side, config={}) for side in SIDES],
    )  # fmt: skip
    bench = Blocks(tmp_path / "audio", lambda: plant(tmp_path / "tree", changed))
    comparison = session.measure(prepared, bench, print)  # type: ignore[arg-type]
    assert comparison.verdict.outcome == outcome
    assert said is None or said in (comparison.verdict.reason or "")
    assert comparison.memory_bytes is None, "the one memory of a board is not told apart by side"
    assert (tmp_path / TELEMETRY).is_file()
    assert comparison.environment["telemetry"]["rule"] == "agx-orin-rails"


@pytest.mark.parametrize("changed", [{}, {"var/lib/nvpmodel/status": "pmode:0002"}])
def test_a_self_test_counts_no_comparison_of_a_board_that_changed(
    changed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = plant(tmp_path / "tree", AGX_JP6)
    monkeypatch.setattr(live, "watching", lambda folder: watching(folder, tree))
    bench = Blocks(tmp_path / "audio", lambda: plant(tmp_path / "tree", changed))
    monkeypatch.setattr(live, "open_bench", lambda *_: bench)
    specs = tuple(SideSpec(side=side, tree=tmp_path, config={}, requests=tmp_path, threads=1) for side in SIDES)
    prepared = session.Prepared(
        specs=specs,
        labels={},
        commits={},
        workload=None,
        settings=read_settings([]),  # type: ignore[arg-type]
    )
    verdict, blocks = live.one_comparison(prepared, tmp_path / "0000", 0, 1.0)
    assert (verdict.outcome, bool(blocks)) == (("INVALID_ENV", False) if changed else ("PASS", True))


def environment_of(tree: Tree) -> dict[str, Any]:
    board = read_jetson(tree)
    assert board is not None
    return {"host_class": board.host_class("cuda"), "power_mode": board.power_mode, "jetson": board.content()}


def test_cold_starts_on_a_board_that_changed_are_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = plant(tmp_path / "tree", AGX_JP6)

    @contextmanager
    def let_go(folder: Path) -> Iterator[Any]:
        with watching(folder, tree) as watch:
            yield watch
            plant(tmp_path / "tree", throttles((4, 0, 2)))

    monkeypatch.setattr(cold, "watching", let_go)
    chosen = config("workload=smoke", "measure=cold", "measure.cold_starts=1")
    spec = job.new_job(tmp_path / "run", "fp32-euler_7", "measure", chosen)
    command = (*job.Launcher().command[:2], "tests.stub_worker")
    record = cold.launch_with_cold_starts(spec, job.Launcher(command=command, machines=lambda: tmp_path / "m")).record
    assert "4 events of under-voltage" in (machine_fault(record.environment) or "")


def test_elsewhere_what_was_measured_stays_as_it_was(tmp_path: Path) -> None:
    assert watched({"host_class": "h"}, None, tmp_path) == {"host_class": "h"}


def test_what_memory_lost_is_the_peak_of_a_board_with_one_memory(tmp_path: Path) -> None:
    tree = plant(tmp_path, AGX_JP6)
    with watching(tmp_path, tree) as watch:
        assert watch is not None
        plant(tmp_path, {"proc/meminfo": "MemAvailable: 30000000 kB\n"})
        watch.state()
        plant(tmp_path, {"proc/meminfo": "MemAvailable: 31000000 kB\n"})
        watch.state()
    lost = {"before_bytes": 32_174_500 * 1024, "lowest_bytes": 30_000_000 * 1024, "lost_bytes": 2_174_500 * 1024}
    assert watch.memory() == {"unified_memory": lost}


def test_what_the_driver_calls_free_is_asked_nowhere() -> None:
    """On one memory it leaves out the page cache, which the kernel would give."""
    ours = [path for name in ("engine", "experiments", "metrics") for path in (ROOT / name).rglob("*.py")]
    assert [path.name for path in ours if re.search(r"mem_?get_?info\s*\(", path.read_text("utf-8"), re.I)] == []


@pytest.mark.parametrize("value", ["expandable_segments:True", "max_split_size_mb:64,expandable_segments: true"])
def test_an_allocator_that_a_jetson_cannot_have_is_refused_there_and_only_there(value: str, tmp_path: Path) -> None:
    environ = {"PYTORCH_CUDA_ALLOC_CONF": value}
    assert refused_allocator(environ, plant(tmp_path / "jetson", AGX_JP6)) == "PYTORCH_CUDA_ALLOC_CONF"
    assert refused_allocator(environ, Tree(tmp_path / "pc")) is None
    assert (
        refused_allocator({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"}, Tree(tmp_path / "jetson")) is None
    )


def test_the_refusal_is_a_line_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    validate(config("workload=smoke"), check_texts=False)
    monkeypatch.setattr(validating, "refused_allocator", lambda environ: "PYTORCH_CUDA_ALLOC_CONF")
    validate(config("workload=smoke"), check_texts=False)
    with pytest.raises(ConfigError, match="must not ask for expandable_segments on a Jetson"):
        validate(config("workload=smoke", "device=cuda"), check_texts=False)
