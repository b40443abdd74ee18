"""Limits of control groups, at any depth, of both versions, in trees that are written here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.common import environment
from experiments.common.cgroup import cpu_quota, memory_limit_bytes


def tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


V1 = "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n"


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a.slice/b\n", {"a.slice/cpu.max": "50000 100000", "a.slice/b/cpu.max": "max 100000"}, 0.5),
        ("0::/a/b/c\n", {"a/cpu.max": "300000 100000", "a/b/c/cpu.max": "400000 100000"}, 3.0),
        ("0::/a/b\n", {"other/cpu.max": "100000 100000"}, None),
        ("0::/../../pod\n", {"cpu.max": "150000 100000"}, 1.5),  # a namespace below the pod
        (V1, {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 1.5),  # a mount without the path
        (V1, {"cpu/docker/cpu.cfs_quota_us": "100000", "cpu/docker/cpu.cfs_period_us": "100000",
              "cpu/docker/abc/cpu.cfs_quota_us": "-1", "cpu/docker/abc/cpu.cfs_period_us": "100000"}, 1.0),
        (V1, {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "200000",
              "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000"}, 2.0),
        (V1 + "0::/docker/abc\n", {"unified/docker/cpu.max": "100000 100000"}, 1.0),
        ("", {"cpu.max": "not two words at all"}, None),
        ("0::/a\n", {"a/cpu.max": "100000 0"}, None),
        ("", {}, None),
    ],
)  # fmt: skip
def test_the_smallest_quota_on_the_way_up_counts(
    groups: str, files: dict[str, str], cpus: float | None, tmp_path: Path
) -> None:
    assert cpu_quota(tree(tmp_path, groups, files)) == cpus


@pytest.mark.parametrize(
    ("groups", "files", "num_bytes"),
    [
        ("0::/a/b\n", {"a/memory.max": "1073741824", "a/b/memory.max": "max"}, 1 << 30),
        (V1, {"memory/docker/memory.limit_in_bytes": "1073741824",
              "memory/docker/abc/memory.limit_in_bytes": "9223372036854771712"}, 1 << 30),
        ("0::/\n", {"memory.max": "max"}, None),
    ],
)  # fmt: skip
def test_memory_likewise(groups: str, files: dict[str, str], num_bytes: int | None, tmp_path: Path) -> None:
    assert memory_limit_bytes(tree(tmp_path, groups, files)) == num_bytes


@settings(max_examples=40, deadline=None)
@given(quotas=st.lists(st.none() | st.integers(1, 1 << 20), min_size=1, max_size=6), data=st.data())
def test_any_depth_gives_the_smallest(
    quotas: list[int | None], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = [f"g{i}" for i in range(len(quotas))]
    files = {
        "/".join([*names[: i + 1], "cpu.max"]): f"{'max' if quota is None else quota} 100000\n"
        for i, quota in enumerate(quotas)
    }
    root = tree(tmp_path_factory.mktemp("tree"), f"0::/{'/'.join(names)}\n", files)
    known = [quota for quota in quotas if quota is not None]
    assert cpu_quota(root) == (min(known) / 100000 if known else None)


def test_cores_and_threads_keep_to_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "cpu_quota", lambda: 1.5)
    assert environment.usable_cores() == 1
    assert environment.num_threads({"threads": None}) == 1
    monkeypatch.setattr(environment, "memory_limit_bytes", lambda: 1 << 20)
    assert environment.memory_bytes() == 1 << 20
