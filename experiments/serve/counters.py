"""What /metrics tells of a service, in Prometheus' text form: counted after each call, read when somebody asks.

Counting happens on the thread that hands the answers out, once they are on their way; reading on a thread of the HTTP
server. Neither takes a lock that the engine's thread takes, so a scrape is in no timed call but by the processor's
time that it needs (docs/watching.md has the figure).

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from engine.contract import EngineFacts, SynthesisRequest
from experiments.serve.service import Counts, Spoken, Streamed
from experiments.telemetry.reading import Reading
from metrics.speed.trials import length_of

CONTENT_TYPE = CONTENT_TYPE_LATEST
LATENCY_BUCKETS_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0)
RTF_BUCKETS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)


class Collector(Protocol):
    def collect(self) -> Iterator[Metric]: ...


class ServiceCounters:
    """One a service; `observe` is what the service calls after each call of the engine.

    counts: of the line, asked at every scrape. power: a reading of the machine's power, None where it has no source.
    more: what else is told at every scrape.
    """

    def __init__(
        self, facts: EngineFacts, environment: Mapping[str, object], counts: Callable[[], Counts],
        power: Callable[[], Reading] | None = None,
    ) -> None:  # fmt: skip
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("f5bench_engine", "What was built, and on which host class.", registry=registry).info({
            "engine": facts.name, "model": facts.model, "precision": facts.precision,
            "host_class": str(environment.get("host_class")),
        })  # fmt: skip
        self._waited = _seconds("f5bench_queue_seconds", "In the line, before the engine was called.", registry)
        self._took = _seconds("f5bench_service_seconds", "Of the call of the engine that a request was in.", registry)
        self._whole = _seconds("f5bench_latency_seconds", "From arrival to the whole audio.", registry)
        self._rtf = Histogram(
            "f5bench_rtf", "Wall seconds of a call per second of the audio that it made.", ["length"],
            registry=registry, buckets=RTF_BUCKETS,
        )  # fmt: skip
        self._batch = Histogram("f5bench_batch_size", "Requests a call.", registry=registry, buckets=BATCH_BUCKETS)
        self._busy = Counter("f5bench_engine_busy_seconds", "Inside of calls of the engine.", registry=registry)
        self._audio = Counter("f5bench_audio_seconds", "Of audio made, the reference excluded.", registry=registry)
        registry.register(_Now(counts, power))

    def observe(self, requests: Sequence[SynthesisRequest], spoken: Sequence[Spoken | Streamed]) -> None:
        """One call of the engine, or one stream, that succeeded; both in the same order, one at least."""
        audio_s = sum(one.audio_s for one in spoken)
        service_s = spoken[0].service_s
        for request, one in zip(requests, spoken, strict=True):
            length = length_of(request.text)
            self._waited.labels(length).observe(one.queue_s)
            self._took.labels(length).observe(one.service_s)
            self._whole.labels(length).observe(one.queue_s + one.service_s)
        self._batch.observe(len(spoken))
        self._busy.inc(service_s)
        self._audio.inc(audio_s)
        if audio_s > 0:
            self._rtf.labels(length_of(requests[0].text)).observe(service_s / audio_s)

    def add(self, collector: Collector) -> None:
        """What else is told at every scrape."""
        self._registry.register(collector)

    def exposition(self) -> bytes:
        """The text of one scrape, of CONTENT_TYPE."""
        return generate_latest(self._registry)


class _Now:
    """What is read at the moment of the scrape: the line, and the machine's power."""

    def __init__(self, counts: Callable[[], Counts], power: Callable[[], Reading] | None) -> None:
        self._counts, self._power = counts, power

    def collect(self) -> Iterator[Metric]:
        counts = self._counts()
        requests = CounterMetricFamily("f5bench_requests", "By what became of them.", labels=["outcome"])
        for outcome in ("served", "failed", "rejected"):
            requests.add_metric([outcome], getattr(counts, outcome))
        yield requests
        waiting = GaugeMetricFamily("f5bench_queue_waiting", "Requests in the line now.")
        waiting.add_metric([], counts.waiting)
        yield waiting
        if self._power is not None:
            yield from _power(self._power())


def _power(reading: Reading) -> Iterator[Metric]:
    """What the source has no value for is left out, never 0."""
    watts = GaugeMetricFamily("f5bench_power_watts", "By rail; total by the source's rule.", labels=["rail"])
    for rail, value_w in reading.rails_w.items():
        watts.add_metric([rail], value_w)
    if reading.total_w is not None:
        watts.add_metric(["total"], reading.total_w)
    yield watts
    joules = CounterMetricFamily("f5bench_energy_joules", "Of the source's own counters.", labels=["counter"])
    for name, value_j in reading.counters_j.items():
        joules.add_metric([name], value_j)
    yield joules


def _seconds(name: str, said: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, said, ["length"], registry=registry, buckets=LATENCY_BUCKETS_S)
