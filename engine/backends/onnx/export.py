"""The rewritten step as ONNX, traced from `DiTStep` itself and compared with it before anybody may use the file.

Two forms. The portable one has standard operators only (opset 20: what TensorRT and any ONNX Runtime provider read).
The fused one states RoPE and attention of a block as ONNX Runtime's own operators (com.microsoft RotaryEmbedding and
MultiHeadAttention, the latter blocked like flash attention on a CPU). Two graphs for masks as well, with and without:
a key mask rules out the fast attention kernel, and one utterance alone has no padding.

Shape letters: G guidance rows (1 or 2), B utterances, N frames, D mel bins, C model width, H heads, L blocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.cache import cached_folder, source_sha256
from engine.contract import UnsupportedEngine
from engine.runtimes.onnx_package import required, versions
from engine.step.attention import Attend
from engine.step.dit import DiTStep
from engine.step.examples import example_feeds, run_step
from engine.step.inputs import Feeds, StepInputs

OPSET = 20  # the first with Gelu; LayerNormalization is 17
OUTPUT = "velocity"
CHECKED_FRAMES = (37, 128, 301)
MAX_FRAMES = 8192
EXTERNAL_ABOVE_BYTES = 1 << 30  # a single ONNX file ends at 2 GiB
STEP_TOLERANCE = 1e-4  # relative L2 of one step, float32
CODE = (
    "engine.step.dit", "engine.step.inputs", "engine.step.attention", "engine.step.examples",
    "engine.backends.onnx.export", "engine.backends.onnx.rewrite",
)  # fmt: skip

Runner = Callable[[Feeds], torch.Tensor]


class ExportForm(nn.Module):
    """The step with guidance rows and utterances as axes of their own, so that each can vary in the graph: `StepInputs`
    grouped, with both masks or none -> velocity (G, B, N, D)."""

    def __init__(self, step: DiTStep):
        super().__init__()
        self.step = step

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        inputs = StepInputs(*tensors)
        velocity: torch.Tensor = self.step(inputs.flat())
        return velocity.unflatten(0, inputs.projected.shape[:2])


def dynamic_axes(masked: bool) -> Mapping[str, Mapping[int, Any]]:
    from torch.export import Dim

    group, batch, frames = Dim("G", min=1, max=8), Dim("B", min=1, max=256), Dim("N", min=2, max=MAX_FRAMES)
    axes: dict[str, dict[int, Any]] = {
        "x": {0: batch, 1: frames}, "projected": {0: group, 1: batch, 2: frames},
        "convolved": {0: group, 1: batch, 3: frames}, "cos": {0: frames}, "sin": {0: frames},
        "modulation": {}, "final": {},
    }  # fmt: skip
    if masked:
        axes |= {"frames": {0: group, 1: batch, 2: frames}, "keys": {0: group, 1: batch, 4: frames}}
    return axes


def fused_mix(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, key_mask: torch.Tensor | None, attend: Attend
) -> torch.Tensor:
    """`engine.step.dit.mix` as ONNX Runtime's operators; can be traced, not run."""
    from torch.onnx.ops import symbolic

    rows, frames, _, heads, dim_head = qkv.shape
    shape, half = (rows, frames, heads * dim_head), dim_head // 2
    q, k, v = qkv.flatten(3).unbind(2)
    position = torch.zeros(1, dtype=torch.int64)  # where the first frame stands in the tables

    def turned(h: torch.Tensor) -> torch.Tensor:
        return symbolic(
            "com.microsoft::RotaryEmbedding", (h, position, cos[:, 0, :half], sin[:, 0, :half]),
            {"num_heads": heads, "interleaved": 0}, dtype=h.dtype, shape=shape,
        )  # fmt: skip

    mask = None if key_mask is None else key_mask.expand(rows, 1, frames, frames)
    mixed = symbolic(
        "com.microsoft::MultiHeadAttention", (turned(q), turned(k), v, None, None, mask), {"num_heads": heads},
        dtype=v.dtype, shape=shape,
    )  # fmt: skip
    return mixed.unflatten(2, (heads, dim_head))


@contextmanager
def mixed_by(step: DiTStep, mix: Callable[..., torch.Tensor] | None) -> Iterator[None]:
    kept = [block.mix for block in step.blocks]
    try:
        for block in step.blocks if mix else ():
            block.mix = mix
        yield
    finally:
        for block, own in zip(step.blocks, kept, strict=True):
            block.mix = own


