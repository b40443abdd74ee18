"""The power mode of a Jetson, and whether its clocks are locked: both decide how fast it is, neither is its name.

The mode is nvpmodel's, by its own word or by the file that it keeps; the governor of a processor is no power mode.
Locked means that the lowest and the highest frequency are one, on the GPU and on every CPU policy: that is what
jetson_clocks does, and any later call of nvpmodel undoes it without a word.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from experiments.jetson.tree import NoValue, Tree, answer_of

PATIENCE_S = 0.7  # nvpmodel answers in some hundredths of a second, or hangs in a driver
STATUS, CATALOGUE = "var/lib/nvpmodel/status", "etc/nvpmodel.conf"
GPU_NODES = ("gpu", "ga10b", "gv11b", "gp10b", "gb10b")
GPU_FOLDER = "gpu-gpc-0"  # Thor; its gpu-nvd-0 is the video engines'
POLICIES = "sys/devices/system/cpu/cpufreq/policy*"

Clocks = Literal["locked", "unlocked"]


@dataclass(frozen=True)
class PowerMode:
    """The number and the name that nvpmodel gives it; the fastest mode is not the one of the highest number."""

    id: int | None
    name: str | None

    def __str__(self) -> str:
        """MAXN (id 0)."""
        if self.name is None:
            return f"id {self.id}"
        return self.name if self.id is None else f"{self.name} (id {self.id})"

    @property
    def slug(self) -> str:
        """maxn, 30w, maxn-super; mode-2 where only the number is known."""
        if self.name is None:
            return f"mode-{self.id}"
        plain = re.sub(r"^mode_", "", self.name.lower())
        return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or f"mode-{self.id}"


def read_power_mode(tree: Tree, patience_s: float = PATIENCE_S) -> PowerMode:
    """By nvpmodel's own word, else by its file. Raises NoValue with both reasons."""
    try:
        return _asked(patience_s)
    except NoValue as first:
        try:
            return _stored(tree)
        except NoValue as second:
            raise NoValue(f"{first}; {second}") from second


def _asked(patience_s: float) -> PowerMode:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
    program = shutil.which("nvpmodel", path=path)
    if program is None:
        raise NoValue("nvpmodel: is not installed")
    return parse_nvpmodel(answer_of([program, "-q"], patience_s))


def parse_nvpmodel(said: str) -> PowerMode:
    """What `nvpmodel -q` prints: the name behind "NV Power Mode:", the number on a line of its own. Raises NoValue."""
    name = re.search(r"^NV Power Mode:[ \t]*(\S.*?)[ \t]*$", said, re.MULTILINE)
    number = re.search(r"^\s*(\d+)\s*$", said, re.MULTILINE)
    if name is None:
        raise NoValue("nvpmodel -q: names no power mode")
    return PowerMode(id=int(number.group(1)) if number else None, name=name.group(1))


def _stored(tree: Tree) -> PowerMode:
    said = tree.text(STATUS)
    found = re.search(r"\bpmode:\s*(\d+)", said)
    if found is None:
        raise NoValue(f"/{STATUS}: says {said[:40]!r}, which names no power mode")
    number = int(found.group(1))
    try:
        catalogue = tree.text(CATALOGUE)
    except NoValue:
        return PowerMode(id=number, name=None)
    names = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", catalogue)
    return PowerMode(id=number, name={int(key): name for key, name in names}.get(number))


def read_clocks(tree: Tree) -> Clocks:
    """Raises NoValue where a frequency cannot be read and none that can is free to change."""
    try:
        limits = [*_gpu_limits(tree), *_cpu_limits(tree)]
    except _Free:
        return "unlocked"
    unread = [limit for limit in limits if isinstance(limit, NoValue)]
    if unread:
        raise unread[0]
    return "locked"


class _Free(Exception):
    """One that may change is enough."""


def _limits(tree: Tree, lowest: str, highest: str) -> NoValue | None:
    """None where both are one frequency, the reason where they cannot be read. Raises _Free where they differ."""
    try:
        low, high = tree.number(lowest), tree.number(highest)
    except NoValue as error:
        return error
    if low != high:
        raise _Free
    return NoValue(f"/{highest}: says {high}, which is no frequency") if high <= 0 else None


def _gpu_limits(tree: Tree) -> Iterator[NoValue | None]:
    folder = gpu_folder(tree)
    if folder is None:
        # Not raised: a CPU that is free to change decides without the GPU
        yield NoValue("/sys/class/devfreq: holds no GPU")
    else:
        yield _limits(tree, f"{folder}/min_freq", f"{folder}/max_freq")


def gpu_folder(tree: Tree) -> str | None:
    """The GPU's clock below /sys/class/devfreq: by the name of its folder, else by that of its node."""
    folders = tree.names("sys/class/devfreq/*")
    for folder in folders:
        name = folder.rpartition("/")[2]
        if name == GPU_FOLDER or name.partition(".")[2] in GPU_NODES:
            return folder
    for folder in folders:
        for node in (f"{folder}/of_node/name", f"{folder}/device/of_node/name"):
            if tree.text_or_none(node) in GPU_NODES:
                return folder
    return None


def _cpu_limits(tree: Tree) -> Iterator[NoValue | None]:
    """A policy of cores that the power mode has switched off names none of them, and has no frequency."""
    policies = tree.names(POLICIES)
    if not policies:
        yield NoValue("/sys/devices/system/cpu/cpufreq: holds no policy")
    for folder in policies:
        if tree.text_or_none(f"{folder}/affected_cpus") != "":
            yield _limits(tree, f"{folder}/scaling_min_freq", f"{folder}/scaling_max_freq")
