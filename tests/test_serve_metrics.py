"""/metrics of a service: what Prometheus reads is what was served; a canary says when the engine speaks otherwise."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families as families

from engine.clock import HostClock
from engine.contract import ConfigError, Synthesis, SynthesisRequest
from experiments.serve.__main__ import counters_of, text_check, voices_of
from experiments.serve.app import create_app
from experiments.serve.canary import Canary
from experiments.serve.counters import ServiceCounters
from experiments.serve.line import BatchRule
from experiments.serve.service import Service
from experiments.serve.settings import SERVE, Serve
from experiments.telemetry.reading import Reading
from experiments.workload.requests import load_workload
from tests.engines import config
from tests.load_fakes import ToneEngine


def read_serve(words: Sequence[str]) -> Serve:
    """serve.KEY=VALUE, as the verb makes it."""
    return SERVE.made(SERVE.split(words)[0])


CONFIG = config("workload=smoke")
HOST = {"host_class": "here"}
SHORT, LONG = (
    "Turn left.",
    "We walk along the sea in the morning and look for birds, and then we go home again to eat. " * 2,
)


def values(text: str) -> dict[tuple[str, str], float]:
    """(sample's name, its labels' values) -> value; buckets left out."""
    found = {}
    for family in families(text):
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                found[sample.name, "/".join(sample.labels.values())] = sample.value
    return found


@contextmanager
def service_of(engine: ToneEngine, capacity: int = 64) -> Iterator[Service]:
    with Service(lambda: engine, lambda most: BatchRule(capacity=capacity), HostClock()) as service:
        yield service


@contextmanager
def client_of(service: Service) -> Iterator[TestClient]:
    app = create_app(service, voices_of(CONFIG), text_check(CONFIG), dict, HOST, counters_of(service, HOST, "cpu"))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_a_scrape_tells_what_was_served_by_length_and_what_failed() -> None:
    with service_of(ToneEngine(breaks="bad")) as service, client_of(service) as client:
        audio_s = 0.0
        for text in (SHORT, SHORT, LONG):
            answer = client.post("/synthesize", json={"text": text})
            audio_s += (len(answer.content) - 44) / 4 / 24000
        assert client.post("/synthesize", json={"text": SHORT, "utterance_id": "bad"}).status_code == 500
        scrape = client.get("/metrics")
        assert scrape.headers["content-type"].startswith("text/plain; version=")
        seen = values(scrape.text)
    assert (seen["f5bench_requests_total", "served"], seen["f5bench_requests_total", "failed"]) == (3, 1)
    assert seen["f5bench_latency_seconds_count", "short"] == 2
    assert seen["f5bench_latency_seconds_count", "long"] == 1
    assert seen["f5bench_audio_seconds_total", ""] == pytest.approx(audio_s, rel=0.01)
    spent = sum(seen["f5bench_service_seconds_sum", length] for length in ("short", "long"))
    assert seen["f5bench_engine_busy_seconds_total", ""] == pytest.approx(spent)
    assert seen["f5bench_rtf_count", "long"] == 1
    assert seen["f5bench_queue_waiting", ""] == 0
    assert seen["process_resident_memory_bytes", ""] > 1 << 20
    assert seen["f5bench_engine_info", "fp32/here/fake/fp32"] == 1
    assert not any(name.startswith("f5bench_power") for name, _ in seen), "no figure where there is no source"


def test_promtool_takes_the_text_for_good() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    with service_of(ToneEngine()) as service:
        power = Reading(rails_w={"VDD_GPU_SOC": 3.5}, total_w=9.0, counters_j={"package-0": 12.0})
        counters = ServiceCounters(service.facts, HOST, service.counts, lambda: power)
        canary = Canary(service, load_workload(CONFIG).requests[0], 60, None)
        counters.add(canary)
        service.watch = counters.observe
        canary.check()
        text = counters.exposition()
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
    seen = values(text.decode())
    assert seen["f5bench_power_watts", "total"] == 9.0
    assert seen["f5bench_energy_joules_total", "package-0"] == 12.0


def test_a_scrape_is_answered_while_the_engine_works() -> None:
    """A call of the engine holds nothing that a scrape waits for."""
    engine = ToneEngine()
    engine.gate = threading.Event()
    with service_of(engine, capacity=1) as service, client_of(service) as client:
        requests = load_workload(CONFIG).requests
        first = service.submit(requests[0])
        engine.entered.wait(10)
        second = service.submit(requests[1])
        assert client.post("/synthesize", json={"text": SHORT}).status_code == 503
        seen = values(client.get("/metrics").text)
        assert not first.done()
        assert (seen["f5bench_queue_waiting", ""], seen["f5bench_requests_total", "rejected"]) == (1, 1)
        engine.gate.set()
        second.result(10)


class Changing(ToneEngine):
    """Its mel is off by `off` nats; a frame shorter where `short`."""

    off, short = 0.0, False

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        made = super().synthesize(requests)
        return [replace(one, mel_ND=one.mel_ND[self.short :] + np.float32(self.off)) for one in made]


def test_a_canary_tells_a_changed_engine_from_the_same(tmp_path: Path) -> None:
    engine, kept = Changing(), tmp_path / "canary.npz"
    request = load_workload(CONFIG).requests[0]
    with service_of(engine) as service:
        canary = Canary(service, request, 60, kept, unix_s=lambda: 1000.0)
        assert [canary.check(), canary.check()] == ["identical", "identical"]
        again = Canary(service, request, 60, kept)  # another process, another day
        engine.off = 0.25
        assert again.check() == "different"
        counters = ServiceCounters(service.facts, HOST, service.counts)
        counters.add(again)
        seen = values(counters.exposition().decode())
        assert seen["f5bench_canary_error_nats", ""] == pytest.approx(0.25, rel=1e-3)
        assert seen["f5bench_canary_checks_total", "different"] == 1
        engine.short = True
        assert again.check() == "other_length"
        counters = ServiceCounters(service.facts, HOST, service.counts)
        counters.add(again)
        assert ("f5bench_canary_error_nats", "") not in values(counters.exposition().decode()), "no number for it"


def test_a_canary_that_cannot_be_spoken_is_counted_and_the_service_lives_on(tmp_path: Path) -> None:
    request = load_workload(CONFIG).requests[0]
    with service_of(ToneEngine(breaks=request.utterance_id)) as service:
        canary = Canary(service, request, 60, None)
        assert canary.check() == "failed"
        assert service.submit(replace(request, utterance_id="other")).result(10).batch_size == 1


def test_a_canary_ends_with_its_service() -> None:
    engine = ToneEngine()
    with service_of(engine) as service, Canary(service, load_workload(CONFIG).requests[0], 3600, None):
        engine.entered.wait(10)
    assert engine.closed


def test_settings_of_a_canary_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"serve\.canary_reference=a\.npz: is for a canary; add serve\.canary_minutes"
    ):
        read_serve(["serve.canary_reference=a.npz"])
    with pytest.raises(ConfigError, match=r"serve\.canary_minutes"):
        read_serve(["serve.canary_minutes=0"])
    damaged = tmp_path / "a.npz"
    damaged.write_bytes(b"no zip")
    with service_of(ToneEngine()) as service, pytest.raises(ConfigError, match="is no reference of a canary"):
        Canary(service, load_workload(CONFIG).requests[0], 60, damaged)
