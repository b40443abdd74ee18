"""The keys that conf/engine/tensorrt*.yaml have, as one checked value: what builds an engine and what exports one read
the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.backends.tensorrt.plan_file import INT8_PRECISIONS, PRECISIONS, checked_precision
from engine.backends.tensorrt.runtime import RTX, checked_runtime
from engine.contract import ConfigError
from engine.runtimes.profiles import profiles_of
from engine.settings import CalibrationSettings

if TYPE_CHECKING:
    from engine.runtimes.profiles import Profile

SPECIALISE = ("eager", "lazy", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSettings:
    """calibration: of the int8 engines, None for the others. specialise, cuda_graph: of TensorRT-RTX alone, null with
    TensorRT."""

    name: str
    precision: str
    profiles: Sequence[Sequence[int]]
    runtime: str = "tensorrt"
    plan: str | None = None
    workspace_bytes: int = 1 << 32
    needs_fused_attention: bool = True
    max_batch: int = 1
    max_padding_frac: float = 0.1
    specialise: str | None = None
    cuda_graph: bool | None = None
    calibration: CalibrationSettings | None = None
    float_layers: Sequence[str] = ()
    needs_int8_products: bool = True

    def __post_init__(self) -> None:
        checked_runtime(self.runtime)
        checked_precision(self.precision, PRECISIONS if self.calibration is None else INT8_PRECISIONS)
        profiles_of(self.profiles)
        own = {"specialise": self.specialise, "cuda_graph": self.cuda_graph}
        for key, value in own.items():
            if (value is None) == (self.runtime == RTX):
                raise ConfigError(
                    f"engine.{key}", "null" if value is None else value,
                    "belongs to engine.runtime=tensorrt_rtx, and to that alone",
                    "use engine=tensorrt_rtx_bf16" if value is None else f"use engine.{key}=null",
                )  # fmt: skip
        if self.specialise not in (None, *SPECIALISE):
            raise ConfigError(
                "engine.specialise",
                self.specialise,
                f"must be one of {', '.join(SPECIALISE)}",
                "use engine.specialise=eager",
            )

    @property
    def ranges(self) -> tuple[Profile, ...]:
        return profiles_of(self.profiles)

    @property
    def masked(self) -> bool:
        return self.max_batch > 1
