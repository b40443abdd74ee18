"""The server of a machine of a fleet: `python -m experiments.fleet.node`, a JSON request a line, answers as lines.

It does what a sweep does on its own machine: takes the device lock, starts a fresh worker for the job, watches it, and
keeps the calibrations of this machine. Nothing else of it runs while something is timed but a look at the folder every
two seconds. When its stdin ends it ends, and its worker with it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import queue
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.cache import cache_root
from engine.contract import ConfigError
from engine.settings import DeviceSettings
from experiments.common.cli import one_line
from experiments.common.device_lock import device_lock
from experiments.common.environment import fingerprint, read_cpu
from experiments.common.journal import Journal
from experiments.common.plain import Config
from experiments.fleet.facts import boot_id, differences, environment_of, facts_of
from experiments.fleet.relay import END
from experiments.fleet.travel import refuse_others, settled, shelve, shelved
from experiments.fleet.wire import About, Job, Keep, Lacking, News, Outbox
from experiments.measuring.energy import launch_with_energy
from experiments.measuring.job import RESULT, Ending, JobResult, JobSpec, compose_record
from experiments.measuring.running import make_launcher
from metrics.parts.environment import Environment
from metrics.record import save_record

Send = Callable[[News], None]

HELD = ".held"  # of a job folder whose server lives


def about(request: About, send: Send) -> None:
    """The host classes of this machine, each with its facts."""
    for kind in request["kinds"]:
        device: DeviceSettings = {"name": kind, "kind": kind, "threads": None}
        host_class = fingerprint(device)["host_class"]
        send({"kind": "class", "host_class": host_class, "facts": facts_of(device)})
    model, flags = read_cpu(Path("/proc/cpuinfo"))
    send({"kind": "about", "boot_id": boot_id(), "cpu_model": model, "cpu_flags": flags, "pid": os.getpid()})


def lacking(request: Lacking, send: Send) -> None:
    """Which of the hashes were never sent here."""
    send({"kind": "lacking", "hashes": [sha256 for sha256 in request["hashes"] if not shelved(sha256).is_file()]})


def keep(request: Keep, send: Send) -> None:
    """Files that travel."""
    for sha256, data in request["files"].items():
        shelve(sha256, base64.b64decode(data, validate=True))


def job(request: Job, send: Send) -> None:
    """One job, as a sweep has it done on its own machine; its folder goes back piece by piece."""
    with work_folder() as folder:
        spec = JobSpec(
            folder=folder / "job", run_id=request["run_id"], label=request["label"], kind=request["kind"],
            config=settled(request["config"], request["files"], folder / "files"),
        )  # fmt: skip
        spec.folder.mkdir()
        outbox = Outbox(spec.folder, send)
        try:
            result = _carried_out(spec, request, outbox, send)
        except ConfigError as error:
            result = _refused(spec, error)
        environment: Environment = {**result.record.environment, **request["git"]}
        record = replace(result.record, config=request["asked"], environment=environment)
        save_record(record, spec.folder / RESULT)
        outbox.ended()
    send({
        "kind": "done", "failure": result.failure, "exit_code": result.exit_code, "log_tail": list(result.log_tail),
    })  # fmt: skip


def _carried_out(spec: JobSpec, request: Job, outbox: Outbox, send: Send) -> JobResult:
    refuse_others(spec.config, request["expected"], request["machine"])
    command = request["command"]
    if command is not None:
        command = [sys.executable, *command[1:]]
    device = spec.config["device"]
    mode = spec.config["sweep"]["lock"]
    with device_lock(str(device["kind"]), mode, lambda line: send({"kind": "said", "line": line})) as lock:
        changed = "; ".join(_changed(spec.config, request))
        if changed:
            send({"kind": "changed", "reason": changed})  # whoever asked gives the cell to another machine
            raise ConfigError("sweep.hosts", request["machine"], f"has changed: {changed}", "set it back, resume")
        return launch_with_energy(spec, make_launcher(lock, outbox.running, command))


def _changed(config: Config, request: Job) -> list[str]:
    """How this machine differs from the one that it was when the sweep began: clocks and modes can be set meanwhile."""
    facts = facts_of({**config["device"], "threads": None})
    if environment_of(facts) == request["environment"]:
        return []
    return differences(request["facts"], facts) or ["its facts"]


def _refused(spec: JobSpec, error: ConfigError) -> JobResult:
    """The record of a job that could not be started here."""
    reason = one_line(f"{error.key}={error.value}: {error.allowed}")
    ending: Ending = {"status": "failed", "reason": reason, "remedy": error.remedy, "error": "ConfigError"}
    record = compose_record(spec, Journal(), ending)
    return JobResult(record=record, failure="config", exit_code=None, log_tail=())


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder of this process below the cache, gone afterwards; those of servers that were killed go first.

    Who works in one holds a lock there: who shares a home with others knows nothing of their processes.
    """
    shelf = cache_root() / "fleet" / "jobs"
    shelf.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with (shelf / HELD).open("wb") as turn:  # nobody looks at a folder whose lock is still to be taken
            fcntl.flock(turn, fcntl.LOCK_EX)
            for left in shelf.iterdir():
                if left.is_dir() and not _is_held(left):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=shelf)))
            fcntl.flock(stack.enter_context((folder / HELD).open("wb")), fcntl.LOCK_EX)
        yield folder


def _is_held(folder: Path) -> bool:
    try:
        with (folder / HELD).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


ANSWERS: Mapping[str, Callable[[Any, Send], None]] = {"about": about, "lacking": lacking, "keep": keep, "job": job}


def main() -> int:
    """Answers until stdin ends. What a request prints goes to stderr: stdout is the line."""
    line = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()

    def send(news: News) -> None:
        line.write(json.dumps(news, ensure_ascii=False) + "\n")
        line.flush()

    while True:
        request = json.loads(requests.get())
        ANSWERS[request["ask"]](request, send)
        send({"kind": END})


def _read(requests: queue.Queue[str]) -> None:
    """The other end is gone when stdin ends: so is whoever wanted what runs."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
