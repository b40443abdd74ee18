"""The names of the scores in tables, what each means, how many decimals it deserves."""

from __future__ import annotations

from metrics.fidelity.scores import SNR_CAP_DB
from reports.data.quality import DNSMOS, LOG_MEL, ORACLE_LOG_MEL, ORACLE_SNR, PESQ, SNR, STOI, WER, Summary
from reports.data.scale import PERCENT
from reports.data.table import Row
from reports.words import ABSENT

METRIC_NAMES = {
    LOG_MEL: "log-mel error",
    SNR: "SNR dB",
    PESQ: "PESQ-WB",
    STOI: "STOI",
    WER: "WER %",
    DNSMOS: "DNSMOS",
    ORACLE_LOG_MEL: "log-mel vs oracle",
    ORACLE_SNR: "SNR dB vs oracle",
}
METRIC_HELP = {
    LOG_MEL: "mean absolute difference of the natural log-mel before the vocoder from the reference's, in nats; "
    "0 is the reference, lower is better: the first figure to look at",
    SNR: "signal-to-noise ratio of the waveform against the reference in dB, higher is better; a fidelity figure: a "
    "mere shift of phase makes it small although nobody hears it",
    PESQ: "PESQ wide-band against the reference (1.0 to 4.64, higher is better); computed at 16 kHz, so it hears "
    "nothing above 8 kHz",
    STOI: "short-time intelligibility against the reference (up to 1, higher is better); hears nothing above 4.3 kHz",
    WER: "word error rate of the offline recogniser over all sentences in percent, lower is better",
    DNSMOS: "overall quality (P.835 OVRL, 1 to 5, higher is better) as a model guesses it: it hears damage and noise, "
    "hardly melody; for comparing rows, and no listener",
    ORACLE_LOG_MEL: "log-mel error against float32 on the same solver and grid: what the engine changed, without what "
    "the solver changed",
    ORACLE_SNR: "SNR against float32 on the same solver and grid",
}
DECIMALS = {LOG_MEL: 3, SNR: 1, PESQ: 2, STOI: 3, WER: 1, DNSMOS: 2, ORACLE_LOG_MEL: 3, ORACLE_SNR: 1}


def quality_text(row: Row, metric: str) -> str:
    """The mean, with "n of m" unless it stands on every sentence; a word where there is none."""
    summary = row.quality.get(metric)
    if summary is None:
        return ABSENT
    return summary_text(summary, metric)


def summary_text(summary: Summary, metric: str) -> str:
    if summary.mean is None:
        return summary.word or ABSENT
    part = f" ({summary.num_ok} of {summary.num_all})" if summary.num_ok < summary.num_all else ""
    return score_text(summary.mean, metric) + part


def score_text(value: float, metric: str) -> str:
    if metric in (SNR, ORACLE_SNR) and value >= SNR_CAP_DB:
        return f">={SNR_CAP_DB:.0f}"
    return f"{value * score_scale(metric):.{DECIMALS.get(metric, 3)}f}"


def score_scale(metric: str) -> float:
    """Fractions are printed in percent."""
    return PERCENT if metric == WER else 1.0
