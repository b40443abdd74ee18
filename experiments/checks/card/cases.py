"""What the GPU check speaks, and the engines it builds for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine.clock import make_clock
from engine.contract import Engine, SynthesisRequest
from experiments.settings.compose import compose_config

PEAKS = "peaks"  # in the place of an engine's name: the card's own
FRAMES = (280, 563, 938)  # generated, at 24 kHz / 256: 3, 6 and 10 s


# The text is twice as long as the transcript, so that upstream's duration rule gives twice the reference's seconds
TRANSCRIPT = "We walk along the sea in the morning, and look for birds."


TEXT = (
    "When the wind turned to the north, we carried the boats up to the house and waited there until the evening light."
)


def engine_of(name: str, overrides: Sequence[str], guidance: str) -> Engine:
    from engine.build import build_engine

    config = compose_config([f"engine={name}", "solver=euler_7", f"solver.cfg_strength={guidance}", *overrides])
    return build_engine(config, make_clock(str(config["device"]["kind"])))


def batches(overrides: Sequence[str], frames: Sequence[int] = FRAMES) -> Iterator[tuple[str, list[SynthesisRequest]]]:
    """Three lengths alone, then three utterances of near lengths in one solve."""
    from experiments.workload.requests import load_workload

    ask = load_workload(compose_config(["engine=bf16", *overrides])).requests[0]
    for num_frames in frames:
        yield f"{num_frames} frames", [replace(ask, num_frames=num_frames)]
    near = [replace(ask, num_frames=frames[1] - 4 * i, utterance_id=f"{ask.utterance_id}-{i}") for i in range(3)]
    yield "three utterances in one solve", near
