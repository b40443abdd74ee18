"""A machine's folder for jobs, which may be shared with machines that know nothing of its processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.fleet.node import work_folder


def test_what_a_killed_server_left_goes_and_what_a_living_one_works_in_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path))
    left = tmp_path / "fleet" / "jobs" / "left"
    left.mkdir(parents=True)
    (left / ".held").touch()
    with work_folder() as living:
        assert not left.exists()
        with work_folder() as other:
            assert living.is_dir()
            assert other != living
        assert not other.exists()
    assert not living.exists()
