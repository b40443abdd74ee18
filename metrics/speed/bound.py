"""The least time that a denoiser's arithmetic and traffic take on a device, from what its maker publishes of it.

A roofline (Williams, Waterman, Patterson 2009): products at the device's dense rate for their type, or the least bytes
at the memory's rate, whichever is longer. Nothing can be faster; what runs is several times slower, because nothing
reaches a maker's peak. It is a bound and no measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from metrics.speed.roofline import Dit

Rate = Literal["fp32", "half", "int8"]
# precision of an engine -> (its products, what else it computes, bytes a weight). FP8 is as fast as int8
KINDS: Mapping[str, tuple[Rate, Rate, int]] = {
    "fp32": ("fp32", "fp32", 4), "amp": ("half", "half", 4), "bf16": ("half", "half", 2), "fp16": ("half", "half", 2),
    "int8": ("int8", "half", 1), "int8_fp16": ("int8", "half", 1), "int8_bf16": ("int8", "half", 1),
    "int8_torchao": ("int8", "half", 1), "fp8_fp16": ("int8", "half", 1), "fp8_bf16": ("int8", "half", 1),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Peaks:
    """Dense rates in operations a second (a multiply-add is two), memory in bytes a second. fp32: without TF32."""

    title: str
    fp32: float
    half: float
    int8: float
    bytes_per_s: float
    source: str
    has_fp8: bool = False  # from compute capability 8.9; an Orin has 8.7

    def makes(self, precision: str) -> bool:
        return self.has_fp8 or not precision.startswith("fp8")

    def rate(self, kind: Rate) -> float:
        return {"fp32": self.fp32, "half": self.half, "int8": self.int8}[kind]


ORIN = "NVIDIA's Jetson AGX Orin technical brief and data sheets; half of its sparse figures is dense"
# Of the GPU alone: the DLAs that NVIDIA's totals include run none of this. Cores x 2 x clock for float32; tensor cores
# make eight times that in half precision, twice as much again in int8
DEVICES: Mapping[str, Peaks] = {
    "agx_orin_64gb": Peaks(
        title="Jetson AGX Orin 64 GB (2048 cores, 1.3 GHz, MAXN)", fp32=5.32e12, half=42.6e12, int8=85.2e12,
        bytes_per_s=204.8e9, source=ORIN,
    ),
    "agx_orin_32gb": Peaks(
        title="Jetson AGX Orin 32 GB module (1792 cores, 0.93 GHz, MAXN)", fp32=3.33e12, half=26.7e12, int8=53.3e12,
        bytes_per_s=204.8e9, source=ORIN,
    ),
    "orin_nx_16gb": Peaks(
        title="Jetson Orin NX 16 GB (1024 cores, 0.918 GHz, MAXN)", fp32=1.88e12, half=15.0e12, int8=30.1e12,
        bytes_per_s=102.4e9, source=ORIN,
    ),
    "orin_nano_8gb": Peaks(
        title="Jetson Orin Nano 8 GB (1024 cores, 0.625 GHz, 15 W)", fp32=1.28e12, half=10.2e12, int8=20.5e12,
        bytes_per_s=68.0e9, source=ORIN,
    ),
    "orin_nano_8gb_super": Peaks(
        title="Jetson Orin Nano 8 GB (1024 cores, 1.02 GHz, MAXN_SUPER)", fp32=2.09e12, half=16.7e12, int8=33.4e12,
        bytes_per_s=102.0e9, source=ORIN,
    ),
    "h200": Peaks(
        title="H200 (SXM)", fp32=66.9e12, half=989e12, int8=1979e12, bytes_per_s=4.8e12,
        source="NVIDIA's H200 data sheet; half of its sparse figures is dense", has_fp8=True,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """Seconds of one guided evaluation: of the arithmetic, of the least traffic."""

    arithmetic_s: float
    traffic_s: float

    @property
    def seconds(self) -> float:
        return max(self.arithmetic_s, self.traffic_s)

    @property
    def by(self) -> Literal["arithmetic", "traffic"]:
        return "arithmetic" if self.arithmetic_s >= self.traffic_s else "traffic"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """num_frames: reference and generated; rows: 2 guided, 1 not."""

    dit: Dit
    num_frames: int
    rows: int
    num_evals: int
    generated_s: float


def evaluation_bound(task: Task, precision: str, peaks: Peaks) -> Bound:
    """Attention and the ends stay in the float type of an int8 engine. Raises KeyError for a precision not in KINDS."""
    products, others, weight_bytes = KINDS[precision]
    dit, rows = task.dit, task.rows
    tokens = task.num_frames + dit.extra_tokens
    in_products = rows * tokens * 2 * (dit.depth * dit.block_weights + dit.skips * dit.skip_weights)
    rest = dit.evaluation_flop(task.num_frames, rows) - in_products
    return Bound(
        arithmetic_s=in_products / peaks.rate(products) + rest / peaks.rate(others),
        traffic_s=dit.evaluation_bytes(task.num_frames, rows, weight_bytes) / peaks.bytes_per_s,
    )


def rtf_bound(task: Task, precision: str, peaks: Peaks) -> float:
    """Of the denoiser alone: front end, vocoder and launches come on top."""
    return task.num_evals * evaluation_bound(task, precision, peaks).seconds / task.generated_s
