"""What this device's matrix products reach, measured in the process that is about to be timed: a roofline's roof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.clock import Clock
from experiments.common.plain import Config
from experiments.measuring.calibration import GemmShape, gemm_shape
from metrics.speed.roofline import PEAK_OF, TYPICAL_ARCH

REPEATS = 5  # the best counts: a peak is what the device can do, not what it did between other programs
FLOAT32, BFLOAT16 = "float32", "bfloat16"
INT8 = "int8"  # a layer of engine=int8, float32 in and out, or the bare product in tiles: to be had on x86 CPUs only


def gemm_peaks(config: Config, clock: Clock) -> dict[str, Any]:
    """{"gemm_peak_flop_per_s": rate by dtype, "gemm_peak_by": whose product that is} at the model's largest shape, in
    whichever layout is fastest here; {} where `measure.gemm_peak` is off.

    On a CPU of the engine's own kind alone: bfloat16 without its instructions takes longer than a row's build.
    """
    if not config["measure"]["gemm_peak"]:
        return {}
    device = str(config["device"]["kind"])
    shape = gemm_shape(config["model"].get("arch", TYPICAL_ARCH), device)
    kinds = _own_kinds(config) if device == "cpu" else (FLOAT32, BFLOAT16)
    found = {kind: _peak(shape, kind, device, clock) for kind in kinds}
    return {
        "gemm_peak_flop_per_s": {kind: rate for kind, (rate, _) in found.items()},
        "gemm_peak_by": {kind: name for kind, (_, name) in found.items()},
    }


def _own_kinds(config: Config) -> tuple[str, ...]:
    """What the engine's products are made of; where its settings do not say, what is cheap to measure."""
    from engine.step.precision import has_int8

    cheap = (FLOAT32, INT8) if has_int8() else (FLOAT32,)
    kind = PEAK_OF.get(str(config["engine"].get("precision")), "")
    return (kind,) if kind in (*cheap, BFLOAT16) else cheap


def _peak(shape: GemmShape, dtype: str, device: str, clock: Clock) -> tuple[float, str]:
    import torch

    kind: torch.dtype = torch.float32 if dtype == INT8 else getattr(torch, dtype)
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(shape.rows, shape.inner, generator=generator).to(device, kind)
    linear = torch.nn.Linear(shape.inner, shape.columns, bias=False).to(device, kind)
    products = _int8_products(linear, left) if dtype == INT8 else _products(linear, left, device)
    best_s, name = min((_seconds(product, left, shape.count, clock), name) for name, product in products.items())
    return 2.0 * shape.rows * shape.inner * shape.columns * shape.count / best_s, name


Products = dict[str, Callable[[Any], Any]]


def _products(linear: Any, left: Any, device: str) -> Products:
    import torch

    from engine.step.packed import PackedLinear, can_pack

    products: Products = {"torch": linear}
    if device == "cpu" and can_pack(linear.weight.dtype):
        products["torch packed"] = PackedLinear(linear)
    if device == "cpu" and linear.weight.dtype == torch.bfloat16:
        from engine.backends.tiles.denoiser import by_columns, by_rows

        products |= _tiles_product(by_rows(left), by_columns(linear.weight.detach()))
    return products


def _tiles_product(rows: Any, columns: Any, needed: tuple[str, ...] = ()) -> Products:
    """The bare product of engine=tiles_bf16 or tiles_int8, its operands laid out beforehand; nothing where it cannot be
    built: every engine's run comes by here."""
    import torch

    from engine.contract import ConfigError, UnsupportedEngine
    from engine.native.library import compiled, refuse_cpu

    try:
        functions = compiled()
        refuse_cpu(needed)
    except (UnsupportedEngine, ConfigError):
        return {}
    kind = torch.int32 if rows.dtype == torch.int8 else torch.float32
    sums = torch.empty(len(rows), len(columns), 2, 2, 16, 16, dtype=kind)
    return {"tiles": lambda _: functions.product_into(sums, rows, columns)}


def _int8_products(linear: Any, left: Any) -> Products:
    import torch

    from engine.backends.tiles.denoiser import int8_by_columns, int8_by_rows
    from engine.native.library import NEEDED_FOR_INT8
    from engine.step.precision import quantize_inside

    generator = torch.Generator().manual_seed(0)
    shapes = left.shape, linear.weight.shape
    rows, columns = (torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator) for shape in shapes)
    in_tiles = _tiles_product(int8_by_rows(rows), int8_by_columns(columns), NEEDED_FOR_INT8)
    return {"torch": quantize_inside(torch.nn.Sequential(linear)), **in_tiles}


def _seconds(product: Callable[[Any], Any], left: Any, count: int, clock: Clock) -> float:
    """The fastest of REPEATS runs of `count` products."""
    import torch

    seconds = []
    with torch.inference_mode():
        for _ in range(REPEATS):
            clock.sync()
            before_s = clock.now_s()
            for _ in range(count):
                product(left)
            clock.sync()
            seconds.append(clock.now_s() - before_s)
    return min(seconds)
