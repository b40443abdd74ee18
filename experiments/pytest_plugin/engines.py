"""Engines as functions for the pytest fixture: each call speaks the next sentence; what was said is checked."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from engine.clock import make_clock
from engine.contract import ConfigError, Engine, Synthesis
from experiments.common.device_lock import device_lock
from experiments.common.environment import num_threads
from experiments.common.plain import Config
from experiments.load.audio import AudioCheck
from experiments.load.in_process import heard_of
from experiments.measuring.engines import build_by_name
from experiments.measuring.validate import validate
from experiments.settings.compose import compose_run
from experiments.workload.requests import Workload, load_workload
from metrics.speed.steady import changed_text, counted


class Speaker:
    """Every call speaks the next request; an engine's answer is audio in memory, so it has finished.

    An engine that counts what it compiles, captures or opens speaks every request once before anything is timed.
    """

    def __init__(self, label: str, engine: Engine, workload: Workload, check: AudioCheck):
        self._label, self._engine, self._requests, self._check = label, engine, workload.requests, check
        self._num_calls = 0
        self._first: dict[int, Synthesis] = {}
        if counted(engine.facts.proof):
            for item, request in enumerate(self._requests):
                (self._first[item],) = engine.synthesize([request])
        self._warm = counted(engine.facts.proof)

    def __call__(self) -> Synthesis:
        item = self._num_calls % len(self._requests)
        self._num_calls += 1
        (said,) = self._engine.synthesize([self._requests[item]])
        self._first.setdefault(item, said)  # judged when nothing is timed any more
        return said

    def fault(self) -> str | None:
        """What is wrong with the first answer to a sentence, or moved while calls were timed; else None."""
        for item in sorted(self._first):
            self._check.hear(item, heard_of(self._first.pop(item)))
        if self._check.invalid:
            return f"{self._label}: invalid audio of {self._check.invalid[0]}"
        said = changed_text(self._warm, counted(self._engine.facts.proof))
        return f"{self._label}: not steady, {said} in the timed calls" if said else None


def speakers(variants: Sequence[str], stack: ExitStack) -> tuple[Speaker, ...]:
    """One per variant, given as overrides in one string; engines, locks and threads are given back with `stack`."""
    import torch

    cells = [compose_run(shlex.split(variant)) for variant in variants]
    for cell in cells:
        validate(cell.config)
    _refuse_other_threads([cell.config for cell in cells])
    for device in sorted({str(cell.config["device"]["kind"]) for cell in cells}):
        stack.enter_context(device_lock(device, "wait", print))
    stack.callback(torch.set_num_threads, torch.get_num_threads())
    made = []
    for cell in cells:
        engine = stack.enter_context(build_by_name(cell.config, make_clock(str(cell.config["device"]["kind"]))))
        workload = load_workload(cell.config)
        check = AudioCheck(
            config=cell.config, lines=workload.lines, random_weights=bool(engine.facts.random_weights),
            folder=Path(stack.enter_context(tempfile.TemporaryDirectory())), voice_dc=workload.voice_dc,
        )  # fmt: skip
        made.append(Speaker(cell.label, engine, workload, check))
    return tuple(made)


def _refuse_other_threads(configs: Sequence[Config]) -> None:
    """The number belongs to the process, and here all variants share one."""
    wanted = [num_threads(config["device"]) for config in configs]
    if len(set(wanted)) > 1:
        raise ConfigError(
            "device.threads", wanted, "one number for all variants of a test, since they share a process",
            "give the same to each, or use `python -m experiments.compare`",
        )  # fmt: skip
