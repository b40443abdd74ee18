"""One comparison from its command to its verdict: sides prepared, blocks measured until a look decides."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from baselines.class_history import machine_fault
from baselines.paired.data import CANDIDATE, DEVICE_TIME, SENTINEL, Block, Turn
from baselines.paired.rule import PairedLimits, PairedVerdict, decide, judge
from baselines.paired.selftests import SELFTESTS, HostErrors, error_sentence, load_errors
from engine.contract import ConfigError
from engine.paths import ROOT, find_file
from engine.settings import DeviceSettings
from engine.text.chunks import chunk_bound
from experiments.common.environment import fingerprint, num_threads
from experiments.common.journal import JournalWriter
from experiments.common.plain import Config, as_plain
from experiments.common.repository import commit_of, git_state
from experiments.compare.bench import Bench
from experiments.compare.processes import SideSpec
from experiments.compare.proof import Proof
from experiments.compare.revision import refuse_uncommitted, worktree
from experiments.compare.settings import SIDES, Command, Settings, SideRequest
from experiments.measuring.validate import check_allocator, refuse_cuts, validate, validate_out
from experiments.settings.compose import VARIANT_KEYS, compose_config, names_of
from experiments.telemetry.watch import watched, watching
from experiments.workload.requests import Workload, load_workload
from metrics.verdict import EXIT_CODES
from reports.verdicts.paired import Comparison
from reports.verdicts.plain import is_bounded

PAIRS, LOG = "pairs.jsonl", "log.txt"
TOO_WIDE = "too wide to tell yet"
PATH_KEYS = ("checkpoint", "vocab", "audio", "plan")
SHARED = ("workload", "reference", "seed")
UNCHANGING = ("host_class", "num_cores", "power_mode", "gpu", "memory_bytes")
VARIANT_PREFIXES = (*(f"{key}." for key in (*VARIANT_KEYS, "device")), "model=", "vocoder=")
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Both sides, checked as far as that is possible without building anything."""

    specs: tuple[SideSpec, ...]
    labels: Mapping[str, str]
    commits: Mapping[str, str | None]
    workload: Workload
    settings: Settings

    @property
    def device(self) -> DeviceSettings:
        return self.specs[0].config["device"]

    @property
    def named(self) -> Mapping[str, object]:
        """Name and identity of what is spoken."""
        described = self.workload.describe()
        return {key: described[key] for key in ("name", "identity_sha256")}


def prepare(command: Command, out: Path, stack: ExitStack) -> Prepared:
    """Worktrees of revisions live as long as `stack`. Raises ConfigError."""
    trees = {side: _tree(side, command.sides, stack) for side in SIDES}
    composed = {side: compose_config(command.sides[side].overrides, conf=trees[side] / "conf") for side in SIDES}
    configs = {side: paths_from_here(composed[side], trees[side]) for side in SIDES}
    for side in SIDES:
        if command.sides[side].revision is None:
            validate(configs[side])
        else:  # its settings are those of its own time; what this machine cannot have is not
            check_allocator(str(configs[side]["device"]["kind"]))
    _refuse_different(configs)
    for config in configs.values():
        refuse_cuts(config, "a comparison")
    _refuse_device_time(command.settings, configs[CANDIDATE]["device"])
    workload = load_workload(configs[CANDIDATE])
    validate_out(out, 1, len(workload.requests))
    requests = write_requests(workload, out.resolve() / "requests")  # sides may run in another tree
    specs = [
        SideSpec(
            side=side, tree=trees[side], config=configs[side], requests=requests,
            threads=num_threads(configs[side]["device"]),
        )
        for side in SIDES
    ]  # fmt: skip
    if command.settings.asked.sentinel:
        specs.append(replace(specs[0], side=SENTINEL))
    commits = {side: _commit(side, command.sides[side]) for side in SIDES}
    labels = {side: _label(command.sides[side], configs[side], commits[side]) for side in SIDES}
    return Prepared(specs=tuple(specs), labels=labels, commits=commits, workload=workload, settings=command.settings)


def paths_from_here(value: Any, tree: Path, key: str = "") -> Any:
    """For a process that works in `tree`: own files by their whole path, bundled ones are the tree's."""
    if isinstance(value, Mapping):
        return {name: paths_from_here(item, tree, name) for name, item in value.items()}
    if isinstance(value, list):
        return [paths_from_here(item, tree) for item in value]
    if key not in PATH_KEYS or not isinstance(value, str) or not find_file(value).is_file():
        return value
    is_own = find_file(value).absolute() != ROOT / value or not (tree / value).is_file()
    return str(find_file(value).absolute()) if is_own else value


