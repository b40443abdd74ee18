"""Cells measured by other machines: the records of a sweep here, a table a class, nothing lost with a machine."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from engine.contract import ConfigError
from experiments.common.cli import run_verb
from experiments.fleet.facts import chosen, classes_of
from experiments.fleet.machines import MachineLost, Place
from experiments.fleet.travel import absolute, contents, expected_of, refuse_others, settled, shelve, small_files
from experiments.fleet.wire import EVERY_S, Inbox, Outbox
from experiments.measuring.job import Launcher, new_job
from experiments.measuring.validate import one_cell
from experiments.settings.compose import compose_cells, compose_config
from experiments.sweep import fleet, hosts
from experiments.sweep.__main__ import main as sweep_main
from experiments.sweep.fleet import resume_fleet, run_fleet
from experiments.sweep.hosts import matched
from experiments.sweep.running import new_sweep, run_sweep
from metrics.record import RunRecord, load_record
from reports.__main__ import main as reports_main
from reports.data.table import load_table
from reports.render.every import Rendered
from tests.fleets import ALL_CORES, ONE_CORE, Pipes, class_of
from tests.report_sweeps import Judgeable, write_judgeable

FAKE = (sys.executable, "-m", "tests.fakes")
SMALL = (
    "workload=smoke", "measure.rounds=2", "measure.warmup_rounds=0", "measure.calibration=none",
    "measure.gemm_peak=false", "quality.enabled=false", "tracking=none",
)  # fmt: skip
SWEEP = (*SMALL, "launcher=ray", "launcher.address=here", "out=out")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(autouse=True)
def no_reports(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Scores and reports are those of any sweep, and take longer than all that is tried here."""
    monkeypatch.setattr("experiments.sweep.running._score_all", lambda todo, held: 0)
    monkeypatch.setattr("experiments.sweep.running.Scores._show", lambda scores, cell: None)
    monkeypatch.setattr("experiments.sweep.running.publish", lambda sweep: 0)
    monkeypatch.setattr(fleet, "report", lambda folder: True)
    return monkeypatch


@pytest.fixture
def pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipes]:
    """Two machines of one core, and one of all of them."""
    made = Pipes(tmp_path / "machines", {"one": ONE_CORE, "two": ONE_CORE, "big": ALL_CORES})
    use(made, monkeypatch)
    yield made
    made.shut()


