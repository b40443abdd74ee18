"""The service and the load over HTTP, through the application itself: no socket is opened."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient

from engine.clock import HostClock
from engine.contract import ConfigError, UnsupportedEngine
from experiments.load import __main__ as load
from experiments.load import over_http as load_service
from experiments.load.__main__ import publish
from experiments.load.cold import cold_call
from experiments.load.http import ask_json, reply_of
from experiments.load.parts import Order
from experiments.measuring.engines import facts_content
from experiments.serve.__main__ import counters_of, open_socket, text_check, voices_of
from experiments.serve.app import create_app
from experiments.serve.service import Service
from experiments.serve.settings import read_settings
from experiments.settings.compose import compose_run
from experiments.workload.requests import load_workload
from tests.engines import config
from tests.load_fakes import ToneEngine

CONFIG = config("workload=smoke")
CLOSE = {"text": "That was close."}


@pytest.fixture(autouse=True)
def _own_locks(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path_factory.mktemp("locks")))


@contextmanager
def served(engine: ToneEngine, *settings: str) -> Iterator[TestClient]:
    rule = read_settings(settings).rule
    with Service(lambda: engine, rule, HostClock()) as service:
        facts, host = (lambda: facts_content(engine.facts)), {"host_class": "the-services-own"}
        counters = counters_of(service, host, "cpu")
        app = create_app(service, voices_of(CONFIG), text_check(CONFIG), facts, host, counters)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client


def test_a_request_becomes_the_wav_that_the_engine_made() -> None:
    with served(ToneEngine()) as client:
        response = client.post("/synthesize", json={"text": "Turn left at the bridge.", "utterance_id": "en05"})
        assert response.status_code == 200
        assert response.headers["content-type"] == "audio/wav"
        audio_S, rate_hz = soundfile.read(io.BytesIO(response.content), dtype="float32")
        (made,) = ToneEngine().synthesize(load_workload(config("workload=smoke", "workload.select=[en05]")).requests)
        assert rate_hz == 24000
        assert np.array_equal(audio_S, made.audio_S)
        health = client.get("/healthz").json()
        assert (health["status"], health["served"], health["waiting"]) == ("ok", 1, 0)
        assert client.get("/facts").json()["batching"]["max_batch"] == 1
        assert client.get("/memory").json()["rss_bytes"] > 1 << 20


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "text: Field required"), ({"text": ""}, "text: "), ({"text": " "}, "is empty"),
        ({"text": "x" * 3000}, "text: "),
        ({"text": "hi", "voice": "nobody"}, "must be one of slt, rms"), ({"text": "Preis: 5 \u20ac"}, "vocabulary"),
        ({"text": "hi", "speed": 2}, "speed: "), ({"text": "hi", "seed": -1}, "seed: "), ([1], "body: "),
        ({"text": "hi", "speed_ratio": 99}, "speed_ratio: "),
    ],
)  # fmt: skip
def test_a_bad_request_gets_one_line_and_costs_the_engine_nothing(body: Any, word: str) -> None:
    engine = ToneEngine()
    with served(engine) as client:
        response = client.post("/synthesize", json=body)
        assert response.status_code == 422
        assert word in response.json()["error"]
        assert "\n" not in response.json()["error"]
        assert client.post("/synthesize", content=b"{").status_code == 422
    assert engine.batches == []


def test_a_full_line_answers_503_and_the_service_lives_on() -> None:
    engine = ToneEngine()
    engine.gate = threading.Event()
    with served(engine, "queue_limit=2") as client, ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.post, "/synthesize", json=CLOSE)]
        engine.entered.wait(10)
        calls += [pool.submit(client.post, "/synthesize", json=CLOSE) for _ in range(2)]
        while client.get("/healthz").json()["waiting"] < 2:
            pass
        refused = client.post("/synthesize", json=CLOSE)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        engine.gate.set()
        assert [call.result().status_code for call in calls] == [200, 200, 200]
        assert client.get("/healthz").json()["rejected"] == 1


def test_an_engine_that_breaks_is_a_500_for_its_batch_only() -> None:
    with served(ToneEngine(breaks="bad")) as client:
        broken = client.post("/synthesize", json={**CLOSE, "utterance_id": "bad"})
        assert (broken.status_code, broken.json()) == (500, {"error": "RuntimeError: out of tune"})
        assert client.post("/synthesize", json=CLOSE).status_code == 200


def test_requests_that_wait_together_share_a_call() -> None:
    engine = ToneEngine()
    engine.gate = threading.Event()
    with served(engine, "batching=true", "batch_window_s=0", "max_batch=4") as client, ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.post, "/synthesize", json=CLOSE)]
        engine.entered.wait(10)
        calls += [pool.submit(client.post, "/synthesize", json=CLOSE) for _ in range(4)]
        while client.get("/healthz").json()["waiting"] < 4:
            pass
        engine.gate.set()
        sizes = sorted(int(call.result().headers["x-f5-batch"]) for call in calls)
    assert (sizes, engine.batches) == ([1, 4, 4, 4, 4], [1, 4])


def test_who_waits_while_the_service_closes_is_told() -> None:
    engine = ToneEngine()
    engine.gate = threading.Event()
    service = Service(lambda: engine, read_settings([]).rule, HostClock())
    request = load_workload(CONFIG).requests[0]
    first, second = service.submit(request), service.submit(request)
    engine.gate.set()
    service.close()
    assert engine.closed
    assert first.done()
    assert second.done()


def order_for(tmp_path: Path, *settings: str) -> Order:
    cell = compose_run(["workload=smoke"])
    return Order(
        cell=cell,
        settings=read_settings(["transport=http", "warmup_requests=2", *settings]),
        workload=load_workload(cell.config),
        out=tmp_path,
    )


def run_over(client: httpx.Client, order: Order) -> int:
    with ExitStack() as stack:
        report = load_service.load_client(client, order, 0, stack)
    return publish(report, order.out)


def test_a_load_over_http_counts_what_the_service_tells(tmp_path: Path) -> None:
    engine = ToneEngine()
    with served(engine, "batching=true") as client:
        order = order_for(tmp_path, "users=[4]", "requests=80", "connections=8")
        assert run_over(client, order) == 0
    content = json.loads((tmp_path / "load.json").read_text())
    (level,) = content["levels"]
    assert (level["num_ok"], level["num_failed"], content["audio"]["num_invalid"]) == (80, 0, 0)
    assert level["latency_p95"]["value_s"] is None or level["latency_p95"]["value_s"] > 0
    assert 1 <= level["batch_mean"] <= 4
    assert level["service_p50_s"] > 0
    assert content["facts"]["batching"]["max_batch"] == 8


def test_a_service_that_turns_requests_away_has_an_error_rate(tmp_path: Path) -> None:
    engine = ToneEngine()
    engine.gate, engine.gate_s = threading.Event(), 0.02  # every call takes 20 ms, so 32 at once cannot all wait
    with served(engine, "queue_limit=1") as client:
        order = order_for(tmp_path, "scenario=offline", "requests=60", "connections=32", "warmup_requests=0")
        assert run_over(client, order) == 14
    (level,) = json.loads((tmp_path / "load.json").read_text())["levels"]
    assert level["num_ok"] + level["num_rejected"] == 60
    assert level["num_rejected"] > 0


class Dying(httpx.BaseTransport):
    """A service that answers as `client` does and is gone after `num_left` requests for speech."""

    def __init__(self, client: TestClient, num_left: int):
        self._client, self._num_left = client, num_left

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._num_left <= 0:
            raise httpx.ConnectError("connection refused")
        self._num_left -= request.url.path == "/synthesize"
        kind = {"content-type": request.headers.get("content-type", "")}
        answer = self._client.request(request.method, request.url.path, content=request.read(), headers=kind)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def test_a_service_that_dies_under_load_leaves_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(ToneEngine()) as service:
        client = httpx.Client(transport=Dying(service, 30), base_url="http://there")
        order = order_for(tmp_path, "users=[1,2]", "requests=20", "warmup_requests=0", "connections=2")
        assert run_over(client, order) == 14
    content = json.loads((tmp_path / "load.json").read_text())
    assert (content["status"], content["facts"]["name"]) == ("failed", "fp32")
    assert [(level["num_ok"], level["num_failed"]) for level in content["levels"]] == [(20, 0), (10, 10)]
    assert "the service was gone at the end of the load" in (tmp_path / "load.md").read_text()
    assert "the service was gone at the end of the load" in capsys.readouterr().err


def test_memory_of_a_service_that_is_gone_is_no_reading() -> None:
    with served(ToneEngine()) as service:
        assert load_service.read_pss(service)
        assert load_service.read_pss(httpx.Client(transport=Dying(service, 0), base_url="http://there")) is None


def test_what_is_no_service_of_ours_is_named() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="hello")

    client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://there")
    with pytest.raises(ConfigError, match="does not answer"):
        ask_json(client, "/facts")
    assert reply_of(httpx.Response(200, content=b"hello"), 0.0).status == "failed"
    assert reply_of(httpx.Response(503, json={"error": "full"}), 0.0).status == "rejected"


@pytest.mark.enable_socket
def test_an_address_that_cannot_be_had_is_a_setting() -> None:
    with open_socket("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match=r"use serve\.port=0"):
        open_socket("127.0.0.1", taken.getsockname()[1])


@pytest.mark.enable_socket
def test_a_fresh_process_beside_the_warm_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides with the real engine and real processes, over loopback."""
    argv = [
        "workload=smoke",
        "workload.select=[en04]",
        "solver=euler_6",
        "tracking=none",
        "transport=http",
        "scenario=cold_vs_warm",
    ]
    assert load.main([*argv, "cold_pairs=1", f"out={tmp_path}"]) == 0
    content = json.loads((tmp_path / "load.json").read_text())
    cold = content["cold_vs_warm"]
    assert cold["cold_s"]["value_s"] > cold["cold_build_s"]["value_s"] + cold["cold_call_s"]["value_s"]
    assert cold["warm_s"]["value_s"] > 0  # no more: on a busy machine one warm call may take longer than a cold one
    assert content["audio"]["num_distinct"] == 1  # the fresh process says bit by bit what the service says
    assert content["facts"]["name"] == "fp32"
    assert "cold / warm: too few pairs" in capsys.readouterr().out


def test_a_fresh_process_that_fails_says_why(tmp_path: Path) -> None:
    broken = {**CONFIG, "engine": {**CONFIG["engine"], "precision": "fp3"}}
    with pytest.raises(UnsupportedEngine, match=r"the fresh process failed: .*fp3"):
        cold_call(broken, 0, tmp_path, 0)
