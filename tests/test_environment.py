"""The host's fingerprint, and one measurement at a time on a device."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.contract import ConfigError
from experiments import run
from experiments.common.device_lock import device_lock, device_name
from experiments.common.environment import fingerprint, host_class, num_threads, other_cpu_frac, read_cpu
from experiments.common.progress import Board
from experiments.settings.compose import compose_cells
from experiments.sweep.running import lock_devices
from metrics.record import to_json
from tests.engines import ROOT

KEYS = {
    "host_class", "cpu_model", "cpu_flags", "num_cores", "memory_bytes", "kernel", "python", "versions", "device",
    "gpu", "power_mode", "git_commit", "git_dirty", "git_reason", "threads", "load_1min", "started",
}  # fmt: skip
ARM = "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nFeatures\t: fp asimd asimdhp asimddp i8mm\n"
X86 = "processor : 0\nmodel name : AMD EPYC 7763 64-Core Processor\nflags : fpu avx2 fma avx512f avx512_bf16 sse2\n"


def test_a_fingerprint_is_json_with_every_key() -> None:
    found = fingerprint({"kind": "cpu", "threads": 2})
    assert set(found) >= KEYS
    assert to_json(found)
    assert found["versions"]["torch"]
    assert found["host_class"].endswith("c-cpu")
    assert found["gpu"] is None
    assert 0 <= found["other_cpu_frac"] <= 1


@pytest.mark.parametrize(
    ("model", "cores", "kind", "flags", "slug"),
    [
        # One name, two generations: only one of them multiplies in bfloat16
        ("AMD EPYC", 2, "cpu", ["avx2", "fma"], "amd-epyc-avx2-2c-cpu"),
        ("AMD EPYC", 2, "cpu", ["avx2", "avx512f", "avx512_bf16", "avx512_vnni"], "amd-epyc-avx512bf16-2c-cpu"),
        ("AMD EPYC 7763 64-Core Processor", 4, "cpu", ["avx2"], "amd-epyc-7763-avx2-4c-cpu"),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 8, "cpu", ["avx2"], "intel-xeon-e5-2680-v4-avx2-8c-cpu"),
        ("NVIDIA Jetson AGX Orin Developer Kit", 12, "cpu", ["asimd", "asimddp"],
         "nvidia-jetson-agx-orin-developer-kit-asimddp-12c-cpu"),
        ("NVIDIA Jetson AGX Orin Developer Kit", 12, "cuda:0", ["asimd"],
         "nvidia-jetson-agx-orin-developer-kit-12c-cuda"),
        ("NVIDIA H200", 16, "cuda:1", ["avx512f"], "nvidia-h200-16c-cuda"),
        ("", 1, "cpu", [], "unknown-1c-cpu"),
    ],
)  # fmt: skip
def test_host_class(model: str, cores: int, kind: str, flags: list[str], slug: str) -> None:
    assert host_class(model, cores, kind, flags) == slug


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86, ("AMD EPYC 7763 64-Core Processor", ["avx2", "fma", "avx512f", "avx512_bf16"])),
        (ARM, ("ARMv8 Processor rev 1 (v8l)", ["asimd", "asimdhp", "asimddp", "i8mm"])),
    ],
)
def test_cpu_of_two_architectures(text: str, expected: tuple[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert read_cpu(tmp_path / "cpuinfo") == expected


def test_threads_default_to_all_usable_cores() -> None:
    assert num_threads({"threads": 3}) == 3
    assert 1 <= num_threads({"threads": None}) <= (os.cpu_count() or 1)


def test_the_share_of_other_processes_is_a_share() -> None:
    assert 0.0 <= other_cpu_frac(0.01) <= 1.0


HOLD = """
import sys
from experiments.common.device_lock import device_lock
with device_lock("cpu", "wait", print, "about 3 min"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A process that holds the lock of cpu until its stdin closes."""
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_held_device_is_refused_with_the_holders_name(holder: subprocess.Popen[str]) -> None:
    with (
        pytest.raises(
            ConfigError,
            match=rf"device.kind=cpu: process {holder.pid} \(-c .*, in {ROOT}; since ..:..:.., .*\) is measuring",
        ),
        device_lock("cpu", "refuse", print),
    ):
        pytest.fail("the lock was given twice")


def test_waiting_says_for_whom_and_ends_when_the_holder_does(holder: subprocess.Popen[str]) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        assert holder.stdin is not None
        holder.stdin.close()

    with device_lock("cpu", "wait", say):
        (line,) = said
        assert line.startswith(f"cpu: process {holder.pid} (-c ")
        since, _, told = line.partition(f"..., in {ROOT}; since ")[2].partition(", ")
        assert re.fullmatch(r"\d\d:\d\d:\d\d", since)
        assert told == "about 3 min in all) is measuring on it; waiting (Ctrl-C to leave)"


def test_a_run_that_does_not_get_its_device_leaves_no_folder(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is measuring on it"):
        run.main(["workload=smoke", "sweep.lock=refuse", f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_other_devices_are_free(holder: subprocess.Popen[str]) -> None:
    with device_lock("cuda:0", "refuse", print), device_lock("cuda:1", "refuse", print):
        pass


def test_two_names_of_one_device_are_one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path))
    with (
        device_lock("cuda", "refuse", print),
        pytest.raises(ConfigError, match="is measuring on it"),
        device_lock("cuda:0", "refuse", print),
    ):
        pytest.fail("the lock was given twice")


def test_a_sweep_over_both_names_does_not_wait_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path))
    cells = compose_cells(["device.kind=cuda,cuda:0", "sweep.lock=refuse"])
    with ExitStack() as stack:
        locks = lock_devices(cells, Board([]), stack)
    assert locks["cuda"] == locks["cuda:0"]


@pytest.mark.parametrize(
    ("visible", "kind", "name"),
    [
        (None, "cuda", "cuda:0"), ("1", "cuda", "cuda:1"), ("2,0", "cuda:1", "cuda:0"), ("1", "cpu", "cpu"),
        ("GPU-8f2a", "cuda", "cuda:0"), ("1", "cuda:3", "cuda:3"), ("", "cuda:0", "cuda:0"),
    ],
)  # fmt: skip
def test_two_names_of_one_gpu_are_one_lock(
    visible: str | None, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device_name(kind) == name
