"""The host's fingerprint and the machine's state when a measurement starts.

Read from /proc, the control group and the installed packages, without torch; the GPU by nvidia-smi's own word. A Jetson
is asked first who it is: its driver tool and its cpuinfo call several boards by one name.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import psutil

from engine.cpu import CPUINFO, cpu_fields, instruction_flags
from engine.paths import ROOT
from engine.settings import DeviceSettings
from experiments.common.cgroup import cpu_quota, memory_limit_bytes
from experiments.common.repository import git_state
from experiments.jetson.board import Jetson, read_jetson
from metrics.parts.environment import Environment

PACKAGES = (
    "torch",
    "torchaudio",
    "f5-tts",
    "vocos",
    "numpy",
    "onnxruntime",
    "hydra-core",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
)
DISTRIBUTIONS = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}  # of one module, where there are several
# What decides which kernels a CPU can run
CPU_FLAGS = (
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_tile", "amx_bf16",
    "amx_int8", "asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip
# The best first: what decides how fast matrix products run, and in which number formats
INSTRUCTION_SETS = (
    ("amx_tile", "amx"), ("avx512_bf16", "avx512bf16"), ("avx512_vnni", "avx512vnni"), ("avx512f", "avx512"),
    ("avx_vnni", "avx2vnni"), ("avx2", "avx2"), ("sve", "sve"), ("i8mm", "i8mm"), ("asimddp", "asimddp"),
    ("asimd", "asimd"),
)  # fmt: skip
BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")  # instructions that multiply bfloat16
TOOL_TIMEOUT_S = 10
LOAD_WINDOW_S = 0.2
CORES_OF_A_SCORER = 2  # what scores a run keeps so many busy, where there are so many


def fingerprint(device: DeviceSettings) -> Environment:
    """RunRecord.environment for the `device` group of the configuration.

    load_1min is the system's load average, other_cpu_frac the share of all cores that other processes used in a
    window of 0.2 s before this call returned.
    """
    kind = str(device["kind"])
    board = read_jetson()
    cpu_model, cpu_flags = read_cpu(CPUINFO)
    num_cores = usable_cores()
    if board is None:
        gpu = None if kind == "cpu" else gpu_name(kind)
        known_as = host_class(gpu or cpu_model, num_cores, kind, cpu_flags)
    else:
        cpu_model, gpu = board.title, None if kind == "cpu" else board.title
        known_as = board.host_class(kind)
    found: Environment = {
        "host_class": known_as,
        "cpu_model": cpu_model,
        "cpu_flags": cpu_flags,
        "num_cores": num_cores,
        "memory_bytes": memory_bytes(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": versions(),
        "device": kind,
        "gpu": gpu,
        "power_mode": power_mode(board),
        **git_state(ROOT),
        "threads": num_threads(device),
        "load_1min": os.getloadavg()[0],
        "other_cpu_frac": other_cpu_frac(LOAD_WINDOW_S),
        "started": now_iso(),
    }
    if board is not None:
        found["jetson"] = board.content()
    return found


def now_iso() -> str:
    """UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def host_class(model: str, num_cores: int, kind: str, cpu_flags: Sequence[str] = ()) -> str:
    """Slug of what must match before two numbers may be compared: "amd-epyc-avx2-2c-cpu".

    A CPU's class names its instruction set: virtual machines call two generations by one name ("AMD EPYC"), of which
    one multiplies in bfloat16 and the other does not.
    """
    plain = re.sub(r"\((r|tm|c)\)|\bcpu\b|\bprocessor\b|\d+-core|@.*$", " ", model.lower())
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "unknown"
    parts = [slug, instruction_set(cpu_flags) if kind == "cpu" else "", f"{num_cores}c", kind.split(":")[0]]
    return "-".join(part for part in parts if part)


def instruction_set(cpu_flags: Sequence[str]) -> str:
    """The best of INSTRUCTION_SETS that the flags name, "" where there is none of them."""
    return next((name for flag, name in INSTRUCTION_SETS if flag in cpu_flags), "")


@lru_cache(maxsize=1)
def cpu_instructions() -> str:
    """`instruction_set` of this machine."""
    return instruction_set(read_cpu(CPUINFO)[1])


def read_cpu(path: Path) -> tuple[str, list[str]]:
    """(model name, the flags of CPU_FLAGS that the first core has). ARM boards name themselves in the device tree."""
    fields = cpu_fields(path)
    board = Path("/proc/device-tree/model")
    model = fields.get("model name") or fields.get("hardware")
    if model is None and board.is_file():
        model = board.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    present = set(instruction_flags(path))
    return model or platform.machine() or "unknown", [flag for flag in CPU_FLAGS if flag in present]


def usable_cores() -> int:
    """Cores this process may use: affinity, bounded by the control groups' quota (at least 1)."""
    cores = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return max(1, min(cores, int(quota))) if quota is not None else cores


def memory_bytes() -> int:
    """Memory this process may use: the machine's, bounded by the control groups' limit."""
    total, limit = int(psutil.virtual_memory().total), memory_limit_bytes()
    return total if limit is None else min(total, limit)


def num_threads(device: DeviceSettings) -> int:
    """`device.threads`, all usable cores where it is null."""
    threads = device["threads"]
    return usable_cores() if threads is None else int(threads)


@lru_cache(maxsize=1)
def _installed() -> tuple[tuple[str, str], ...]:
    found = []
    for name in PACKAGES:
        for distribution in DISTRIBUTIONS.get(name, (name,)):
            try:
                found.append((name, metadata.version(distribution)))
                break
            except metadata.PackageNotFoundError:
                continue
    return tuple(found)


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide speed or sound."""
    return dict(_installed())


def gpu_name(kind: str) -> str | None:
    """Name of `cuda:INDEX` as the driver gives it, None where there is no driver tool. On a Jetson nobody asks it."""
    index = kind.partition(":")[2] or "0"
    name = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "-i", index])
    return name.splitlines()[0].strip() if name else None


def power_mode(board: Jetson | None) -> str | None:
    """Jetson: the mode that nvpmodel reports, never a governor. PC: the frequency governor of the first core."""
    if board is not None:
        return board.power_mode
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return governor.read_text("utf-8").strip() if governor.is_file() else None


def other_cpu_frac(window_s: float) -> float:
    """Share of all cores that other processes kept busy over the window, 0 to 1."""
    before, own_before = psutil.cpu_times(), time.process_time()
    time.sleep(window_s)
    after, own_s = psutil.cpu_times(), time.process_time() - own_before
    total_s = sum(after) - sum(before)
    idle_s = (after.idle + getattr(after, "iowait", 0.0)) - (before.idle + getattr(before, "iowait", 0.0))
    if total_s <= 0:
        return 0.0
    return min(1.0, max(0.0, (total_s - idle_s - own_s) / total_s))


def _output(command: list[str]) -> str | None:
    """Stripped stdout, None where the tool is missing, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=TOOL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
