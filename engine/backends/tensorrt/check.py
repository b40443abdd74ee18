"""What a freshly built plan must show before it is used: at the shortest, tuned and longest length of every profile the
velocity is finite, has the oracle's energy and is near the oracle's (NVIDIA/TensorRT issue 4450: blank audio at every
length but the tuned one). A plan for batches shows it for a full batch of unequal lengths, too.

Shape letters as in engine.step.dit; G guidance rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from engine.contract import UnsupportedEngine
from engine.runtimes.profiles import Profile
from engine.step.dit import DiTStep
from engine.step.examples import example_feeds, run_step
from engine.step.inputs import Feeds, mask_feeds

# Relative L2 of one step against float32, about four times what PyTorch's own arithmetic of that precision loses. int8:
# ONNX Runtime finds up to 0.016 in the graph itself with six blocks; errors of blocks add up as a root does, so about
# 0.03 with 22, and a half type's own loss beside it.
TOLERANCE = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1, "int8_fp16": 0.1, "int8_bf16": 0.15}
ENERGY = (0.8, 1.25)

Run = Callable[[Feeds], torch.Tensor]
ExamplesAt = Callable[[int], Sequence[Feeds]]


def drawn_feeds(step: DiTStep, groups: int, num_frames: int, masked: bool) -> Feeds:
    """Inputs of one utterance at normal noise, by the graph's names; another draw for every length."""
    return example_feeds(step, groups, (num_frames,), masked, seed=num_frames)


def batched(feeds: Feeds, batch: int) -> Feeds:
    """One utterance's inputs -> those of `batch` utterances in one solve, the i-th shorter than the one before and
    masked behind its end, down to about half the frames."""
    groups, num_frames = feeds["projected"].shape[0], feeds["x"].shape[1]
    lengths = [num_frames - i * num_frames // (2 * batch) for i in range(batch)]
    return {
        **feeds, **mask_feeds(lengths, groups, num_frames),
        "x": torch.cat([feeds["x"].roll(i, 1) for i in range(batch)]),
        "projected": feeds["projected"].repeat(1, batch, 1, 1), "convolved": feeds["convolved"].repeat(1, batch, 1, 1),
    }  # fmt: skip


def check_plan(
    run: Run,
    oracle: DiTStep,
    profiles: Sequence[Profile],
    examples_at: ExamplesAt,
    precision: str,
    max_batch: int = 1,
) -> dict[str, dict[str, Any]]:
    """{frames: {relative_l2, energy_ratio}} of the worst example. Raises UnsupportedEngine naming the length at which
    the plan fails. examples_at: inputs of one utterance to try at a number of frames; max_batch: above 1 the first of
    them also as a batch."""
    lengths = sorted({n for p in profiles for n in (p.min_frames, p.opt_frames, p.max_frames)})
    found = {}
    for num_frames in lengths:
        examples = list(examples_at(num_frames))
        full = [batched(examples[0], max_batch)] if max_batch > 1 else []
        rows = [_compared(run, oracle, feeds, precision) for feeds in (*examples, *full)]
        found[str(num_frames)] = max(rows, key=lambda row: row["relative_l2"])
    return found


def _compared(run: Run, oracle: DiTStep, feeds: Feeds, precision: str) -> dict[str, float]:
    expected, made, allowed = run_step(oracle, feeds), run(feeds).float().cpu(), TOLERANCE[precision]
    if "frames" in feeds:  # what stands in the padding is nobody's
        padding = feeds["frames"] == 0
        expected, made = expected.masked_fill(padding, 0), made.masked_fill(padding, 0)
    if bool(torch.isfinite(made).all()):
        error = float((made - expected).norm() / expected.norm())
        energy = float(made.square().sum() / expected.square().sum())
        if error <= allowed and ENERGY[0] <= energy <= ENERGY[1]:
            return {"relative_l2": error, "energy_ratio": energy}
        said = f"relative error {error:.3g}, energy x {energy:.3g}"
    else:
        said = "values that are not finite"
    batch = f" of {len(feeds['x'])} utterances" if len(feeds["x"]) > 1 else ""
    raise UnsupportedEngine(
        f"the built plan is wrong at {feeds['x'].shape[1]} frames{batch}: {said} (allowed {allowed:g})",
        "use engine=tensorrt or engine=cuda_graph, and keep this plan's log",
    )