def _tree(side: str, sides: Mapping[str, SideRequest], stack: ExitStack) -> Path:
    revision = sides[side].revision
    if revision is not None:
        return stack.enter_context(worktree(f"{side}.revision", revision))
    if any(request.revision is not None for request in sides.values()):
        refuse_uncommitted(f"{side}.revision")
    return ROOT


def _commit(side: str, request: SideRequest) -> str | None:
    if request.revision is not None:
        return commit_of(f"{side}.revision", request.revision, ROOT)
    commit: str | None = git_state(ROOT)["git_commit"]
    return commit


def _label(request: SideRequest, config: Config, commit: str | None) -> str:
    """ENGINE-SOLVER, what else makes this side a variant, and the revision."""
    parts = names_of(config)
    parts += [text for text in request.overrides if text.startswith(VARIANT_PREFIXES)]
    label = "-".join(parts)
    return label if request.revision is None else f"{label}@{request.revision}({str(commit)[:9]})"


def _refuse_different(configs: Mapping[str, Config]) -> None:
    reference, candidate = (configs[side] for side in SIDES)
    for key in SHARED:
        if as_plain(reference)[key] != as_plain(candidate)[key]:
            raise ConfigError(
                key, "(differs)", "both sides must speak the same sentences with the same voice and noise",
                f"set {key} without reference. or candidate. before it",
            )  # fmt: skip
    if chunk_bound(reference) != chunk_bound(candidate):
        raise ConfigError(
            "text.max_chunk_s",
            "(differs)",
            "both sides must cut texts alike",
            "set it without a side before it",
        )
    if reference["device"]["kind"] != candidate["device"]["kind"]:
        raise ConfigError("device.kind", candidate["device"]["kind"], "must be that of the other side", "set device=..")


def _refuse_device_time(settings: Settings, device: DeviceSettings) -> None:
    if DEVICE_TIME in settings.limits.metrics and device["kind"] == "cpu":
        raise ConfigError(
            "compare.metrics", DEVICE_TIME, "a CPU has no clock of its own; wall_time and cpu_time are measured on it",
            "use metrics=[wall_time], or device=cuda",
        )  # fmt: skip


def write_requests(workload: Workload, folder: Path) -> Path:
    """What the children read: the requests' fields as JSON, their reference audio as .npy beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for i, request in enumerate(workload.requests):
        np.save(folder / f"{i}.npy", request.ref_audio_S, allow_pickle=False)
        entries.append(
            {
                "utterance_id": request.utterance_id, "text": request.text, "ref_audio": f"{i}.npy",
                "ref_sample_rate_hz": request.ref_sample_rate_hz, "ref_text": request.ref_text,
                "speed_ratio": request.speed_ratio, "num_frames": request.num_frames,
                **({"style": request.style} if request.style else {}),  # revisions of before know no such field
            }
        )  # fmt: skip
    path = folder / "requests.json"
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return path


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
    started_s = time.monotonic()
    blocks: list[Block] = []
    with watching(bench.keep.parent) as watch:
        verdict = _decided(bench, settings, blocks, say, rule)
    if settings.limits.mode == "quick" and verdict.reason is None:
        verdict = _quick_may_decide(verdict, errors, settings.asked.quiet_restart_frac)
    environment = watched(before, watch, bench.keep.parent)
    verdict = _same_environment(verdict, environment, fingerprint(prepared.device))
    wall_s = time.monotonic() - started_s
    return Comparison(
        verdict=verdict, limits=settings.limits, labels=prepared.labels, sides=_sides(prepared, bench),
        environment=environment, workload=prepared.named, checked=bench.proof.checked,
        error_rate=error_sentence(errors, str(before["host_class"])), wall_s=wall_s,
        seconds_per_block=wall_s / len(blocks), answers=bench.proof.answers(),
        # On a board with one memory it lacks what the GPU holds, and what each side holds cannot be told apart
        memory_bytes=bench.memory_bytes() if watch is None else None,
    )  # fmt: skip


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
    verdict: PairedVerdict, before: Mapping[str, object], after: Mapping[str, object]
) -> PairedVerdict:
    """before: with what was seen of the machine meanwhile."""
    changed = [
        f"{key} {before.get(key)} became {after.get(key)}" for key in UNCHANGING if before.get(key) != after.get(key)
    ]
    fault = machine_fault(before)
    if fault is not None:
        reason = fault
    elif changed:
        reason = f"the machine changed meanwhile: {'; '.join(changed)}"
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


def _sides(prepared: Asked, bench: Bench) -> dict[str, dict[str, Any]]:
    specs = {spec.side: spec for spec in prepared.specs}
    return {
        side: {
            "label": prepared.labels[side], "commit": prepared.commits[side], "config": dict(specs[side].config),
            "facts": dict(bench.facts[side]),
        }
        for side in SIDES
    }  # fmt: skip
