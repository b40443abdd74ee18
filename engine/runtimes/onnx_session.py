"""ONNX Runtime sessions: options as settings, providers that are there or refused, the optimised graph kept on disk,
nodes counted where they really ran."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.cache import cache_root, cached_folder
from engine.contract import ConfigError, UnsupportedEngine
from engine.cpu import cpu_sha256
from engine.runtimes.onnx_package import onnxruntime_version, required, runtime_failures
from engine.runtimes.onnx_profiles import Shapes, profile_options
from engine.weights.checkpoint import content_sha256

PROVIDERS = {
    "cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider",
}  # fmt: skip
OPTIMIZATIONS = {
    "none": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL",
}  # fmt: skip
EXECUTIONS = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}
# What ONNX Runtime keeps on the CPU beside a GPU by design: sizes and indices, never an activation
SHAPE_OPS = frozenset(
    {"Shape", "Size", "Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Cast", "Mul", "Div", "Add", "Sub", "Range",
     "Reshape", "Equal", "Where", "ConstantOfShape", "Expand"}
)  # fmt: skip
EXTERNAL_ABOVE_BYTES = 1 << 30
TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"  # read by NVIDIA's libraries when they start


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionSettings:
    """One ONNX Runtime session. spinning: idle threads of a run wait actively (they always stop with the run, so that
    torch's own threads find the cores free). arena: memory is kept between runs. exact_int8: on x86 CPUs without VNNI
    products of unsigned with signed bytes saturate in pairs at 16 bits; True keeps them exact, with slower kernels.
    """

    provider: str = "cpu"
    device: str = "cpu"
    threads: int = 1
    spinning: bool = True
    arena: bool = True
    execution_mode: str = "sequential"
    optimization: str = "all"
    exact_int8: bool = False

    def check(self) -> None:
        """Raises ConfigError for what no machine has, UnsupportedEngine for what this one has not."""
        onnxruntime = required("onnxruntime")
        for key, value, known in (
            ("provider", self.provider, PROVIDERS),
            ("session.execution_mode", self.execution_mode, EXECUTIONS),
            ("session.optimization", self.optimization, OPTIMIZATIONS),
        ):
            if value not in known:
                raise ConfigError(f"engine.{key}", value, f"must be one of {', '.join(known)}", "correct the spelling")
        available = onnxruntime.get_available_providers()
        if PROVIDERS[self.provider] not in available:
            raise UnsupportedEngine(
                f"onnxruntime {onnxruntime_version()} here has no {PROVIDERS[self.provider]} ({', '.join(available)})",
                "pip uninstall onnxruntime, then pip install '.[gpu]' (onnxruntime-gpu), or use engine.provider=cpu",
            )
        if (self.provider == "cpu") != (self.device == "cpu"):
            raise UnsupportedEngine(
                f"engine.provider={self.provider} does not run on device.kind={self.device}",
                "use engine.provider=cpu with device=cpu, engine.provider=cuda or tensorrt with device=cuda",
            )
        if self.provider == "tensorrt" and os.environ.get(TF32_OVERRIDE) != "0":
            raise UnsupportedEngine(
                f"ONNX Runtime's {PROVIDERS['tensorrt']} multiplies float32 in TF32 and has no option against it",
                f"start Python with {TF32_OVERRIDE}=0 in its environment, as experiments.run starts its workers",
            )


@dataclass(frozen=True, eq=False, slots=True)
class Opened:
    """A session with the proof that it ran: nodes per provider and per operator of one profiled run."""

    session: Any
    nodes_by_provider: Mapping[str, int]
    nodes_by_op: Mapping[str, int]
    file_bytes: int


def open_session(
    path: Path, settings: SessionSettings, first_run: Callable[[Any], object], shapes: Shapes | None = None
) -> Opened:
    """`path` (an ONNX file) -> a session ready to run. `first_run` is called with it once, profiled.

    shapes: what provider=tensorrt plans for; without them it builds anew, in the middle of a run, for every new shape.
    Raises UnsupportedEngine for an unreadable file, and where the provider left more than shapes to the CPU.
    """
    settings.check()
    source = optimised(path, settings) if settings.provider == "cpu" else path
    with tempfile.TemporaryDirectory(prefix="f5bench-") as folder:
        options = session_options(settings, "none" if source != path else settings.optimization)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = make_session(source, options, settings, shapes)
        refuse_inactive(settings.provider, session.get_providers())  # before it runs: the CPU cannot read its inputs
        first_run(session)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    providers, ops = count_nodes(events)
    refuse_fallback(settings.provider, events)
    return Opened(session, providers, ops, file_bytes(path))


def session_options(settings: SessionSettings, optimization: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = settings.arena
    options.execution_mode = getattr(onnxruntime.ExecutionMode, EXECUTIONS[settings.execution_mode])
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, OPTIMIZATIONS[optimization])
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings.spinning)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.x64quantprecision", str(int(settings.exact_int8)))
    return options


def optimised(path: Path, settings: SessionSettings) -> Path:
    """The graph as ONNX Runtime rewrites it for this CPU, made once and kept."""
    parts = {
        "graph": {file.name: content_sha256(file) for file in graph_files(path)}, "onnxruntime": onnxruntime_version(),
        "optimization": settings.optimization, "provider": settings.provider, "cpu": cpu_sha256(),
        "exact_int8": settings.exact_int8,
    }  # fmt: skip

    def make(folder: Path) -> None:
        options = session_options(settings, settings.optimization)
        options.optimized_model_filepath = str(folder / "step.onnx")
        if file_bytes(path) > EXTERNAL_ABOVE_BYTES:
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_file_name", "step.onnx.data"
            )
        make_session(path, options, settings, None)

    return cached_folder("onnx_optimised", parts, make) / "step.onnx"


def make_session(path: Path, options: Any, settings: SessionSettings, shapes: Shapes | None = None) -> Any:
    """No other provider in its place. Raises UnsupportedEngine for a file or a provider that cannot be opened."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    name = PROVIDERS[settings.provider]
    providers: list[Any] = [(name, provider_options(settings, path, shapes))]
    if settings.provider == "tensorrt":
        providers.append((PROVIDERS["cuda"], _cuda_options(settings)))
    unreadable = (
        states.InvalidProtobuf, states.InvalidGraph, states.InvalidArgument, states.NoSuchFile, states.Fail,
        states.NotImplemented,
    )  # fmt: skip
    failures: tuple[type[Exception], ...] = (ValueError, *runtime_failures())
    try:
        # By itself the constructor opens another provider in place of one that fails, and only prints why
        session = onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except failures as error:
        first = (str(error).splitlines() or [""])[0]
        if settings.provider != "cpu":
            raise UnsupportedEngine(
                f"ONNX Runtime {onnxruntime_version()} cannot open {path.name} with {name} ({first})",
                "mend what it names (a library, the driver, memory), or use engine.provider=cpu",
            ) from error
        if not isinstance(error, unreadable):
            raise
        raise UnsupportedEngine(
            f"ONNX Runtime {onnxruntime_version()} cannot open {path.name} ({first})",
            "the file is cut short or of another version: export it again",
        ) from error
    session.disable_fallback()  # of a run
    return session


def _cuda_options(settings: SessionSettings) -> dict[str, str]:
    return {
        "device_id": settings.device.partition(":")[2] or "0",
        "use_tf32": "0",  # a float32 row computes in float32
    }


def provider_options(settings: SessionSettings, path: Path, shapes: Shapes | None = None) -> dict[str, str]:
    if settings.provider == "cpu":
        return {}
    if settings.provider == "cuda":
        return _cuda_options(settings)
    profile = profile_options(shapes)
    # Built once per graph: ONNX Runtime names a kept engine by the graph's form and file name, not by its weights
    parts = [*(content_sha256(file) for file in graph_files(path)), json.dumps(profile, sort_keys=True)]
    folder = cache_root() / "onnx_tensorrt" / hashlib.sha256("".join(parts).encode()).hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "device_id": _cuda_options(settings)["device_id"],
        "trt_engine_cache_enable": "True",  # the binding takes no other word
        "trt_engine_cache_path": str(folder),
        **profile,
    }


