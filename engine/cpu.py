"""What the kernel says of this processor: one reading for caches, native code and the environment of records."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def cpu_fields(path: Path = CPUINFO) -> Mapping[str, str]:
    """The fields of the first core by their names in lower case; empty where the kernel tells none."""
    fields: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    return fields


def instruction_flags(path: Path = CPUINFO) -> tuple[str, ...]:
    """Names of the instruction sets: "flags" of x86, "Features" of ARM."""
    fields = cpu_fields(path)
    return tuple((fields.get("flags") or fields.get("features") or "").split())


def cpu_sha256() -> str:
    """What layouts, kernels and the last bits of a float32 sum depend on, hashed."""
    return hashlib.sha256(
        " ".join((platform.machine(), platform.processor(), *instruction_flags())).encode()
    ).hexdigest()
