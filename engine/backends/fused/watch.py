"""What PyTorch itself runs in an evaluation: the proof that beside products and attention it is nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = (
    "addmm", "mm", "bmm", "conv", "scaled_dot_product", "_scaled_dot_product", "mkldnn", "linear", "_addmm_activation",
    "_scaled_mm",
)  # fmt: skip
ALLOCATIONS = ("new_empty", "empty", "_unsafe_view", "detach")


class PyTorchsWork(TorchDispatchMode):
    """Within it, by name: `products` (attention and convolutions among them), and `elementwise`, everything else that
    is neither a view nor an allocation, with the bytes that it read and wrote."""

    def __init__(self, uncounted: tuple[str, ...] = ()):
        super().__init__()
        self._uncounted = ALLOCATIONS + uncounted
        self.elementwise: Counter[str] = Counter()
        self.products: Counter[str] = Counter()
        self.moved_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        if name.startswith(PRODUCTS):
            self.products[name] += 1
        elif not func.is_view and not name.startswith(self._uncounted):
            self.elementwise[name] += 1
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.moved_bytes += sum(tensor.nbytes for tensor in tensors)
        return out
