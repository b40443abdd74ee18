"""Scores of a finished run's audio, beside another run's and alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.common.environment import CORES_OF_A_SCORER, usable_cores
from experiments.common.plain import QualitySettings, as_config
from experiments.measuring.job import RESULT
from experiments.scoring.audio import Audio, heard_of, read_all, unchanged
from experiments.scoring.reference import model_names
from experiments.settings.reference import is_reference
from metrics.fidelity.alone import score_alone
from metrics.fidelity.catalog import PAIR_FAMILIES, PAIRED, wanted
from metrics.fidelity.pairing import AgainstName, Kind
from metrics.fidelity.scores import score_of, score_pairs
from metrics.isolation import Limits
from metrics.outcome import Outcome
from metrics.record import RunRecord, Score, ScoreStatus, Utterance, load_record
from metrics.reference import is_the


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Other:
    """The run that another is compared with."""

    name: AgainstName
    folder: Path | None
    kind: Kind = "paired"


def limits_of(quality: QualitySettings) -> Limits:
    """Nothing is timed while scores are made, so a second core is used where there is one."""
    return Limits(
        timeout_s=float(quality["timeout_s"]),
        memory_bytes=int(quality["child_memory_bytes"]),
        at_once=min(CORES_OF_A_SCORER, usable_cores()),
    )


def families_of(record: RunRecord, among: Sequence[str]) -> list[str]:
    return [family for family in as_config(record.config)["quality"]["metrics"] if family in among]


def paired_scores(record: RunRecord, heard: Mapping[str, Audio], other: Other) -> list[Score]:
    """Scores against another run, sentence by sentence; a sentence it lacks has a status instead."""
    name, everything = other.name, record.utterances
    if other.folder is None:
        if is_reference(as_config(record.config)):
            return _absent(record, everything, name, "not_applicable", is_the(name))
        return _absent(record, everything, name, "unavailable", f"no {name} was given")
    against = load_record(other.folder / RESULT)
    if against.status != "ok":
        return _absent(record, everything, name, "unavailable", f"the {name} is {against.status}: {against.reason}")
    if name == "reference" and (against.facts or {}).get("enhance"):
        reason = f"the reference's sound was changed ({against.label}): give one made with enhance=none"
        return _absent(record, everything, name, "not_comparable", reason)
    theirs, broken = unchanged(against, *read_all(other.folder, against))
    utterances = {utterance.utterance_id: utterance for utterance in against.utterances}
    ours_is, theirs_is = model_names(record, against) if name == "reference" else (None, None)
    pairs, scores = [], []
    for utterance in everything:
        key = utterance.utterance_id
        if key in heard and key in theirs:
            ours = heard_of(record, utterance, heard[key], name, ours_is)
            pairs.append((ours, heard_of(against, utterances[key], theirs[key], name, theirs_is)))
        else:
            where = f"in the {name}" if key in heard else "of this run"
            why = f": {broken[key]}" if key in heard and key in broken else ""
            reason = f"no audio of {key} {where}{why}"
            scores += _absent(record, (utterance,), name, "unavailable", reason)
    families = families_of(record, PAIR_FAMILIES)
    return scores + score_pairs(pairs, name, families, limits_of(as_config(record.config)["quality"]), other.kind)


def lone_scores(record: RunRecord, heard: Mapping[str, Audio]) -> list[Score]:
    """Scores of each utterance by itself."""
    ours = [
        heard_of(record, u, heard[u.utterance_id], "reference") for u in record.utterances if u.utterance_id in heard
    ]
    quality = as_config(record.config)["quality"]
    return score_alone(ours, quality["metrics"], limits_of(quality))


def _absent(
    record: RunRecord, utterances: Sequence[Utterance], against: AgainstName, status: ScoreStatus, reason: str
) -> list[Score]:
    metrics = wanted(PAIRED, families_of(record, PAIR_FAMILIES), against)
    outcome = Outcome.none(status, reason)
    return [score_of(metric, against, u.utterance_id, outcome) for u in utterances for metric in metrics]
