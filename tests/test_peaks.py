"""The roof that achieved rates are held against."""

import pytest

from engine.clock import HostClock
from engine.contract import UnsupportedEngine
from experiments.measuring.peaks import gemm_peaks
from tests.engines import config


def test_the_peak_is_a_rate_of_the_rows_own_products_and_off_where_it_is_not_asked_for() -> None:
    for engine, kinds in (
        ("fp32", {"float32"}),
        ("upstream", {"float32", "int8"}),
        ("onnx_int8", {"float32", "int8"}),
        ("bf16", {"bfloat16"}),
        ("int8", {"int8"}),
    ):
        found = gemm_peaks(config("measure=steady", f"engine={engine}"), HostClock())
        assert set(found["gemm_peak_by"]) == set(found["gemm_peak_flop_per_s"]) == kinds, (
            "a row's own, or the cheap ones"
        )
        assert set(found["gemm_peak_by"].values()) <= {"torch", "torch packed", "tiles"}, "whose product it is"
        assert all(1e8 < rate < 1e16 for rate in found["gemm_peak_flop_per_s"].values())
    assert gemm_peaks(config("measure=quick"), HostClock()) == {}


def test_the_peak_counts_the_products_it_times() -> None:
    """A clock that moves one second a look: the rate is the operations of one run."""

    class Second(HostClock):
        t_s = 0.0

        def now_s(self) -> float:
            self.t_s += 1
            return self.t_s

    rows, inner, columns, count = 1024, 256, 512, 10
    for engine in ("fp32", "bf16", "int8"):
        (rate,) = gemm_peaks(config("measure=steady", f"engine={engine}"), Second())["gemm_peak_flop_per_s"].values()
        assert rate == 2 * rows * inner * columns * count


def test_a_machine_that_cannot_build_our_own_product_still_has_a_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UnsupportedEngine("no compiler", "get one")

    monkeypatch.setattr("engine.native.library.compiled", refuse)
    found = gemm_peaks(config("measure=steady", "engine=bf16"), HostClock())
    assert found["gemm_peak_by"]["bfloat16"].startswith("torch")
