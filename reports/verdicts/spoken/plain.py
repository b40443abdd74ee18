"""Ratios, sizes and names of metrics in words that need no glossary, and texts of others made harmless in Markdown.

"12 % faster" means that a call takes 12 % less time, "12 % slower" that it takes 12 % more. Standard library only: the
job that writes a comment installs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

WIDEST = 100.0  # an interval whose upper bound is more times its lower one says nothing: too little was measured
SHOWN_CHARS = 240
NAMES: Mapping[str, str] = {
    "wall_time": "time of a call", "cpu_time": "processor time of a call", "device_time": "time on the GPU of a call",
    "peak_rss_bytes": "memory", "peak_pss_bytes": "memory", "peak_device_bytes": "GPU memory",
    "peak_unified_bytes": "memory of processor and GPU",
    "energy_j_per_audio_s": "energy per second of speech",
    "audio_valid": "sentences that came out whole", "steady_counters": "nothing prepared while the clock ran",
    "snr_vs_reference_db": "closeness to the model's own best speech",
    "blind_snr_delta_vs_reference_db": "speech over background noise", "wer_frac": "words said wrongly",
    "mos_pred_dnsmos_ovrl": "quality as a listening model guesses it",
    "speaker_similarity_resemblyzer": "likeness of the voice", "artifact_vs_reference": "clicks, gaps and cuts",
    "mos_pred": "predicted liking", "mos_listener": "liking by listeners",
    "machine.calibration": "speed of the machine itself", "machine.other_cpu_frac": "other programs on the machine",
    "machine.host_class": "kind of machine",
}  # fmt: skip


def name_of(metric: str) -> str:
    """A name that is not ours is shown as code."""
    return NAMES.get(metric) or code(metric)


def percent(frac: float) -> str:
    """0.004 -> "0.4", 0.117 -> "12"; of its size, without sign."""
    value = abs(100 * frac)
    return f"{value:.1f}".removesuffix(".0") if value < 2.95 else f"{value:.0f}"


def speed(ratio: float, low: float, high: float) -> str:
    """How much less or more time a call takes, with both bounds; for a change that is certain or allowed."""
    if high < 1.0:
        if ratio < 0.5:
            return f"{1 / ratio:.3g} times as fast ({1 / high:.3g} to {1 / low:.3g})"
        return f"{percent(1 - ratio)} % faster ({percent(1 - high)} to {percent(1 - low)} %)"
    if low > 1.0:
        if ratio > 2.0:
            return f"{ratio:.3g} times as slow ({low:.3g} to {high:.3g})"
        return f"{percent(ratio - 1)} % slower ({percent(low - 1)} to {percent(high - 1)} %)"
    return f"as fast as before ({between(low, high)})"


def between(low: float, high: float) -> str:
    """An interval of ratios that says nothing certain."""
    return f"between {_side(low)} and {_side(high)}"


def _side(ratio: float) -> str:
    if ratio < 1.0:
        return f"{percent(1 - ratio)} % faster"
    return f"{percent(ratio - 1)} % slower" if ratio <= 3.0 else f"{ratio:.3g} times as slow"


def is_bounded(low: float, high: float) -> bool:
    return 0 < low and high <= WIDEST * low


def growth(before: float, after: float) -> str:
    """+0.4 %, -12 %; "unchanged" where nobody could tell the two apart."""
    frac = after / before - 1
    shown = percent(frac)
    return "unchanged" if shown == "0" else f"{'+' if frac > 0 else '-'}{shown} %"


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def score(metric: str, value: float, *, sign: bool = False) -> str:
    """A score, or with `sign` a change of one, in the unit that its name ends with; shares as percentages."""
    scale, unit = (100, " points" if sign else " %") if metric.endswith("_frac") else (1, "")
    if metric.endswith("_db"):
        unit = " dB"
    if metric.endswith("_j_per_audio_s"):
        unit = " J"
    shown = f"{scale * value:+.2g}" if sign else f"{scale * value:.3g}"
    return f"{'0' if abs(value) < 1e-6 else shown}{unit}"


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"


def mebibytes(value: float) -> str:
    return f"{value / 2**20:.0f} MiB"


def code(text: str) -> str:
    """Somebody else's text as one line of code: nobody is mentioned, nothing is linked, no table is broken."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).replace("`", "'").replace("|", "/").split())
    return f"`{line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 1] + '…'}`" if line else "(nothing)"
