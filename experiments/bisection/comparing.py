"""One comparison of a walk: two revisions of the same variant, or of the same function, by the machinery of compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from baselines.paired.data import CANDIDATE, REFERENCE
from engine.contract import ConfigError
from engine.paths import ROOT
from experiments.bisection.settings import Command
from experiments.common.device_lock import device_lock
from experiments.compare import session
from experiments.compare.preparing import prepare
from experiments.compare.processes import SideFailed
from experiments.compare.revision import MEASURED
from experiments.compare.settings import Settings, settings_of
from experiments.compare.settings import read_command as engine_command
from experiments.functions import sides as functions
from experiments.functions.settings import read_command as function_command
from reports.verdicts.paired import Comparison

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Revisions:
    """Two commits, and the limits of their comparison. catch_ratio: None for that of the settings."""

    reference: str
    candidate: str
    share: float
    catch_ratio: float | None
    rule: session.Rule


def repository_of(command: Command) -> tuple[Path, tuple[str, ...]]:
    """The checkout, and which of its folders are all that is measured of a revision (none: nobody knows)."""
    if not command.of_functions:
        return ROOT, MEASURED
    words = words_of(command, "HEAD", "HEAD~1")  # any two that differ: only the rest is read
    return function_command(words).sides[REFERENCE].repository, ()


def compared(command: Command, asked: Revisions, out: Path, say: Say) -> Comparison:
    """Measured and judged; its calls are in `out` as they come. Raises ConfigError and SideFailed."""
    words = words_of(command, asked.reference, asked.candidate)
    with ExitStack() as stack:
        return (_functions if command.of_functions else _engines)(words, asked, out, say, stack)


def _engines(words: Sequence[str], asked: Revisions, out: Path, say: Say, stack: ExitStack) -> Comparison:
    command = engine_command(words)
    try:
        prepared = prepare(replace(command, settings=_limited(command.settings, asked)), out, stack)
    except ConfigError as error:  # a configuration that this revision has not
        said = f"{error.key}={error.value}: {error.allowed}"
        raise SideFailed(CANDIDATE, type(error).__name__, said, error.remedy) from error
    mode = prepared.specs[0].config["sweep"]["lock"]
    lock = stack.enter_context(device_lock(str(prepared.device["kind"]), mode, say))
    return session.measure(prepared, session.open_bench(prepared, out, lock, stack), say, asked.rule)


def _functions(words: Sequence[str], asked: Revisions, out: Path, say: Say, stack: ExitStack) -> Comparison:
    command = function_command(words)
    prepared = functions.prepare_functions(replace(command, settings=_limited(command.settings, asked)), out, stack)
    lock = stack.enter_context(device_lock(command.device, "wait", say))
    return session.measure(prepared, functions.open_bench(prepared, out, lock, stack), say, asked.rule)


def words_of(command: Command, reference: str, candidate: str) -> list[str]:
    """The command line of a comparison of two revisions."""
    return [*command.words, f"{REFERENCE}.revision={reference}", f"{CANDIDATE}.revision={candidate}"]


def _limited(settings: Settings, asked: Revisions) -> Settings:
    """With this comparison's share of the walk's errors, and what it looks for."""
    limits = {"false_alarm_frac": asked.share, "miss_frac": asked.share}
    if asked.catch_ratio is not None:
        limits["catch_ratio"] = asked.catch_ratio
    return settings_of(settings.asked.model_copy(update=limits), num_trees=2)
