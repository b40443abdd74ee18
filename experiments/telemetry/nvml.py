"""Power of an NVIDIA card by its management library: energy counter, power, clock, throttle reasons, temperature.

The package nvidia-ml-py (module pynvml) is looked for and not needed. A card answers what it can: what it does not
support is left out with that reason.

NVML counts the cards of the machine, CUDA those that CUDA_VISIBLE_DEVICES leaves, in its own order. Where it cannot be
told which of them is meant there is a reason, not another card's watts.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.jetson.tree import NoValue
from experiments.telemetry.reading import Reading

VISIBLE, ORDER, BY_BUS = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PCI_BUS_ID"
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
        energy_mj = self._ask("counter", "nvmlDeviceGetTotalEnergyConsumption", missing)
        power_mw = self._ask("card", "nvmlDeviceGetPowerUsage", missing)
        clock_mhz = self._ask("gpu_hz", "nvmlDeviceGetClockInfo", missing, SM_CLOCK)
        celsius = self._ask("gpu_c", "nvmlDeviceGetTemperature", missing, DIE)
        reasons = self._ask("throttles", "nvmlDeviceGetCurrentClocksThrottleReasons", missing)
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

    def _ask(self, name: str, function: str, missing: dict[str, str], *more: int) -> int | None:
        asked = getattr(self.library, function, None)
        if asked is None:
            missing[name] = f"this pynvml has no {function}: nvidia-ml-py has"
            return None
        try:
            return int(asked(self.handle, *more))
        except self.library.NVMLError as error:
            missing[name] = f"NVML: {error}"
            return None


def open_nvml(index: int, library: Any | None = None, environ: Mapping[str, str] = os.environ) -> Nvml:
    """index: of the card as CUDA counts. Raises NoValue where the library or the card is not to be had."""
    if library is None:
        try:
            library = importlib.import_module("pynvml")
        except ImportError as error:
            raise NoValue("nvidia-ml-py is not installed: its module pynvml reads a card's power") from error
    try:
        library.nvmlInit()
        handle = _card(library, index, environ)
        name = _name(library, handle)
    except library.NVMLError as error:
        raise NoValue(f"NVML: {error}") from error
    if _is_shared(library, handle):
        raise NoValue(f"NVML: {name} is cut into parts (MIG), and its power is that of all of them")
    return Nvml(library, handle, name)


def _card(library: Any, index: int, environ: Mapping[str, str]) -> Any:
    """Raises NoValue where it cannot be told which card of the machine CUDA calls so."""
    visible = environ.get(VISIBLE)
    if visible is not None:
        named = [word.strip() for word in visible.split(",")]
        word = named[index] if index < len(named) else ""
        if word.startswith("GPU-"):
            return library.nvmlDeviceGetHandleByUUID(word)
        if not word.isdigit():
            raise NoValue(f"{VISIBLE}={visible} leaves no whole card {index} whose power could be read")
        index = int(word)
    cards = [library.nvmlDeviceGetHandleByIndex(number) for number in range(library.nvmlDeviceGetCount())]
    if len({_name(library, card) for card in cards}) > 1 and environ.get(ORDER) != BY_BUS:
        raise NoValue(f"cards of several kinds, which CUDA counts from the fastest on: set {ORDER}={BY_BUS}")
    return library.nvmlDeviceGetHandleByIndex(index)


def _name(library: Any, handle: Any) -> str:
    name = library.nvmlDeviceGetName(handle)
    return name.decode() if isinstance(name, bytes) else str(name)


def _is_shared(library: Any, handle: Any) -> bool:
    """A card that knows no parts says so by an error."""
    try:
        return bool(library.nvmlDeviceGetMigMode(handle)[0])
    except (library.NVMLError, AttributeError):
        return False
