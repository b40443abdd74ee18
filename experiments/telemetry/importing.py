"""A log of tegrastats that somebody has made -> the form of telemetry.jsonl, and what it says in a few lines."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from metrics.power.rails import NoRule, Rule, rule_of, total
from metrics.power.tegrastats import Tegrastats, UnknownForm, parse_tegrastats
from metrics.record import RecordError, to_json, write_atomically

MB = 2**20
CONSTANT = "PMIC"


@dataclass(frozen=True, kw_only=True)
class Log:
    """times_s: since the first line. rule: of the total; None with the reason in no_rule where it is not known."""

    lines: tuple[Tegrastats, ...]
    times_s: tuple[float, ...]
    rule: Rule | None
    no_rule: str | None

    @property
    def totals_w(self) -> list[float]:
        """Of the lines that have every rail of the rule."""
        if self.rule is None:
            return []
        found = [total(line.rails_mw, self.rule) for line in self.lines]
        return [milliwatts / 1000 for milliwatts in found if milliwatts is not None]

    @property
    def longest_gap_s(self) -> float | None:
        return max((two - one for one, two in pairwise(self.times_s)), default=None)


def read_log(path: Path, interval_s: float) -> Log:
    """interval_s: between two lines that carry no date. Raises RecordError that names the line."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file; tegrastats --logfile FILE writes one") from None
    parsed = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                parsed.append(parse_tegrastats(line))
            except UnknownForm as error:
                raise RecordError(f"{path}: line {number}: {error}; delete the line, or report it") from error
    if not parsed:
        raise RecordError(f"{path}: holds no line; tegrastats --logfile FILE writes one")
    labels = {label for line in parsed for label in line.rails}
    rule, no_rule = None, None
    try:
        rule = rule_of(labels)
    except NoRule as error:
        no_rule = str(error) if labels else "the lines name no rail: tegrastats shows them to root on some releases"
    return Log(lines=tuple(parsed), times_s=tuple(_times_s(path, parsed, interval_s)), rule=rule, no_rule=no_rule)


def _times_s(path: Path, lines: Sequence[Tegrastats], interval_s: float) -> list[float]:
    """Dates are of whole seconds: lines of one second are spread over it. Raises RecordError for a clock set back."""
    dates = [line.date for line in lines]
    dated = [date for date in dates if date is not None]
    if not dated:
        return [i * interval_s for i in range(len(lines))]
    if len(dated) < len(dates):
        raise RecordError(f"{path}: some lines have a date and some have none; import the two parts by themselves")
    for one, two in pairwise(dated):
        if two < one:
            raise RecordError(f"{path}: the clock went back from {one} to {two}; import the two parts by themselves")
    return list(_spread(dated))


def _spread(dates: Sequence[datetime]) -> Iterator[float]:
    for date, same in groupby(dates):
        num = len(list(same))
        for i in range(num):
            yield (date - dates[0]).total_seconds() + i / num


def write_log(log: Log, source: Path, out: Path) -> None:
    """As the sampler writes it. unix_s is left out: the board's clock has no zone here."""
    rule = log.rule
    head = {
        "kind": "head", "source": "tegrastats", "log": source.name, "rule": None if rule is None else rule.name,
        "total_of": [] if rule is None else list(rule.rails),
        "rails": sorted({label for line in log.lines for label in line.rails}),
        "missing": {} if log.no_rule is None else {"total": log.no_rule},
    }  # fmt: skip
    entries: list[dict[str, Any]] = [head]
    for t_s, line in zip(log.times_s, log.lines, strict=True):
        entries += [{"kind": "power", "t_s": t_s, **_power(line, rule)}, {"kind": "state", "t_s": t_s, **_state(line)}]
    write_atomically(out, "".join(f"{to_json(entry)}\n" for entry in entries))


def _power(line: Tegrastats, rule: Rule | None) -> dict[str, Any]:
    milliwatts = None if rule is None else total(line.rails_mw, rule)
    found: dict[str, Any] = {"rails_w": {label: value / 1000 for label, value in line.rails_mw.items()}}
    return found if milliwatts is None else {**found, "total_w": milliwatts / 1000}


def _state(line: Tegrastats) -> dict[str, Any]:
    found: dict[str, Any] = {"zones_c": _zones(line)}
    if line.ram_mb is not None:
        found["ram_used_bytes"] = line.ram_mb[0] * MB
    if line.swap_mb is not None:
        found["swap_used_bytes"] = line.swap_mb[0] * MB
    gpu = line.loads.get("GR3D_FREQ")
    if gpu is not None and gpu.percent is not None:
        found["gpu_load_frac"] = gpu.percent / 100
    if gpu is not None and gpu.mhz:
        found["gpu_hz"] = max(gpu.mhz) * 1e6
    return found


def _zones(line: Tegrastats) -> dict[str, float]:
    return {name: value for name, value in line.temperatures_c.items() if not name.startswith(CONSTANT)}


def summary(log: Log) -> list[str]:
    """For people."""
    num, seconds = len(log.lines), log.times_s[-1]
    gap = "" if log.longest_gap_s is None else f", longest gap {log.longest_gap_s:.1f} s"
    found = [f"{num} {'line' if num == 1 else 'lines'} over {seconds:.1f} s{gap}"]
    totals_w = log.totals_w
    if log.rule is None or not totals_w:
        found.append(f"total  unknown: {log.no_rule or 'no line has every rail of it'}")
    else:
        found.append(
            f"total  {statistics.fmean(totals_w):.2f} W mean, {min(totals_w):.2f} to {max(totals_w):.2f} W "
            f"(board rails by rule {log.rule.name}: {' + '.join(log.rule.rails)})"
        )
    hottest = [(value, name) for line in log.lines for name, value in _zones(line).items()]
    if hottest:
        found.append(f"hottest  {max(hottest)[1]} {max(hottest)[0]:.1f} C")
    swap = [line.swap_mb[0] for line in log.lines if line.swap_mb is not None]
    if swap and swap[-1] > swap[0]:
        found.append(f"warning: swap grew by {swap[-1] - swap[0]} MB: memory did not suffice")
    return found
