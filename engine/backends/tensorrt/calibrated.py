"""The step's INT8 graph for TensorRT, made once from recorded speech (the recording of engine=onnx_int8) and kept with
a few of the recorded inputs: normal noise lies outside the ranges, so a plan is checked on those.

Shape letters as in engine.step.dit; G guidance rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from engine.backends.tensorrt.qdq import layer_ranges, quantize
from engine.cache import cached_folder, source_sha256
from engine.context import Context, Materials
from engine.step.dit import Arch, rope_table
from engine.step.inputs import Feeds, mask_feeds

if TYPE_CHECKING:
    from engine.backends.onnx.quantization import Calibration

CODE = ("engine.backends.tensorrt.qdq", "engine.backends.tensorrt.typed", "engine.backends.tensorrt.calibrated")


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Form:
    """precision: int8_fp16 or int8_bf16, the latter part of what is not int8. layers: those that are."""

    precision: str
    layers: tuple[str, ...]
    calibration: Calibration
    masked: bool


def int8_graph(context: Context, made: Materials, form: Int8Form) -> tuple[Path, Callable[[int], Sequence[Feeds]]]:
    """(the graph, recorded inputs of the step at a number of frames). Raises UnsupportedEngine."""
    from engine.backends.tensorrt.plan import exported, file_sha256

    source = exported(made.dit, made.model.sha256, made.arch, "fp32", form.masked)
    parts = {
        "source": file_sha256(source), "precision": form.precision, "layers": form.layers,
        "method": form.calibration.method, "code": source_sha256(*CODE),
        **form.calibration.identity(context.config, context.solver),
    }  # fmt: skip
    folder = cached_folder("onnx_qdq", parts, lambda new: _make(context, made, form, source, new))
    examples = torch.load(folder / "examples.pt", weights_only=True)
    return folder / "step.onnx", partial(_at_length, examples, made.arch, form.masked)


def _make(context: Context, made: Materials, form: Int8Form, source: Path, folder: Path) -> None:
    import onnx

    from engine.backends.onnx.build import record_feeds
    from engine.backends.tensorrt.typed import to_half

    speaking = replace(made, step=copy.deepcopy(made.step))  # which recording lays out anew and moves
    feeds = record_feeds(context, speaking, form.calibration.sentences)
    ranges = layer_ranges(speaking.step, feeds, form.layers, form.calibration.method)
    half, model = form.precision.removeprefix("int8_"), onnx.load(str(source))
    quantize(model, ranges, half)
    to_half(model, half)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(folder / "step.onnx"))
    torch.save(few_of(feeds), folder / "examples.pt")


def few_of(feeds: Sequence[Feeds]) -> list[Feeds]:
    """The first, a middle and the last recorded evaluation of those with most guidance rows."""
    groups = max(len(given["projected"]) for given in feeds)
    whole = [given for given in feeds if len(given["projected"]) == groups]
    return [whole[0], whole[len(whole) // 2], whole[-1]]


def _at_length(examples: Sequence[Feeds], arch: Arch, masked: bool, num_frames: int) -> list[Feeds]:
    return [stretched(given, arch, masked, num_frames) for given in examples]


def stretched(given: Feeds, arch: Arch, masked: bool, num_frames: int) -> Feeds:
    """A recording of one utterance at another length: cut, or its frames again from the first on, at RoPE's angles of
    that length."""
    at = torch.arange(num_frames) % given["x"].shape[1]
    cos, sin = rope_table(num_frames, arch)
    feeds = {
        **given, "x": given["x"][:, at], "projected": given["projected"][:, :, at],
        "convolved": given["convolved"][..., at], "cos": cos, "sin": sin,
    }  # fmt: skip
    return {**feeds, **mask_feeds([num_frames], len(given["projected"]), num_frames)} if masked else feeds
