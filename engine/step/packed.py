"""Weights laid out once for oneDNN: the same products, 1.1 to 1.4 times as fast, and the feed-forward's activation
taken while a product's sums are still in registers.

F.linear in float32 goes to MKL, which takes its slower code path on CPUs that are not Intel's. A compiler cannot see
through a packed weight, so compiled code calls the operator `f5bench::packed_linear`, which is told the layer by a
number held in a tensor: an input of the graph, like a weight, so that one compiled graph serves every layer and model
of its shape and stays in the compiler's cache on disk.
"""

from __future__ import annotations

import itertools
import weakref

import torch
from torch import nn

from engine.step.unett import Step

_NUMBERS = itertools.count()
_LAYERS: weakref.WeakValueDictionary[int, PackedLinear] = weakref.WeakValueDictionary()
_LIBRARY = torch.library.Library("f5bench", "DEF")
_LIBRARY.define("packed_linear(Tensor x, Tensor layer, int width) -> Tensor")


class PackedLinear(nn.Module):
    """nn.Linear for inference on a CPU, its weight in oneDNN's blocked layout; gelu: followed by GELU, `tanh` or `none`
    (exact), as PyTorch names its forms."""

    layer: torch.Tensor

    def __init__(self, linear: nn.Linear, gelu: str | None = None):
        super().__init__()
        self.dtype, self.num_weights, self.width = linear.weight.dtype, linear.weight.numel(), linear.out_features
        self._after: tuple[str, list[float], str] = ("none", [], "") if gelu is None else ("gelu", [], gelu)
        # No batch size hint: one layout has to serve every length
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().contiguous(), None)
        self.bias = linear.bias
        number = next(_NUMBERS)
        _LAYERS[number] = self
        self.register_buffer("layer", torch.tensor(number), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return torch.ops.f5bench.packed_linear(x, self.layer, self.width)
        return self.product(x)

    def product(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, *self._after)


def _packed_linear(x: torch.Tensor, layer: torch.Tensor, width: int) -> torch.Tensor:
    return _LAYERS[int(layer)].product(x)


def _packed_linear_shape(x: torch.Tensor, layer: torch.Tensor, width: int) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], width)


_LIBRARY.impl("packed_linear", _packed_linear, "CPU")
torch.library.register_fake("f5bench::packed_linear", _packed_linear_shape, lib=_LIBRARY)


class PackedConv(nn.Module):
    """The step's nn.Conv1d for inference on a CPU, as a convolution of height 1 with its weight in oneDNN's layout."""

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        self.dtype, self.num_weights = conv.weight.dtype, conv.weight.numel()
        self._where = ([0, int(conv.padding[0])], [1, 1], [1, 1], conv.groups)
        weight = conv.weight.detach()[:, :, None].contiguous()
        self._packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._where, [])
        self.bias = conv.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = torch.ops.mkldnn._convolution_pointwise(
            x[:, :, None], self._packed, self.bias, *self._where, "none", [], ""
        )
        return padded[:, :, 0]


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN's packed products for the dtype on this CPU."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack_conv(conv: nn.Module) -> nn.Module:
    """The nn.Conv1d packed where the layout pays: with 16 channels a group it halves the time in float32, with 64 it
    takes three times as long."""
    pays = isinstance(conv, nn.Conv1d) and conv.weight.shape[1] == 16 and can_pack(conv.weight.dtype)
    return PackedConv(conv) if pays and conv.weight.dtype == torch.float32 else conv


def pack(step: Step, compiled: bool = False) -> Step:
    """The linear layers of all blocks, in place, and the convolutions where it pays. compiled: for a compiler, which
    takes the convolutions as they are."""
    if not compiled:
        step.conv1, step.conv2 = pack_conv(step.conv1), pack_conv(step.conv2)
    for block in step.blocks:
        for name, child in list(block.named_children()):
            if isinstance(child, nn.Linear):
                setattr(block, name, PackedLinear(child, gelu="tanh" if name == "ff_in" else None))
        block.act = nn.Identity()
    return step
