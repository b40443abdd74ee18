"""Which utterances share a solve: neighbours in length, so that little of the work is padding."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_GRAIN = 64


def length_class(frames: int) -> int:
    """The length that shares a captured graph with others, at least `frames`: a multiple of 64, beyond 1024 frames of
    an eighth of the power of two below, so that from 512 frames on less than an eighth of the work is padding and up
    to 8192 frames there are 40 classes."""
    grain = max(SMALLEST_GRAIN, (1 << frames.bit_length() - 1) >> 3)
    return -(-frames // grain) * grain


def plan_batches(lengths: Sequence[int], max_batch: int, max_padding_frac: float) -> list[list[int]]:
    """Indices of `lengths` in groups of at most max_batch. In a group the shortest is at least 1 - max_padding_frac of
    the longest. Every index appears once; groups run from the shortest to the longest."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        batch = batches[-1] if batches else []
        fits = batch and len(batch) < max_batch and lengths[batch[0]] >= (1 - max_padding_frac) * lengths[index]
        if fits:
            batch.append(index)
        else:
            batches.append([index])
    return batches
