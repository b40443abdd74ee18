"""The calibration workload: a fixed amount of matrix multiplication that looks like the model's hot loop.

On a shared machine the same code drifted by 56 % between two sessions minutes apart; divided by a GEMM of the same
shape, type and thread count, measured in the same rounds, the spread fell to 2 % (60 rounds, two AVX2 cores).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.clock import Clock
from engine.contract import ConfigError

KINDS = ("gemm", "none")
GUIDED_ROWS = 2  # the conditional and the unconditional row go through the model together
TYPICAL_FRAMES = 512
# Fixed work, never fixed time: 20 to 50 ms on two AVX2 cores, 10 to 100 ms from a Jetson to a data-centre GPU
WORK_FLOP: Mapping[str, float] = {"cpu": 2.5e9, "cuda": 5e11}


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Seconds of one calibration run. cpu_s: of all threads of this process."""

    calibration_s: float
    calibration_cpu_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GemmShape:
    """(rows, inner) x (inner, columns), repeated `count` times."""

    rows: int
    inner: int
    columns: int
    count: int


def gemm_shape(arch: Mapping[str, Any], device_kind: str) -> GemmShape:
    """The model's largest product (the feed-forward's first linear over both guided rows) for this much work."""
    rows, inner = GUIDED_ROWS * TYPICAL_FRAMES, int(arch["dim"])
    columns = int(arch["dim"] * arch["ff_mult"])
    flop = 2 * rows * inner * columns
    work = WORK_FLOP[device_kind.split(":")[0]]
    return GemmShape(rows=rows, inner=inner, columns=columns, count=max(1, math.ceil(work / flop)))


def make_calibration(config: Mapping[str, Any], clock: Clock) -> Callable[[], Calibration] | None:
    """The calibration that `measure.calibration` names, None for none. float32, on the engine's device and threads."""
    kind = config["measure"]["calibration"]
    if kind == "none":
        return None
    if kind != "gemm":
        raise ConfigError("measure.calibration", kind, f"must be one of {', '.join(KINDS)}", "use gemm")
    device = str(config["device"]["kind"])
    return _gemm(gemm_shape(config["model"]["arch"], device), device, clock)


def _gemm(shape: GemmShape, device: str, clock: Clock) -> Callable[[], Calibration]:
    import torch

    generator = torch.Generator().manual_seed(0)
    left = torch.randn(shape.rows, shape.inner, generator=generator).to(device)
    right = torch.randn(shape.inner, shape.columns, generator=generator).to(device)
    product = torch.empty(shape.rows, shape.columns, device=device)

    def calibrate() -> Calibration:
        with torch.inference_mode():
            clock.sync()
            cpu_before_s, before_s = time.process_time(), clock.now_s()
            for _ in range(shape.count):
                torch.mm(left, right, out=product)
            clock.sync()
            after_s, cpu_after_s = clock.now_s(), time.process_time()
        return Calibration(calibration_s=after_s - before_s, calibration_cpu_s=cpu_after_s - cpu_before_s)

    return calibrate
