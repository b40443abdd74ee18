"""What TensorRT-RTX has beyond TensorRT when a plan is run: kernels compiled for this card and kept, CUDA graphs of its
own, kernels specialised for a length.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.contract import UnsupportedEngine

REBUILD = "use engine.plan=null to build one here"
# What the runtime says of a plan that is not for this machine, by its EngineInvalidityDiagnostics
REASONS = {
    "VERSION_MISMATCH": "it is of another version of TensorRT-RTX",
    "UNSUPPORTED_CC": "it is not for this card's compute capability",
    "OLD_CUDA_DRIVER": "this machine's CUDA driver is too old for it",
    "OLD_CUDA_RUNTIME": "this machine's CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "this card has too little memory for it",
    "MALFORMED_ENGINE": "it is no plan of TensorRT-RTX, or a damaged one",
    "CUDA_ERROR": "CUDA does not work here",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RtxSettings:
    """specialise: eager (a new length waits for its kernels), lazy (they are compiled beside it) or none. cuda_graph:
    whole evaluations are captured. kernels: the file that keeps what was compiled."""

    specialise: str
    cuda_graph: bool
    kernels: Path


def refuse_invalid(trt: Any, runtime: Any, plan: bytes) -> None:
    """Raises UnsupportedEngine with what the runtime says against a plan, from its header."""
    validity, found = runtime.get_engine_validity(plan[: runtime.engine_header_size])
    if validity != trt.EngineValidity.INVALID:
        return
    flags = trt.EngineInvalidityDiagnostics.__members__
    said = [REASONS.get(name, name) for name, flag in flags.items() if int(found) & int(flag)]
    reason = "; ".join(said) or "it cannot be used on this machine (its log is on stderr)"
    raise UnsupportedEngine(f"TensorRT-RTX refuses this plan: {reason}", REBUILD)


class KernelCache:
    """TensorRT-RTX's runtime cache with its file: 32 bytes of SHA-256, then what the runtime wrote."""

    def __init__(self, cache: Any, path: Path):
        self._cache, self._path, self._kept = cache, path, b""

    def load(self) -> bool:
        """Whether there was a sound one of this card, driver and version. Another one is made anew, and that is said:
        the first calls compile again."""
        if not self._path.is_file():
            return False
        digest, blob = self._path.read_bytes()[:32], self._path.read_bytes()[32:]
        if hashlib.sha256(blob).digest() != digest:
            print(f"{self._path.name} is damaged: kernels are compiled again", file=sys.stderr)
        elif not self._cache.deserialize(blob):
            print(f"{self._path.name} is of another card, driver or version: kernels are compiled again",
                  file=sys.stderr)  # fmt: skip
        else:
            self._kept = digest
            return True
        return False

    def keep(self) -> None:
        """Written where it has changed; complete or not at all."""
        blob = bytes(memoryview(self._cache.serialize()))
        digest = hashlib.sha256(blob).digest()
        if digest == self._kept:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_bytes(digest + blob)
        new.replace(self._path)
        self._kept = digest


def execution_context(trt: Any, engine: Any, settings: RtxSettings) -> tuple[Any, KernelCache]:
    config = engine.create_runtime_config()
    graphs, kernels = trt.CudaGraphStrategy, trt.DynamicShapesKernelSpecializationStrategy
    config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE if settings.cuda_graph else graphs.DISABLED
    config.dynamic_shapes_kernel_specialization_strategy = getattr(kernels, settings.specialise.upper())
    runtime_cache = config.create_runtime_cache()
    cache = KernelCache(runtime_cache, settings.kernels)
    cache.load()
    if not config.set_runtime_cache(runtime_cache):
        raise UnsupportedEngine("TensorRT-RTX takes no runtime cache (its log is on stderr)", "use engine=cuda_graph")
    context = engine.create_execution_context(config)
    if context is None:
        raise UnsupportedEngine(
            "TensorRT-RTX cannot prepare this plan for this card (its log is on stderr)", "use engine=cuda_graph"
        )
    return context, cache


class Slots:
    """Inputs and output of every shape at one address each: a captured graph is valid for the addresses that it was
    captured with. sizes: most elements by name."""

    def __init__(self, sizes: Mapping[str, int], dtypes: Mapping[str, torch.dtype], device: torch.device):
        self._flat = {name: torch.empty(size, dtype=dtypes[name], device=device) for name, size in sizes.items()}
        self._last: dict[str, torch.Tensor] = {}

    def put(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor's copy at its address; one that lies there already is not copied again."""
        slot = self.of(name, tuple(tensor.shape))
        if self._last.get(name) is not tensor:
            slot.copy_(tensor)
            self._last[name] = tensor  # held, so that no other can be at its place
        return slot

    def of(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        size = torch.Size(shape).numel()
        return self._flat[name][:size].view(shape)


def most_elements(engine: Any, names: Mapping[str, bool]) -> dict[str, int]:
    """Elements of every input at the greatest shape of any profile. names: of all tensors, whether it is an input."""
    profiles = range(engine.num_optimization_profiles)

    def elements(name: str) -> int:
        return max(torch.Size(tuple(engine.get_tensor_profile_shape(name, i)[2])).numel() for i in profiles)

    return {name: elements(name) for name, is_input in names.items() if is_input}
