"""A small service that keeps the model loaded: `python -m experiments.serve engine=bf16 port=8000`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.checkpoint import locate
from engine.clock import make_clock
from engine.contract import ConfigError, UnsupportedEngine
from engine.vocabulary import read_vocabulary
from experiments.cli import EXIT_OK, run_verb
from experiments.environment import fingerprint
from experiments.front import is_help, refuse_flags, show_help
from experiments.load_settings import refuse_unserved, split_command
from experiments.presets import with_presets
from experiments.serve_service import Service
from experiments.validate import check_text, one_cell
from experiments.voices import Voice, load_voices
from experiments.worker import build_by_name, facts_content

HELP = """Keep one engine loaded and serve it over HTTP, on loopback unless host= says otherwise.

  POST /synthesize  {"text": "..", "voice": "slt", "seed": 0, "speed_ratio": 1.0, "utterance_id": ".."} -> audio/wav
                    422 with one line for a request that cannot be served, 503 while the queue is full
  GET  /healthz, /facts, /memory
  host=127.0.0.1 port=8000 (0: any free one), batching=true, batch_window_s, max_batch, bucket_chars, queue_limit:
  see conf/load.yaml. Everything else is an override of the variant, as in experiments.run.

examples:
  python -m experiments.serve engine=bf16 solver=euler_7
  curl -s -d '{"text": "Good morning to you!"}' -H 'Content-Type: application/json' -o a.wav localhost:8000/synthesize
  locust -f experiments/locustfile.py --host http://localhost:8000

The service takes no device lock: nothing is measured by it. `experiments.load transport=http` takes it.
exit codes: 0 done, 2 usage or configuration, 14 the engine cannot be built here, 130 interrupted
"""
READY = "serving on "
WATCH = "--watch-parent"


@with_presets
def main(argv: Sequence[str]) -> int:
    if is_help(argv):
        show_help(HELP)
        return EXIT_OK
    watched = [text for text in argv if text != WATCH]
    if len(watched) < len(argv):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    refuse_flags(watched)
    _refuse_bare()
    settings, overrides = split_command(watched)
    refuse_unserved(watched)
    cell = one_cell(overrides)
    host, port = str(settings.values["host"]), int(settings.values["port"])
    clock = make_clock(str(cell.config["device"]["kind"]))
    with (
        Service(lambda: build_by_name(cell.config, clock), settings.rule, clock) as service,
        open_socket(host, port) as listener,
    ):
        return serve(service, cell.config, listener)


def open_socket(host: str, port: int) -> socket.socket:
    """Raises ConfigError where the address cannot be had."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError("port", port, f"{host}:{port} cannot be had ({error.strerror})", "use port=0") from error
    listener.listen(1024)
    return listener


def serve(service: Service, config: Mapping[str, Any], listener: socket.socket) -> int:
    """Until the process is told to end. The line on stdout says that requests are taken from now on."""
    import uvicorn

    from experiments.serve_app import create_app

    environment = fingerprint(config["device"])
    app = create_app(service, voices_of(config), text_check(config), lambda: facts_content(service.facts), environment)
    host, port = listener.getsockname()
    print(f"{READY}http://{host}:{port}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
    return EXIT_OK


def _refuse_bare() -> None:
    """Before a model is loaded for nothing."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UnsupportedEngine(f"the service needs {error.name}", "pip install '.[serve]'") from error


def _end_with_parent() -> None:
    """Who started this service for a load holds the other end of stdin: when it is gone, nobody wants it any more."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


def voices_of(config: Mapping[str, Any]) -> dict[str, Voice]:
    return {voice.voice_id: voice for voice in load_voices(config["reference"])}


def text_check(config: Mapping[str, Any]) -> Callable[[str], None]:
    """What raises ConfigError for a text with characters that the model does not know."""
    vocabulary = read_vocabulary(locate("model.vocab", config["model"]["vocab"]))
    return lambda text: check_text("text", text, vocabulary)


if __name__ == "__main__":
    sys.exit(run_verb(main))
