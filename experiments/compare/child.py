"""The process that speaks for one side of a comparison, as a program: `python child.py SOCKET_FD`.

It is started by its path and imports nothing of ours but `engine`, and that from the first place on PYTHONPATH: so the
engine of another git revision is measured by this revision's measuring code. The program itself is a server that has
imported torch and built nothing; for every block it forks fresh children, which build, warm up and answer calls.
Whatever a child measures comes from memory and threads that no earlier block has used, without seconds of import.

Messages are JSON lines over Unix sockets. Server: {"do": "fork"} with the child's socket as ancillary data, {"do":
"wait", "pid"}. Child: {"do": "build"}, {"do": "call"}, {"do": "count"}. A closed socket ends either, so nobody survives
the coordinator.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict, cast

Message = dict[str, Any]
# What engines import while they are built or called first; another revision may lack some
PRELOADED = (
    "torch", "vocos", "vocos.models", "pypinyin", "rjieba", "soxr", "engine.pipeline", "engine.vocoders.vocos",
    "engine.step.precision", "engine.backends.eager.denoiser",
    "engine.vocoder", "engine.precision", "engine.denoiser.eager",  # as they were called before
)  # fmt: skip
OUR_ERRORS = ("UnsupportedEngine", "ConfigError", "InvalidRequest")


class Order(TypedDict):
    """The first message to a child. requests: path of their JSON; slow_frac: of a slowdown that is put in."""

    config: dict[str, Any]
    requests: str
    threads: int
    slow_frac: float


class Call(TypedDict, total=False):
    """utterance: which request; keep: where its audio goes."""

    utterance: int
    seed: int
    keep: str | None


def serve(connection: socket.socket) -> None:
    """Import what every engine needs, say so, then fork a child for every request. Starts no thread: fork is safe."""
    # By name: a type checker must not believe that this is the engine package beside this file
    build = importlib.import_module("engine.build")
    for name in PRELOADED:
        _preload(name)
    gc.collect()
    gc.freeze()  # a child's collector then leaves the pages that it shares alone
    send(connection, {"ready": str(Path(str(build.__file__)).resolve().parent)})
    while True:
        line, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        if not line:
            return
        message = json.loads(line)
        if message["do"] == "wait":
            _, status = os.waitpid(message["pid"], 0)
            send(connection, {"exit_code": os.waitstatus_to_exitcode(status)})
            continue
        pid = os.fork()
        if pid == 0:
            connection.close()
            _be_child(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])
        send(connection, {"pid": pid})


def _preload(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"not preloaded: {error}", file=sys.stderr, flush=True)


def _be_child(connection: socket.socket) -> None:
    """Answer until the coordinator closes; leave without the interpreter's own clean-up, which is the server's."""
    code = 1
    try:
        speak(connection)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def speak(connection: socket.socket) -> None:
    """One side of one block: first message builds the engine, every further one is a call or counts."""
    messages = receive(connection)
    order = next(messages, None)
    if order is None:
        return
    with Failure() as failure:
        side = Side(cast(Order, order))
    if failure.content is not None:
        send(connection, {"error": failure.content})
        return
    with side.engine:
        send(connection, {"facts": side.facts(), "build_s": side.build_s})
        for message in messages:
            answer: Message = {}
            with Failure() as failure:
                answer = side.call(cast(Call, message)) if message["do"] == "call" else {"counted": side.counted()}
            send(connection, answer if failure.content is None else {"error": failure.content})


class Side:
    """A built engine with its requests."""

    def __init__(self, order: Order):
        import torch

        clock_module = importlib.import_module("engine.clock")
        torch.set_num_threads(order["threads"])
        device = str(order["config"]["device"]["kind"])
        self._clock = clock_module.make_clock(device)
        self._requests = read_requests(Path(order["requests"]))
        self._slow_frac = float(order["slow_frac"])
        before_s = self._clock.now_s()
        self.engine = importlib.import_module("engine.build").build_engine(order["config"], self._clock)
        self._clock.sync()
        self.build_s = self._clock.now_s() - before_s
        # After the engine has said whether there is such a device
        self._events = None if device == "cpu" else DeviceEvents(device)

    def facts(self) -> Message:
        """What was built, with its proof, as JSON holds it."""
        content = {name: getattr(self.engine.facts, name) for name in type(self.engine.facts).__dataclass_fields__}
        return {**content, "versions": dict(content["versions"]), "proof": dict(content["proof"])}

    def counted(self) -> Message:
        """What the engine says must not change once it is warm; empty where it, or its revision, counts nothing."""
        counters = {str(name): int(count) for name, count in self.facts()["proof"].get("steady_counters", {}).items()}
        if self._events is not None:
            counters["device_memory_segments"] = self._events.memory_segments()
        return counters

    def call(self, message: Call) -> Message:
        """One timed call of sentence `utterance` with noise of `seed`; its audio goes to `keep` where that is given."""
        request = self._request(message["utterance"], message["seed"])
        gc.collect()
        gc.disable()
        try:
            result, times = self._timed(request)
        finally:
            gc.enable()
        if keep := message.get("keep"):
            _keep(Path(keep), result)
        return {
            **times, "num_evals": result.num_evals, "num_chunks": result.num_chunks,
            "num_frames": len(result.mel_ND), "sample_rate_hz": result.sample_rate_hz,
            "num_samples": len(result.audio_S), "noise_sha256": result.noise_sha256,
            "audio_sha256": hashlib.sha256(result.audio_S.tobytes()).hexdigest(), **_levels(result.audio_S),
            "peak_rss_bytes": peak_rss_bytes() if self._events is None else None,  # a GPU has memory of its own
        }  # fmt: skip

    def _timed(self, request: Any) -> tuple[Any, Message]:
        """`synthesize` alone, device-synchronised; an injected slowdown keeps the processor busy inside the region."""
        clock, events = self._clock, self._events
        clock.sync()
        if events is not None:
            events.start()
        cpu_before_s, before_s = time.process_time(), clock.now_s()
        results = self.engine.synthesize([request])
        clock.sync()
        if self._slow_frac:
            until_s = before_s + (clock.now_s() - before_s) * (1 + self._slow_frac)
            while clock.now_s() < until_s:
                pass
        after_s, cpu_after_s = clock.now_s(), time.process_time()
        times = {"wall_s": after_s - before_s, "cpu_s": cpu_after_s - cpu_before_s}
        return results[0], times if events is None else {**times, "device_s": events.stop_s()}

    def _request(self, index: int, seed: int) -> Any:
        contract = importlib.import_module("engine.contract")
        return contract.SynthesisRequest(**{**self._requests[index], "seed": seed})


class DeviceEvents:
    """Seconds on the device's own clock, between two events of the current stream.

    Both are recorded while the device is drained, so they bracket a call on whatever streams its backend works: one
    clock for all of them, and one that no scheduling of the host's threads moves.
    """

    def __init__(self, device: str):
        import torch

        self._device, self._stream = device, torch.cuda.current_stream(device)
        self._first, self._last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def memory_segments(self) -> int:
        """How many the allocator has asked this very device for."""
        import torch

        return int(torch.cuda.memory_stats(self._device).get("segment.all.allocated", 0))

    def start(self) -> None:
        self._first.record(self._stream)

    def stop_s(self) -> float:
        self._last.record(self._stream)
        self._last.synchronize()
        return float(self._first.elapsed_time(self._last)) / 1000


def peak_rss_bytes() -> int | None:
    """Of this process since it is one; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return None if found is None else 1024 * int(found.group(1))


