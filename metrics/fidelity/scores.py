"""How close a variant's audio is to the reference's or the oracle's: all full-reference scores of certified pairs.

Log-mel error before the vocoder is the primary one: free of phase, vocoder and resampling. Waveform numbers say how
exactly an engine computes, not how it sounds: a mere change of phase costs 25 dB of SNR that nobody hears.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from metrics.fidelity.artefacts import rms
from metrics.fidelity.catalog import PAIR_FAMILIES, PAIRED, Metric, wanted
from metrics.fidelity.events import Events, new_events, si_sdr_of
from metrics.fidelity.pairing import AgainstName, Heard, Kind, Pair, certificate, cut_reason, mel_certificate, unfit
from metrics.fidelity.perceptual import pesq_wb, stoi
from metrics.fidelity.prosody import paired as paired_prosody
from metrics.fidelity.prosody import tracks_of
from metrics.fidelity.spectral import band_distances, blind_snr_delta_db, mcd
from metrics.isolation import Limits, side_by_side
from metrics.outcome import Outcome
from metrics.record import Score

SNR_CAP_DB = 120.0

Found = Mapping[str, Outcome]
Measure = Callable[[Heard, Heard], Found]


def score_pairs(
    pairs: Sequence[Pair], against_name: AgainstName, families: Sequence[str], limits: Limits, kind: Kind = "paired"
) -> list[Score]:
    """Scores of (variant, against) pairs, pair by pair, in the order of `families` (of catalog.PAIR_FAMILIES).

    A pair without certificate has status not_comparable in every metric; one of which a side was cut (`enhance`) in
    every metric but those of the mels. Foreign code runs for all pairs in one child
    process per package. Raises ValueError on an unknown family.
    """
    unknown = sorted(set(families) - set(PAIR_FAMILIES))
    if unknown:
        raise ValueError(f"unknown metrics {unknown}; there are {list(PAIR_FAMILIES)}")
    metrics = wanted(PAIRED, families, against_name)
    asked = tuple(dict.fromkeys(metric.family for metric in metrics))
    cuts = [cut_reason(*pair) for pair in pairs]
    refusals = [cut or certificate(*pair, kind) for pair, cut in zip(pairs, cuts, strict=True)]
    certified = [pair for pair, refusal in zip(pairs, refusals, strict=True) if refusal is None]
    found = iter(outcomes_of(certified, asked, limits))
    scores = []
    for pair, refusal, cut in zip(pairs, refusals, cuts, strict=True):
        outcomes = next(found) if refusal is None else _by_mel(pair, kind) if cut else {}
        for metric in metrics:
            outcome = outcomes.get(metric.key) or Outcome.none("not_comparable", refusal or "")
            scores.append(score_of(metric, against_name, pair[0].utterance.utterance_id, outcome))
    return scores


def _by_mel(pair: Pair, kind: Kind) -> Found:
    """What a pair of unlike length still has."""
    refusal = mel_certificate(*pair, kind)
    return {"log_mel": log_mel_mae(*pair) if refusal is None else Outcome.none("not_comparable", refusal)}


def outcomes_of(pairs: Sequence[Pair], families: Sequence[str], limits: Limits) -> list[Found]:
    """By pair, the outcomes of the families under their keys; no certificate is asked for here.

    Foreign code of limits.at_once families runs side by side, and our own beside it.
    """
    columns: dict[str, list[Found]] = {}

    def ours() -> None:
        columns.update({family: [_ONE[family](*pair) for pair in pairs] for family in families if family in _ONE})

    foreign = [family for family in families if family in _MANY]
    works = [partial(_MANY[family], pairs) for family in foreign]
    columns.update(zip(foreign, side_by_side(works, limits, meanwhile=ours), strict=True))
    found: list[dict[str, Outcome]] = [{} for _ in pairs]
    for family in families:
        for mine, column in zip(found, columns[family], strict=True):
            mine.update(column)
    return list(found)


def score_of(metric: Metric, against_name: AgainstName | None, utterance_id: str | None, outcome: Outcome) -> Score:
    return Score(
        metric=metric.named(against_name),
        utterance_id=utterance_id,
        value=outcome.value,
        status=outcome.status,
        reason=outcome.reason,
        better=metric.better,
    )


def snr_db(variant: Heard, against: Heard) -> Outcome:
    """10 log10(sum(against**2) / sum((against - variant)**2)); SNR_CAP_DB means identical, or better than that."""
    refusal = unfit(variant, against)
    if refusal is not None:
        return refusal
    wanted_S = against.audio_S.astype(np.float64)
    noise = float(np.sum(np.square(wanted_S - variant.audio_S)))
    power = float(np.sum(np.square(wanted_S)))
    return Outcome.ok(SNR_CAP_DB if noise == 0 else min(SNR_CAP_DB, 10 * math.log10(power / noise)))


def si_sdr_db(variant: Heard, against: Heard) -> Outcome:
    """SNR after the best scale factor, within +-SNR_CAP_DB: the same, but blind to gain and polarity."""
    refusal = unfit(variant, against)
    if refusal is not None:
        return refusal
    value = si_sdr_of(variant.audio_S.astype(np.float64), against.audio_S.astype(np.float64))
    return Outcome.ok(max(-SNR_CAP_DB, min(SNR_CAP_DB, value)))


def log_mel_mae(variant: Heard, against: Heard) -> Outcome:
    """Mean absolute difference of the natural log-mels before the vocoder, in nats."""
    if variant.mel_ND.shape != against.mel_ND.shape:
        return Outcome.none("not_comparable", f"mel shapes {variant.mel_ND.shape} and {against.mel_ND.shape}")
    if variant.mel_ND.shape[1:] == (0,):
        return Outcome.none("not_applicable", "the model makes audio without a mel")
    if variant.mel_ND.size == 0 or not (np.isfinite(variant.mel_ND).all() and np.isfinite(against.mel_ND).all()):
        return Outcome.none("error", "a mel is empty or not finite")
    return Outcome.ok(mel_distance(variant.mel_ND, against.mel_ND))


def mel_distance(ours_ND: np.ndarray, theirs_ND: np.ndarray) -> float:
    """Mean absolute difference of two natural log-mels of one shape, in nats."""
    return float(np.mean(np.abs(ours_ND.astype(np.float64) - theirs_ND)))


def _gain(variant: Heard, against: Heard) -> Found:
    refusal = unfit(variant, against)
    if refusal is not None:
        return {"gain": refusal, "dc": refusal}
    means = [float(np.mean(side.audio_S, dtype=np.float64)) for side in (variant, against)]
    return {
        "gain": Outcome.ok(20 * math.log10(rms(variant.audio_S) / rms(against.audio_S))),
        "dc": Outcome.ok(abs(means[0] - means[1])),
    }


def _lsd(variant: Heard, against: Heard) -> Found:
    found: dict[str, Outcome] = {}
    for band, (distance, level) in band_distances(variant, against).items():
        found |= {f"lsd_{band}": distance, f"level_{band}": level}
    return found


def _artifacts(variant: Heard, against: Heard) -> Found:
    events = new_events(variant, against)
    if not isinstance(events, Events):
        return dict.fromkeys(("artifact", "clicks", "edges_change", "dropouts", "cuts", "repeats"), events)
    lost = Outcome.none("not_applicable", "the phase is lost (SI-SDR under 5 dB): see sharp_edges_change")
    return {
        "artifact": Outcome.ok(float(events.total > 0)),
        "clicks": lost if events.clicks is None else Outcome.ok(events.clicks),
        "edges_change": Outcome.ok(events.edges_change),
        "dropouts": Outcome.ok(events.dropouts),
        "cuts": Outcome.ok(events.cuts),
        "repeats": Outcome.ok(events.repeats),
    }


def _prosody(pairs: Sequence[Pair], limits: Limits) -> list[Found]:
    keys = [metric.key for metric in PAIRED if metric.family == "prosody"]
    refusals = [unfit(*pair) for pair in pairs]
    good = [pair for pair, refusal in zip(pairs, refusals, strict=True) if refusal is None]
    tracks = iter(tracks_of([(side.audio_S, side.sample_rate_hz) for pair in good for side in pair], limits))
    found: list[Found] = []
    for pair, refusal in zip(pairs, refusals, strict=True):
        if refusal is not None:
            found.append(dict.fromkeys(keys, refusal))
            continue
        ours, theirs = next(tracks), next(tracks)
        if isinstance(ours, Outcome) or isinstance(theirs, Outcome):
            found.append(dict.fromkeys(keys, ours if isinstance(ours, Outcome) else theirs))  # type: ignore[arg-type]
        else:
            found.append(paired_prosody(ours, theirs, pair[0].utterance.text))
    return found


def _column(key: str, outcomes: Sequence[Outcome]) -> list[Found]:
    return [{key: outcome} for outcome in outcomes]


_ONE: Mapping[str, Measure] = {
    "log_mel": lambda v, a: {"log_mel": log_mel_mae(v, a)},
    "snr": lambda v, a: {"snr": snr_db(v, a)},
    "si_sdr": lambda v, a: {"si_sdr": si_sdr_db(v, a)},
    "gain": _gain,
    "mcd": lambda v, a: {"mcd": mcd(v, a)},
    "lsd": _lsd,
    "blind_snr": lambda v, a: {"blind_snr": blind_snr_delta_db(v, a)},
    "artifacts": _artifacts,
}
_MANY: Mapping[str, Callable[[Sequence[Pair], Limits], list[Found]]] = {
    "pesq": lambda pairs, limits: _column("pesq", pesq_wb(pairs, limits)),
    "stoi": lambda pairs, limits: _column("stoi", stoi(pairs, limits)),
    "estoi": lambda pairs, limits: _column("estoi", stoi(pairs, limits, extended=True)),
    "prosody": _prosody,
}
