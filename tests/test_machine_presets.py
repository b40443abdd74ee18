"""Presets that list other variants for another machine: chosen by what the CPU has, the same everywhere else."""

from __future__ import annotations

import pytest

from engine.contract import ConfigError
from experiments.settings import compose
from experiments.settings.compose import compose_cells, compose_run

BEST = {"amx": "tiles_bf16", "avx512bf16": "compiled_bf16", "avx2": "onnx_int8", "": "onnx_int8"}


@pytest.mark.parametrize("preset", ["fastest", "waterfall"])
@pytest.mark.parametrize("instructions", BEST)
def test_the_variants_are_those_of_the_cpu(preset: str, instructions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "cpu_instructions", lambda: instructions)
    engines = [cell.config["engine"]["name"] for cell in compose_cells([f"experiment={preset}"])]
    assert "upstream" in engines[:2], "what all rows are compared with"
    assert engines[-1] == BEST[instructions]


def test_one_run_is_no_place_for_a_preset_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "cpu_instructions", lambda: "amx")
    with pytest.raises(ConfigError, match="a preset of 5 cells is a sweep"):
        compose_run(["experiment=fastest"])


def test_a_name_of_before_names_the_one_of_today() -> None:
    with pytest.raises(ConfigError, match=r"experiment=fastest_tiles: .*fastest"):
        compose_cells(["experiment=fastest_tiles"])
