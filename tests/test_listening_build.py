"""A listening set as it lies on disk: nothing gives a system away, everything is equally loud, orders are balanced."""

import base64
import hashlib
import itertools
import json
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from reports.listening.__main__ import main
from reports.listening.making.build import build_set
from reports.listening.making.loudness import (
    anchor,
    common_target_lufs,
    level_of,
    loudness_lufs,
    to_pcm,
    true_peak_dbtp,
)
from reports.listening.making.page import Names, mask
from reports.listening.making.plan import Plan, Wish, make_plan
from reports.listening.study.settings import BuildSettings, ListeningError
from tests.engines import ROOT
from tests.listening_runs import RATE_HZ, payload_of, two_runs, voiced, write_listening_run

PCM_SCALE = 32767.0
CLIP = re.compile(r'<script type="text/plain" id="clip-(\w+)" data-nonce="(\d+)">([^<]*)<')


def from_pcm(pcm_S: np.ndarray) -> np.ndarray:
    return pcm_S / PCM_SCALE


def clips_of(page: Path) -> dict[str, np.ndarray]:
    """Clip id -> (S,) int16, taken out of the HTML."""
    return {
        clip_id: mask(np.frombuffer(base64.b64decode(data), dtype="<i2"), int(nonce))
        for clip_id, nonce, data in CLIP.findall(page.read_text("utf-8"))
    }


def settings(folder: Path, **changes: object) -> BuildSettings:
    runs = changes.pop("runs", None) or tuple(two_runs(folder / "runs"))
    return BuildSettings(runs=runs, out=folder / "set", **{"seed": 3, **changes})  # type: ignore[arg-type]


def test_twenty_sentences_build_in_time_and_nothing_names_a_system(tmp_path: Path) -> None:
    runs = tuple(two_runs(tmp_path / "runs", num_sentences=20, duration_s=3.0))
    begun = time.monotonic()
    built = build_set(settings(tmp_path, runs=runs, num_pairs=20))
    assert time.monotonic() - begun <= 30
    text = built.page.read_text("utf-8").lower()
    engines = {path.stem for path in (ROOT / "conf/engine").glob("*.yaml")}
    solvers = {path.stem for path in (ROOT / "conf/solver").glob("*.yaml")}
    used = {"fp32", "int8", "euler", "euler_7", "fp32-euler_7", "run-fp32-euler_7"}
    for name in used:
        assert name not in text, name
    for name in engines | solvers:
        # In the words of the page and script; encoded audio holds any three letters somewhere
        assert not re.search(rf"\b{name}\b", CLIP.sub("", text)), name
    assert str(tmp_path) not in text
    assert "http" not in CLIP.sub("", text).replace("http-equiv", "")


def test_names_are_found_whole_or_inside() -> None:
    names = Names(["int8", "amp"])
    assert names.found_in("a Print8er") == "int8"
    assert names.found_in("clamp(sample)") is None
    assert names.found_in("the AMP engine") == "amp"


def test_a_name_in_the_title_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(path) for path in two_runs(tmp_path / "runs", 3)]
    assert main(["build", *runs, "title=INT8 or not", f"out={tmp_path / 'set'}"]) == 2
    assert "'int8'" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("method", ["ab", "mushra"])
@pytest.mark.parametrize("duration_s", [0.25, 1.0])
def test_every_clip_is_equally_loud_and_unclipped(tmp_path: Path, method: str, duration_s: float) -> None:
    runs = tuple(two_runs(tmp_path / "runs", 6, duration_s))
    built = build_set(settings(tmp_path, runs=runs, method=method))
    clips = [from_pcm(pcm_S) for pcm_S in clips_of(built.page).values()]
    loud = [loudness_lufs(clip_S, RATE_HZ) for clip_S in clips]
    assert max(loud) - min(loud) <= 0.1
    assert max(true_peak_dbtp(clip_S) for clip_S in clips) <= -0.9
    key = json.loads(built.key.read_text())
    gains = {clip["system"]: clip["gain_db"] for clip in key["clips"].values() if clip["utterance_id"] == "s01"}
    assert gains["int8-euler_7"] - gains["fp32-euler_7"] == pytest.approx(6.02, abs=0.3)


