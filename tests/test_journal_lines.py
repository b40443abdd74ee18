"""Journals under full disks, dying writers and files of writers that did not undo: nothing whole lost, nothing torn
counted, in every journal and state file of the project."""

import json
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.paired.selftests import HostErrors, Tally, load_errors, save_errors
from experiments.common.journal import KINDS, JournalWriter, read_journal
from experiments.common.progress import JournalTail
from experiments.measuring.job import JobSpec, compose_record
from experiments.optimize.request import new_search
from experiments.optimize.study import STUDY, open_study
from experiments.settings.compose import Cell, compose_config
from experiments.sweep.ledger import SWEEP, load_ledger, new_ledger
from experiments.tracking.state import STATE_FILE, SyncedRun, load_state, save_state
from experiments.tracking.verdicts import verdict_folder
from metrics.journal_lines import LineWriter, read_lines, split_lines, torn_text
from metrics.record import RecordError
from tests.test_journal import TRIAL

# Strings with everything that JSON and lines are made of, and letters of several bytes
TEXTS = st.text(st.sampled_from('{}[]":,\\\n\r\t kind\u00e9\u4e16\U0001f600\u2028\x85'), max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=3),
)
ENTRIES = st.lists(st.dictionaries(TEXTS.filter(lambda key: key != "kind"), VALUES, max_size=3), min_size=1, max_size=4)


def numbered(contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**content, "number": i, "kind": "trial"} for i, content in enumerate(contents)]


