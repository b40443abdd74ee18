"""What this process's control groups grant: the smallest limit from its own group up to the root, versions 1 and 2.

A group inside a limited one shows no limit of its own (a service of systemd, a container in a pod), and a container
without a namespace of its own is named by a path that its mount does not show; so every level that can be read counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")
MOUNT = "sys/fs/cgroup"
UNIFIED = ("", "unified")  # where version 2 is mounted, alone and beside version 1


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs, None without a limit. root: of the file system, for tests."""
    found = [_cpu_max(folder / "cpu.max") for folder in _levels(root, "")]
    found += [_cfs(folder) for folder in _levels(root, "cpu")]
    return min((one for one in found if one is not None), default=None)


def memory_limit_bytes(root: Path = ROOT) -> int | None:
    """None without a limit; version 1 writes a number beyond any machine for that."""
    found = [_whole(folder / "memory.max") for folder in _levels(root, "")]
    found += [_whole(folder / "memory.limit_in_bytes") for folder in _levels(root, "memory")]
    return min((one for one in found if one is not None and one > 0), default=None)


def _levels(root: Path, controller: str) -> Iterator[Path]:
    """This process's group of a controller ("" for version 2) and all above it, where they are mounted."""
    mounts = [root / MOUNT / name for name in (UNIFIED if controller == "" else _names(root, controller))]
    path = _path_of(root, controller)
    for mount in mounts:
        for level in (path, *path.parents):
            yield mount / level.relative_to("/")


def _names(root: Path, controller: str) -> list[str]:
    """Folders of version 1: "cpu" is a link to "cpu,cpuacct" on most machines, not on all."""
    together = [names for _, names, _ in _groups(root) if controller in names.split(",")]
    return list(dict.fromkeys([controller, *together]))


def _path_of(root: Path, controller: str) -> PurePosixPath:
    for number, names, path in _groups(root):
        if (controller == "" and number == "0") or (controller and controller in names.split(",")):
            # Above the namespace's root there is nothing to see
            return PurePosixPath("/", *(part for part in PurePosixPath(path).parts if part not in ("/", "..")))
    return PurePosixPath("/")


def _groups(root: Path) -> list[tuple[str, str, str]]:
    """(hierarchy, controllers, path) of /proc/self/cgroup."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    parts = [line.split(":", 2) for line in lines]
    return [(part[0], part[1], part[2]) for part in parts if len(part) == 3]


def _cpu_max(path: Path) -> float | None:
    try:
        limit, period = path.read_text("utf-8").split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _cfs(folder: Path) -> float | None:
    limit_us, period_us = _whole(folder / "cpu.cfs_quota_us"), _whole(folder / "cpu.cfs_period_us")
    return limit_us / period_us if limit_us is not None and period_us and limit_us > 0 else None


def _whole(path: Path) -> int | None:
    try:
        return int(path.read_text("utf-8"))
    except (OSError, ValueError):  # no such file, "max"
        return None
