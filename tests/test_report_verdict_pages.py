"""The page of a verdict folder: the same template, the summary's words, the JSON behind them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from baselines.quality.gate import judge_quality
from experiments.settings.words import read_quality_limits
from metrics.record import to_json
from reports.__main__ import main
from reports.verdicts.page import as_html
from reports.verdicts.paired import comparison_content, comparison_sheet
from reports.verdicts.quality import JudgedQuality, quality_content, quality_sheet
from reports.verdicts.sheet import markdown_of, write_verdict
from reports.verdicts.spoken.load import spoken_load
from tests.scored_runs import WER, scored
from tests.test_compare_words import compared
from tests.test_report_html import page_of


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """What `f5bench quality-gate` leaves of a candidate that misreads words."""
    base, candidate = scored("a"), scored("b", {WER: 0.1})
    limits = read_quality_limits({"preset": "standard"})
    verdict = judge_quality(base, candidate, limits)
    found = JudgedQuality(baseline=base, candidate=candidate, limits=limits, verdict=verdict)
    (tmp_path / "verdict.json").write_text(to_json(quality_content(found, "2026-11-20T13:00:00+00:00")), "utf-8")
    (tmp_path / "summary.md").write_text(markdown_of(quality_sheet(found)), "utf-8")
    return tmp_path


def test_a_verdict_folder_has_a_page_that_begins_with_its_words(
    judged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(judged)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(judged / "report.html")]
    page = page_of(judged / "report.html")
    text = " ".join(" ".join(page.text).split())
    assert "f5bench: FAIL: quality of engine-b against engine-a" in text
    assert '<p class="verdict">Quality worse in words said wrongly (30 sentences).</p>' in (
        judged / "report.html"
    ).read_text("utf-8")
    assert '"outcome": "FAIL"' in text
    assert {head.get("scope") for head in page.all("th")} == {"col"}
    assert [part["id"] for part in page.all("details")] == ["measured", "summary", "json"]
    assert json.loads(page.scripts["markdown"]).startswith("## FAIL: quality of engine-b")
    assert "f5bench-gate" not in text, "the mark for bots is not for people"


def test_a_load_test_has_the_same_page(tmp_path: Path) -> None:
    level = {"name": "2/s", "requests_per_s": 1.98, "latency_p50": {"value_s": 0.48, "interval_s": [0.45, 0.5]}}
    level["latency_p95"] = {"value_s": None, "interval_s": None, "reason": "too few"}
    (tmp_path / "load.json").write_text(json.dumps({"status": "ok", "levels": [level]}), "utf-8")
    (tmp_path / "load.md").write_text("# Load: int8, closed\n\nHost class x; 172 answers heard.\n\n- a note\n", "utf-8")
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    page = page_of(tmp_path / "out" / "report.html")
    assert "Host class x; 172 answers heard." in page.text
    assert "a note" in page.text
    assert '<p class="verdict">1.98 requests/s, half of them answered within 480 ms.</p>' in (
        tmp_path / "out" / "report.html"
    ).read_text("utf-8")
    assert (tmp_path / "out" / "plots" / "latency.png").is_file()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"status": "invalid", "audio": {"num_heard": 9, "num_invalid": 2}},
         "2 of 9 answers heard are no whole speech"),
        ({"search": {"outcome": "ok", "holds_per_s": 2.0, "fails_per_s": 2.5}, "settings": {"limit_s": 0.5}},
         "2 requests/s hold 95 % of answers within 500 ms; 2.5 do not"),
        ({"status": "void", "reason": "the clocks were locked and are unlocked"},
         "no figures: the machine was not in order, the clocks were locked and are unlocked"),
        ({"status": "ok", "levels": []}, "no figures: too few requests were answered"),
    ],
)  # fmt: skip
def test_a_load_test_is_one_sentence(content: dict[str, object], said: str) -> None:
    assert spoken_load(content).endswith(said)


def test_a_comparison_begins_with_one_sentence_and_has_a_plot(tmp_path: Path) -> None:
    comparison = compared(0.70, 0.72, 0.71, 0.69)
    write_verdict(
        comparison_sheet(comparison), comparison_content(comparison, "2026-11-20T13:00:00+00:00", {}), tmp_path
    )
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text("utf-8")
    assert re.search(r'<p class="verdict">\d+ % faster \(\d+ to \d+ %\), quality not judged\.</p>', text)
    assert "time of a call" in text
    assert (tmp_path / "plots" / "changes.png").is_file()


@pytest.mark.parametrize(("name", "text"), [("summary.md", "words alone"), ("verdict.json", "{")])
def test_a_damaged_verdict_folder_costs_one_line(
    judged: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (judged / name).write_text(text, "utf-8")
    assert main([str(judged)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(judged / name) in line


def test_tags_in_a_summary_stay_text() -> None:
    assert "<script>" not in as_html("| a |\n|---|\n| <script>alert(1)</script> |\n\n<script>alert(2)</script>\n")
