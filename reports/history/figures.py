"""What a history follows of each run: speed, memory, energy and quality, as one number each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from baselines.class_history import calibration_s
from baselines.history.course import Better
from reports.data.power import power_of
from reports.data.quality import LOG_MEL, SNR, WER
from reports.data.table import Row

PERCENT = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """column: as the published table of results calls it, None where it has none. is_ratio: above 0, and what matters
    is the ratio. is_paced: moves with the machine's pace, so it is taken in units of the run's own calibration."""

    key: str
    title: str
    better: Better
    is_ratio: bool
    is_paced: bool
    value: Callable[[Row], float | None]
    column: str | None = None


def _rtf(row: Row) -> float | None:
    return None if row.timing is None else row.timing.rtf


def _p95_ms(row: Row) -> float | None:
    return None if row.timing is None else row.timing.p95_ms


def _cpu(row: Row) -> float | None:
    """Of an engine on a CPU; on a GPU the host's processor only hands the work on."""
    record = row.cell.record
    if record is None or row.timing is None or str(record.environment.get("device")) != "cpu":
        return None
    steady = record.steady_trials
    return math.fsum(trial.cpu_s for trial in steady) / math.fsum(trial.audio_s for trial in steady)


def _joules(row: Row) -> float | None:
    use = power_of(row)
    return None if use is None else use.gross_j


def _score(metric: str, scale: float = 1.0) -> Callable[[Row], float | None]:
    def value(row: Row) -> float | None:
        summary = row.quality.get(metric)
        return None if summary is None or summary.mean is None else scale * summary.mean

    return value


FIGURES = (
    Figure(key="rtf", title="RTF", better="lower", is_ratio=True, is_paced=True, value=_rtf, column="RTF"),
    Figure(
        key="cpu", title="CPU s per s of speech", better="lower", is_ratio=True, is_paced=False, value=_cpu
    ),
    Figure(key="p95", title="p95 ms", better="lower", is_ratio=True, is_paced=True, value=_p95_ms, column="p95 ms"),
    Figure(
        key="memory", title="peak MiB", better="lower", is_ratio=True, is_paced=False, value=lambda row: row.peak_mib,
        column="peak MiB",
    ),
    Figure(
        key="energy", title="J per s of speech", better="lower", is_ratio=True, is_paced=False, value=_joules
    ),
    Figure(
        key="log_mel", title="log-mel error", better="lower", is_ratio=False, is_paced=False, value=_score(LOG_MEL),
        column="log-mel error",
    ),
    Figure(key="snr", title="SNR dB", better="higher", is_ratio=False, is_paced=False, value=_score(SNR),
           column="SNR dB"),
    Figure(key="wer", title="WER %", better="lower", is_ratio=False, is_paced=False, value=_score(WER, PERCENT),
           column="WER %"),
)  # fmt: skip


def figures_of(row: Row) -> dict[str, float]:
    """Key -> value of a row that shows a speed; what it has no value for is left out."""
    found = ((figure.key, figure.value(row)) for figure in FIGURES)
    return {key: value for key, value in found if value is not None}


def pace_of(row: Row) -> float | None:
    """Seconds of the run's own calibration; None where it made too few."""
    return None if row.cell.record is None else calibration_s(row.cell.record)
