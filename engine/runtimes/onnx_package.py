"""ONNX and ONNX Runtime as packages: whether they are there, which version, what they raise.

ONNX Runtime is one module in several distributions (onnxruntime, onnxruntime-gpu, NVIDIA's own for a Jetson), so its
version is asked of the module.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from engine.contract import UnsupportedEngine

REMEDY = "pip install '.[onnx]', or '.[gpu]' in its place where ONNX Runtime is to use a GPU"


def required(module: str) -> Any:
    """The module onnx, onnxruntime or onnxscript. Raises UnsupportedEngine where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as absent:
        raise UnsupportedEngine(f"{module} is not installed ({absent})", REMEDY) from absent


def versions(*packages: str) -> dict[str, str]:
    """Package -> version, for cache keys. Raises UnsupportedEngine for a missing onnx or onnxruntime."""
    return {name: _version(name) for name in packages}


def onnxruntime_version() -> str:
    return str(required("onnxruntime").__version__)


def _version(package: str) -> str:
    if package == "onnxruntime":
        return onnxruntime_version()
    if package == "onnx":
        required(package)
    return importlib.metadata.version(package)


def runtime_failures() -> tuple[type[Exception], ...]:
    """RuntimeError, and where it is installed what ONNX Runtime raises besides."""
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as states
    except ImportError:
        return (RuntimeError,)
    return (
        RuntimeError, states.EngineError, states.EPFail, states.Fail, states.InvalidArgument, states.InvalidGraph,
        states.InvalidProtobuf, states.ModelLoaded, states.NoModel, states.NoSuchFile, states.NotImplemented,
        states.RuntimeException,
    )  # fmt: skip
