"""Fuzz: records, baselines, sweeps, jobs and rules on disk, spoilt, given to the verbs that read them; each ends with a
documented code and, with 2, one line. Fixed seeds, nothing is measured."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import reports.__main__ as report_verb
import reports.listening.__main__ as listening
from baselines.stored.store import save_baseline
from experiments import baseline, decide, gate, plan_samples, quality_gate, run
from experiments.common.presets import CONF
from experiments.measuring.job import new_job, write_job
from experiments.optimize import __main__ as optimize
from experiments.scoring import score
from experiments.selftest import quality as quality_selftest
from experiments.settings.compose import compose_config
from experiments.sweep import __main__ as sweep
from experiments.sweep.ledger import new_ledger
from experiments.tracking import __main__ as tracking
from tests.baseline_runs import HOST, make_baseline, make_run
from tests.fuzzing import (
    Case,
    Verb,
    check,
    draw_nothing,
    params,
    spoilt_json,
    spoilt_texts,
    spoilt_yaml,
    stop_before_measuring,
)
from tests.scored_runs import scored
from tests.tracking_folders import write_sweep

Make = Callable[[Path], Sequence[str]]
# Nothing is wrong with what a mutation left alone, and a verdict over odd numbers may be any of these
JUDGED = frozenset({0, 2, 10, 11, 12, 13, 14})
READ = frozenset({0, 2})
KNOWN: dict[str, str] = {}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stop_before_measuring(monkeypatch, tmp_path)
    draw_nothing(monkeypatch)


@lru_cache(maxsize=8)
def text_of_record() -> str:
    return json.dumps(asdict(make_run(2)))


@lru_cache(maxsize=8)
def text_of_scored(audio: str) -> str:
    return json.dumps(asdict(scored(audio)))


@lru_cache(maxsize=1)
def text_of_baseline() -> str:
    with TemporaryDirectory() as folder:
        return save_baseline(make_baseline(make_run(1)), Path(folder)).read_text(encoding="utf-8")


def run_folder(folder: Path, content: bytes) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_bytes(content)
    return str(folder)


def record_verbs() -> list[tuple[Verb, Callable[[Path, str], Sequence[str]]]]:
    """Verb and its arguments for a spoilt run's folder; a whole one and a baseline lie beside it."""
    return [
        (report_verb.main, lambda folder, spoilt: [spoilt, "--print"]),
        (gate.main, lambda folder, spoilt: ["nightly", "--run", spoilt, "--records", str(folder / "records")]),
        (baseline.main, lambda folder, spoilt: ["record", "mine", "--run", spoilt, "--records", str(folder / "own")]),
        (baseline.main, lambda folder, spoilt: ["diff", "nightly", spoilt, "--records", str(folder / "records")]),
        (score.main, lambda folder, spoilt: [spoilt]),
        (quality_gate.main, lambda folder, spoilt: [str(folder / "whole"), spoilt]),
        (plan_samples.main, lambda folder, spoilt: ["metric=wer_frac", "margin=0.01", spoilt, str(folder / "whole")]),
        (decide.main, lambda folder, spoilt: [spoilt]),
        (tracking.main, lambda folder, spoilt: ["status", spoilt]),
        (listening.main, lambda folder, spoilt: ["build", spoilt, str(folder / "whole"), f"out={folder / 'set'}"]),
        (quality_selftest.main, lambda folder, spoilt: [spoilt]),
        (run.main, lambda folder, spoilt: [f"quality.reference_dir={spoilt}"]),
    ]  # fmt: skip


def record_cases() -> Iterator[Case]:
    verbs = record_verbs()
    whole = itertools.chain(
        spoilt_json(text_of_record(), seed=1, num=30), spoilt_json(text_of_scored("b"), seed=2, num=20)
    )
    for number, (how, content) in enumerate(whole):
        verb, arguments = verbs[number % len(verbs)]
        name = f"{verb.__module__} {arguments(Path(), '')[0]} result.json {how}"
        yield Case(name=name, verb=verb, make=_with_record(content, arguments), codes=JUDGED)


def _with_record(content: bytes, arguments: Callable[[Path, str], Sequence[str]]) -> Make:
    def make(folder: Path) -> Sequence[str]:
        run_folder(folder / "whole", text_of_scored("a").encode())
        place = folder / "records" / HOST / "nightly.json"
        place.parent.mkdir(parents=True)
        place.write_text(text_of_baseline(), encoding="utf-8")
        return arguments(folder, run_folder(folder / "spoilt", content))

    return make


