"""The quality gate as it stands: it judges what default runs hold, names what nobody scored, and says what adds it."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from baselines.quality.gate import judge_quality
from baselines.quality.rules import QualityLimits
from experiments.common.cli import report_command, run_verb
from experiments.measuring import worker
from experiments.measuring.job import new_job, write_job
from experiments.quality_gate import main
from experiments.scoring.ingredients import is_scored
from experiments.scoring.score import main as score
from experiments.scoring.sides import sides_of
from experiments.settings.compose import compose_config
from experiments.settings.words import read_quality_limits
from metrics.record import RunRecord, load_record
from tests import fakes
from tests.engines import config
from tests.scored_runs import ARTIFACT, BLIND, DNSMOS, IDS30, SIMILARITY, WER, scored, without, write_run

IDS12 = IDS30[:12]
EARS = (WER, DNSMOS)
FULL_ONLY = (*EARS, SIMILARITY)


def default_run(audio: str, shift: float = 0.0) -> RunRecord:
    """Twelve sentences with the scores that quality=standard makes."""
    run = scored(audio, {BLIND: shift}, IDS12)
    return replace(run, scores=tuple(s for s in run.scores if s.metric not in FULL_ONLY))


def judged(tmp_path: Path, first: RunRecord, second: RunRecord, *words: str) -> tuple[int, dict[str, object]]:
    a, b = write_run(tmp_path / "a run", first), write_run(tmp_path / "b's run", second)
    code = run_verb(main, [str(a), str(b), *words])
    return code, json.loads((b / "quality_gate" / "verdict.json").read_text())


def test_default_runs_can_pass_and_what_was_not_scored_is_named_with_the_command_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, verdict = judged(tmp_path, default_run("a"), default_run("b"))
    said = capsys.readouterr().out
    assert (code, verdict["outcome"]) == (0, "PASS")
    outcomes = {finding["metric"]: finding["outcome"] for finding in verdict["findings"]}  # type: ignore[attr-defined]
    assert outcomes == {
        **dict.fromkeys(("audio_valid", BLIND, ARTIFACT), "not worse"), **dict.fromkeys(FULL_ONLY, "not judged"),
    }  # fmt: skip
    assert "PASS: quality of engine-b against engine-a: not worse by every rule; 3 of 5 rules were not judged" in said
    typed = [shlex.split(line.split("scores: ")[1]) for line in said.splitlines() if "missing scores: " in line]
    assert [words[1:] for words in typed] == [
        ["-m", "experiments.scoring.score", str(tmp_path / name), "--quality", "full"] for name in ("a run", "b's run")
    ]
    summary = (tmp_path / "b's run" / "quality_gate" / "summary.md").read_text()
    assert "3 of 5 rules were not judged" in summary
    assert f"- missing scores: `{verdict['to_judge'][0]}`" in summary  # type: ignore[index]
    junit = ElementTree.parse(tmp_path / "b's run" / "quality_gate" / "junit.xml").getroot()
    assert (junit.get("failures"), junit.get("skipped")) == ("0", "3")


def test_what_was_judged_still_fails(tmp_path: Path) -> None:
    assert judged(tmp_path, default_run("a"), default_run("b", -3.0))[0] == 10


def test_a_run_that_holds_nothing_to_judge_is_no_pass(tmp_path: Path) -> None:
    runs = [replace(r, scores=tuple(s for s in r.scores if s.metric == "audio_valid")) for r in map(default_run, "ab")]
    code, verdict = judged(tmp_path, *runs)
    assert (code, verdict["outcome"]) == (11, "INCONCLUSIVE")


def test_a_score_that_was_tried_in_vain_is_judged(tmp_path: Path) -> None:
    """Otherwise a recogniser that hears nothing any more would take its question with it."""
    base, candidate = scored("a", ids=IDS12), scored("b", ids=IDS12)
    for name in IDS12[:3]:
        candidate = without(candidate, WER, name, "unavailable", "no pocketsphinx")
    found = judge_quality(base, candidate, read_quality_limits({"preset": "standard"}))
    assert next(f.outcome for f in found.findings if f.metric == WER) == "inconclusive"


def test_where_no_run_can_have_ears_their_rules_are_not_judged_and_the_reason_is_said(tmp_path: Path) -> None:
    base, candidate = scored("a", ids=IDS12), scored("b", ids=IDS12)
    for name, metric in itertools.product(IDS12, EARS):
        base = without(base, metric, name, "unavailable", "pip install -e '.[ears]'")
        candidate = without(candidate, metric, name, "unavailable", "pip install -e '.[ears]'")
    found = judge_quality(base, candidate, read_quality_limits({"preset": "standard"}))
    assert found.outcome == "PASS"
    unheard = {f.metric: f for f in found.findings if f.metric in EARS}
    assert {f.outcome for f in unheard.values()} == {"not judged"}
    assert all("pip install -e '.[ears]'" in f.explanation for f in unheard.values())


def test_the_strict_rules_stay_and_leave_nothing_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, verdict = judged(tmp_path, default_run("a"), default_run("b"), "preset=seeds")
    assert (code, verdict["outcome"]) == (11, "INCONCLUSIVE")
    assert "not judged" not in capsys.readouterr().out
    assert len(verdict["to_judge"]) == 2  # type: ignore[arg-type]


def test_another_word_for_what_is_not_scored_is_refused() -> None:
    content = {
        "name": "x",
        "alpha": 0.05,
        "coverage_frac": 0.9,
        "metrics": [{"metric": WER, "kind": "level", "limit": 1}],
    }
    with pytest.raises(ValueError, match="unscored=pass: must be inconclusive or not judged"):
        QualityLimits.from_mapping({**content, "unscored": "pass"})


@pytest.mark.parametrize("name", ["standard", "seeds", "retention"])
def test_every_preset_is_read(name: str) -> None:
    assert read_quality_limits({"preset": name}).name == name


SMALL = (
    "workload=smoke",
    "measure.rounds=1",
    "measure.calibration=none",
    "measure.gemm_peak=false",
    "quality.metrics=[snr]",
)


def spoken(folder: Path, *overrides: str) -> Path:
    chosen = config(*SMALL, *overrides)
    job = new_job(folder, f"{chosen['engine']['name']}-{chosen['solver']['name']}", "measure", chosen)
    write_job(job)
    worker.run_job(job, fakes.build)
    return folder


@pytest.fixture(scope="module")
def spoken_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells as a sweep leaves them: the reference, an oracle, a variant."""
    cells = {
        "reference": ("engine=fp32", "solver=euler_32"), "oracle": ("engine=fp32",), "variant": ("engine=bf16",),
        "six": ("engine=bf16", "solver=euler_6"),
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("kept") / "sweep"
    for name, overrides in cells.items():
        spoken(folder / "cells" / name, *overrides)
    return folder


@pytest.fixture
def sweep(spoken_once: Path, tmp_path: Path) -> dict[str, Path]:
    """A copy that a test may write to."""
    folder = shutil.copytree(spoken_once, tmp_path / "sweep")
    return {path.name: path for path in (folder / "cells").iterdir()}


def test_a_cell_finds_what_its_sweep_scored_it_towards(sweep: dict[str, Path]) -> None:
    found = {name: tuple(side and side.name for side in sides_of(folder)) for name, folder in sweep.items()}
    assert found == {
        "reference": (None, None), "oracle": ("reference", None), "variant": ("reference", "oracle"),
        "six": ("reference", None),
    }  # fmt: skip


def test_the_command_adds_scores_and_loses_none(sweep: dict[str, Path]) -> None:
    folder = sweep["variant"]
    assert run_verb(score, [str(folder)]) == 0
    before = load_record(folder / "result.json")
    assert run_verb(score, [str(folder), "--quality", "standard"]) == 0
    after = load_record(folder / "result.json")
    had, has = ({(s.metric, s.utterance_id): s.value for s in run.scores} for run in (before, after))
    assert had.items() <= has.items()
    assert ("snr_vs_oracle_db", "en03") in had
    assert ("log_mel_mae_vs_reference", "en03") in has.keys() - had.keys()
    wanted = compose_config(["quality=standard"])["quality"]["metrics"]
    assert set(wanted) <= set(after.config["quality"]["metrics"])
    assert (after.run_id, after.trials) == (before.run_id, before.trials)


def test_all_cells_of_a_sweep_are_scored_by_one_command_and_stay_so(
    sweep: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "conf" / "quality"
    own.mkdir(parents=True)
    (own / "two.yaml").write_text("defaults: [standard]\nmetrics: [log_mel]\n")
    monkeypatch.setenv("F5BENCH_CONFIG_DIR", str(own.parent))
    folder = sweep["variant"].parents[1]
    (sweep["six"] / "result.json").unlink()
    assert run_verb(score, [str(folder), "--quality", "two"]) == 0
    assert f"report   {report_command(folder)}" in capsys.readouterr().out
    for name in ("reference", "oracle", "variant"):
        record = load_record(sweep[name] / "result.json")
        assert {"snr_vs_reference_db", "log_mel_mae_vs_reference"} <= {score.metric for score in record.scores}
        assert is_scored(sweep[name], *sides_of(sweep[name]))


def test_a_sweep_without_a_measured_cell_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cells" / "bf16").mkdir(parents=True)
    assert run_verb(score, [str(tmp_path)]) == 2
    assert "no variant of this sweep was measured to its end; go on with it first" in capsys.readouterr().err


def test_a_run_of_its_own_finds_the_reference_beside_it(sweep: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(sweep["variant"], tmp_path / "run")
    assert sides_of(run) == (None, None)
    reference = shutil.copytree(sweep["reference"], run / "reference")
    assert sides_of(run) == (reference, None)


def test_another_set_that_is_not_there_is_one_line(sweep: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(score, [str(sweep["variant"]), "--quality", "fool"]) == 2
    assert capsys.readouterr().err.startswith("error: quality=fool: choose one of full, standard; or add your own")
