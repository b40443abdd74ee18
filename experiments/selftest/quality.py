"""What the metrics see and what they imagine, on audio of this machine's own runs.

`python -m experiments.selftest.quality RUN [--pair RUN:RUN ...]`: seeded faults are put into the run's audio and must
be seen; pairs of runs that differ in arithmetic only must show no event; the paired design's standard error stands
beside the unpaired one.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.common.cli import EXIT_OK, EXIT_REGRESSION, run_verb
from experiments.measuring.job import RESULT
from experiments.scoring.audio import heard_in, read_all, with_audio
from experiments.scoring.models import intelligibility
from metrics.fidelity.artefacts import Expectation, audio_valid
from metrics.fidelity.faults import FAULTS, SEEN_BY, with_fault
from metrics.fidelity.pairing import Heard, Pair
from metrics.fidelity.scores import score_pairs
from metrics.isolation import Limits
from metrics.record import Score, load_record
from reports.commands import VerbParser

MEASURED_RATES = ("click -12 dB",)  # research: 85 to 89 % can be seen; all others must be seen always
LEAST_CLICKS_FRAC = 0.85
MOST_WRONG_FRAC = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    fault: str
    metric: str
    seen: int
    tried: int

    @property
    def is_enough(self) -> bool:
        least = LEAST_CLICKS_FRAC if self.fault in MEASURED_RATES else 1.0
        return self.tried > 0 and self.seen >= least * self.tried


def fault_rates(heard: Mapping[str, Heard], limits: Limits) -> list[Rate]:
    """How many of the faults each responsible score sees."""
    rates = []
    for fault in FAULTS:
        seen = SEEN_BY[fault]
        pairs = [
            (with_audio(one, with_fault(fault, name, one.audio_S, one.sample_rate_hz)), one)
            for name, one in heard.items()
        ]
        values = [score.value for score in _scores(seen.metric, pairs, limits)]
        rates.append(Rate(fault=fault, metric=seen.metric, seen=sum(map(seen.by, values)), tried=len(values)))
    return rates


def wrong_words(folder: Path, limits: Limits) -> Rate:
    """Every sentence answered with the audio of the one before: right words are under half wrong, these are over it."""
    record = load_record(folder / RESULT)
    audio, _ = read_all(folder, record)
    names = list(audio)
    replayed = {name: audio[names[i - 1]] for i, name in enumerate(names)}
    errors = [s.value for s in intelligibility(record, replayed, limits) if s.metric == "wer_frac" and s.utterance_id]
    seen = sum(value is not None and value > MOST_WRONG_FRAC for value in errors)
    return Rate(fault="previous output", metric="wer_frac", seen=seen, tried=len(errors))


def _scores(metric: str, pairs: Sequence[Pair], limits: Limits) -> list[Score]:
    if metric == "audio_valid":
        return [_validity(variant, against) for variant, against in pairs]
    family = {"lsd": "lsd", "level": "lsd", "new": "artifacts", "voicing": "prosody"}[metric.partition("_")[0]]
    return [score for score in score_pairs(pairs, "reference", [family], limits) if score.metric == metric]


def _validity(variant: Heard, against: Heard) -> Score:
    expected = Expectation(
        utterance_id=variant.utterance.utterance_id,
        text=variant.utterance.text,
        sample_rate_hz=against.sample_rate_hz,
        num_samples=against.utterance.num_samples,
    )
    return audio_valid(variant.audio_S, variant.sample_rate_hz, expected=expected)


def false_events(pairs: Sequence[Pair], limits: Limits) -> tuple[int, int]:
    """(pairs with any event, pairs) for runs that differ in arithmetic only."""
    scores = [s for s in score_pairs(pairs, "reference", ["artifacts"], limits) if s.metric == "artifact_vs_reference"]
    return sum(score.value == 1.0 for score in scores), sum(score.value is not None for score in scores)


def standard_errors(pairs: Sequence[Pair]) -> tuple[float, float]:
    """(paired, unpaired) standard error of the mean difference of the sentences' level over 20 ms frames in dB.

    Paired: of the differences sentence by sentence. Unpaired: as if the sentences of the two runs had been drawn apart.
    """
    ours, theirs = ([_level_db(side.audio_S) for side in sides] for sides in zip(*pairs, strict=True))
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    paired = statistics.stdev(differences) / math.sqrt(len(differences))
    return paired, math.sqrt((statistics.variance(ours) + statistics.variance(theirs)) / len(ours))


def _level_db(audio_S: np.ndarray) -> float:
    return 10 * math.log10(float(np.mean(np.square(audio_S, dtype=np.float64))))


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.selftest.quality", description=__doc__)
    parser.add_argument("folder", type=Path, help="a finished run whose audio the faults are put into")
    parser.add_argument("--pair", action="append", default=[], help="VARIANT:AGAINST, two runs of the same noise")
    options = parser.parse_args(argv)
    started_s = time.perf_counter()
    limits = Limits(timeout_s=60.0)
    rates = [*fault_rates(heard_in(options.folder), limits), wrong_words(options.folder, limits)]
    for rate in rates:
        word = "ok" if rate.is_enough else "MISSED"
        print(f"{rate.fault:20s} seen {rate.seen:3d} of {rate.tried:3d}  {word:6s} by {rate.metric}")
    imagined = 0
    for text in options.pair:
        variant, _, against = text.partition(":")
        ours, theirs = heard_in(Path(variant)), heard_in(Path(against))
        pairs = [(ours[name], theirs[name]) for name in ours if name in theirs]
        events, num = false_events(pairs, limits)
        imagined += events
        paired, unpaired = standard_errors(pairs)
        ratio = f"{unpaired / paired:.0f} times smaller" if paired else "0"
        print(f"{Path(variant).name} against {Path(against).name}: {events} of {num} clips with an event")
        print(f"    standard error of the level's change: {paired:.2g} dB paired, {unpaired:.2g} unpaired, {ratio}")
    print(f"{time.perf_counter() - started_s:.1f} s")
    return EXIT_OK if imagined == 0 and all(rate.is_enough for rate in rates) else EXIT_REGRESSION


if __name__ == "__main__":
    sys.exit(run_verb(main))
