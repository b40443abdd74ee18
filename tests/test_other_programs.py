"""What other programs take of the cores: seen where there are some, never taken from our own children."""

import os
import subprocess
import sys
import time

import pytest

from experiments.compare.other_programs import CpuUse, cpu_use, others_frac
from experiments.compare.session import _same_environment, _warn_of_others
from experiments.compare.settings import read_settings
from tests.test_paired_rule import LIMITS, blocks, judge

BUSY = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"


def use(all_s: float, ours_s: float, at_s: float) -> CpuUse:
    return CpuUse(all_s=all_s, ours_s=ours_s, at_s=at_s, num_cores=2)


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (use(20.0, 10.0, 10.0), 0.5),  # one of two cores
        (use(10.0, 10.0, 10.0), 0.0),
        (use(9.5, 10.0, 10.0), 0.0),  # counted in hundredths, rounded
        (use(40.0, 0.0, 10.0), 1.0),
        (use(1.0, 0.0, 0.9), None),  # too short for the kernel's ticks
    ],
)
def test_the_share_of_others(after: CpuUse, found: float | None) -> None:
    assert others_frac(use(0.0, 0.0, 0.0), after) == found


def test_children_that_ended_are_ours() -> None:
    before = cpu_use()
    subprocess.run([sys.executable, "-c", BUSY.format(1.2)], check=True)
    after = cpu_use()
    assert after.ours_s - before.ours_s == pytest.approx(1.2, abs=0.4)
    assert after.all_s - before.all_s >= 1.0


def test_children_that_still_run_are_ours() -> None:
    before = cpu_use()
    with subprocess.Popen([sys.executable, "-c", BUSY.format(0.5) + "\nprint(flush=True); time.sleep(60)"],
                          stdout=subprocess.PIPE) as child:  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        after = cpu_use()
        child.kill()
    assert after.ours_s - before.ours_s >= 0.45


def test_a_program_that_is_not_ours_is_seen() -> None:
    """A grandchild whose parent has ended is nobody's of ours, on our core."""
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {BUSY.format(3)!r}])"
    cores = len(os.sched_getaffinity(0))
    subprocess.run([sys.executable, "-c", code], check=True)
    before, until = cpu_use(), time.monotonic() + 2.0
    while time.monotonic() < until:
        pass
    found = others_frac(before, cpu_use())
    assert found is not None
    assert found > 0.15 / cores


def test_a_comparison_beside_other_programs_decides_nothing() -> None:
    verdict = judge(blocks(2.0, 2.0, 2.0, 2.0), LIMITS)
    assert verdict.outcome == "FAIL"
    seen = {"host_class": "x", "other_cpu_meanwhile_frac": 0.6}
    void = _same_environment(verdict, seen, seen, 0.25)
    assert (void.outcome, void.exit_code) == ("INVALID_ENV", 12)
    assert void.reason == (
        "other programs kept 60 % of the cores busy meanwhile, allowed are 25 % (compare.other_cpu_frac): they slow "
        "one side more than the other; run again when they have ended"
    )
    for others, limit in ((0.2, 0.25), (0.6, None), (None, 0.25)):
        assert _same_environment(verdict, {**seen, "other_cpu_meanwhile_frac": others}, seen, limit) == verdict


def test_it_is_said_before_anything_is_measured() -> None:
    said: list[str] = []
    for now in (0.1, 0.9):
        _warn_of_others(now, read_settings([]).asked.other_cpu_frac, said.append)
    assert said == [
        "warning: other programs keep 90 % of the cores busy; if they go on, nothing is decided "
        "(compare.other_cpu_frac=0.25)"
    ]
