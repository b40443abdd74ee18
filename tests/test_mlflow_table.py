"""MLflow's own page in a real browser, on a real server: the address that a sync prints opens a table to be read."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.common.cli import run_verb
from experiments.tracking.__main__ import main
from experiments.tracking.view import all_runs
from tests.test_tracking_overview import LABELS, judge, swept
from tests.test_tracking_server import Server
from tests.tracking_folders import keep_environment

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytest.importorskip("mlflow")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]
SHOWN_MS = 60_000


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, socket_enabled: None, capsys: Any) -> Iterator[str]:
    """What a sync of a judged sweep of three variants prints."""
    keep_environment(monkeypatch)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    judge(swept(tmp_path / "sweep"), fp32="PASS", int8="FAIL")
    (tmp_path / "mlflow").mkdir()
    server = Server(tmp_path / "mlflow")
    try:
        server.start()
        assert run_verb(main, ["sync", str(tmp_path / "sweep"), "--uri", server.uri]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mlflow ")]
        yield line.split()[1]
    finally:
        server.kill()


@pytest.fixture
def page() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 2000, "height": 900})
        page.set_default_timeout(SHOWN_MS)
        yield page
        browser.close()


def test_the_printed_address_opens_the_variants_fastest_first_with_their_numbers(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("text=upstream-euler_32")
    assert re.search(r"/experiments/\d+/runs\?", page.url)
    names = page.eval_on_selector_all(
        ".ag-row [col-id='attributes.`Run Name`'] a",
        "links => links.map(a => [Number(a.closest('.ag-row').getAttribute('row-index')), a.innerText])",
    )
    assert [name for _, name in sorted(names)] == [*reversed(LABELS)], "and no row beside those of the sweep"
    shown = {
        "metrics.`rtf`": ["0.03219", "0.06438", "0.2575"], "metrics.`speedup_vs_upstream`": ["8", "4", "1"],
        "tags.`quality.verdict`": ["fail", "pass", "-"], "metrics.`latency/p50_ms`": ["64.38", "128.8", "515"],
        "params.`engine`": ["int8", "fp32", "upstream"],
    }  # fmt: skip
    for name, texts in shown.items():
        assert column(page, name) == texts, name


def test_the_description_of_a_sweep_names_the_fastest_that_lost_nothing(page: Any, address: str) -> None:
    page.goto(all_runs(address))
    page.wait_for_selector("text=sweep")
    assert column(page, "metrics.`best_rtf`") == ["0.06438"]
    assert column(page, "tags.`best.label`") == ["fp32-euler_7"]
    page.click("text=sweep >> nth=0")
    page.wait_for_selector("text=Fastest that lost nothing: fp32-euler_7")
    assert "faster, but loses words: int8-euler_3" in page.inner_text("body")


def column(page: Any, name: str) -> list[str]:
    """What stands in a column of MLflow's name, below a header that says its short name, from the first row down."""
    page.wait_for_selector(f'.ag-header-cell[col-id="{name}"]')
    header = page.locator(f'.ag-header-cell[col-id="{name}"]').inner_text().strip()
    assert header == name.split("`")[1]
    texts = page.eval_on_selector_all(
        f'.ag-row [col-id="{name}"]',
        "cells => cells.map(c => [Number(c.closest('.ag-row').getAttribute('row-index')), c.innerText.trim()])",
    )
    return [text for _, text in sorted(texts)]
