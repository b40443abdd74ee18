"""The process that calls a function of somebody else's repository, as a program: `PYTHON child.py SOCKET_FD`.

It runs in their interpreter, started in their checkout, and imports the standard library and their module alone. It
needs nothing of ours, and nothing of ours lies on the path. The messages are those of `experiments.compare.child`, but
what their module starts when it is imported (threads, a GPU) survives no fork, so every block has fresh interpreters.
"""

from __future__ import annotations

import difflib
import gc
import hashlib
import importlib
import inspect
import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

Message = dict[str, Any]


class ConfigError(Exception):
    """A mistake of the one who asked. Carries reason and remedy, as our exceptions do."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(f"{reason}; {remedy}")
        self.reason, self.remedy = reason, remedy


def serve(connection: socket.socket) -> None:
    """Start a fresh interpreter for every request; its end of the socket is its only tie to the coordinator."""
    children: dict[int, subprocess.Popen[bytes]] = {}
    send(connection, {"ready": str(Path.cwd().resolve())})
    while True:
        line, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        if not line:
            return
        message = json.loads(line)
        if message["do"] == "wait":
            send(connection, {"exit_code": children.pop(message["pid"]).wait()})
            continue
        command = [sys.executable, __file__, "--child", str(descriptors[0])]
        child = subprocess.Popen(command, pass_fds=descriptors)
        os.close(descriptors[0])
        children[child.pid] = child
        send(connection, {"pid": child.pid})


def speak(connection: socket.socket) -> None:
    """One side of one block: the first message names the function, every further one is a call or counts."""
    with connection.makefile("rb") as lines:
        order = next(lines, None)
        if order is None:
            return
        with Failure() as failure:
            side = Side(json.loads(order))
        if failure.content is not None:
            send(connection, {"error": failure.content})
            return
        send(connection, {"facts": side.facts, "build_s": side.build_s})
        for line in lines:
            answer: Message = {}
            with Failure() as failure:
                answer = side.answer(json.loads(line))
            send(connection, answer if failure.content is None else {"error": failure.content})


class Failure:
    """Whatever their code raised: kind and message, and the reason and remedy of our own exception."""

    def __init__(self) -> None:
        self.content: Message | None = None

    def __enter__(self) -> Failure:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        name = type(error).__name__
        self.content = {"kind": name, "message": " ".join(f"{name}: {error}".split())}
        if isinstance(error, ConfigError):
            self.content.update(reason=error.reason, remedy=error.remedy)
        else:
            traceback.print_exception(type(error), error, error.__traceback__)
        return True


class Side:
    """The function, found. order: config (function, calls, below), requests (path of a JSON list of texts)."""

    def __init__(self, order: Message):
        config = order["config"]
        before_s = time.perf_counter()
        self._function = load(str(config["function"]), must_lie_below=bool(config["below"]))
        self.build_s = time.perf_counter() - before_s
        self._texts = json.loads(Path(order["requests"]).read_text(encoding="utf-8"))
        self._calls, self._slow_frac = int(config["calls"]), float(order["slow_frac"])
        self.facts = {
            "name": str(config["function"]), "python": platform.python_version(),
            "proof": {"file": where(self._function)},
        }  # fmt: skip

    def answer(self, message: Message) -> Message:
        return {"counted": {}} if message["do"] == "count" else self._call(message["utterance"])

    def _call(self, index: int) -> Message:
        """`calls` calls in one timed region; seconds are of one of them."""
        text = self._texts[index]
        arguments = () if text is None else (text,)
        gc.collect()
        gc.disable()
        try:
            said, wall_s, cpu_s = self._timed(arguments)
        finally:
            gc.enable()
        refuse_unfinished(said)
        return {
            "wall_s": wall_s / self._calls, "cpu_s": cpu_s / self._calls, "answer_sha256": digest(said),
            "peak_rss_bytes": peak_rss_bytes(),
        }  # fmt: skip

    def _timed(self, arguments: tuple[Any, ...]) -> tuple[Any, float, float]:
        synchronise()
        cpu_before_s, before_s = time.process_time(), time.perf_counter()
        for _ in range(self._calls):
            said = self._function(*arguments)
        synchronise()
        if self._slow_frac:
            until_s = before_s + (time.perf_counter() - before_s) * (1 + self._slow_frac)
            while time.perf_counter() < until_s:
                pass
        return said, time.perf_counter() - before_s, time.process_time() - cpu_before_s


def load(name: str, must_lie_below: bool) -> Callable[..., Any]:
    """module:function, or module:Class.method. must_lie_below: an installed copy is the same at every revision."""
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"{name}: there is no module {error.name} in {Path.cwd().name} or in this Python",
            "set path=src where the package lies in src/, and python= to an environment that has what it needs",
        ) from None
    home = Path(str(getattr(found, "__file__", None) or "")).resolve()
    if must_lie_below and Path.cwd().resolve() not in home.parents:
        raise ConfigError(
            f"{name}: came from {home}, which is no revision of the repository",
            "set path= to the folder that the package lies in, such as path=src",
        )
    for part in path.split("."):
        owner, found = found, getattr(found, part, None)
        if found is None:
            near = difflib.get_close_matches(part, [known for known in dir(owner) if known[:1] != "_"], n=1)
            remedy = f"did you mean {near[0]}?" if near else "correct the name, or choose a later revision"
            raise ConfigError(f"no such function: {module_name} has no {path}", remedy)
    if not callable(found):
        raise ConfigError(f"{name}: cannot be called", "name a function")
    return found


def where(function: object) -> str:
    """Its module's file below the checkout, for the record."""
    file = Path(str(getattr(sys.modules.get(getattr(function, "__module__", "")), "__file__", "") or ""))
    root = Path.cwd().resolve()
    return str(file.resolve().relative_to(root)) if root in file.resolve().parents else file.name


