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
        page = browser.new_page(viewport={"width": 1800, "height": 900})
        page.set_default_timeout(SHOWN_MS)
        yield page
        browser.close()


def test_the_printed_address_opens_the_variants_fastest_first_with_their_numbers(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("text=int8-euler_3")
    text = page.inner_text("body")
    assert re.search(r"/experiments/\d+/runs", page.url)
    positions = [text.index(label) for label in reversed(LABELS)]
    assert positions == sorted(positions), "the fastest stands first"
    for header in ("rtf", "speedup_vs_upstream", "latency/p50_ms", "memory/peak_mib", "quality.verdict", "engine"):
        assert header in text
    for shown in ("0.0322", "8", "fail", "pass", "smoke (000000000000)"):
        assert shown in text