def kernel_events(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of ONNX Runtime's profile those that are a node's own work, in the order of time."""
    return [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]


def count_nodes(events: list[dict[str, Any]]) -> tuple[dict[str, int], dict[str, int]]:
    """Nodes per provider and per operator in ONNX Runtime's profile of one run."""
    ran = [event["args"] for event in kernel_events(events)]
    return dict(Counter(node["provider"] for node in ran)), dict(Counter(node["op_name"] for node in ran))


def refuse_inactive(provider: str, active: list[str]) -> None:
    """Raises UnsupportedEngine where ONNX Runtime dropped the provider when it opened the session."""
    if PROVIDERS[provider] not in active:
        raise UnsupportedEngine(
            f"ONNX Runtime did not activate {PROVIDERS[provider]} (active: {', '.join(active)})",
            "see its log for the library it misses, or use engine.provider=cpu",
        )


def refuse_fallback(provider: str, events: list[dict[str, Any]]) -> None:
    """Raises UnsupportedEngine where a GPU provider left activations to another one."""
    if provider == "cpu":
        return
    left = Counter(
        (event["args"]["op_name"], event["args"]["provider"])
        for event in events
        if event.get("cat") == "Node"
        and event["args"].get("provider", PROVIDERS[provider]) != PROVIDERS[provider]
        and event["args"].get("op_name") not in SHAPE_OPS
    )
    if left:
        named = ", ".join(f"{count} {op} to {other}" for (op, other), count in sorted(left.items()))
        raise UnsupportedEngine(
            f"{PROVIDERS[provider]} left nodes to others: {named}", "use engine.provider=cpu, or an onnxruntime-gpu "
            "that has kernels for them",
        )  # fmt: skip


def graph_files(path: Path) -> list[Path]:
    """The ONNX file and, where its weights lie outside, those."""
    return [path, *sorted(path.parent.glob(path.name + ".data*"))]


def file_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in graph_files(path))


def constants_by_dtype(path: Path) -> Mapping[str, int]:
    """Stored elements per dtype of a graph's constants."""
    import onnx

    names = {1: "float32", 3: "qint8", 2: "quint8", 6: "int32", 7: "int64"}
    counts: dict[str, int] = {}
    for tensor in onnx.load(str(path), load_external_data=False).graph.initializer:
        name = names.get(tensor.data_type, f"onnx type {tensor.data_type}")
        counts[name] = counts.get(name, 0) + int(np.prod(tensor.dims))
    return counts
