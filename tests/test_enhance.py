"""Post-processing on signals whose answer is known: planted silences, noise, hum, hiss; whole and in blocks."""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy import signal

from engine.contract import ConfigError
from engine.enhance.flow import Chain, joined, whole
from engine.enhance.stages import FORMS, WHOLE, check_enhancement, enhancement, stages_of
from tests.engines import ROOT, config

RATE_HZ = 24000
CHOICES = ("upstream_silence", "adaptive_silence", "denoise", "deess", "chain")


def enhanced(name: str, audio_S: np.ndarray, rate_hz: int = RATE_HZ, **changes: float) -> np.ndarray:
    """By the preset of that name; changes: of its form's keys."""
    return whole(begun(name, rate_hz, **changes), audio_S.astype(np.float32))


def begun(name: str, rate_hz: int = RATE_HZ, **changes: float) -> Chain:
    settings = preset(name)
    if changes:
        settings = {**settings, name: {**settings[name], **changes}}
    return Chain([stage.begin() for stage in stages_of(settings, rate_hz)])


@lru_cache
def preset(name: str) -> Any:
    return config(f"enhance={name}")["enhance"]


def tone(seconds: float, hz: float = 220.0, level_db: float = -15.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A sine of that RMS level re full scale."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return math.sqrt(2) * 10 ** (level_db / 20) * np.sin(2 * np.pi * hz * t)


def noise(seconds: float, level_db: float) -> np.ndarray:
    return 10 ** (level_db / 20) * np.random.default_rng(7).standard_normal(round(seconds * RATE_HZ))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE_HZ))


def spoken(*pauses_s: float) -> np.ndarray:
    """The pocket voice, and behind each of its repetitions so many seconds of silence."""
    clip_S = soundfile.read(ROOT / "engine" / "pocket" / "slt.wav", dtype="float32")[0]
    return np.concatenate([part for pause_s in pauses_s for part in (clip_S, silence(pause_s))])


def level_db(audio_S: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(audio_S, dtype=np.float64))))


def longest_silence_s(audio_S: np.ndarray) -> float:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], audio_S == 0, [0]))))
    return float(np.max(edges[1::2] - edges[::2], initial=0)) / RATE_HZ


