"""Power of an NVIDIA card by its management library: energy counter, power, clock, throttle reasons, temperature.

The package nvidia-ml-py (module pynvml) is looked for and not needed. A card answers what it can: what it does not
support is left out with that reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments.jetson.tree import NoValue
from experiments.telemetry.reading import Reading

SM_CLOCK, DIE = 1, 0  # NVML_CLOCK_SM, NVML_TEMPERATURE_GPU
# nvmlClocksEventReasons: those that slow a card down; idle and a limit that the user set are none of them
THROTTLES = {
    0x4: "power cap", 0x8: "slowdown by the hardware", 0x20: "thermal, by the driver", 0x40: "thermal, by the hardware",
    0x80: "power brake",
}  # fmt: skip


@dataclass(frozen=True)
class Nvml:
    """library: pynvml, or what answers in its place; handle: of the card."""

    library: Any
    handle: Any
    name: str
    source: str = "nvml"

    def head(self) -> dict[str, Any]:
        return {"gpu": self.name, "rule": "card", "total_of": ["card"], "missing": dict(self.read().missing)}

    def read(self) -> Reading:
        missing: dict[str, str] = {}
        energy_mj = self._ask("counter", self.library.nvmlDeviceGetTotalEnergyConsumption, missing)
        power_mw = self._ask("card", self.library.nvmlDeviceGetPowerUsage, missing)
        clock_mhz = self._ask("gpu_hz", self.library.nvmlDeviceGetClockInfo, missing, SM_CLOCK)
        celsius = self._ask("gpu_c", self.library.nvmlDeviceGetTemperature, missing, DIE)
        reasons = self._ask("throttles", self.library.nvmlDeviceGetCurrentClocksThrottleReasons, missing)
        state: dict[str, Any] = {}
        if clock_mhz is not None:
            state["gpu_hz"] = clock_mhz * 1e6
        if celsius is not None:
            state["gpu_c"] = float(celsius)
        if reasons is not None:
            state["throttles"] = [said for bit, said in THROTTLES.items() if reasons & bit]
        return Reading(
            rails_w={} if power_mw is None else {"card": power_mw / 1000},
            total_w=None if power_mw is None else power_mw / 1000,
            counters_j={} if energy_mj is None else {"card": energy_mj / 1000},
            missing=missing, state=state,
        )  # fmt: skip

    def _ask(self, name: str, function: Callable[..., int], missing: dict[str, str], *more: int) -> int | None:
        try:
            return int(function(self.handle, *more))
        except self.library.NVMLError as error:
            missing[name] = f"NVML: {error}"
            return None


def open_nvml(index: int, library: Any | None = None) -> Nvml:
    """Raises NoValue where the library or the card is not to be had."""
    if library is None:
        try:
            library = importlib.import_module("pynvml")
        except ImportError as error:
            raise NoValue("nvidia-ml-py is not installed: its module pynvml reads a card's power") from error
    try:
        library.nvmlInit()
        handle = library.nvmlDeviceGetHandleByIndex(index)
        name = library.nvmlDeviceGetName(handle)
    except library.NVMLError as error:
        raise NoValue(f"NVML: {error}") from error
    return Nvml(library, handle, name.decode() if isinstance(name, bytes) else str(name))
