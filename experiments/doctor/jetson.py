"""What the doctor says of a Jetson: what is set, what can be measured, and what people of these boards trip over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from experiments.doctor.host import BYTES_PER_GIB, Row
from experiments.doctor.probe import Found
from experiments.jetson.board import Jetson
from experiments.jetson.memory import expandable_segments
from experiments.jetson.tree import NoValue, Tree
from experiments.telemetry.board_state import read_slowed
from experiments.telemetry.rails import JetsonRails

SETUP = "`make jetson` installs the wheels that belong together for this JetPack"
BY_SETUP = ("torch", "torchaudio", "torch with torchaudio", "onnxruntime", "CUDA device")
# A library that a wheel links against and JetPack does not bring -> what brings it
LIBRARIES = {
    "libcusparseLt": ("cuSPARSELt", "sudo apt install libcusparselt0"),
    "libcudss": ("cuDSS", f"NVIDIA's package of cuDSS, or the torch that needs none: {SETUP}"),
}
REFUSES_FREE_MEMORY = "36.4.7"


def jetson_rows(board: Jetson, tree: Tree, torch: Found, environ: Mapping[str, str]) -> list[Row]:
    """torch: what importing it gave. environ: of the process."""
    rows = [_board(board), _mode(board), _clocks(board), _rails(board, tree), _throttles(tree), _swap(tree)]
    if board.l4t == REFUSES_FREE_MEMORY:
        rows.append(_nvmap())
    return [*rows, *_torch(board, torch), *_allocator(environ)]


def with_remedies(rows: Sequence[Row]) -> list[Row]:
    """Packages whose wheels for a Jetson are others than those of the constraints file."""
    return [replace(row, remedy=SETUP) if row.item in BY_SETUP and row.status != "ok" else row for row in rows]


def _board(board: Jetson) -> Row:
    parts = " on ".join(part for part in (board.module, board.carrier) if part)
    said = f"{board.title}{f' ({parts})' if parts else ''}, {board.release}"
    why = [board.unknown[key] for key in ("board", "l4t", "jetpack") if key in board.unknown]
    return Row(
        item="Jetson",
        found="; ".join([said, *why]),
        status="missing" if why else "ok",
        needed_for="the host class of every record, and the wheels that fit",
        remedy="in a container mount /proc/device-tree and /etc/nv_tegra_release; a release that is not known is named "
        "in docs/jetson.md once somebody has run it",
    )


def _mode(board: Jetson) -> Row:
    return Row(
        item="power mode",
        found=board.power_mode or f"not known: {board.unknown.get('mode')}",
        status="ok" if board.mode else "missing",
        needed_for="the host class: numbers of two modes are never compared, and no gate judges without it",
        remedy="`nvpmodel -q` must work for this user; in a container mount /var/lib/nvpmodel and /etc/nvpmodel.conf",
    )


def _clocks(board: Jetson) -> Row:
    unknown = f"not known: {board.unknown.get('clocks')}"
    free = "change with the load: up to 45 % slower, and 25 % apart from session to session"
    return Row(
        item="clocks",
        found={"locked": "locked", "unlocked": f"unlocked; they {free}", None: unknown}[board.clocks],
        status="ok" if board.clocks == "locked" else "missing",
        needed_for="times that repeat; locked and unlocked are two host classes",
        remedy="sudo jetson_clocks, once the power mode is set: any nvpmodel call and any start of the board undo it",
    )


def _rails(board: Jetson, tree: Tree) -> Row:
    needed_for = "watts and joules (telemetry.jsonl beside every run)"
    remedy = "`f5bench telemetry watch` shows each rail; in a container mount /sys read-only"
    try:
        rails = JetsonRails.find(tree, board.family)
    except NoValue as error:
        return Row("power rails", str(error), "missing", needed_for, remedy)
    chips = ", ".join(
        f"{chip['name']} averages {chip['samples']} samples, {chip['update_interval_ms']} ms a value"
        for chip in rails.chips
        if chip["samples"] is not None
    )
    total = f"total by rule {rails.rule.name}" if rails.rule else f"no total: {rails.rule_missing}"
    found = "; ".join(part for part in (", ".join(rail.label for rail in rails.rails), total, chips) if part)
    return Row("power rails", found, "ok" if rails.rule else "missing", needed_for, remedy)


def _throttles(tree: Tree) -> Row:
    slowed = read_slowed(tree)
    counters = ", ".join(f"{name.upper()} {count}" for name, count in sorted(slowed.events.items()))
    remedy = "let the board cool, look at fan and power supply"
    if slowed.acting:
        acting, status = f"acting now: {', '.join(slowed.acting)}", "broken"
    elif slowed.acting is None:
        acting, status = "whether anything is acting is not known: /sys/class/thermal does not tell", "missing"
        remedy = "in a container mount /sys read-only; without it only counters show a throttle"
    else:
        acting, status = "nothing is acting", "ok"
    return Row(
        item="throttling",
        found=f"{acting}; events since the start: {counters or 'not counted here'}",
        status=status,
        needed_for="rows that are not void: a throttle while measuring voids one",
        remedy=remedy,
    )


def _swap(tree: Tree) -> Row:
    try:
        found = re.search(r"^SwapTotal:\s*(\d+) kB", tree.text("proc/meminfo"), re.MULTILINE)
        num_bytes = int(found.group(1)) * 1024 if found else 0
        said = f"{num_bytes / BYTES_PER_GIB:.1f} GiB" if num_bytes else "none"
    except NoValue as error:
        num_bytes, said = 0, str(error)
    return Row(
        item="swap",
        found=said,
        status="ok" if num_bytes else "missing",
        needed_for="building: CPU and GPU share one memory, and the kernel ends what does not fit",
        remedy="switch JetPack's zram on again (nvzramconfig), or make a swap file",
    )


def _nvmap() -> Row:
    return Row(
        item=f"L4T {REFUSES_FREE_MEMORY}",
        found="its NvMap refuses memory that is free (the fix of CVE-2025-33177): error 12, or out of memory",
        status="broken",
        needed_for="models near the size of the memory",
        remedy="a newer L4T by apt (36.5.0 is JetPack 6.2.2), or a smaller model",
    )


def _torch(board: Jetson, torch: Found) -> list[Row]:
    """Nothing where torch is not installed: its own row says that."""
    item, needed_for = "torch for the GPU", "device=cuda"
    for library, (name, remedy) in LIBRARIES.items():
        if torch.status == "broken" and library in (torch.error or ""):
            return [Row(name, f"torch does not find {library}", "broken", "importing torch", remedy)]
    if torch.status != "ok":
        return []
    build, devices = torch.details.get("cuda"), torch.details.get("devices") or []
    if not build:
        return [Row(item, "a build for the CPU: nothing would run on the GPU", "broken", needed_for, SETUP)]
    if not devices:
        said = f"a build for CUDA {build} that finds no device with {board.release}"
        return [Row(item, said, "broken", needed_for, SETUP)]
    return [Row(item, f"a build for CUDA {build} finds {', '.join(devices)}", "ok", needed_for, "")]


def kernel_row(reason: str | None) -> Row:
    """reason: why none ran on the GPU, None where one did."""
    return Row(
        item="kernels on the GPU",
        found=reason or "a product and a convolution in half precision ran",
        status="broken" if reason else "ok",
        needed_for="device=cuda: a wheel without kernels for this GPU imports and finds it all the same",
        remedy=f"{SETUP}; out of memory here means that something else holds it",
    )


def _allocator(environ: Mapping[str, str]) -> list[Row]:
    name = expandable_segments(environ)
    if name is None:
        return []
    return [
        Row(
            item=name,
            found="has expandable_segments: on a Jetson that is out of memory with most of it free",
            status="broken",
            needed_for="device=cuda",
            remedy=f"unset {name}",
        )
    ]
