"""References are prepared sample for sample as upstream prepares them, once, and every engine gets the same clip."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import ConfigError, InvalidRequest
from engine.voice.clip import Prepare, load_clip, prepare_settings
from engine.voice.preparation import prepare_audio, prepare_text
from engine.voice.recording import read_recording
from tests.engines import REF_TEXT, ROOT, config, engine, request

SLT = ROOT / "engine" / "pocket" / "slt.wav"
Pieces = list[tuple[float, float]]  # seconds, dB of full scale


def theirs(path: Path, text: str) -> tuple[np.ndarray, int, str]:
    """(S, C), Hz and transcript as f5_tts itself makes them."""
    from f5_tts.infer.utils_infer import preprocess_ref_audio_text

    prepared, spoken = preprocess_ref_audio_text(str(path), text, show_info=lambda *_: None)
    audio_SC, rate_hz = soundfile.read(prepared, dtype="float32", always_2d=True)
    return audio_SC, rate_hz, spoken


def noise(pieces: Pieces, rate_hz: int, channels: int = 1) -> np.ndarray:
    draw = np.random.default_rng(3)
    parts = [draw.standard_normal((round(s * rate_hz), channels)) * 10 ** (db / 20) for s, db in pieces]
    return np.clip(np.concatenate(parts), -1, 1)


def speech(*pieces: float) -> np.ndarray:
    """The pocket voice, and between its repetitions so many seconds of silence."""
    audio_S, rate_hz = soundfile.read(SLT, dtype="float32")
    return np.concatenate([part for s in pieces for part in (audio_S, np.zeros(round(s * rate_hz), np.float32))])


EDGES: Pieces = [(0.4, -60), (1.2, -20), (0.8, -43), (0.3, -41), (1.3, -70)]
LONG: Pieces = [(7.0, -20), (0.5, -47), (4.0, -20), (1.7, -60), (6.0, -20)]
CASES: dict[str, Callable[[], tuple[np.ndarray, int, str]]] = {
    "three seconds of silence after it": lambda: (speech(3.0), 24000, "PCM_16"),
    "silence inside and before": lambda: (np.concatenate([np.zeros(30001), speech(2.5, 0.2)]), 24000, "PCM_16"),
    "cut at long silences": lambda: (noise(LONG, 16000), 16000, "PCM_16"),
    "cut at short silences": lambda: (speech(*[0.5] * 10), 24000, "PCM_16"),
    "cut hard": lambda: (noise([(13.33, -20)], 16000), 16000, "PCM_16"),
    "channels out of phase": lambda: (np.stack([speech(0.7), -speech(0.7)], 1), 24000, "PCM_16"),
    "a rate without a common factor": lambda: (noise(EDGES, 44101, 2), 44101, "PCM_16"),
    "a rate below pydub's": lambda: (noise(EDGES, 8000, 2), 8000, "PCM_16"),
    "8 bits": lambda: (noise(EDGES, 11025), 11025, "PCM_U8"),
    "8 bits below pydub's rate": lambda: (noise(EDGES, 8000), 8000, "PCM_U8"),
    "24 bits": lambda: (noise(EDGES, 22050, 2), 22050, "PCM_24"),
    "32 bits": lambda: (noise(EDGES, 48000), 48000, "PCM_32"),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_clip_is_prepared_as_upstream_does_sample_for_sample(name: str, tmp_path: Path) -> None:
    audio, rate_hz, subtype = CASES[name]()
    path = tmp_path / "clip.wav"
    soundfile.write(path, audio, rate_hz, subtype=subtype)
    expected_SC, expected_hz, _ = theirs(path, "Hello.")
    ours = prepare_audio(read_recording(path).pcm()).clip
    assert ours.rate_hz == expected_hz
    assert np.array_equal(ours.audio_SC, expected_SC)


def test_the_threshold_is_upstreams_at_every_value(tmp_path: Path) -> None:
    from f5_tts.infer.utils_infer import remove_silence_edges
    from pydub import AudioSegment

    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(EDGES[:-1], 24000), 24000)  # no silence long enough to be shortened
    for edge_db in (-70.0, -42.5, -25.0):
        trimmed = remove_silence_edges(AudioSegment.from_file(path), edge_db)
        ours = prepare_audio(read_recording(path).pcm(), edge_db, 0).clip
        assert np.array_equal(ours.pcm_SC[:, 0], np.array(trimmed.get_array_of_samples()))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="aé. 。!?,\n", min_size=1, max_size=6).filter(str.strip))
def test_a_transcript_ends_as_upstream_ends_it(text: str) -> None:
    assert prepare_text(text) == theirs(SLT, text)[2]


def test_every_choice_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, speech(3.0), 24000)
    untouched = load_clip(path, "We walk", None, Prepare(audio="none", text="none"))
    assert (len(untouched.audio_S), untouched.text, untouched.notes) == (len(speech(3.0)), "We walk", ())
    full_stop = load_clip(path, "We walk", None, Prepare(audio="none"))
    assert (len(full_stop.audio_S), full_stop.text) == (len(speech(3.0)), "We walk. ")
    longer = load_clip(path, "We walk", None, Prepare(tail_s=0.25))
    assert longer.audio_S.size / 24000 == pytest.approx(1.39 + 0.2, abs=0.01)
    assert longer.notes == ("prepared as upstream: 4.49 s of file, 1.59 s of reference",)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"audio": "upstraem"}, "reference.prepare.audio=upstraem: must be one of upstream, none"),
        ({"text": True}, "reference.prepare.text=True: must be one of"),
        ({"edge_db": 3}, "reference.prepare.edge_db=3: must be a number from -120 to 0"),
        ({"tail_s": float("nan")}, "reference.prepare.tail_s=nan: must be a number"),
        ({"tails": 1}, "reference.prepare.tails=1: no such key"),
    ],
)
def test_settings_that_do_not_exist_are_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        prepare_settings(given)


def test_a_clip_that_loses_speech_needs_the_transcript_of_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, speech(*[0.5] * 10), 24000)
    with pytest.raises(InvalidRequest, match=r"19\.93 s long: upstream keeps 11\.35 s.*trim_reference.*cut_text"):
        load_clip(path, "We walk to the sea. " * 10, None, Prepare())
    clip = load_clip(path, "We walk to the sea. " * 10, "We walk to the sea. " * 6, Prepare())
    assert clip.text == "We walk to the sea. " * 6
    assert "speech was cut off" in " ".join(clip.notes)
    soundfile.write(path, speech(12.0, 0.0), 24000)
    assert len(load_clip(path, "We walk. We walk.", None, Prepare()).audio_S) < 6 * 24000, "silence is no loss"


def test_both_engines_speak_from_the_same_prepared_clip(tmp_path: Path) -> None:
    """The sentence after a clip with three seconds of silence was 3.2 times too long."""
    path = tmp_path / "tail.wav"
    soundfile.write(path, speech(3.0), 24000)
    clip = load_clip(path, REF_TEXT[:-1], None, prepare_settings(config()["reference"]["prepare"]))
    ask = request("Turn left at the bridge.", ref_audio_S=clip.audio_S, ref_text=clip.text)
    with engine("engine=upstream", "solver=euler_5") as peer, engine("engine=fp32", "solver=euler_5") as ours:
        expected, made = peer.synthesize([ask])[0], ours.synthesize([ask])[0]
        plain = ours.synthesize([request("Turn left at the bridge.")])[0]
    assert made.noise_sha256 == expected.noise_sha256
    assert np.abs(made.mel_ND - expected.mel_ND).max() <= 1e-4
    assert len(made.mel_ND) == pytest.approx(len(plain.mel_ND), rel=0.15)
