"""What is known of a row's power and heat: figures of its record, and the samples that lie beside it.

The joules are of the energy pass (measure=energy). Heat and throttling are of the timed rounds where the machine was
watched meanwhile, as a Jetson is, and else of the energy pass.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from metrics.parts.environment import Environment, PowerSeen
from metrics.power.figures import ENVIRONMENT, GROSS, IDLE, MEAN, NET
from metrics.power.summary import temperatures_c
from metrics.power.telemetry import Line
from metrics.record import RunRecord
from reports.data.scale import mib
from reports.data.source import Source
from reports.data.table import Row

TELEMETRY = "telemetry.jsonl"
PASS = f"energy/{TELEMETRY}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerUse:
    """seen: the summary of the row's telemetry (metrics.power.summary). how: source and rule of the watts."""

    gross_j: float | None
    net_j: float | None
    mean_w: float | None
    idle_w: float | None
    seen: PowerSeen
    mode: str | None
    how: str | None

    @property
    def swap_grew_mib(self) -> float | None:
        value = self.seen.get("swap_grew_bytes")
        return None if value is None else mib(value)

    @property
    def hottest_c(self) -> float | None:
        return self.seen.get("hottest_c")


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """Over time, from the first sample on. watts, degrees (the hottest zone of each moment), throttled: moments."""

    watts: tuple[tuple[float, float], ...]
    degrees: tuple[tuple[float, float], ...]
    throttled_s: tuple[float, ...]


def power_of(row: Row) -> PowerUse | None:
    """None for a row that shows no speed: joules are per second of speech that can be believed."""
    record = row.cell.record
    if record is None or row.timing is None:
        return None
    env = record.environment
    joules = {
        name: next((score.value for score in record.scores_of(name) if score.status == "ok"), None)
        for name in (GROSS, NET, MEAN, IDLE)
    }
    return PowerUse(
        gross_j=joules[GROSS], net_j=joules[NET], mean_w=joules[MEAN], idle_w=joules[IDLE], seen=seen_of(record),
        mode=_mode(env), how=_how(env.get(ENVIRONMENT) or seen_of(record)),
    )  # fmt: skip


def seen_of(record: RunRecord) -> PowerSeen:
    """The summary of the timed rounds where the machine was watched, else of the energy pass; {} where of neither."""
    return record.environment.get("telemetry") or record.environment.get(ENVIRONMENT) or {}


def samples_of(source: Source, row: Row) -> Samples | None:
    """Of the energy pass where there was one, for its idle and busy time are ten samples a second; else of the run.

    None where nothing was sampled. A last line that was torn off is left out.
    """
    for name in (PASS, TELEMETRY):
        path = source.path_of(row.cell, name)
        if path.is_file():
            found = _samples(path)
            if found.watts or found.degrees:
                return found
    return None


def _samples(path: Path) -> Samples:
    lines: list[Line] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    samples = [line for line in lines if line.get("kind") in ("power", "state")]
    start_s = samples[0]["t_s"] if samples else 0.0
    degrees = [(line["t_s"] - start_s, max(temperatures_c([line]))[0]) for line in samples if temperatures_c([line])]
    return Samples(
        watts=tuple((line["t_s"] - start_s, line["total_w"]) for line in samples if "total_w" in line),
        degrees=tuple(degrees),
        throttled_s=tuple(line["t_s"] - start_s for line in samples if line.get("throttles")),
    )


def _how(seen: PowerSeen) -> str | None:
    """With how far a second opinion is off, where there was one."""
    if not seen.get("rule"):
        return None
    off = seen.get("zeus_difference_frac")
    return f"{seen['source']}, rule {seen['rule']}" + ("" if off is None else f"; {100 * off:+.1f} % of Zeus's joules")


def _mode(environment: Environment) -> str | None:
    """MAXN (id 0), clocks locked; of a machine that has power modes."""
    mode, clocks = environment.get("power_mode"), (environment.get("jetson") or {}).get("clocks")
    return ", ".join(part for part in (mode, clocks and f"clocks {clocks}") if part) or None
