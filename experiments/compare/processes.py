"""The two sides of a comparison as processes: servers that have imported, children that measure one block.

Only one child works at a time, because the coordinator waits for an answer before it sends the next order; it waits in
the kernel, so it costs nothing meanwhile. A server is started with the tree whose `engine` it shall import.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from experiments.common.plain import Config
from experiments.common.processes import worker_environment
from experiments.compare.answers import Built, Called

PROGRAM = Path(__file__).resolve().parent / "child.py"
START_LIMIT_S = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What speaks for a side. imports: the folder of the tree that its interpreter imports from; package: what of the
    tree its server has imported when it says that it is ready, "" for one that leaves that to its children."""

    python: str = sys.executable
    file: Path = PROGRAM
    imports: str = ""
    package: str = "engine"


class SideFailed(Exception):
    """A side that could not be built or did not answer a call. kind: the exception's name, "died" or "hang"."""

    def __init__(self, side: str, kind: str, reason: str, remedy: str):
        super().__init__(f"{side}: {reason}; {remedy}")
        self.side = side
        self.kind = kind
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, kw_only=True, slots=True)
class SideSpec:
    """What one side is. tree: the checkout whose engine is imported; requests: the JSON that the children read.

    environment: of its processes; None: what an engine is measured in.
    """

    side: str
    tree: Path
    config: Config
    requests: Path
    threads: int
    slow_frac: float = 0.0
    program: Program = field(default_factory=Program)
    environment: Mapping[str, str] | None = None


class Channel:
    """JSON lines over one socket, with a time limit for every answer."""

    def __init__(self, side: str, connection: socket.socket):
        self.side = side
        self.socket = connection
        self._waiting = b""

    def send(self, message: Mapping[str, object], *descriptors: int) -> None:
        """descriptors: open files for the other end; the message must then be short, it goes in one piece."""
        line = json.dumps(message, allow_nan=False).encode() + b"\n"
        try:
            if descriptors:
                socket.send_fds(self.socket, [line], descriptors)
            else:
                self.socket.sendall(line)
        except (BrokenPipeError, ConnectionResetError):
            return  # the answer that does not come says the rest

    def receive(self, limit_s: float) -> dict[str, Any] | None:
        """The next message; None where the other end is gone. Raises SideFailed("hang") at the limit."""
        deadline_s = time.monotonic() + limit_s
        while b"\n" not in self._waiting:
            ready, _, _ = select.select([self.socket], [], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise SideFailed(
                    self.side, "hang", f"no answer within {limit_s:g} s", "raise call_limit_s, see log.txt"
                )
            try:
                received = self.socket.recv(1 << 16)
            except ConnectionResetError:
                received = b""
            if not received:
                return None
            self._waiting += received
        line, _, self._waiting = self._waiting.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


class Server:
    """A process that has imported the engine package of `spec.tree` and forks children. A context manager."""

    def __init__(self, spec: SideSpec, log: BinaryIO, lock: int | None):
        ours, theirs = socket.socketpair()
        own = worker_environment(spec.config) if spec.environment is None else spec.environment
        environment = {**own, "PYTHONPATH": str(spec.tree / spec.program.imports)}
        kept = (theirs.fileno(),) if lock is None else (theirs.fileno(), lock)
        self.home = (spec.tree / spec.program.package).resolve()
        package = spec.program.package
        self._unborn = f"its {package} package cannot be imported" if package else "its Python did not start"
        self._process = subprocess.Popen(
            [spec.program.python, str(spec.program.file), str(theirs.fileno())],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=spec.tree, pass_fds=kept,
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._channel = Channel(spec.side, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Raises SideFailed where the tree's engine cannot be imported, or another one was."""
        answer = self._channel.receive(START_LIMIT_S)
        if answer is None:
            raise SideFailed(self._channel.side, "died", self._unborn, "see log.txt")
        if Path(answer["ready"]) != self.home:
            raise SideFailed(
                self._channel.side,
                "died",
                f"its {self.home.name} package came from {answer['ready']}",
                "check PYTHONPATH",
            )

    def fork(self, side: str) -> Child:
        """Raises SideFailed where the server is gone."""
        ours, theirs = socket.socketpair()
        self._channel.send({"do": "fork"}, theirs.fileno())
        theirs.close()
        answer = self._channel.receive(START_LIMIT_S)
        if answer is None:
            ours.close()
            raise SideFailed(side, "died", "its server is gone", "see log.txt")
        return Child(Channel(side, ours), self, int(answer["pid"]))

    def exit_code_of(self, pid: int) -> int | None:
        self._channel.send({"do": "wait", "pid": pid})
        answer = self._channel.receive(START_LIMIT_S)
        return None if answer is None else int(answer["exit_code"])

    def close(self) -> None:
        """End the server and, with its process group, every child that is left."""
        self._channel.socket.close()
        kill_group(self._process)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Child:
    """One side in one block: built once, then called."""

    def __init__(self, channel: Channel, server: Server, pid: int):
        self._channel = channel
        self._server = server
        self._pid = pid
        self._owes_answer = False
        self._has_ended = False
        self.facts: Built = {}

    @property
    def side(self) -> str:
        return self._channel.side

    def start_building(self, spec: SideSpec) -> None:
        self._order(
            {
                "do": "build", "config": spec.config, "requests": str(spec.requests), "threads": spec.threads,
                "slow_frac": spec.slow_frac,
            }
        )  # fmt: skip

    def finish_building(self, limit_s: float) -> float:
        """Seconds of the build. Raises SideFailed."""
        answer = self._answer(limit_s)
        self.facts = answer["facts"]
        return float(answer["build_s"])

    def call(self, utterance: int, seed: int, limit_s: float, keep: Path | None = None) -> Called:
        """One timed call; see child.Side.call. Raises SideFailed."""
        order: dict[str, Any] = {"do": "call", "utterance": utterance, "seed": seed}
        self._order(order if keep is None else {**order, "keep": str(keep)})
        return cast(Called, self._answer(limit_s))

    def counted(self, limit_s: float) -> dict[str, int]:
        """What its engine says must not change once it is warm. Raises SideFailed."""
        self._order({"do": "count"})
        counted: dict[str, int] = self._answer(limit_s)["counted"]
        return counted

    def close(self) -> None:
        """Its end of the socket closes, so it leaves; waited for, so that nothing of it runs beside the next block.

        One that still owes an answer may never come to read that the socket is closed, so it is killed.
        """
        self._channel.socket.close()
        if self._has_ended:
            return
        if self._owes_answer:
            kill(self._pid)
        self._end()

    def _end(self) -> int | None:
        """Its exit code, asked for once: the server has forgotten it, and the system its number, after that."""
        self._has_ended = True
        return self._server.exit_code_of(self._pid)

    def _order(self, order: Mapping[str, object]) -> None:
        self._owes_answer = True
        self._channel.send(order)

    def _answer(self, limit_s: float) -> dict[str, Any]:
        answer = self._channel.receive(limit_s)
        self._owes_answer = False
        if answer is None:
            code = self._end()
            how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            raise SideFailed(self.side, "died", f"its process ended ({how})", "see log.txt")
        error = answer.get("error")
        if error is not None:
            reason = error.get("reason") or error["message"]
            raise SideFailed(self.side, error["kind"], reason, error.get("remedy") or "see log.txt")
        return answer


def kill(pid: int) -> None:
    """At once, also where it hangs. pid: of a process that nobody has waited for, so the number is still its own."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # its server is gone, so the system has waited for it


def kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
