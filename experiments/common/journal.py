"""The journal of one run: a JSON object a line, on the disk before the next trial starts; and what is read back.

Kinds: start, build, facts, plan, first_call, trial, calibration, warm_up, counters, spoken, memory, utterance,
determinism, cold, energy, end. What is torn, and how it is read, is in metrics.journal_lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, TypedDict

from experiments.common.plain import Config
from metrics.journal_lines import LineWriter, read_lines
from metrics.parts.environment import Environment
from metrics.parts.facts import Facts
from metrics.parts.spoken import Spoken
from metrics.record import CalibrationReading, ColdStart, RecordError, RunStatus, Trial, Utterance, to_json
from metrics.typed import value_of

JOURNAL = "journal.jsonl"
# Of every journal that is written here: runs, streams, comparisons, loads
KINDS = frozenset(
    ("start", "build", "facts", "plan", "first_call", "trial", "calibration", "warm_up", "counters", "spoken", "memory",
     "utterance", "determinism", "cold", "energy", "end", "stream", "call", "warmup", "turn", "request")
)  # fmt: skip


class JournalWriter:
    """Appends entries; each is on the disk before `append` returns. Raises OSError on a full disk, and undoes it."""

    def __init__(self, path: Path):
        self._lines = LineWriter(path)

    def append(self, kind: str, content: Mapping[str, object]) -> None:
        self._lines.append(to_json({"kind": kind, **content}))

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Start(TypedDict, total=False):
    """Where a run begins, and with what."""

    created: str
    environment: Environment
    workload: Spoken
    num_utterances: int


class About(TypedDict):
    """What was measured, by what, where: a verb's file of results begins with it."""

    config: Config
    facts: Facts
    environment: Environment
    workload: Spoken


class WarmUpEnd(TypedDict):
    """is_steady: None where too few rounds were made to know. slope_frac: relative change per call over the last."""

    is_steady: bool | None
    num_rounds: int
    slope_frac: float | None


class Work(TypedDict):
    """Of an energy pass, by CLOCK_MONOTONIC; audio_s: what was spoken meanwhile."""

    start_s: float
    end_s: float
    audio_s: float
    num_calls: int


class Ended(TypedDict):
    """How a run ended, as its record says it."""

    status: RunStatus
    reason: str | None
    remedy: str | None


class Ending(Ended, total=False):
    """The same as its worker says it. error: the exception's name, where there was one."""

    error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Journal:
    """What a run had written down. `start`, `facts` and `end` are None while the run had not come to them.

    memory: peak_rss_bytes, peak_pss_bytes, peak_device_bytes, as far as known. identical: utterance id -> whether all
    repeats gave the same bits, empty with one round, None before the end. warm_up and counters: how warm-up ended and
    what the engine counted before and after the timed region. energy: when the work of an energy pass began and ended.
    torn: numbers of the lines that are not whole.
    """

    start: Start | None = None
    facts: Facts | None = None
    build_s: float | None = None
    first_call_s: float | None = None
    trials: tuple[Trial, ...] = ()
    utterances: tuple[Utterance, ...] = ()
    memory: Mapping[str, int | None] = field(default_factory=dict)
    identical: Mapping[str, bool] | None = None
    calibrations: tuple[CalibrationReading, ...] = ()
    warm_up: WarmUpEnd | None = None
    counters: Mapping[str, Mapping[str, int]] | None = None
    cold: ColdStart | None = None
    energy: Work | None = None
    end: Ending | None = None
    torn: tuple[int, ...] = ()


# Entries that are kept as they were written, once they are seen to be of their kind
FORMS: Mapping[str, object] = {
    "start": Start, "facts": Facts, "memory": Mapping[str, int | None], "warm_up": WarmUpEnd,
    "counters": Mapping[str, Mapping[str, int]], "energy": Work, "end": Ending,
}  # fmt: skip


@dataclass
class _Gathered:
    """The state of a reading."""

    fields: dict[str, Any] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    calibrations: list[CalibrationReading] = field(default_factory=list)
    utterances: list[Utterance] = field(default_factory=list)


def read_journal(path: Path) -> Journal:
    """Everything measured; empty where there is no file. Raises RecordError for a whole line that says nonsense."""
    if not path.is_file():
        return Journal()
    gathered, lines = _Gathered(), read_lines(path, KINDS)
    for number, entry in lines.whole:
        try:
            _take(gathered, entry)
        except (ValueError, TypeError, KeyError) as error:
            raise RecordError(f"{path}: line {number} is damaged ({error}); run this variant again") from error
    means = _round_means(gathered.calibrations)
    return Journal(
        trials=tuple(_calibrated(trial, means) for trial in gathered.trials),
        utterances=tuple(gathered.utterances),
        calibrations=tuple(gathered.calibrations),
        torn=lines.torn,
        **gathered.fields,
    )


def _round_means(readings: Sequence[CalibrationReading]) -> dict[tuple[bool, int], tuple[float, float]]:
    """(is_warmup, repeat) -> mean wall and CPU seconds of that round's GEMMs."""
    rounds: dict[tuple[bool, int], list[CalibrationReading]] = {}
    for reading in readings:
        if reading.work == "gemm":
            rounds.setdefault((reading.is_warmup, reading.repeat), []).append(reading)
    return {key: (fmean(r.wall_s for r in found), fmean(r.cpu_s for r in found)) for key, found in rounds.items()}


def _calibrated(trial: Trial, means: Mapping[tuple[bool, int], tuple[float, float]]) -> Trial:
    """With the calibration of its round, which may stand before or after it."""
    found = means.get((trial.is_warmup, trial.repeat))
    return trial if found is None else replace(trial, calibration_s=found[0], calibration_cpu_s=found[1])


def _take(gathered: _Gathered, entry: dict[str, Any]) -> None:
    kind = entry.pop("kind")
    if kind == "trial":
        gathered.trials.append(Trial(**entry))
    elif kind == "calibration":
        gathered.calibrations.append(CalibrationReading(**entry))
    elif kind == "utterance":
        gathered.utterances.append(Utterance(**entry))
    elif kind == "cold":
        gathered.fields[kind] = ColdStart(**entry)
    elif kind in FORMS:
        gathered.fields[kind] = value_of(FORMS[kind], entry, kind)
    elif kind == "determinism":
        gathered.fields["identical"] = entry["identical"]
    elif kind in ("build", "first_call"):
        gathered.fields[f"{kind}_s"] = entry[f"{kind}_s"]


def set_aside(path: Path) -> None:
    """Keep an earlier attempt's journal beside the new one: journal.1.jsonl, journal.2.jsonl, ..."""
    if not path.exists():
        return
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(kept)
