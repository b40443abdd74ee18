"""NVIDIA's two runtimes of one interface, and what a machine has of them.

TensorRT chooses and times kernels while it builds, so a plan is of one card. TensorRT-RTX builds without a card, for
every one from capability 8.0 on (Ampere), and compiles for the card when the plan is run.
"""

from __future__ import annotations

import importlib
from typing import Any

from engine.contract import ConfigError, UnsupportedEngine

RTX = "tensorrt_rtx"
MODULES = {"tensorrt": "tensorrt", RTX: "tensorrt_rtx_bindings"}
INSTALL = {
    "tensorrt": "pip install '.[tensorrt]', JetPack's own on a Jetson",
    RTX: "pip install '.[tensorrt-rtx]' on x86-64",
}
ANY_CARD = "8.0 and later"  # the compute capability of a TensorRT-RTX plan for which none was named


def checked_runtime(runtime: str) -> str:
    if runtime not in MODULES:
        raise ConfigError(
            "engine.runtime",
            runtime,
            f"must be {' or '.join(MODULES)}",
            "use engine=tensorrt or engine=tensorrt_rtx_bf16",
        )
    return runtime


def load_runtime(runtime: str) -> Any:
    """The module. Raises UnsupportedEngine where it is not installed or its libraries do not load."""
    try:
        return importlib.import_module(MODULES[runtime])
    except (ImportError, OSError) as absent:
        raise UnsupportedEngine(f"{title(runtime)} is not installed ({absent})", INSTALL[runtime]) from absent


def title(runtime: str) -> str:
    """As NVIDIA calls it."""
    return "TensorRT-RTX" if runtime == RTX else "TensorRT"


def versions_here(device: str, runtime: str = "tensorrt") -> tuple[str, str]:
    """`built_for` where plans are run. Raises UnsupportedEngine without a CUDA device, too."""
    if device == "cpu":
        raise UnsupportedEngine(
            f"{title(runtime)} needs a CUDA device and device.kind is cpu",
            "use device=cuda, or engine=compiled_bf16 here",
        )
    return built_for(runtime, device)


def built_for(runtime: str, device: str) -> tuple[str, str]:
    """(the runtime's version, the compute capability that its plans are for). Raises UnsupportedEngine where the
    runtime is not installed, or there is no CUDA device and TensorRT needs one to build."""
    import torch

    version = str(load_runtime(runtime).__version__)
    if runtime == RTX:
        return version, ANY_CARD
    if device == "cpu" or not torch.cuda.is_available():
        raise UnsupportedEngine("TensorRT builds a plan on the card that runs it", "use device=cuda on that machine")
    major, minor = torch.cuda.get_device_capability(device)
    return version, f"{major}.{minor}"
