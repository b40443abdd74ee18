"""Baselines on disk and the verb that keeps them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from baselines.stored.approval import approval_problem, approve
from baselines.stored.known import known_of
from baselines.stored.store import (
    BaselineRefused,
    NoBaseline,
    differences,
    list_baselines,
    load_baseline,
    read_baseline,
    save_baseline,
)
from experiments.baseline import main
from experiments.common.cli import run_verb
from experiments.measuring import limits
from metrics.record import RecordError, RunRecord, save_record
from reports.commands import interpreter
from tests import baseline_runs as runs
from tests.baseline_runs import HOST, Recipe, World, make_baseline, make_run, no_score, with_scores

SILENT = with_scores(make_run(1), no_score("audio_valid", "en03", "error", "silent: rms 0"))
NO_NUMBER = make_run(1, trials=(*make_run(1).trials[:-1], replace(make_run(1).trials[-1], cpu_s=math.nan)))

SLOW_MACHINE = make_run(
    1, environment={**make_run(1).environment, "machine": {"valid": False, "reason": "3 times slower"}}
)


def write_run(folder: Path, run: RunRecord) -> Path:
    save_record(run, folder / "result.json")
    return folder


def record(records: Path, *arguments: str | Path) -> int:
    return run_verb(main, ["record", "--records", str(records), *map(str, arguments)])


def test_a_baseline_comes_back_as_it_was_but_for_the_output_folder(tmp_path: Path) -> None:
    stored = make_baseline(make_run(1), make_run(2))
    path = save_baseline(stored, tmp_path)
    assert path == tmp_path / HOST / "nightly.json"
    back = load_baseline(tmp_path, HOST, "nightly")
    assert back.runs == tuple(replace(run, config={**run.config, "out": None}) for run in stored.runs)
    assert replace(back, runs=()) == replace(stored, runs=())


def test_the_file_is_reviewable_and_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    run = make_run(1, config={**make_run(1).config, "out": str(tmp_path), "quality": {"reference_dir": str(tmp_path)}})
    text = save_baseline(make_baseline(run), tmp_path).read_text()
    assert str(tmp_path) not in text
    trial_lines = [line for line in text.splitlines() if '"audio_s"' in line]
    assert len(trial_lines) == len(run.trials)
    assert all(len(line) < 500 for line in trial_lines)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (SLOW_MACHINE, "the machine was not in order: 3 times slower; run again"),
        (SILENT, r"run-1: audio is not valid: en03 \(silent: rms 0\)"),
        (replace(make_run(1), scores=()), r"audio is not valid: en01 \(not checked\)"),
        (make_run(1, status="skipped", reason="no fp16 here", remedy="use bf16"), r"status skipped \(no fp16 here\)"),
        (make_run(1, trials=()), "no steady trial"),
        (NO_NUMBER, "cpu_s=nan of .* is not a number above 0"),
    ],
)
def test_a_run_that_proves_nothing_is_refused(tmp_path: Path, run: RunRecord, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        save_baseline(make_baseline(run), tmp_path)
    assert list_baselines(tmp_path) == []


def test_random_weights_may_be_a_baseline_of_speed(tmp_path: Path) -> None:
    absent = [no_score("audio_valid", name, "not_applicable", "random weights") for name in runs.IDS]
    run = with_scores(make_run(1, facts=runs.facts(random_weights=True)), *absent)
    assert save_baseline(make_baseline(run), tmp_path).is_file()


def test_sessions_that_cannot_be_compared_are_not_pooled(tmp_path: Path) -> None:
    other = make_run(2, facts=runs.facts(steps=8))
    with pytest.raises(BaselineRefused, match=r"run-2: facts.steps=8 where run-1 has 7"):
        save_baseline(make_baseline(make_run(1), other), tmp_path)


def test_the_same_run_is_no_second_session(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, run = tmp_path / "records", write_run(tmp_path / "a", make_run(1))
    assert record(records, "nightly", "--run", run, "--run", run) == 2
    assert "run-1: the same run twice" in capsys.readouterr().err
    assert list_baselines(records) == []
    assert record(records, "nightly", "--run", run) == 0
    assert record(records, "nightly", "--add", "--run", run) == 2
    assert "give each run once, or measure another one" in capsys.readouterr().err
    assert len(load_baseline(records, HOST, "nightly").runs) == 1


def test_a_run_that_a_gate_refuses_for_its_machine_is_no_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, environment = tmp_path / "records", make_run(1).environment
    busy = write_run(tmp_path / "busy", make_run(1, environment={**environment, "other_cpu_frac": 1.0}))
    assert record(records, "nightly", "--run", busy) == 12
    error = capsys.readouterr().err
    assert "run-1: machine.other_cpu_frac: other processes used 100 % of all cores, allowed are 75 %" in error
    assert "(gate.other_cpu_frac=0.75) when the run began; run again when they have ended" in error
    assert record(records, "nightly", "--run", write_run(tmp_path / "slow", SLOW_MACHINE)) == 12
    assert "3 times slower" in capsys.readouterr().err
    assert list_baselines(records) == []
    assert record(records, "nightly", "--run", busy, "gate.other_cpu_frac=1") == 0


def test_a_busy_machine_is_told_before_minutes_are_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limits, "other_cpu_frac", lambda window_s: 0.9)  # a machine cannot be made busy at will
    told: list[str] = []
    monkeypatch.setattr("experiments.baseline.fresh_run", lambda *_: told.append(capsys.readouterr().err) or 14)
    assert record(tmp_path / "records", "nightly", "workload=smoke") == 14
    assert "warning: other processes use 90 % of all cores, allowed are 75 % (gate.other_cpu_frac=0.75)" in told[0]
    assert len(told[0].splitlines()) == 1


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordError, match="cannot be a file name"):
        save_baseline(make_baseline(name=name), tmp_path)


def test_a_missing_baseline_says_what_there_is(tmp_path: Path) -> None:
    save_baseline(make_baseline(name="weekly"), tmp_path)
    save_baseline(make_baseline(host_class="orin-12c-cuda"), tmp_path)
    with pytest.raises(NoBaseline) as caught:
        load_baseline(tmp_path, HOST, "nightly")
    assert f"for host class {HOST}; for it there are: weekly; for others: orin-12c-cuda/nightly" in str(caught.value)


def test_differences_leave_out_what_differs_between_any_two_runs() -> None:
    first = make_run(1)
    same = make_run(2, environment={**runs.environment(), "started": "later", "load_1min": 7.0})
    assert differences(first, same) == []
    other = make_run(2, facts=runs.facts(sway=0.0), environment={**runs.environment(), "git_commit": "def"})
    assert {d.key: (d.baseline, d.new) for d in differences(first, other)} == {
        "facts.sway": (-1.0, 0.0),
        "environment.git_commit": ("abc123", "def"),
    }


def test_record_list_show_and_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = tmp_path / "records"
    first, second = write_run(tmp_path / "a", make_run(1)), write_run(tmp_path / "b", make_run(2))
    assert record(records, "nightly", "--run", first, "--run", second, "--why", "release 1") == 0
    assert "2 session(s) of fp32-euler_7, 60 trials" in capsys.readouterr().out

    assert run_verb(main, ["list", "--records", str(records)]) == 0
    assert f"{HOST}/nightly: fp32-euler_7, 2 session(s)" in capsys.readouterr().out

    assert run_verb(main, ["show", "nightly", "--records", str(records)]) == 0
    shown = capsys.readouterr().out
    assert "release 1" in shown
    assert shown.count("RTF") == 2

    other = write_run(tmp_path / "c", make_run(3, facts=runs.facts(sway=0.0)))
    assert run_verb(main, ["diff", "nightly", str(other), "--records", str(records)]) == 0
    assert "facts.sway: -1.0 -> 0.0" in capsys.readouterr().out


def test_a_stored_baseline_is_not_overwritten_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, folder = tmp_path / "records", write_run(tmp_path / "a", make_run(1))
    assert record(records, "nightly", "--run", folder) == 0
    assert record(records, "nightly", "--run", folder) == 2
    assert "--add makes this its next session, --replace discards it" in capsys.readouterr().err

    later = write_run(tmp_path / "b", make_run(2))
    assert record(records, "nightly", "--add", "--run", later) == 0
    assert [run.run_id for run in load_baseline(records, HOST, "nightly").runs] == ["run-1", "run-2"]
    assert record(records, "nightly", "--replace", "--run", later) == 0
    assert [run.run_id for run in load_baseline(records, HOST, "nightly").runs] == ["run-2"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["record", "new", "--run", "nowhere"], 2, "nowhere/result.json: no such record"),
        (["record", "new", "--run", "nowhere", "engine=int8"], 2, "--run takes a finished run as it is"),
        (["record", "new", "--add", "engine=int8"], 13, "no baseline new for host class"),
        (["record", "new", "engine=unheard"], 2, "engine=unheard: choose one of"),
        (["record", "new", "--runn", "x"], 2, "--runn: there is no such option"),
        (["show", "new"], 13, "no baseline new for host class"),
        (["diff", "new", "nowhere"], 2, "nowhere/result.json: no such record"),
        (["list", "engine=int8"], 2, "only `record` takes settings"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], exit_code: int, message: str
) -> None:
    assert run_verb(main, [arguments[0], "--records", str(tmp_path), *arguments[1:]]) == exit_code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_an_invalid_run_is_refused_by_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record(tmp_path / "records", "nightly", "--run", write_run(tmp_path / "a", SILENT)) == 2
    assert "audio is not valid: en03 (silent: rms 0)" in capsys.readouterr().err


def test_an_approval_is_of_this_content_and_void_when_it_changes(tmp_path: Path) -> None:
    stored = make_baseline(make_run(1), make_run(2))
    assert approval_problem(stored) == "nobody has approved it"
    approved = approve(stored, by="A. Reader", when="2026-01-02", why="listened to it")
    path = save_baseline(approved, tmp_path)
    assert approval_problem(read_baseline(path)) is None
    path.write_text(path.read_text().replace('"cpu_s": ', '"cpu_s": 1', 1))
    assert approval_problem(read_baseline(path)) == "it was changed after A. Reader approved it (2026-01-02)"


def test_approve_says_who_when_and_why_and_another_session_makes_it_void(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "records"
    assert record(records, "nightly", "--run", write_run(tmp_path / "a", make_run(1)), "--by", "B", "--why", "1.2") == 0
    said = capsys.readouterr().err
    assert "nobody has approved it as it is now" in said
    python = interpreter()
    assert f'{python} -m experiments.baseline approve nightly --records {records} --why "..."`' in said
    assert f"`{python} -m experiments.baseline record nightly --add --records {records}`" in said
    where = ["--records", str(records)]
    assert run_verb(main, ["approve", "nightly", *where, "--by", "A. Reader", "--why", "it is right"]) == 0
    assert "by A. Reader: it is right" in capsys.readouterr().out
    assert run_verb(main, ["list", *where]) == 0
    assert capsys.readouterr().out.rstrip().endswith("abc123, approved")
    assert record(records, "nightly", "--add", "--run", write_run(tmp_path / "b", make_run(2)), "--by", "C") == 0
    stored = load_baseline(records, HOST, "nightly")
    assert (stored.recorded_by, stored.why, stored.approval) == ("C", "1.2", None)
    assert run_verb(main, ["approve", "unheard", *where, "--why", "x"]) == 13


def test_the_calibration_that_leaves_the_smallest_spread_between_sessions_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [write_run(tmp_path / str(seed), memory_bound(seed)) for seed in range(5)]
    assert record(tmp_path / "records", "nightly", *(part for folder in folders for part in ("--run", folder))) == 0
    stored = load_baseline(tmp_path / "records", HOST, "nightly")
    assert {metric: choice.work for metric, choice in stored.calibrations.items()} == {
        "cpu_time": "memory",
        "wall_time": "memory",
    }
    spreads = stored.calibrations["cpu_time"].spread_frac
    assert spreads["memory"] < 0.01 < 0.02 < spreads["gemm"]
    assert known_of(stored, tmp_path / "records").works["cpu_time"] == "memory"
    assert run_verb(main, ["show", "nightly", "--records", str(tmp_path / "records")]) == 0
    assert "cpu_time is divided by memory (spread left: dispatch" in capsys.readouterr().out


def memory_bound(seed: int) -> RunRecord:
    """An engine that follows the memory's speed, which moves by 4 % from session to session."""
    run, factor = make_run(seed, Recipe(world=World(unlike=0.0))), 1 + 0.04 * (seed % 3)
    trials = tuple(replace(t, wall_s=factor * t.wall_s, cpu_s=factor * t.cpu_s) for t in run.trials)
    readings = tuple(
        replace(c, wall_s=factor * c.wall_s, cpu_s=factor * c.cpu_s) if c.work == "memory" else c
        for c in run.calibrations
    )
    return replace(run, trials=trials, calibrations=readings)


