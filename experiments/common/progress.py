"""Progress of measurements on stderr: done, running, failed, trials and the time left.

Reads the running job's journal, so it costs the measurement nothing. Without a terminal: a line at each start and end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from experiments.common.cli import one_line
from metrics.journal_lines import split_lines
from reports.words import in_parts, plural

COUNTED = ("trial", "first_call", "spoken")


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What one variant will take: trials (warm-up and first call included: num_warm) of num_evals evaluations each;
    expected_s: a guess in seconds, where there is one."""

    label: str
    num_trials: int
    num_evals: int
    expected_s: float | None = None
    num_warm: int = 0

    @property
    def calls(self) -> str:
        """ "5 calls, 3 of them to warm up"."""
        warm = f", {self.num_warm} of them to warm up" if self.num_warm else ""
        return f"{plural(self.num_trials, 'call')}{warm}"

    @property
    def work(self) -> float:
        """In seconds of the guess, else in evaluations: variants are weighed against each other by it."""
        return self.num_trials * self.num_evals if self.expected_s is None else self.expected_s


@dataclass(slots=True)
class JournalTail:
    """Counts the calls in a growing journal, reading only what is new. A journal that another attempt has begun in its
    place is counted from its start."""

    path: Path
    num_done: int = 0
    _offset: int = 0
    _inode: int = 0

    def read(self) -> int:
        """First call and trials written so far."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                # Shorter than before: an entry that was refused by the disk at the last moment was taken back
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset, self.num_done = status.st_ino, 0, 0
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return self.num_done
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        self.num_done += sum(entry["kind"] in COUNTED for entry in split_lines(whole, COUNTED).entries)
        return self.num_done


@dataclass(slots=True)
class Estimate:
    """Seconds left, from the seconds an evaluation has taken so far."""

    total_work: float
    spent_s: float = 0.0
    done_work: float = 0.0

    def left_s(self, running_s: float, running_work: float) -> float | None:
        """None before anything has been timed."""
        work = self.done_work + running_work
        if work <= 0:
            return None
        return (self.spent_s + running_s) / work * max(0.0, self.total_work - work)


@dataclass(slots=True, eq=False)
class Board:
    """A context manager around all jobs of a run or a sweep. at_most: of a search, how many it may still measure."""

    planned: Sequence[Planned]
    console: Console = field(default_factory=lambda: Console(stderr=True))
    now_s: Callable[[], float] = time.monotonic
    at_most: int | None = None
    states: dict[str, int] = field(default_factory=lambda: {"ok": 0, "skipped": 0, "failed": 0})
    _estimate: Estimate = field(init=False)
    _bar: Progress = field(init=False)
    _all: TaskID = field(init=False)
    _one: TaskID = field(init=False)
    _tail: JournalTail | None = None
    _started_s: float = 0.0

    def __post_init__(self) -> None:
        self._estimate = Estimate(total_work=sum(plan.work for plan in self.planned))
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            auto_refresh=False,  # drawn from the coordinator's two wake-ups a second, not by a thread of its own
            transient=True,
        )
        self._all = self._bar.add_task("all", total=self.at_most or len(self.planned), unit="variants", note="")
        self._one = self._bar.add_task("", total=1, unit="calls", note="")

    def __enter__(self) -> Board:
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._bar.stop()

    def add(self, plan: Planned) -> int:
        """One more variant, for a search that finds them on the way; its index."""
        self.planned = [*self.planned, plan]
        self._estimate.total_work += plan.work
        self._bar.update(self._all, total=max(self.at_most or 0, len(self.planned)))
        return len(self.planned) - 1

    def start(self, index: int) -> None:
        plan = self.planned[index]
        self._started_s, self._tail = self.now_s(), None
        self._bar.reset(self._one, total=plan.num_trials, description=self._name(index), unit="calls", note="building")
        if not self.console.is_terminal:
            self.say(f"{self._place(index)} {plan.label}: {plan.calls}")

    def tick(self, index: int, journal: Path) -> None:
        """Called while the job runs."""
        if self._tail is None:
            self._tail = JournalTail(journal)
        plan, done = self.planned[index], self._tail.read()
        running_s = self.now_s() - self._started_s if done else 0.0
        left_s = self._estimate.left_s(running_s, plan.work * min(1.0, done / plan.num_trials))
        note = "building" if done == 0 else f"about {clock_text(left_s)} left" if left_s is not None else ""
        self._bar.update(self._one, completed=done, note=note)
        self._bar.update(self._all, note=self.summary())
        self._draw()

    def finish(self, index: int, state: str, reason: str | None) -> None:
        """state: ok, skipped or failed."""
        plan, took_s = self.planned[index], self.now_s() - self._started_s
        self.states[state] += 1
        if state == "ok":
            self._estimate.spent_s += took_s
            self._estimate.done_work += plan.work
        else:
            self._estimate.total_work -= plan.work
        self._bar.update(self._all, completed=sum(self.states.values()), note=self.summary())
        self._draw()
        self.say(f"{self._place(index)} {self._name(index)}: {state}, {took_s:.1f} s" + _because(reason))

    def _name(self, index: int) -> str:
        """What tells a variant from the others: of a single one not its settings, which were said when it began."""
        label = self.planned[index].label
        return label if len(self.planned) > 1 or self.at_most is not None else in_parts(label)[0]

    def _place(self, index: int) -> str:
        """Which of how many: a search cannot know how many of its suggestions can be measured."""
        if self.at_most is None:
            return f"[{index + 1}/{len(self.planned)}]"
        return f"[{index + 1} of at most {max(self.at_most, len(self.planned))}]"

    def _draw(self) -> None:
        if self.console.is_terminal:
            self._bar.refresh()

    def say(self, line: str) -> None:
        """A line that stays. A terminal's is broken between words, but for a command, which is to be copied."""
        whole = not self.console.is_terminal or "`" in line
        self.console.print(Text(one_line(line), overflow="ignore"), soft_wrap=whole, crop=False)

    def summary(self) -> str:
        return ", ".join(f"{count} {state}" for state, count in self.states.items() if count)


def expected_text(plans: Sequence[Planned]) -> str:
    """ "9 variants, about 10 min here"; without a time where one of them has no guess."""
    many = f"{len(plans)} variant{'s' if len(plans) != 1 else ''}"
    guesses = [plan.expected_s for plan in plans if plan.expected_s is not None]
    if len(guesses) < len(plans) or not guesses:
        return f"{many}; how long, the first will show"
    total_s = sum(guesses)
    return f"{many}, about {round(total_s / 60)} min here" if total_s >= 90 else f"{many}, about {total_s:.0f} s here"


def clock_text(seconds: float) -> str:
    """125 -> "2:05"."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
