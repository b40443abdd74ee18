"""The report in a real browser, from disk and without a network: heights, widths, sound, keys, accessibility."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from reports.render.every import render_report
from tests.report_sweeps import MANY
from tests.test_report_data import write_sweep

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
SHOWN_MS = 15_000
MOST_PIXELS = 3000
WIDTHS = (1400, 800, 390)
# Both sides end in a meter that keeps the loudest sample of a window, so that a gap would be seen
METER = """
() => {
  const played = player.play.bind(player);
  player.play = async () => {
    await played();
    player.meters = player.gains.map((gain) => {
      const meter = player.context.createAnalyser();
      meter.fftSize = 2048;
      gain.connect(meter);
      return meter;
    });
  };
  window.levels = () => player.meters.map((meter) => {
    const samples = new Float32Array(meter.fftSize);
    meter.getFloatTimeDomainData(samples);
    return Math.max(...samples.map(Math.abs));
  });
}
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page of thirteen variants."""
    folder = write_sweep(tmp_path_factory.mktemp("page") / "sweep", MANY)
    render_report(folder)
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        arguments = ["--mute-audio", "--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """No network; whatever the page would ask for or complain about fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(SHOWN_MS)
    trouble: list[str] = []
    context.on("weberror", lambda error: trouble.append(str(error.error)))
    context.on(
        "request", lambda request: trouble.extend([request.url] * (not request.url.startswith(("file:", "data:"))))
    )
    yield context
    context.close()
    assert trouble == []


@pytest.fixture
def page(context: Any, report: str) -> Any:
    page = context.new_page()
    page.goto(report)
    return page


