"""Live self-comparisons: the complete same-run comparison of an engine with itself, slowed down by a known share."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from baselines.paired.data import CANDIDATE, REFERENCE, SENTINEL, Block
from baselines.paired.rule import PairedVerdict, decide
from baselines.paired.selftests import LIVE, Restarts, Tally
from baselines.simulation.traces import TRACES, Trace, save_trace
from engine.contract import ConfigError
from experiments.common.device_lock import device_lock
from experiments.common.environment import fingerprint, now_iso
from experiments.compare.preparing import Prepared, prepare
from experiments.compare.session import open_bench
from experiments.compare.settings import Command, read_command
from experiments.telemetry.watch import watching
from metrics.paired import between_sd, between_sd_upper
from metrics.verdict import EXIT_CODES

SHORT = ("workload=smoke", "workload.select=[en04]", "compare.sentences_per_block=1")
Keep = Callable[[Sequence[Tally], Restarts | None], object]
FEWEST_BLOCKS = 8  # to say what processes differ by, and to be worth a trace


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """What was asked for. overrides: as for experiments.compare, for both sides."""

    minutes: float
    ratios: tuple[float, ...]
    record: str | None
    overrides: tuple[str, ...]


def run_live(live: Live, out: Path, stack: ExitStack, keep: Keep) -> tuple[list[Tally], Restarts | None]:
    """(outcomes by true ratio, what processes differ by), given to `keep` too as they stand after each comparison.

    Raises ConfigError and SideFailed.
    """
    command = live_command(live.overrides)
    prepared = prepare(command, out, stack)
    lock = stack.enter_context(device_lock(str(prepared.device["kind"]), "wait", _say))
    deadline_s = time.monotonic() + 60 * live.minutes
    counts: dict[float, Counter[str]] = {}
    unchanged: list[Block] = []
    number = 0
    while time.monotonic() < deadline_s:
        ratio = live.ratios[number % len(live.ratios)]
        verdict, blocks = one_comparison(prepared, out / f"{number:04d}", lock, ratio)
        counts.setdefault(ratio, Counter())[verdict.outcome] += 1
        unchanged += blocks if ratio == 1.0 else []
        number += 1
        _say(f"{number}: true ratio {ratio:g}, {verdict.outcome} after {verdict.num_blocks} blocks")
        keep(_tallies(counts), restarts(unchanged))
        if live.record and len(unchanged) >= FEWEST_BLOCKS:
            _save(live.record, prepared, unchanged)
    if live.record:
        _say(_recorded(live.record, len(unchanged)))
    return _tallies(counts), restarts(unchanged)


def live_command(overrides: Sequence[str]) -> Command:
    """As experiments.compare reads it, of one short sentence where no workload is chosen. Raises ConfigError."""
    given = [text for text in overrides if not text.startswith("out=")]
    chosen = any(text.startswith(("workload=", "workload.")) for text in given)
    command = read_command(given if chosen else [*SHORT, *given])
    if command.settings.limits.mode != "blocks":
        raise ConfigError(
            "compare.mode", command.settings.limits.mode, "the self-test is of mode=blocks", "leave it out"
        )
    return command


def _tallies(counts: Mapping[float, Mapping[str, int]]) -> list[Tally]:
    return [Tally(source=LIVE, true_ratio=ratio, outcomes=dict(counts[ratio])) for ratio in sorted(counts)]


def one_comparison(prepared: Prepared, out: Path, lock: int, ratio: float) -> tuple[PairedVerdict, list[Block]]:
    """A comparison of its own: processes, random order and journal; the last number of `out` seeds the order.

    Of a Jetson that changed meanwhile no block is kept: it is not the host class whose errors are counted.
    """
    plan = replace(prepared.settings.plan, order_seed=prepared.settings.plan.order_seed + int(out.name))
    settings = replace(prepared.settings, plan=plan)
    slower = max(0.0, 1 / ratio - 1)
    slow_frac = {CANDIDATE: max(0.0, ratio - 1), REFERENCE: slower, SENTINEL: slower}
    specs = tuple(replace(spec, slow_frac=slow_frac.get(spec.side, 0.0)) for spec in prepared.specs)
    out.mkdir(parents=True, exist_ok=True)
    blocks: list[Block] = []
    with ExitStack() as stack:
        bench = open_bench(replace(prepared, specs=specs, settings=settings), out, lock, stack)
        watch = stack.enter_context(watching(out))
        verdict: PairedVerdict | None = None
        while verdict is None:
            blocks.append(bench.block())
            verdict = decide(blocks, settings.limits)
    fault = None if watch is None else watch.fault()
    if fault is not None:
        void = replace(verdict, outcome="INVALID_ENV", exit_code=EXIT_CODES["INVALID_ENV"], reason=fault)
        return void, []
    return verdict, blocks


def restarts(blocks: Sequence[Block]) -> Restarts | None:
    """What one process differs from the next by: the blocks' share of the spread, which two processes make."""
    logs = [block.log_ratios("wall_time", CANDIDATE, REFERENCE) for block in blocks]
    between, upper = between_sd(logs), between_sd_upper(logs)
    if len(blocks) < FEWEST_BLOCKS or between is None or upper is None:
        return None
    return Restarts(sd_frac=between / 2**0.5, upper_frac=upper / 2**0.5, num_blocks=len(blocks))


def _save(name: str, prepared: Prepared, blocks: Sequence[Block]) -> None:
    environment = fingerprint(prepared.device)
    save_trace(
        Trace(
            name=name, host_class=str(environment["host_class"]), recorded=now_iso(),
            conditions=f"load average {environment['load_1min']:.1f} at the end", label=prepared.labels[CANDIDATE],
            sentences=tuple(line.utterance_id for line in prepared.workload.lines), blocks=tuple(blocks),
        )
    )  # fmt: skip


def _recorded(name: str, num_blocks: int) -> str:
    if num_blocks >= FEWEST_BLOCKS:
        return f"trace {TRACES / f'{name}.json'}"
    return f"record={name}: {num_blocks} unchanged blocks are too few for a trace, {FEWEST_BLOCKS} are needed"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
