"""Which Jetson this is: board, release, power mode, clocks, memory, carrier. What cannot be read has a reason.

Names of modules are those of the device tree (kernel, tegra234-p3701.dtsi, tegra234-p3767.dtsi); nvidia-smi and
/proc/cpuinfo call every Orin by one name, and the number of cores follows the power mode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from experiments.jetson.mode import Clocks, PowerMode, read_clocks, read_power_mode
from experiments.jetson.tree import NoValue, Tree
from metrics.parts.environment import Board

Value = TypeVar("Value")

RELEASE, COMPATIBLE, MODEL = "etc/nv_tegra_release", "proc/device-tree/compatible", "proc/device-tree/model"
TITLES = {"agx-orin": "AGX Orin", "orin-nx": "Orin NX", "orin-nano": "Orin Nano", "thor": "Thor"}
# module -> (family, memory in GB; None where the same number was sold with more than one)
MODULES: Mapping[str, tuple[str, int | None]] = {
    "p3701-0000": ("agx-orin", None), "p3701-0004": ("agx-orin", 32), "p3701-0005": ("agx-orin", 64),
    "p3767-0000": ("orin-nx", 16), "p3767-0001": ("orin-nx", 8),
    "p3767-0003": ("orin-nano", 8), "p3767-0004": ("orin-nano", 4), "p3767-0005": ("orin-nano", 8),
    "p3834-0008": ("thor", None),
}  # fmt: skip
FAMILIES = {"p3701": "agx-orin", "p3834": "thor"}  # of a module whose number is not known; p3767 is two families
MODULE_PREFIXES = ("p3701", "p3767", "p3834")
MEMORY_GB = (4, 8, 16, 32, 64, 128)  # what is sold; the kernel shows a little less
BYTES_PER_GIB = 2**30
# The longest that fits decides: 38.4 is in 38.4.0
JETPACKS = {
    "32": "4", "35": "5", "36.3": "6.0", "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1",
    "36.5.0": "6.2.2", "36.5.2": "6.2.3", "38.2": "7.0", "38.4": "7.1", "39.2.0": "7.2", "39.2.1": "7.2.1",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Jetson:
    """family: agx-orin, orin-nx, orin-nano, thor, or a slug of what the device tree says. unknown: what -> why not."""

    family: str
    memory_gb: int | None
    memory_bytes: int | None
    model: str | None
    module: str | None
    carrier: str | None
    l4t: str | None
    jetpack: str | None
    mode: PowerMode | None
    clocks: Clocks | None
    unknown: Mapping[str, str]

    @property
    def title(self) -> str:
        """Jetson AGX Orin 64GB."""
        memory = "" if self.memory_gb is None else f" {self.memory_gb}GB"
        return f"Jetson {TITLES.get(self.family, self.family)}{memory}"

    def host_class(self, kind: str) -> str:
        """jetson-agx-orin-64gb-maxn-locked-cuda; without a number of cores, which the mode decides."""
        memory = "" if self.memory_gb is None else f"{self.memory_gb}gb"
        mode = "mode-unknown" if self.mode is None else self.mode.slug
        parts = ("jetson", self.family, memory, mode, self.clocks or "clocks-unknown", kind.partition(":")[0])
        return "-".join(part for part in parts if part)

    @property
    def power_mode(self) -> str | None:
        return None if self.mode is None else str(self.mode)

    @property
    def release(self) -> str:
        """JetPack 6.2.1 (L4T 36.4.4)."""
        return f"JetPack {self.jetpack or 'unknown'} (L4T {self.l4t or 'unknown'})"

    def content(self) -> Board:
        """For a record's environment."""
        return {
            "board": self.title, "family": self.family, "model": self.model, "module": self.module,
            "carrier": self.carrier, "l4t": self.l4t, "jetpack": self.jetpack,
            "mode_id": None if self.mode is None else self.mode.id,
            "mode_name": None if self.mode is None else self.mode.name,
            "clocks": self.clocks, "memory_bytes": self.memory_bytes, "unknown": dict(self.unknown),
        }  # fmt: skip


def is_jetson(tree: Tree) -> bool:
    """Two questions to the file system elsewhere. Not the release file alone: containers often lack it."""
    if tree.has_file(RELEASE):
        return True
    try:
        return tree.has_file(COMPATIBLE) and "nvidia,tegra" in tree.text(COMPATIBLE)
    except NoValue:
        return False