def test_thirteen_variants_folded_are_no_taller_than_three_screens(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollHeight") <= MOST_PIXELS
    assert page.evaluate("document.querySelectorAll('#first tbody tr').length") == 12, "and one without a speed below"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("unfolded", [False, True])
def test_nothing_runs_over_the_edge(page: Any, width: int, unfolded: bool) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    if unfolded:
        page.click("#unfold")
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.evaluate(
        """() => [...document.querySelectorAll("main *, header *")].filter((part) => {
          const box = part.getBoundingClientRect();
          return box.width && box.right > innerWidth + 1 && !part.closest(".scroll, pre, .seen-by-readers, svg");
        }).map((part) => part.outerHTML.slice(0, 80))"""
    )
    assert cut == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_first_column_stays_while_the_rest_moves(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("document.getElementById('results').open = true")
    moved = page.evaluate(
        """() => {
          const scroll = document.querySelector("#results .scroll");
          const name = scroll.querySelector("tbody th");
          const before = name.getBoundingClientRect().left;
          scroll.scrollLeft = 300;
          return [before - name.getBoundingClientRect().left, scroll.scrollLeft, name.offsetWidth / innerWidth];
        }"""
    )
    assert abs(moved[0]) <= 1
    assert moved[1] > 0 or width == max(WIDTHS)
    assert moved[2] < 0.5, "and leaves room for what it names"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("unfolded", [False, True])
def test_axe_finds_nothing_serious(page: Any, scheme: str, unfolded: bool) -> None:
    """Contrast, names, roles, order of headings, regions that scroll by keyboard."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    page.emulate_media(color_scheme=scheme)
    if unfolded:
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    found = axe.run(page).response["violations"]
    serious = [(v["id"], v["nodes"][0]["html"][:120]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []


def test_the_drawing_follows_the_page_into_the_dark(page: Any) -> None:
    colour = "getComputedStyle(document.querySelector('.chart .tick')).fill"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colour) != light
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"


def test_clips_have_the_length_that_the_run_made(page: Any) -> None:
    lengths = page.evaluate(
        """async () => {
          player.context ??= new AudioContext();
          const clips = sentences.flatMap((sentence) => sentence.clips);
          return Promise.all(clips.map(async (clip) => [clip.seconds, (await player.decode(clip)).duration]));
        }"""
    )
    assert {seconds for seconds, _ in lengths} == {0.75, 1.0, 1.5, 2.0}
    assert all(abs(said - heard) < 0.002 for said, heard in lengths)
    assert page.inner_text("#player-clock") == "0.0 of 1.00 s"


def test_switching_leaves_no_gap_and_one_plays_at_a_time(page: Any) -> None:
    """Of a sentence with sound throughout, the meters are read in every frame while the side is changed."""
    page.evaluate(METER)
    page.select_option(
        "#player-sentence", label=page.evaluate("document.querySelector('#player-sentence').options[1].text")
    )
    page.evaluate(
        """() => {  // a steady tone in place of speech, whose pauses would look like gaps
          player.decode = async () => {
            const buffer = player.context.createBuffer(1, 2 * player.context.sampleRate, player.context.sampleRate);
            buffer.getChannelData(0).forEach((_, i, samples) => { samples[i] = Math.sin(i / 10); });
            return buffer;
          };
        }"""
    )
    page.click("#player-play")
    page.wait_for_function("player.isPlaying && player.time > 0.15")
    before = page.evaluate("player.time")
    levels = page.evaluate(
        """async () => {
          const seen = [];
          for (let frame = 0; frame < 40; frame += 1) {
            if (frame === 10) player.radios[1].click();
            if (frame === 25) player.radios[0].click();
            await new Promise(requestAnimationFrame);
            seen.push(levels());
          }
          return seen;
        }"""
    )
    assert min(max(pair) for pair in levels) > 0.5, "somebody is heard in every frame"
    assert levels[9][1] < 0.01
    assert levels[9][0] > 0.9
    assert levels[24][0] < 0.01
    assert levels[24][1] > 0.9
    assert page.evaluate("player.time") > before, "the clock ran on"
    assert page.evaluate("player.sources.length") == 2


def test_a_sentence_plays_to_its_end_and_can_be_paused_and_sought(page: Any) -> None:
    page.click("#player-play")
    page.wait_for_function("player.isPlaying")
    assert page.inner_text("#player-play") == "Pause"
    page.click("#player-play")
    page.wait_for_function("!player.isPlaying")
    at = page.evaluate("player.offset")
    assert 0 <= at < 1
    page.evaluate("player.seek(0.8)")
    page.click("#player-play")
    page.wait_for_function("!player.isPlaying && player.offset === 0")
    assert page.inner_text("#player-play") == "Play"


def test_the_player_begins_with_the_reference_and_the_variant_of_the_verdict(page: Any) -> None:
    chosen = page.evaluate("player.clips.map((clip) => clip.label)")
    assert chosen == ["upstream-euler_32", "onnx_int8-fitted_3-vocoder=vocos_onnx"]
    page.select_option("#player-b", label="fp32-euler_7")
    page.select_option("#player-sentence", "1")
    assert page.evaluate("player.clips[1].label") == "fp32-euler_7", "another sentence keeps the choice"


def test_keys_alone_reach_and_work_everything(page: Any) -> None:
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 30)")
        )
    for wanted in ("copy", "player-sentence", "player-hear-a", "player-a", "player-b", "player-play", "unfold"):
        assert wanted in reached
    assert (
        reached.index("copy")
        < reached.index("player-sentence")
        < reached.index("player-play")
        < reached.index("unfold")
    )
    page.focus("#player-hear-a")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("player.side") == 1
    page.focus("#scores > summary")
    page.keyboard.press("Enter")
    assert page.evaluate("document.getElementById('scores').open")


def test_the_contents_unfold_what_they_lead_to(page: Any) -> None:
    page.click("nav a[href='#built']")
    page.wait_for_function("document.getElementById('built').open")
    assert page.evaluate("Math.abs(document.getElementById('built').getBoundingClientRect().top)") < 900
    page.goto(page.url.split("#")[0] + "#measured")
    page.reload()
    assert page.evaluate("document.getElementById('measured').open"), "a link that was mailed does too"


def test_columns_sort_by_number(page: Any) -> None:
    page.click("#first th:has-text('times as fast') button")
    values = page.evaluate(
        "[...document.querySelectorAll('#first tbody tr')].map((row) => Number(row.cells[1].dataset.sort))"
    )
    assert values == sorted(values)
    page.click("#first th:has-text('times as fast') button")
    first = page.evaluate("document.querySelector('#first tbody th').textContent")
    assert first == "onnx_int8-fitted_3-vocoder=vocos_onnx"
    assert page.get_attribute("#first th:has-text('times as fast')", "aria-sort") == "descending"


def test_copies_the_verdict_and_the_table(page: Any) -> None:
    page.click("#copy")
    page.wait_for_function("document.getElementById('copied').textContent !== ''")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith("**Quality not judged. Fastest: ")
    assert "| onnx_int8-fitted_4 | 15.0 |" in text
    assert page.inner_text("#copied") == "Copied: verdict and table."


def test_paper_has_everything_unfolded_and_no_player(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert not page.is_visible("#player")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.querySelectorAll('main > details[open]').length") == 0


def test_without_a_script_everything_but_the_player_is_there(browser: Any, report: str) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(report)
    assert page.is_visible(".verdict")
    assert "The player needs JavaScript" in page.inner_text("main")
    page.click("#measured > summary")
    assert page.is_visible("#measured dl")
    context.close()
