"""What the dashboard shows, as data: each panel's queries in PromQL on the names that `serve` and `watch` tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "states", "value"]
WIDTHS: Mapping[str, int] = {"third": 8, "half": 12, "whole": 24}  # of the 24 columns of a dashboard
HERE = '{instance=~"$instance"}'  # the services that are chosen at the top
OVER = f"{HERE}[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Query:
    """legend: labels in double braces are filled in."""

    expr: str
    legend: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """unit: as Grafana calls it. said: how the figure is read."""

    title: str
    queries: tuple[Query, ...]
    unit: str
    said: str
    kind: Kind = "timeseries"
    width: Literal["third", "half", "whole"] = "third"


def _mean(name: str) -> str:
    """Of a histogram, over what was observed; nothing while nothing was."""
    return f"rate({name}_sum{OVER}) / (rate({name}_count{OVER}) > 0)"


def _quantile(level: float, name: str) -> str:
    return f"histogram_quantile({level}, sum by (le, length, instance) (rate({name}_bucket{OVER})))"


SERVICE = (
    Panel(
        title="What serves", kind="value", width="whole", unit="none",
        queries=(
            Query(f"f5bench_engine_info{HERE}", "{{instance}}: {{engine}} {{model}} {{precision}} on {{host_class}}"),
        ),
        said="The engines that were built. Figures of two host classes are not one row.",
    ),
    Panel(
        title="RTF by length", unit="none", queries=(Query(_mean("f5bench_rtf"), "{{length}} {{instance}}"),),
        said="Wall seconds of a call per second of the audio that it made. Short sentences cost more a second.",
    ),
    Panel(
        title="Latency by length, p50 and p95", unit="s",
        queries=(
            Query(_quantile(0.5, "f5bench_latency_seconds"), "p50 {{length}} {{instance}}"),
            Query(_quantile(0.95, "f5bench_latency_seconds"), "p95 {{length}} {{instance}}"),
        ),
        said="From arrival to the whole audio. A quantile of buckets: its error is the width of one.",
    ),
    Panel(
        title="Utilisation", unit="percentunit",
        queries=(Query(f"rate(f5bench_engine_busy_seconds_total{OVER})", "{{instance}}"),),
        said="The share of time inside of calls of the engine.",
    ),
    Panel(
        title="Queue", unit="none",
        queries=(
            Query(f"f5bench_queue_waiting{HERE}", "waiting {{instance}}"),
            Query(_quantile(0.95, "f5bench_queue_seconds"), "p95 seconds, {{length}} {{instance}}"),
            Query(_mean("f5bench_batch_size"), "requests a call {{instance}}"),
        ),
        said="Requests in the line now, how long they waited, and how many a call took.",
    ),
    Panel(
        title="Requests by outcome", unit="reqps",
        queries=(Query(f"rate(f5bench_requests_total{OVER})", "{{outcome}} {{instance}}"),),
        said="served, failed, or rejected because the line was full.",
    ),
    Panel(
        title="Errors of the last hour", unit="percentunit",
        queries=(Query(f"f5bench:error_frac:1h{HERE}", "{{instance}}"),),
        said="Failed and rejected, of all. F5benchErrors alerts by Wilson's lower bound, not by this value.",
    ),
    Panel(
        title="Memory", unit="bytes", queries=(Query(f"process_resident_memory_bytes{HERE}", "{{instance}}"),),
        said="Resident, of the process. F5benchMemoryGrows alerts by its slope over a day.",
    ),
    Panel(
        title="Power", unit="watt", queries=(Query(f"f5bench_power_watts{HERE}", "{{rail}} {{instance}}"),),
        said="Empty where the machine has no source that may be read.",
    ),
    Panel(
        title="Energy per second of speech", unit="joule",
        queries=(
            Query(
                f"rate(f5bench_energy_joules_total{OVER}) / on (instance) group_left () "
                f"(rate(f5bench_audio_seconds_total{OVER}) > 0)",
                "{{counter}} {{instance}}",
            ),
        ),
        said="By the source's own counters, idle time included: what a quiet hour burns is in it.",
    ),
    Panel(
        title="Canary: log-mel error", width="half", unit="none",
        queries=(Query(f"f5bench_canary_error_nats{HERE}", "{{instance}}"),),
        said="Of the newest answer against the kept one; 0 while it is the same samples.",
    ),
    Panel(
        title="Canary: answers of the last hour", width="half", unit="none",
        queries=(Query(f"increase(f5bench_canary_checks_total{HERE}[1h])", "{{found}} {{instance}}"),),
        said="different, other_length and failed are what F5benchCanary alerts on.",
    ),
)  # fmt: skip
WATCH = (
    Panel(
        title="Verdict of the gate", kind="states", width="half", unit="none",
        queries=(Query("f5bench_watch_outcome == 1", "{{outcome}}: {{baseline}} on {{host_class}}"),),
        said="Of the newest run, by the gate's rule; FAILED_TO_RUN where it came to none.",
    ),
    Panel(
        title="Verdicts of courses", kind="states", width="half", unit="none",
        queries=(Query("f5bench_watch_course == 1", "{{outcome}}: {{figure}}, {{baseline}} on {{host_class}}"),),
        said="Of each figure over all kept runs.",
    ),
    Panel(
        title="New run over baseline, with its bounds", width="half", unit="none",
        queries=(Query("f5bench_watch_ratio", "{{metric}} {{which}}, {{baseline}} on {{host_class}}"),),
        said="The verdict stands on low and high, not on measured.",
    ),
    Panel(
        title="Runs: how long ago, how long", width="half", unit="s",
        queries=(
            Query("time() - f5bench_watch_last_run_timestamp_seconds", "since, {{baseline}} on {{host_class}}"),
            Query("f5bench_watch_last_run_duration_seconds", "took, {{baseline}} on {{host_class}}"),
        ),
        said="A watch that stopped is a line that only climbs.",
    ),
    Panel(
        title="Runs by verdict", width="half", unit="none",
        queries=(Query("f5bench_watch_runs > 0", "{{outcome}}, {{baseline}} on {{host_class}}"),),
        said="Lines of the ledger.",
    ),
    Panel(
        title="Alerts that fire", kind="states", width="half", unit="none",
        queries=(Query('ALERTS{alertname=~"F5bench.*",alertstate="firing"}', "{{alertname}} {{instance}}"),),
        said="Of experiments/watch/alerts.yaml.",
    ),
)  # fmt: skip
ROWS: Mapping[str, tuple[Panel, ...]] = {"Service": SERVICE, "Watch": WATCH}
