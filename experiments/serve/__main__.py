"""A small service that keeps the model loaded: `python -m experiments.serve engine=bf16 serve.port=8000`."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clock import make_clock
from engine.contract import ConfigError, SynthesisRequest, UnsupportedEngine
from engine.families.family import family_of
from experiments.common.cli import EXIT_OK, note, one_line, run_verb
from experiments.common.environment import fingerprint
from experiments.common.plain import Config
from experiments.common.presets import with_presets
from experiments.measuring.engines import build_by_name, facts_content
from experiments.measuring.validate import one_cell
from experiments.serve.service import READY, Service
from experiments.serve.settings import SERVE, Serve, refuse_unserved
from experiments.telemetry.backends import choose
from experiments.workload.requests import load_workload
from experiments.workload.voices import Voice, load_voices

if TYPE_CHECKING:
    from experiments.serve.app import Front
    from experiments.serve.counters import ServiceCounters

HELP = """Keep one engine loaded and serve it over HTTP, on loopback unless serve.host= says otherwise.

  POST /synthesize  {"text": "..", "voice": "slt", "seed": 0, "speed_ratio": 1.0, "utterance_id": ".."} -> audio/wav
                    422 with one line for a request that cannot be served, 503 while the queue is full
  POST /v1/audio/speech  {"model": "..", "input": "..", "voice": "slt", "response_format": "wav|flac|pcm", "speed": 1}
                    the same for clients of OpenAI's audio API; GET /v1/models names model and voices; GET /docs
  GET  /healthz (alive, from the first moment), /readyz (503 until the model is built and warm), /facts, /memory,
       /metrics (for Prometheus: latency and RTF by length, line, errors, memory, power where there is a source)
  Everything but serve.KEY=VALUE is an override of the variant, as in experiments.run.

examples:
  python -m experiments.serve engine=bf16 solver=euler_7
  curl -s -d '{"text": "Good morning to you!"}' -H 'Content-Type: application/json' -o a.wav localhost:8000/synthesize
  locust -f experiments/serve/locustfile.py --host http://localhost:8000

