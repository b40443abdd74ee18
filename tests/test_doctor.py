"""The preflight: its rows on this machine, and what a missing, crashing or hanging package becomes."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.doctor.host import TILE_FLAGS, cpu_rows, driver_version, memory_row, pocket_row
from experiments.doctor.probe import REPOSITORY, probe

SHADOWS = {
    "torch": "import os\nos.kill(os.getpid(), 11)",
    "torchaudio": "raise OSError('libcudart.so.13: cannot open shared object file')",
    "vocos": "raise SystemExit(3)",
    "pesq": "raise ModuleNotFoundError('No module named pesq', name='pesq')",
    "pystoi": "import a_package_that_nobody_has",
}


def doctor(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else dict(os.environ)
    command = [sys.executable, "-m", "experiments.doctor", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture
def shadows(tmp_path: Path) -> Path:
    for name, code in SHADOWS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)
    return tmp_path


def test_this_machine_is_described_and_the_exit_code_follows_from_the_rows() -> None:
    done = doctor("--json")
    answer = json.loads(done.stdout)
    rows = {row["item"]: row for row in answer["rows"]}
    assert len(rows) == len(answer["rows"]), "every item once"
    assert {"Python", "CPU", "torch", "CUDA device", "mlflow", "pocket model", "git"} <= set(rows)
    fatal = [item for item, row in rows.items() if row["is_core"] and row["status"] != "ok"]
    assert done.returncode == (2 if fatal else 0)
    assert answer["ok"] is not bool(fatal)
    for row in rows.values():
        assert row["status"] in ("ok", "missing", "broken")
        assert row["found"]
        assert row["status"] == "ok" or (row["remedy"] and row["disables"]), row
    assert rows["torch"]["status"] == "ok", "the tests themselves run with it"


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (TILE_FLAGS, "ok"),
        (("fma", *TILE_FLAGS), "ok"),
        (TILE_FLAGS[:-1], "missing"),
        ((), "missing"),
    ],
)
def test_tiles_are_there_where_all_of_their_instructions_are(flags: tuple[str, ...], status: str) -> None:
    row = next(row for row in cpu_rows("a CPU", flags, 2) if row.item == "tiles (AMX)")
    assert row.status == status
    assert "tiles_bf16" in row.needed_for


def test_the_preflight_asks_for_what_the_engine_asks_for() -> None:
    from engine.native.library import NEEDED, NEEDED_FOR_INT8

    assert set(TILE_FLAGS) == {*NEEDED, *NEEDED_FOR_INT8}


def test_packages_that_crash_are_rows_with_a_remedy(shadows: Path) -> None:
    done = doctor("--json", path=shadows)
    assert done.returncode == 2
    rows = {row["item"]: row for row in json.loads(done.stdout)["rows"]}
    states = {name: rows[name]["status"] for name in SHADOWS}
    assert states == {
        "torch": "broken", "torchaudio": "broken", "vocos": "broken", "pesq": "missing", "pystoi": "broken"
    }  # fmt: skip
    assert "signal 11 (SIGSEGV)" in rows["torch"]["found"]
    assert "exit code 3" in rows["vocos"]["found"]
    assert "a_package_that_nobody_has" in rows["pystoi"]["found"]
    assert "C compiler" in rows["pesq"]["remedy"]
    assert "CPU-only torch" in rows["torch with torchaudio"]["remedy"]
    assert rows["numpy"]["status"] == "ok", "a crash in one group leaves the others"


def test_a_package_that_hangs_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sleepy.py").write_text("import threading\nthreading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = probe(["sleepy"], patience_s=0.5)["sleepy"]
    assert (found.status, found.error) == ("broken", "its import gave no answer for 0.5 s")


def test_what_a_package_prints_is_not_taken_for_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chatty.py").write_text("import os\nprint('hello')\nos.write(1, b'hello')\n__version__ = '1.2'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = probe(["chatty", "json"], patience_s=60)
    assert (found["chatty"].status, found["chatty"].version, found["json"].status) == ("ok", "1.2", "ok")


def safetensors(num_bytes: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [num_bytes], "data_offsets": [0, num_bytes]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(num_bytes)


@pytest.fixture
def pocket(tmp_path: Path) -> Path:
    for name in ("vocab.txt", "slt.wav", "rms.wav"):
        (tmp_path / name).write_text("x")
    for name in ("dit.safetensors", "vocos.safetensors"):
        (tmp_path / name).write_bytes(safetensors(100))
    return tmp_path


def test_whole_weights_are_named_by_their_hash(pocket: Path) -> None:
    row = pocket_row(pocket)
    assert row.status == "ok"
    assert "dit.safetensors sha256 " in row.found


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (None, "missing", "dit.safetensors is missing"),
        (safetensors(100)[:-7], "broken", "dit.safetensors is damaged (7 bytes are missing)"),
        (b"version https://git-lfs", "broken", "dit.safetensors is not a safetensors file"),
        (b"", "broken", "dit.safetensors is not a safetensors file"),
    ],
)
def test_missing_and_torn_weights_are_told_apart(pocket: Path, content: bytes | None, status: str, words: str) -> None:
    (pocket / "dit.safetensors").unlink()
    if content is not None:
        (pocket / "dit.safetensors").write_bytes(content)
    row = pocket_row(pocket)
    assert (row.status, row.found, row.is_fatal) == (status, words, True)


def test_the_driver_version_is_read_from_the_kernel_module(tmp_path: Path) -> None:
    assert driver_version(tmp_path) is None
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
    (tmp_path / "proc/driver/nvidia/version").write_text(line)
    assert driver_version(tmp_path) == "550.54.15"


def test_memory_counts_what_the_control_group_leaves() -> None:
    gib = 2**30
    assert memory_row(available_bytes=16 * gib, total_bytes=32 * gib).status == "ok"
    row = memory_row(available_bytes=16 * gib, total_bytes=2 * gib)
    assert (row.status, row.found) == ("missing", "2.0 GiB free of 2.0 GiB")