def read_jetson(tree: Tree | None = None) -> Jetson | None:
    """None where this is no Jetson: then nothing is read and no program is asked."""
    tree = Tree() if tree is None else tree
    if not is_jetson(tree):
        return None
    unknown: dict[str, str] = {}

    def known(key: str, read: Callable[[Tree], Value]) -> Value | None:
        try:
            return read(tree)
        except NoValue as error:
            unknown[key] = str(error)
            return None

    model = known("model", lambda tree: tree.text(MODEL))
    compatible = known("board", lambda tree: tree.text(COMPATIBLE))
    memory_bytes = known("memory", _memory_bytes)
    l4t = known("l4t", _l4t)
    carrier, module = _parts(compatible or "")
    family, memory_gb = MODULES.get(module or "", (_family(module, model), None))
    jetpack = None if l4t is None else jetpack_of(l4t)
    if l4t is not None and jetpack is None:
        unknown["jetpack"] = f"L4T {l4t} is none of those that are known here"
    return Jetson(
        family=family, memory_gb=memory_gb or _sold_gb(memory_bytes), memory_bytes=memory_bytes, model=model,
        module=module, carrier=carrier, l4t=l4t, jetpack=jetpack, mode=known("mode", read_power_mode),
        clocks=known("clocks", read_clocks), unknown=unknown,
    )  # fmt: skip


def state_change(before: Mapping[str, object], after: Jetson | None) -> str | None:
    """What of mode and clocks is another after a run, None where nothing is. before: the content of its record."""
    if after is None:
        return "this was a Jetson when the run began, and is none now"
    now, changed = after.content(), []
    then_mode, now_mode = ((known.get("mode_id"), known.get("mode_name")) for known in (before, now))
    if then_mode != now_mode:
        changed.append(f"the power mode was {_mode_text(then_mode)} and is {_mode_text(now_mode)}")
    if before.get("clocks") != now["clocks"]:
        changed.append(f"the clocks were {before.get('clocks') or 'unknown'} and are {now['clocks'] or 'unknown'}")
    return " and ".join(changed) or None


def _mode_text(mode: tuple[Any, Any]) -> str:
    return "unknown" if mode == (None, None) else str(PowerMode(id=mode[0], name=mode[1]))


def jetpack_of(l4t: str) -> str | None:
    """6.2.1 of 36.4.4, None of a release that is not known."""
    parts = l4t.split(".")
    for length in range(len(parts), 0, -1):
        found = JETPACKS.get(".".join(parts[:length]))
        if found is not None:
            return found
    return None


def _l4t(tree: Tree) -> str:
    """36.4.4 of "# R36 (release), REVISION: 4.4, ...". Raises NoValue."""
    said = tree.text(RELEASE)
    found = re.search(r"\bR(\d+)\b.*?\bREVISION:\s*(\d+(?:\.\d+)*)", said)
    if found is None:
        raise NoValue(f"/{RELEASE}: says {said[:40]!r}, which names no release")
    return f"{found.group(1)}.{found.group(2)}"


def _memory_bytes(tree: Tree) -> int:
    found = re.search(r"^MemTotal:\s*(\d+) kB", tree.text("proc/meminfo"), re.MULTILINE)
    if found is None:
        raise NoValue("/proc/meminfo: names no MemTotal")
    return int(found.group(1)) * 1024


def _sold_gb(memory_bytes: int | None) -> int | None:
    """The smallest size on sale that holds what the kernel shows."""
    if memory_bytes is None:
        return None
    return next((size for size in MEMORY_GB if size * BYTES_PER_GIB >= memory_bytes), None)


def _parts(compatible: str) -> tuple[str | None, str | None]:
    """(carrier, module) of "nvidia,p3737-0000+p3701-0005": numbers of parts, None where they are not there."""
    parts = re.findall(r"p\d{4}-\d{4}", compatible)
    module = next((part for part in parts if part.startswith(MODULE_PREFIXES)), None)
    carrier = next((part for part in parts if not part.startswith(MODULE_PREFIXES)), None)
    return carrier, module


def _family(module: str | None, model: str | None) -> str:
    """Of a module that is not in the table: what is sure, else its own name or the device tree's."""
    if module is not None:
        return FAMILIES.get(module.partition("-")[0], module)
    plain = re.sub(r"\bnvidia\b|\bjetson\b", " ", (model or "").lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "unknown"