@lru_cache
def upstreams(name: str) -> Callable[[str], None]:
    """A function of upstream's, from its own text: its module imports for many seconds what this function needs not."""
    from pydub import AudioSegment
    from pydub import silence as silences

    package = importlib.util.find_spec("f5_tts")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "infer" / "utils_infer.py"
    tree = ast.parse(path.read_text("utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    known: dict[str, Any] = {"AudioSegment": AudioSegment, "silence": silences}
    exec(compile(tree, path, "exec"), known)
    found: Callable[[str], None] = known[name]
    return found


SOUNDS: dict[str, Callable[[], np.ndarray]] = {
    "no silence of a second": lambda: spoken(0.3, 0.9),
    "three seconds inside": lambda: spoken(3.0, 0.0),
    "silence before and behind": lambda: np.concatenate([silence(1.7), spoken(1.2, 2.5)]),
    "a silence that is not quite silent": lambda: spoken(1.5, 1.4) + noise(6.0, -62.0)[: len(spoken(1.5, 1.4))],
    "a silence over the threshold": lambda: spoken(1.5, 1.4) + noise(6.0, -45.0)[: len(spoken(1.5, 1.4))],
    "two silences a little apart": lambda: np.concatenate([tone(1), silence(1.3), tone(0.02), silence(1.3), tone(1)]),
    "an odd number of samples": lambda: spoken(2.0, 1.1)[:-123],
    "beyond full scale": lambda: 12 * spoken(1.2, 0.5),
    "only silence": lambda: silence(2.0),
    "only a breath": lambda: silence(0.2),
}


@pytest.mark.parametrize("name", list(SOUNDS))
def test_upstream_silence_is_upstreams_function_sample_for_sample(name: str, tmp_path: Path) -> None:
    sound_S, path = SOUNDS[name]().astype(np.float32), tmp_path / "made.wav"
    soundfile.write(path, sound_S, RATE_HZ)  # as upstream's command line writes it
    upstreams("remove_silence_for_generated_wav")(str(path))
    theirs_S = soundfile.read(path, dtype="float32")[0]
    assert np.array_equal(enhanced("upstream_silence", sound_S), theirs_S)


def test_a_silence_is_shortened_to_the_longest_pause_and_the_speech_around_it_is_untouched() -> None:
    sound_S = np.concatenate([silence(1.0), spoken(2.0), spoken(0.0), silence(1.5)]).astype(np.float32)
    found_S = enhanced("adaptive_silence", sound_S)
    assert longest_silence_s(found_S) <= 0.7 + 0.05  # the voice's own edges are silent too
    kept_s = len(spoken(0.0, 0.0)) / RATE_HZ
    assert len(found_S) / RATE_HZ == pytest.approx(kept_s + 0.7, abs=0.15)
    clip_S = spoken(0.0)[2400:-2400].astype(np.float32)
    places = np.lib.stride_tricks.sliding_window_view(found_S, len(clip_S))
    assert (
        sum(np.array_equal(places[at], clip_S) for at in np.flatnonzero(found_S == clip_S[0]) if at < len(places)) == 2
    )


@pytest.mark.parametrize("noise_db", [None, -60.0, -45.0, -38.0])
@pytest.mark.parametrize("gain_db", [0.0, -20.0])
def test_exactly_the_excess_of_a_planted_silence_goes_whatever_the_level_and_the_noise(
    noise_db: float | None, gain_db: float
) -> None:
    sound_S = np.concatenate([tone(1), silence(2.0), tone(1), silence(0.69), tone(1)])
    if noise_db is not None:
        sound_S = sound_S + noise(5.69, noise_db)
    found_S = enhanced("adaptive_silence", sound_S * 10 ** (gain_db / 20))
    assert len(sound_S) - len(found_S) == pytest.approx(1.3 * RATE_HZ, abs=0.02 * RATE_HZ)


@pytest.mark.parametrize("pause_s", [0.15, 0.2, 0.35, 0.5])
def test_a_pause_that_is_meant_stays_as_long_as_it_was(pause_s: float) -> None:
    sound_S = spoken(pause_s, pause_s, 0.0).astype(np.float32)
    assert np.array_equal(enhanced("adaptive_silence", sound_S, RATE_HZ, edge_s=60), sound_S)


def test_white_noise_in_pauses_is_brought_down_by_what_was_asked_and_speech_by_little() -> None:
    clean_S = spoken(0.4, 0.5, 0.4)
    noisy_S = clean_S + noise(len(clean_S) / RATE_HZ + 1, -50.0)[: len(clean_S)]
    for most_db in (6.0, 12.0):
        found_S = enhanced("denoise", noisy_S, RATE_HZ, most_db=most_db)
        start = len(spoken(0.0)) + 2400
        pause = slice(start, start + 4800)
        assert level_db(noisy_S[pause]) - level_db(found_S[pause]) == pytest.approx(most_db, abs=1.0)
        assert len(found_S) == len(noisy_S)
        before, after = (level_db(sound_S - clean_S) for sound_S in (noisy_S, found_S))
        assert after < before - 1, "the noise under the speech has grown"


def test_hum_is_brought_down_in_its_own_bins_only() -> None:
    clean_S = spoken(0.4, 0.5)
    hum_S = tone(len(clean_S) / RATE_HZ, 100.0, -50.0)[: len(clean_S)] + 10 ** (-4.5) * noise(9, 0)[: len(clean_S)]
    found_S = enhanced("denoise", clean_S + hum_S)
    start = len(spoken(0.0)) + 2400
    pause = slice(start, start + 4800)
    assert level_db(hum_S[pause]) - level_db(found_S[pause]) == pytest.approx(12.0, abs=1.0)
    assert level_db(found_S - clean_S) < level_db(hum_S)


def test_what_has_no_pause_or_no_noise_is_left_as_it_is() -> None:
    for sound_S in (tone(2.0), spoken(0.5, 0.5)):
        assert level_db(enhanced("denoise", sound_S) - sound_S.astype(np.float32) + 1e-9) < -100


def test_a_sibilant_loses_what_the_filters_say_and_a_vowel_the_shelf_alone() -> None:
    settings = preset("deess")["deess"]
    high = signal.butter(2, settings["from_hz"], "highpass", fs=RATE_HZ)
    shelf_of = {}
    for hz, gain in ((300.0, 1.0), (9000.0, 10 ** (-6 / 20))):  # the share of a high tone is 0 dB, 6 over the limit
        of_high = signal.freqz(*high, worN=[hz], fs=RATE_HZ)[1][0]
        found_S = enhanced("deess", tone(1.0, hz))
        shelf_of[hz] = level_db(found_S[4800:]) - level_db(tone(1.0, hz)[4800:])
        own_db = 20 * math.log10(abs(1 + (gain - 1) * of_high))
        bare_S = enhanced("deess", tone(1.0, hz), RATE_HZ, shelf_db=0.0)
        share_db = min(10 * math.log10(abs(of_high) ** 2), 0)
        if hz > settings["from_hz"]:
            gain = 10 ** (-(share_db - settings["share_db"]) / 20)
            own_db = 20 * math.log10(abs(1 + (gain - 1) * of_high))
        assert level_db(bare_S[4800:]) - level_db(tone(1.0, hz)[4800:]) == pytest.approx(own_db, abs=0.1)
        shelf_of[hz] -= own_db
    assert shelf_of[300.0] == pytest.approx(0.0, abs=0.05)
    assert settings["shelf_db"] <= shelf_of[9000.0] < settings["shelf_db"] / 2


@pytest.mark.parametrize("name", ["adaptive_silence", "deess"])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_of_any_size_give_the_bits_of_the_whole(name: str, seed: int) -> None:
    sound_S = (
        np.concatenate([silence(0.5), spoken(1.3, 0.2, 2.0)]) + noise(9, -55)[: 12000 + len(spoken(1.3, 0.2, 2.0))]
    )
    sound_S = sound_S.astype(np.float32)
    chance = np.random.default_rng(seed)
    cuts = np.sort(chance.integers(0, len(sound_S), (3, 20, 200, 1)[seed]))
    flow = begun(name)
    found_S = joined([*[flow.add(block) for block in np.split(sound_S, cuts)], flow.finish()])
    assert found_S.tobytes() == enhanced(name, sound_S).tobytes()


def test_a_stream_gives_speech_before_its_end() -> None:
    flow, sound_S = begun("adaptive_silence"), spoken(0.3, 0.3).astype(np.float32)
    assert len(flow.add(sound_S)) > 0.8 * len(sound_S)
    assert set(WHOLE) <= set(FORMS)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("rate_hz", [24000, 44100, 16000])
def test_short_silent_and_odd_sounds_come_through(name: str, rate_hz: int) -> None:
    assert len(enhanced(name, np.zeros(0), rate_hz)) == 0
    for num_samples in (1, 7, 119, 2400):
        found_S = enhanced(name, tone(1.0)[:num_samples], rate_hz)
        assert found_S.dtype == np.float32
        slack = rate_hz // 1000 + 1 if name == "upstream_silence" else 0  # pydub counts in whole milliseconds
        assert abs(len(found_S) - num_samples) <= slack
    found_S = enhanced(name, silence(2.0), rate_hz)
    assert not found_S.any()
    assert len(found_S) <= 2 * RATE_HZ


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["enhance=deess", "model.sample_rate_hz=8000"], "enhance.deess.from_hz=5000.0: must be under half of the"),
        (["enhance=upstream_silence", "model.sample_rate_hz=8000"], "enhance=upstream_silence: upstream's remove_sil"),
        (["enhance=denoise", "enhance.name=none"], "enhance.name=none: needs another name"),
        (["enhance=none", "enhance.name=mine"], "enhance.name=mine: has none of denoise, upstream_silence"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_built(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        check_enhancement(config(*overrides))  # type: ignore[arg-type]


def test_none_is_nothing() -> None:
    assert enhancement(config()) is None  # type: ignore[arg-type]
    assert enhancement({}) is None
