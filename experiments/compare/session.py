"""One comparison from two sides that are ready to its verdict: blocks are measured until a look decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from baselines.class_history import machine_fault
from baselines.paired.data import Block, Turn
from baselines.paired.rule import PairedLimits, PairedVerdict, decide, judge
from baselines.paired.selftests import SELFTESTS, HostErrors, error_sentence, load_errors
from engine.contract import ConfigError
from engine.settings import DeviceSettings
from experiments.common.environment import fingerprint
from experiments.common.journal import JournalWriter
from experiments.compare.bench import Bench
from experiments.compare.other_programs import cpu_use, others_frac
from experiments.compare.preparing import Prepared
from experiments.compare.processes import SideSpec
from experiments.compare.proof import Proof
from experiments.compare.settings import SIDES, Settings
from experiments.telemetry.watch import watched, watching
from metrics.verdict import EXIT_CODES
from reports.verdicts.paired import Comparison, SideContent
from reports.verdicts.spoken.plain import is_bounded

PAIRS, LOG = "pairs.jsonl", "log.txt"
TOO_WIDE = "too wide to tell yet"
UNCHANGING = ("host_class", "num_cores", "power_mode", "gpu", "memory_bytes")
Say = Callable[[str], None]
Rule = Callable[[Sequence[Block], PairedLimits], PairedVerdict | None]


class Asked(Protocol):
    """Two sides that are ready to be measured, whatever speaks for them."""

    @property
    def specs(self) -> tuple[SideSpec, ...]: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def commits(self) -> Mapping[str, str | None]: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def device(self) -> DeviceSettings: ...
    @property
    def named(self) -> Mapping[str, object]: ...


def open_bench(prepared: Prepared, out: Path, lock: int | None, stack: ExitStack) -> Bench:
    """The bench of a comparison; journal, log and processes end with `stack`."""
    keep = out.resolve() / "audio"
    keep.mkdir(parents=True, exist_ok=True)
    configs = {spec.side: spec.config for spec in prepared.specs}
    texts = [(line.utterance_id, line.text) for line in prepared.workload.lines]
    bench = Bench(
        specs=prepared.specs, sentences=[name for name, _ in texts], plan=prepared.settings.plan,
        journal=stack.enter_context(JournalWriter(out / PAIRS)), log=stack.enter_context((out / LOG).open("ab")),
        proof=Proof(configs, texts, prepared.workload.voice_dc), keep=keep,
        seed=int(prepared.specs[0].config["seed"]), lock=lock,
    )  # fmt: skip
    return stack.enter_context(bench)


def measure(prepared: Asked, bench: Bench, say: Say, rule: Rule = decide) -> Comparison:
    """Blocks until a look decides, the looks are used up or the time is; a Jetson is watched meanwhile. Raises
    SideFailed.

    rule: what a look says, None to go on; of mode=blocks.
    """
    settings, before = prepared.settings, fingerprint(prepared.device)
    errors = load_errors(str(before["host_class"]), SELFTESTS)
    started_s, used = time.monotonic(), cpu_use()
    limit = settings.asked.other_cpu_frac
    _warn_of_others(before.get("other_cpu_frac"), limit, say)
    blocks: list[Block] = []
    with watching(bench.keep.parent) as watch:
        verdict = _decided(bench, settings, blocks, say, rule)
    others = others_frac(used, cpu_use())
    if settings.limits.mode == "quick" and verdict.reason is None:
        verdict = _quick_may_decide(verdict, errors, settings.asked.quiet_restart_frac)
    environment = {**watched(before, watch, bench.keep.parent), "other_cpu_meanwhile_frac": others}
    verdict = _same_environment(verdict, environment, fingerprint(prepared.device), limit)
    wall_s = time.monotonic() - started_s
    return Comparison(
        verdict=verdict, limits=settings.limits, labels=prepared.labels, sides=_sides(prepared, bench),
        environment=environment, workload=prepared.named, checked=bench.proof.checked,
        error_rate=error_sentence(errors, str(before["host_class"])), wall_s=wall_s,
        seconds_per_block=wall_s / len(blocks), answers=bench.proof.answers(),
        # On a board with one memory it lacks what the GPU holds, and what each side holds cannot be told apart
        memory_bytes=bench.memory_bytes() if watch is None else None,
    )  # fmt: skip


def _warn_of_others(now: object, limit: float | None, say: Say) -> None:
    """Before anything is measured. now: share of the cores."""
    if limit is not None and isinstance(now, float) and now > limit:
        say(
            f"warning: other programs keep {100 * now:.0f} % of the cores busy; if they go on, nothing is decided "
            f"(compare.other_cpu_frac={limit:g})"
        )


def _decided(bench: Bench, settings: Settings, blocks: list[Block], say: Say, rule: Rule) -> PairedVerdict:
    """blocks: where those that were measured are put."""
    started_s = time.monotonic()
    verdict = _quick(bench, settings, blocks, say) if settings.limits.mode == "quick" else None
    while verdict is None:
        if time.monotonic() - started_s > settings.asked.time_limit_s:
            return _out_of_time(blocks, settings)
        blocks.append(bench.block())
        verdict = rule(blocks, settings.limits)
        say(_progress(blocks, verdict, settings))
    return verdict


def _quick(bench: Bench, settings: Settings, blocks: list[Block], say: Say) -> PairedVerdict:
    """One set of processes; the turns grow until a look decides, or the time is over."""
    started_s = time.monotonic()

    def enough(turns: Sequence[Turn]) -> bool:
        if len(turns) in settings.limits.looks:
            say(f"pair {len(turns)} of at most {settings.limits.looks[-1]}")
        is_late = time.monotonic() - started_s > settings.asked.time_limit_s
        return is_late or decide([Block(turns=tuple(turns))], settings.limits) is not None

    blocks.append(bench.block(enough))
    return decide(blocks, settings.limits) or _out_of_time(blocks, settings)


def _out_of_time(blocks: Sequence[Block], settings: Settings) -> PairedVerdict:
    if not blocks:
        raise ConfigError("compare.time_limit_s", settings.asked.time_limit_s, "too short for one block", "raise it")
    verdict = judge(blocks, settings.limits)
    reason = f"compare.time_limit_s={settings.asked.time_limit_s:g} was reached before a look decided"
    return _undecided(verdict, reason)


def _quick_may_decide(verdict: PairedVerdict, errors: HostErrors | None, quiet: float) -> PairedVerdict:
    """One set of processes says nothing about the next one, unless they are known to be alike.

    Known is what the upper 95 % bound says, from the blocks of a live self-test: the SD alone is 0 as soon as the calls
    explain all that eight blocks show. No later quiet hour unsays the worst SD that was found, so it counts as well.
    """
    if verdict.outcome == "INVALID_ENV":
        return verdict
    worst = None if errors is None else errors.restart_sd_frac
    proof = None if errors is None else errors.restarts
    if worst is None:
        known = "is not known"
    elif worst > quiet:
        known = f"is {100 * worst:.2g} %, over {100 * quiet:.2g} %"
    elif proof is None:
        known = "has no bound yet (python -m experiments.selftest minutes=10 measures one)"
    elif proof.upper_frac > quiet:
        known = f"may be {100 * proof.upper_frac:.2g} % (95 %, {proof.num_blocks} blocks), over {100 * quiet:.2g} %"
    else:
        return verdict
    reason = f"quick mode may not decide here: what processes of this host class differ by {known}; use mode=blocks"
    return _undecided(verdict, reason)


def _undecided(verdict: PairedVerdict, reason: str) -> PairedVerdict:
    """Nothing may be read from the findings but their figures: the rule was not allowed to decide."""
    findings = tuple(replace(finding, outcome="INCONCLUSIVE") for finding in verdict.findings)
    code = EXIT_CODES["INCONCLUSIVE"]
    return replace(verdict, outcome="INCONCLUSIVE", exit_code=code, findings=findings, reason=reason)


def _same_environment(
    verdict: PairedVerdict, before: Mapping[str, object], after: Mapping[str, object], limit: float | None
) -> PairedVerdict:
    """before: with what was seen of the machine meanwhile. limit: of what other programs may take, None for any.

    A program beside it does not hit both halves of a pair alike: threads that wait for one another lose more by a core
    that is taken away than threads that do not, so that the variant with more of them is slowed down more.
    """
    changed = [
        f"{key} {before.get(key)} became {after.get(key)}" for key in UNCHANGING if before.get(key) != after.get(key)
    ]
    fault, others = machine_fault(before), before.get("other_cpu_meanwhile_frac")
    if fault is not None:
        reason = fault
    elif changed:
        reason = f"the machine changed meanwhile: {'; '.join(changed)}"
    elif limit is not None and isinstance(others, float) and others > limit:
        reason = (
            f"other programs kept {100 * others:.0f} % of the cores busy meanwhile, allowed are {100 * limit:g} % "
            "(compare.other_cpu_frac): they slow one side more than the other; run again when they have ended"
        )
    elif verdict.outcome == "INVALID_ENV":
        reason = "the unchanged reference differs from itself: the machine or the method is at fault"
    else:
        return verdict
    return replace(verdict, outcome="INVALID_ENV", exit_code=EXIT_CODES["INVALID_ENV"], reason=reason)


def _progress(blocks: Sequence[Block], verdict: PairedVerdict | None, settings: Settings) -> str:
    text = f"block {len(blocks)} of at most {settings.limits.looks[-1]}"
    if len(blocks) < 2:
        return text
    finding = (verdict or judge(blocks, settings.limits)).findings[0]
    bounds = f"{finding.low:.3f} to {finding.high:.3f}"
    return f"{text}: x{finding.ratio:.3f} ({bounds if is_bounded(finding.low, finding.high) else TOO_WIDE})"


def _sides(prepared: Asked, bench: Bench) -> dict[str, SideContent]:
    specs = {spec.side: spec for spec in prepared.specs}
    return {
        side: {
            "label": prepared.labels[side], "commit": prepared.commits[side], "config": dict(specs[side].config),
            "facts": dict(bench.facts[side]),
        }
        for side in SIDES
    }  # fmt: skip
