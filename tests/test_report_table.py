"""What a reader is told of each row: which figures, which words, and when no figure at all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from metrics.record import RecordError
from reports.data.context import context_of, warnings_of
from reports.data.quality import LOG_MEL, PESQ
from reports.data.table import Row, Table, UnjudgedRow, all_metrics, load_table, require_judgement, sentence_timing_of
from reports.sections.column import p95_text
from reports.sections.columns import main_columns, time_columns
from reports.sections.lengths import length_lines
from reports.sections.notes import determinism_of, headline_of, note_of
from reports.sections.scores import quality_text
from tests.test_report_data import (
    DEFAULT_CELLS,
    REFERENCE,
    SENTENCES,
    FakeCell,
    read_record,
    rewrite_record,
    write_run,
    write_sweep,
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return load_table(write_sweep(tmp_path_factory.mktemp("table") / "sweep"))


def row_of(table: Table, label: str) -> Row:
    return next(row for row in table.rows if row.label == label)


def printed(table: Table, label: str) -> dict[str, str]:
    """Header -> text of one row of the headline table."""
    return {column.header: column.text(row_of(table, label)) for column in main_columns(table, all_metrics(table))}


def test_a_measured_row_prints_its_figures_exactly(table: Table) -> None:
    assert printed(table, "int8-euler_7") == {
        "variant": "int8-euler_7",
        "steps": "7",
        "evals": "7",
        "RTF": "0.300",
        "p50 ms (95 % interval)": "375 (225..600)",
        "p95 ms": "n too small (12 < 59)",
        "trials": "12",
        "x upstream-euler_32": "6.00",
        "x upstream at equal evals": "-",
        "log-mel error": "0.250",
        "SNR dB": "9.5",
        "PESQ-WB": "2.50 (3 of 4)",
        "STOI": "0.875",
        "peak MiB": "640",
    }


def test_the_order_is_that_of_the_sweep_and_no_row_is_dropped(table: Table) -> None:
    assert [row.label for row in table.rows] == [cell.label for cell in DEFAULT_CELLS]


def test_the_tail_is_printed_from_59_trials_on(table: Table) -> None:
    slow, enough = row_of(table, "upstream-euler_32").timing, row_of(table, "fp32-euler_7").timing
    assert slow is not None
    assert (slow.p95_ms, p95_text(slow)) == (None, "n too small (4 < 59)")
    assert enough is not None
    assert enough.num_trials == 60
    assert p95_text(enough) == "900 (900..900)"


def test_an_engine_that_was_not_steady_shows_no_speed_and_says_what_moved(tmp_path: Path) -> None:
    write_sweep(tmp_path, [REFERENCE, FakeCell(label="fp32-euler_7")])
    folder = tmp_path / "cells" / "fp32-euler_7"
    scores = json.loads((folder / "result.json").read_text())["scores"]
    moved = {**scores[0], "metric": "steady_counters", "utterance_id": None, "value": None, "status": "error"}
    rewrite_record(folder, scores=[*scores, {**moved, "reason": "graph_captures went from 4 to 5 in the timed region"}])
    row = row_of(load_table(tmp_path), "fp32-euler_7")
    assert (row.status, row.timing) == ("unsteady", None)
    assert note_of(row).startswith("not steady: graph_captures went from 4 to 5 in the timed region; let the warm-up")
    rewrite_record(folder, scores=[*scores, {**moved, "reason": "graphs_evicted went from 0 to 1 in the timed region"}])
    assert "raise engine.max_graphs" in note_of(row_of(load_table(tmp_path), "fp32-euler_7"))


def test_a_warm_up_that_never_settled_is_a_warning(tmp_path: Path) -> None:
    write_sweep(tmp_path, [REFERENCE, FakeCell(label="fp32-euler_7")])
    folder = tmp_path / "cells" / "fp32-euler_7"
    scores = json.loads((folder / "result.json").read_text())["scores"]
    never = {**scores[0], "metric": "warm_up_steady", "utterance_id": None, "value": 0.0, "reason": "no steady state"}
    rewrite_record(folder, scores=[*scores, never])
    assert any(
        "No steady state came within the warm-up of fp32-euler_7" in w for w in warnings_of(load_table(tmp_path))
    )


def test_each_length_has_a_line_of_its_own_and_no_speed_without_valid_audio(table: Table) -> None:
    lines = length_lines(table)
    assert {line[0] for line in lines} == {row.label for row in table.timed_rows}
    assert "amp-euler_7" not in {line[0] for line in lines}
    mine = [line for line in lines if line[0] == "fp32-euler_7"]
    assert sum(int(line[2]) for line in mine) == 60
    assert [line[1] for line in mine] == sorted({line[1] for line in mine}, key=("short", "medium", "long").index)


def test_invalid_audio_shows_no_speed_and_says_which_sentences(table: Table) -> None:
    row = row_of(table, "amp-euler_7")
    assert (row.status, row.timing, dict(row.quality)) == ("invalid", None, {})
    assert printed(table, "amp-euler_7")["RTF"] == "-"
    assert note_of(row).startswith("audio invalid: 2 of 4 sentences: en04 (silent: RMS 0")
    assert sentence_timing_of(row, "en01") is None


def test_skipped_and_failed_rows_keep_reason_and_remedy_without_the_machines_paths(table: Table) -> None:
    assert note_of(row_of(table, "fp16-euler_7")) == (
        "skipped: no float16 convolution on this CPU; use engine=bf16, or a CUDA device"
    )
    assert note_of(row_of(table, "bf16-euler_7")) == "failed: OSError: .../weights.bin is truncated; fetch it again"


def test_the_reference_is_said_to_be_it_and_has_no_distance_to_itself(table: Table) -> None:
    row = row_of(table, REFERENCE.label)
    assert row.is_reference
    assert quality_text(row, LOG_MEL) == "reference"


def test_ratios_are_to_upstream_at_its_most_evaluations_and_at_equal_ones(table: Table) -> None:
    assert table.base_label == "upstream-euler_32"
    timing = row_of(table, REFERENCE.label).timing
    assert timing is not None
    assert timing.times_base == timing.times_upstream == pytest.approx(1.2)


def test_without_upstream_the_ratio_is_to_the_quality_reference(tmp_path: Path) -> None:
    table = load_table(write_sweep(tmp_path, [FakeCell(label="int8-euler_7", rtf=0.3), REFERENCE]))
    assert table.base_label == REFERENCE.label
    assert printed(table, "int8-euler_7")[f"x {REFERENCE.label}"] == "5.00"
    assert "x upstream at equal evals" not in printed(table, "int8-euler_7")


def test_random_weights_print_a_speed_and_no_quality(tmp_path: Path) -> None:
    random = FakeCell(label="int8-euler_7-model=f5tts_v1_base_random", rtf=0.2, random_weights=True)
    table = load_table(write_sweep(tmp_path, [DEFAULT_CELLS[0], random]))
    cells = printed(table, random.label)
    assert cells["RTF"] == "0.200"
    assert {cells[name] for name in ("log-mel error", "SNR dB", "PESQ-WB", "STOI")} == {"random weights: no quality"}
    assert cells["x upstream-euler_32"] == "-", "another model is not a faster pocket"


def test_a_speed_with_neither_a_score_nor_a_reason_is_refused(table: Table, tmp_path: Path) -> None:
    row = dataclasses.replace(row_of(table, "int8-euler_7"), quality={})
    with pytest.raises(UnjudgedRow, match="int8-euler_7: a speed, but neither a quality score"):
        require_judgement(row)
    with pytest.raises(UnjudgedRow):
        load_table(write_sweep(tmp_path, [FakeCell(label="int8-euler_7", scores=())]))


def test_scores_switched_off_are_a_reason(tmp_path: Path) -> None:
    folder = write_run(tmp_path, FakeCell(label="int8-euler_7", scores=()))
    rewrite_record(folder, config={**read_record(folder)["config"], "quality": {"enabled": False}})
    table = load_table(folder)
    assert quality_text(table.rows[0], LOG_MEL) == "not scored"
    assert table.rows[0].timing is not None


def test_audio_that_nobody_checked_has_no_speed(tmp_path: Path) -> None:
    folder = write_run(tmp_path, FakeCell(label="int8-euler_7"))
    scores = [s for s in read_record(folder)["scores"] if s["metric"] != "audio_valid" or s["utterance_id"] != "en09"]
    rewrite_record(folder, scores=scores)
    row = load_table(folder).rows[0]
    assert (row.status, row.timing) == ("unchecked", None)
    assert note_of(row).startswith("audio not checked: 1 of 4 sentences have no validity check")


def test_a_corpus_word_error_rate_without_a_value_is_not_replaced_by_a_mean(tmp_path: Path) -> None:
    folder = write_run(tmp_path, FakeCell(label="int8-euler_7"))
    scores = read_record(folder)["scores"]
    per_sentence = {"metric": "wer_frac", "status": "ok", "reason": None, "better": "lower"}
    scores += [{**per_sentence, "utterance_id": name, "value": 0.25} for name in SENTENCES]
    corpus = {**per_sentence, "utterance_id": None, "value": 0.125}
    rewrite_record(folder, scores=[*scores, corpus])
    assert quality_text(load_table(folder).rows[0], "wer_frac") == "12.5"
    missing = {**corpus, "value": None, "status": "unavailable", "reason": "no recogniser"}
    rewrite_record(folder, scores=[*scores, missing])
    assert quality_text(load_table(folder).rows[0], "wer_frac") == "unavailable"


def test_pending_cells_say_how_to_finish_the_sweep(tmp_path: Path) -> None:
    cells = [REFERENCE, FakeCell(label="int8-euler_7", state="pending")]
    table = load_table(write_sweep(tmp_path, cells, status="interrupted"))
    assert note_of(table.rows[1]).startswith("pending: not measured yet; finish the sweep")
    assert "The sweep is interrupted: 1 of 2 variants are not measured." in warnings_of(table)


@pytest.mark.parametrize("content", ["{", '{"schema_version": 99}', "[]"])
def test_one_unreadable_record_becomes_a_failed_row(tmp_path: Path, content: str) -> None:
    write_sweep(tmp_path, [REFERENCE, FakeCell(label="int8-euler_7")])
    (tmp_path / "cells" / "int8-euler_7" / "result.json").write_text(content, encoding="utf-8")
    table = load_table(tmp_path)
    assert [row.status for row in table.rows] == ["ok", "failed"]
    assert note_of(table.rows[1]).startswith("failed: cells/int8-euler_7/result.json: ")
    assert str(tmp_path) not in note_of(table.rows[1])


def test_a_record_that_should_be_there_and_is_not_becomes_a_failed_row(tmp_path: Path) -> None:
    write_sweep(tmp_path, [REFERENCE, FakeCell(label="int8-euler_7", has_record=False)])
    assert note_of(load_table(tmp_path).rows[1]).startswith("failed: cells/int8-euler_7/result.json is missing")


def test_a_folder_that_is_neither_run_nor_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no result\.json and no sweep\.json in it"):
        load_table(tmp_path)


@pytest.mark.parametrize("content", [{"schema_version": 2}, {"schema_version": 1}, {}])
def test_another_sweep_file_is_refused_with_its_name(tmp_path: Path, content: dict[str, int]) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RecordError, match=r"sweep\.json"):
        load_table(tmp_path)


def test_a_run_folder_is_a_table_of_one_row_against_its_own_reference(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(label="int8-euler_7"))
    write_run(tmp_path / "reference", REFERENCE)
    table = load_table(tmp_path)
    assert [row.label for row in table.rows] == ["int8-euler_7"]
    assert table.source.reference is not None
    assert quality_text(table.rows[0], PESQ) == "3.00"


def test_how_often_the_front_end_found_a_text_stands_beside_its_share(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(label="int8-euler_7"))
    facts = read_record(tmp_path)["facts"]
    column = next(column for column in time_columns() if column.header == "text cache %")
    assert column.text(load_table(tmp_path).rows[0]) == "-", "an engine that keeps none"
    rewrite_record(tmp_path, facts={**facts, "proof": {"text_cache_lookups": 8, "text_cache_hits": 6}})
    assert column.text(load_table(tmp_path).rows[0]) == "75.0"


def test_the_headline_names_the_fastest_valid_row_with_its_seconds_of_audio(table: Table) -> None:
    assert headline_of(table, context_of(table)) == (
        "Quality not judged. Fastest: int8-euler_7, 6.00 times as fast as upstream-euler_32, but of 2 variants it "
        "is the farthest from the reference (log-mel error 0.250 nats); closest: fp32-euler_7, 4.00 times "
        "(0.200 nats). int8-euler_7 speaks at RTF 0.300 (reference 2.1 s, 5.2 s generated in 4 sentences). Against "
        "the float32 reference it has log-mel error 0.250 nats and PESQ-WB 2.50 (3 of 4). 4 measured, 1 audio "
        "invalid, 1 skipped, 1 failed of 7 variants."
    )


def test_a_busy_dirty_or_drifting_machine_is_warned_of(tmp_path: Path) -> None:
    cells = [REFERENCE, FakeCell(label="int8-euler_7", calibration_s=0.012)]
    text = " ".join(warnings_of(load_table(write_sweep(tmp_path, cells, load_1min=1.5, git_dirty=True))))
    assert "load 1.5 on 2 cores" in text
    assert "uncommitted changes" in text
    assert "1.20 times as long in int8-euler_7 as in fp32-euler_32" in text


def test_a_quiet_clean_machine_gives_no_warning(table: Table) -> None:
    assert warnings_of(table) == ()


def test_rows_of_different_machines_are_warned_of(tmp_path: Path) -> None:
    write_sweep(tmp_path, [REFERENCE, FakeCell(label="int8-euler_7")])
    folder = tmp_path / "cells" / "int8-euler_7"
    rewrite_record(folder, environment={**read_record(folder)["environment"], "host_class": "jetson-agx-orin"})
    assert warnings_of(load_table(tmp_path)) == (
        "The rows differ in host class (amd-epyc-2c-cpu, jetson-agx-orin): do not compare them with one another.",
    )


def test_rows_with_the_same_bits_are_named(table: Table) -> None:
    noise, twins = determinism_of(table)
    assert "the same in every row that knows it (4 sentences)" in noise
    assert twins == (
        "Bit-identical audio in every sentence: upstream-euler_32 = fp32-euler_32; fp32-euler_7 = int8-euler_7."
    )
