"""A service from its first moment: the address before the model, alive before it is ready, warm before it is asked."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from engine.contract import ConfigError, Synthesis, SynthesisRequest
from experiments.common.cli import run_verb
from experiments.serve import __main__ as serve
from experiments.serve.settings import SERVE, Serve, refuse_unread, refuse_unserved, split_command
from tests.engines import config
from tests.load_fakes import ToneEngine


def read_serve(words: Sequence[str]) -> Serve:
    """serve.KEY=VALUE, as the verb makes it."""
    return SERVE.made(SERVE.split(words)[0])


def free_port() -> int:
    with serve.open_socket("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


def ask(port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
    """Status and body; 0 while nobody listens."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


class Recorded(ToneEngine):
    """Knows which texts it spoke, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        self.texts += [request.text for request in requests]
        return super().synthesize(requests)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell's background jobs ignore SIGINT, and so would everything that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.enable_socket
@pytest.mark.usefixtures("interruptible")
def test_a_service_is_alive_before_it_is_ready_and_warm_when_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port, go, engine, seen = free_port(), threading.Event(), Recorded(), dict[str, Any]()

    def build(config: object, clock: object) -> ToneEngine:
        go.wait(20)
        return engine

    def client() -> None:
        try:
            while (alive := ask(port, "/healthz"))[0] == 0:
                pass
            seen["starting"] = (alive[0], json.loads(alive[1])["status"])
            seen["unready"] = [ask(port, "/readyz")[0], ask(port, "/synthesize", {"text": "Go."})[0]]
            go.set()
            while ask(port, "/readyz")[0] != 200:
                pass
            seen["warm"] = list(engine.texts)
            seen["first"] = ask(port, "/synthesize", {"text": "Turn left."})[0]
            seen["health"] = json.loads(ask(port, "/healthz")[1])
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(serve, "build_by_name", build)
    thread = threading.Thread(target=client)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        serve.serve(config("workload=en_core", "workload.limit=5"), read_serve([f"port={port}"]))
    thread.join()
    assert (seen["starting"], seen["unready"]) == ((200, "starting"), [503, 503])
    assert len(seen["warm"]) == 4
    lengths = [len(text) for text in seen["warm"]]
    assert (lengths[0], lengths[2], lengths[3]) == (min(lengths), max(lengths), lengths[1])
    assert (seen["first"], seen["health"]["status"], seen["health"]["served"]) == (200, "ok", 1)
    assert engine.closed
    said = capsys.readouterr()
    assert said.out == f"serving on http://127.0.0.1:{port}\n"
    assert "warmed up in " in said.err
    assert "warm_up=false" in said.err


@pytest.mark.enable_socket
def test_who_cannot_have_the_port_builds_no_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[object] = []
    monkeypatch.setattr(serve, "build_by_name", lambda config, clock: built.append(config))
    with serve.open_socket("127.0.0.1", 0) as taken:
        assert run_verb(serve.main, ["workload=smoke", f"port={taken.getsockname()[1]}"]) == 2
    assert built == []
    assert "cannot be had" in capsys.readouterr().err


@pytest.mark.enable_socket
@pytest.mark.parametrize(("fault", "code"), [(ConfigError("engine.x", 1, "not so", "leave it out"), 2), (None, 14)])
def test_what_cannot_be_built_or_cannot_speak_ends_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: Exception | None, code: int
) -> None:
    def build(config: object, clock: object) -> ToneEngine:
        if fault is not None:
            raise fault
        return ToneEngine(breaks="en05")

    monkeypatch.setattr(serve, "build_by_name", build)
    assert run_verb(serve.main, ["workload=smoke", "port=0"]) == code
    said = capsys.readouterr()
    assert said.out == "", "it never said that it serves"
    assert ("engine.x=1" if fault else "the engine cannot speak: RuntimeError: out of tune") in said.err


def test_warming_up_is_a_setting_of_a_service_only() -> None:
    refuse_unserved(["warm_up=false"])
    with pytest.raises(ConfigError, match=r"is for experiments\.serve"):
        refuse_unread(["warm_up=false"], split_command(["warm_up=false"])[0])
    with pytest.raises(ConfigError, match="must be true or false"):
        read_serve(["warm_up=3"])
    with pytest.raises(ConfigError, match=r"serve\.port=70000: must be a whole number from 0 to 65535"):
        read_serve(["serve.port=70000"])


@pytest.mark.enable_socket
@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_a_host_that_is_not_here_is_named(host: str) -> None:
    """192.0.2.0/24 belongs to nobody (RFC 5737)."""
    with pytest.raises(ConfigError, match=r"^serve\.host="):
        serve.open_socket(host, 0)
