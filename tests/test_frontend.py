"""The front end follows upstream's rules exactly, and refuses what cannot be spoken."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import InvalidRequest
from engine.frontend import (
    FrontEnd,
    generated_frames,
    split_text,
    tokenize,
    unknown_tokens,
)
from engine.mel import mel_transform
from engine.voice.recording import load_reference
from engine.weights.vocabulary import read_vocabulary
from tests.engines import ROOT, config, engine, request

# Sentences, punctuation, quotes, digits, CJK: what upstream's rules distinguish
TEXTS = st.text(alphabet="aB cd'\",.;:!?-7é中文你好，。！ ", min_size=1, max_size=120)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(1, 90))
def test_chunks_equal_upstreams(text: str, max_bytes: int) -> None:
    from f5_tts.infer.utils_infer import chunk_text

    assert split_text(text, max_bytes) == chunk_text(text, max_bytes)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_tokens_equal_upstreams(text: str) -> None:
    from f5_tts.model.utils import convert_char_to_pinyin

    assert tokenize(text) == convert_char_to_pinyin([text])[0]


@pytest.mark.parametrize("name", ["en_core", "en_long", "en_heldout"])
def test_workload_texts_tokenize_to_one_token_a_character(name: str) -> None:
    """Otherwise the pocket model's frames a character would not come out whole."""
    import yaml

    for utterance in yaml.safe_load((ROOT / "conf" / "texts" / f"{name}.yaml").read_text("utf-8"))["utterances"]:
        assert len(tokenize(utterance["text"])) == len(utterance["text"])


def test_duration_is_in_proportion_to_bytes_and_short_texts_are_slow() -> None:
    assert generated_frames(203, "x" * 29, "y" * 20, 1.0) == 140
    assert generated_frames(203, "x" * 29, "y" * 20, 2.0) == 70
    assert generated_frames(290, "x" * 29, "y" * 9, 1.0) == int(90 / 0.3), "under ten bytes upstream speaks at 0.3"
    assert generated_frames(203, "x" * 29, "\u00e9" * 10, 1.0) == 140, "bytes count, not characters"


def test_mel_equals_upstreams() -> None:
    from f5_tts.model.modules import MelSpec

    wave = torch.randn(1, 24000, generator=torch.Generator().manual_seed(0)) * 0.1
    assert torch.equal(mel_transform(config()["model"])(wave), MelSpec()(wave))


def front_end() -> FrontEnd:
    model = config()["model"]
    return FrontEnd(read_vocabulary(ROOT / model["vocab"]), mel_transform(model), 24000, 256)


def test_references_are_cached_by_content_not_by_object() -> None:
    front, ask = front_end(), request("Turn left.")
    front.prepare(ask, 0.1)
    front.prepare(request("Turn left.", ref_audio_S=ask.ref_audio_S.copy()), 0.1)
    assert front.proof()["reference_cache_hits"] == 1
    ask.ref_audio_S[100] += 0.01
    front.prepare(ask, 0.1)
    assert front.proof()["reference_cache_hits"] == 1


def test_a_quiet_reference_is_scaled_up_and_its_level_given_back() -> None:
    ask = request("Turn left at the bridge.")
    with engine() as ours:
        loud = ours.synthesize([ask])[0].audio_S
        quiet = ours.synthesize([request(ask.text, ref_audio_S=ask.ref_audio_S * np.float32(0.25))])[0].audio_S
    assert np.sqrt(np.mean(quiet**2)) == pytest.approx(0.25 * np.sqrt(np.mean(loud**2)), rel=0.02)


@pytest.mark.parametrize(
    ("text", "says"),
    [("   ", "is empty"), ("Turn left \u2603", "\u2603"), ("na\u00efve", "\u00ef"), ("\u4f60\u597d", "hao3")],
)
def test_text_that_the_model_cannot_speak_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        front_end().prepare(request(text), 0.1)
    assert says in str(refused.value)
    assert "test" in str(refused.value), "the utterance is named"


def test_a_fixed_length_goes_with_a_single_chunk_only() -> None:
    assert front_end().prepare(request("Turn left.", num_frames=100), 0.1).chunks[0].num_frames == 240, (
        "140 of the reference"
    )
    long = "A sentence. " * 40
    with pytest.raises(InvalidRequest, match="fixes the length"):
        front_end().prepare(request(long, num_frames=100), 0.1)


def test_unknown_tokens_are_listed() -> None:
    vocabulary = read_vocabulary(ROOT / "engine" / "pocket" / "vocab.txt")
    assert unknown_tokens("a \u00f1 b \u20ac", vocabulary) == ["\u00f1", "\u20ac"]


def write(path: Path, audio: np.ndarray, rate_hz: int = 24000) -> Path:
    soundfile.write(path, audio, rate_hz, subtype="FLOAT")
    return path


def test_stereo_is_averaged_and_any_rate_is_read(tmp_path: Path) -> None:
    tone = 0.2 * np.sin(np.arange(8000) / 5).astype(np.float32)
    audio_S, rate_hz = load_reference(write(tmp_path / "s.wav", np.stack([tone, 0 * tone], axis=1), 8000))
    assert rate_hz == 8000
    assert np.allclose(audio_S, tone / 2)
    with engine() as ours:
        spoken = ours.synthesize([request("Turn left at the bridge.", ref_audio_S=audio_S, ref_sample_rate_hz=8000)])
    assert spoken[0].sample_rate_hz == 24000


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (np.zeros(24000), "silent"),
        (np.full(24000, np.nan), "NaN"),
        (np.zeros(0), "no samples"),
        (0.1 * np.ones(2400), "0.10 s long"),
        (0.1 * np.ones(24000 * 13), "13.00 s long"),
    ],
)
def test_references_that_are_no_voice_are_refused(audio: np.ndarray, says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=says):
        load_reference(write(tmp_path / "x.wav", audio.astype(np.float32)))


def test_missing_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no such file"):
        load_reference(tmp_path / "none.wav")
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    with pytest.raises(InvalidRequest, match="not readable"):
        load_reference(tmp_path / "bad.wav")
