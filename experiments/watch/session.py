"""One run of a watch: the gate in a process of its own, its verdict, the course of every kept run, all remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from baselines.history.course import CourseLimits
from experiments.common.cli import EXIT_REGRESSION, one_line
from experiments.common.quoting import hydra_value
from experiments.measuring.fresh import fresh_verb
from experiments.watch.ledger import Bound, Entry, append, read_ledger
from experiments.watch.schedule import Clock
from experiments.watch.settings import Watch
from experiments.watch.told import course_outcomes, exposition, has_changed, message, tell, write_textfiles
from metrics.record import RecordError
from metrics.typed import load_json
from metrics.verdict import EXIT_CODES, SEVERITY, Outcome

VERDICT = "verdict.json"
# (words of the gate, the folder of its run) -> its exit code
Gate = Callable[[Sequence[str], Path], int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What stays the same from run to run. overrides: of the gate's new runs."""

    settings: Watch
    overrides: tuple[str, ...]
    clock: Clock
    gate: Gate

    @property
    def folder(self) -> Path:
        return Path(self.settings.folder)

    def run(self, next_unix_s: float | None) -> Entry:
        """Measure, judge, remember, tell. next_unix_s: when the next run is due. Raises RecordError, OSError."""
        started_s = self.clock.now_s()
        name = f"{datetime.fromtimestamp(started_s, timezone.utc):%Y%m%d-%H%M%S}"
        out = self.folder / name
        baseline = str(self.settings.baseline)
        code = self.gate([f"gate.baseline={hydra_value(baseline)}", *self.overrides], out)
        entry = self._entry(out, code, started_s)
        append(self.folder, entry)
        entries = [one for one in read_ledger(self.folder) if one.baseline == baseline]
        write_textfiles(exposition(entries, next_unix_s), self.folder, self.settings.textfile)
        if self.settings.webhook is not None and has_changed(entries):
            tell(self.settings.webhook, message(entries))
        return entry

    def _entry(self, out: Path, code: int, started_s: float) -> Entry:
        verdict = _verdict(out)
        outcome = _outcome(verdict, code)
        courses, untold = self._courses_told() if verdict is not None else (None, None)
        return Entry(
            baseline=str(self.settings.baseline), folder=out.name, started_unix_s=started_s,
            ended_unix_s=self.clock.now_s(), exit_code=code, outcome=outcome,
            host_class=None if verdict is None else str(verdict["baseline"]["host_class"]),
            findings=() if verdict is None else tuple(map(_bound, verdict["findings"])),
            courses=courses,
            reason=f"the gate came to no verdict (exit code {code})" if outcome is None else untold,
        )  # fmt: skip

    def _courses_told(self) -> tuple[dict[str, Outcome] | None, str | None]:
        """(courses, None), or (None, why there are none): a damaged run of another night does not cost this one."""
        try:
            return self._courses(), None
        except (RecordError, ValueError) as error:
            return None, one_line(f"the courses cannot be told: {error}")

    def _courses(self) -> dict[str, Outcome]:
        """Of the kept runs with today's; empty while none of them shows a speed."""
        from reports.history.courses import history_of
        from reports.history.reading import read_folders

        limits = CourseLimits(runs_a_month=self.settings.runs_a_month)
        reading = read_folders([self.folder])
        if not reading.measured:
            return {}
        newest = max(reading.measured, key=lambda run: run.created)
        history = history_of(reading, limits, timedelta(days=self.settings.review_days))
        return course_outcomes(
            [
                (one.figure.key, one.course.outcome)
                for one in history.series
                if (one.host_class, one.variant, one.task) == (newest.host_class, newest.variant, newest.task)
            ]
        )


def exit_code_of(entry: Entry) -> int:
    """The gate's own, 10 where it passes and a course is worse."""
    if entry.exit_code == EXIT_CODES["PASS"] and "FAIL" in (entry.courses or {}).values():
        return EXIT_REGRESSION
    return entry.exit_code


def run_gate(words: Sequence[str], out: Path) -> int:
    """The gate with these words, in a process of its own; what it prints goes to stderr, as progress."""
    return fresh_verb("experiments.gate", words, out)


def _verdict(out: Path) -> Any:
    """verdict.json, None where the run came to none. Raises RecordError for a damaged one."""
    path = out / VERDICT
    if not path.is_file():
        return None
    try:
        return load_json(path)
    except ValueError as error:
        raise RecordError(f"{path}: damaged ({error}); move the folder away") from error


def _outcome(verdict: Any, code: int) -> Outcome | None:
    """A run that failed has a verdict that is none: its exit code says so."""
    if verdict is not None and verdict["exit_code"] == EXIT_CODES.get(verdict["outcome"]):
        return next(word for word in SEVERITY if word == verdict["outcome"])
    return "NO_BASELINE" if code == EXIT_CODES["NO_BASELINE"] else None


def _bound(finding: Any) -> Bound:
    """What is no ratio (a difference in dB, an environment) has an outcome alone."""
    is_ratio = finding.get("effect_kind") == "ratio"
    low, high = (finding.get("interval") or (None, None)) if is_ratio else (None, None)
    return Bound(
        metric=str(finding["metric"]), outcome=str(finding["outcome"]),
        ratio=finding.get("effect") if is_ratio else None, low=low, high=high,
    )  # fmt: skip
