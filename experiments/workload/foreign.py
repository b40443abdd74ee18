"""Whether a voice is one that the model knows: what speaks in two voices alone makes little sense in a third."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import PurePath

from engine.paths import ROOT
from engine.settings import ModelSettings
from experiments.workload.voices import Voice

POCKET = PurePath("engine/pocket")  # the bundled models lie beside the clips of all their voices


def foreign_voices(model: ModelSettings, voices: Sequence[Voice]) -> Iterator[str]:
    """A warning for every clip in a voice that the bundled pocket models were never taught."""
    if PurePath(str(model["checkpoint"])).parent != POCKET:
        return
    for voice in voices:
        if voice.file_sha256 not in _own_clips():
            yield (
                f"voice {voice.voice_id}: model={model['name']} speaks in two voices, slt and rms; in another its "
                "speed holds, its words are not understood well: use weights of the real size (docs/your-weights.md)"
            )


@lru_cache(maxsize=1)
def _own_clips() -> frozenset[str]:
    return frozenset(hashlib.sha256(path.read_bytes()).hexdigest() for path in (ROOT / POCKET).glob("*.wav"))
