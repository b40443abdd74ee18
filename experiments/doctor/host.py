"""What the doctor looks at beside packages: the CPU, memory, disk, tools, weights, the GPU's driver."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BYTES_PER_GIB = 2**30
# The whole default sweep stays below 6 GiB; the pocket model alone needs far less
MIN_MEMORY_BYTES = 4 * BYTES_PER_GIB
MIN_DISK_BYTES = 2 * BYTES_PER_GIB
BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")  # as common.environment has them, which needs psutil
INT8_FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
TILE_FLAGS = (  # engine.native.library.NEEDED and NEEDED_FOR_INT8, which need torch
    "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8",
)  # fmt: skip
POCKET = REPOSITORY / "engine" / "pocket"
POCKET_FILES = ("vocab.txt", "slt.wav", "rms.wav")
POCKET_WEIGHTS = ("dit.safetensors", "vocos.safetensors")
HUB_FILES = (
    ("SWivid/F5-TTS", "F5TTS_v1_Base/model_1250000.safetensors"),
    ("SWivid/F5-TTS", "F5TTS_v1_Base/vocab.txt"),
    ("charactr/vocos-mel-24khz", "pytorch_model.bin"),
)


@dataclass(frozen=True)
class Row:
    """One line of the answer. status: ok, missing or broken; is_core: without it nothing can be measured here."""

    item: str
    found: str
    status: str
    needed_for: str
    remedy: str
    is_core: bool = False

    @property
    def is_fatal(self) -> bool:
        return self.is_core and self.status != "ok"


def python_row() -> Row:
    version = sys.version_info
    return Row(
        item="Python",
        found=".".join(str(part) for part in version[:3]),
        status="ok" if version >= (3, 10) else "broken",
        needed_for="everything: 3.10 or newer",
        remedy="install Python 3.10, 3.11 or 3.12 and make the virtual environment with it",
        is_core=True,
    )


def cpu_rows(model: str, flags: Sequence[str], num_cores: int) -> list[Row]:
    """flags: as the kernel names them; num_cores: what affinity and control group leave to this process."""
    total = os.cpu_count() or num_cores
    bf16 = [flag for flag in BF16_FLAGS if flag in flags]
    int8 = [flag for flag in INT8_FLAGS if flag in flags]
    other = "a CPU that has them, or device=cuda"
    return [
        Row("CPU", f"{model}, {num_cores} of {total} cores allowed", "ok", "every engine on device=cpu", ""),
        Row(
            item="bf16 instructions",
            found=", ".join(bf16) or "none",
            status="ok" if bf16 else "missing",
            needed_for="engine=bf16 and engine=amp faster than fp32 on the CPU (without: right, but slower)",
            remedy=other,
        ),
        Row(
            item="int8 instructions",
            found=", ".join(int8) or "none",
            status="ok" if int8 else "missing",
            needed_for="engine=int8 faster than fp32 on the CPU (without: right, but slower)",
            remedy=other,
        ),
        Row(
            item="tiles (AMX)",
            found=", ".join(flag for flag in TILE_FLAGS if flag in flags) or "none",
            status="ok" if set(TILE_FLAGS) <= set(flags) else "missing",
            needed_for="engine=tiles_bf16 and engine=tiles_int8",
            remedy="an Intel Xeon of the fourth generation or newer, or engine=compiled_bf16",
        ),
    ]


def memory_row(available_bytes: int, total_bytes: int) -> Row:
    available_bytes = min(available_bytes, total_bytes)
    return Row(
        item="memory",
        found=f"{_gib(available_bytes)} free of {_gib(total_bytes)}",
        status="ok" if available_bytes >= MIN_MEMORY_BYTES else "missing",
        needed_for=f"the default sweep: {_gib(MIN_MEMORY_BYTES)} free",
        remedy="end other programs, or workload=smoke",
    )


def disk_row() -> Row:
    place = REPOSITORY / "outputs"
    while not place.exists():
        place = place.parent
    free_bytes = shutil.disk_usage(place).free
    writable = os.access(place, os.W_OK)
    enough = free_bytes >= MIN_DISK_BYTES
    return Row(
        item="disk below outputs/",
        found=f"{_gib(free_bytes)} free" + ("" if writable else ", not writable"),
        status="ok" if writable and enough else "missing" if writable else "broken",
        needed_for="journals, audio and reports",
        remedy="free some space, or out=DIR elsewhere",
    )


def tool_rows() -> list[Row]:
    tools = (
        ("git", "the commit in every record", "apt install git"),
        ("gcc", "installing pesq", "apt install build-essential"),
        ("g++", "engines that compile: torch.compile on the CPU, tiles_bf16, tiles_int8", "apt install g++"),
        ("ffmpeg", "reference clips that are neither WAV nor FLAC nor OGG", "apt install ffmpeg"),
        ("flite", "rebuilding the pocket model's speech (experiments.pocket.train), nothing else", "apt install flite"),
    )
    rows = []
    for tool, needed_for, remedy in tools:
        path = shutil.which(tool)
        rows.append(Row(tool, path or "not on PATH", "ok" if path else "missing", needed_for, remedy))
    return rows


def pocket_row(folder: Path = POCKET) -> Row:
    """Weights of the embedded model: there, whole, and which ones."""
    problems = [f"{name} is missing" for name in (*POCKET_FILES, *POCKET_WEIGHTS) if not (folder / name).is_file()]
    problems += [problem for name in POCKET_WEIGHTS if (problem := _weights_problem(folder / name))]
    known = [name for name in POCKET_WEIGHTS if (folder / name).is_file()]
    hashes = ", ".join(f"{name} sha256 {_sha256(folder / name)[:12]}" for name in known)
    return Row(
        item="pocket model",
        found="; ".join(problems) or hashes,
        status="ok" if not problems else "missing" if problems[0].endswith("is missing") else "broken",
        needed_for="model=pocket, the default",
        remedy="`git restore engine/pocket`, or train it again: python -m experiments.pocket.train",
        is_core=True,
    )


def _weights_problem(path: Path) -> str | None:
    """A safetensors file says in its header how long it is: a torn one is found without loading it."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    try:
        (header_bytes,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + header_bytes])
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        return f"{path.name} is not a safetensors file"
    missing_bytes = 8 + header_bytes + end - len(content)
    return None if missing_bytes == 0 else f"{path.name} is damaged ({missing_bytes} bytes are missing)"


