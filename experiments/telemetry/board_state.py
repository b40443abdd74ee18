"""What slows a Jetson down, and what is left of its memory: read once a second, each file for itself."""

from __future__ import annotations

import re

from experiments.jetson.mode import gpu_folder
from experiments.jetson.tree import Tree
from metrics.power.telemetry import State
from metrics.power.throttling import Slowed

CONSTANT = "PMIC"  # this zone of old boards says 100 degrees whatever happens
COUNTERS = ("oc1", "oc2", "oc3")
COUNTER_FOLDERS = ("sys/devices/platform/soctherm-oc-event/hwmon/hwmon*", "sys/class/hwmon/hwmon*")
THROTTLES = re.compile(r"-throttle-alert$|^hot-surface-alert$|^devfreq-gpu-gpc")
FULL_FAN = 255
KIB = 1024


def read_slowed(tree: Tree) -> Slowed:
    """Counters since the board was started, and what throttles now; without what cannot be read."""
    events = {}
    folder = _counter_folder(tree)
    for name in COUNTERS if folder is not None else ():
        count = tree.number_or_none(f"{folder}/{name}_event_cnt")
        if count is not None:
            events[name] = count
    return Slowed(events=events, acting=_acting(tree))


def _counter_folder(tree: Tree) -> str | None:
    for pattern in COUNTER_FOLDERS:
        for name in tree.names(f"{pattern}/oc1_event_cnt"):
            return name.rpartition("/")[0]
    return None


def _acting(tree: Tree) -> tuple[str, ...] | None:
    """One that is seen to act decides; nothing acts where every one was read, of which there must be one."""
    states: list[tuple[str, int | None]] = []
    for name in tree.names("sys/class/thermal/cooling_device*/type"):
        kind = tree.text_or_none(name)
        if kind is None:
            states.append((name, None))
        elif THROTTLES.search(kind):
            states.append((kind, tree.number_or_none(name.replace("/type", "/cur_state"))))
    found = tuple(kind for kind, state in states if state is not None and state > 0)
    is_known = bool(states) and all(state is not None for _, state in states)
    return found if found or is_known else None


def read_state(tree: Tree) -> State:
    """Temperatures, throttles, counters, memory, fan, GPU: only what has a value now. A gated zone has none."""
    slowed = read_slowed(tree)
    state: State = {**_memory(tree), **_gpu(tree)}
    if zones_c := _zones_c(tree):
        state["zones_c"] = zones_c
    if slowed.events:
        state["events"] = dict(slowed.events)
    if slowed.acting is not None:
        state["throttles"] = list(slowed.acting)
    if (fan_frac := _fan_frac(tree)) is not None:
        state["fan_frac"] = fan_frac
    return state


def _zones_c(tree: Tree) -> dict[str, float]:
    found = {}
    for name in tree.names("sys/class/thermal/thermal_zone*/type"):
        kind, milli_c = tree.text_or_none(name), tree.number_or_none(name.replace("/type", "/temp"))
        if kind and not kind.startswith(CONSTANT) and milli_c is not None and milli_c > -256_000:
            found[kind] = milli_c / 1000
    return found


def _memory(tree: Tree) -> State:
    said = tree.text_or_none("proc/meminfo") or ""
    values = {name: int(kib) * KIB for name, kib in re.findall(r"^(\w+):\s*(\d+) kB", said, re.MULTILINE)}
    found: State = {"mem_available_bytes": values["MemAvailable"]} if "MemAvailable" in values else {}
    if {"SwapTotal", "SwapFree"} <= set(values):
        found["swap_used_bytes"] = values["SwapTotal"] - values["SwapFree"]
    return found


def _gpu(tree: Tree) -> State:
    """A frequency of 0 is a GPU that is switched off, not one without a value."""
    folder = gpu_folder(tree)
    loads = tree.names("sys/devices/platform/*.g*/load") + tree.names("sys/devices/platform/bus@0/*.gpu/load")
    per_mille = tree.number_or_none(loads[0]) if loads else None
    hz = None if folder is None else tree.number_or_none(f"{folder}/cur_freq")
    found: State = {} if hz is None else {"gpu_hz": hz}
    return found if per_mille is None else {**found, "gpu_load_frac": per_mille / 1000}


def _fan_frac(tree: Tree) -> float | None:
    for name in tree.names("sys/class/hwmon/hwmon*/pwm1"):
        if tree.text_or_none(name.replace("/pwm1", "/name")) == "pwmfan":
            pwm = tree.number_or_none(name)
            return None if pwm is None else pwm / FULL_FAN
    return None
