"""`f5bench history`: folders of many days become courses, a review that names suspects, and one page."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from experiments.common.cli import run_verb
from experiments.history import PUBLISHED, log_of, main
from metrics.record import save_record
from reports.history.reading import read_folders, read_published
from tests.baseline_runs import SHARED
from tests.history_runs import night, write_nights

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SLOWER_FROM = 20
NIGHTS = [1.0] * SLOWER_FROM + [1.08] * 5


def commit_all(repository: Path, num: int) -> list[str]:
    """Hashes of that many empty commits, the oldest first."""
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    for number in range(num):
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", f"Change number {number}"], check=True)
    log = subprocess.run([*git, "log", "--reverse", "--format=%H"], check=True, capture_output=True, text=True)
    return log.stdout.split()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The history of a machine whose runs became 8 % slower on night 20, by one of the commits 4 and 5."""
    base = tmp_path_factory.mktemp("history")
    commits = commit_all(base / "repository", 7)
    by_night = [commits[3]] * SLOWER_FROM + [commits[5]] * (len(NIGHTS) - SLOWER_FROM)
    write_nights(base / "runs", NIGHTS, commits=by_night)
    words = [str(base / "runs"), "--out", str(base / "out"), "--repository", str(base / "repository")]
    assert run_verb(main, [*words, "--gate"]) == 10
    return base / "out"


def test_a_slower_night_is_found_and_its_commits_are_named(rendered: Path) -> None:
    found = {one["figure"]: one for one in json.loads((rendered / "history.json").read_text())["series"]}
    rtf = found["rtf"]
    assert (rtf["outcome"], rtf["is_paced"], len(rtf["runs"])) == ("FAIL", True, len(NIGHTS))
    (change,) = rtf["changes"]
    assert change["place"] == SLOWER_FROM
    assert change["low"] < 1.08 < change["high"]
    assert [one["subject"] for one in change["suspects"]["commits"]] == ["Change number 5", "Change number 4"]
    assert found["memory"]["outcome"] == "PASS"
    review = (rendered / "review.md").read_text()
    assert "## Worse" in review
    assert "Change number 4" in review
    assert "Change number 3" not in review
    assert "at most 1 % alarm in 30 runs" in review


def test_on_a_machine_that_is_not_steady_nothing_is_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nights(tmp_path / "runs", [1.0] * 16, SHARED)
    assert run_verb(main, [str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0, "a report; --gate judges"
    assert "runs differ by too much" in (tmp_path / "out/review.md").read_text()
    assert capsys.readouterr().out.startswith("INCONCLUSIVE: None of ")


def test_runs_that_may_not_be_believed_are_left_out_with_their_reason(tmp_path: Path) -> None:
    write_nights(tmp_path / "runs", [1.0, 1.0])
    (tmp_path / "runs/night-000/result.json").write_text("{")
    slow = {"valid": False, "reason": "another program", "ratio": 3.0}
    record = night(7)
    void = replace(record, environment={**record.environment, "machine": slow})
    save_record(void, tmp_path / "runs/void/result.json")
    reading = read_folders([tmp_path / "runs"])
    assert [run.run_id for run in reading.measured] == ["night-001"]
    reasons = {Path(one.where.partition(":")[0]).name: one.reason for one in reading.left_out}
    assert "JSON" in reasons["night-000"]
    assert reasons["void"].endswith("slower than its class when it was timed: another program")


def test_a_folder_whose_only_run_is_void_names_it_and_why_and_never_the_hidden_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    why = "its calibrations took 32.4 times as long"
    record = night(7)
    void = replace(record, environment={**record.environment, "machine": {"valid": False, "reason": why}})
    save_record(void, tmp_path / "outputs/mine/result.json")
    save_record(night(1), tmp_path / "outputs/.references/834ff4/result.json")
    assert run_verb(main, ["outputs"]) == 2
    left_out, error = capsys.readouterr().err.splitlines()
    assert left_out.startswith("left out: outputs/mine: ")
    assert left_out.endswith(why)
    assert error.startswith("error: outputs: no run shows a speed that counts; 1 run left out")


def test_how_many_runs_a_course_needs_is_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nights(tmp_path / "runs", [1.0] * 3)
    assert run_verb(main, [str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("INCONCLUSIVE: A course needs 15 runs of one level before it can be judged; ")
    assert "A course needs 15 runs" in (tmp_path / "out/review.md").read_text().split("## ")[0]


def test_a_run_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    runs = write_nights(tmp_path / "runs", [1.0, 1.0])
    assert len(read_folders([runs, runs / "night-001"]).measured) == 2


def test_what_is_published_is_read_as_it_stands_there() -> None:
    reading = read_published(PUBLISHED)
    one = next(run for run in reading.measured if run.variant == "upstream-euler_32" and "fastest_amd" in run.where)
    assert one.figures["rtf"] == 1.03
    assert (one.figures["p95"], one.figures["memory"], one.commit) == (8220, 1156, "bc8ff6c4e8cd")
    assert any("audio not checked" in left.reason for left in reading.left_out)


def ended(words: list[str]) -> int:
    """The exit code, where argparse ends the process as well."""
    try:
        return run_verb(main, words)
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "DIR: none was given"),
        (["nowhere"], "nowhere: no such folder"),
        (["."], "no result.json and no sweep.json in it or below"),
        (["--published", "--catch-ratio", "1"], "catch_ratio=1.0: must be above 1"),
        (["--selftest", "0"], "must be a whole number from 1"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended(words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_commits_that_git_does_not_know_are_told_as_that(tmp_path: Path) -> None:
    first = commit_all(tmp_path / "repository", 2)[0]
    assert log_of(tmp_path / "repository")(first, "0" * 40).reason
    assert log_of(tmp_path)(first, first).reason == "no repository was asked"


def test_the_page_sorts_filters_and_zooms_at_every_width(rendered: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (390, 820, 1440):
            _fits(browser, rendered / "history.html", width)
        browser.close()


def _fits(browser: Browser, path: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    errors: list[object] = []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    if width > 1000:
        _zooms(page)
    assert page.locator("#plot circle.run").count() == len(NIGHTS)
    assert errors == []
    page.close()


def _zooms(page: Page) -> None:
    box = page.locator("#plot svg").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + 60)
    page.mouse.up()
    assert page.locator("#plot circle.run").count() < len(NIGHTS)
    page.click("#back")
    assert page.locator("#plot circle.run").count() == len(NIGHTS)
    page.select_option("#by-outcome", "FAIL")
    shown = page.locator("#table tbody tr:visible")
    assert shown.count() == 2  # RTF and CPU time
    page.get_by_role("button", name="newest", exact=True).click()
    assert page.locator("#table th[aria-sort=ascending]").inner_text().startswith("newest")
