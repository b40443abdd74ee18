"""How far the ears agree: `python -m experiments.checks.ears SWEEP_DIR --base LABEL --same LABEL,LABEL`.

Faults are planted into the audio of one variant, and each ear is asked whether it got worse: by more than it ever did
between the base and the variants that differ from it in arithmetic only. Over all variants of the sweep, the rank
correlation of what the ears say. The sweep has to have been scored: f5bench score SWEEP_DIR --quality full.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, EXIT_REGRESSION, run_verb
from experiments.measuring.job import RESULT
from experiments.scoring.audio import Audio, heard_in, read_all, with_audio
from experiments.scoring.models import intelligibility, predicted_mos, second_opinion
from metrics.fidelity.faults import FAULTS, with_fault
from metrics.fidelity.pairing import Heard
from metrics.fidelity.scores import score_pairs
from metrics.isolation import Limits
from metrics.record import RunRecord, Score, load_record
from reports.commands import VerbParser

WRONG_WORDS = "previous output"
FEWEST_VARIANTS = 5
Values = dict[str, float | None]  # by utterance; None: the ear gave no number


@dataclass(frozen=True, slots=True)
class Ear:
    """sign: +1 where more of it is worse. of_audio: False for what is computed before the vocoder."""

    name: str
    metric: str
    sign: int
    of_audio: bool = True


EARS = (
    Ear("Whisper WER", "wer_frac", 1),
    Ear("pocketsphinx WER", "wer_closed_frac", 1),
    Ear("DNSMOS OVRL", "mos_pred_dnsmos_ovrl", -1),
    Ear("DNSMOS P.808", "mos_pred_dnsmos_p808_p808", -1),
    Ear("PESQ-WB", "pesq_wb_vs_reference", -1),
    Ear("log-mel error", "log_mel_mae_vs_reference", 1, of_audio=False),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """Of one fault by one ear: clips that got worse by more than its limit, and clips that it gave no number for."""

    fault: str
    ear: str
    seen: int
    refused: int
    tried: int

    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's, 95 %, of clips in which the fault was seen or the ear refused to answer."""
        from scipy import stats  # takes a second to import

        found = stats.binomtest(self.seen + self.refused, self.tried).proportion_ci(0.95)
        return float(found.low), float(found.high)


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Spearman's rank correlation of two ears over the variants; both turned so that more is worse."""

    one: str
    other: str
    rho: float
    num: int


def values_of(record: RunRecord, metric: str) -> Values:
    return {score.utterance_id: score.value for score in record.scores_of(metric) if score.utterance_id is not None}


def worsened(ear: Ear, before: Values, after: Values) -> dict[str, float]:
    """By how much, of the clips that have both numbers."""
    pairs = ((name, before.get(name), after.get(name)) for name in before)
    return {name: ear.sign * (b - a) for name, a, b in pairs if a is not None and b is not None}


def limit_of(ear: Ear, base: Values, same: Sequence[Values]) -> float:
    """The most that arithmetic alone made it worse in any clip; never under zero."""
    return max((0.0, *(change for other in same for change in worsened(ear, base, other).values())))


def detections(
    fault: str, base: Mapping[str, Values], after: Mapping[str, Values], limits: Mapping[str, float]
) -> list[Detection]:
    """base, after: metric -> values; limits: by ear."""
    found = []
    for ear in EARS:
        if not ear.of_audio:
            continue
        before = base[ear.metric]
        known = {name for name, value in before.items() if value is not None}
        changes = worsened(ear, before, after[ear.metric])
        found.append(Detection(
            fault=fault, ear=ear.name, seen=sum(change > limits[ear.name] for change in changes.values()),
            refused=len(known) - len(changes), tried=len(known),
        ))  # fmt: skip
    return found


def agreements(variants: Mapping[str, Mapping[str, Values]]) -> list[Agreement]:
    """variants: label -> metric -> values. A variant without a number of either ear is left out of that pair."""
    from scipy import stats  # takes a second to import

    means: dict[str, dict[str, float]] = {ear.name: {} for ear in EARS}
    for (label, values), ear in itertools.product(variants.items(), EARS):
        if known := _known(values[ear.metric]):
            means[ear.name][label] = ear.sign * float(np.mean(known))
    found = []
    for one, other in itertools.combinations(means, 2):
        labels = [label for label in means[one] if label in means[other]]
        if len(labels) < FEWEST_VARIANTS:
            continue
        rho = stats.spearmanr([means[one][i] for i in labels], [means[other][i] for i in labels]).statistic
        found.append(Agreement(one=one, other=other, rho=float(rho), num=len(labels)))
    return found


def _known(values: Values) -> list[float]:
    return [value for value in values.values() if value is not None]


