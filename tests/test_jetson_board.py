"""Which Jetson is this? On faked trees of seven boards, whole and with every file failing in every way."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from baselines.stored.known import Known
from baselines.stored.machine import machine_findings
from baselines.stored.verdict import Limits
from experiments.common import environment
from experiments.jetson.board import jetpack_of, read_jetson, state_change
from experiments.jetson.mode import PowerMode, parse_nvpmodel, read_power_mode
from experiments.jetson.tree import NoValue, Tree, read_once
from experiments.settings.identity import STABLE
from reports.data.context import caption_of, context_of
from reports.data.table import load_table
from tests.engines import config
from tests.jetson_trees import AGX_JP6, BOARDS, ORIN_NANO, plant
from tests.test_machine_history import measured
from tests.test_report_data import FakeCell, rewrite_record, write_run


@pytest.fixture(autouse=True)
def no_nvpmodel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, for programs of a test's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(folder: Path, text: str) -> None:
    path = folder / "nvpmodel"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "host_class", "release", "mode"),
    [
        ("agx-orin-jp5", "jetson-agx-orin-32gb-30w-unlocked-cuda", "JetPack 5 (L4T 35.4.1)", "MODE_30W (id 2)"),
        ("agx-orin-jp6", "jetson-agx-orin-64gb-maxn-locked-cuda", "JetPack 6.2.1 (L4T 36.4.4)", "MAXN (id 0)"),
        ("agx-orin-jp7", "jetson-agx-orin-64gb-maxn-locked-cuda", "JetPack 7.2 (L4T 39.2.0)", "MAXN (id 0)"),
        ("orin-nx", "jetson-orin-nx-16gb-maxn-super-locked-cuda", "JetPack 6.2.1 (L4T 36.4.7)", "MAXN_SUPER (id 2)"),
        ("orin-nano", "jetson-orin-nano-8gb-25w-unlocked-cuda", "JetPack 6.2.2 (L4T 36.5.0)", "25W (id 1)"),
        ("thor-jp71", "jetson-thor-128gb-120w-locked-cuda", "JetPack 7.1 (L4T 38.4)", "120W (id 1)"),
        ("thor-jp72", "jetson-thor-128gb-maxn-locked-cuda", "JetPack 7.2 (L4T 39.2.0)", "MAXN (id 0)"),
    ],
)
def test_each_board_has_its_own_class(name: str, host_class: str, release: str, mode: str, tmp_path: Path) -> None:
    board = read_jetson(plant(tmp_path, BOARDS[name]))
    assert board is not None
    assert (board.host_class("cuda:0"), board.release, board.power_mode) == (host_class, release, mode)
    assert board.unknown == {}
    assert board.host_class("cpu") == host_class.replace("-cuda", "-cpu")


def test_another_mode_and_another_lock_are_other_classes(tmp_path: Path) -> None:
    tree = plant(tmp_path, AGX_JP6)
    classes = [read_jetson(tree).host_class("cuda")]  # type: ignore[union-attr]
    plant(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002"})
    classes.append(read_jetson(tree).host_class("cuda"))  # type: ignore[union-attr]
    plant(tmp_path, {"sys/devices/system/cpu/cpufreq/policy4/scaling_min_freq": "729600"})
    classes.append(read_jetson(tree).host_class("cuda"))  # type: ignore[union-attr]
    assert classes == [
        "jetson-agx-orin-64gb-maxn-locked-cuda",
        "jetson-agx-orin-64gb-30w-locked-cuda",
        "jetson-agx-orin-64gb-30w-unlocked-cuda",
    ]


def test_carrier_and_module_are_told_apart(tmp_path: Path) -> None:
    board = read_jetson(plant(tmp_path, ORIN_NANO))
    assert board is not None
    assert (board.module, board.carrier, board.title) == ("p3767-0005", "p3768-0000", "Jetson Orin Nano 8GB")


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("36.3.0", "6.0"), ("36.4.0", "6.1"), ("36.4.3", "6.2"), ("36.4.7", "6.2.1"), ("36.5.2", "6.2.3"),
        ("38.2.1", "7.0"), ("39.2.1", "7.2.1"), ("36.4.9", None), ("40.1.0", None), ("360.4", None),
    ],
)  # fmt: skip
def test_a_release_that_is_not_known_is_not_guessed(l4t: str, jetpack: str | None) -> None:
    assert jetpack_of(l4t) == jetpack


def test_elsewhere_nothing_is_read_and_nobody_is_asked(tmp_path: Path, no_nvpmodel: Path) -> None:
    script(no_nvpmodel, f"echo asked > {tmp_path}/asked")
    read: list[Path] = []

    def counted(path: Path) -> bytes:
        read.append(path)
        return read_once(path)

    assert read_jetson(Tree(tmp_path, counted)) is None
    plant(tmp_path, {"proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0"})
    assert read_jetson(Tree(tmp_path, counted)) is None
    assert [path.name for path in read] == ["compatible"]
    assert not (tmp_path / "asked").exists()


def test_a_container_without_the_release_file_is_still_a_jetson(tmp_path: Path) -> None:
    tree = plant(tmp_path, {name: text for name, text in AGX_JP6.items() if name != "etc/nv_tegra_release"})
    board = read_jetson(tree)
    assert board is not None
    assert (board.l4t, board.unknown["l4t"]) == (None, "/etc/nv_tegra_release: is not there")
    assert board.host_class("cuda") == "jetson-agx-orin-64gb-maxn-locked-cuda"


FAILURES: dict[str, Callable[[Path], Exception]] = {
    "missing": lambda path: FileNotFoundError(errno.ENOENT, "No such file or directory", str(path)),
    "EIO": lambda path: OSError(errno.EIO, "Input/output error", str(path)),
    "EAGAIN": lambda path: BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable", str(path)),
    "EACCES": lambda path: PermissionError(errno.EACCES, "Permission denied", str(path)),
    "TypeError": lambda path: TypeError("can't concat NoneType to bytes"),
}


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("name", BOARDS)
def test_a_file_that_fails_costs_its_own_value_and_leaves_a_reason(name: str, how: str, tmp_path: Path) -> None:
    tree = plant(tmp_path, BOARDS[name])
    whole = read_jetson(tree)
    assert whole is not None
    for broken in BOARDS[name]:

        def read(path: Path, broken: str = broken) -> bytes:
            if path == tmp_path / broken:
                raise FAILURES[how](path)
            return read_once(path)

        board = read_jetson(Tree(tmp_path, read))
        assert board is not None, broken
        for key, value in board.content().items():
            if key in ("unknown", "board", "family", "mode_name"):
                continue
            assert value in (whole.content()[key], None), (broken, key)
        lost = [key for key in ("l4t", "mode", "clocks", "memory_bytes") if getattr(board, key) is None]
        assert all(key.removesuffix("_bytes") in board.unknown for key in lost), (broken, board.unknown)
        folder = broken.rpartition("/")[0]  # a policy whose cores cannot be read may be one that is switched off
        assert all(f"/{folder}" in said for key, said in board.unknown.items() if key != "mode"), board.unknown


def test_a_value_that_is_no_number_is_none(tmp_path: Path) -> None:
    tree = plant(tmp_path, {**AGX_JP6, "sys/class/devfreq/17000000.gpu/max_freq": "<unsupported>"})
    board = read_jetson(tree)
    assert board is not None
    assert board.clocks is None
    assert "says '<unsupported>', which is no whole number" in board.unknown["clocks"]
    assert board.host_class("cuda") == "jetson-agx-orin-64gb-maxn-clocks-unknown-cuda"


def test_a_clock_that_is_free_decides_whatever_else_cannot_be_read(tmp_path: Path) -> None:
    files = {name: text for name, text in AGX_JP6.items() if "devfreq" not in name}
    tree = plant(tmp_path, {**files, "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "729600"})
    board = read_jetson(tree)
    assert board is not None
    assert board.clocks == "unlocked"


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", PowerMode(0, "MAXN")),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_30W\n2\n", PowerMode(2, "MODE_30W")),
        ("NVPM VERB: Config file: /etc/nvpmodel.conf\nNVPM VERB: PARAM 3\nNV Power Mode:25W\n1\n", PowerMode(1, "25W")),
    ],
)
def test_what_nvpmodel_prints(said: str, mode: PowerMode, tmp_path: Path, no_nvpmodel: Path) -> None:
    assert parse_nvpmodel(said) == mode
    script(no_nvpmodel, f"printf '%s' '{said}'")
    assert read_power_mode(plant(tmp_path, AGX_JP6)) == mode, "its own word comes before its file"


@pytest.mark.parametrize("text", ["exit 1", "echo nothing of use", "while :; do :; done", "/bin/sleep 60 & wait"])
def test_an_nvpmodel_that_fails_or_hangs_leaves_the_file(text: str, tmp_path: Path, no_nvpmodel: Path) -> None:
    script(no_nvpmodel, text)
    before_s = time.monotonic()
    assert read_power_mode(plant(tmp_path, AGX_JP6)) == PowerMode(0, "MAXN")
    assert time.monotonic() - before_s < 1.0


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_read_within_a_second_while_nvpmodel_hangs(name: str, tmp_path: Path, no_nvpmodel: Path) -> None:
    script(no_nvpmodel, "/bin/sleep 60 & wait")
    tree = plant(tmp_path, BOARDS[name])
    before_s = time.monotonic()
    board = read_jetson(tree)
    assert time.monotonic() - before_s < 1.0
    assert board is not None
    assert (board.mode is not None, board.unknown) == (True, {})


def test_a_mode_that_nobody_names_has_both_reasons(tmp_path: Path, no_nvpmodel: Path) -> None:
    script(no_nvpmodel, "exit 3")
    with pytest.raises(NoValue) as said:
        read_power_mode(Tree(tmp_path))
    assert str(said.value) == "nvpmodel -q: ended with exit code 3; /var/lib/nvpmodel/status: is not there"
    plant(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002"})
    assert read_power_mode(Tree(tmp_path)) == PowerMode(2, None)
    assert (str(PowerMode(2, None)), PowerMode(2, None).slug) == ("id 2", "mode-2")


def test_the_fingerprint_asks_the_board_before_anybody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = plant(tmp_path, AGX_JP6)
    monkeypatch.setattr(environment, "read_jetson", lambda: read_jetson(tree))
    monkeypatch.setattr(environment, "gpu_name", lambda kind: pytest.fail("nvidia-smi calls every Orin by one name"))
    found = environment.fingerprint({"kind": "cuda:0", "threads": 2})
    assert found["host_class"] == "jetson-agx-orin-64gb-maxn-locked-cuda"
    assert (found["gpu"], found["cpu_model"], found["power_mode"]) == (*["Jetson AGX Orin 64GB"] * 2, "MAXN (id 0)")
    assert found["jetson"]["l4t"] == "36.4.4"
    assert {"host_class", "power_mode"} <= set(STABLE), "a resumed sweep measures anew what another mode measured"
    (tmp_path / "var/lib/nvpmodel/status").unlink()
    plant(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil"})
    assert environment.fingerprint({"kind": "cpu", "threads": 2})["power_mode"] is None, "a governor is no power mode"


def test_what_changed_is_named(tmp_path: Path) -> None:
    tree = plant(tmp_path, AGX_JP6)
    board = read_jetson(tree)
    assert board is not None
    before = board.content()
    assert state_change(before, read_jetson(tree)) is None
    plant(tmp_path, {"var/lib/nvpmodel/status": "pmode:0001"})
    plant(tmp_path, {"sys/class/devfreq/17000000.gpu/min_freq": "306000000"})
    assert state_change(before, read_jetson(tree)) == (
        "the power mode was MAXN (id 0) and is MODE_15W (id 1) and the clocks were locked and are unlocked"
    )
    assert "is none now" in (state_change(before, None) or "")


@pytest.mark.parametrize("unknown", [{}, {"mode": "nvpmodel: is not installed"}, {"clocks": "no GPU"}])
def test_no_gate_judges_a_board_whose_speed_is_not_known(unknown: dict[str, str]) -> None:
    run = measured(0.008)
    content: dict[str, Any] = {**run.environment, "jetson": {"unknown": unknown}}
    new = type(run)(**{name: getattr(run, name) for name in run.__slots__} | {"environment": content})
    findings = machine_findings([run], new, Limits.from_mapping(config()["gate"]), Known())
    assert [(one.metric, one.outcome) for one in findings] == [(f"machine.{key}", "INVALID_ENV") for key in unknown]


def test_a_report_opens_with_the_board(tmp_path: Path) -> None:
    board = read_jetson(plant(tmp_path / "tree", AGX_JP6))
    assert board is not None
    write_run(tmp_path / "run", FakeCell(label="int8-euler_7"))
    known = {"host_class": board.host_class("cuda"), "power_mode": board.power_mode, "jetson": board.content()}
    rewrite_record(tmp_path / "run", environment=known)
    lines = dict(caption_of(context_of(load_table(tmp_path / "run"))))
    assert lines["board"] == "Jetson AGX Orin 64GB, JetPack 6.2.1 (L4T 36.4.4), clocks locked"
    assert list(lines)[:2] == ["host class", "board"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_as_one_without_the_files(tmp_path: Path) -> None:
    tree = plant(tmp_path, AGX_JP6)
    folder = tmp_path / "sys/class/devfreq"
    folder.chmod(0)
    try:
        board = read_jetson(tree)
    finally:
        folder.chmod(0o755)
    assert board is not None
    assert board.clocks is None