def line_of(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


@contextmanager
def disk_of(num_bytes: int) -> Iterator[None]:
    """Files cannot grow beyond this: a write that would is cut there, and the next one fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@given(contents=ENTRIES, cut=st.integers(min_value=0, max_value=10**6))
@settings(deadline=None, max_examples=50)
def test_cut_at_any_byte_the_whole_entries_are_read_and_the_torn_line_is_named(
    contents: list[dict[str, Any]], cut: int
) -> None:
    entries = numbered(contents)
    lines = [line_of(entry) for entry in entries]
    content = b"".join(lines)
    kept = content[: cut % (len(content) + 1)]
    ends = [sum(map(len, lines[: i + 1])) - 1 for i in range(len(lines))]  # without the line break
    read = split_lines(kept, KINDS)
    num_whole = sum(len(kept) >= end for end in ends)
    assert read.entries == entries[:num_whole]
    is_torn = num_whole < len(entries) and len(kept) > sum(map(len, lines[:num_whole]))
    assert read.torn == ((num_whole + 1,) if is_torn else ())


@given(contents=ENTRIES, cut=st.integers(min_value=0, max_value=10**6))
@settings(deadline=None, max_examples=50)
def test_a_writer_after_one_that_died_loses_nothing(
    contents: list[dict[str, Any]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    entries = numbered(contents)
    path = tmp_path_factory.mktemp("died") / "j"
    content = b"".join(map(line_of, entries))
    path.write_bytes(content[: cut % (len(content) + 1)])
    before = read_lines(path, KINDS)
    with LineWriter(path) as writer:
        writer.append(json.dumps({"kind": "end", "next": True}))
    after = read_lines(path, KINDS)
    assert after.entries == [*before.entries, {"kind": "end", "next": True}]
    assert after.torn == before.torn


@given(contents=ENTRIES, cut=st.integers(min_value=1, max_value=10**6), later=ENTRIES)
@settings(deadline=None, max_examples=50)
def test_an_entry_that_an_old_writer_put_behind_a_torn_one_counts(
    contents: list[dict[str, Any]], cut: int, later: list[dict[str, Any]]
) -> None:
    torn = line_of({**contents[0], "kind": "trial"})
    torn = torn[: 1 + cut % (len(torn) - 2)]
    entries = numbered(later)
    content = line_of({"kind": "start"}) + torn + b"".join(map(line_of, entries))
    read = split_lines(content, KINDS)
    assert read.entries == [{"kind": "start"}, *entries]
    assert read.torn == (2,)


def test_a_whole_object_within_a_torn_entry_is_no_entry() -> None:
    torn = line_of({"kind": "answer", "answer": {"kind": "pair", "x": 1}, "rest": 2}).split(b', "rest"')[0]
    for content in (torn, torn + b"\n", torn + b"\n" + line_of({"kind": "answer"})):
        assert all(entry == {"kind": "answer"} for entry in split_lines(content, ("answer",)).entries)
        assert split_lines(content, ("answer",)).torn == (1,)


NO_ENTRIES = (
    b"\0" * 40, b"[1, 2]", b"5", b'{"kind": 5}', b'{"kind": "trial", "a": NaN}', b'{"kind": "tri\xff"}', b"[" * 4000,
)  # fmt: skip


@pytest.mark.parametrize("damage", NO_ENTRIES)
def test_what_is_no_entry_is_torn_and_costs_nobody_else(damage: bytes) -> None:
    read = split_lines(line_of({"kind": "a"}) + damage + b"\r\n\n" + line_of({"kind": "b"}), KINDS)
    assert ([entry["kind"] for entry in read.entries], read.torn) == (["a", "b"], (2,))


@pytest.mark.parametrize("room", [1, 20, 59])
def test_an_append_that_the_disk_refuses_is_undone(tmp_path: Path, room: int) -> None:
    path = tmp_path / "j"
    with LineWriter(path) as writer:
        writer.append(json.dumps({"kind": "trial", "number": 0}))
        before = path.read_bytes()
        with disk_of(len(before) + room), pytest.raises(OSError, match="too large") as refused:
            writer.append(json.dumps({"kind": "trial", "number": 1, "text": "x" * 30}))
        assert (path.read_bytes(), refused.value.filename) == (before, str(path))
        writer.append(json.dumps({"kind": "trial", "number": 2}))
    assert [entry["number"] for entry in read_lines(path, KINDS).entries] == [0, 2]


def test_two_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with LineWriter(path) as one, LineWriter(path) as other:
        for number in range(4):
            (one, other)[number % 2].append(json.dumps({"kind": "trial", "number": number}))
    assert [entry["number"] for entry in read_lines(path, KINDS).entries] == [0, 1, 2, 3]


def test_torn_lines_are_named() -> None:
    assert torn_text((3,)) == "line 3 is torn"
    assert torn_text((3, 7, 9)) == "lines 3, 7 and 9 are torn"


CONFIG = {"workload": {"name": "w"}, "device": {"kind": "cpu", "threads": 1}}


@pytest.mark.parametrize("outcome", ["ok", "failed"])
def test_a_record_of_a_torn_journal_names_the_line_and_keeps_the_rest(tmp_path: Path, outcome: str) -> None:
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path) as journal:
        journal.append("start", {"workload": {"name": "w"}, "environment": {}, "created": "2026-01-01T00:00:00+00:00"})
        journal.append("trial", TRIAL)
    path.write_bytes(path.read_bytes() + b'{"kind": "trial", "wall\n')
    with JournalWriter(path) as journal:
        journal.append("trial", {**TRIAL, "repeat": 1})
    spec = JobSpec(folder=tmp_path, run_id="r", label="l", kind="measure", config=CONFIG)
    end = {"status": outcome, "reason": None if outcome == "ok" else "no memory", "remedy": None}
    record = compose_record(spec, read_journal(path), end)
    assert record.status == "failed"
    assert "line 3 is torn" in str(record.reason)
    assert [trial.repeat for trial in record.trials] == [0, 1]


def test_progress_survives_a_torn_line_and_an_undone_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    tail = JournalTail(path)
    path.write_bytes(line_of({"kind": "trial"}) + b"{torn\n" + line_of({"kind": "trial"}))
    assert tail.read() == 2
    path.write_bytes(line_of({"kind": "trial"}))
    tail.read()
    path.write_bytes(line_of({"kind": "trial"}) * 5)
    assert tail.read() == 5


VERDICT = {
    "kind": "same-run", "outcome": "PASS", "created": "2026-01-01T00:00:00+00:00", "sides": {}, "findings": [],
    "num_blocks": 1, "num_turns": 3, "environment": {}, "tracking": {"uri": "x"},
}  # fmt: skip


def test_tracking_takes_every_whole_turn_and_tags_the_torn_line(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text(json.dumps(VERDICT))
    turns = [line_of({"kind": "turn", "wall_s": {"candidate": float(i)}}) for i in range(3)]
    (tmp_path / "pairs.jsonl").write_bytes(turns[0] + turns[1][:20] + turns[2])
    parent = verdict_folder(tmp_path).parent
    assert [point.value for point in parent.points] == [0.0, 2.0]
    assert parent.tags["journal.torn"] == "pairs.jsonl: line 2 is torn"


def cuts_of(path: Path) -> Iterator[bytes]:
    """The file cut at every byte, and whole; it is left whole."""
    content = path.read_bytes()
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        yield content[:end]
    path.write_bytes(content)


def read_or_refused(read: Callable[[], Any], path: Path) -> Any:
    """None where the file was refused by its name in one line."""
    try:
        return read()
    except RecordError as error:
        refusal = str(error)
    assert str(path) in refusal
    assert "\n" not in refusal
    return None


def test_a_ledger_cut_anywhere_is_refused_by_name_or_whole(tmp_path: Path) -> None:
    new_ledger(tmp_path, ["a"], [("x=1",)]).save()
    path = tmp_path / SWEEP
    whole, content = load_ledger(tmp_path), path.read_bytes()
    for kept in cuts_of(path):
        read = read_or_refused(lambda: load_ledger(tmp_path), path)
        assert read == whole if kept.strip() == content.strip() else read is None


def test_self_test_counts_cut_anywhere_are_refused_by_name_or_whole(tmp_path: Path) -> None:
    tally = Tally(source="live", true_ratio=1.0, outcomes={"PASS": 3})
    errors = HostErrors(host_class="h", rule="r", created="c", tallies=(tally,), restart_sd_frac=None)
    path = save_errors(errors, tmp_path)
    content = path.read_bytes()
    for kept in cuts_of(path):
        read = read_or_refused(lambda: load_errors("h", tmp_path), path)
        assert read == errors if kept.strip() == content.strip() else read is None


def test_what_tracking_remembers_cut_anywhere_is_whole_or_forgotten(tmp_path: Path) -> None:
    run = SyncedRun(run_uuid="u", run_id="r", content_sha256="s", files={})
    save_state(tmp_path, "uri", "e", {".": run})
    for _ in cuts_of(tmp_path / STATE_FILE):
        assert load_state(tmp_path, "uri", "e") in ({}, {".": run})
    (tmp_path / STATE_FILE).write_text('{"schema_version": 1, "stores": null}')
    assert load_state(tmp_path, "uri", "e") == {}


def test_a_damaged_study_is_refused_and_says_that_no_measurement_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search = new_search(["workload=smoke", "engine=bf16,int8", "out=out", "tracking=none", "quality.metrics=[snr]"])
    config = compose_config(["workload=smoke"])
    study = tmp_path / "out" / STUDY
    open_study(search, Cell(label="search", overrides=(), config=config))
    content = study.read_bytes()
    for kept in (content[:100], content[: len(content) // 2], b"\0" * len(content)):
        study.write_bytes(kept)
        with pytest.raises(RecordError, match=r"optuna.db: damaged .* what was measured lies in cells/"):
            open_study(search, Cell(label="search", overrides=(), config=config))


def test_two_tallies_of_one_kind_are_refused(tmp_path: Path) -> None:
    tally = Tally(source="live", true_ratio=1.0, outcomes={"PASS": 3})
    errors = HostErrors(host_class="h", rule="r", created="c", tallies=(tally,), restart_sd_frac=None)
    save_errors(replace(errors, tallies=(tally, tally)), tmp_path)
    with pytest.raises(RecordError, match="live, true ratio 1 twice"):
        load_errors("h", tmp_path)


APPENDING = re.compile(r"""open\([^)]*["']a[bt+]*["']|O_APPEND""")


def test_no_appender_goes_round_the_mechanism() -> None:
    """Policy: a file that is appended to is a journal, a log that nothing is read from, or a CI runner's own."""
    root = Path(__file__).resolve().parents[1]
    logs = {
        "experiments/compare/session.py", "experiments/functions/sides.py", "experiments/load/http.py",
        "experiments/checks/chaos.py", "experiments/checks/fleet/chaos.py", "reports/comment/__main__.py",
    }  # fmt: skip
    packages = ("engine", "metrics", "baselines", "reports", "experiments")
    found = [path for name in packages for path in (root / name).rglob("*.py")]
    appending = {str(path.relative_to(root)) for path in found if APPENDING.search(path.read_text("utf-8"))}
    assert appending - logs == {"metrics/journal_lines.py"}
