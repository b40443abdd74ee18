"""The listening page in a real browser, from disk and without a network: keys, reload, switching, results."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.listening.__main__ import main
from reports.listening.judging.collect import collect
from reports.listening.making.build import Built, build_set
from reports.listening.serve import Refused, handler_for
from reports.listening.study.settings import BuildSettings
from tests.listening_runs import two_runs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
SHOWN_MS = 15_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # Without a GPU or a sound card; the audio clock runs all the same
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--mute-audio", "--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """No network; whatever the page would ask for or complain about fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1100, "height": 900}, accept_downloads=True)
    context.set_default_timeout(SHOWN_MS)
    trouble: list[str] = []
    context.on("weberror", lambda error: trouble.append(str(error.error)))
    context.on(
        "request", lambda request: trouble.extend([request.url] * (not request.url.startswith(("file:", "blob:"))))
    )
    yield context
    context.close()
    assert trouble == []


def build(folder: Path, method: str = "ab", pairs: int = 3, duration_s: float = 0.3) -> Built:
    runs = two_runs(folder / "runs", num_sentences=4, duration_s=duration_s)
    return build_set(BuildSettings(runs=tuple(runs), out=folder / "set", method=method, num_pairs=pairs, seed=5))


def begin(page: Any, built: Built, listener: str = "L01") -> None:
    page.goto(built.page.as_uri())
    page.keyboard.type(listener)
    page.keyboard.press("Enter")
    page.wait_for_selector(".stimulus")


def hear(page: Any, keys: str) -> None:
    """Play each clip to its end."""
    for place, key in enumerate(keys):
        page.keyboard.press(key)
        page.wait_for_function("([i, s]) => trialScreen.channelsHeard[i] >= s && !player.isPlaying", arg=[place, 0.95])


def answer(page: Any, hear_keys: str, answer_keys: tuple[str, ...]) -> None:
    position = page.evaluate("session.state.position")
    hear(page, hear_keys)
    for key in answer_keys:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_function("p => !trialScreen || session.state.position !== p", arg=position)


def saved_result(page: Any, out: Path) -> Path:
    page.wait_for_selector("#download")
    with page.expect_download() as download:
        page.keyboard.press("Enter")  # the button has the focus
    path = out / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_keys_alone_from_the_first_screen_to_the_results_with_a_reload_in_between(context: Any, tmp_path: Path) -> None:
    built = build(tmp_path)
    page = context.new_page()
    begin(page, built)
    num_turns = page.evaluate("session.numTurns")
    assert num_turns == 1 + 3 + 1 + 1  # practice, pairs, a catch trial, an identical pair
    page.keyboard.press("Enter")  # nothing heard, nothing answered
    assert page.evaluate("session.state.position") == 0
    assert "to its end" in page.inner_text("#hint")
    answer(page, "ab", ("q", "2", "a", "5"))
    hear(page, "a")
    page.keyboard.press("4")
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    page.wait_for_selector("[data-listener=L01]")
    assert "1 of 6 done" in page.inner_text("main")
    page.keyboard.press("Enter")  # Continue as L01 has the focus
    page.wait_for_selector(".stimulus")
    assert page.evaluate("[session.state.position, session.answer.response.rating_a]") == [1, 4]
    for _ in range(num_turns - 1):
        # 1 to 5 rate what was heard last: B; A keeps or gets its own
        answer(page, "ab", ("w", "3", "a", "3", "Space"))
    path = saved_result(page, tmp_path)
    collected = collect([str(built.page.parent), str(path)])
    (screened,) = collected.findings.screened
    assert len(screened.listener.answers) == num_turns
    practice = next(a for a in screened.listener.answers if a.kind == "practice")
    assert practice.response == {"preference": "first", "rating_a": 5, "rating_b": 2}
    # Half a second of audio each was really waited for
    assert min(a.time_s for a in screened.listener.answers) >= 2 * 0.3 * 0.95
    assert [check.name for check in screened.checks if not check.is_passed] == ["catch trials missed"]


