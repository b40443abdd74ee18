"""The page of a verdict folder: the same template, the summary's words, the JSON behind them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baselines.quality.gate import judge_quality
from experiments.settings.words import read_quality_limits
from metrics.record import to_json
from reports.__main__ import main
from reports.verdicts.page import as_html
from reports.verdicts.quality import JudgedQuality, quality_content, quality_sheet
from reports.verdicts.sheet import markdown_of
from tests.scored_runs import WER, scored
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
    assert '<p class="verdict">Worse.</p>' in (judged / "report.html").read_text("utf-8")
    assert '"outcome": "FAIL"' in text
    assert {head.get("scope") for head in page.all("th")} == {"col"}
    assert [part["id"] for part in page.all("details")] == ["json"]
    assert json.loads(page.scripts["markdown"]).startswith("## FAIL: quality of engine-b")
    assert "f5bench-gate" not in text, "the mark for bots is not for people"


def test_a_load_test_has_the_same_page(tmp_path: Path) -> None:
    (tmp_path / "load.json").write_text('{"levels": []}', "utf-8")
    (tmp_path / "load.md").write_text("# Load: int8, closed\n\nHost class x; 172 answers heard.\n\n- a note\n", "utf-8")
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    page = page_of(tmp_path / "out" / "report.html")
    assert "Host class x; 172 answers heard." in page.text
    assert "a note" in page.text


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
