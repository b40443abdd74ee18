"""What the doctor says of each faked board, to the letter: what is wrong, and the remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from experiments.doctor import __main__ as doctor
from experiments.doctor import kernel
from experiments.doctor.host import Row
from experiments.doctor.jetson import jetson_rows, kernel_row, with_remedies
from experiments.doctor.probe import Found
from experiments.jetson.board import read_jetson
from tests.jetson_trees import AGX_JP6, BOARDS, LOCKED_AGX, plant, release, throttles

GPU = Found(status="ok", details={"cuda": "12.6", "devices": ["Orin (sm_87)"]})
NO_SWAP = "MemTotal: 64349000 kB\nMemAvailable: 60000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"


@pytest.fixture(autouse=True)
def no_nvpmodel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def said(root: Path, files: Mapping[str, str], torch: Found = GPU, environ: Mapping[str, str] | None = None) -> str:
    """As the table is printed where rich is not installed, without what a thing is needed for."""
    tree = plant(root, files)
    board = read_jetson(tree)
    assert board is not None
    rows = jetson_rows(board, tree, torch, environ or {})
    return "\n".join(
        f"{row.status:8} {row.item}: {row.found}" + ("" if row.status == "ok" else f" -> {row.remedy}") for row in rows
    )


UNLOCKED = (
    "missing  clocks: unlocked; they change with the load: up to 45 % slower, and 25 % apart from session to session "
    "-> sudo jetson_clocks, once the power mode is set: any nvpmodel call and any start of the board undo it"
)
AVERAGES = "ina3221 averages 512 samples, 430 ms a value"
NOT_COUNTED = (
    "missing  throttling: whether anything is acting is not known: /sys/class/thermal does not tell; events since the "
    "start: not counted here -> in a container mount /sys read-only; without it only counters show a throttle"
)
TORCH = "ok       torch for the GPU: a build for CUDA 12.6 finds Orin (sm_87)"
AGX_RAILS = "VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0"
IN_RAILS = f"ok       power rails: VDD_IN, VDD_CPU_GPU_CV, VDD_SOC; total by rule vdd-in; {AVERAGES}"
THOR_RAILS = "VDD_GPU, VDD_CPU_SOC_MSS, VIN_SYS_5V0"
AGX_6_AND_7 = f"""\
ok       power mode: MAXN (id 0)
ok       clocks: locked
ok       power rails: {AGX_RAILS}, VDDQ_VDD2_1V8AO; total by rule agx-orin-rails; {AVERAGES}, {AVERAGES}
ok       throttling: nothing is acting; events since the start: OC1 0, OC2 0, OC3 2
ok       swap: 3.8 GiB
{TORCH}"""
GOLDEN = {
    "agx-orin-jp5": f"""\
ok       Jetson: Jetson AGX Orin 32GB (p3701-0004 on p3737-0000), JetPack 5 (L4T 35.4.1)
ok       power mode: MODE_30W (id 2)
{UNLOCKED}
ok       power rails: {AGX_RAILS}; total by rule agx-orin-rails; {AVERAGES}
{NOT_COUNTED}
ok       swap: 3.8 GiB
{TORCH}""",
    "agx-orin-jp6": f"""\
ok       Jetson: Jetson AGX Orin 64GB (p3701-0005 on p3737-0000), JetPack 6.2.1 (L4T 36.4.4)
{AGX_6_AND_7}""",
    "agx-orin-jp7": f"""\
ok       Jetson: Jetson AGX Orin 64GB (p3701-0005 on p3737-0000), JetPack 7.2 (L4T 39.2.0)
{AGX_6_AND_7}""",
    "orin-nx": f"""\
ok       Jetson: Jetson Orin NX 16GB (p3767-0000 on p3768-0000), JetPack 6.2.1 (L4T 36.4.7)
ok       power mode: MAXN_SUPER (id 2)
ok       clocks: locked
{IN_RAILS}
ok       throttling: nothing is acting; events since the start: OC1 1, OC2 0, OC3 2
ok       swap: 3.8 GiB
broken   L4T 36.4.7: its NvMap refuses memory that is free (the fix of CVE-2025-33177): error 12, or out of memory -> \
a newer L4T by apt (36.5.0 is JetPack 6.2.2), or a smaller model
{TORCH}""",
    "orin-nano": f"""\
ok       Jetson: Jetson Orin Nano 8GB (p3767-0005 on p3768-0000), JetPack 6.2.2 (L4T 36.5.0)
ok       power mode: 25W (id 1)
{UNLOCKED}
{IN_RAILS}
{NOT_COUNTED}
ok       swap: 3.8 GiB
{TORCH}""",
    "thor-jp71": f"""\
ok       Jetson: Jetson Thor 128GB (p3834-0008 on p4071-0000), JetPack 7.1 (L4T 38.4)
ok       power mode: 120W (id 1)
ok       clocks: locked
ok       power rails: {THOR_RAILS}, VIN; total by rule thor-vin; {AVERAGES}
{NOT_COUNTED}
ok       swap: 3.8 GiB
{TORCH}""",
    "thor-jp72": f"""\
