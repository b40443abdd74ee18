"""Records, jobs and baselines of before the engines had rooms of their own are read as what they would be now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.build import target_of
from experiments.gate import overrides_of
from experiments.measuring.job import JOB, new_job, read_job, write_job
from experiments.settings.compose import compose_config
from experiments.settings.reference import is_reference
from metrics.record import load_record
from metrics.stored_config import TARGETS, todays
from tests.baseline_runs import make_run
from tests.engines import ROOT, config


def of_before(now: dict[str, Any]) -> dict[str, Any]:
    """The same configuration as it was written then."""
    old = {new: then for then, new in TARGETS.items()}
    sweep = {key: value for key, value in now["sweep"].items() if key != "all"}
    return {**now, "sweep": sweep, "engine": {**now["engine"], "_target_": old[now["engine"]["_target_"]]}}


def names() -> list[str]:
    """Engines that a file of before can name: of a builder that had another place then."""
    found = {path.stem: path.read_text("utf-8") for path in (ROOT / "conf" / "engine").glob("*.yaml")}
    later = ("engine.backends.fused", "engine.kokoro", "- kokoro", "build.cuda_call", "- cuda_call")
    return sorted(name for name, text in found.items() if not any(target in text for target in later))


@pytest.mark.parametrize("name", names())
def test_every_engine_of_before_is_one_of_today(name: str) -> None:
    now = config(f"engine={name}", "sweep.all=true")
    then = of_before(now)
    assert then != now
    assert todays(then) == now
    assert todays(now) == now
    assert callable(target_of(todays(then)["engine"]))


def test_a_record_a_job_and_a_baselines_run_of_before(tmp_path: Path) -> None:
    now = config("engine=fp32", "solver=euler_32", "sweep.all=true")
    job = new_job(tmp_path, "fp32-euler_32", "measure", now)
    write_job(job)
    content = json.loads((tmp_path / JOB).read_text("utf-8"))
    (tmp_path / JOB).write_text(json.dumps({**content, "config": of_before(now)}), encoding="utf-8")
    assert read_job(tmp_path).config == now

    from dataclasses import replace

    from metrics.record import save_record

    path = tmp_path / "result.json"
    save_record(replace(make_run(1), config=now), path)
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "config": of_before(now)}), encoding="utf-8")
    back = load_record(path)
    assert back.config == now
    assert is_reference(back.config)
    assert compose_config(overrides_of(back.config))["engine"] == now["engine"]