The service takes no device lock: nothing is measured by it. `experiments.load load.transport=http` takes it.
exit codes: 0 done, 2 usage or configuration, 14 the engine cannot be built here, 130 interrupted
"""
WATCH = "--watch-parent"
LAST_ANSWERS_S = 10  # for who is being answered when the service is told to end


@with_presets
def main(argv: Sequence[str]) -> int:
    watched = [text for text in argv if text != WATCH]
    if len(watched) < len(argv):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if SERVE.answered(watched, HELP):
        return EXIT_OK
    _refuse_bare()
    refuse_unserved(watched)
    mine, overrides = SERVE.split(watched)
    settings = SERVE.made(mine)
    cell = one_cell(overrides)
    return serve(cell.config, settings)


def serve(config: Config, settings: Serve) -> int:
    """Until the process is told to end. The address first: who cannot have it builds no model.

    The line on stdout says that requests are taken from now on; until then /healthz says "starting" and all else 503.
    """
    from experiments.serve.app import Front, create_app

    clock, front = make_clock(str(config["device"]["kind"])), Front()
    with open_socket(settings.host, settings.port) as listener:
        with running(front, listener) as ended:
            voices, check, environment = voices_of(config), text_check(config), fingerprint(config["device"])
            with Service(lambda: build_by_name(config, clock), settings.rule, clock) as service:
                if settings.warm_up:
                    note(warm(service, load_workload(config).requests))
                counters = counters_of(service, environment, str(config["device"]["kind"]))
                front.inner = create_app(
                    service, voices, check, lambda: facts_content(service.facts), environment, counters
                )
                with canary(service, settings, config, counters):
                    host, port = listener.getsockname()
                    print(f"{READY}http://{host}:{port}", flush=True)
                    ended.wait()
    return EXIT_OK


def counters_of(service: Service, environment: Mapping[str, object], kind: str) -> ServiceCounters:
    """What /metrics tells from now on. kind: of the device, whose power is read where there is a source."""
    from experiments.serve.counters import ServiceCounters

    backend = choose(kind)
    power = None if backend.source == "none" else backend.read
    counters = ServiceCounters(service.facts, environment, service.counts, power)
    service.watch = counters.observe
    return counters


def canary(
    service: Service, settings: Serve, config: Config, counters: ServiceCounters
) -> AbstractContextManager[object]:
    """Of the workload's middle sentence by length; nothing where none is asked for. Raises ConfigError."""
    if settings.canary_minutes is None:
        return nullcontext()
    from experiments.serve.canary import Canary

    by_length = sorted(load_workload(config).requests, key=lambda request: len(request.text))
    kept = None if settings.canary_reference is None else Path(settings.canary_reference)
    made = Canary(service, by_length[len(by_length) // 2], 60 * settings.canary_minutes, kept)
    counters.add(made)
    return made


@contextmanager
def running(front: Front, listener: socket.socket) -> Iterator[threading.Event]:
    """The HTTP server on a thread of its own, as the model may take a minute; it ends with this block.

    Yields what is set when the server has ended. (A join that a signal interrupts takes the thread for ended.)
    """
    import uvicorn

    config = uvicorn.Config(
        front, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=LAST_ANSWERS_S
    )
    server, ended = uvicorn.Server(config), threading.Event()

    def run() -> None:
        try:
            server.run([listener])
        finally:
            ended.set()

    threading.Thread(target=run, name="http", daemon=True).start()
    try:
        yield ended
    finally:
        server.should_exit = True
        ended.wait()


def warm(service: Service, requests: Sequence[SynthesisRequest]) -> str:
    """Speak the shortest, the middle and the longest text, then the middle one again; says what that took.

    Raises UnsupportedEngine where the engine cannot: nobody could be answered.
    """
    by_length = sorted(requests, key=lambda request: len(request.text))
    middle = by_length[len(by_length) // 2]
    try:
        times_s = service.warm_up([by_length[0], middle, by_length[-1], middle])
    except ConfigError:
        raise
    except (RuntimeError, ValueError, MemoryError) as error:
        reason = one_line(f"the engine cannot speak: {type(error).__name__}: {error}")
        raise UnsupportedEngine(reason, "try the same overrides with experiments.run") from error
    return (
        f"warmed up in {sum(times_s):.2f} s: the first call took {times_s[0]:.2f} s, {len(middle.text)} characters now "
        f"take {times_s[-1]:.2f} s (serve.warm_up=false leaves it out)"
    )


def open_socket(host: str, port: int) -> socket.socket:
    """Raises ConfigError where the address cannot be had."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except socket.gaierror as error:
        listener.close()
        raise ConfigError(
            "serve.host", host, f"is no address ({error.strerror})", "use serve.host=127.0.0.1"
        ) from error
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(
                "serve.host", host, "is no address of this machine", "use serve.host=127.0.0.1, or 0.0.0.0 for all"
            ) from error
        raise ConfigError(
            "serve.port", port, f"{host}:{port} cannot be had ({error.strerror})", "use serve.port=0"
        ) from error
    listener.listen(1024)
    return listener


def _refuse_bare() -> None:
    """Before a model is loaded for nothing."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UnsupportedEngine(f"the service needs {error.name}", "pip install '.[serve]'") from error


def _end_with_parent() -> None:
    """Who started this service for a load holds the other end of stdin: when it is gone, nobody wants it any more."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


def voices_of(config: Config) -> dict[str, Voice]:
    return {voice.voice_id: voice for voice in load_voices(config["reference"])}


def text_check(config: Config) -> Callable[[str], None]:
    """What raises ConfigError for a text that the model cannot speak."""
    check = family_of(config["model"]).text_check(config["model"])
    return lambda text: check("text", text)


if __name__ == "__main__":
    sys.exit(run_verb(main))