def test_loudness_of_a_known_tone() -> None:
    """BS.1770: a full-scale 997 Hz sine in one channel is at -3.01 LUFS."""
    tone_S = np.sin(2 * np.pi * 997 * np.arange(2 * 48_000) / 48_000)
    assert loudness_lufs(tone_S, 48_000) == pytest.approx(-3.01, abs=0.05)
    assert loudness_lufs(tone_S[: 48_000 // 5], 48_000) == pytest.approx(-3.01, abs=0.2)
    assert loudness_lufs(np.zeros(48_000), 48_000) == -np.inf


def test_a_peaky_clip_lowers_the_level_of_all() -> None:
    peaky_S = voiced(1, 1.0)
    peaky_S[5000] = 1.5
    levels = [level_of(voiced(0, 1.0), RATE_HZ), level_of(peaky_S, RATE_HZ)]
    target = common_target_lufs(levels)
    assert target < -23.0
    gain_db = target - levels[1].loudness_lufs
    assert true_peak_dbtp(from_pcm(to_pcm(peaky_S, gain_db))) == pytest.approx(-1.0, abs=0.05)


def test_the_anchor_keeps_time_and_loses_the_treble() -> None:
    noise_S = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(anchor(noise_S, RATE_HZ))) / np.abs(np.fft.rfft(noise_S))
    hz = np.fft.rfftfreq(RATE_HZ, 1 / RATE_HZ)
    assert np.median(spectrum[hz < 3000]) == pytest.approx(1.0, abs=0.01)
    assert np.median(spectrum[hz > 4500]) < 0.01
    assert np.argmax(np.correlate(anchor(noise_S, RATE_HZ)[500:-500], noise_S, "valid")) == 500


def test_the_mask_undoes_itself_and_hides_equal_audio() -> None:
    pcm_S = np.arange(-500, 500, dtype="<i2")
    np.testing.assert_array_equal(mask(mask(pcm_S, 77), 77), pcm_S)
    assert not np.array_equal(mask(pcm_S, 77), mask(pcm_S, 78))


def test_identical_pairs_are_identical_and_do_not_look_it(tmp_path: Path) -> None:
    built = build_set(settings(tmp_path))
    key, clips = json.loads(built.key.read_text()), clips_of(built.page)
    (one, two), *_ = [trial["clips"] for trial in key["trials"].values() if trial["kind"] == "identical"]
    np.testing.assert_array_equal(clips[one], clips[two])
    raw = {clip_id: data for clip_id, _, data in CLIP.findall(built.page.read_text("utf-8"))}
    assert raw[one] != raw[two]


def test_the_key_is_committed_and_holds_what_the_page_does_not(tmp_path: Path) -> None:
    built = build_set(settings(tmp_path))
    page, key = payload_of(built.page), json.loads(built.key.read_text())
    assert page["key_sha256"] == hashlib.sha256(built.key.read_bytes()).hexdigest()
    assert page["set_sha256"] == key["set_sha256"]
    assert {trial["id"] for trial in page["trials"]} == set(key["trials"])
    assert set(page["trials"][0]) == {"id", "text", "clips"}
    assert [system["name"] for system in key["systems"]] == ["fp32-euler_7", "int8-euler_7"]
    assert (built.key.parent / key["systems"][0]["folder"] / "result.json").is_file()
    assert set(clips_of(built.page)) == set(key["clips"])


def plan_of(method: str, systems: tuple[str, ...] = ("p", "q"), num_sentences: int = 36, num_pairs: int = 30) -> Plan:
    sentences = tuple((f"s{i}", f"c{i % 6}") for i in range(num_sentences))
    wish = Wish(method=method, systems=systems, sentences=sentences, num_pairs=num_pairs, reference=systems[0])
    return make_plan(wish, np.random.default_rng(2))


def test_thirty_pairs_by_default_with_their_controls() -> None:
    plan = plan_of("ab")
    assert Counter(t.kind for t in plan.trials) == {"practice": 1, "pair": 30, "catch": 3, "identical": 3, "repeat": 2}
    chosen = [t.utterance_id for t in plan.trials if t.kind == "pair"]
    assert len(set(chosen)) == 30
    assert set(Counter(int(name[1:]) % 6 for name in chosen).values()) == {5}  # five of each category


@pytest.mark.parametrize("method", ["ab", "ccr", "abx"])
def test_sides_are_balanced_within_a_listener_and_between_neighbours(method: str) -> None:
    plan = plan_of(method)
    for even, odd in itertools.pairwise(plan.schedules):
        sides = {turn.trial: turn.order for turn in even}
        pairs = [i for i, trial in enumerate(plan.trials) if trial.kind == "pair"]
        first = sum(plan.trials[i].roles[sides[i][0]].system == "p" for i in pairs)
        assert first == 15
        assert sorted(t.trial for t in odd) == sorted(sides)
    for even, odd in zip(plan.schedules[::2], plan.schedules[1::2], strict=True):
        sides = {turn.trial: turn.order for turn in even}
        assert all(turn.order == sides[turn.trial][::-1] for turn in odd)
    if method == "abx":
        turns = [turn for turn in plan.schedules[0] if plan.trials[turn.trial].kind == "pair"]
        assert abs(sum(turn.x or 0 for turn in turns) - 15) <= 1
        # X is the one system as often as the other
        assert abs(sum(plan.trials[t.trial].roles[t.order[t.x or 0]].system == "p" for t in turns) - 15) <= 2


def test_every_order_is_a_whole_one_that_begins_with_practice() -> None:
    plan = plan_of("ab")
    assert len(plan.schedules) == 24
    orders = set()
    for schedule in plan.schedules:
        assert schedule[0].trial == 0
        assert sorted(turn.trial for turn in schedule) == list(range(len(plan.trials)))
        assert plan.trials[schedule[1].trial].kind == "pair"
        orders.add(tuple(turn.trial for turn in schedule))
    assert len(orders) == 24


def test_a_repeat_comes_later_and_on_the_other_side() -> None:
    plan = plan_of("ab")
    repeats = [(i, trial.of) for i, trial in enumerate(plan.trials) if trial.of is not None]
    assert len(repeats) == 2
    for schedule in plan.schedules:
        turns = {turn.trial: (place, turn.order) for place, turn in enumerate(schedule)}
        for again, original in repeats:
            assert plan.trials[again].roles == plan.trials[original].roles
            assert turns[again][0] > turns[original][0]
            assert turns[again][1] == turns[original][1][::-1]


def test_many_systems_meet_equally_often() -> None:
    plan = plan_of("ab", ("p", "q", "r"), num_sentences=12, num_pairs=30)
    pairs = Counter(tuple(role.system for role in t.roles) for t in plan.trials if t.kind == "pair")
    assert set(pairs.values()) == {10}
    assert len({(t.utterance_id, t.roles) for t in plan.trials if t.kind == "pair"}) == 30


def test_mushra_screens_have_hidden_reference_and_anchor_in_every_place() -> None:
    plan = plan_of("mushra", ("p", "q", "r"), num_sentences=12, num_pairs=12)
    assert plan.num_fixed == 1
    for trial in plan.trials:
        assert [role.system for role in trial.roles] == ["p", "p", "q", "r", "p"]
        assert trial.roles[-1].treatment == "anchor"
    for schedule in plan.schedules:
        assert all(turn.order[0] == 0 for turn in schedule)
        places = Counter(turn.order.index(1) for turn in schedule if turn.trial)
        assert set(places.values()) == {3}  # twelve screens, four places


def test_sentences_that_cannot_be_compared_are_left_out_with_a_reason(tmp_path: Path) -> None:
    good = write_listening_run(tmp_path / "a", "fp32-euler_7", 3, lambda n: voiced(n, 0.5))
    bad = write_listening_run(
        tmp_path / "b", "int8-euler_7", 4, lambda n: voiced(n, 0.5) if n != 1 else np.zeros(9600, dtype=np.float32)
    )
    (bad / "audio/s02.wav").unlink()
    built = build_set(settings(tmp_path, runs=(good, bad)))
    assert [sentence.utterance_id for sentence in built.material.sentences] == ["s00"]
    assert set(built.material.dropped) == {"s01", "s02", "s03"}
    assert "silent" in built.material.dropped["s01"]
    assert "gone" in built.material.dropped["s02"]
    assert "did not speak" in built.material.dropped["s03"]


def test_other_rates_are_brought_to_the_highest_and_lengths_to_the_longest(tmp_path: Path) -> None:
    a = write_listening_run(tmp_path / "a", "fp32-euler_7", 2, lambda n: voiced(n, 0.5))
    b = write_listening_run(tmp_path / "b", "int8-euler_7", 2, lambda n: voiced(n, 0.45)[::3], rate_hz=RATE_HZ // 3)
    built = build_set(settings(tmp_path, runs=(a, b)))
    assert payload_of(built.page)["rate_hz"] == RATE_HZ
    assert {pcm_S.size for pcm_S in clips_of(built.page).values()} == {RATE_HZ // 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=abc"], "method=abc"),
        (["pairs=0"], "pairs=0"),
        (["reference=nobody", "method=dcr"], "must be one of fp32-euler_7, int8-euler_7"),
        (["nonsense=1"], "is not a setting"),
    ],
)
def test_mistakes_are_one_line_and_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    runs = [str(path) for path in two_runs(tmp_path / "runs", 2)]
    assert main(["build", *runs, f"out={tmp_path / 'set'}", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_thirty_pairs_say_how_many_listeners_they_need(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(path) for path in two_runs(tmp_path / "runs", 30, 0.1)]
    assert main(["build", *runs, f"out={tmp_path / 'set'}"]) == 0
    shown = capsys.readouterr()
    assert "note:" not in shown.err
    few = [str(path) for path in two_runs(tmp_path / "few", 3, 0.1)]
    assert main(["build", *few, f"out={tmp_path / 'small'}"]) == 0
    said = capsys.readouterr().err
    assert "only 3 screens that count, 30 were asked for; the runs share 3 sentences" in said
    assert "about 1 minute a listener" in said
    assert "30 votes find a true preference of 60 % 18% of the time" in shown.err
    assert "takes 210, about 7 listeners" in shown.err
    assert "1 practice, 30 pair, 3 catch, 3 identical, 2 repeat" in shown.err
    assert shown.out.splitlines() == [str(tmp_path / "set/listening.html"), str(tmp_path / "set/key.json")]


def test_one_run_alone_and_a_set_begun_are_refused(tmp_path: Path) -> None:
    runs = tuple(two_runs(tmp_path / "runs", 2))
    with pytest.raises(ListeningError, match="two at least"):
        build_set(settings(tmp_path, runs=runs[:1]))
    with pytest.raises(ListeningError, match="given twice"):
        build_set(settings(tmp_path, runs=(runs[0], runs[0])))
    build_set(settings(tmp_path, runs=runs))
    with pytest.raises(ListeningError, match="holds a listening set already"):
        build_set(settings(tmp_path, runs=runs))