ok       Jetson: Jetson Thor 128GB (p3834-0008 on p4071-0000), JetPack 7.2 (L4T 39.2.0)
ok       power mode: MAXN (id 0)
ok       clocks: locked
ok       power rails: {THOR_RAILS}; total by rule thor-rails; {AVERAGES}
{NOT_COUNTED}
ok       swap: 3.8 GiB
{TORCH}""",
}


@pytest.mark.parametrize("name", BOARDS)
def test_each_board_to_the_letter(name: str, tmp_path: Path) -> None:
    assert said(tmp_path, BOARDS[name]) == GOLDEN[name]


SETUP = "`make jetson` installs the wheels that belong together for this JetPack"


@pytest.mark.parametrize(
    ("torch", "line"),
    [
        (Found(status="ok", details={"cuda": None, "devices": []}),
         f"broken   torch for the GPU: a build for the CPU: nothing would run on the GPU -> {SETUP}"),
        (Found(status="ok", details={"cuda": "13.0", "devices": []}),
         "broken   torch for the GPU: a build for CUDA 13.0 that finds no device with JetPack 6.2.1 (L4T 36.4.4) -> "
         f"{SETUP}"),
        (Found(status="broken", error="ImportError: libcusparseLt.so.0: cannot open shared object file"),
         "broken   cuSPARSELt: torch does not find libcusparseLt -> sudo apt install libcusparselt0"),
        (Found(status="broken", error="ImportError: libcudss.so.0: cannot open shared object file"),
         "broken   cuDSS: torch does not find libcudss -> NVIDIA's package of cuDSS, or the torch that needs none: "
         f"{SETUP}"),
    ],
)  # fmt: skip
def test_a_torch_that_would_not_use_the_gpu(torch: Found, line: str, tmp_path: Path) -> None:
    assert said(tmp_path, AGX_JP6, torch).splitlines()[-1] == line


def test_a_torch_that_is_not_there_has_its_own_row(tmp_path: Path) -> None:
    assert "torch" not in said(tmp_path, AGX_JP6, Found(status="missing"))


def test_no_swap_and_an_allocator_that_a_jetson_cannot_have(tmp_path: Path) -> None:
    lines = said(
        tmp_path, {**AGX_JP6, "proc/meminfo": NO_SWAP}, environ={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    ).splitlines()
    assert "missing  swap: none -> switch JetPack's zram on again (nvzramconfig), or make a swap file" in lines
    assert lines[-1] == (
        "broken   PYTORCH_CUDA_ALLOC_CONF: has expandable_segments: on a Jetson that is out of memory with most of it "
        "free -> unset PYTORCH_CUDA_ALLOC_CONF"
    )


def test_a_throttle_that_acts(tmp_path: Path) -> None:
    lines = said(tmp_path, {**AGX_JP6, **throttles((3, 0, 9), acting=True)}).splitlines()
    assert (
        "broken   throttling: acting now: cpu-throttle-alert; events since the start: OC1 3, OC2 0, OC3 9 -> let the "
        "board cool, look at fan and power supply"
    ) in lines


def test_a_container_that_sees_nothing_of_the_board(tmp_path: Path) -> None:
    """The release file alone: every row has its reason, none a number."""
    assert said(tmp_path, {"etc/nv_tegra_release": AGX_JP6["etc/nv_tegra_release"]}) == (
        "missing  Jetson: Jetson unknown, JetPack 6.2.1 (L4T 36.4.4); /proc/device-tree/compatible: is not there -> "
        "in a container mount /proc/device-tree and /etc/nv_tegra_release; a release that is not known is named in "
        "docs/jetson.md once somebody has run it\n"
        "missing  power mode: not known: nvpmodel: is not installed; /var/lib/nvpmodel/status: is not there -> "
        "`nvpmodel -q` must work for this user; in a container mount /var/lib/nvpmodel and /etc/nvpmodel.conf\n"
        "missing  clocks: not known: /sys/class/devfreq: holds no GPU -> sudo jetson_clocks, once the power mode is "
        "set: any nvpmodel call and any start of the board undo it\n"
        "missing  power rails: /sys/class/hwmon: holds no power sensor of a Jetson (ina3221, ina238) -> `f5bench "
        "telemetry watch` shows each rail; in a container mount /sys read-only\n"
        f"{NOT_COUNTED}\n"
        "missing  swap: /proc/meminfo: is not there -> switch JetPack's zram on again (nvzramconfig), or make a swap "
        f"file\n{TORCH}"
    )


def test_a_board_that_is_not_known_is_called_what_it_calls_itself(tmp_path: Path) -> None:
    files = {**AGX_JP6, "proc/device-tree/compatible": "nvidia,p3999-0001\0nvidia,tegra999\0",
             "proc/device-tree/model": "NVIDIA Jetson Nova Kit\0"}  # fmt: skip
    lines = said(tmp_path, files).splitlines()
    assert lines[0] == "ok       Jetson: Jetson nova-kit 64GB (p3999-0001), JetPack 6.2.1 (L4T 36.4.4)"
    assert "no total: no rule is known for the board nova-kit; its rails: " in lines[3]


def test_remedies_of_packages_are_those_of_a_jetson() -> None:
    rows = [
        Row("torch", "not installed", "missing", "every engine", "pip install -c constraints.txt torch"),
        Row("torch with torchaudio", "2.14.1 with 2.11.0", "broken", "f5_tts", "pip install -c constraints.txt torch"),
        Row("numpy", "not installed", "missing", "everything", "pip install -c constraints.txt numpy"),
        Row("torchaudio", "2.8.0", "ok", "f5_tts", ""),
    ]
    remedies = [row.remedy for row in with_remedies(rows)]
    assert remedies == [SETUP, SETUP, "pip install -c constraints.txt numpy", ""]


def test_unlocked_clocks_of_one_core_are_unlocked(tmp_path: Path) -> None:
    files = {**AGX_JP6, **LOCKED_AGX, "sys/devices/system/cpu/cpufreq/policy4/scaling_min_freq": "729600"}
    assert said(tmp_path, files).splitlines()[2] == UNLOCKED


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("pass", None),
        ("import sys; sys.exit('RuntimeError: CUDA error: no kernel image is available for execution on the device')",
         "RuntimeError: CUDA error: no kernel image is available for execution on the device"),
        ("import os; os.kill(os.getpid(), 11)", "it ended the process by signal 11 (SIGSEGV)"),
        ("import threading; threading.Event().wait()", "no answer for 1 s"),
    ],
)  # fmt: skip
def test_only_a_kernel_that_ran_says_that_kernels_run(code: str, reason: str | None) -> None:
    assert kernel.refused(1 if "wait" in code else 30, python(code)) == reason
    row = kernel_row(reason)
    assert (row.status, row.found) == (
        ("broken", reason) if reason else ("ok", "a product and a convolution in half precision ran")
    )


def test_what_is_computed_is_right_where_it_can_be_computed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.compute("cpu")
    monkeypatch.setattr("torch.nn.functional.conv1d", lambda sound, weight: sound)
    with pytest.raises(SystemExit, match=r"ArithmeticError: 1\.0 instead of 192"):
        kernel.main("cpu")
    with pytest.raises(SystemExit, match=r"^RuntimeError: Invalid device string: 'no such device'$"):
        kernel.main("no such device")


WRONG = {
    **AGX_JP6, "etc/nv_tegra_release": release(36, "4.7"), "proc/meminfo": NO_SWAP,
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000", **throttles((0, 0, 2)),
}  # fmt: skip
EVERYTHING_WRONG = f"""\
ok       Jetson: Jetson AGX Orin 64GB (p3701-0005 on p3737-0000), JetPack 6.2.1 (L4T 36.4.7)
ok       power mode: MAXN (id 0)
{UNLOCKED}
ok       power rails: {AGX_RAILS}, VDDQ_VDD2_1V8AO; total by rule agx-orin-rails; {AVERAGES}, {AVERAGES}
ok       throttling: nothing is acting; events since the start: OC1 0, OC2 0, OC3 2
missing  swap: none -> switch JetPack's zram on again (nvzramconfig), or make a swap file
broken   L4T 36.4.7: its NvMap refuses memory that is free (the fix of CVE-2025-33177): error 12, or out of memory -> \
a newer L4T by apt (36.5.0 is JetPack 6.2.2), or a smaller model
broken   torch for the GPU: a build for the CPU: nothing would run on the GPU -> {SETUP}
broken   torch with torchaudio: 2.14.1 with 2.8.0 -> {SETUP}
broken   CUDA device: driver 540.4.0, but torch (CUDA none) finds no device -> {SETUP}"""


def test_a_board_with_everything_wrong_says_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command: what it makes of this board's files and of what importing gave. Nothing is imported here."""
    tree = plant(tmp_path / "tree", WRONG)
    board = read_jetson(tree)
    given = {
        "torch": Found(status="ok", version="2.14.1+cpu", details={"cuda": None, "devices": [], "cpu": "DEFAULT"}),
        "torchaudio": Found(status="ok", version="2.8.0"), "numpy": Found(status="missing"),
    }  # fmt: skip
    monkeypatch.setattr(doctor, "probe", lambda modules, patience_s: {
        name: given.get(name, Found(status="ok", version="1")) for name in modules
    })  # fmt: skip
    monkeypatch.setattr(doctor, "read_jetson", lambda: board)
    monkeypatch.setattr(doctor, "Tree", lambda: tree)
    monkeypatch.setattr(doctor, "driver_version", lambda: "540.4.0")
    assert doctor.main(["--json"]) == doctor.EXIT_CORE_BROKEN
    rows = json.loads(capsys.readouterr().out)["rows"]
    named = [line.partition(": ")[0][9:] for line in EVERYTHING_WRONG.splitlines()]
    shown = [
        f"{row['status']:8} {row['item']}: {row['found']}"
        + ("" if row["status"] == "ok" else f" -> {row['remedy']}")
        for row in rows if row["item"] in named
    ]  # fmt: skip
    assert "\n".join(shown) == EVERYTHING_WRONG
