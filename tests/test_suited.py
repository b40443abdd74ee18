"""A preset's variants that this machine cannot run well are left out with a line; what somebody names is run."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.common import environment
from experiments.doctor import host
from experiments.settings import suited as module
from experiments.settings.compose import compose_cells
from experiments.settings.suited import suited, unsuited
from tests.engines import config


@pytest.fixture
def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_cpu", lambda path: ("AMD EPYC", ["avx2", "fma"]))


def labels(*overrides: str) -> tuple[list[str], list[str]]:
    cells, lines = suited(compose_cells(overrides))
    return [cell.label for cell in cells], lines


@pytest.mark.parametrize(
    ("overrides", "flags", "fits"),
    [
        (["engine=bf16"], ["avx2"], False),
        (["engine=amp"], ["avx2", "avx512f"], False),
        (["engine=compiled_bf16"], [], False),
        (["engine=bf16"], ["avx512_bf16"], True),
        (["engine=amp"], ["bf16"], True),
        (["engine=bf16", "device=cuda"], ["avx2"], True),
        (["engine=fp32"], [], True),
        (["engine=onnx_int8"], [], True),
    ],
)
def test_bfloat16_wants_instructions_for_it(overrides: list[str], flags: list[str], fits: bool) -> None:
    assert (unsuited(config(*overrides), flags) is None) == fits


def test_the_default_sweep_leaves_out_what_crawls(without_bf16: Any) -> None:
    kept, (line,) = labels()
    assert "amp-euler_7" not in kept
    assert "bf16-euler_7" not in kept
    assert {"upstream-euler_32", "fp32-euler_7", "int8-euler_7"} <= set(kept)
    assert line.startswith("left out here: amp-euler_7, bf16-euler_7 (")
    assert line.endswith("sweep.all=true runs them)")


def test_all_means_all_and_a_named_engine_is_run(without_bf16: Any) -> None:
    assert "bf16-euler_7" in labels("sweep.all=true")[0]
    assert labels("engine=bf16,fp32", "solver=euler_7") == (["bf16-euler_7", "fp32-euler_7"], [])


def test_a_preset_of_nothing_else_is_run_as_it_is(without_bf16: Any) -> None:
    kept, lines = labels("experiment=reference_length")
    assert len(kept) > 1
    assert lines == []


def test_the_doctor_knows_the_same_instructions() -> None:
    """It has a list of its own, because it must run where nothing is installed."""
    assert host.BF16_FLAGS == environment.BF16_FLAGS
