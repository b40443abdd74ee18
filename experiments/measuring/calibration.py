"""The calibrations: fixed amounts of work that look like what an engine spends its time on, timed in the same rounds.

gemm: matrix products of the model's largest shape; memory: copies that no cache holds; dispatch: operations so small
that only their launch is paid. On a shared machine the same code drifted by 56 % between two sessions minutes apart;
divided by a GEMM of the same shape, type and thread count the spread fell to 2 % (60 rounds, two AVX2 cores), divided
by memory copies to 14 %. Which one fits an engine is found when its baseline is recorded (baselines.stored.latency).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.clock import Clock
from engine.contract import ConfigError
from experiments.common.plain import Config
from metrics.speed.roofline import TYPICAL_ARCH
from metrics.typed import number_in

WORKS = ("gemm", "memory", "dispatch")
KINDS = ("all", *WORKS, "none")
GUIDED_ROWS = 2  # the conditional and the unconditional row go through the model together
TYPICAL_FRAMES = 512
# Fixed work, never fixed time: 20 to 50 ms on two AVX2 cores, 10 to 100 ms from a Jetson to a data-centre GPU
WORK_FLOP: Mapping[str, float] = {"cpu": 2.5e9, "cuda": 5e11}
# (bytes of a buffer, copies): 5 to 20 ms on two cores at 10 to 40 GB/s; on a GPU beyond its second-level cache
MEMORY_WORK: Mapping[str, tuple[int, int]] = {"cpu": (16 << 20, 4), "cuda": (256 << 20, 20)}
DISPATCH_OPS: Mapping[str, int] = {"cpu": 4000, "cuda": 4000}


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Seconds of one calibration run. cpu_s: of all threads of this process."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GemmShape:
    """(rows, inner) x (inner, columns), repeated `count` times."""

    rows: int
    inner: int
    columns: int
    count: int

    @property
    def num_bytes(self) -> int:
        """Of the three float32 matrices."""
        return 4 * (self.rows * self.inner + self.inner * self.columns + self.rows * self.columns)


def gemm_shape(arch: Mapping[str, object], device_kind: str) -> GemmShape:
    """The model's largest product (the feed-forward's first linear over both guided rows) for this much work."""
    rows, inner = GUIDED_ROWS * TYPICAL_FRAMES, int(number_in(arch, "dim"))
    columns = int(inner * number_in(arch, "ff_mult"))
    flop = 2 * rows * inner * columns
    work = WORK_FLOP[device_kind.split(":")[0]]
    return GemmShape(rows=rows, inner=inner, columns=columns, count=max(1, math.ceil(work / flop)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibrations:
    """by_work: what to call. num_bytes: buffers they hold all the time, to be left out of an engine's memory."""

    by_work: Mapping[str, Callable[[], Calibration]]
    num_bytes: int


def make_calibrations(config: Config, clock: Clock) -> Calibrations:
    """What `measure.calibration` names (all, one kind of work, none), float32, on the engine's device and threads."""
    chosen = config["measure"]["calibration"]
    if chosen not in KINDS:
        raise ConfigError("measure.calibration", chosen, f"must be one of {', '.join(KINDS)}", "use all")
    device = str(config["device"]["kind"])
    kind = device.split(":")[0]
    shape = gemm_shape(config["model"].get("arch", TYPICAL_ARCH), device)
    works: dict[str, tuple[Callable[[], Callable[[], None]], int]] = {
        "gemm": (lambda: _gemm(shape, device), shape.num_bytes),
        "memory": (lambda: _memory(*MEMORY_WORK[kind], device), 2 * MEMORY_WORK[kind][0]),
        "dispatch": (lambda: _dispatch(DISPATCH_OPS[kind], device), 0),
    }
    wanted = WORKS if chosen == "all" else () if chosen == "none" else (chosen,)
    return Calibrations(
        by_work={work: _timed(works[work][0](), clock) for work in wanted},
        num_bytes=sum(works[work][1] for work in wanted),
    )


def _timed(work: Callable[[], None], clock: Clock) -> Callable[[], Calibration]:
    import torch

    def calibrate() -> Calibration:
        with torch.inference_mode():
            clock.sync()
            cpu_before_s, before_s = time.process_time(), clock.now_s()
            work()
            clock.sync()
            after_s, cpu_after_s = clock.now_s(), time.process_time()
        return Calibration(wall_s=after_s - before_s, cpu_s=cpu_after_s - cpu_before_s)

    return calibrate


def _gemm(shape: GemmShape, device: str) -> Callable[[], None]:
    import torch

    generator = torch.Generator().manual_seed(0)
    left = torch.randn(shape.rows, shape.inner, generator=generator).to(device)
    right = torch.randn(shape.inner, shape.columns, generator=generator).to(device)
    product = torch.empty(shape.rows, shape.columns, device=device)

    def work() -> None:
        for _ in range(shape.count):
            torch.mm(left, right, out=product)

    return work


def _memory(num_bytes: int, num_copies: int, device: str) -> Callable[[], None]:
    import torch

    source = torch.ones(num_bytes // 4, device=device)
    target = torch.zeros(num_bytes // 4, device=device)

    def work() -> None:
        for _ in range(num_copies):
            target.copy_(source)

    return work


def _dispatch(num_ops: int, device: str) -> Callable[[], None]:
    import torch

    small = torch.zeros(16, device=device)

    def work() -> None:
        for _ in range(num_ops):
            small.add_(1.0)

    return work
