"""Watts of a card: NVML by a library that answers as pynvml does, which of the machine's cards it is asked of, and
Zeus's second opinion."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.jetson.tree import NoValue
from experiments.telemetry.nvml import Nvml, open_nvml
from experiments.telemetry.zeus import beside_zeus, zeus_window


class Card:
    """pynvml of one card: what it was seen to answer; a name of `refuses` raises NotSupported, as an Orin does."""

    class NVMLError(Exception):
        pass

    def __init__(self, *names: str, **answers: Any):
        self._names, self._answers = names or ("NVIDIA H200",), answers

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return len(self._names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index >= len(self._names):
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> int:
        return int(name.rpartition("-")[2])

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return self._names[handle].encode()

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        return [self._answer("mig"), 0]

    def _answer(self, name: str) -> int:
        if name not in self._answers:
            raise self.NVMLError("Not Supported")
        return self._answers[name]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self._answer("energy_mj")

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._answer("power_mw")

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        return self._answer("mhz")

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:
        return self._answer("celsius")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        return self._answer("reasons")


def test_a_card_says_all_of_it() -> None:
    answers = {"energy_mj": 123_456_789, "power_mw": 412_300, "mhz": 1980, "celsius": 56, "reasons": 0x4 | 0x1 | 0x20}
    card = open_nvml(0, Card(**answers), {})
    reading = card.read()
    assert reading.content() == {
        "rails_w": {"card": 412.3}, "total_w": 412.3, "counters_j": {"card": 123_456.789}, "gpu_hz": 1.98e9,
        "gpu_c": 56.0, "throttles": ["power cap", "thermal, by the driver"],
    }  # fmt: skip
    assert card.head() == {"gpu": "NVIDIA H200", "rule": "card", "total_of": ["card"], "missing": {}}


def test_an_orin_knows_its_name_and_no_power_and_that_is_no_zero() -> None:
    reading = Nvml(Card(), 0, "Orin (nvgpu)").read()
    assert (reading.total_w, reading.rails_w, reading.counters_j) == (None, {}, {})
    assert reading.missing["card"] == "NVML: Not Supported"
    assert set(reading.content()) == {"missing"}


@pytest.mark.parametrize(
    ("names", "index", "environ", "handle"),
    [
        (("A", "A"), 1, {}, 1),
        (("A", "A", "A"), 1, {"CUDA_VISIBLE_DEVICES": "2,0"}, 0),
        (("A", "A", "A"), 0, {"CUDA_VISIBLE_DEVICES": "GPU-5a-2"}, 2),
        (("A", "B"), 0, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, 0),
        (("A", "B"), 0, {}, "cards of several kinds, which CUDA counts from the fastest on"),
        (("A", "A"), 0, {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES= leaves no whole card 0"),
        (("A", "A"), 1, {"CUDA_VISIBLE_DEVICES": "1"}, "CUDA_VISIBLE_DEVICES=1 leaves no whole card 1"),
        (("A",), 0, {"CUDA_VISIBLE_DEVICES": "MIG-5a"}, "leaves no whole card 0 whose power could be read"),
        (("A",), 3, {}, "NVML: Invalid Argument"),
    ],
)
def test_the_card_is_the_one_that_cuda_means(
    names: tuple[str, ...], index: int, environ: dict[str, str], handle: int | str
) -> None:
    if isinstance(handle, int):
        assert open_nvml(index, Card(*names), environ).handle == handle
        return
    with pytest.raises(NoValue, match=handle):
        open_nvml(index, Card(*names), environ)


def test_a_card_that_is_cut_into_parts_and_a_library_of_before_have_no_watts() -> None:
    with pytest.raises(NoValue, match="is cut into parts"):
        open_nvml(0, Card(mig=1), {})
    library = Card(mig=0, power_mw=300_000)
    unknown = ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetMigMode")
    names = [name for name in dir(library) if name.lower().startswith("nvml") and name not in unknown]
    old = SimpleNamespace(**{name: getattr(library, name) for name in names})
    reading = open_nvml(0, old, {}).read()
    assert (reading.total_w, reading.counters_j) == (300.0, {})
    assert reading.missing["counter"].startswith("this pynvml has no nvmlDeviceGetTotalEnergyConsumption")


class ZeusMonitor:
    """In the form of zeus.monitor.ZeusMonitor: of a card that used 300 W for a second."""

    def __init__(self, gpu_indices: list[int], cpu_indices: list[int]):
        self.indices = gpu_indices

    def begin_window(self, key: str, sync_execution: bool) -> None:
        assert not sync_execution

    def end_window(self, key: str, sync_execution: bool) -> Any:
        return SimpleNamespace(gpu_energy=dict.fromkeys(self.indices, 300.0))


def test_zeus_is_a_second_opinion_on_a_card_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with zeus_window("cuda:0", "nvml") as window:
        assert window is None, "it is not installed here"
    monkeypatch.setitem(sys.modules, "zeus.monitor", SimpleNamespace(ZeusMonitor=ZeusMonitor))
    with zeus_window("cuda:0", "rails") as window:
        assert window is None, "it knows no total of a Jetson"
    with zeus_window("cuda:1", "nvml") as window:
        assert window is not None
    window.start_s, window.end_s = 5.0, 6.0
    lines: list[dict[str, Any]] = [{"kind": "head"}]
    lines += [{"kind": "power", "t_s": 4.9 + i / 10, "total_w": 309.0} for i in range(13)]
    found = beside_zeus(lines, window)
    assert found == {"zeus_j": 300.0, "own_j": pytest.approx(309.0), "zeus_difference_frac": pytest.approx(0.03)}
    assert beside_zeus(lines[:5], window)["zeus_missing"].startswith("no samples from 5 s to 6 s")
    assert beside_zeus(lines, None) == {}