def read_requests(path: Path) -> list[Message]:
    """The fields of the requests; `ref_audio` names a .npy file beside the JSON, (S,) float32."""
    import numpy as np

    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        entry["ref_audio_S"] = np.load(path.parent / entry.pop("ref_audio"), allow_pickle=False)
    return entries


def _levels(audio_S: Any) -> Message:
    """What shows at once that something was said: all samples finite, and the largest magnitude (null if not)."""
    import numpy as np

    finite = bool(np.isfinite(audio_S).all())
    return {"finite": finite, "peak": float(np.abs(audio_S).max(initial=0.0)) if finite else None}


def _keep(path: Path, result: Any) -> None:
    import numpy as np

    np.save(path, result.audio_S, allow_pickle=False)
    np.save(path.with_suffix(".mel.npy"), result.mel_ND, allow_pickle=False)


class Failure:
    """What an engine raised, of whatever kind: kind, message, and the reason, remedy and key of our own exceptions."""

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
        self.content = {"kind": name, "message": " ".join(str(error).split())}
        if name in OUR_ERRORS:  # by name: the class is that of the measured revision
            self.content |= {key: str(value) for key, value in vars(error).items() if isinstance(value, str)}
        else:
            traceback.print_exception(error)
        return True


def send(connection: socket.socket, message: Mapping[str, object]) -> None:
    connection.sendall(json.dumps(message, allow_nan=False, default=_plain).encode() + b"\n")


def receive(connection: socket.socket) -> Iterator[Message]:
    """Messages until the other end closes."""
    with connection.makefile("rb") as lines:
        for line in lines:
            yield json.loads(line)


def _plain(value: Any) -> Any:
    """Facts hold dataclasses and tuples of numpy numbers now and then."""
    return asdict(value) if getattr(value, "__dataclass_fields__", None) else str(value)


if __name__ == "__main__":
    # The folder of this file stands first on the path of a program; there the names of our verbs would hide modules
    here = Path(__file__).resolve().parent
    sys.path[:] = [part for part in sys.path if Path(part or ".").resolve() != here]
    serve(socket.socket(fileno=int(sys.argv[1])))
