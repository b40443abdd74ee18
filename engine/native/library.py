"""engine/native/tiles.cpp, compiled by this machine's g++ and kept in the cache folder, called by ctypes."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.cache import cached_folder
from engine.contract import UnsupportedEngine
from engine.cpu import cpu_sha256, instruction_flags
from engine.step.attention import has_tiles

FOLDER = Path(__file__).parent
SOURCES = ("tiles.cpp", "evaluation.h", "places.h", "batch.h", "attention.h", "products.h", "vectors.h")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-fno-strict-aliasing", "-Wno-psabi")
FOR_TILES = ("-march=x86-64-v4", "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8", "-mtune=sapphirerapids")
EMULATED = ("-DTILES_EMULATED",)
NEEDED = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_bf16", "amx_tile", "amx_bf16")
NEEDED_FOR_INT8 = ("amx_int8",)
INSTEAD = "use engine=compiled_bf16"
ALIGNMENT = 64
PAIR_BYTES = 2048  # as in vectors.h
LAYERS = ("qkv", "out", "ff_in", "ff_out")


def _pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names]


def _numbers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_int64) for name in names]


class BlockWeights(ctypes.Structure):
    _fields_ = _pointers(*(f"{layer}{part}" for part in ("", "_bias", "_scales") for layer in LAYERS))


class Model(ctypes.Structure):
    _fields_ = [
        *_numbers("width", "heads", "hidden", "depth", "bins", "rotated_heads"),
        *_pointers("x_proj", "conv1", "conv2", "proj_out", "conv2_bias", "proj_out_bias"),
        ("blocks", ctypes.POINTER(BlockWeights)),
    ]


class Batch(ctypes.Structure):
    _fields_ = [
        *_numbers("utterances", "rows", "frames", "threads", "team", "products", "byte_products"),
        *_pointers("lengths", "cos", "sin", "projected", "convolved", "workspace"),
    ]


class Product(ctypes.Structure):
    _fields_ = [
        *_pointers("A", "B", "sums"),
        *_numbers("pairs", "columns", "num_k", "threads", "bytes"),
        *_pointers("scratch"),
    ]


@dataclass(frozen=True, eq=False, slots=True)
class Compiled:
    """The compiled functions, and what they were made by and from."""

    library: ctypes.CDLL
    compiler: str
    flags: tuple[str, ...]
    source_sha256: str

    def product(self, a: torch.Tensor, b: torch.Tensor, num_rows: int, num_columns: int) -> torch.Tensor:
        """The bare product of operands laid out by `by_rows` and `by_columns`: (rows, columns), both multiples of 32,
        float32 of bfloat16 operands, int32 of int8."""
        kind = torch.int32 if a.dtype == torch.int8 else torch.float32
        sums = torch.empty(num_rows // 32, num_columns // 32, 2, 2, 16, 16, dtype=kind)
        self.product_into(sums, a, b)
        return sums.permute(0, 2, 4, 1, 3, 5).reshape(num_rows, num_columns)

    def product_into(self, sums: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
        """The same into sums (pairs of rows, pairs of columns, 2, 2, 16, 16) as they lie."""
        pairs, columns = sums.shape[:2]
        threads, num_k = torch.get_num_threads(), a.nbytes // (pairs * PAIR_BYTES)
        if a.dtype != b.dtype or a.dtype not in (torch.bfloat16, torch.int8):
            raise ValueError(f"operands are both bfloat16 or both int8, not {a.dtype} and {b.dtype}")
        found, wanted = (a.nbytes, b.nbytes, sums.nbytes), (pairs * num_k, columns * num_k, 2 * pairs * columns)
        if found != tuple(count * PAIR_BYTES for count in wanted):
            raise ValueError(f"operands of {a.nbytes} and {b.nbytes} bytes do not make {pairs} by {columns} pairs")
        in_bytes = a.dtype == torch.int8
        scratch = torch.empty(self.library.product_scratch_bytes() * threads + ALIGNMENT, dtype=torch.uint8)
        pointers = a.data_ptr(), b.data_ptr(), sums.data_ptr()
        self.library.multiply_tiles(Product(*pointers, pairs, columns, num_k, threads, in_bytes, aligned(scratch)))


def aligned(memory: torch.Tensor) -> int:
    begin = int(memory.data_ptr())
    return begin + -begin % ALIGNMENT


@functools.cache
def compiled(emulated: bool = False) -> Compiled:
    """The functions of tiles.cpp. emulated: on any CPU, slowly; for tests.

    Raises UnsupportedEngine without tiles, or without a compiler that knows them."""
    if not emulated:
        refuse_cpu(NEEDED)
    command = compiler()
    version = _output("start", [*command, "--version"]).partition("\n")[0]
    flags = (*FLAGS, *(EMULATED if emulated else FOR_TILES))
    source = hashlib.sha256(b"".join((FOLDER / name).read_bytes() for name in SOURCES)).hexdigest()
    parts = {"source": source, "compiler": version, "flags": list(flags), "cpu": cpu_sha256()}
    folder = cached_folder("tiles", parts, lambda folder: build(command, flags, folder))
    return Compiled(_loaded(folder / "tiles.so"), version, flags, source)


def refuse_cpu(needed: tuple[str, ...] = NEEDED) -> None:
    """Raises UnsupportedEngine where torch knows no tiles, or the processor lacks an instruction set that is needed:
    virtual machines mask some and show others."""
    if not has_tiles():
        raise UnsupportedEngine("this CPU, or this torch, does not multiply bfloat16 in tiles (AMX)", INSTEAD)
    flags = instruction_flags()
    missing = [name for name in needed if name not in flags]
    if missing:
        raise UnsupportedEngine(f"this CPU has tiles but lacks {', '.join(missing)}", INSTEAD)


def compiler() -> list[str]:
    """The command of CXX, else g++. Raises UnsupportedEngine where it is not there."""
    command = shlex.split(os.environ.get("CXX") or "g++")
    if not command or shutil.which(command[0]) is None:
        raise UnsupportedEngine(
            f"tiles.cpp needs a C++ compiler and {' '.join(command)!r} is not found",
            f"apt-get install g++, unset CXX, or {INSTEAD}",
        )
    return command


def build(command: list[str], flags: tuple[str, ...], folder: Path) -> None:
    """Linked without OpenMP: torch has loaded one, and a second beside it would fight for the cores."""
    made, library = folder / "tiles.o", folder / "tiles.so"
    _output("compile tiles.cpp", [*command, *flags, "-c", str(FOLDER / "tiles.cpp"), "-o", str(made)])
    _output("link tiles.cpp", [*command, "-shared", str(made), "-o", str(library)])
    made.unlink()


def _output(stage: str, command: list[str]) -> str:
    remedy = f"apt-get install g++ (11 or newer), or {INSTEAD}"
    try:
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, env=environment
        )
    except OSError as refused:
        raise UnsupportedEngine(f"{command[0]} does not start: {refused}", remedy) from refused
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        says = next((line for line in lines if "error" in line), lines[0] if lines else f"exit {done.returncode}")
        raise UnsupportedEngine(f"{command[0]} does not {stage}: {says}", remedy)
    return done.stdout


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as refused:  # its OpenMP is torch's, found among what torch has loaded
        raise UnsupportedEngine(
            f"the compiled functions do not load ({refused})", f"use g++ and a torch with libgomp, or {INSTEAD}"
        ) from refused
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    library.workspace_bytes.restype = library.product_scratch_bytes.restype = number
    library.evaluate.restype = None
    library.workspace_bytes.argtypes = [ctypes.POINTER(Model), ctypes.POINTER(Batch)]
    library.evaluate.argtypes = [ctypes.POINTER(Model), ctypes.POINTER(Batch), *[pointer] * 4]
    library.multiply_tiles.argtypes = [ctypes.POINTER(Product)]
    if not library.tiles_ready():
        raise UnsupportedEngine("the kernel does not give this process the tiles' registers", INSTEAD)
    return library
