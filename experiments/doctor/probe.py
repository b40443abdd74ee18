"""Imports packages in a process of its own, so that one that crashes or hangs costs its own row and not the answer.

The parent's side is `probe`; the child is `python -m experiments.doctor.probe MODULE ...`. Standard library only, and
nothing newer than Python 3.8: it must run where everything is missing.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from experiments.common.failure import by_signal

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_ERROR_CHARS = 300
# What a broken installation usually raises. Anything else ends the child, which is a row as well.
FAILURES = (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError)
# Importing must not call home, and looking must not reserve memory of a device
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Found:
    """What importing one module gave. status: ok, missing (not installed) or broken (installed, does not import)."""

    status: str
    version: str | None = None
    error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


def probe(modules: Sequence[str], patience_s: float) -> dict[str, Found]:
    """Import `modules` in order in one child; after a crash or `patience_s` without a word, go on in the next child."""
    found: dict[str, Found] = {}
    while len(found) < len(modules):
        rest = [module for module in modules if module not in found]
        found.update(_one_child(rest, patience_s))
    return found


def _one_child(modules: Sequence[str], patience_s: float) -> dict[str, Found]:
    """At least one module gets an answer: the first one without has killed the child or held it up."""
    command = [sys.executable, "-m", "experiments.doctor.probe", *modules]
    child = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **QUIET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
    )
    assert child.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_forward, args=(child.stdout, lines), daemon=True).start()
    found: dict[str, Found] = {}
    ending = None
    while len(found) < len(modules):
        try:
            line = lines.get(timeout=patience_s)
        except queue.Empty:
            ending = f"its import gave no answer for {patience_s:g} s"
            break
        if not line:
            break
        data = json.loads(line)
        module = data.pop("module")
        found[module] = Found(**data)
    if ending is not None or len(found) == len(modules):
        child.kill()
    code = child.wait()
    if len(found) < len(modules):
        found[modules[len(found)]] = Found(status="broken", error=ending or f"its import {ended(code)}")
    return found


def _forward(stream: IO[str], lines: queue.Queue[str]) -> None:
    """Every line, then an empty one: the child has ended."""
    for line in stream:
        lines.put(line)
    lines.put("")


def ended(code: int) -> str:
    if code >= 0:
        return f"ended the process with exit code {code}"
    return f"ended the process by {by_signal(-code)}"


def main(modules: list[str]) -> None:
    """One JSON line per module, each written before the next import begins."""
    # What a module prints while it is imported must not stand among the answers
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for module in modules:
        answers.write(json.dumps({"module": module, **_import(module)}) + "\n")
        answers.flush()


def _import(module: str) -> dict[str, Any]:
    try:
        loaded = importlib.import_module(module)
        details = DETAILS[module](loaded) if module in DETAILS else {}
    except ModuleNotFoundError as error:
        # Something that the module itself needs and does not find is a broken installation, not a missing one
        is_absent = error.name is not None and (module + ".").startswith(error.name + ".")
        return {"status": "missing" if is_absent else "broken", "error": error_line(error)}
    except FAILURES as error:
        return {"status": "broken", "error": error_line(error)}
    return {"status": "ok", "version": getattr(loaded, "__version__", None), "details": details}


def error_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:MAX_ERROR_CHARS]


def _torch(torch: Any) -> dict[str, Any]:
    """The build and the devices. Only properties are read: no context is made on a device."""
    names = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        names.append(f"{properties.name} (sm_{properties.major}{properties.minor})")
    return {"cuda": torch.version.cuda, "devices": names, "cpu": torch.backends.cpu.get_cpu_capability()}


def _onnxruntime(onnxruntime: Any) -> dict[str, Any]:
    return {"providers": list(onnxruntime.get_available_providers())}


DETAILS = {"torch": _torch, "onnxruntime": _onnxruntime}


if __name__ == "__main__":
    main(sys.argv[1:])
