"""The lengths that a plan is made for, for TensorRT itself and behind ONNX Runtime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.contract import ConfigError, InvalidRequest

MIN_FRAMES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """Lengths (frames, reference included) that one optimisation profile serves, and which it is tuned for."""

    min_frames: int
    opt_frames: int
    max_frames: int


def profiles_of(value: Any) -> tuple[Profile, ...]:
    """`engine.profiles`: [[min, opt, max], ...], in order, without gaps. Raises ConfigError."""
    allowed = "must be [[min, opt, max], ...] frames with 2 <= min <= opt <= max, each starting where the last one ends"
    remedy = "use engine.profiles=[[64,1406,2048]]"
    rows = value if isinstance(value, Sequence) and not isinstance(value, str) else []
    found = []
    for row in rows:
        whole = isinstance(row, Sequence) and len(row) == 3 and all(type(number) is int for number in row)
        if not whole or not MIN_FRAMES <= row[0] <= row[1] <= row[2]:
            raise ConfigError("engine.profiles", value, allowed, remedy)
        found.append(Profile(min_frames=row[0], opt_frames=row[1], max_frames=row[2]))
    joined = all(b.min_frames == a.max_frames + 1 for a, b in itertools.pairwise(found))
    if not found or not joined:
        raise ConfigError("engine.profiles", value, allowed, remedy)
    return tuple(found)


def choose_profile(profiles: Sequence[Profile], num_frames: int, batch: int, max_batch: int) -> int:
    """Which profile serves this length. Raises InvalidRequest for a shape that the plan does not hold."""
    lowest, highest = profiles[0].min_frames, profiles[-1].max_frames
    if batch > max_batch:
        raise InvalidRequest(
            "engine.max_batch", max_batch, f"the plan holds no batch of {batch}", "build it with a larger max_batch"
        )
    for index, profile in enumerate(profiles):
        if profile.min_frames <= num_frames <= profile.max_frames:
            return index
    raise InvalidRequest(
        "engine.profiles", f"{lowest}..{highest}", f"the plan holds no utterance of {num_frames} frames",
        "give profiles that cover the workload, or a shorter text or reference",
    )  # fmt: skip
