"""The journal survives whatever ends its writer."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.common.journal import JournalWriter, read_journal, set_aside
from metrics.record import RecordError, Trial

TRIAL = {
    "utterance_id": "en01", "repeat": 0, "wall_s": 0.2, "cpu_s": 0.4, "audio_s": 1.5, "frontend_s": 0.01,
    "denoise_s": 0.15, "vocoder_s": 0.03, "join_s": 0.0, "num_evals": 7, "peak_bytes": 1, "started_unix_s": 1.0,
    "is_warmup": False,
}  # fmt: skip
CALIBRATION = {"work": "gemm", "repeat": 0, "is_warmup": False, "wall_s": 0.03, "cpu_s": 0.06}


def write(path: Path) -> None:
    with JournalWriter(path) as journal:
        journal.append("start", {"workload": {"name": "w"}})
        journal.append("build", {"build_s": 1.25})
        journal.append("facts", {"name": "fp32"})
        journal.append("first_call", {"first_call_s": 0.5, "utterance_id": "en01"})
        journal.append("trial", TRIAL)
        journal.append("calibration", CALIBRATION)
        journal.append("calibration", {**CALIBRATION, "work": "memory", "wall_s": 9.0})
        journal.append("trial", {**TRIAL, "utterance_id": "en02"})
        journal.append("trial", {**TRIAL, "repeat": 1})


def test_what_was_written_is_read_and_a_rounds_calibration_reaches_all_of_its_trials(tmp_path: Path) -> None:
    write(tmp_path / "j")
    read = read_journal(tmp_path / "j")
    calibrated = Trial(**TRIAL, calibration_s=0.03, calibration_cpu_s=0.06)
    assert read.trials[0] == calibrated
    assert read.trials[1].calibration_s == 0.03
    assert read.trials[2].calibration_s is None
    assert [(c.work, c.wall_s) for c in read.calibrations] == [("gemm", 0.03), ("memory", 9.0)]
    assert (read.build_s, read.first_call_s, read.facts, read.end) == (1.25, 0.5, {"name": "fp32"}, None)


@given(cut=st.integers(min_value=0))
def test_a_journal_cut_anywhere_keeps_every_whole_line(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "j"
    write(path)
    whole = path.read_bytes()
    kept = whole[: cut % (len(whole) + 1)]
    path.write_bytes(kept)
    read = read_journal(path)
    begun = [line for line in kept.split(b"\n") if line]
    num_whole = sum(line in whole.split(b"\n") for line in begun)
    assert len(read.trials) == sum(b'"kind": "trial"' in line for line in begun[:num_whole])
    assert read.torn == (() if num_whole == len(begun) else (len(begun),))


def test_damage_inside_is_named_and_costs_its_own_line_only(tmp_path: Path) -> None:
    write(tmp_path / "j")
    whole = read_journal(tmp_path / "j")
    lines = (tmp_path / "j").read_text().splitlines(keepends=True)
    (tmp_path / "j").write_text("".join([*lines[:4], "{half\n", *lines[5:]]))
    read = read_journal(tmp_path / "j")
    assert (read.torn, read.trials) == ((5,), whole.trials[1:])


def test_a_whole_line_that_says_nonsense_is_refused_by_its_number(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        journal.append("trial", TRIAL)
        journal.append("trial", {**TRIAL, "wall": 1.0})
    with pytest.raises(RecordError, match="line 2 is damaged"):
        read_journal(tmp_path / "j")


def test_no_file_is_an_empty_journal(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none").trials == ()


def test_an_earlier_attempt_is_kept_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for content in ("one", "two"):
        path.write_text(content)
        set_aside(path)
    set_aside(path)
    assert (tmp_path / "journal.1.jsonl").read_text() == "one"
    assert (tmp_path / "journal.2.jsonl").read_text() == "two"
    assert not path.exists()


def test_a_full_disk_is_an_error_at_once() -> None:
    with pytest.raises(OSError, match="No space left"), JournalWriter(Path("/dev/full")) as journal:
        journal.append("trial", TRIAL)
