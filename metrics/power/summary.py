"""What a telemetry.jsonl says in a few figures: watts, heat and throttling, for a record and its report."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise

from metrics.parts.environment import PowerSeen
from metrics.power.telemetry import Line

GPU_ZONE = "gpu"  # a card's own thermometer, which has no zone


def summary_of(entries: Sequence[Line]) -> PowerSeen:
    """entries: the lines of a telemetry.jsonl, its head first. Only what was read is in it; {} where nothing was.

    power_mean_w: over the samples, idle time included; throttles: whatever acted at any sample; events: what the
    board's counters rose by; swap_grew_bytes: from the first sample to the highest, where it did; longest_gap_s:
    between two samples of power.
    """
    if not entries:
        return {}
    head, samples = entries[0], entries[1:]
    power = [entry for entry in samples if entry.get("kind") == "power"]
    watts = [float(entry["total_w"]) for entry in power if "total_w" in entry]
    times_s = [float(entry["t_s"]) for entry in power]
    hottest = max(temperatures_c(samples), default=None)
    found: PowerSeen = {}
    if (source := head.get("source")) is not None:
        found["source"] = source
    if (rule := head.get("rule")) is not None:
        found["rule"] = rule
    if power:
        found["num_samples"] = len(power)
    if watts:
        found["power_mean_w"], found["power_max_w"] = statistics.fmean(watts), max(watts)
    if len(times_s) > 1:
        found["longest_gap_s"] = max(two - one for one, two in pairwise(times_s))
    if hottest is not None:
        found["hottest_c"], found["hottest_zone"] = hottest
    if (throttles := _throttles(samples)) is not None:
        found["throttles"] = throttles
    if (events := _events(samples)) is not None:
        found["events"] = events
    if (grew := _swap_grew_bytes(samples)) is not None:
        found["swap_grew_bytes"] = grew
    return found


def temperatures_c(samples: Iterable[Line]) -> list[tuple[float, str]]:
    """(degrees, zone) of everything that was read."""
    found = [(float(value), str(zone)) for entry in samples for zone, value in entry.get("zones_c", {}).items()]
    return [*found, *((float(entry["gpu_c"]), GPU_ZONE) for entry in samples if "gpu_c" in entry)]


def _throttles(samples: Sequence[Line]) -> list[str] | None:
    """None where nobody looked: an empty list says that nothing throttled."""
    looked = [entry["throttles"] for entry in samples if "throttles" in entry]
    return sorted({name for names in looked for name in names}) if looked else None


def _swap_grew_bytes(samples: Sequence[Line]) -> int | None:
    """Memory did not suffice: something was written out while it was measured."""
    used = [int(entry["swap_used_bytes"]) for entry in samples if "swap_used_bytes" in entry]
    return max(used) - used[0] or None if used else None


def _events(samples: Sequence[Line]) -> dict[str, int] | None:
    counted = [entry["events"] for entry in samples if entry.get("events")]
    if len(counted) < 2:
        return None
    return {name: counted[-1][name] - first for name, first in counted[0].items() if name in counted[-1]}
