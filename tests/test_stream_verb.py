"""The stream verb: exact numbers from an engine with a clock of its own, one real run, a user's mistakes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.common.cli import EXIT_OK, EXIT_USAGE, run_verb
from experiments.common.journal import JournalWriter
from experiments.stream import StreamLoop, main, sentences, split_arguments, summary_of
from tests.engines import request
from tests.fakes import FakeClock, FakeEngine, facts


def test_times_are_those_of_the_clock_and_every_trial_is_in_the_journal(tmp_path: Path) -> None:
    clock = FakeClock()
    engine = FakeEngine(facts(), clock, seconds=0.5)
    asks = [request("Turn left at the bridge.", utterance_id=name) for name in "ab"]
    with JournalWriter(tmp_path / "journal.jsonl") as journal:
        measured = StreamLoop(engine, clock, journal).run(asks, rounds=4)
    assert len(measured.streams) == len(measured.calls) == 8, "the warm-up is not kept"
    assert all(trial.arrivals_s == pytest.approx((0.25, 0.5)) for trial in measured.streams)
    assert all(trial.wall_s == pytest.approx(0.5) for trial in measured.calls)
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [sum(line["kind"] == kind for line in lines) for kind in ("stream", "call")] == [10, 10]
    summary = summary_of(measured)
    silence = measured.calls[0].silence_s or 0.0
    assert summary["first_audible_s"]["median"] == pytest.approx(0.25 + silence)
    assert summary["whole_call_first_audible_s"]["median"] == pytest.approx(0.5 + silence)
    assert (summary["num_underruns"], summary["gap_s"]) == (0, 0.0)


def test_a_stream_that_runs_dry_says_so() -> None:
    from experiments.stream import CallTrial, Measured, StreamTrial

    dry = StreamTrial(
        utterance_id="a", repeat=0, arrivals_s=(0.5, 3.0), durations_s=(1.0, 4.0), silence_s=0.1, num_chunks=2,
        num_evals=14,
    )  # fmt: skip
    fed = replace(dry, arrivals_s=(0.5, 1.25))
    silent = replace(dry, silence_s=None, arrivals_s=(0.5, 1.5))
    call = CallTrial(utterance_id="a", repeat=0, wall_s=3.0, audio_s=5.0, silence_s=0.1)
    summary = summary_of(Measured(streams=[dry, fed, silent], calls=[call]))
    assert summary["first_audible_s"]["median"] == pytest.approx(0.6)
    assert (summary["num_underruns"], summary["num_streams_with_underrun"], summary["num_silent"]) == (1, 1, 1)
    assert (summary["gap_s"], summary["longest_gap_s"], summary["wait_s"]) == (1.5, 1.5, 1.5)
    text = sentences("fp32-euler_7", "first_clause", summary)
    assert "1 in 1 streams, 1.50 s of silence" in text
    assert "3.100 s (5.2 x later)" in text


def test_a_real_run_leaves_its_files_and_prints_what_they_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, texts = tmp_path / "out", tmp_path / "two.yaml"
    texts.write_text('utterances: [{id: two, category: short, text: "That was close. Turn left at the bridge."}]')
    line = ("solver=euler_5", f"workload.texts={texts}", "stream.first_chunk_max_bytes=20", "rounds=1", f"out={out}")
    assert run_verb(main, line) == EXIT_OK
    content = json.loads((out / "stream.json").read_text())
    printed = capsys.readouterr().out
    assert content["summary"]["num_streams"] == 1
    assert f"first audible sample   {content['summary']['first_audible_s']['median']:.3f} s" in printed
    trial = content["streams"][0]
    assert trial["num_chunks"] == len(trial["arrivals_s"]) > 1
    assert trial["num_evals"] == 5 * trial["num_chunks"]
    assert trial["arrivals_s"][0] < content["calls"][0]["wall_s"]
    assert (out / "audio" / "two.wav").stat().st_size > 4 * 24000
    assert run_verb(main, line) == EXIT_USAGE, "nothing measured is overwritten"


def test_arguments_that_cannot_be_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(main, ["rounds=0"]) == EXIT_USAGE
    assert run_verb(main, ["stream.growth_ratio=0.5"]) == EXIT_USAGE
    assert run_verb(main, ["stream=fast"]) == EXIT_USAGE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "growth_ratio" in lines[1]
    assert split_arguments(["workload=smoke", "rounds=2"]) == (["workload=smoke"], 2)
    assert split_arguments(["engine=int8"]) == (["workload=en_long", "engine=int8"], 3)