def export_step(step: DiTStep, path: Path, *, masked: bool, fused: bool = False) -> Path:
    """Writes `step` (any dtype, on the CPU) as ONNX and compares it with PyTorch in ONNX Runtime at three lengths, one
    and two guidance rows. Weights over 1 GiB go to a file beside it.

    masked: with the inputs `frames` and `keys`. fused: ONNX Runtime's operators, float32 only; otherwise standard ones.
    Raises UnsupportedEngine where an exporter is missing, fails, or gives another answer than the step.
    """
    onnxruntime = required("onnxruntime")
    required("onnxscript")  # the exporter's own need, asked for here to say what to install
    feeds = example_feeds(step, 2, (64, 48, 40), masked)
    _trace(step, feeds, path, fused and step.arch.pe_attn_head is None)  # one operator turns all heads or none
    if fused:
        _rewritten(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(given: Feeds) -> torch.Tensor:
        return torch.from_numpy(session.run([OUTPUT], {name: value.numpy() for name, value in given.items()})[0])

    check_step(step, run, masked, STEP_TOLERANCE)
    return path


def _trace(step: DiTStep, feeds: Feeds, path: Path, fused: bool) -> None:
    axes = dynamic_axes("frames" in feeds)
    shapes = (tuple(axes[name] for name in feeds),)  # of the one argument, all tensors
    num_bytes = sum(p.numel() * p.element_size() for p in step.parameters())
    with mixed_by(step, fused_mix if fused else None), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # axes named alike, torchvision absent: nothing a user can act on
        try:
            program = torch.onnx.export(
                ExportForm(step).eval(), tuple(feeds.values()), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=list(feeds), output_names=[OUTPUT], dynamic_shapes=shapes,
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as failure:
            raise UnsupportedEngine(
                f"torch {torch.__version__} cannot export the step: {str(failure).splitlines()[0]}",
                "use the versions of constraints.txt, or engine=fp32",
            ) from failure
    if program is None:
        raise UnsupportedEngine("the exporter returned no graph", "use the versions of constraints.txt")
    program.save(path, external_data=num_bytes > EXTERNAL_ABOVE_BYTES)


def _rewritten(path: Path) -> None:
    import onnx

    from engine.backends.onnx.rewrite import for_onnxruntime

    external = path.with_name(path.name + ".data")
    model = for_onnxruntime(onnx.load(str(path)))
    large = external.exists()
    external.unlink(missing_ok=True)
    onnx.save(model, str(path), save_as_external_data=large, location=external.name if large else None)


def check_step(step: DiTStep, run: Runner, masked: bool, tolerance: float) -> float:
    """Largest relative L2 of `run` against the step over lengths, rows and masks. Raises UnsupportedEngine above
    `tolerance`, or where something is not finite."""
    worst = 0.0
    for frames in CHECKED_FRAMES:
        for groups in (1, 2):
            lengths = (frames, frames - 5, frames // 2)[: 1 + groups] if masked else (frames,) * groups
            feeds = example_feeds(step, groups, lengths, masked, seed=frames)
            expected = run_step(step, feeds).double()
            found = run(feeds).double()
            for i, length in enumerate(lengths):  # what stands in the padding is nobody's
                gap = (found[:, i, :length] - expected[:, i, :length]).norm() / expected[:, i, :length].norm()
                error = float(gap)
                if not error <= tolerance:
                    raise UnsupportedEngine(
                        f"the exported step is {error:.1e} (relative L2) from PyTorch at {length} of {frames} frames, "
                        f"{groups} guidance rows; {tolerance:.0e} is allowed",
                        "use engine=fp32 and the versions of constraints.txt",
                    )
                worst = max(worst, error)
    return worst


def cached_step(identity: Mapping[str, object], step: DiTStep, *, masked: bool, fused: bool = False) -> Path:
    """`export_step` once per machine. identity: what names the weights (their hash, the arch); the code that makes the
    graph and the versions that write it are added here."""
    parts = {
        **identity, "dtype": str(step.x_proj.weight.dtype), "masked": masked, "fused": fused, "opset": OPSET,
        "code": source_sha256(*CODE), "versions": versions("torch", "onnx", "onnxruntime"),
    }  # fmt: skip
    folder = cached_folder(
        "onnx_step", parts, lambda new: export_step(step, new / "step.onnx", masked=masked, fused=fused)
    )
    return folder / "step.onnx"
