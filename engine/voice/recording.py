"""An audio file -> samples, whole or refused: read by libsndfile, or by ffmpeg where it holds what only that can read.

Shape letters: S samples, C channels.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.contract import InvalidRequest
from engine.voice import ffmpeg
from engine.voice.preparation import Pcm

KEY = "reference.audio"
GOOD = "give the path of a WAV, AIFF, FLAC, OGG or MP3 file of 0.5 to 12 s of speech"
MAX_REFERENCE_S = 12.0  # upstream clips longer ones without a word
PREPARED_TAIL_S = 0.06  # what upstream's preparation adds to 12 s, and a little
MIN_REFERENCE_S = 0.5
SILENT_RMS = 1e-4
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 768_000
MAX_FILE_BYTES = 256 << 20
MAX_VALUES = 20_000_000  # samples of all channels: three minutes of stereo at 48 kHz and some more
UNKNOWN_BYTES = 0xFFFFFF00  # a WAV written into a pipe says that much, or nothing, about its length
CANCELLED_FRAC = 0.01  # of the power that channels have in the mean when they are unlike
# Bytes of a whole number as pydub holds it; what is no whole number reaches pydub as 16 bits (MP3, AAC) or 32
NUM_BYTES = {
    "PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 4, "PCM_32": 4, "MPEG_LAYER_III": 2, "ULAW": 2, "ALAW": 2,
}  # fmt: skip
# Of these it is known whether a file is whole
FORMATS = ("WAV", "WAVEX", "AIFF", "FLAC", "OGG", "MP3")
CHUNKS = {b"RIFF": ("little", b"data"), b"RIFX": ("big", b"data"), b"FORM": ("big", b"SSND")}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Recording:
    """audio_SC: float32 as the file has it, floats beyond full scale included. subtype: as libsndfile names it."""

    audio_SC: np.ndarray
    rate_hz: int
    subtype: str
    file_sha256: str

    @property
    def duration_s(self) -> float:
        return len(self.audio_SC) / self.rate_hz

    def pcm(self) -> Pcm:
        """As pydub holds the same file: what is beyond full scale is clipped."""
        num_bytes = NUM_BYTES.get(self.subtype, 4)
        limit = 2 ** (8 * num_bytes - 1)
        values = np.rint(self.audio_SC.astype(np.float64) * limit)
        pcm_SC = np.clip(values, -limit, limit - 1).astype(np.int64)
        if self.subtype == "PCM_24":  # pydub fills the lowest byte of negative numbers with ones
            pcm_SC += np.where(pcm_SC < 0, 255, 0)
        return Pcm(pcm_SC.astype(np.int32), num_bytes, self.rate_hz)


def read_recording(path: Path) -> Recording:
    """Raises InvalidRequest for what is no audio, is damaged or truncated, or is larger than any voice's clip."""
    content = _content(path)
    digest = hashlib.sha256(content).hexdigest()
    demuxer = ffmpeg.demuxer_of(content)
    if demuxer is not None and not _is_readable(content):
        content = ffmpeg.decoded_wav(path, demuxer)
    audio_SC, rate_hz, subtype = _decoded(path, content)
    if not np.isfinite(audio_SC).all():
        raise InvalidRequest(KEY, path, "the audio holds NaN or infinite samples", "export it again")
    return Recording(audio_SC=audio_SC, rate_hz=rate_hz, subtype=subtype, file_sha256=digest)


def load_reference(path: Path) -> tuple[np.ndarray, int]:
    """Audio file -> (mono float32 (S,), sample rate in Hz), not prepared. Raises InvalidRequest for no voice."""
    recording = read_recording(path)
    audio_S, _ = mono(recording.audio_SC)
    check_reference(audio_S, recording.rate_hz, str(path))
    return audio_S, recording.rate_hz


