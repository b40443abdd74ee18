"""The service over HTTP as a world of the load driver, and the process that is started for it."""

from __future__ import annotations

import io
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import soundfile

from engine.clock import Clock
from engine.contract import ConfigError, UnsupportedEngine
from experiments.common.cli import one_line
from experiments.common.plain import Config
from experiments.common.processes import worker_environment
from experiments.load.audio import Heard
from experiments.load.driver import Done, Order, Reply
from experiments.serve.app import BATCH, CHUNKS, EVALS, FRAMES, QUEUE_S
from experiments.serve.service import READY
from experiments.workload.requests import Workload
from metrics.speed.load import ServedStatus

Body = dict[str, Any]


class HttpWorld:
    """A context manager around `num_slots` connections. The line and the batches are the service's own."""

    def __init__(self, client: httpx.Client, bodies: Sequence[Body], num_slots: int, clock: Clock):
        self._client, self._bodies, self._clock = client, bodies, clock
        self.num_slots = num_slots
        self._threads = ThreadPoolExecutor(max_workers=num_slots, thread_name_prefix="connection")
        self._back: queue.SimpleQueue[tuple[Order, Future[tuple[Reply, float]]]] = queue.SimpleQueue()

    def now_s(self) -> float:
        return self._clock.now_s()

    def start(self, orders: Sequence[Order]) -> None:
        (order,) = orders
        call = self._threads.submit(self.ask, order.item)
        call.add_done_callback(partial(self._come_back, order))

    def _come_back(self, order: Order, call: Future[tuple[Reply, float]]) -> None:
        self._back.put((order, call))

    def ask(self, item: int) -> tuple[Reply, float]:
        """One request, and when its last byte was here."""
        sent_s = self._clock.now_s()
        try:
            response = self._client.post("/synthesize", json=self._bodies[item])
        except httpx.HTTPError as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            return Reply(status="failed", started_s=None, reason=reason), self._clock.now_s()
        ended_s = self._clock.now_s()
        return reply_of(response, sent_s), ended_s

    def wait(self, until_s: float | None) -> Done | None:
        try:
            timeout_s = None if until_s is None else max(0.0, until_s - self._clock.now_s())
            order, call = self._back.get(timeout=timeout_s)
        except queue.Empty:
            return None
        reply, ended_s = call.result()
        return Done(orders=(order,), replies=(reply,), ended_s=ended_s)

    def __enter__(self) -> HttpWorld:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)


def reply_of(response: httpx.Response, sent_s: float) -> Reply:
    """503 is a rejection; anything else but 200 a failure with the service's own line."""
    if response.status_code != 200:
        status: ServedStatus = "rejected" if response.status_code == 503 else "failed"
        reason = one_line(f"{response.status_code}: {response.text[:300]}")
        return Reply(status=status, started_s=None, reason=reason)
    headers = response.headers
    try:
        audio_S, rate_hz = soundfile.read(io.BytesIO(response.content), dtype="float32")
        heard = Heard(
            audio_S=audio_S, sample_rate_hz=rate_hz, num_frames=int(headers[FRAMES]), num_chunks=int(headers[CHUNKS]),
            num_evals=int(headers[EVALS]),
        )  # fmt: skip
    except (soundfile.LibsndfileError, KeyError, ValueError) as error:
        return Reply(status="failed", started_s=None, reason=one_line(f"not an answer of this service: {error}"))
    return Reply(
        status="ok",
        started_s=sent_s + float(headers[QUEUE_S]),
        audio_s=len(audio_S) / rate_hz,
        batch_size=int(headers[BATCH]),
        payload=heard,
    )


def bodies_of(workload: Workload) -> list[Body]:
    """What is posted for each sentence: the service has the voices itself, and draws the same noise."""
    return [
        {
            "text": request.text, "voice": voice.voice_id, "utterance_id": request.utterance_id, "seed": request.seed,
            "speed_ratio": request.speed_ratio,
        }
        for request, voice in zip(workload.requests, workload.voices, strict=True)
    ]  # fmt: skip


def open_client(url: str, connections: int, limit_s: float) -> httpx.Client:
    """Proxies of the environment are not for a service that is measured. Raises ConfigError for what is no address."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    try:
        return httpx.Client(base_url=url, timeout=limit_s, limits=limits, trust_env=False)
    except httpx.InvalidURL as error:
        raise ConfigError("load.url", url, f"is no address ({error})", "write url=http://localhost:8000") from error


def ask_json(client: httpx.Client, path: str) -> dict[str, Any]:
    """Raises ConfigError where nothing of ours answers."""
    try:
        response = client.get(path)
        content = response.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        reason = one_line(f"{path} does not answer ({error})")
        raise ConfigError(
            "load.url", str(client.base_url), reason, "start `python -m experiments.serve` there"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            "load.url", str(client.base_url), f"{path} is not that of this service", "see experiments.serve"
        )
    return content


@contextmanager
def started_service(config: Config, overrides: Sequence[str], log: Path, lock: int) -> Iterator[str]:
    """`experiments.serve` on a free loopback port; yields its URL. It inherits the device lock, and ends with us.

    Raises UnsupportedEngine with its last line where it does not come up.
    """
    command = [
        sys.executable,
        "-m",
        "experiments.serve",
        *overrides,
        "serve.host=127.0.0.1",
        "serve.port=0",
        "--watch-parent",
    ]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command, env=worker_environment(config), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            encoding="utf-8", errors="replace", pass_fds=(lock,),
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(READY):
            process.wait()
            last = (log.read_text("utf-8", errors="replace").strip().splitlines() or ["no output"])[-1]
            raise UnsupportedEngine(f"the service did not start: {last.removeprefix('error: ')}", f"see {log}")
        yield line.removeprefix(READY).strip()
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
