"""What a load leaves: load.json for machines, load.md for people; no figure where the audio behind it is invalid.

A level with more errors than max_error_frac keeps its counts only, and then neither a search nor a leak is judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from baselines.class_history import machine_fault
from experiments.load.scenarios import Level, Result
from experiments.load.stored import ColdPairs, Head, MedianTime
from metrics.record import to_json, write_atomically
from metrics.speed.leak import LeakVerdict
from metrics.speed.load import TOO_MANY_ERRORS, LoadSummary, Percentile

SCHEMA_VERSION = 1
MOST_POINTS = 200
MOST_FAULTS = 5
COLUMNS = (
    "level", "requests", "errors", "requests/s", "generated s/s", "p50 ms", "p95 ms", "p99 ms", "wait ms", "batch",
    "queue mean (most)",
)  # fmt: skip
NOTES = (
    "Latency counts from the time a request should have been sent. Brackets: 95 % intervals, made as for the number of "
    "independent requests that a queue's neighbours are worth. wait, batch: median seconds in line, requests a call."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadReport:
    """invalid: faults of audio.

    cold: the content of cold_vs_warm, None in the other scenarios. gone: how the service ended before the load did.
    """

    label: str
    head: Head
    result: Result
    num_heard: int
    num_distinct: int
    invalid: Sequence[str]
    cold: ColdPairs | None = None
    gone: str | None = None

    @property
    def void(self) -> str | None:
        """What was seen of the machine that makes every figure one of another machine."""
        return machine_fault(self.head["environment"])


def content_of(report: LoadReport) -> dict[str, Any]:
    """load.json. With invalid audio there is no figure in it."""
    unsteady = report.result.unsteady
    gone, errors = report.gone, report.result.errors
    told = (
        ("invalid", report.invalid),
        ("failed", gone),
        ("void", report.void),
        ("unsteady", unsteady),
        ("failed", errors),
    )
    status = next((word for word, fault in told if fault), "ok")
    audio = {
        "num_heard": report.num_heard, "num_distinct": report.num_distinct, "num_invalid": len(report.invalid),
        "invalid": list(report.invalid[:MOST_FAULTS]),
    }  # fmt: skip
    content = {
        "schema_version": SCHEMA_VERSION, "status": status, "reason": gone or report.void or unsteady or errors,
        "label": report.label, **report.head, "audio": audio,
    }  # fmt: skip
    if report.invalid or report.void or unsteady:
        return content
    result = report.result
    return {
        **content,
        "levels": [_level_content(level) for level in result.levels],
        "leak": None if result.leak is None else dataclasses.asdict(result.leak),
        "search": None if result.search is None or errors else dataclasses.asdict(result.search),
        "target": None if result.target is None or errors else dataclasses.asdict(result.target),
        "cold_vs_warm": report.cold,
    }


def _level_content(level: Level) -> dict[str, Any]:
    by_length = {length: _summary_content(summary) for length, summary in level.by_length.items()}
    summary = _summary_content(level.summary)
    return {"name": level.name, "setting": dict(level.setting), **summary, "by_length": by_length}


def _summary_content(summary: LoadSummary) -> dict[str, Any]:
    content = dataclasses.asdict(summary)
    series = summary.queue.series
    every = -(-len(series) // MOST_POINTS)
    content["queue"]["series"] = [list(point) for point in series[::every]]
    return content


def markdown_of(report: LoadReport) -> str:
    head = report.head
    lines = [
        f"# Load: {report.label}, {head['settings']['scenario']}, {head['settings']['transport']}", "",
        f"Host class {head['environment']['host_class']}; {report.num_heard} answers heard, {report.num_distinct} "
        f"distinct, {len(report.invalid)} invalid.", "",
    ]  # fmt: skip
    if report.invalid:
        faults = [f"- {_escaped(fault)}" for fault in report.invalid[:MOST_FAULTS]]
        return "\n".join([*lines, "No figure is given, because audio is invalid:", "", *faults, ""])
    if report.void is not None:
        return "\n".join([*lines, f"No figure is given, because the machine was not in order: {report.void}.", ""])
    if report.result.unsteady is not None:
        return "\n".join(
            [*lines, f"No figure is given, because the engine was not steady: {report.result.unsteady}.", ""]
        )
    if report.gone is not None:
        lines += [f"**{_escaped(report.gone)}.** What was not answered counts as an error below.", ""]
    if report.result.errors is not None:
        lines += [f"**Not valid: {_escaped(report.result.errors)}.** Of such a level only the counts are given.", ""]
    if report.result.levels:
        lines += [*_table(report.result.levels), "", NOTES, ""]
        lines += [f"- {reason}" for reason in _reasons(report.result.levels)]
        lines += _length_rows(report.result.levels)
    if report.result.search is not None and report.result.errors is None:
        lines += ["", "## Highest rate", "", search_line(report), ""]
    if report.result.target is not None and report.result.errors is None:
        lines += ["", "## Target", "", target_line(report), ""]
    if report.result.leak is not None:
        lines += ["", "## Memory", "", leak_line(report.result.leak), ""]
    if report.cold is not None and report.result.errors is None:
        lines += ["", "## Cold and warm", "", *[f"- {line}" for line in cold_lines(report.cold)], ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(levels: Sequence[Level]) -> list[str]:
    rows = [f"| {' | '.join(COLUMNS)} |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    return rows + [f"| {' | '.join(_cells(level.name, level.summary))} |" for level in levels]


def _cells(name: str, summary: LoadSummary) -> list[str]:
    low, high = summary.error_interval_frac
    return [
        name,
        str(summary.num_requests),
        f"{100 * summary.error_frac:.1f} % ({100 * low:.1f}..{100 * high:.1f})",
        "-" if summary.requests_per_s is None else f"{summary.requests_per_s:.2f}",
        "-" if summary.generated_s_per_s is None else f"{summary.generated_s_per_s:.2f}",
        *[_percentile(one) for one in (summary.latency_p50, summary.latency_p95, summary.latency_p99)],
        "-" if summary.wait_p50_s is None else f"{1e3 * summary.wait_p50_s:.0f}",
        "-" if summary.batch_mean is None else f"{summary.batch_mean:.1f}",
        "-" if summary.refusal is not None else f"{summary.queue.mean:.2f} ({summary.queue.most})",
    ]


def _percentile(one: Percentile) -> str:
    if one.value_s is None:
        return "-" if one.reason == TOO_MANY_ERRORS else "too few"
    if one.interval_s is None:
        return f"{1e3 * one.value_s:.0f}"
    return f"{1e3 * one.value_s:.0f} ({1e3 * one.interval_s[0]:.0f}..{1e3 * one.interval_s[1]:.0f})"


def _reasons(levels: Sequence[Level]) -> list[str]:
    found = [
        f"{level.name}: {one.reason}"
        for level in levels
        for one in (level.summary.latency_p95, level.summary.latency_p99)
        if one.reason is not None and level.summary.refusal is None
    ]
    for level in levels:
        named = "; ".join(f"{_escaped(reason)} ({num})" for reason, num in level.summary.error_reasons.items())
        found += [f"{level.name}: not answered: {named}"] if named else []
    late = max((level.summary.lag_most_s for level in levels), default=0.0)
    return [*found, f"the harness was at most {1e3 * late:.1f} ms behind its own plan; latencies include it"]


def _length_rows(levels: Sequence[Level]) -> list[str]:
    rows = [
        f"| {level.name} | {length} | {summary.num_requests} | {_percentile(summary.latency_p50)} "
        f"| {_percentile(summary.latency_p95)} |"
        for level in levels
        if len(level.by_length) > 1
        for length, summary in level.by_length.items()
    ]
    if not rows:
        return []
    return [
        "",
        "## By length of text",
        "",
        "| level | length | requests | p50 ms | p95 ms |",
        "|---|---|---:|---:|---:|",
        *rows,
    ]


def search_line(report: LoadReport) -> str:
    found = report.result.search
    assert found is not None
    limit_s = float(report.head["settings"]["limit_s"])
    holds = "none was shown to hold" if found.holds_per_s is None else f"{found.holds_per_s:.2f} requests/s hold"
    fails = "none was shown to fail" if found.fails_per_s is None else f"{found.fails_per_s:.2f} fail"
    return (
        f"p95 under {1e3 * limit_s:.0f} ms: {found.outcome}; {holds}, {fails} ({found.reason}). "
        f"{len(found.probes)} probes, each an exact test at 95 % that counts what was not answered as over the limit."
    )


def target_line(report: LoadReport) -> str:
    found, settings = report.result.target, report.head["settings"]
    assert found is not None
    low, high = (100 * end for end in found.interval_frac)
    rate = report.result.levels[-1].setting["rate_per_s"]
    assert settings["target_s"] is not None
    line = (
        f"p95 under {1e3 * settings['target_s']:.0f} ms at {rate:.4g} requests/s: {found.outcome}; "
        f"{100 * found.over_frac:.1f} % were over it ({low:.1f}..{high:.1f}), allowed are 5 %, in {found.num_requests} "
        f"requests worth {found.num_independent} independent ones."
    )
    return f"{line} {found.reason}." if found.reason else line


def leak_line(leak: LeakVerdict) -> str:
    minutes = f"{leak.num_samples} readings of PSS in {leak.soak_s / 60:.1f} minutes"
    limit = f"{leak.limit_bytes_per_h / 2**20:.0f} MiB/h"
    if leak.slope_bytes_per_h is None or leak.interval_bytes_per_h is None:
        return f"{leak.outcome}: {leak.reason} ({minutes}, limit {limit})"
    low, high = (bound / 2**20 for bound in leak.interval_bytes_per_h)
    slope = leak.slope_bytes_per_h / 2**20
    return f"{leak.outcome}: {slope:+.1f} MiB/h ({low:+.1f}..{high:+.1f}), limit {limit}: {leak.reason} ({minutes})"


def cold_lines(cold: ColdPairs) -> list[str]:
    lines = [f"{name}: {_seconds(cold[key])}" for name, key in COLD_ROWS]
    lines += [f"a pair that was not answered: {_escaped(reason)} ({num})" for reason, num in cold["errors"].items()]
    ratio = cold["ratio"]
    if ratio is None:
        return [*lines, f"cold / warm: too few pairs for an interval ({cold['num_pairs']}, 6 are needed)"]
    text = f"{ratio['ratio']:.1f} ({ratio['low']:.1f}..{ratio['high']:.1f})"
    return [*lines, f"cold / warm: {text} in {ratio['num_pairs']} pairs"]


COLD_ROWS: tuple[tuple[str, Literal["cold_s", "cold_build_s", "cold_call_s", "warm_s"]], ...] = (
    ("fresh process for one request", "cold_s"),
    ("of it, building the engine", "cold_build_s"),
    ("of it, its first call", "cold_call_s"),
    ("the same request to the warm service", "warm_s"),
)


def _seconds(one: MedianTime) -> str:
    text, interval = f"{one['value_s']:.3f} s", one["interval_s"]
    return text if interval is None else f"{text} ({interval[0]:.3f}..{interval[1]:.3f})"


def write_report(report: LoadReport, folder: Path) -> None:
    write_atomically(folder / "load.json", to_json(content_of(report)) + "\n")
    write_atomically(folder / "load.md", markdown_of(report))


def _escaped(text: str) -> str:
    from reports.render.markdown import escape  # late: plots come with it, a second that --help need not take

    return escape(text)
