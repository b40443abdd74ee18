"""The one memory that a Jetson's processor and GPU share.

What a run needs of it is what MemAvailable lost: torch's counter does not see CUDA's context, cuDNN, TensorRT or ONNX
Runtime, and cudaMemGetInfo's free leaves out the page cache, which the kernel would give.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from experiments.jetson.board import is_jetson
from experiments.jetson.tree import Tree

ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
EXPANDABLE = re.compile(r"expandable_segments\s*:\s*true", re.IGNORECASE)


def expandable_segments(environ: Mapping[str, str]) -> str | None:
    """The variable that asks torch for memory that a Jetson's driver cannot give: it is then out of memory with most of
    it free (unsloth-zoo, PR 1235). None where none does."""
    return next((name for name in ALLOCATOR if EXPANDABLE.search(environ.get(name, ""))), None)


def refused_allocator(environ: Mapping[str, str], tree: Tree | None = None) -> str | None:
    """The same on a Jetson; None on any other machine."""
    name = expandable_segments(environ)
    return name if name is not None and is_jetson(Tree() if tree is None else tree) else None