METHOD_KEYS = {
    "abx": ("abx", ("q",)),
    "ccr": ("ab", ("6",)),
    "dcr": ("rs", ("4",)),
    "mushra": ("rabc", ("8", "a", "0", "b", "4", "ArrowUp")),
}


@pytest.mark.parametrize("method", METHOD_KEYS)
def test_every_method_runs_by_keys_and_comes_back(context: Any, tmp_path: Path, method: str) -> None:
    built = build(tmp_path, method, pairs=2, duration_s=0.2)
    page = context.new_page()
    begin(page, built, "Ana")
    for _ in range(page.evaluate("session.numTurns")):
        answer(page, *METHOD_KEYS[method])
    (screened,) = collect([str(built.page.parent), str(saved_result(page, tmp_path))]).findings.screened
    given = [a.response for a in screened.listener.answers if a.kind == "pair"]
    expected = {"abx": {"match": 0}, "ccr": {"ccr": 2}, "dcr": {"dcr": 4}, "mushra": {"ratings": [None, 100, 41, 80]}}
    assert given == [expected[method]] * 2


def test_switching_leaves_no_gap_and_keeps_the_sample(context: Any, tmp_path: Path) -> None:
    page = context.new_page()
    begin(page, build(tmp_path))
    run = "async ([channels, switches]) => Array.from(await listening.renderSwitches(channels.map((c) => Float32Array.from(c)), 24000, switches))"  # noqa: E501
    switches = [[0.01, 1], [0.0213, 0], [0.023, 1], [0.04, 0]]  # the third comes before the second's ramp is over
    tone_S = 0.5 + 0.4 * np.sin(np.arange(2400) / 7)
    same_S = np.array(page.evaluate(run, [[tone_S.tolist()] * 2, switches]))
    np.testing.assert_allclose(same_S, tone_S, atol=1e-6)
    other_S = np.linspace(2, 3, 2400)
    mixed_S = np.array(page.evaluate(run, [[tone_S.tolist(), other_S.tolist()], [[0.05, 1]]]))
    assert np.count_nonzero(mixed_S == 0) == 0
    np.testing.assert_allclose(mixed_S[:1200], tone_S[:1200], atol=1e-6)
    np.testing.assert_allclose(
        mixed_S[1200 + 120 :], other_S[1200 + 120 :], atol=1e-6
    )  # 5 ms later: B at its own sample
    assert np.all((mixed_S[1201:1319] > tone_S[1201:1319]) & (mixed_S[1201:1319] < other_S[1201:1319]))


def test_the_page_decodes_exactly_what_was_put_in(context: Any, tmp_path: Path) -> None:
    from tests.test_listening_build import clips_of

    built = build(tmp_path)
    page = context.new_page()
    begin(page, built)
    for clip_id, pcm_S in list(clips_of(built.page).items())[:3]:
        decoded = page.evaluate("id => Array.from(listening.clipSamples(id))", clip_id)
        np.testing.assert_array_equal(np.array(decoded) * 32768, pcm_S)


def test_loop_and_position_by_keys(context: Any, tmp_path: Path) -> None:
    page = context.new_page()
    begin(page, build(tmp_path))
    page.focus(".wave")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("player.position()") == pytest.approx(0.25)
    page.keyboard.press("]")  # repeat from the start up to here
    assert page.get_attribute(".wave", "aria-valuetext") == "0.0 of 0.3 seconds"
    assert page.evaluate("[player.isLooping, ...player.region]") == [True, 0, pytest.approx(0.25)]
    page.keyboard.press("a")
    page.wait_for_function("() => player.context.currentTime - player.startedAt > 0.6")
    assert page.evaluate("player.isPlaying && player.position() < 0.25")
    page.keyboard.press("o")
    page.wait_for_function("() => !player.isPlaying")
    assert page.evaluate("trialScreen.channelsHeard[0]") > 0.95