def hub_row() -> Row:
    """Pretrained weights in the local hub cache; they are never fetched by the harness."""
    absent = [f"{owner}/{file}" for owner, file in HUB_FILES if not _is_cached(owner, file)]
    return Row(
        item="F5TTS_v1_Base weights",
        found="in the hub cache" if not absent else f"not in the hub cache: {', '.join(absent)}",
        status="missing" if absent else "ok",
        needed_for="model=f5tts_v1_base with its own voice (f5tts_v1_base_random measures speed without it)",
        remedy="`hf download SWivid/F5-TTS F5TTS_v1_Base/model_1250000.safetensors F5TTS_v1_Base/vocab.txt` and "
        "`hf download charactr/vocos-mel-24khz`, or model.checkpoint=PATH vocoder.checkpoint=PATH",
    )


def _is_cached(owner: str, file: str) -> bool:
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", home)) / "hub").expanduser()
    return any((cache / f"models--{owner.replace('/', '--')}").glob(f"snapshots/*/{file}"))


def driver_version(root: Path = Path("/")) -> str | None:
    """Of NVIDIA's kernel module, None where it is not loaded."""
    path = root / "proc/driver/nvidia/version"
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", path.read_text(encoding="utf-8")) if path.is_file() else None
    return found.group(1) if found else None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / BYTES_PER_GIB:.1f} GiB"
