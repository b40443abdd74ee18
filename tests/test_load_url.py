"""A load against a service that runs already: it must be the variant and the line that the report will name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract import ConfigError
from engine.solver.methods import solver_spec
from experiments.load.http import open_client
from experiments.load.over_http import _passed_on
from experiments.load.parts import Order
from experiments.serve.settings import read_settings
from experiments.settings.compose import compose_run
from tests.load_fakes import ToneEngine
from tests.test_load_http import CONFIG, order_for, run_over, served

THERE = "url=http://there:8000"


def pocket_like() -> ToneEngine:
    """Whose facts are those of this workload's default variant."""
    engine, spec = ToneEngine(), solver_spec(CONFIG["solver"])
    engine.facts = replace(
        engine.facts, model="pocket", solver=spec.name, time_grid=spec.grid, cfg_strength=spec.cfg_strength
    )
    return engine


@pytest.mark.parametrize(
    ("overrides", "key", "found"),
    [
        (["engine=bf16"], "engine", "fp32"), (["solver=uniform_7"], "solver", "euler_7"),
        (["solver.grid=uniform"], "solver.grid", "(0.0, "), (["solver.cfg_strength=1"], "solver.cfg_strength", "2.0"),
        (["solver=euler_6", "solver.name=euler_7"], "solver.steps", "7"),
        (["model=f5tts_v1_base_random", "vocoder=vocos_random"], "model", "pocket"),
    ],
)  # fmt: skip
def test_a_running_service_of_another_variant_is_refused(
    tmp_path: Path, overrides: list[str], key: str, found: str
) -> None:
    cell, other = compose_run(["workload=smoke", *overrides]), order_for(tmp_path, THERE)
    order = Order(cell=cell, settings=other.settings, workload=other.workload, out=tmp_path)
    says = re.escape(f"the service runs {found}")
    with served(pocket_like()) as client, pytest.raises(ConfigError, match=says) as refused:
        run_over(client, order)
    assert refused.value.key == key


@pytest.mark.parametrize(
    ("service", "asked", "key"),
    [
        ([], ["batching=true"], "batching"), (["batching=true"], [], "batching"),
        (["batching=true"], ["batching=true", "batch_window_s=0.05"], "batch_window_s"),
        (["batching=true"], ["batching=true", "max_batch=4"], "max_batch"),
        (["batching=true"], ["batching=true", "bucket_chars=[40]"], "bucket_chars"),
        (["queue_limit=8"], [], "queue_limit"),
        (["queue_limit=8"], ["queue_limit=8", "scenario=offline", "requests=20"], "requests"),
    ],
)  # fmt: skip
def test_a_running_service_that_lines_up_otherwise_is_refused(
    tmp_path: Path, service: list[str], asked: list[str], key: str
) -> None:
    with served(pocket_like(), *service) as client, pytest.raises(ConfigError) as refused:
        run_over(client, order_for(tmp_path, THERE, *asked))
    assert refused.value.key == f"load.{key}"


def test_a_running_service_says_itself_what_it_runs_on(tmp_path: Path) -> None:
    with served(pocket_like(), "batching=true") as client:
        assert run_over(client, order_for(tmp_path, THERE, "batching=true", "users=[2]", "requests=8")) == 0
    content = json.loads((tmp_path / "load.json").read_text())
    assert content["environment"] == {"host_class": "the-services-own"}
    assert "Host class the-services-own" in (tmp_path / "load.md").read_text()


def test_an_offline_load_starts_a_service_whose_line_holds_it() -> None:
    assert "serve.queue_limit=300" in _passed_on(read_settings(["transport=http", "scenario=offline", "requests=300"]))
    assert "serve.queue_limit=64" in _passed_on(read_settings(["transport=http", "scenario=closed", "requests=300"]))


def test_what_is_no_address_is_a_setting() -> None:
    with pytest.raises(ConfigError, match="url=http://there:80a0: is no address"):
        open_client("http://there:80a0", 4, 1.0)
