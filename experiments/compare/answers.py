"""What a child says of its engine and of a call, as JSON: the messages of experiments.compare.child."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class Guided(TypedDict, total=False):
    zero_init_steps: int


class ByLength(TypedDict, total=False):
    steps: list[int]


class Reused(TypedDict, total=False):
    kind: str
    evaluated: list[int]
    max_in_a_row: int


class SolverOptions(TypedDict, total=False):
    """SolverSpec.options, as far as they decide how often the model is evaluated."""

    guidance: Guided | None
    rule: ByLength | None
    reuse: Reused | None


class Built(TypedDict, total=False):
    """The facts of a side's engine as JSON; a revision of before may lack some."""

    name: str
    steps: int
    evals_per_step: int
    solver_options: SolverOptions | None
    random_weights: bool
    noise: str
    proof: Mapping[str, object]


class Called(TypedDict, total=False):
    """One answer of child.Side.call: seconds, counts, hashes, the largest magnitude (None where not finite).

    device_s: on CUDA only.
    """

    wall_s: float
    cpu_s: float
    device_s: float
    num_evals: int
    num_chunks: int
    num_frames: int
    num_samples: int
    sample_rate_hz: int
    noise_sha256: str | None
    audio_sha256: str
    peak_rss_bytes: int
    answer_sha256: str
    finite: bool
    peak: float | None
