"""The columns of every table: how a row is spelt in each, how it sorts, and what the reader must know to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from metrics.model_identity import spelt
from metrics.stats import MIN_TRIALS
from reports.data.quality import DNSMOS, LOG_MEL, PESQ, SNR, WER
from reports.data.scale import StageSplit
from reports.data.table import Row, Table
from reports.sections.column import Column, number_text, p50_text, p95_text, timed, timed_text
from reports.sections.scores import METRIC_HELP, METRIC_NAMES, quality_text, score_scale, score_text
from reports.words import ABSENT, count, significant

_TAIL = MIN_TRIALS[0.95]


def main_columns(table: Table, metrics: tuple[str, ...]) -> tuple[Column, ...]:
    """The headline table without its note: what it is, what it cost, how fast it was, what was heard."""
    return (_LABEL, *_COST, *_SPEED, *_ratio_columns(table), *(_quality_column(m) for m in metrics), *_memory(table))


def time_columns() -> tuple[Column, ...]:
    """Where the time goes."""
    return (_LABEL, *_STAGES, _TEXT_CACHE, _CPU, _BUILD, _FIRST)


def enhance_columns(table: Table) -> tuple[Column, ...]:
    """The stage after the joins, where a row has one."""
    stages = [row.timing.stages for row in table.rows if row.timing and row.timing.stages]
    return (_ENHANCE,) if any(split.enhance_pct for split in stages) else ()


def built_columns() -> tuple[Column, ...]:
    """What was built, read back from the engine."""
    return (_LABEL, _ENGINE, _PRECISION, _SOLVER, _STEPS, _EVALS, _WEIGHTS, _REFERENCE)


def terminal_columns(table: Table) -> tuple[Column, ...]:
    """What fits a terminal of 100 columns, spelt short."""
    base = tuple(replace(c, header="x base") for c in _ratio_columns(table) if c.key == "times_base")
    quality = tuple(
        replace(_quality_column(metric), header=header, text=partial(_short_quality, metric=metric))
        for metric, header in ((LOG_MEL, "log-mel"), (SNR, "SNR dB"), (PESQ, "PESQ"), *_by_ears(table))
    )
    p95 = replace(_P95, text=timed_text(lambda t: significant(t.p95_ms) if t.p95_ms else f"n={t.num_trials}<{_TAIL}"))
    return (_LABEL, _EVALS, _RTF, _P50, p95, *base, *quality, *_memory(table))


def _by_ears(table: Table) -> tuple[tuple[str, str], ...]:
    """What few sweeps are scored for: columns only where some row has a number."""
    return tuple(
        (metric, header)
        for metric, header in ((WER, "WER %"), (DNSMOS, "DNSMOS"))
        if any((summary := row.quality.get(metric)) is not None and summary.mean is not None for row in table.rows)
    )


def _short_quality(row: Row, metric: str) -> str:
    """As quality_text, with n/m; a word only where a score failed: what holds for a whole row stands in its note."""
    summary = row.quality.get(metric)
    is_itself = row.is_reference and metric not in (WER, DNSMOS)
    if summary is None or is_itself or row.validity == "random":
        return ABSENT
    if summary.mean is None:
        return summary.word or ABSENT
    part = f" {summary.num_ok}/{summary.num_all}" if summary.num_ok < summary.num_all else ""
    return score_text(summary.mean, metric) + part


def _quality_column(metric: str) -> Column:
    def value(row: Row) -> float | None:
        summary = row.quality.get(metric)
        return None if summary is None or summary.mean is None else summary.mean * score_scale(metric)

    return Column(
        key=metric,
        header=METRIC_NAMES[metric],
        help=METRIC_HELP[metric],
        text=lambda row: quality_text(row, metric),
        sort=value,
    )


def _ratio_columns(table: Table) -> tuple[Column, ...]:
    base = timed(lambda timing: timing.times_base)
    upstream = timed(lambda timing: timing.times_upstream)
    columns = []
    if table.base_label:
        help_ = f"how many times as fast as {table.base_label} (ratio of the RTFs); over 1 is faster"
        columns.append(
            Column(key="times_base", header=f"x {table.base_label}", help=help_, text=number_text(base), sort=base)
        )
    if any(upstream(row) is not None for row in table.rows):
        help_ = "how many times as fast as the upstream row with the same counted evaluations, where there is one"
        columns.append(
            Column(
                key="times_upstream",
                header="x upstream at equal evals",
                help=help_,
                text=number_text(upstream),
                sort=upstream,
            )
        )
    return tuple(columns)


def _memory(table: Table) -> tuple[Column, ...]:
    columns = [_PEAK]
    if any(row.device_peak_mib is not None for row in table.rows):
        columns.append(_DEVICE_PEAK)
    return tuple(columns)


def _reference_text(row: Row) -> str:
    reference = row.cell.record.reference if row.cell.record else None
    if reference is None:
        return ABSENT
    return ("" if reference.is_own else "another: ") + spelt(reference)


def _peak_text(row: Row) -> str:
    if row.peak_mib is None:
        return ABSENT
    return f"{row.peak_mib:.0f}" + ("" if row.peak_kind == "PSS" else f" {row.peak_kind}")


def _stage_column(key: str, header: str, what: str, read: Callable[[StageSplit], float]) -> Column:
    value = timed(lambda timing: read(timing.stages) if timing.stages else None)
    return Column(
        key=key,
        header=header,
        help=f"{what}, in percent of the time of all stages",
        text=number_text(value, lambda share: f"{share:.1f}"),
        sort=value,
    )


_rtf = timed(lambda timing: timing.rtf)
_p50 = timed(lambda timing: timing.p50_ms)
_p95 = timed(lambda timing: timing.p95_ms)
_evals = timed(lambda timing: timing.evals_per_call)
_trials = timed(lambda timing: timing.num_trials)
_cpu = timed(lambda timing: timing.cpu_ms)
_first = timed(lambda timing: timing.first_call_s)

_LABEL = Column(
    key="label",
    header="variant",
    help="engine-solver; upstream is the untouched f5_tts pipeline, fp32 is ours in float32",
    text=lambda row: row.label,
)
_ENGINE = Column(key="engine", header="engine", help="the engine that was built", text=lambda row: row.engine)
_PRECISION = Column(key="precision", header="precision", help="of the weights", text=lambda row: row.precision)
_SOLVER = Column(key="solver", header="solver", help="the solver preset", text=lambda row: row.solver)
_STEPS = Column(
    key="steps",
    header="steps",
    help="intervals of the time grid (upstream's nfe_step)",
    text=number_text(lambda row: row.num_steps, count),
    sort=lambda row: row.num_steps,
)
_EVALS = Column(
    key="evals_per_call",
    header="evals",
    help="velocity evaluations per call, counted while running; a guided pair counts as one, midpoint takes two a step",
    text=number_text(_evals, count),
    sort=_evals,
)
_RTF = Column(
    key="rtf",
    header="RTF",
    help="wall seconds per second of generated audio, the reference excluded; lower is better, under 1 is faster than "
    "real time; it depends on the lengths in the caption",
    text=number_text(_rtf),
    sort=_rtf,
)
_P50 = Column(key="p50_ms", header="p50 ms", help="median milliseconds of a call", text=number_text(_p50), sort=_p50)
_P50_INTERVAL = Column(
    key="p50_ms",
    header="p50 ms (95 % interval)",
    help="median milliseconds of a call over all sentences, with the interval of that median inside this one run; "
    "another process may differ by more, so for a verdict on two variants use experiments.compare",
    text=timed_text(p50_text),
    sort=_p50,
)
_P95 = Column(
    key="p95_ms",
    header="p95 ms",
    help=f"95th percentile of a call with its 95 % interval, printed from {_TAIL} trials on: with fewer it may never "
    "have seen the tail; long sentences make it, too, so read it by length",
    text=timed_text(p95_text),
    sort=_p95,
)
_TRIALS = Column(
    key="num_trials",
    header="trials",
    help="timed calls behind the row, warm-up excluded",
    text=number_text(_trials, count),
    sort=_trials,
)
_PEAK = Column(
    key="peak_mib",
    header="peak MiB",
    help="highest memory of the worker process, proportional (PSS) unless RSS is said; unified: what a board whose "
    "processor and GPU share one memory had less of, driver and libraries included",
    text=_peak_text,
    sort=lambda row: row.peak_mib,
)
_DEVICE_PEAK = Column(
    key="device_peak_mib",
    header="device MiB",
    help="highest memory allocated on the device",
    text=number_text(lambda row: row.device_peak_mib, lambda value: f"{value:.0f}"),
    sort=lambda row: row.device_peak_mib,
)
_BUILD = Column(
    key="build_s",
    header="build s",
    help="seconds to build the engine, weights included",
    text=number_text(lambda row: row.build_s),
    sort=lambda row: row.build_s,
)
_FIRST = Column(
    key="first_call_s",
    header="first call s",
    help="seconds of the first, cold call",
    text=number_text(_first),
    sort=_first,
)
_CPU = Column(
    key="cpu_ms",
    header="CPU ms",
    help="median CPU milliseconds of a call over all threads; steadier than wall time on a shared machine",
    text=number_text(_cpu),
    sort=_cpu,
)
_WEIGHTS = Column(
    key="weights_mib",
    header="weights MiB",
    help="bytes of the weights as built",
    text=number_text(lambda row: row.weights_mib),
    sort=lambda row: row.weights_mib,
)
_REFERENCE = Column(
    key="reference_model",
    header="reference model",
    help="the model that the row's scores are measured against, with the hashes of its weights and its architecture",
    text=_reference_text,
)
_TEXT_CACHE = Column(
    key="text_cache_pct",
    header="text cache %",
    help="texts that the front end found tokenised already; repeated sentences make it high, so the front end's share "
    "is that of a warm cache",
    text=number_text(lambda row: None if row.text_cache_frac is None else 100 * row.text_cache_frac),
    sort=lambda row: row.text_cache_frac,
)
_COST = (_STEPS, _EVALS)
_SPEED = (_RTF, _P50_INTERVAL, _P95, _TRIALS)
_STAGES = (
    _stage_column("frontend_pct", "front %", "text and reference audio made ready", lambda split: split.frontend_pct),
    _stage_column("denoise_pct", "denoise %", "the solver with all its evaluations", lambda split: split.denoise_pct),
    _stage_column("vocoder_pct", "vocoder %", "mel to waveform", lambda split: split.vocoder_pct),
    _stage_column("join_pct", "join %", "cross-fades and loudness", lambda split: split.join_pct),
)
_ENHANCE = _stage_column(
    "enhance_pct", "enhance %", "what is done to the sound after the joins", lambda split: split.enhance_pct
)
