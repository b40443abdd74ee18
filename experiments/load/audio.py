"""Is what the service says valid speech? Checked for every answer before any figure is printed.

The same audio of the same sentence, bit by bit, is judged once: checking costs a hash where an engine repeats itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from experiments.common.plain import Config
from experiments.scoring.audio import expected_samples
from experiments.workload.requests import Line
from metrics.fidelity.artefacts import Expectation, audio_valid
from metrics.record import Utterance


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Heard:
    """One answer: audio_S float32 mono (S,), and the frames and chunks that it was made of."""

    audio_S: np.ndarray
    sample_rate_hz: int
    num_frames: int
    num_chunks: int
    num_evals: int


@dataclass(slots=True)
class AudioCheck:
    """Remembers what was judged. invalid: one line a fault. Keeps the first answer of every sentence in `folder`.

    voice_dc: mean of the clip that speaks a sentence, by utterance id."""

    config: Config
    lines: Sequence[Line]
    folder: Path
    random_weights: bool
    voice_dc: Mapping[str, float]
    invalid: list[str] = field(default_factory=list)
    num_heard: int = 0
    _judged: dict[str, str] = field(default_factory=dict)
    _kept: set[str] = field(default_factory=set)

    @property
    def num_distinct(self) -> int:
        return len(self._judged)

    def hear(self, item: int, heard: Heard) -> str:
        """The hash of the audio; a fault is added to `invalid`."""
        line = self.lines[item]
        audio_S = np.ascontiguousarray(heard.audio_S, dtype=np.float32)
        sha256 = hashlib.sha256(audio_S.tobytes()).hexdigest()
        self.num_heard += 1
        known = self._judged.get(sha256)
        if known is None:
            self._judged[sha256] = line.utterance_id
            self._judge(line, heard, audio_S)
        elif known != line.utterance_id and not self.random_weights:
            self.invalid.append(f"{line.utterance_id}: the answer to {known} was given again")
        return sha256

    def _judge(self, line: Line, heard: Heard, audio_S: np.ndarray) -> None:
        wanted = expected_samples(_utterance(line, heard), self.config)
        if heard.num_evals < 1:
            self.invalid.append(f"{line.utterance_id}: no velocity evaluation was counted")
        if self.random_weights:
            # Noise is what random weights say; what can still be wrong is the length and the arithmetic
            if len(audio_S) != wanted or not np.isfinite(audio_S).all():
                self.invalid.append(f"{line.utterance_id}: {len(audio_S)} samples, must be {wanted} finite ones")
        else:
            expected = Expectation(
                utterance_id=line.utterance_id, text=line.text, num_samples=wanted,
                sample_rate_hz=int(self.config["model"]["sample_rate_hz"]),
                voice_dc=self.voice_dc[line.utterance_id],
            )  # fmt: skip
            score = audio_valid(audio_S, heard.sample_rate_hz, expected=expected)
            if score.status != "ok":
                self.invalid.append(f"{line.utterance_id}: {score.reason}")
        self._keep(line, audio_S, heard.sample_rate_hz)

    def _keep(self, line: Line, audio_S: np.ndarray, rate_hz: int) -> None:
        if line.utterance_id in self._kept:
            return
        import soundfile

        self._kept.add(line.utterance_id)
        path = self.folder / "audio" / f"{line.utterance_id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio_S, rate_hz, subtype="FLOAT")


def _utterance(line: Line, heard: Heard) -> Utterance:
    """What the length rule needs to know."""
    return Utterance(
        utterance_id=line.utterance_id, category=line.category, text=line.text, sample_rate_hz=heard.sample_rate_hz,
        num_samples=len(heard.audio_S), num_frames=heard.num_frames, num_chunks=heard.num_chunks, noise_sha256=None,
        audio_sha256="", audio_path="", mel_path="",
    )  # fmt: skip
