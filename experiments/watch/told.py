"""What a watch tells: f5bench.prom for Prometheus' node exporter, a POST where the verdict is another than before."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import generate_latest

from experiments.common.cli import note, one_line
from experiments.watch.ledger import Entry
from metrics.record import to_json, write_atomically
from metrics.verdict import SEVERITY, WORDS, Outcome

TEXTFILE = "f5bench.prom"
WEBHOOK_S = 10.0
NO_OUTCOME = "FAILED_TO_RUN"  # of a run that came to no verdict
OUTCOMES = (*SEVERITY, NO_OUTCOME)


def outcome_of(entry: Entry) -> str:
    """The gate's word, NO_OUTCOME where the run came to none."""
    return entry.outcome or NO_OUTCOME


def exposition(entries: Sequence[Entry], next_unix_s: float | None) -> bytes:
    """Prometheus' text about the newest of the entries, one at least, and the counts of all. next_unix_s: when the next
    run is due, None where none is."""
    registry, newest = CollectorRegistry(), entries[-1]
    named = {"baseline": newest.baseline, "host_class": newest.host_class or "unknown"}
    said = "1 for the verdict of the newest run."
    _one_of(Gauge("f5bench_watch_outcome", said, [*named, "outcome"], registry=registry), named, outcome_of(newest))
    runs = Gauge("f5bench_watch_runs", "In the ledger, by verdict.", [*named, "outcome"], registry=registry)
    for outcome in OUTCOMES:
        runs.labels(*named.values(), outcome).set(sum(outcome_of(one) == outcome for one in entries))
    for name, said, value in (
        ("last_run_timestamp_seconds", "When the newest run ended.", newest.ended_unix_s),
        ("last_run_duration_seconds", "How long it took.", newest.ended_unix_s - newest.started_unix_s),
        ("exit_code", "Of the newest run.", newest.exit_code),
        ("next_run_timestamp_seconds", "When the next run is due.", next_unix_s),
    ):
        if value is not None:
            Gauge(f"f5bench_watch_{name}", said, [*named], registry=registry).labels(*named.values()).set(value)
    _findings(registry, newest, named)
    said = "1 for the verdict of a figure's course over the kept runs."
    course = Gauge("f5bench_watch_course", said, [*named, "figure", "outcome"], registry=registry)
    for figure, outcome in (newest.courses or {}).items():
        _one_of(course, {**named, "figure": figure}, outcome)
    return generate_latest(registry)


def _findings(registry: CollectorRegistry, newest: Entry, named: Mapping[str, str]) -> None:
    ratio = Gauge(
        "f5bench_watch_ratio", "New run over baseline; low and high: the bounds that the verdict stands on.",
        [*named, "metric", "which"], registry=registry,
    )  # fmt: skip
    for one in newest.findings:
        for which, value in (("measured", one.ratio), ("low", one.low), ("high", one.high)):
            if value is not None:
                ratio.labels(*named.values(), one.metric, which).set(value)


def _one_of(gauge: Gauge, named: Mapping[str, str], outcome: str) -> None:
    """1 at one outcome and 0 at the others, so that an alert can say == 1."""
    for word in OUTCOMES:
        gauge.labels(*named.values(), word).set(word == outcome)


def write_textfiles(text: bytes, folder: Path, second: str | None) -> None:
    """Atomically, as node exporter wants it. Raises OSError."""
    for path in (folder / TEXTFILE, *([Path(second)] if second else [])):
        write_atomically(path, text.decode())


def has_changed(entries: Sequence[Entry]) -> bool:
    """Whether the newest run says another thing than the one before it; the first one does where it is no PASS."""
    said = [(outcome_of(one), sorted((one.courses or {}).items())) for one in entries[-2:]]
    if len(said) == 1:
        return outcome_of(entries[-1]) != "PASS"
    return said[0] != said[1]


def message(entries: Sequence[Entry]) -> dict[str, Any]:
    """Of the newest run, for a webhook; `text` is what chat programs show."""
    newest = entries[-1]
    before = outcome_of(entries[-2]) if len(entries) > 1 else None
    worse = sorted(figure for figure, outcome in (newest.courses or {}).items() if outcome == "FAIL")
    words: Mapping[str, str] = {str(key): value for key, value in WORDS.items()}
    said = words.get(outcome_of(newest), newest.reason or "the run failed")
    courses = f"; worse over the last runs: {', '.join(worse)}" if worse else ""
    text = f"f5bench {outcome_of(newest)} against {newest.baseline} on {newest.host_class or 'this machine'}: {said}"
    return {
        "text": text + courses, "outcome": outcome_of(newest), "before": before, "baseline": newest.baseline,
        "host_class": newest.host_class, "exit_code": newest.exit_code, "folder": newest.folder,
        "courses": dict(newest.courses or {}), "ended_unix_s": newest.ended_unix_s,
    }  # fmt: skip


def tell(url: str, content: Mapping[str, object]) -> bool:
    """Whether the webhook took it; where not, one line says why and the watch goes on: its exit code says the same."""
    body = to_json(dict(content)).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=WEBHOOK_S):
            return True
    except (http.client.HTTPException, ValueError) as error:  # whose words quote the address, and a token may be in it
        note(f"the webhook took nothing: {type(error).__name__}")
        return False
    except OSError as error:
        note(f"the webhook took nothing: {one_line(getattr(error, 'reason', error))}")
        return False


def course_outcomes(judged: Sequence[tuple[str, Outcome]]) -> dict[str, Outcome]:
    """Figure -> outcome, the worst where several courses share a figure."""
    found: dict[str, Outcome] = {}
    for figure, outcome in judged:
        found[figure] = max(found.get(figure, "PASS"), outcome, key=SEVERITY.index)
    return found
