"""`python -m experiments.gate` on stored runs: files, exit codes, what it prints; and once for real."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.stored.store import save_baseline
from baselines.stored.verdict import Limits
from experiments import baseline
from experiments.common.cli import run_verb
from experiments.gate import main, overrides_of
from experiments.measuring.fresh import fresh_run, hydra_value
from experiments.measuring.validate import one_cell
from experiments.settings.compose import compose_config
from experiments.settings.foreseen import planned_record
from metrics.record import RunRecord
from tests import baseline_runs as runs
from tests.baseline_runs import Recipe, World, make_baseline, make_run, no_score, with_scores
from tests.test_baseline import write_run

SKIPPED = make_run(2, status="skipped", reason="no fp16\x00 here", remedy="use bf16", trials=())
SESSIONS = [make_run(seed) for seed in (1, 11, 12, 13, 14)]
CASES = {
    "same": (make_run(2), 0, "PASS"),
    "slightly slower": (make_run(2, Recipe(slower=1.03)), 0, "WARN"),
    "slower": (make_run(2, Recipe(slower=1.1)), 10, "FAIL"),
    "noisy": (make_run(2, Recipe(world=World(round=0.3))), 11, "INCONCLUSIVE"),
    "other engine": (make_run(2, facts=runs.facts(name="int8", steps=8)), 12, "INVALID_ENV"),
    "skipped": (SKIPPED, 14, "INCONCLUSIVE"),
}


def gate(tmp_path: Path, run: RunRecord, *arguments: str) -> int:
    save_baseline(make_baseline(*SESSIONS), tmp_path / "records")
    folder = write_run(tmp_path / "run", run)
    return run_verb(main, ["nightly", "--records", str(tmp_path / "records"), "--run", str(folder), *arguments])


@pytest.mark.parametrize("name", CASES)
def test_exit_code_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    run, exit_code, outcome = CASES[name]
    assert gate(tmp_path, run) == exit_code
    assert capsys.readouterr().out.startswith(f"{outcome}: fp32-euler_7 against baseline nightly")

    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert (verdict["outcome"], verdict["exit_code"], verdict["schema_version"]) == (outcome, exit_code, 3)
    assert verdict["baseline"]["run_ids"] == ["run-1", "run-11", "run-12", "run-13", "run-14"]
    assert verdict["baseline"]["approval_problem"] == "nobody has approved it"

    summary = (tmp_path / "run" / "summary.md").read_text()
    assert summary.startswith(f"## {outcome}: fp32-euler_7 against baseline nightly\n")
    assert "False alarm rate at most 1 %" in summary
    same_run = "Same-run comparisons: no selftest of host class test-2c-cpu yet"
    assert verdict["same_run_errors"].startswith(same_run)
    assert same_run in summary
    assert "Host class test-2c-cpu" in summary
    rows = [line for line in summary.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(verdict["findings"])
    assert {row.count(" | ") for row in rows} == {6}


@pytest.mark.parametrize(
    ("name", "element", "metrics"),
    [
        ("slower", "failure", {"cpu_time"}),
        ("noisy", "skipped", {"cpu_time", "wall_time"}),
        ("other engine", "error", {"facts.name", "facts.steps"}),
        ("skipped", "error", {"run"}),
    ],
)
def test_junit_has_a_case_per_finding(tmp_path: Path, name: str, element: str, metrics: set[str]) -> None:
    gate(tmp_path, CASES[name][0])
    suite = ElementTree.parse(tmp_path / "run" / "junit.xml").getroot()
    cases = suite.findall("testcase")
    assert {case.get("name") for case in cases if case.find(element) is not None} == metrics
    count = {"failure": "failures", "skipped": "skipped", "error": "errors"}[element]
    assert suite.get(count) == str(len(metrics))
    assert suite.get("tests") == str(len(cases))


def test_invalid_audio_fails_whatever_its_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = with_scores(make_run(2, Recipe(slower=0.5)), no_score("audio_valid", "en03", "error", "silent"))
    assert gate(tmp_path, run) == 10
    assert "invalid audio: en03 (silent)" in capsys.readouterr().out


def test_limits_can_be_set_on_the_command_line(tmp_path: Path) -> None:
    assert gate(tmp_path, make_run(2, Recipe(slower=1.1)), "gate.catch_ratio=1.5") == 0
    limits = json.loads((tmp_path / "run" / "verdict.json").read_text())["limits"]
    assert limits["catch_ratio"] == 1.5


def test_out_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    assert gate(tmp_path, make_run(2), f"out={tmp_path / 'here'}") == 0
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["junit.xml", "summary.md", "verdict.json"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["result.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert gate(tmp_path, make_run(2), f"out={tmp_path / 'file' / 'below'}") == 2
    assert "cannot be written (" in capsys.readouterr().err


def test_the_default_limits_are_the_ones_that_the_rule_is_tested_with() -> None:
    assert Limits.from_mapping(compose_config([])["gate"]) == runs.LIMITS


def test_an_unapproved_baseline_is_used_with_a_warning_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(tmp_path, make_run(2)) == 0
    assert "warning: baseline nightly: nobody has approved it" in capsys.readouterr().out
    assert "Warning: baseline nightly: nobody has approved it." in (tmp_path / "run" / "summary.md").read_text()
    assert gate(tmp_path, make_run(2), "--require-approved") == 13
    assert "nobody has approved it" in capsys.readouterr().err

    records = ["--records", str(tmp_path / "records")]
    assert run_verb(baseline.main, ["approve", "nightly", *records, "--by", "A. Reader", "--why", "looks right"]) == 0
    verb = ["nightly", *records, "--run", str(tmp_path / "run"), "--require-approved"]
    capsys.readouterr()
    assert run_verb(main, verb) == 0
    assert "warning: baseline" not in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "verdict.json").read_text())["baseline"]["approval"]["by"] == "A. Reader"


def test_a_gate_that_is_blind_to_its_limit_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_baseline(make_baseline(make_run(1)), tmp_path / "records")
    folder = write_run(tmp_path / "run", make_run(2))
    run_verb(main, ["nightly", "--records", str(tmp_path / "records"), "--run", str(folder)])
    printed = capsys.readouterr().out
    assert "warning: cpu_time: this gate finds a slowdown surely from x1.1" in printed
    assert "-m experiments.compare`" in printed


def test_another_host_class_has_no_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(2, environment={**runs.environment(), "host_class": "other-8c-cpu"})
    assert gate(tmp_path, run) == 13
    err = capsys.readouterr().err
    assert "no baseline nightly for host class other-8c-cpu" in err
    assert "test-2c-cpu/nightly" in err


def test_a_baseline_that_cannot_be_read_is_no_usable_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_baseline(make_baseline(make_run(1)), tmp_path / "records")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema_version": 1}))
    folder = write_run(tmp_path / "run", make_run(2))
    assert run_verb(main, ["nightly", "--records", str(tmp_path / "records"), "--run", str(folder)]) == 13
    assert "schema_version 1, this program reads 2" in capsys.readouterr().err
    path.write_text("{")
    assert run_verb(main, ["nightly", "--records", str(tmp_path / "records"), "--run", str(folder)]) == 13
    assert "damaged baseline" in capsys.readouterr().err


def test_a_verdict_is_tracked_once_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, tracked = make_run(2, Recipe(slower=1.1)), []

    def measured(overrides: list[str], out: Path) -> int:
        write_run(out, run)
        return 0

    def sync(config: dict[str, Any], folder: Path) -> None:
        tracked.append((config, json.loads((folder / "verdict.json").read_text())["outcome"]))

    monkeypatch.setattr("experiments.gate.this_host_class", lambda _: run.environment["host_class"])
    monkeypatch.setattr("experiments.gate.fresh_run", measured)
    # As if the sessions, which nothing can be composed from, had been made here
    monkeypatch.setattr("experiments.gate.one_cell", lambda words: None)
    monkeypatch.setattr("experiments.gate.planned_record", lambda cell: replace(run, trials=()))
    monkeypatch.setattr("experiments.gate.sync_tracking", sync)
    save_baseline(make_baseline(*SESSIONS), tmp_path / "records")
    verb = ["nightly", "--records", str(tmp_path / "records"), f"out={tmp_path / 'new'}"]
    assert run_verb(main, verb) == 10
    assert tracked == [(run.config, "FAIL")]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["nightly"], 13, "no baseline nightly for host class"),
        (["../up"], 2, "cannot be a file name"),
        (["nightly", "--run", "nowhere"], 2, "nowhere/result.json: no such record"),
        (["nightly", "gate.catch_ratio=0.5"], 2, "gate.catch_ratio=0.5: must be above gate.ignore_ratio=1.0; raise it"),
        (["nightly", "gate.catch_ration=2"], 2, "did you mean gate.catch_ratio?"),
        (["nightly", "--run", "nowhere", "engine=int8"], 2, "engine=int8: --run takes a finished run as it is"),
        (["nightly", "--fast"], 2, "--fast: there is no such option"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], exit_code: int, message: str
) -> None:
    assert run_verb(main, [*arguments, "--records", str(tmp_path)]) == exit_code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_help_names_every_limit_and_one_form_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "gate NAME [KEY=VALUE ...]" in said.splitlines()[0]
    assert "gate gate.baseline=" not in said
    keys = {line.split("=")[0].strip() for line in said.partition("keys of gate")[2].splitlines()[1:]}
    assert {field.name for field in fields(Limits)} <= keys
    assert "other_cpu_frac=0.75" in said


@pytest.mark.parametrize(
    ("override", "metric", "follow"),
    [
        ("workload=short", "workload.identity_sha256", ""),
        ("solver=euler_6", "facts.solver", "; and 2 that follow from it: facts.steps, facts.time_grid"),
        ("measure.rounds=3", None, ""),
    ],
)
def test_what_is_known_before_measuring_is_told_before_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    override: str,
    metric: str | None,
    follow: str,
) -> None:
    cell = one_cell(["workload=smoke", "solver=euler_7", "tracking=none"])
    planned = planned_record(cell)
    session = make_run(
        1, config=cell.config, facts=runs.facts(**(planned.facts or {})), environment=planned.environment,
        workload=planned.workload,
    )  # fmt: skip
    save_baseline(make_baseline(session, host_class=planned.environment["host_class"]), tmp_path / "records")
    monkeypatch.setattr("experiments.gate.fresh_run", lambda words, out: 14)  # reached: what was known did not stop it
    out = tmp_path / "new"
    code = run_verb(main, ["nightly", "--records", str(tmp_path / "records"), override, f"out={out}"])
    if metric is None:
        assert code == 14
        return
    assert code == 12
    found = json.loads((out / "verdict.json").read_text())["findings"]
    assert {finding["outcome"] for finding in found} == {"INVALID_ENV"}
    said = capsys.readouterr().out
    assert "Nothing was measured" in said
    (line,) = [text for text in said.splitlines() if text.startswith("  INVALID_ENV")]
    assert line.split()[1] == metric
    assert f"their numbers cannot be compared{follow}" in said


def test_a_run_that_a_signal_ended_is_a_failed_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr("experiments.measuring.fresh.sys.executable", str(killed))
    assert fresh_run([], tmp_path / "out") == 14


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["engine=int8", "solver=midpoint_nfe6", "workload=smoke"],
        ["solver.steps=5", "solver.grid=uniform", "workload.select=[en01,en02]", "seed=3", "+engine.scale=0.5"],
        ["model=f5tts_v1_base_random", "vocoder=vocos_random", "device=cuda", "quality.enabled=false"],
        ["reference.voices=[{id: a, audio: a.wav, text: \"It's 'quoted', yes: {so}\"}]", "~vocoder.head.padding"],
    ],
    ids=["defaults", "choices", "leaves", "random weights", "lists and deletions"],
)
def test_the_new_run_is_composed_as_the_baseline_was(overrides: list[str]) -> None:
    wanted = compose_config(overrides)
    assert compose_config(overrides_of(wanted)) == wanted


def test_a_choice_that_no_longer_exists_is_composed_from_what_was_stored() -> None:
    wanted = compose_config(["solver=midpoint_7"])
    wanted["solver"]["name"] = "retired"
    assert compose_config(overrides_of(wanted)) == wanted


LEAVES = st.none() | st.booleans() | st.integers() | st.text("ab'\"\\\\ ,:=[]{}$#%", max_size=12)


@given(st.recursive(LEAVES, st.lists, max_leaves=5))
def test_values_survive_hydras_grammar(value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    parsed = OverridesParser.create().parse_override(f"++key={hydra_value(value)}").value()
    composed = OmegaConf.create({"key": plain(parsed)})  # which reads \\${ as ${ and looks nothing up
    assert OmegaConf.to_container(composed, resolve=True) == {"key": value}


def plain(value: Any) -> Any:
    """Hydra's quoted strings as strings."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.text if type(value).__name__ == "QuotedString" else value


@pytest.mark.slow
def test_record_and_gate_for_real(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The pocket model against itself: the audio is bit-identical, and two short rounds never prove a regression."""
    records = ["--records", str(tmp_path / "records")]
    settings = [
        "workload=smoke",
        "solver=euler_6",
        "measure.rounds=2",
        "quality.enabled=false",
        "tracking=none",
        "measure.machine_ratio=null",
    ]
    shared = "gate.other_cpu_frac=1"  # neighbours do not matter here
    assert run_verb(baseline.main, ["record", "own", *records, *settings, shared, f"out={tmp_path / 'first'}"]) == 0
    out = tmp_path / "second"
    exit_code = run_verb(
        main,
        [
            "own",
            *records,
            "tracking=none",
            shared,
            "gate.machine_ratio=99",
            "gate.drift_residual_frac=9",
            f"out={out}",
        ],
    )
    verdict = json.loads((out / "verdict.json").read_text())
    found = {finding["metric"]: finding for finding in verdict["findings"]}
    assert exit_code == verdict["exit_code"]
    assert verdict["outcome"] != "INVALID_ENV", capfd.readouterr().out
    assert "bit-identical" in found["snr_vs_reference_db"]["explanation"]
    assert found["audio_valid"]["outcome"] == "PASS"