def heard_as(
    record: RunRecord,
    clean: Mapping[str, Heard],
    audio: Mapping[str, np.ndarray],
    mels: Mapping[str, Audio],
    limits: Limits,
) -> dict[str, Values]:
    """metric -> values, of the run as if its engine had said this audio; compared with what it did say."""
    spoken = {name: Audio(audio_S, clean[name].sample_rate_hz, mels[name].mel_ND) for name, audio_S in audio.items()}
    scores: list[Score] = [
        *intelligibility(record, spoken, limits), *second_opinion(record, spoken, limits),
        *predicted_mos(record, spoken, limits),
        *score_pairs([(with_audio(clean[n], audio[n]), clean[n]) for n in clean], "reference", ["pesq"], limits),
    ]  # fmt: skip
    wanted = [ear.metric for ear in EARS if ear.of_audio]
    return {
        m: {s.utterance_id: s.value for s in scores if s.metric == m and s.utterance_id is not None} for m in wanted
    }


def planted(heard: Mapping[str, Heard]) -> dict[str, dict[str, np.ndarray]]:
    """fault -> utterance -> audio; the same on every machine."""
    names = list(heard)
    found = {
        fault: {name: with_fault(fault, name, one.audio_S, one.sample_rate_hz) for name, one in heard.items()}
        for fault in FAULTS
    }
    return {**found, WRONG_WORDS: {name: heard[names[i - 1]].audio_S for i, name in enumerate(names)}}


def table_of(found: Sequence[Detection], limits: Mapping[str, float], pairs: Sequence[Agreement]) -> str:
    ears = [ear.name for ear in EARS if ear.of_audio]
    lines = [f"| fault | {' | '.join(ears)} |", "|---" * (len(ears) + 1) + "|"]
    for fault in dict.fromkeys(one.fault for one in found):
        cells = {one.ear: _cell(one) for one in found if one.fault == fault}
        lines.append(f"| {fault} | {' | '.join(cells[ear] for ear in ears)} |")
    lines.append(f"| limit of a clip | {' | '.join(f'{limits[ear]:.3g}' for ear in ears)} |")
    lines += ["", "| ear | ear | Spearman's rho over variants | variants |", "|---|---|---|---|"]
    lines += [f"| {pair.one} | {pair.other} | {pair.rho:+.2f} | {pair.num} |" for pair in pairs]
    return "\n".join(lines) + "\n"


def _cell(one: Detection) -> str:
    low, high = one.interval()
    refused = f", {one.refused} without a number" if one.refused else ""
    return f"{one.seen + one.refused} of {one.tried}{refused} ({100 * low:.0f}..{100 * high:.0f} %)"


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.checks.ears", description=__doc__)
    parser.add_argument("sweep", type=Path, help="a finished sweep, scored with quality=full")
    parser.add_argument("--base", required=True, help="label of the variant whose audio the faults are put into")
    parser.add_argument("--same", required=True, help="labels of variants that differ from it in arithmetic only")
    options = parser.parse_args(argv)
    records = {path.parent.name: load_record(path) for path in sorted(options.sweep.glob(f"cells/*/{RESULT}"))}
    same = [label for label in options.same.split(",") if label]
    for key, label in (("--base", options.base), *(("--same", label) for label in same)):
        if label not in records:
            raise ConfigError(key, label, f"is no finished variant of {options.sweep}", f"there are {list(records)}")
    scored = {label: {e.metric: values_of(record, e.metric) for e in EARS} for label, record in records.items()}
    base, record, folder = scored[options.base], records[options.base], options.sweep / "cells" / options.base
    missing = [e.metric for e in EARS if not _known(base[e.metric])]
    if missing:
        raise ConfigError(
            "sweep", options.sweep, f"has no {', '.join(missing)}", f"f5bench score {options.sweep} --quality full"
        )
    clean, limits = heard_in(folder), Limits(timeout_s=120.0)
    mels, _ = read_all(folder, record)
    again = heard_as(record, clean, {name: one.audio_S for name, one in clean.items()}, mels, limits)
    differing = [
        e.name for e in EARS if e.of_audio and e.metric != "pesq_wb_vs_reference" and again[e.metric] != base[e.metric]
    ]
    # PESQ of a clip with itself is what a faulty clip is compared with; the sweep's own is against 32 steps
    heard_before = {**base, "pesq_wb_vs_reference": again["pesq_wb_vs_reference"]}
    most = {ear.name: limit_of(ear, base[ear.metric], [scored[label][ear.metric] for label in same]) for ear in EARS}
    found = [
        one
        for fault, audio in planted(clean).items()
        for one in detections(fault, heard_before, heard_as(record, clean, audio, mels, limits), most)
    ]
    print(table_of(found, most, agreements(scored)))
    said = "none differs" if not differing else ", ".join(differing) + " differ"
    print(f"The same audio once more, in other processes: {said} ({len(clean)} clips, {len(EARS) - 1} ears).")
    return EXIT_REGRESSION if differing else EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
