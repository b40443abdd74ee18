"""The pages: every figure is one of a published file, every name is one of a preset, and together they are a site."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from reports.commands import ROOT
from reports.site.__main__ import main
from reports.site.published import places, tables_of, verdicts_of
from reports.site.results import PAGE, results_page

DOCS = ROOT / "docs"
CONFIG = ROOT / "reports" / "site" / "mkdocs.yml"
IDEAS = (DOCS / "ideas.md").read_text("utf-8")
CODE = re.compile(r"`[^`]*`")
DEFINED = dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", IDEAS, re.MULTILINE))
USED = re.compile(r"\[[^\]]*\]\[([\w-]+)\]|\[([\w-]+)\](?![\[(:])")
FIGURE = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
PRESET = re.compile(r"(?<![\w.])(engine|solver|vocoder|model|stream|experiment)=(\w+)")
SAMPLES = {"NAME"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def rows() -> Iterator[tuple[str, ...]]:
    """The measured rows of the page of ideas: idea, here, what it gave, quality, in one line, command."""
    for table in tables_of(IDEAS):
        if len(table.header) == 6:
            yield from table.rows


def links(text: str) -> list[str]:
    """Names of the definitions that a text refers to."""
    return [first or second for first, second in USED.findall(CODE.sub("", text))]


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row[0])
def test_every_figure_of_an_idea_stands_in_a_file_that_its_row_links(row: tuple[str, ...]) -> None:
    said = " ".join(row[2:5])
    figures = FIGURE.findall(CODE.sub("", said))
    linked = [DOCS / DEFINED[name] for name in links(said) if name in DEFINED]
    text = "\n".join(path.read_text("utf-8") for path in linked)
    assert [figure for figure in figures if not re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", text)] == []
    assert figures or "not measured" in said or row[2] in ("-", "not measured") or linked, "no figure, and none missing"


def test_every_definition_of_the_ideas_is_used_and_leads_somewhere() -> None:
    assert {name for name in links(IDEAS) if name in DEFINED} == set(DEFINED)
    assert [path for path in DEFINED.values() if not (DOCS / path).is_file()] == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_preset_that_a_page_names_is_there(page: Path) -> None:
    named = {(group, name) for code in CODE.findall(page.read_text("utf-8")) for group, name in PRESET.findall(code)}
    missing = [f"{group}={name}" for group, name in sorted(named)
               if name not in SAMPLES and not (ROOT / "conf" / group / f"{name}.yaml").is_file()]  # fmt: skip
    assert missing == []


@pytest.mark.parametrize(("page", "group"), [("solvers", "solver"), ("engines", "engine")])
def test_the_page_of_a_group_names_all_of_it(page: str, group: str) -> None:
    text = (DOCS / f"{page}.md").read_text("utf-8")
    assert [path.stem for path in (ROOT / "conf" / group).glob("*.yaml") if f"`{path.stem}`" not in text] == []


def test_the_results_page_is_what_the_published_files_make() -> None:
    assert PAGE.read_text("utf-8") == results_page(), "run `make results`"


REPORT = """# report
| measured on |  |
| --- | --- |
| model | pocket |

## Results

| variant | evals | RTF | x upstream-euler_32 | note |
| --- | ---: | ---: | ---: | --- |
| upstream-euler_32 | 32 | 1.00 | 1.00 |  |
| fast | 3 | 0.01 | 99.0 |  |
| good | 4 | 0.02 | 50.0 |  |
| fine | 5 | 0.03 | 40.0 |  |
| broken | 2 | - | - | audio invalid |
"""
GATE = """## {outcome}: quality of {name} against upstream-euler_32

| rule | baseline | candidate | effect (bounds) | limit | sentences | verdict |
|---|---:|---:|---|---:|---:|---|
| wer_frac (difference) | 0.1 | 0.2 | +0.01 (-0.02 to 0.03) | 0.03 | 86 of 86 | {said} |

"""
PAIR = """## PASS: good against upstream-euler_32

No regression. 24 pairs in 4 block(s) of fresh processes.

