"""One variant end to end: a worker process, a record whatever happens, a reference made once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import run
from experiments.common.cli import run_verb
from experiments.common.processes import worker_environment
from experiments.measuring.job import Launcher, launch, new_job, write_job
from experiments.settings.compose import Cell, compose_run
from experiments.sweep import single
from metrics.record import RunRecord, load_record
from tests.engines import ROOT

FAKE = (sys.executable, "-m", "tests.fakes")
SMALL = (
    "workload=smoke", "measure.rounds=1", "measure.warmup_rounds=1", "measure.calibration=none",
    "measure.gemm_peak=false", "quality.metrics=[snr,log_mel]", "tracking=none",
)  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own: outputs/ and the reference cache lie there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    return tmp_path


def cell(*overrides: str) -> Cell:
    return compose_run([*SMALL, *overrides])


def launched(folder: Path, *overrides: str) -> RunRecord:
    chosen = cell(*overrides)
    return launch(new_job(folder, chosen.label, "measure", chosen.config), Launcher(command=FAKE)).record


def test_a_run_is_measured_scored_and_shown(elsewhere: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert single.run_and_show(cell("engine=bf16"), elsewhere / "out", FAKE) == 0
    record = load_record(elsewhere / "out" / "result.json")
    assert record.status == "ok"
    snr = [score.value for score in record.scores_of("snr_vs_reference_db")]
    assert snr == pytest.approx([60.0, 60.0], abs=0.1)
    captured = capfd.readouterr()
    assert "bf16-euler_7" in captured.out
    assert str(elsewhere / "out" / "result.json") in captured.out
    assert "bf16-euler_7: ok" in captured.err
    assert {path.name for path in elsewhere.iterdir()} == {"out", "outputs", "locks"}


def test_the_reference_is_made_once_for_all_runs_that_share_it(elsewhere: Path) -> None:
    for name in ("one", "two"):
        assert single.run_and_show(cell("engine=bf16"), elsewhere / name, FAKE) == 0
    ids = {load_record(elsewhere / name / "reference" / "result.json").run_id for name in ("one", "two")}
    assert len(ids) == 1
    assert single.run_and_show(cell("engine=bf16", "solver.cfg_strength=1"), elsewhere / "three", FAKE) == 0
    other = load_record(elsewhere / "three" / "reference" / "result.json")
    assert other.run_id not in ids
    assert other.config["solver"]["cfg_strength"] == 1


def test_the_reference_run_needs_no_other(elsewhere: Path) -> None:
    assert single.run_and_show(cell("solver=euler_32"), elsewhere / "out", FAKE) == 0
    assert not (elsewhere / "out" / "reference").exists()
    reasons = {s.reason for s in load_record(elsewhere / "out" / "result.json").scores_of("snr_vs_reference_db")}
    assert reasons == {"is the reference"}


def test_a_reference_of_ones_own(elsewhere: Path) -> None:
    assert single.run_and_show(cell("solver=euler_32"), elsewhere / "mine", FAKE) == 0
    chosen = cell("engine=bf16", f"quality.reference_dir={elsewhere / 'mine'}")
    assert single.run_and_show(chosen, elsewhere / "out", FAKE) == 0
    assert not (elsewhere / "out" / "reference").exists()
    record = load_record(elsewhere / "out" / "result.json")
    assert record.scores_of("snr_vs_reference_db")[0].value == pytest.approx(60.0, abs=0.1)


@pytest.mark.parametrize(
    ("engine", "line"),
    [
        ("fp16", "error: fp16-euler_7 skipped: fp16 has no kernels here; use engine=bf16"),
        ("int8", "error: int8-euler_7 failed: RuntimeError: the quantiser fell over; see error.txt"),
        ("amp", "error: amp-euler_7 failed: killed by signal 9 (SIGKILL); trials kept: 1; the kernel does that"),
    ],
)
def test_the_only_variant_that_cannot_be_measured_is_exit_code_14(
    engine: str, line: str, elsewhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert single.run_and_show(cell(f"engine={engine}"), elsewhere / "out", FAKE) == 14
    assert capfd.readouterr().err.splitlines()[-1].startswith(line)
    record = load_record(elsewhere / "out" / "result.json")
    assert record.status == ("skipped" if engine == "fp16" else "failed")
    assert record.environment["host_class"]
    assert record.workload["identity_sha256"]
    assert len(record.trials) == (0 if engine == "fp16" else 1)


def test_a_worker_that_hangs_is_ended(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FP32", "hang")
    record = launched(elsewhere / "out", "measure.time_limit_s=15", "sweep.grace_s=0")
    assert record.status == "failed"
    assert (record.reason or "").startswith("ended after 15 s")
    assert "measure.time_limit_s" in (record.remedy or "")


def test_a_worker_that_cannot_start_leaves_its_last_words(elsewhere: Path) -> None:
    chosen = cell()
    command = (sys.executable, "-c", "import sys; sys.exit('no such wheel')")
    result = launch(new_job(elsewhere / "out", chosen.label, "measure", chosen.config), Launcher(command=command))
    assert result.record.reason == "the worker ended with exit code 1: no such wheel; trials kept: 0"


def test_measuring_again_keeps_the_earlier_journal(elsewhere: Path) -> None:
    first = launched(elsewhere / "out", "engine=int8")
    second = launched(elsewhere / "out", "engine=fp32")
    assert (first.status, second.status) == ("failed", "ok")
    assert (elsewhere / "out" / "journal.1.jsonl").is_file()
    assert not (elsewhere / "out" / "error.txt").exists()


def test_a_worker_ends_with_its_coordinator(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FP32", "hang")
    chosen = cell()
    write_job(new_job(elsewhere / "out", chosen.label, "measure", chosen.config))
    worker = subprocess.Popen(
        [*FAKE, str(elsewhere / "out"), "--watch-parent"], stdin=subprocess.PIPE, env=worker_environment(chosen.config)
    )
    assert worker.stdin is not None
    worker.stdin.close()
    assert worker.wait(timeout=120) == -9


def test_a_worker_gets_its_threads_and_none_of_the_callers_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "123")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    environment = worker_environment(cell("device.threads=3").config)
    assert "MLFLOW_RUN_ID" not in environment
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("3", "3")
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert environment["NVIDIA_TF32_OVERRIDE"] == "0", "a float32 row computes in float32"


@pytest.mark.parametrize("what", ["weights", "vocabulary"])
def test_what_only_the_build_can_see_is_still_a_users_mistake(
    what: str, elsewhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pocket = ROOT / "engine" / "pocket"
    if what == "weights":
        (elsewhere / "broken.safetensors").write_bytes((pocket / "dit.safetensors").read_bytes()[:5000])
        setting, expected = f"model.checkpoint={elsewhere / 'broken.safetensors'}", "not a readable checkpoint"
    else:
        lines = (pocket / "vocab.txt").read_text(encoding="utf-8").splitlines(keepends=True)
        (elsewhere / "vocab.txt").write_text("".join(lines[:-1]), encoding="utf-8")
        setting, expected = (
            f"model.vocab={elsewhere / 'vocab.txt'}",
            "has 73 tokens, the checkpoint was trained with 74",
        )
    assert run_verb(run.main, [*SMALL, setting, "out=out"]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert expected in last


def test_help_and_configuration_run_nothing(elsewhere: Path) -> None:
    def printed(*argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "experiments.run", *argv],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return done.stdout

    assert "python -m experiments.run engine=int8 solver=euler_7" in printed("--help")
    composed = printed("engine=int8", "--cfg", "job")
    assert "precision: int8" in composed
    assert "hydra:" not in composed
    assert list(elsewhere.iterdir()) == []