def test_the_noise_of_a_host_class_is_pooled_over_its_baselines(tmp_path: Path) -> None:
    exact = World(call=0, round=0, calibration=0, unlike=0)
    for name, costs in (("a", (1.0, 1.1, 1.21)), ("b", (1.0, 1.1, 1.21))):
        sessions = [make_run(i, Recipe(world=exact, slower=cost)) for i, cost in enumerate(costs)]
        save_baseline(make_baseline(*sessions, name=name), tmp_path)
    (tmp_path / HOST / "damaged.json").write_text("{")
    single = make_baseline(make_run(9, Recipe(world=exact)), name="single")
    save_baseline(single, tmp_path)
    noise = known_of(single, tmp_path).noise["cpu_time"]
    assert (noise.df, noise.num_baselines) == (4, 2)
    assert noise.sd_frac == pytest.approx(math.log(1.1))
    (tmp_path / HOST / "b.json").unlink()
    assert known_of(single, tmp_path).noise == {}


def test_a_run_that_compiled_while_it_was_timed_is_refused(tmp_path: Path) -> None:
    compiled = replace(
        make_run(1),
        scores=(*make_run(1).scores, no_score("steady_counters", None, "error", "captures went from 1 to 2")),
    )
    with pytest.raises(BaselineRefused, match="not steady: captures went from 1 to 2; let the warm-up see every shape"):
        save_baseline(make_baseline(compiled), tmp_path)