def test_a_screen_reader_finds_names_and_news(context: Any, tmp_path: Path) -> None:
    page = context.new_page()
    begin(page, build(tmp_path))
    tree = page.locator("body").aria_snapshot()
    for part in ('heading "Listen to A and B"', 'group "Which one sounds better?"', 'radio "No difference"',
                 'slider "Position in the clip"', 'radio "5, Excellent"', 'button "Next"', "progressbar"):  # fmt: skip
        assert part in tree, part
    assert page.evaluate("document.activeElement.tagName") == "H1"
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('live').textContent === 'Listen to A to its end'")
    reached = [page.evaluate("document.activeElement.textContent || document.activeElement.className")]
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.textContent.slice(0, 1) || document.activeElement.className")
        )
    assert reached[1:3] == ["A", "B"]
    assert reached[3] == "wave"


def test_it_fits_a_phone(browser: Any, tmp_path: Path) -> None:
    built = build(tmp_path, "mushra")
    context = browser.new_context(viewport={"width": 340, "height": 640}, has_touch=True, is_mobile=True, offline=True)
    page = context.new_page()
    page.goto(built.page.as_uri())
    page.fill("#listener", "phone")
    page.tap("button[type=submit]")
    page.tap(".stimulus >> nth=1")
    page.wait_for_function("() => trialScreen.channelsHeard[1] >= 0.95")
    assert page.evaluate("document.documentElement.scrollWidth") <= 340
    assert (
        min(page.evaluate("[...document.querySelectorAll('main button, .bar button')].map((b) => b.offsetHeight)"))
        >= 38
    )
    context.close()


def test_a_served_page_moves_on_only_when_the_answer_is_on_disk(browser: Any, tmp_path: Path) -> None:
    built = build(tmp_path, "ccr", pairs=1, duration_s=0.2)
    folder = built.page.parent
    handler, posts = handler_for(folder), []

    def reply(route: Any) -> None:
        """The server's own parts, without a socket; the second answer meets a full disk once."""
        if route.request.method == "GET":
            return route.fulfill(body=handler.page, content_type="text/html; charset=utf-8")
        posts.append(route.request.post_data_json)
        if len(posts) == 3:
            return route.fulfill(status=507, body="the disk refused it")
        try:
            handler.book.write(route.request.post_data_buffer)
        except Refused as error:
            return route.fulfill(status=400, body=str(error))
        return route.fulfill(body="saved")

    context = browser.new_context()
    context.set_default_timeout(SHOWN_MS)
    context.route("http://127.0.0.1:8710/**", reply)
    page = context.new_page()
    page.goto("http://127.0.0.1:8710/")
    page.keyboard.type("lab 7")
    page.keyboard.press("Enter")
    page.wait_for_selector(".stimulus")
    answer(page, "ab", ("7",))
    (journal,) = (folder / "answers").glob("*.jsonl")
    assert [json.loads(line)["kind"] for line in journal.read_text().splitlines()] == ["session", "answer"]
    hear(page, "ab")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hint.error")
    assert "the disk refused it" in page.inner_text("#hint")
    assert page.evaluate("session.state.position") == 1
    assert len(journal.read_text().splitlines()) == 2
    page.keyboard.press("Enter")
    page.wait_for_function("() => session.state.position === 2")
    assert json.loads(journal.read_text().splitlines()[-1])["answer"]["response"] == {"ccr": -2}
    for _ in range(page.evaluate("session.numTurns") - 2):
        answer(page, "ab", ("4",))
    context.close()
    (screened,) = collect([str(folder)]).findings.screened
    assert (screened.listener.name, len(screened.listener.answers)) == ("lab 7", 4)


def test_the_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"reports.listening {verb}" in shown for verb in ("build", "serve", "collect"))
