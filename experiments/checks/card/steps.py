"""The steps of the GPU check: one engine a process, the most telling first, until the budget is spent; what is known is
on the disk after every step.

Peaks of the card; float32, because every mel stands beside its; the eager and the captured loop, which must be equal
bit for bit; the engines by what they promise; the compiler that takes longest, the peer; then without guidance.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.checks.card.cases import FRAMES, PEAKS
from experiments.checks.card.judgement import ORACLE, allowed_for, judged
from experiments.common.processes import FLOAT32, module_environment
from metrics.record import to_json, write_atomically

FIRST = (
    "fp32", "bf16", "cuda_graph", "cuda_graph_compiled", "cuda_call_compiled", "cuda_call", "fused_bf16", "fused_fp16",
    "fused_int8", "fused_fp8", "fp16", "tensorrt_rtx_bf16", "tensorrt_rtx_int8", "tensorrt_int8", "tensorrt_fp16",
    "compiled_bf16",
)  # fmt: skip
LAST = ("int8_torchao", "upstream")
EQUAL = ("bf16", "cuda_graph")  # eager and captured: the same bits
UNGUIDED = (ORACLE, *EQUAL)
LIMIT_S = 90.0  # of one engine, its compilation included
LIMITS_S = {"int8_torchao": 60.0, ORACLE: 60.0}  # its compilation did not end in 100 s
ROUNDS_S = {ORACLE: 3.0, "upstream": 4.0}
EACH_ROUNDS_S = 5.0
FEWEST_S = 5.0  # with less left nothing is begun
RESULT = "gpu_check.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """engine: or `peaks`. extra: overrides of its own. frames: generated, of the cases."""

    engine: str
    guidance: str = "2"
    rounds_s: float = EACH_ROUNDS_S
    extra: tuple[str, ...] = ()
    frames: tuple[int, ...] = FRAMES

    @property
    def limit_s(self) -> float:
        return LIMITS_S.get(self.engine, LIMIT_S)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What is known of one engine. status: timed, spoken (right, but there was no time for its speed), wrong, skipped,
    failed, stopped (its limit or the budget ended it), not reached. error: the largest relative L2 of its mels."""

    engine: str
    guidance: str
    status: str
    reason: str | None = None
    error: float | None = None
    allowed: float | None = None
    call_ms: float | None = None
    rtf_ratio: float | None = None
    frames: int | None = None
    build_s: float | None = None
    first_call_s: float | None = None
    repeats_equal: bool | None = None

    def __str__(self) -> str:
        speed = "" if self.rtf_ratio is None else f"  {self.call_ms:.1f} ms  RTF {self.rtf_ratio:.4f}"
        near = "" if self.error is None else f"  {self.error:.1e} of {self.allowed:g} from {ORACLE}"
        why = "" if self.reason is None else f"  ({self.reason})"
        return f"{self.status:11} {self.engine:20} guidance {self.guidance}{speed}{near}{why}"


@dataclass(slots=True)
class Found:
    """All of it, as it stands in gpu_check.json."""

    budget_s: float | None
    peaks: dict[str, Any] = field(default_factory=dict)
    equality: list[dict[str, Any]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    profile: str | None = None
    spent_s: float = 0.0
    max_rtf: float | None = None
    exit_code: int | None = None

    def write(self, folder: Path) -> None:
        content = {**asdict(self), "unproven": self.unproven()}
        write_atomically(folder / RESULT, to_json(content) + "\n")

    def unproven(self) -> dict[str, str]:
        """Engine -> why its speed or its mel is not known."""
        open_rows = [row for row in self.rows if row.status not in ("timed", "wrong") and row.guidance == "2"]
        return {row.engine: f"{row.status} ({row.reason})" if row.reason else row.status for row in open_rows}


class Budget:
    """Seconds for the whole check, None for no limit."""

    def __init__(self, seconds: float | None, now_s: Callable[[], float] = time.monotonic):
        self._seconds, self._now_s, self._began_s = seconds, now_s, now_s()

    @property
    def spent_s(self) -> float:
        return self._now_s() - self._began_s

    def allows(self, limit_s: float) -> float:
        """How long something may take that has a limit of its own."""
        return limit_s if self._seconds is None else max(0.0, min(limit_s, self._seconds - self.spent_s))


def plan(engines: Mapping[str, tuple[str, ...]]) -> list[Step]:
    """engines: those asked for, with overrides of their own."""
    middle = [name for name in engines if name not in (*FIRST, *LAST)]
    order = [name for name in (*FIRST, *middle, *LAST) if name in engines or name == ORACLE]
    steps = [Step(engine=PEAKS, rounds_s=0.0)]
    for name in order:
        rounds_s = ROUNDS_S.get(name, EACH_ROUNDS_S)
        steps.append(Step(engine=name, rounds_s=rounds_s, extra=engines.get(name, ())))
    if set(EQUAL) <= engines.keys():
        steps += [Step(engine=name, guidance="0", rounds_s=0.0, extra=engines.get(name, ())) for name in UNGUIDED]
    return steps


def take(folder: Path, overrides: Sequence[str], steps: Sequence[Step], budget: Budget, found: Found) -> None:
    """Every step in its turn; `found` is on the disk and a line is printed after each."""
    for step in steps:
        allowed_s = budget.allows(step.limit_s)
        if allowed_s < FEWEST_S:
            if step.engine != PEAKS:
                why = f"gpu_check.budget_s={found.budget_s:g} was spent"
                found.rows.append(
                    Row(engine=step.engine, guidance=step.guidance, status="not reached", reason=why)
                )  # fmt: skip
        elif step.engine == PEAKS:
            run_child(folder, overrides, step, allowed_s)
            found.peaks = told_of(folder, step).get("peaks", {})
            print(f"peaks       {found.peaks.get('gemm_peak_flop_per_s', 'not measured')}", flush=True)
        else:
            stopped = run_child(folder, overrides, step, allowed_s)
            found.rows.append(row_of(folder, step, stopped))
            print(found.rows[-1], flush=True)
            if step.engine == EQUAL[1]:
                found.equality += equality(folder, step.guidance)
                for one in found.equality[-5:]:
                    print(f"{'equal' if one['equal'] else 'NOT EQUAL':11} {one['what']}", flush=True)
        found.spent_s = budget.spent_s
        found.write(folder)


def run_child(folder: Path, overrides: Sequence[str], step: Step, limit_s: float) -> str | None:
    """None where it ended by itself, else why not. Its compiler's workers end with it."""
    command = [
        sys.executable, "-m", "experiments.checks.card.child", str(folder), step.engine, step.guidance,
        str(step.rounds_s), ",".join(map(str, step.frames)), *overrides, *step.extra,
    ]  # fmt: skip
    log = folder / f"{step.engine}-{step.guidance}.log"
    with log.open("wb") as out:
        environment = {**module_environment(), **FLOAT32}
        child = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        try:
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit_s:.0f} s"
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    return None if code == 0 else f"its process ended with {code}, see {log.name}"


