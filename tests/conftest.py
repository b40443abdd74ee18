"""Test processes that run side by side have one core each."""

import os

ALL_CORES = "F5BENCH_TEST_CORES"


def pytest_configure() -> None:
    """Keeps a process of ``pytest -n`` and all that it starts on one core.

    A measuring process takes as many threads as it has cores, and its threads wait for each other without sleep, as
    they should where nothing else runs. Beside another test they wait for a core: four times the work, unpinned.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    os.environ[ALL_CORES] = ",".join(map(str, cores))  # for tests of machines that have more than one
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