def synchronise() -> None:
    """A GPU that their code has used through torch has finished, before and after."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def refuse_unfinished(said: object) -> None:
    if inspect.isgenerator(said) or inspect.iscoroutine(said) or inspect.isasyncgen(said):
        kind = type(said).__name__
        raise ConfigError(
            f"it returned a {kind}, so nothing was computed yet", "name a function that returns the finished answer"
        )


def digest(value: object) -> str | None:
    """Of numbers, texts, bytes, arrays, and lists and dictionaries of them; None for what has no bits of its own."""
    found = hashlib.sha256()
    return found.hexdigest() if _feed(found, value) else None


def _feed(found: Any, value: Any) -> bool:
    found.update(type(value).__name__.encode())
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        found.update(repr(value).encode("utf-8", "surrogatepass"))
    elif isinstance(value, (bytes, bytearray)):
        found.update(value)
    elif isinstance(value, (list, tuple)):
        return all(_feed(found, item) for item in value)
    elif isinstance(value, dict):
        return all(_feed(found, key) and _feed(found, item) for key, item in value.items())
    else:
        array = _as_array(value)
        if array is None:
            return False
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(array.tobytes())
    return True


def _as_array(value: Any) -> Any:
    """A numpy array, also of a torch tensor; None for anything else. Neither is imported for it."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor):
        plain = value.detach().cpu()
        return (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()
    return value if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) else None


def peak_rss_bytes() -> int | None:
    """Of this process since it is one; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return None if found is None else 1024 * int(found.group(1))


def send(connection: socket.socket, message: Message) -> None:
    connection.sendall(json.dumps(message, allow_nan=False).encode() + b"\n")


if __name__ == "__main__":
    # The folder of this file stands first on the path of a program; there our names would hide theirs
    here = Path(__file__).resolve().parent
    sys.path[:] = [part for part in sys.path if Path(part or ".").resolve() != here]
    if sys.argv[1] == "--child":
        speak(socket.socket(fileno=int(sys.argv[2])))
    else:
        serve(socket.socket(fileno=int(sys.argv[1])))