def baseline_cases() -> Iterator[Case]:
    verbs: list[tuple[Verb, list[str]]] = [
        (baseline.main, ["show", "nightly"]), (baseline.main, ["list"]), (gate.main, ["nightly", "--run", "whole"]),
        (baseline.main, ["approve", "nightly", "--why", "heard"]), (baseline.main, ["diff", "nightly", "whole"]),
        (baseline.main, ["record", "nightly", "--add", "--run", "whole"]),
    ]  # fmt: skip
    for number, (how, content) in enumerate(spoilt_json(text_of_baseline(), seed=3, num=24)):
        verb, words = verbs[number % len(verbs)]
        name = f"{verb.__module__} {words[0]} nightly.json {how}"
        yield Case(name=name, verb=verb, make=_with_baseline(content, words), codes=JUDGED)


def _with_baseline(content: bytes, words: Sequence[str]) -> Make:
    def make(folder: Path) -> Sequence[str]:
        run_folder(folder / "whole", text_of_record().encode())
        place = folder / "records" / HOST / "nightly.json"
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
        return [*words, "--records", str(folder / "records")]

    return make


def sweep_cases() -> Iterator[Case]:
    verbs: list[tuple[Verb, Callable[[str], Sequence[str]]]] = [
        (report_verb.main, lambda folder: [folder]), (sweep.main, lambda folder: [f"resume={folder}"]),
        (tracking.main, lambda folder: ["status", folder]), (decide.main, lambda folder: [folder]),
        (optimize.main, lambda folder: [f"resume={folder}"]),
    ]  # fmt: skip
    text = json.dumps(_sweep_content())
    for number, (how, content) in enumerate(spoilt_json(text, seed=4, num=24)):
        verb, arguments = verbs[number % len(verbs)]
        yield Case(name=f"{verb.__module__} sweep.json {how}", verb=verb, make=_with_sweep(content, arguments),
                   codes=JUDGED)  # fmt: skip
    for how, content in spoilt_json('{"argv": ["engine=fp32,bf16"]}', seed=5, num=4):
        yield Case(name=f"optimize request.json {how}", verb=optimize.main, make=_with_request(content), codes=READ)


@lru_cache(maxsize=1)
def _sweep_content() -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        content = json.loads((write_sweep(Path(folder), "sqlite:///x.db") / "sweep.json").read_text())
    return dict(content)


def _with_sweep(content: bytes, arguments: Callable[[str], Sequence[str]]) -> Make:
    def make(folder: Path) -> Sequence[str]:
        made = write_sweep(folder / "swept", f"sqlite:///{folder}/mlflow.db")
        for job in made.glob("cells/*"):
            write_job(new_job(job, job.name, "measure", compose_config([])))
        (made / "sweep.json").write_bytes(content)
        return arguments(str(made))

    return make


def _with_request(content: bytes) -> Make:
    def make(folder: Path) -> Sequence[str]:
        new_ledger(folder, [], []).save()
        (folder / "request.json").write_bytes(content)
        return [f"resume={folder}"]

    return make


def job_cases() -> Iterator[Case]:
    config = compose_config([])
    text = json.dumps({"run_id": "r", "label": "fp32-euler_7", "kind": "measure", "config": config})
    for how, content in spoilt_json(text, seed=6, num=12):
        yield Case(name=f"sweep job.json {how}", verb=sweep.main, make=_with_job(content), codes=READ)


def _with_job(content: bytes) -> Make:
    def make(folder: Path) -> Sequence[str]:
        new_ledger(folder, ["fp32-euler_7"], [()]).save()
        place = folder / "cells" / "fp32-euler_7" / "job.json"
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
        return [f"resume={folder}"]

    return make


def rule_cases() -> Iterator[Case]:
    for name, key, verb, words in (
        ("quality/seeds", "preset", quality_gate.main, ("a", "b")), ("decision/nfe6", "rule", decide.main, ("swept",)),
        ("quality/retention", "preset", plan_samples.main, ()),
    ):  # fmt: skip
        text = (CONF / "gate" / f"{name}.yaml").read_text(encoding="utf-8")
        for how, content in itertools.chain(spoilt_texts(text, seed=7), spoilt_yaml(text, seed=8, num=8)):
            yield Case(name=f"{key} {name} {how}", verb=verb, make=_with_rules(content, key, words), codes=JUDGED)


def _with_rules(content: bytes, key: str, words: Sequence[str]) -> Make:
    def make(folder: Path) -> Sequence[str]:
        for name, audio in (("a", "a"), ("b", "b")):
            run_folder(folder / name, text_of_scored(audio).encode())
        write_sweep(folder / "swept", "sqlite:///x.db")
        (folder / "rules.yaml").write_bytes(content)
        return [*words, f"{key}={folder / 'rules.yaml'}"]

    return make


@pytest.mark.parametrize("case", params(record_cases(), KNOWN))
def test_records(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", params(baseline_cases(), KNOWN))
def test_baselines(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", params(itertools.chain(sweep_cases(), job_cases()), KNOWN))
def test_sweeps_and_jobs(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", params(rule_cases(), KNOWN))
def test_rules(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
