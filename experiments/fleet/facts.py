"""What a machine says of itself, and which machines are equal: host class, versions, driver and clocks must agree.

Machines of one host class that differ in anything else that decides a time are two groups with tables of their own,
and the reason is said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from engine.contract import ConfigError
from engine.settings import DeviceSettings
from experiments.common.environment import fingerprint
from experiments.common.sources import package_versions
from experiments.doctor.host import driver_version
from experiments.settings.identity import STABLE
from metrics.record import to_json

RESOURCE = "f5_host:"  # of Ray, followed by the host class
DEVICE = "f5_device"  # of Ray: one measurement at a time on a machine
# Loopback too, and none of the names that Ray replaces by the address of a network card
LOOPBACK = "127.0.0.2"
KINDS = ("cpu", "cuda:0")
ROUGH = ("memory_bytes",)  # two machines of one make differ by what their firmware keeps
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SHOWN = 3  # differences that are named

Facts = Mapping[str, object]  # compared and hashed; nobody reads one of them


def facts_of(device: DeviceSettings) -> dict[str, object]:
    """Everything of this machine that decides a time and does not pass: no load, no hour, no commit."""
    known = fingerprint(device)
    kept = {name: known.get(name) for name in STABLE if name not in ROUGH}
    return {
        **kept, "memory_gib": round(known["memory_bytes"] / (1 << 30)), "packages": package_versions(),
        "driver": None if known["device"] == "cpu" else driver_version(), "clocks": known.get("jetson"),
    }  # fmt: skip


def offered(device: str | None) -> dict[str, int]:
    """What Ray is told that this machine has: its host classes, and one measurement at a time.

    device: cpu, cuda, both; None: the GPU where there is one. Raises ConfigError for a GPU that is not there.
    """
    devices: list[DeviceSettings] = [{"name": kind, "kind": kind, "threads": None} for kind in KINDS]
    known = {one["kind"].partition(":")[0]: fingerprint(one) for one in devices}
    has_gpu = known["cuda"]["gpu"] is not None
    if device in ("cuda", "both") and not has_gpu:
        raise ConfigError("join", device, "there is no NVIDIA GPU here that its driver names", "join with cpu")
    wanted = {"both": ("cpu", "cuda"), None: ("cuda",) if has_gpu else ("cpu",)}.get(device, (device,))
    return {**{f"{RESOURCE}{known[str(kind)]['host_class']}": 1 for kind in wanted}, DEVICE: 1}


def environment_of(facts: Facts) -> str:
    """The part of a cell key that stands for the machine."""
    return hashlib.sha256(to_json(facts).encode()).hexdigest()[:16]


def differences(facts: Facts, others: Facts) -> list[str]:
    """`kernel 6.1.0, 6.8.0` for each that differs; of nested facts the key that does."""
    found = []
    for name in sorted({*facts, *others}):
        one, other = facts.get(name), others.get(name)
        if one == other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += [f"{name}.{inner}" for inner in differences(one, other)]
        else:
            found.append(f"{name} {_short(one)}, {_short(other)}")
    return found


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass(frozen=True, kw_only=True, slots=True)
class HostClass:
    """What a table is made of: machines of a host class that agree in all facts. reason: why the class is split."""

    name: str
    host_class: str
    kind: str
    environment: str
    facts: Facts
    reason: str | None = None


def classes_of(found: Iterable[tuple[str, Facts]]) -> list[HostClass]:
    """The groups of (host class, facts), in order of their names. A class that is not split keeps its name; the parts
    of one that is are called by the first digits of their environment."""
    by_class: dict[str, dict[str, Facts]] = {}
    for host_class, facts in found:
        by_class.setdefault(host_class, {})[environment_of(facts)] = facts
    groups = []
    for host_class, kinds in sorted(by_class.items()):
        first = next(iter(kinds.values()))
        for environment, facts in sorted(kinds.items()):
            other = first if facts is not first else next((one for one in kinds.values() if one is not first), first)
            said = differences(facts, other)
            groups.append(HostClass(
                name=host_class if len(kinds) == 1 else f"{host_class}-{environment[:6]}", host_class=host_class,
                kind=str(facts["device"]), environment=environment, facts=facts,
                reason=None if len(kinds) == 1 else f"machines of {host_class} differ: {_listed(said)}",
            ))  # fmt: skip
    return groups


def _listed(said: Sequence[str]) -> str:
    more = f" and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
    return "; ".join(said[:SHOWN]) + more


def chosen(patterns: Sequence[str] | None, known: Sequence[str], device: str | None) -> list[str]:
    """The host classes that sweep.hosts names; all where it is null. device: cpu or cuda, where the command line says
    so, and then of that device alone. Raises ConfigError for a pattern that fits nothing."""
    fitting = sorted({name for name in known if device is None or _kind(name) == device.partition(":")[0]})
    if not fitting:
        held = f"device {device}: " if device else ""
        raise ConfigError(
            "sweep.hosts", "null" if patterns is None else f"[{','.join(patterns)}]",
            f"{held}the fleet has {', '.join(sorted(known)) or 'no machine'}",
            "let a machine join with `python -m experiments.fleet join HOST:PORT`",
        )  # fmt: skip
    if patterns is None:
        return fitting
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in fitting):
            raise ConfigError(
                "sweep.hosts", pattern, f"is no host class of the fleet; there are {', '.join(fitting)}",
                "name one of them, or a pattern such as 'jetson-*'",
            )  # fmt: skip
    return [name for name in fitting if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _kind(host_class: str) -> str:
    """cpu or cuda: the last part of a host class."""
    return host_class.rpartition("-")[2]


def boot_id() -> str | None:
    """Equal for all that share a running kernel, containers included; None where nobody says."""
    return BOOT_ID.read_text(encoding="ascii").strip() if BOOT_ID.is_file() else None
