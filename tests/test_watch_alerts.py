"""The alert rules, by Prometheus' own promtool: each fires where it should, and keeps still where it may not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports.commands import ROOT

RULES = ROOT / "experiments" / "watch" / "alerts.yaml"
PROMTOOL = shutil.which("promtool")
STEP_MIN = 15  # minutes a sample
DAY = 24 * 60 // STEP_MIN  # samples
LATER_DAYS = 3


def grows(by: float, num: int = LATER_DAYS * DAY) -> str:
    return f"0+{by}x{num}"


def grows_by(parts: Sequence[tuple[float, int]]) -> str:
    """A counter that grows by so much a sample, for so many samples each."""
    total, values = 0.0, [0.0]
    for by, num in parts:
        for _ in range(num):
            total += by
            values.append(total)
    return " ".join(f"{value:g}" for value in values)


def rtf_hours(last: float, spread: float) -> tuple[str, str]:
    """Sum and count of calls' RTFs: 40 calls a sample at 0.1 give or take the spread by the hour, six hours at last."""
    hours = [(0.1 + (spread if hour % 2 else -spread)) * 40 for hour in range(24 * LATER_DAYS - 6)]
    parts = [(hour, 60 // STEP_MIN) for hour in hours] + [(last * 40, DAY // 4)]
    return grows_by(parts), grows(40)


def service(name: str, **series: str) -> list[dict[str, str]]:
    """Input series of promtool; the part after the name of a metric may hold labels."""
    return [{"series": f'{key}{{instance="{name}",job="f5"}}', "values": values} for key, values in series.items()]


def labelled(metric: str, labels: str, values: str) -> dict[str, str]:
    return {"series": f"{metric}{{{labels}}}", "values": values}


def asked(name: str) -> dict[str, Any]:
    """Of promtool: exactly these alerts fire at the end. Annotations are not compared."""
    alert, _, expected = CASES[name]
    return {
        "expr": f'ALERTS{{alertname="{alert}",alertstate="firing"}}', "eval_time": f"{LATER_DAYS * 24 - 1}h",
        "exp_samples": [{"labels": f"ALERTS{_labels(alert, one)}", "value": 1} for one in expected],
    }  # fmt: skip


def _labels(alert: str, labels: Mapping[str, str]) -> str:
    whole = {"alertname": alert, "alertstate": "firing", **labels}
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(whole.items())) + "}"


def calls(instance: str, last: float, spread: float, count: str | None = None) -> list[dict[str, str]]:
    total, num = rtf_hours(last, spread)
    where = f'instance="{instance}",length="short"'
    return [labelled("f5bench_rtf_sum", where, total), labelled("f5bench_rtf_count", where, count or num)]


def requests(instance: str, served: float, failed: float) -> list[dict[str, str]]:
    where = f'instance="{instance}",outcome='
    return [
        labelled("f5bench_requests_total", f'{where}"served"', grows(served)),
        labelled("f5bench_requests_total", f'{where}"failed"', grows(failed)),
        labelled("f5bench_requests_total", f'{where}"rejected"', grows(0)),
    ]


def memory(instance: str, values: str, started_s: int = 0) -> list[dict[str, str]]:
    where = f'instance="{instance}",job="f5"'
    return [
        labelled("process_resident_memory_bytes", where, values),
        labelled("f5bench_engine_info", where, f"1x{LATER_DAYS * DAY}"),
        labelled("process_start_time_seconds", where, f"{started_s}x{LATER_DAYS * DAY}"),
    ]


def outcome(metric: str, more: str, word: str) -> dict[str, str]:
    where = f'baseline="main",host_class="here",{more}outcome="{word}"'
    return labelled(metric, where, f"1x{LATER_DAYS * DAY}")


WATCHED = {"baseline": "main", "host_class": "here"}
MIB_A_STEP = 64 * 2**20 * STEP_MIN / 60  # 64 MiB an hour
CASES: dict[str, tuple[str, list[dict[str, str]], list[dict[str, str]]]] = {
    "slower by a third, and another by a third of what its hours differ by": (
        "F5benchSlow", [*calls("steady", 0.135, 0.002), *calls("noisy", 0.135, 0.03), *calls("same", 0.1, 0.002)],
        [{"instance": "steady", "length": "short", "severity": "page"}],
    ),
    "two of a hundred fail, and two of sixty": (
        "F5benchErrors", [*requests("busy", 245, 5), *requests("quiet", 14.5, 0.5), *requests("good", 250, 0)],
        [{"instance": "busy", "severity": "page"}],
    ),
    "a leak, a cache that fills once, and a process that is young": (
        "F5benchMemoryGrows",
        [*memory("leak", f"1e9+{MIB_A_STEP}x{LATER_DAYS * DAY}"),
         *memory("cache", f"1e9x{(LATER_DAYS - 1) * DAY} 5e9x{DAY}"),
         *memory("young", f"1e9+{MIB_A_STEP}x{LATER_DAYS * DAY}", (LATER_DAYS - 1) * 86400 + 50000)],
        [{"instance": "leak", "job": "f5", "severity": "ticket"}],
    ),
    "an engine that sleeps, and one that works": (
        "F5benchIdle",
        [*service("idle", f5bench_engine_busy_seconds_total=grows(9)),
         *service("busy", f5bench_engine_busy_seconds_total=grows(450))],
        [{"instance": "idle", "job": "f5", "severity": "info"}],
    ),
    "a canary that changed, and one that has not": (
        "F5benchCanary",
        [labelled("f5bench_canary_checks_total", 'instance="a",found="different"', grows(1)),
         labelled("f5bench_canary_checks_total", 'instance="b",found="identical"', grows(1)),
         labelled("f5bench_canary_checks_total", 'instance="b",found="different"', grows(0))],
        [{"instance": "a", "found": "different", "severity": "page"}],
    ),
    "a regression of a gate and of a course, and a pass": (
        "F5benchRegression",
        [outcome("f5bench_watch_outcome", "", "FAIL"), outcome("f5bench_watch_course", 'figure="rtf",', "FAIL"),
         outcome("f5bench_watch_course", 'figure="cpu",', "PASS")],
        [{**WATCHED, "outcome": "FAIL", "severity": "page"},
         {**WATCHED, "figure": "rtf", "outcome": "FAIL", "severity": "page"}],
    ),
    "a watch that cannot tell for days": (
        "F5benchCannotTell", [outcome("f5bench_watch_outcome", "", "NO_BASELINE")],
        [{**WATCHED, "outcome": "NO_BASELINE", "severity": "ticket"}],
    ),
    "a watch whose next run never came": (
        "F5benchWatchStopped",
        [labelled("f5bench_watch_next_run_timestamp_seconds", 'baseline="main",host_class="here"',
                  f"3600x{LATER_DAYS * DAY}"),
         labelled("f5bench_watch_next_run_timestamp_seconds", 'baseline="other",host_class="here"',
                  f"{LATER_DAYS * 86400}x{LATER_DAYS * DAY}")],
        [{**WATCHED, "severity": "ticket"}],
    ),
}  # fmt: skip


def test_every_alert_fires_where_it_should_and_nowhere_else(tmp_path: Path) -> None:
    if PROMTOOL is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    # All in one world: each alert fires for its own and is not led astray by the others
    series = [one for _, case, _ in CASES.values() for one in case]
    test = {"interval": f"{STEP_MIN}m", "input_series": series, "promql_expr_test": list(map(asked, CASES))}
    content = {"rule_files": [str(RULES)], "evaluation_interval": f"{STEP_MIN}m", "tests": [test]}
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(content))
    done = subprocess.run([PROMTOOL, "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_case() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    named = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert named == {alert for alert, _, _ in CASES.values()}
