"""metrics.speed.memory: readings of this very process."""

import mmap
import sys

import numpy as np
import pytest

from metrics.speed.memory import read_memory, reset_peak

MIB = 2**20


def test_a_reading_is_plausible():
    reading = read_memory()
    assert 5 * MIB < reading.rss_bytes <= reading.peak_rss_bytes
    assert reading.pss_bytes is None or 0 < reading.pss_bytes <= reading.rss_bytes * 1.1


def test_memory_that_is_written_to_is_resident():
    # a map of our own: malloc may hand out pages that are resident already
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        before = read_memory().rss_bytes
        block.write(bytes(64 * MIB))
        assert read_memory().rss_bytes - before > 56 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="the resident peak can be reset on Linux only")
def test_the_peak_starts_anew_after_a_reset():
    block = np.ones(64 * MIB, dtype=np.uint8)
    high = read_memory().peak_rss_bytes
    assert block[0] == 1
    del block
    if not reset_peak():
        pytest.skip("this kernel does not permit a reset of the peak")
    assert read_memory().peak_rss_bytes < high - 48 * MIB
