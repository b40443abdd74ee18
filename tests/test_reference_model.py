"""Quality is measured against a model that is named, and never against the variant's own mistake."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from baselines.quality.gate import judge_quality
from engine.contract import ConfigError
from experiments.measuring import worker
from experiments.measuring.job import new_job, write_job
from experiments.measuring.validate import validate
from experiments.scoring.score import score_run
from experiments.settings.compose import compose_cells, compose_run
from experiments.settings.reference import (
    is_own_model,
    is_reference,
    needs_reference,
    reference_config,
    reference_key,
    reference_model,
)
from experiments.settings.words import read_quality_limits
from experiments.sweep.running import new_sweep, run_sweep
from metrics.record import ReferenceModel, load_record, save_record
from reports.data.table import load_table
from reports.sections.columns import built_columns
from reports.sections.notes import headline_of, note_of
from tests import fakes
from tests import scored_runs as runs
from tests.engines import config

SMALL = (
    "workload=smoke", "measure.rounds=1", "measure.warmup_rounds=0", "measure.calibration=none",
    "quality.metrics=[snr]", "tracking=none", "workload.limit=1",
)  # fmt: skip


def made(folder: Path, *overrides: str, kind: str = "measure") -> Path:
    """A run folder left by a worker with the fake engine."""
    chosen = config(*SMALL, *overrides)
    job = new_job(folder, f"{chosen['engine']['name']}-{chosen['solver']['name']}", kind, chosen)  # type: ignore[arg-type]
    write_job(job)
    worker.run_job(job, fakes.build)
    return folder


def with_weights(folder: Path, sha256: str) -> Path:
    record = load_record(folder / "result.json")
    save_record(replace(record, facts={**(record.facts or {}), "weights_sha256": sha256}), folder / "result.json")
    return folder


def test_in_a_sweep_over_settings_of_the_model_the_reference_is_the_model_without_them() -> None:
    whole, cut = compose_cells(["solver=euler_32", "model.arch.depth=6,3"])
    assert is_reference(whole.config)
    assert not is_reference(cut.config), "a variant is not its own reference"
    assert reference_model(cut.config) == whole.config["model"]
    assert reference_key(cut.config) == reference_key(whole.config)
    assert reference_config(cut.config)["model"]["arch"]["depth"] == 6
    assert (is_own_model(whole.config), is_own_model(cut.config)) == (True, False)


def test_a_preset_of_cells_and_a_setting_for_all_cells_are_told_apart() -> None:
    cells = compose_cells(["engine=fp32,bf16", "model.arch.depth=3"])
    assert all(is_own_model(cell.config) for cell in cells), "the same model in every cell is the model"
    run = compose_run(["model.checkpoint=my.safetensors"])
    assert is_own_model(run.config)


def test_other_models_are_their_own_reference_unless_one_is_stated() -> None:
    own = compose_cells(["model=pocket,f5tts_v1_base_random"])
    assert all(is_own_model(cell.config) for cell in own)
    stated = compose_cells(["model=pocket,f5tts_v1_base_random", "quality.reference_model=pocket"])
    assert [is_own_model(cell.config) for cell in stated] == [True, False]
    each = compose_cells(["model.arch.depth=6,3", "quality.reference_model=own"])
    assert all(is_own_model(cell.config) for cell in each)


def test_a_reference_model_that_cannot_be_built_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match=r"quality\.reference_model=pockte: must be own, null or one of"):
        validate(compose_run(["quality.reference_model=pockte"]).config, check_texts=False)
    with pytest.raises(ConfigError, match="f5tts_v1_base: is what quality is compared with") as refused:
        validate(compose_run(["quality.reference_model=f5tts_v1_base"]).config, check_texts=False)
    assert "quality.reference_model=own" in refused.value.remedy
    drawn = compose_run(["quality.reference_model=f5tts_v1_base_random"]).config
    assert not needs_reference(drawn), "drawn weights say nothing about quality"


@pytest.mark.parametrize("name", ["vocos_compiled", "vocos_compiled_bf16", "vocos_onnx"])
def test_a_vocoders_runtime_is_no_part_of_its_reference(name: str) -> None:
    plain, other = (compose_run(["solver=euler_32", f"vocoder={one}"]).config for one in ("vocos", name))
    assert reference_config(other)["vocoder"] == plain["vocoder"]
    assert reference_key(other) == reference_key(plain)
    assert (is_reference(plain), is_reference(other)) == (True, False)


def scored(run: Path, reference: Path | None) -> tuple[set[str], set[str | None], ReferenceModel | None]:
    record = score_run(run, reference, None)
    scores = record.scores_of("snr_vs_reference_db")
    return {score.status for score in scores}, {score.reason for score in scores}, record.reference


def test_a_variant_is_compared_with_the_stated_model_and_says_which(tmp_path: Path) -> None:
    reference = with_weights(made(tmp_path / "reference", "solver=euler_32", kind="reference"), "a" * 64)
    cut = ("engine=bf16", "model.arch.depth=3")
    stated = with_weights(made(tmp_path / "run", *cut, "quality.reference_model=pocket"), "b" * 64)
    status, _, named = scored(stated, reference)
    assert status == {"ok"}
    assert named is not None
    assert (named.model, named.weights_sha256, named.is_own) == ("pocket", "a" * 64, False)
    unstated = with_weights(made(tmp_path / "other", *cut), "b" * 64)
    status, reasons, _ = scored(unstated, reference)
    assert status == {"not_comparable"}
    assert "weights_sha256 differs" in str(reasons)


def test_the_same_weights_with_other_settings_are_another_model(tmp_path: Path) -> None:
    reference = made(tmp_path / "reference", "solver=euler_32", kind="reference")
    turned = made(tmp_path / "run", "+model.arch.pe_attn_head=1", "quality.reference_model=pocket")
    named = scored(turned, reference)[2]
    assert named is not None
    assert not named.is_own
    own = scored(made(tmp_path / "own", "engine=bf16"), reference)[2]
    assert own is not None
    assert own.is_own


def test_a_reference_of_a_third_model_is_not_the_stated_one(tmp_path: Path) -> None:
    third = made(tmp_path / "reference", "solver=euler_32", "model.arch.depth=4", kind="reference")
    status, reasons, _ = scored(made(tmp_path / "run", "model.arch.depth=3", "quality.reference_model=pocket"), third)
    assert status == {"not_comparable"}
    assert "reference_model differs" in str(reasons)


def test_a_vocoders_runtime_is_compared_with_the_same_weights_and_other_weights_are_not(tmp_path: Path) -> None:
    reference = made(tmp_path / "reference", "solver=euler_32", kind="reference")
    run = made(tmp_path / "run", "vocoder=vocos_compiled_bf16")
    for name, status in (("vocos_compiled_bf16:abc", "ok"), ("vocos:def", "not_comparable")):
        for folder, vocoder in ((reference, "vocos:abc"), (run, name)):
            record = load_record(folder / "result.json")
            save_record(replace(record, facts={**(record.facts or {}), "vocoder": vocoder}), folder / "result.json")
        assert scored(run, reference)[0] == {status}


def test_a_sweep_names_the_reference_model_of_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    (tmp_path / "w.pt").write_bytes(b"has no header, and nobody loads it here")
    sweep = new_sweep(
        compose_cells([*SMALL, "out=out", "solver=euler_32", "model.arch.depth=6,3", "model.checkpoint=w.pt"])
    )
    sweep.command = (sys.executable, "-m", "tests.fakes")
    assert run_sweep(sweep) == 0
    table = load_table(tmp_path / "out")
    whole, cut = table.rows
    assert (whole.is_reference, cut.is_reference) == (True, False)
    assert note_of(whole) == ""
    assert note_of(cut).startswith("another model than the reference's: compared with pocket (weights ")
    column = next(column for column in built_columns() if column.key == "reference_model")
    assert column.text(whole).startswith("pocket (weights ")
    assert column.text(cut).startswith("another: pocket (weights ")
    assert cut.timing is not None
    assert cut.timing.times_base is None, "two models' speeds have no ratio"
    headline = headline_of(table, None)
    assert headline


def test_scores_against_two_models_are_not_compared_by_the_quality_gate() -> None:
    """A student that was run alone was measured against itself."""
    named = ReferenceModel(model="pocket", weights_sha256="a" * 64, arch_sha256="c" * 64, is_own=True)
    base = replace(runs.scored("a"), reference=named)
    limits = read_quality_limits({"only": [runs.BLIND, runs.WER]})
    for other, is_refused in ((named, False), (replace(named, weights_sha256="b" * 64), True), (None, False)):
        verdict = judge_quality(base, replace(runs.scored("b"), reference=other), limits)
        told = {one.metric: "scored against two models (pocket" in one.explanation for one in verdict.findings}
        assert told[runs.BLIND] is is_refused
        assert not told[runs.WER], "words are compared with what was asked for"


def test_records_of_before_and_of_now_are_read_back(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", "solver=euler_32")
    record = score_run(folder, None, None)
    assert record.reference is not None
    assert load_record(folder / "result.json") == record
    content = asdict(record)
    del content["reference"]
    del content["config"]["quality"]["reference_model"]
    (folder / "result.json").write_text(json.dumps(content), "utf-8")
    older = load_record(folder / "result.json")
    assert older.reference is None
    assert is_own_model(older.config)
    assert score_run(folder, None, None).reference == record.reference
