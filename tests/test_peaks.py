"""The roof that achieved rates are held against."""

import pytest

from engine.clock import HostClock
from engine.contract import UnsupportedEngine
from experiments.measuring.peaks import gemm_peaks
from tests.engines import config


def test_the_peak_is_a_rate_of_each_dtype_and_off_where_it_is_not_asked_for() -> None:
    found = gemm_peaks(config("measure=steady"), HostClock())
    peaks = found["gemm_peak_flop_per_s"]
    assert set(found["gemm_peak_by"]) == set(peaks), "whose product each is"
    assert set(found["gemm_peak_by"].values()) <= {"torch", "torch packed", "tiles"}
    assert set(peaks) == {"float32", "bfloat16", "int8"}
    assert all(1e8 < rate < 1e16 for rate in peaks.values())
    assert gemm_peaks(config("measure=quick"), HostClock()) == {}


def test_the_peak_counts_the_products_it_times() -> None:
    """A clock that moves one second a look: the rate is the operations of one run."""

    class Second(HostClock):
        t_s = 0.0

        def now_s(self) -> float:
            self.t_s += 1
            return self.t_s

    rates = gemm_peaks(config("measure=steady"), Second())["gemm_peak_flop_per_s"]
    rows, inner, columns, count = 1024, 256, 512, 10
    assert rates["float32"] == rates["bfloat16"] == rates["int8"] == 2 * rows * inner * columns * count


def test_a_machine_that_cannot_build_our_own_product_still_has_a_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UnsupportedEngine("no compiler", "get one")

    monkeypatch.setattr("engine.native.library.compiled", refuse)
    assert gemm_peaks(config("measure=steady"), HostClock())["gemm_peak_by"]["bfloat16"].startswith("torch")
