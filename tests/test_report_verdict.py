"""The sentence that a report begins with: who is recommended, who is not and why; nothing is claimed unasked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metrics.record import RecordError, Trial, load_record
from reports.data.context import context_of
from reports.data.judged import judged_rows
from reports.data.ratios import times_interval, times_of
from reports.data.table import load_table
from reports.render.every import render_report
from reports.sections.notes import headline_of, headline_parts
from tests.report_sweeps import UPSTREAM, Judgeable, write_judgeable
from tests.scored_runs import ARTIFACT, BLIND, SIMILARITY, WER
from tests.test_report_data import DEFAULT_CELLS, REFERENCE, FakeCell, trials_of, write_run, write_sweep

GOOD = Judgeable(label="fp32-euler_7", audio="b", slowness=2.0)
WORDLESS = Judgeable(label="int8-fitted_3", audio="c", slowness=1.0, shifts={WER: 0.1})


def verdict(folder: Path) -> str:
    table = load_table(folder)
    return headline_parts(table, context_of(table)).verdict


def kinds(folder: Path) -> dict[str, str]:
    return {label: found.kind for label, found in judged_rows(load_table(folder)).items()}


def test_the_fastest_that_lost_nothing_is_named_and_what_the_faster_one_lost(tmp_path: Path) -> None:
    text = verdict(write_judgeable(tmp_path, [UPSTREAM, GOOD, WORDLESS]))
    assert text.startswith("Fastest that lost nothing: fp32-euler_7, ")
    assert "times as fast as upstream-euler_32 (" in text
    assert text.endswith("); faster, but loses words: int8-fitted_3.")


@pytest.mark.parametrize(
    ("metric", "shift", "words"),
    [
        (WER, 0.1, "loses words"),
        (SIMILARITY, -0.2, "loses the voice"),
        (BLIND, -3.0, "adds noise"),
        (ARTIFACT, 1.0, "adds clicks, dropouts or cuts"),
    ],
)
def test_each_loss_has_its_words(tmp_path: Path, metric: str, shift: float, words: str) -> None:
    bad = Judgeable(label="int8-euler_7", audio="b", slowness=1.0, shifts={metric: shift})
    text = verdict(write_judgeable(tmp_path, [UPSTREAM, bad]))
    assert text.startswith("Every faster variant loses something. Fastest: int8-euler_7, ")
    assert text.endswith(f", but it {words}.")


def test_a_variant_whose_words_nobody_counted_is_not_recommended(tmp_path: Path) -> None:
    silent = Judgeable(label="int8-euler_7", audio="b", slowness=1.0, drop=(WER,))
    text = verdict(write_judgeable(tmp_path, [UPSTREAM, silent]))
    assert "lost nothing: " not in text
    assert text.startswith("No faster variant is known to have lost nothing. Fastest: int8-euler_7, ")
    assert text.endswith("but its words were not judged.")


def test_of_rows_that_are_open_the_farthest_is_called_so(tmp_path: Path) -> None:
    near = Judgeable(label="fp32-euler_7", audio="b", slowness=2.0, drop=(WER,), log_mel=0.2)
    far = Judgeable(label="int8-euler_7", audio="c", slowness=1.0, drop=(WER,), log_mel=0.7)
    text = verdict(write_judgeable(tmp_path, [UPSTREAM, near, far]))
    assert text.endswith("but its words were not judged, and of 2 variants it is the farthest from the reference.")


def test_without_scores_that_a_rule_asks_for_the_farthest_is_not_crowned(tmp_path: Path) -> None:
    text = verdict(write_sweep(tmp_path))
    assert text == (
        "Quality not judged. Fastest: int8-euler_7, 6.00 times as fast as upstream-euler_32, but of 2 variants it "
        "is the farthest from the reference (log-mel error 0.250 nats); closest: fp32-euler_7, 4.00 times (0.200 nats)."
    )


def test_a_slower_variant_is_not_recommended_whatever_it_kept(tmp_path: Path) -> None:
    slow = Judgeable(label="fp32-euler_7", audio="b", slowness=40.0)
    folder = write_judgeable(tmp_path, [UPSTREAM, slow])
    assert kinds(folder)["fp32-euler_7"] == "kept"
    assert verdict(folder) == "No variant is faster than the base. Fastest: upstream-euler_32."


def test_one_run_alone_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(label="int8-euler_7"))
    assert verdict(tmp_path) == "Quality not judged: there is nothing to compare int8-euler_7 with."


def test_random_weights_are_not_judged(tmp_path: Path) -> None:
    cells = [FakeCell(label="fp32-euler_7", random_weights=True), FakeCell(label="int8-euler_7", random_weights=True)]
    text = headline_of(table := load_table(write_sweep(tmp_path, cells)), context_of(table))
    assert text.startswith("Quality not judged. Fastest: ")
    assert "random: a speed workload, no quality" in text


def stored_verdict(folder: Path, outcome: str, metric: str, found: str, baseline: str = UPSTREAM.label) -> None:
    """What `f5bench quality-gate` leaves beside a run."""
    cell = folder / "cells" / GOOD.label
    ids = {
        side: {"run_id": load_record(folder / "cells" / label / "result.json").run_id, "label": label}
        for side, label in (("baseline", baseline), ("candidate", GOOD.label))
    }
    finding = {"rule": f"{metric} (difference)", "metric": metric, "outcome": found, "explanation": "by hand"}
    content = {"kind": "quality", "outcome": outcome, "reason": None, "findings": [finding], **ids}
    (cell / "quality_gate").mkdir()
    text = json.dumps({**content, "limits": {"name": "seeds"}})
    (cell / "quality_gate" / "verdict.json").write_text(text, encoding="utf-8")


def test_the_gates_own_verdict_stands_before_the_reports(tmp_path: Path) -> None:
    folder = write_judgeable(tmp_path, [UPSTREAM, GOOD])
    assert kinds(folder)[GOOD.label] == "kept"
    stored_verdict(folder, "FAIL", WER, "worse")
    found = judged_rows(load_table(folder))[GOOD.label]
    assert (found.kind, found.losses, found.by) == ("lost", ("loses words",), "quality gate, rules seeds")


def test_a_verdict_about_other_runs_says_nothing_here(tmp_path: Path) -> None:
    folder = write_judgeable(tmp_path, [UPSTREAM, GOOD, WORDLESS])
    stored_verdict(folder, "FAIL", WER, "worse", baseline=WORDLESS.label)
    assert kinds(folder)[GOOD.label] == "kept"


def test_a_damaged_verdict_is_named(tmp_path: Path) -> None:
    folder = write_judgeable(tmp_path, [UPSTREAM, GOOD])
    stored_verdict(folder, "FAIL", WER, "worse")
    (folder / "cells" / GOOD.label / "quality_gate" / "verdict.json").write_text('{"kind": "quality"}')
    with pytest.raises(RecordError, match=r"verdict\.json: damaged verdict"):
        verdict(folder)


def test_every_form_of_the_report_begins_with_the_same_sentence(tmp_path: Path) -> None:
    folder = write_judgeable(tmp_path, [UPSTREAM, GOOD, WORDLESS])
    text = verdict(folder)
    render_report(folder)
    assert (folder / "report.md").read_text("utf-8").startswith(f"# f5bench report: judged\n\n{text} ")
    assert f'<p class="verdict">{text}</p>' in (folder / "report.html").read_text("utf-8")


def test_the_interval_of_a_ratio_holds_the_truth_about_as_often_as_it_says() -> None:
    """Sentences of another cost each, a variant that is 4 times as fast give or take a fifth a sentence."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        base, own = trials_with(rng, 12, 4.0, 0.2)
        interval = times_interval(base, own)
        assert interval is not None
        held += interval[0] < 4.0 < interval[1]
    assert 0.90 <= held / 400 <= 0.99


def trials_with(rng: np.random.Generator, num: int, ratio: float, spread: float) -> tuple[list[Trial], list[Trial]]:
    model = trials_of(FakeCell(label="fp32-euler_7", rounds=1))[-1]
    seconds = rng.uniform(1.0, 6.0, num)
    factors = np.exp(rng.normal(-(spread**2) / 2, spread, num))
    base = [replace(model, utterance_id=f"s{i}", audio_s=s, wall_s=ratio * 0.4 * s) for i, s in enumerate(seconds)]
    own = [replace(t, wall_s=0.4 * t.audio_s * f) for t, f in zip(base, factors, strict=True)]
    return base, own


def test_five_sentences_have_no_interval_and_equal_rows_a_ratio_of_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    assert times_interval(*trials_with(rng, 5, 4.0, 0.2)) is None
    low, high = times_interval(*trials_with(rng, 6, 1.0, 0.0)) or (0.0, 0.0)
    assert low == pytest.approx(1.0)
    assert high == pytest.approx(1.0)
    table = load_table(write_sweep(tmp_path, DEFAULT_CELLS))
    times = times_of(next(row for row in table.rows if row.label == REFERENCE.label), table)
    assert times is not None
    assert (times.ratio, times.low) == (pytest.approx(1.2), None)
