"""torch.compile as such: the compiler found or refused, its graphs counted."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from engine.cache import cache_root
from engine.contract import ConfigError, UnsupportedEngine
from engine.cpu import cpu_sha256

MAX_COMPILATIONS = 64


class CountingInductor:
    """torch.compile's backend: inductor behind a counter. One call is one graph handed over for compilation, also
    where the kernels then come from the cache on disk. runs: calls of the graphs that were made."""

    def __init__(self, inductor: Mapping[str, object]):
        self._inductor = inductor
        self.compilations = self.runs = 0
        self.compile_s = 0.0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> Callable[..., Any]:
        from torch._inductor.compile_fx import compile_fx

        before_s = time.perf_counter()
        made = compile_fx(graph, list(inputs), config_patches=dict(self._inductor))  # Dynamo may ask to start again
        self.compilations += 1
        self.compile_s += time.perf_counter() - before_s

        def run(*given: torch.Tensor) -> Any:
            self.runs += 1
            return made(*given)

        return run

    def refuse_eager(self, runs_before: int, instead: str) -> None:
        """Raises UnsupportedEngine where no compiled graph has run since `runs` was that."""
        if self.runs == runs_before:
            raise UnsupportedEngine(
                "torch.compile ran the plain function: no compiled graph was called",
                f"leave Dynamo on (no torch.compiler.set_stance or disable), or use {instead}",
            )


def ready_compiler(inductor: Mapping[str, object], device: str, group: str, instead: str) -> None:
    """What every use of the compiler needs first. group: of the settings; instead: what needs no compiler.

    Raises UnsupportedEngine where a part of it is missing, ConfigError for settings it does not know."""
    refuse_disabled(instead)
    check_compiler(device, instead)
    check_settings(inductor, group)
    # Kernels are made for this processor and thread count; inductor's own key does not know the latter
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(kernel_folder())
    torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, MAX_COMPILATIONS)


def refuse_disabled(instead: str) -> None:
    """Raises UnsupportedEngine where torch.compile would give back the plain function."""
    if torch._dynamo.config.disable or os.environ.get("TORCHDYNAMO_DISABLE") == "1":
        raise UnsupportedEngine(
            "torch.compile is switched off here, by TORCHDYNAMO_DISABLE, TORCH_COMPILE_DISABLE or torch._dynamo.config",
            f"unset them, or use {instead}",
        )


def check_compiler(device: str, instead: str) -> None:
    """Inductor needs a C++ compiler for a CPU, and Triton besides for CUDA."""
    import importlib.util

    if shutil.which(os.environ.get("CXX") or "g++") is None and shutil.which("clang++") is None:
        raise UnsupportedEngine(
            "torch.compile needs a C++ compiler and finds none", f"apt-get install g++ python3-dev, or use {instead}"
        )
    if device != "cpu" and importlib.util.find_spec("triton") is None:
        raise UnsupportedEngine(
            "torch.compile needs Triton on CUDA and it is not installed (stock aarch64 wheels have none)",
            f"pip install triton for this torch, or use {instead}",
        )


def check_settings(inductor: Mapping[str, object], group: str) -> None:
    from torch._inductor import config

    known = config.get_config_copy()
    for key, value in inductor.items():
        if key not in known:
            raise ConfigError(
                f"{group}.inductor.{key}", value, "is not a setting of torch._inductor.config", "correct the spelling"
            )


def kernel_folder() -> Path:
    """Compiled kernels of this processor, torch version and number of threads."""
    return cache_root() / "inductor" / f"torch-{torch.__version__}-{cpu_sha256()[:12]}-{torch.get_num_threads()}t"
