"""A shorter reference from a longer one: `python -m experiments.trim_reference CLIP --max-s 5 --text "..."
--out F`.

The clip is cut in the last pause before --max-s. What it says up to there cannot be known from here, so the text is
yours to give; a speaking rate that no speech has is refused, since a wrong transcript changes the amount of work.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from engine.contract import ConfigError
from engine.voice.recording import MAX_REFERENCE_S, MIN_REFERENCE_S, NUM_BYTES, check_reference, mono, read_recording
from experiments.common.cli import EXIT_OK, run_verb
from experiments.measuring.fresh import hydra_value
from metrics.fidelity.prompt import transcript_warnings
from reports.commands import VerbParser

FRAME_S = 0.01
PAUSE_S = 0.08
PAUSE_BELOW_LOUDEST_DB = 30.0


def last_pause_s(audio_S: np.ndarray, rate_hz: int, max_s: float) -> float | None:
    """The middle of the last stretch of at least 80 ms, 30 dB under the loudest 10 ms, that begins before max_s."""
    frame = round(FRAME_S * rate_hz)
    num = len(audio_S) // frame
    power = np.square(audio_S[: num * frame].astype(np.float64)).reshape(num, frame).mean(axis=1)
    quiet = power < power.max(initial=0.0) * 10 ** (-PAUSE_BELOW_LOUDEST_DB / 10)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], quiet.astype(int), [0]))))
    for start, end in reversed(list(zip(edges[::2], edges[1::2], strict=True))):
        middle_s = float(start + end) / 2 * frame / rate_hz
        if (end - start) * FRAME_S >= PAUSE_S - 1e-9 and MIN_REFERENCE_S <= middle_s <= max_s:
            return middle_s
    return None


def _checked_out(out: Path) -> Path:
    if "\0" in str(out):
        raise ConfigError("--out", repr(str(out)), "holds a zero byte", "name a file in a folder of yours")
    return out


def trim(path: Path, max_s: float, text: str, out: Path) -> float:
    """Writes the shorter clip and returns its seconds. Raises ConfigError where there is no pause or no such speech."""
    recording = read_recording(path)
    audio_S, _ = mono(recording.audio_SC)
    cut_s = last_pause_s(audio_S, recording.rate_hz, max_s)
    if cut_s is None:
        raise ConfigError(
            "--max-s", max_s, f"{path} has no pause before it", "allow more seconds, or record a new clip"
        )
    kept_S = audio_S[: round(cut_s * recording.rate_hz)]
    check_reference(kept_S, recording.rate_hz, str(path))
    for warning in transcript_warnings(kept_S, recording.rate_hz, text):
        raise ConfigError("--text", repr(text), warning, "listen to the clip, and write exactly what it says")
    subtype = "PCM_16" if NUM_BYTES.get(recording.subtype, 4) <= 2 else "PCM_24"
    try:
        soundfile.write(out, kept_S, recording.rate_hz, subtype=subtype, format="WAV")
    except (OSError, soundfile.LibsndfileError) as error:
        raise ConfigError("--out", out, f"cannot be written ({error})", "name a file in a folder of yours") from error
    return cut_s


def override_of(out: Path, text: str) -> str:
    """`reference.voices=[...]` as Hydra reads it, quoted for a shell."""
    voice_id = re.sub(r"[^A-Za-z0-9_.-]", "_", out.stem).lstrip(".-") or "voice"
    voices = [{"id": voice_id, "audio": str(out.resolve()), "text": text}]
    return shlex.quote(f"reference.voices={hydra_value(voices)}")


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.trim_reference", description=__doc__)
    parser.add_argument("audio", type=Path, help="the longer clip")
    parser.add_argument("--max-s", type=float, required=True, help="seconds to keep at most")
    parser.add_argument("--text", required=True, help="exactly what the shorter clip says")
    parser.add_argument("--out", type=Path, required=True, help="the WAV file to write")
    options = parser.parse_args(argv)
    if not MIN_REFERENCE_S <= options.max_s <= MAX_REFERENCE_S:
        allowed = f"must be {MIN_REFERENCE_S:g} to {MAX_REFERENCE_S:g}"
        raise ConfigError("--max-s", options.max_s, allowed, "use --max-s 5")
    if not options.text.strip() or not options.text.isprintable():
        raise ConfigError("--text", repr(options.text), "must be one line of words", "write exactly what the clip says")
    kept_s = trim(options.audio, options.max_s, options.text, _checked_out(options.out))
    print(f"{options.out}: {kept_s:.2f} s; listen that it ends after the words of --text")
    print(override_of(options.out, options.text))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