def check_reference(audio_S: np.ndarray, rate_hz: int, name: str) -> None:
    """Raises InvalidRequest for empty, too short, too long, non-finite or silent audio, and for what is no rate."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InvalidRequest(
            KEY, name, f"{rate_hz} Hz, {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are allowed", "export it at 24000 Hz"
        )
    if len(audio_S) == 0:
        raise InvalidRequest(KEY, name, "the file holds no samples", "record 2 to 10 s of speech")
    if not np.isfinite(audio_S).all():
        raise InvalidRequest(KEY, name, "the audio holds NaN or infinite samples", "export it again")
    duration_s = len(audio_S) / rate_hz
    if duration_s < MIN_REFERENCE_S or duration_s > MAX_REFERENCE_S + PREPARED_TAIL_S:
        raise InvalidRequest(
            KEY, name, f"{duration_s:.2f} s long, {MIN_REFERENCE_S:g} to {MAX_REFERENCE_S:g} s are allowed",
            "cut it, and cut the transcript with it (experiments.trim_reference does)",
        )  # fmt: skip
    if float(np.sqrt(np.mean(np.square(audio_S)))) < SILENT_RMS:
        raise InvalidRequest(KEY, name, "the audio is silent", "record again with a working microphone")


def mono(audio_SC: np.ndarray) -> tuple[np.ndarray, str | None]:
    """(S,) float32 and what there is to say: the mean of the channels, as upstream; where they cancel, the loudest."""
    audio_S = audio_SC.mean(axis=1)
    powers = np.square(audio_SC, dtype=np.float64).mean(axis=0)
    unlike = powers.sum() / len(powers) ** 2
    if np.square(audio_S, dtype=np.float64).mean() >= CANCELLED_FRAC * unlike:
        return audio_S, None
    loudest = int(powers.argmax())
    note = (
        f"the channels cancel (out of phase): channel {loudest + 1} of {len(powers)} is used; upstream would take "
        "their mean, which is near silence"
    )
    return np.ascontiguousarray(audio_SC[:, loudest]), note


def _content(path: Path) -> bytes:
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InvalidRequest(KEY, path, "is a folder", GOOD)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequest(KEY, path, "is no regular file", GOOD)
        if found.st_size > MAX_FILE_BYTES:
            raise InvalidRequest(KEY, path, f"{found.st_size >> 20} MiB, {MAX_FILE_BYTES >> 20} MiB are allowed", GOOD)
        content = path.read_bytes()
    except FileNotFoundError:
        raise InvalidRequest(KEY, path, "no such file", GOOD) from None
    except OSError as error:
        raise InvalidRequest(KEY, path, f"cannot be read ({os.strerror(error.errno or 0)})", GOOD) from error
    if not content:
        raise InvalidRequest(KEY, path, "the file is empty", "record 2 to 10 s of speech")
    return content


def _is_readable(content: bytes) -> bool:
    import soundfile

    try:
        soundfile.info(io.BytesIO(content))
    except (soundfile.LibsndfileError, ValueError):
        return False
    return True


def _decoded(path: Path, content: bytes) -> tuple[np.ndarray, int, str]:
    """(S, C) float32, Hz, subtype. From the bytes and not the path, whose ending may say anything."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            _check_size(path, file)
            audio_SC = file.read(dtype="float32", always_2d=True)
            said, rate_hz, subtype = file.frames, file.samplerate, file.subtype
    except soundfile.LibsndfileError as error:
        raise InvalidRequest(KEY, path, f"not readable as audio ({error.error_string})", "convert it to WAV") from error
    if len(audio_SC) == 0:
        raise InvalidRequest(KEY, path, "the file holds no samples", "record 2 to 10 s of speech")
    if content[:4] == b"OggS" and not _ogg_is_whole(content):
        raise InvalidRequest(KEY, path, f"is cut off after {len(audio_SC) / rate_hz:.2f} s", "copy or export it again")
    said = max(said, round(_said_share(content) * len(audio_SC)))
    if said > len(audio_SC):
        raise InvalidRequest(
            KEY, path, f"is cut off: its header says {said / rate_hz:.2f} s, it holds {len(audio_SC) / rate_hz:.2f} s",
            "copy or export it again",
        )  # fmt: skip
    return audio_SC, rate_hz, subtype


def _check_size(path: Path, file: Any) -> None:
    if file.format not in FORMATS:
        allowed = f"is a {file.format} file, {', '.join(FORMATS)} are read here"
        raise InvalidRequest(KEY, path, allowed, "convert it to WAV")
    if not MIN_RATE_HZ <= file.samplerate <= MAX_RATE_HZ:
        raise InvalidRequest(
            KEY, path, f"{file.samplerate} Hz, {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are allowed", "export it at 24000 Hz"
        )
    if file.frames * file.channels > MAX_VALUES:
        raise InvalidRequest(
            KEY, path, f"{file.frames / file.samplerate:.0f} s of {file.channels} channels are too long for a voice",
            "cut 2 to 10 s out of it",
        )  # fmt: skip


def _ogg_is_whole(content: bytes) -> bool:
    """Whether its last page is there to the end, and says that it is the last (RFC 3533)."""
    place = content.rfind(b"OggS")
    page = content[place : place + 27]
    if len(page) < 27 or not page[5] & 4:
        return False
    lengths = content[place + 27 : place + 27 + page[26]]
    return len(lengths) == page[26] and place + 27 + page[26] + sum(lengths) <= len(content)


def _said_share(content: bytes) -> float:
    """How many times as much audio as there is a WAV or AIFF says that it holds; 1 where it does not say."""
    order, wanted = CHUNKS.get(content[:4], ("little", b""))
    place = 12
    while wanted and place + 8 <= len(content):
        said = int.from_bytes(content[place + 4 : place + 8], "little" if order == "little" else "big")
        there = len(content) - place - 8
        if content[place : place + 4] == wanted:
            return said / there if there < said < UNKNOWN_BYTES and there else 1.0
        place += 8 + said + said % 2
    return 1.0
