"""A sweep loses nothing, repeats little and reuses nothing stale, whatever ends it or its workers."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract import ConfigError
from experiments.checks.chaos import Chaos
from experiments.common import device_lock as lock_module
from experiments.common.device_lock import folder_lock
from experiments.common.failure import kind_of_error, kind_of_exit, log_tail, oom_kills
from experiments.common.sources import ROOMS, TIMED_PATH, code_hash, imported
from experiments.settings.compose import compose_cells
from experiments.settings.identity import identity_of
from experiments.sweep import cells as cells_module
from experiments.sweep.cells import Sweep
from experiments.sweep.ledger import load_ledger
from experiments.sweep.running import new_sweep, resumed_sweep, run_sweep
from metrics.record import load_record
from tests.engines import ROOT, config

FAKE = (sys.executable, "-m", "tests.fakes")
SMALL = (
    "workload=smoke", "measure.rounds=1", "measure.warmup_rounds=0", "measure.calibration=none",
    "measure.gemm_peak=false", "quality.enabled=false", "tracking=none", "out=out",
)  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    monkeypatch.setattr("experiments.sweep.running._score_all", lambda sweep, references: 0)
    monkeypatch.setattr("experiments.sweep.running.publish", lambda sweep: 0)
    return tmp_path


def sweep(*overrides: str) -> Sweep:
    made = new_sweep(compose_cells([*SMALL, *overrides]))
    made.command = FAKE
    return made


def resumed() -> Sweep:
    made = resumed_sweep(Path("out"))
    made.command = FAKE
    return made


def cells() -> dict[str, dict[str, Any]]:
    return {cell["label"].split("-")[0]: cell for cell in json.loads(Path("out/sweep.json").read_text())["cells"]}


def run_id(label: str) -> str:
    return load_record(Path(f"out/cells/{label}-euler_7/result.json")).run_id


def test_five_faults_leave_every_other_cell_intact(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, fault in (("INT8", "raise"), ("AMP", "die"), ("FP16", "hog"), ("UPSTREAM", "exit"), ("BF16", "hang")):
        monkeypatch.setenv(f"FAKE_{name}", fault)
    made = sweep("engine=int8,fp16,amp,upstream,bf16,fp32", "sweep.grace_s=0")
    # Only the cell that hangs has a short limit: a loaded machine starts the others as slowly as it likes
    for index, cell in enumerate(made.cells):
        if cell.config["engine"]["name"] == "bf16":
            config = {**cell.config, "measure": {**cell.config["measure"], "time_limit_s": 15}}
            made.cells[index] = replace(cell, config=config)
    assert run_sweep(made) == 14
    found = cells()
    assert {name: cell["state"] for name, cell in found.items() if cell["state"] == "ok"} == {"fp32": "ok"}
    attempts = {name: [(a["failure"], a["exit_code"], a["signal"]) for a in found[name]["attempts"]] for name in found}
    assert attempts == {
        "int8": [("exception", 0, None)],
        "fp16": [("out_of_memory", 0, None)],
        "amp": [("killed", -9, "SIGKILL"), ("killed", -9, "SIGKILL")],  # one more attempt is granted to what was killed
        "upstream": [("crash", 7, None)],
        "bf16": [("hang", None, None)],
        "fp32": [(None, 0, None)],
    }
    kept = {name: len(load_record(Path("out") / cell["dir"] / "result.json").trials) for name, cell in found.items()}
    assert all(num_trials >= 1 for name, num_trials in kept.items() if name != "bf16")
    assert "attempt 2" in capfd.readouterr().err


@pytest.mark.parametrize(("limit", "failure"), [("1500000000", "out_of_memory"), ("null", None)])
def test_a_cell_has_a_limit_to_its_memory(
    limit: str, failure: str | None, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FP32", "grow")
    run_sweep(sweep("engine=fp32", f"measure.memory_limit_bytes={limit}"))
    assert [attempt["failure"] for attempt in cells()["fp32"]["attempts"]] == [failure]


def test_what_changed_is_measured_again_and_what_did_not_is_kept(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = elsewhere / "mine.bin"
    mine.write_bytes(b"one")
    assert run_sweep(sweep("engine=fp32,bf16", f"model.checkpoint={mine}")) == 0
    first = cells()["fp32"]["attempts"][0]["run_id"]
    assert run_sweep(resumed()) == 0
    assert [len(cell["attempts"]) for cell in cells().values()] == [1, 1], "nothing changed"
    mine.write_bytes(b"two")
    assert run_sweep(resumed()) == 0
    assert "weights changed since it was measured: it is measured again" in capfd.readouterr().err
    assert [len(cell["attempts"]) for cell in cells().values()] == [2, 2]
    assert cells()["fp32"]["attempts"][0]["run_id"] == first

    (Path("out") / cells()["bf16"]["dir"] / "result.json").write_text("{half")
    assert run_sweep(resumed()) == 0
    assert [len(cell["attempts"]) for cell in cells().values()] == [2, 3]
    assert "bf16" in capfd.readouterr().err


def test_a_worker_that_had_finished_when_the_sweep_was_killed_is_kept(elsewhere: Path) -> None:
    assert run_sweep(sweep("engine=fp32")) == 0
    path = Path("out/sweep.json")
    content = json.loads(path.read_text())
    before = content["cells"][0]["attempts"][0]["run_id"]
    content["status"] = content["cells"][0]["state"] = content["cells"][0]["attempts"][0]["outcome"] = "running"
    path.write_text(json.dumps(content))  # as it stands while the worker runs
    assert run_sweep(resumed()) == 0
    (attempt,) = cells()["fp32"]["attempts"]
    assert (attempt["run_id"], attempt["outcome"]) == (before, "ok")


def test_what_changes_while_it_is_measured_is_not_trusted_later(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = elsewhere / "mine.bin"
    mine.write_bytes(b"one")
    launch = cells_module.launch_with_energy

    def launch_and_change(spec: Any, launcher: Any) -> Any:
        result = launch(spec, launcher)
        mine.write_bytes(b"two")
        return result

    made = sweep("engine=fp32", f"model.checkpoint={mine}")
    monkeypatch.setattr(cells_module, "launch_with_energy", launch_and_change)
    assert run_sweep(made) == 0
    assert cells()["fp32"]["identity"] is None
    assert "weights changed while it was measured" in capfd.readouterr().err


def test_max_failures_leaves_the_rest_for_later(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FP32", "raise")
    monkeypatch.setenv("FAKE_BF16", "raise")
    assert run_sweep(sweep("engine=fp32,bf16,upstream", "sweep.max_failures=2")) == 14
    assert [cell["state"] for cell in cells().values()] == ["failed", "failed", "pending"]


def test_two_processes_cannot_go_on_with_one_sweep(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "PATIENCE_S", 0.1)
    made = sweep("engine=fp32")
    with folder_lock(made.folder), pytest.raises(ConfigError, match="another process is working on this sweep"):
        run_sweep(made)


def test_a_ledger_of_an_older_version_is_read_and_its_cells_are_measured_again(elsewhere: Path) -> None:
    assert run_sweep(sweep("engine=fp32")) == 0
    before = run_id("fp32")
    path = Path("out/sweep.json")
    content = json.loads(path.read_text())
    for cell in content["cells"]:
        del cell["attempts"], cell["identity"]
    path.write_text(json.dumps(content))
    assert load_ledger(Path("out")).entries[0].attempts == ()
    assert run_sweep(resumed()) == 0
    assert run_id("fp32") != before


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("solver=euler_6", ["config"]),
        ("seed=1", ["config", "weights"]),  # the noise is part of the workload's identity
        ("device.threads=1", ["config", "environment"]),
        ("gate.catch_ratio=1.2", []),
        ("out=elsewhere", []),
        ("sweep.fail_fast=true", []),
        ("quality.metrics=[snr]", []),
    ],
)
def test_the_key_knows_what_matters(override: str, parts: list[str]) -> None:
    before, after = identity_of(config("device.threads=2")), identity_of(config("device.threads=2", override))
    assert set(after.changed_since(vars_of(before))) == set(parts)
    assert (before.key == after.key) == (not parts)


def vars_of(identity: Any) -> dict[str, str]:
    return {name: getattr(identity, name) for name in ("config", "code", "weights", "environment")}


def test_code_is_the_engine_and_the_timed_path_and_nothing_that_judges(tmp_path: Path) -> None:
    import shutil

    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    before = code_hash(tmp_path)
    assert before == code_hash(ROOT)
    (tmp_path / "experiments/common/progress.py").write_text("# a bar of another colour\n")
    assert code_hash(tmp_path) == before
    for name in ("experiments/measuring/measure.py", "engine/solver/methods.py"):
        with (tmp_path / name).open("a") as file:
            file.write("# slower\n")
        assert code_hash(tmp_path) != before
        before = code_hash(tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in imported(tmp_path, TIMED_PATH)}
    assert {"experiments/common/journal.py", "metrics/record.py", "experiments/measuring/worker.py"} <= names


@pytest.mark.parametrize(
    ("exit_code", "num_oom_kills", "tail", "kind"),
    [
        (None, 0, "", "hang"),
        (-9, 0, "", "killed"),
        (-9, 1, "", "out_of_memory"),
        (-15, 0, "", "killed"),
        (-11, 0, "", "crash"),
        (-6, 0, "terminate called after throwing an instance of 'std::bad_alloc'", "out_of_memory"),
        (1, 0, "ModuleNotFoundError", "crash"),
    ],
)
def test_how_a_worker_ended_says_why(exit_code: int | None, num_oom_kills: int, tail: str, kind: str) -> None:
    assert kind_of_exit(exit_code, num_oom_kills, tail) == kind


@pytest.mark.parametrize(
    ("error", "message", "kind"),
    [
        ("RuntimeError", "shapes differ", "exception"),
        ("OutOfMemoryError", "CUDA out of memory", "out_of_memory"),
        ("RuntimeError", "DefaultCPUAllocator: can't allocate memory: you tried", "out_of_memory"),
        # A Jetson's: from reports of torch's allocator, of the driver's and of cuBLAS
        ("RuntimeError", "NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:1131", "out_of_memory"),
        ("RuntimeError", "NvMapMemAllocInternalTagged: 1075072515 error 12", "out_of_memory"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)", "out_of_memory"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "out_of_memory"),
        ("RuntimeError", "NvMapMemHandleAlloc: error 0", "out_of_memory"),
        ("RuntimeError", "CUDA driver error: out of memory", "out_of_memory"),
        ("RuntimeError", "cuMemCreate failed: CUDA_ERROR_OUT_OF_MEMORY", "out_of_memory"),
        ("RuntimeError", "cuFFT error: CUFFT_ALLOC_FAILED", "out_of_memory"),
        ("RuntimeError", "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "out_of_memory"),
        (
            "UnsupportedEngine",
            "resizePhysical: Error Code 2: OutOfMemory (no further information)",
            "out_of_memory",
        ),
        ("Fail", "BFCArena: Available memory of 8 is smaller than requested bytes of 16", "out_of_memory"),
        ("_ArrayMemoryError", "Unable to allocate 8.00 GiB for an array with shape (2, 1)", "out_of_memory"),
        ("RuntimeError", "CUDNN_STATUS_NOT_SUPPORTED", "exception"),
        ("Fail", "BFCArena: Failed to allocate memory for requested buffer of size 8", "out_of_memory"),
        ("UnsupportedEngine", "Requested amount of GPU memory (8 bytes) could not be allocated", "out_of_memory"),
        ("RuntimeError", "cudaErrorMemoryAllocation: the API call failed", "out_of_memory"),
        ("OutOfTime", "time limit of 10 s reached", "hang"),
        ("InvalidRequest", "empty", "config"),
    ],
)
def test_what_the_engine_raised_says_why(error: str, message: str, kind: str) -> None:
    assert kind_of_error(error, message) == kind


def test_the_log_and_the_kernels_count_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"line {i} {'x' * 100}\n" for i in range(50)))
    assert [line.split()[1] for line in log_tail(tmp_path / "log")[1:]] == ["46", "47", "48", "49"]
    assert log_tail(tmp_path / "none") == ()
    (tmp_path / "events").write_text("low 0\noom 3\noom_kill 2\n")
    assert (oom_kills(tmp_path / "events"), oom_kills(tmp_path / "none")) == (2, 0)


@pytest.mark.slow
def test_killed_at_random_moments(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five kills here; a hundred by `python -m experiments.checks.chaos --kills 100`."""
    for name in ("FAKE_AMP", "FAKE_CALL_S", "FAKE_WEIGHTS"):
        monkeypatch.setenv(name, "")
    tally = Chaos(elsewhere, seed=4, reach_s=3.0).run(5)
    assert tally.problems == []
    assert tally.kills.total() == 5
    assert tally.num_trials_seen > 0