def told_of(folder: Path, step: Step) -> dict[str, Any]:
    path = folder / f"{step.engine}-{step.guidance}.json"
    content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content


def row_of(folder: Path, step: Step, stopped: str | None) -> Row:
    """From what the child left, however far it came. stopped: why it did not end by itself."""
    told = told_of(folder, step)
    status, reason = str(told.get("status", "failed")), told.get("reason")
    if stopped is not None and status not in ("skipped", "failed"):
        status, reason = ("stopped" if stopped.startswith("stopped") else "failed"), stopped
    precision = told.get("precision")
    error, fault = (None, None) if precision is None else nearness(folder, step, len(told["cases"]), precision)
    walls_s, audio_s = told.get("walls_s") or [], told.get("audio_s")
    call_s = statistics.median(walls_s) if len(walls_s) >= 3 else None
    if call_s is not None and status == "stopped":
        status = "timed"  # fewer calls than meant, and enough
    if fault is not None:
        status, reason = "wrong", fault
    if told.get("repeats_equal") is False:
        status, reason = "wrong", "the same request twice gave two answers"
    return Row(
        engine=step.engine, guidance=step.guidance, status=status, reason=reason, error=error,
        allowed=None if precision is None else allowed_for(precision),
        call_ms=None if call_s is None else 1e3 * call_s,
        rtf_ratio=None if call_s is None or not audio_s else call_s / audio_s,
        frames=frames_of(folder, step), build_s=told.get("build_s"), first_call_s=told.get("first_call_s"),
        repeats_equal=told.get("repeats_equal"),
    )  # fmt: skip


def nearness(folder: Path, step: Step, num_cases: int, precision: str) -> tuple[float | None, str | None]:
    """(largest error of its mels from float32's, what is wrong with one of them)."""
    errors: list[float] = []
    for place in range(num_cases):
        own, oracle = _mels(folder, step.engine, step.guidance, place), _mels(folder, ORACLE, step.guidance, place)
        for mel, expected in zip(own, oracle, strict=False):
            status, error, reason = judged(mel, expected, allowed_for(precision))
            errors += [] if error is None else [error]
            if status == "wrong":
                return error, reason or f"case {place}: {error:.1e} from {ORACLE}, {allowed_for(precision):g} allowed"
    return max(errors, default=None), None


def frames_of(folder: Path, step: Step) -> int | None:
    """Generated by the longest single case: the same was asked of everybody, the peer too."""
    found = [len(mels[0]) for place in range(3) if (mels := _mels(folder, step.engine, step.guidance, place))]
    return max(found, default=None)


def equality(folder: Path, guidance: str) -> list[dict[str, Any]]:
    """The captured loop against the eager one: is every sample the same, case by case, and in a replay?"""
    found = []
    for place in range(4):
        pairs = [_kept(folder, name, guidance, place) for name in EQUAL]
        if all(pairs):
            same = len(pairs[0]) == len(pairs[1]) and all(
                np.array_equal(one[key], other[key])
                for one, other in zip(*pairs, strict=False)
                for key in ("mel_ND", "audio_S")
            )
            found.append({"what": f"case {place}, guidance {guidance}", "equal": same})
    captured = told_of(folder, Step(engine=EQUAL[1], guidance=guidance))
    if captured.get("repeats_equal") is not None:
        found.append({"what": f"replayed, guidance {guidance}", "equal": captured["repeats_equal"]})
    return found


def _kept(folder: Path, engine: str, guidance: str, place: int) -> list[dict[str, np.ndarray]]:
    paths = sorted((folder / f"{engine}-{guidance}").glob(f"{place}-*.npz"))
    return [dict(np.load(path)) for path in paths]


def _mels(folder: Path, engine: str, guidance: str, place: int) -> list[np.ndarray]:
    return [kept["mel_ND"] for kept in _kept(folder, engine, guidance, place)]