| metric | reference | candidate | ratio (bounds) | catch | verdict |
|---|---:|---:|---|---:|---|
| wall_time | 100 ms | 2 ms | x0.020 (0.018 to 0.021) | x1.05 | PASS |
"""


def published(folder: Path) -> Path:
    run = folder / "fastest_some-2c-cpu_2026-01-02"
    run.mkdir(parents=True)
    (run / "report.md").write_text(REPORT)
    gates = [("FAIL", "fast", "worse"), ("PASS", "fine", "not worse"), ("PASS", "good", "not worse"),
             ("PASS", "broken", "not worse")]  # fmt: skip
    (run / "verdicts.md").write_text("".join(GATE.format(outcome=o, name=n, said=s) for o, n, s in gates))
    (folder / "same_run_some-2c-cpu_2026-01-03.md").write_text(PAIR)
    return folder


def test_the_fastest_that_lost_nothing_is_neither_the_fastest_nor_one_without_a_speed(tmp_path: Path) -> None:
    best = results_page(published(tmp_path)).partition("## The fastest")[2].partition("\n## ")[0]
    assert "| some-2c-cpu | `good` | 50.0 | [x0.020 (0.018 to 0.021)]" in best
    assert "fast`" not in best
    assert "broken" not in best


def test_verdicts_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (pair,) = verdicts_of(folder / "same_run_some-2c-cpu_2026-01-03.md")
    assert (pair.outcome, pair.candidate, pair.base, pair.pairs) == ("PASS", "good", "upstream-euler_32", "24 in 4")
    gates = list(verdicts_of(folder / "fastest_some-2c-cpu_2026-01-02" / "verdicts.md"))
    assert [(gate.candidate, gate.outcome, gate.is_quality) for gate in gates] == [
        ("fast", "FAIL", True), ("fine", "PASS", True), ("good", "PASS", True), ("broken", "PASS", True),
    ]  # fmt: skip


def test_a_table_within_code_is_none_and_an_escaped_bar_divides_nothing() -> None:
    text = "```\n| a |\n|---|\n| 1 |\n```\n\n# Here\n\n| b \\| c | d |\n|---|---|\n| 2 | 3 |\n"
    (table,) = tables_of(text)
    assert (table.heading, table.header, table.rows) == ("Here", ("b \\| c", "d"), (("2", "3"),))


def test_what_is_published_under_a_name_without_a_date_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(ValueError, match=r"notes.md: published names are KIND_HOST-CLASS_YYYY-MM-DD; rename it"):
        places(tmp_path)
    monkeypatch.setattr("reports.site.__main__.results_page", lambda: results_page(tmp_path))
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("error: notes.md: published names")


def test_the_site_has_a_place_for_every_page() -> None:
    text = yaml.dump(yaml.safe_load(CONFIG.read_text("utf-8"))["nav"])
    pages = {path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *DOCS.glob("*.md")]}
    assert set(re.findall(r"[\w/-]+\.md", text)) == pages


def built(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("material", reason="mkdocs-material is in the extra docs")
    pytest.importorskip("mkdocstrings_handlers.python", reason="mkdocstrings-python is in the extra docs")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "reports/site/mkdocs.yml"]
    return subprocess.run(
        [*command, "--site-dir", str(out)], cwd=root, env={**os.environ, **nowhere}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = built(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_the_site_asks_nobody_and_holds_what_is_linked(site: Path) -> None:
    for page in ("index", "docs/ideas", "docs/results", "CONTRIBUTING"):
        text = (site / f"{page}.html").read_text("utf-8")
        fetched = re.findall(r"<(?:script|link|img|audio|source)\b[^>]*\b(?:src|href)=\"?(https?://[^\s\">]+)", text)
        assert fetched == [], "opened from a disk, it loads nothing from elsewhere"
    interface = (site / "docs" / "api.html").read_text("utf-8")
    for name in ("synthesize", "RunRecord", "EXIT_CODES", "f5bench_gate"):
        assert name in interface
    assert list((site / "reports" / "published").rglob("report.html")), "the reports that pages link to"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_its_pages_fit_the_window(site: Path, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for name in ("index", "docs/ideas", "docs/results", "docs/api"):
            page.goto(f"{(site / name).as_uri()}.html")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.slow
def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    for room in ("docs", "reports", "engine", "metrics", "experiments"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for page in ROOT.glob("*.md"):
        shutil.copy(page, tmp_path)
    with (tmp_path / "docs" / "quality.md").open("a", encoding="utf-8") as page:
        page.write("\n[gone](no-such-page.md) and [moved](solvers.md#no-such-heading)\n")
    done = built(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "no-such-page.md" in done.stderr
    assert "no-such-heading" in done.stderr
