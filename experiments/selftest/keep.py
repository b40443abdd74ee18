"""Where a self-test's outcomes are kept: the figures of its host class, to which several self-tests may add at once."""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from baselines.paired.rule import PairedLimits
from baselines.paired.selftests import SELFTESTS, HostErrors, Restarts, Tally, load_errors, save_errors
from engine.contract import ConfigError
from engine.keys import LONGEST_S
from experiments.common.device_lock import lock_folder
from experiments.common.environment import now_iso
from experiments.measuring.validate import LOCAL
from experiments.settings.keys import key_of


class Keeper:
    """On disk before the next comparison starts: an interrupted self-test has lost the one in flight at most."""

    def __init__(self, host_class: str, *, is_kept: bool, folder: Path = SELFTESTS, rule: str = PairedLimits().rule):
        """is_kept: False leaves the host class's file alone. Raises RecordError for a damaged one, before any work."""
        self._host_class, self._is_kept, self._folder, self._rule = host_class, is_kept, folder, rule
        self._saved: Mapping[float, Mapping[str, int]] = {}
        if is_kept:
            load_errors(host_class, folder)

    def __call__(self, tallies: Sequence[Tally], found: Restarts | None) -> HostErrors:
        """This self-test's outcomes so far. What it had not saved yet is added to the file as it is by now."""
        errors = HostErrors(
            host_class=self._host_class, rule=self._rule, created=now_iso(), tallies=tuple(tallies),
            restart_sd_frac=None if found is None else found.sd_frac, restarts=found,
        )  # fmt: skip
        if self._is_kept:
            news = replace(errors, tallies=tuple(map(self._news, tallies)))
            with figures_lock(self._host_class):
                save_errors(together(load_errors(self._host_class, self._folder), news), self._folder)
            self._saved = {tally.true_ratio: tally.outcomes for tally in tallies if tally.adds_up}
        return errors

    def _news(self, tally: Tally) -> Tally:
        saved = self._saved.get(tally.true_ratio, {}) if tally.adds_up else {}
        return replace(tally, outcomes={name: num - saved.get(name, 0) for name, num in tally.outcomes.items()})


@contextmanager
def figures_lock(host_class: str) -> Iterator[None]:
    """Between reading a host class's figures and writing them. The kernel releases it when the holder dies."""
    folder = lock_folder()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"selftests-{host_class}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # held for milliseconds: waiting needs no word
        yield
    finally:
        os.close(descriptor)


def together(before: HostErrors | None, now: HostErrors) -> HostErrors:
    """Live counts add up under one rule, the worst spread of restarts stays; a replay's counts replace the last."""
    if before is None or before.rule != now.rule:
        return now
    kept = {(t.source, t.true_ratio): t for t in before.tallies}
    for tally in now.tallies:
        key = (tally.source, tally.true_ratio)
        outcomes = dict(tally.outcomes)
        if tally.adds_up and key in kept:
            for name, count in kept[key].outcomes.items():
                outcomes[name] = outcomes.get(name, 0) + count
        kept[key] = Tally(source=tally.source, true_ratio=tally.true_ratio, outcomes=outcomes)
    # A quiet hour does not unsay a noisy one: quick mode may decide by this figure
    restart = max((e.restart_sd_frac for e in (before, now) if e.restart_sd_frac is not None), default=None)
    measured = [errors.restarts for errors in (before, now) if errors.restarts is not None]
    return HostErrors(
        host_class=now.host_class, rule=now.rule, created=now.created,
        tallies=tuple(kept[key] for key in sorted(kept)), restart_sd_frac=restart,
        restarts=max(measured, key=lambda one: one.num_blocks, default=None),
    )  # fmt: skip


def refuse_other_machines(overrides: Sequence[str]) -> None:
    """Raises ConfigError for launcher=ray: calls of two processes take turns there, and the figures that are kept are
    of one machine's noise."""
    for text in overrides:
        key, _, value = text.partition("=")
        if key_of(text).partition(".")[0] == "launcher" and value != LOCAL:
            raise ConfigError(
                key, value, "a self-test is of the machine that it runs on: its calls take turns there",
                "run it on each machine, and bring its baselines/selftests/HOST-CLASS.json",
            )  # fmt: skip


def positive(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= LONGEST_S:
        raise ConfigError(key, text, "must be a number above 0", f"see --help for {key}")
    return value
