"""An audio file is read whole, at whatever format it has, or refused in one line."""

import io
import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import InvalidRequest
from engine.voice.recording import check_reference, load_reference, mono, read_recording
from tests.engines import ROOT

SLT = ROOT / "engine" / "pocket" / "slt.wav"
WHOLE = {"WAV": "PCM_16", "WAVEX": "FLOAT", "AIFF": "PCM_24", "FLAC": "PCM_16", "OGG": "VORBIS",
         "MP3": "MPEG_LAYER_III"}  # fmt: skip


@lru_cache
def written(kind: str, subtype: str, channels: int = 1) -> bytes:
    audio_S, rate_hz = soundfile.read(SLT, dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, np.stack([audio_S] * channels, 1), rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("kind", list(WHOLE))
def test_a_whole_file_is_read_whatever_it_is_called(kind: str, tmp_path: Path) -> None:
    (tmp_path / "clip.raw").write_bytes(written(kind, WHOLE[kind]))
    recording = read_recording(tmp_path / "clip.raw")
    assert (len(recording.audio_SC), recording.rate_hz) == (35840, 24000)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([kind for kind in WHOLE if kind != "MP3"]), st.floats(0, 0.999))
def test_a_file_cut_anywhere_is_refused_or_holds_all_samples(kind: str, kept: float) -> None:
    content = written(kind, WHOLE[kind])
    path = Path(os.environ["PYTEST_TMP"]) / f"cut-{kind}.wav"
    path.write_bytes(content[: int(len(content) * kept)])
    try:
        num_samples = len(read_recording(path).audio_SC)
    except InvalidRequest as refused:
        num_samples, said = 0, str(refused)
    else:
        said = ""
    assert num_samples == 35840 or (str(path) in said and "\n" not in said)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_TMP", str(tmp_path))


def test_a_truncated_file_is_refused_with_both_lengths(tmp_path: Path) -> None:
    (tmp_path / "cut.wav").write_bytes(SLT.read_bytes()[:50000])
    with pytest.raises(InvalidRequest, match=r"is cut off: its header says 1\.49 s, it holds 1\.04 s"):
        read_recording(tmp_path / "cut.wav")


def test_a_wav_from_a_pipe_does_not_know_its_length(tmp_path: Path) -> None:
    content = bytearray(SLT.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "piped.wav").write_bytes(content)
    assert len(read_recording(tmp_path / "piped.wav").audio_SC) == 35840


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"We walk to the sea.", "not readable as audio"),
        (b"#EXTM3U\nhttp://example.org/a.m4a\n", "not readable as audio"),
        (SLT.read_bytes()[:44], "cut off|no samples"),
        (written("AU", "PCM_16"), "is a AU file, WAV, .* are read here; convert it to WAV"),
    ],
)
def test_damaged_files_are_named_in_one_line(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(InvalidRequest, match=says) as refused:
        read_recording(tmp_path / "x.wav")
    assert "\n" not in str(refused.value)


def test_folders_devices_and_impossible_rates_are_refused(tmp_path: Path) -> None:
    for path, says in ((tmp_path, "is a folder"), (Path("/dev/zero"), "no regular file"), (tmp_path / "n", "no such")):
        with pytest.raises(InvalidRequest, match=says):
            read_recording(path)
    soundfile.write(tmp_path / "slow.wav", np.full(12, 0.1), 1)
    with pytest.raises(InvalidRequest, match="1 Hz, 4000 to 768000 Hz are allowed"):
        read_recording(tmp_path / "slow.wav")
    with pytest.raises(InvalidRequest, match="1 Hz, 4000 to 768000 Hz are allowed"):
        check_reference(np.full(12, 0.1, np.float32), 1, "a request")


@pytest.mark.parametrize(("subtype", "channels"), [("PCM_U8", 1), ("PCM_24", 2), ("FLOAT", 6), ("DOUBLE", 1)])
def test_every_width_and_number_of_channels_is_the_same_speech(subtype: str, channels: int, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(written("WAV", subtype, channels))
    audio_S, _ = load_reference(tmp_path / "clip.wav")
    expected_S, _ = load_reference(SLT)
    assert np.abs(audio_S - expected_S).max() <= (1 / 128 if subtype == "PCM_U8" else 1e-6)


def test_channels_that_cancel_are_not_silence() -> None:
    voice_S = soundfile.read(SLT, dtype="float32")[0]
    audio_S, note = mono(np.stack([0.5 * voice_S, -voice_S, 0.5 * voice_S], 1))
    assert np.array_equal(audio_S, -voice_S)
    assert note is not None
    assert "channel 2 of 3 is used" in note
    for alone in (1, 5):  # one channel of many is quiet in the mean, not cancelled
        lonely_SC = np.stack([voice_S, *[0 * voice_S] * alone], 1)
        assert mono(lonely_SC)[1] is None
        assert np.allclose(mono(lonely_SC)[0], voice_S / (alone + 1))


M4A = b"\0\0\0\x20ftypM4A " + bytes(100)
STAND_IN = """#!/bin/sh
for last; do :; done
case "$*" in *"-protocol_whitelist file"*"-f mov"*) ;; *) exit 9;; esac
{what}
"""


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> Path:
    """A program that is called as ffmpeg is."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(what=what))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
    clip = tmp_path / "it's a $(clip).m4a"
    clip.write_bytes(M4A)
    return clip


def test_what_ffmpeg_decodes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = stand_in(tmp_path, monkeypatch, f'cp "{SLT}" "${{last#file:}}"')
    assert np.array_equal(load_reference(clip)[0], load_reference(SLT)[0])


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("echo 'moov atom not found' >&2; exit 1", r"could not decode it whole \(moov atom not found\)"),
        ("exit 3", r"could not decode it whole \(exit code 3\)"),
        ("exit 0", "not readable as audio"),
    ],
)
def test_what_ffmpeg_cannot_decode_is_one_line(
    what: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = stand_in(tmp_path, monkeypatch, what)
    with pytest.raises(InvalidRequest, match=says) as refused:
        read_recording(clip)
    assert "\n" not in str(refused.value)


def test_without_ffmpeg_the_remedy_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.m4a").write_bytes(M4A)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidRequest, match=r"read by ffmpeg, which is not installed; .*apt-get install ffmpeg"):
        read_recording(tmp_path / "clip.m4a")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize(("name", "codec"), [("clip.m4a", "aac"), ("clip.webm", "libopus")])
def test_real_m4a_and_webm_are_read_whole_or_refused(name: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / name
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(SLT), "-c:a", codec, str(path)], check=True)
    assert read_recording(path).duration_s == pytest.approx(1.493, abs=0.05)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InvalidRequest, match="could not decode it whole"):
        read_recording(path)
