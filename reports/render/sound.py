"""Audio for the page: Opus in Ogg by libsndfile, the same bytes each time. Shape letters: S samples."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import soundfile

from reports.words import listed

RATES_HZ = (8000, 12000, 16000, 24000, 48000)  # the only ones that Opus has
BITS_PER_S = 48_000
# libsndfile spreads compression levels 1..0 evenly over 6 to 256 kbit/s a channel (ogg_opus.c)
LEVEL = 1 - (BITS_PER_S - 6_000) / 250_000
BLOCK_SAMPLES = 1 << 16
SERIAL_AT, CHECKSUM_AT, SEGMENTS_AT, PAGE_HEADER = 14, 22, 26, 27
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
SAID = f"Opus at {BITS_PER_S // 1000} kbit/s"


def opus_refusal(rate_hz: int) -> str | None:
    """Why audio of this rate cannot be put into the page, and what to do; None where it can."""
    if "OPUS" not in soundfile.available_subtypes("OGG"):
        version = soundfile.__libsndfile_version__
        return (
            f"libsndfile {version} writes no Opus (1.0.29 does): `pip install --upgrade soundfile`, then render again"
        )
    if rate_hz not in RATES_HZ:
        return f"Opus has no sampling rate of {rate_hz} Hz, only {listed([str(rate) for rate in RATES_HZ])}"
    return None


def opus(audio_S: np.ndarray, rate_hz: int) -> bytes:
    """Mono float audio as Ogg Opus of the same length; samples that are not finite count as silence."""
    finite_S = np.clip(np.nan_to_num(audio_S, nan=0.0, posinf=1.0, neginf=-1.0), -1.0, 1.0)
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", samplerate=rate_hz, channels=1, format="OGG", subtype="OPUS", compression_level=LEVEL
    ) as file:
        for start in range(0, finite_S.size, BLOCK_SAMPLES):
            file.write(finite_S[start : start + BLOCK_SAMPLES])
    return _with_serial(buffer.getvalue(), zlib.crc32(finite_S.tobytes()))


def _with_serial(ogg: bytes, serial: int) -> bytes:
    """The same pages under another stream number: libsndfile draws one by the clock, and a report made again is to be
    the same file. Page layout: RFC 3533, section 6."""
    pages = []
    position = 0
    while position < len(ogg):
        if ogg[position : position + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {position}")
        segments = ogg[position + SEGMENTS_AT]
        table = ogg[position + PAGE_HEADER : position + PAGE_HEADER + segments]
        page = bytearray(ogg[position : position + PAGE_HEADER + segments + sum(table)])
        page[SERIAL_AT : SERIAL_AT + 4] = struct.pack("<I", serial)
        page[CHECKSUM_AT : CHECKSUM_AT + 4] = bytes(4)
        page[CHECKSUM_AT : CHECKSUM_AT + 4] = struct.pack("<I", _checksum(bytes(page)))
        pages.append(bytes(page))
        position += len(page)
    return b"".join(pages)


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32 has zlib's polynomial, but reads each byte from its other end and inverts nothing."""
    mirrored = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