def use(made: Pipes, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(settings: object, more: object = ()) -> Iterator[Pipes]:
        try:
            yield made
        finally:
            made.shut()  # as Ray ends what a verb has started there

    monkeypatch.setattr(hosts, "connected", connect)


def records(folder: Path) -> dict[str, RunRecord]:
    return {path.parent.name: load_record(path) for path in sorted(folder.glob("cells/*/result.json"))}


def spoken(folder: Path) -> dict[str, dict[str, bytes]]:
    """The samples of every file: its header holds the hour."""
    return {
        label: {
            one.audio_path: soundfile.read(folder / "cells" / label / one.audio_path, dtype="float32")[0].tobytes()
            for one in record.utterances
        }
        for label, record in records(folder).items()
    }


needs_two_cores = pytest.mark.skipif(len(ALL_CORES) < 2, reason="a second host class needs a second core")


@needs_two_cores
def test_each_class_has_the_table_of_a_sweep_here(pipes: Pipes) -> None:
    here = new_sweep(compose_cells([*SMALL, "out=here", "engine=fp32,bf16,int8"]))
    here.command = FAKE
    assert run_sweep(here) == 14
    assert run_fleet([*SWEEP, "engine=fp32,bf16,int8"], FAKE) == 14
    local, classes = records(Path("here")), [class_of(ONE_CORE), class_of(ALL_CORES)]
    assert sorted(path.parent.name for path in Path("out").glob("*/sweep.json")) == sorted(classes)
    for name in classes:
        found = records(Path("out") / name)
        assert found.keys() == local.keys()
        assert spoken(Path("out") / name) == spoken(Path("here")), "bit-equal audio"
        for label, record in found.items():
            assert record.environment["host_class"] == name
            assert record.environment["git_commit"] == local[label].environment["git_commit"]
            assert (record.status, record.reason) == (local[label].status, local[label].reason)
            assert len(record.trials) == len(local[label].trials)
            assert record.config["engine"] == local[label].config["engine"]
    assert never_two_at_once(Path("out") / class_of(ALL_CORES))  # a class of one machine


def never_two_at_once(folder: Path) -> bool:
    """By the timestamps of trials: no two cells of a class that is one machine overlap."""
    spans = []
    for record in records(folder).values():
        starts = [(trial.started_unix_s, trial.started_unix_s + trial.wall_s) for trial in record.trials]
        spans.append((min(start for start, _ in starts), max(end for _, end in starts)))
    spans.sort()
    return len(spans) > 1 and all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_a_machine_that_is_lost_costs_no_trial_that_came_back(pipes: Pipes) -> None:
    pipes.machines = {"one": ONE_CORE, "two": ONE_CORE}
    pipes.environment = {"FAKE_CALL_S": "0.4"}
    cell = Path("out") / class_of(ONE_CORE) / "cells" / "fp32-euler_7"
    seen: list[str] = []

    def switch_off() -> None:
        while not seen:
            threading.Event().wait(0.02)
            seen.extend(trials(cell / "journal.jsonl"))
        pipes.kill(pipes.busy[0])

    thread = threading.Thread(target=switch_off)
    thread.start()
    assert run_fleet([*SWEEP, "engine=fp32", "measure.rounds=3"], FAKE) == 0
    thread.join()
    (entry,) = json.loads((cell.parents[1] / "sweep.json").read_text())["cells"]
    assert [attempt["outcome"] for attempt in entry["attempts"]] == ["lost", "ok"]
    assert sorted(set(pipes.busy)) == ["one", "two"], "it went on elsewhere"
    assert set(seen) <= set(trials(cell / "journal.1.jsonl")), "what came back stays"
    record = load_record(cell / "result.json")
    assert record.run_id == entry["attempts"][-1]["run_id"]
    assert len(record.trials) == 6, "none of the lost attempt stands among them"


def trials(journal: Path) -> list[str]:
    if not journal.is_file():
        return []
    return [line for line in journal.read_text("utf-8").splitlines() if '"kind": "trial"' in line]


def test_a_class_without_machines_waits_and_goes_on_later(
    pipes: Pipes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes.machines = {"one": ONE_CORE}
    real = Pipes._talk

    def dies_at_the_first_job(self: Pipes, name: str, line: str) -> Iterator[str]:
        if '"ask": "job"' in line:
            self.kill(name)
        yield from real(self, name, line)

    with monkeypatch.context() as patch:
        patch.setattr(Pipes, "_talk", dies_at_the_first_job)
        assert run_fleet([*SWEEP, "engine=fp32", "launcher.wait_s=0"], FAKE) == 12
    captured = capfd.readouterr()
    assert "none has come in 0 s: the rest is left for later" in captured.err
    assert "python -m experiments.sweep resume=out" in captured.out
    pipes.revive("one")
    assert resume_fleet(Path("out"), FAKE) == 0
    assert resume_fleet(Path("out"), FAKE) == 0
    (entry,) = json.loads((Path("out") / class_of(ONE_CORE) / "sweep.json").read_text())["cells"]
    assert [attempt["outcome"] for attempt in entry["attempts"]] == ["lost", "ok"], "the last resume measured nothing"


def test_small_files_travel_and_large_ones_are_held_to_their_hash(pipes: Pipes, tmp_path: Path) -> None:
    pipes.machines = {"one": ONE_CORE}
    pipes.environment = {"FAKE_WEIGHTS": "1"}
    Path("mine.bin").write_bytes(b"weights of mine")
    sweep = [*SWEEP, "engine=fp32", "model.checkpoint=mine.bin", "measure.rounds=1"]
    assert run_fleet(sweep, FAKE) == 0
    (record,) = records(Path("out") / class_of(ONE_CORE)).values()
    assert (record.facts or {})["weights_sha256"] == hashlib.sha256(b"weights of mine").hexdigest()
    assert record.config["model"]["checkpoint"] == "mine.bin", "the record holds what was asked"


def test_a_machine_with_another_file_is_refused_by_its_key(tmp_path: Path) -> None:
    Path("mine.bin").write_bytes(b"one")
    config = absolute(compose_config([*SMALL, "model.checkpoint=mine.bin"]))
    expected = expected_of(config)
    refuse_others(config, expected, "there")
    assert small_files(config, 2) == {}, "too large to travel"
    ((_, entries),) = small_files(config, 3).items()
    assert list(contents(config, [entries[0][1]]).values()) == [b"one"]
    Path("mine.bin").write_bytes(b"two")
    with pytest.raises(ConfigError, match=r"model\.checkpoint=.*mine\.bin: is another file on there"):
        refuse_others(config, expected, "there")


def test_what_travels_is_what_its_hash_says(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"one").hexdigest()
    with pytest.raises(ValueError, match="is not"):
        shelve(sha256, b"two")
    shelve(sha256, b"one")
    config = settled(compose_config([*SMALL, "model.checkpoint=far.bin"]), {"far.bin": [("far.bin", sha256)]}, tmp_path)
    assert Path(config["model"]["checkpoint"]).read_bytes() == b"one"


def test_a_machine_that_has_changed_measures_nothing_more(pipes: Pipes) -> None:
    pipes.machines = {"one": ONE_CORE}
    (node,) = pipes.nodes()
    machine = pipes.reach(node)
    machine.introduce(node.kinds)
    (host,) = classes_of(machine.classes.items())
    other = replace(host, environment="0" * 16, facts={**host.facts, "power_mode": "15W"})
    cell = one_cell([*SMALL, "engine=fp32"])
    spec = new_job(Path("there"), cell.label, "measure", {**cell.config, "launcher": {"name": "ray", "small_bytes": 0}})
    with pytest.raises(MachineLost, match=r"one is not what it was when the sweep began: power_mode 15W, "):
        Place(machine, other, print)(spec, Launcher(command=FAKE, machines=None))
    assert trials(Path("there/journal.jsonl")) == []


FACTS = {"host_class": "board", "device": "cuda:0", "kernel": "6.1", "versions": {"torch": "2.5"}, "driver": "540.4"}


def test_machines_that_differ_inside_a_class_are_two_tables_with_the_reason() -> None:
    equal = classes_of([("board", FACTS), ("board", dict(FACTS))])
    assert [(host.name, host.reason) for host in equal] == [("board", None)]
    other = {**FACTS, "driver": "550.1", "versions": {"torch": "2.6"}}
    split = classes_of([("board", FACTS), ("board", other)])
    assert len({host.name for host in split}) == 2
    for host in split:
        assert host.name.startswith("board-")
        assert host.reason is not None
        assert "driver 5" in host.reason
        assert "versions.torch 2" in host.reason


def test_a_resumed_sweep_finds_its_classes_again() -> None:
    (stored,) = classes_of([("board", FACTS)])
    (same,), (changed,) = classes_of([("board", FACTS)]), classes_of([("board", {**FACTS, "driver": "550.1"})])
    assert matched([stored], [same]) == [stored]
    assert matched([stored], []) == [stored], "it waits for its machines"
    (now,) = matched([stored], [changed])
    assert (now.name, now.environment) == (stored.name, changed.environment)


def test_host_classes_are_chosen_by_patterns() -> None:
    known = ["jetson-agx-orin-64gb-maxn-locked-cuda", "nvidia-h200-cuda", "amd-epyc-avx2-2c-cpu"]
    assert chosen(None, known, None) == sorted(known)
    assert chosen(["jetson-*", "nvidia-*"], known, "cuda:0") == sorted(known[:2])
    with pytest.raises(ConfigError, match=r"sweep\.hosts=orin-\*: is no host class of the fleet; there are amd-epyc"):
        chosen(["orin-*"], known, None)
    with pytest.raises(ConfigError, match="the fleet has no machine"):
        chosen(None, [], None)


def test_without_ray_the_launcher_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("experiments.common.cli.here", str)
    assert run_verb(sweep_main, [*SMALL, "launcher=ray", "engine=fp32"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: launcher=ray: needs a package that is not installed (ray)")
    assert "pip install -c constraints.txt -e '.[ray]'" in said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["launcher=ray"], "launcher=ray: only sweep, optimize and gate are measured on other machines"),
        (["sweep.hosts=[jetson-*]"], "sweep.hosts=['jetson-*']: chooses machines of a fleet"),
    ],
)
def test_what_measures_here_alone_says_so(words: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(line)):
        one_cell([*SMALL, "engine=fp32", *words])


def test_the_overview_has_a_line_a_class_and_divides_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "fleet"
    hosts = [{"name": name, "host_class": "board", "reason": "they differ"} for name in ("fast", "slow")]
    for host, slowness in zip(hosts, (1.0, 4.0), strict=True):
        rows = [Judgeable(label=f"{name}-euler_7", audio="a", slowness=slowness) for name in ("fp32", "bf16")]
        write_judgeable(out / host["name"], rows)
    (out / "fleet.json").write_text(json.dumps({"schema_version": 1, "hosts": hosts}), "utf-8")
    tables = "reports.overview.render_report"
    monkeypatch.setattr(tables, lambda folder: Rendered(table=load_table(folder), paths=()))
    assert reports_main([str(out)]) == 0
    text = (out / "overview.md").read_text("utf-8")
    assert text in capsys.readouterr().out
    assert "| fast | 2 of 2 |" in text
    assert "| slow | 2 of 2 |" in text
    assert "fast: they differ." in text
    (out / "fleet.json").write_text('{"schema_version": 1, "hosts": [{"name": "../x"}]}', "utf-8")
    assert reports_main([str(out)]) == 2


def test_whatever_breaks_leaves_the_folder_of_a_worker_that_died_then(tmp_path: Path) -> None:
    """Every beginning of what is sent is a journal of whole lines, whose files are there."""
    there, now_s = tmp_path / "there", [0.0]
    there.mkdir()
    sent: list[dict[str, Any]] = []
    outbox = Outbox(there, lambda news: sent.append(dict(news)), lambda: now_s[0])
    journal = there / "journal.jsonl"
    journal.write_text('{"kind": "trial", "n": 1}\n{"kind": "tri')
    outbox.running(journal)
    assert sent == [], "not before its time"
    now_s[0] += EVERY_S
    outbox.running(journal)
    (there / "audio").mkdir()
    (there / "audio/a.wav").write_bytes(b"RIFF")
    journal.write_text('{"kind": "trial", "n": 1}\n{"kind": "trial", "n": 2}\n{"kind": "utterance"}\n')
    (there / "result.json").write_text("{}")
    outbox.ended()
    assert [news["name"] for news in sent] == ["journal.jsonl", "audio/a.wav", "journal.jsonl", "result.json"]
    for count in range(len(sent) + 1):
        here = tmp_path / str(count)
        here.mkdir()
        inbox = Inbox(here)
        for news in sent[:count]:
            inbox.take(news)
        text = (here / "journal.jsonl").read_text() if count else ""
        assert text == "" or text.endswith("\n")
        assert "utterance" not in text or (here / "audio/a.wav").read_bytes() == b"RIFF"
    assert text == journal.read_text()
    with pytest.raises(ValueError, match="leads out of the folder"):
        inbox.take({"kind": "file", "name": "../other", "data": ""})
    with pytest.raises(ValueError, match="is missing"):
        inbox.take({"kind": "grown", "name": "log.txt", "start": 9, "data": ""})
