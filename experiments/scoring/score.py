"""Scores of the audio that was timed: `python -m experiments.scoring.score RUN_DIR [--quality NAME]`.

Runs in a process of its own after the measurement, reads the WAV and mel files back, and rewrites result.json. The
reference (float32, 32 euler steps) says how good the audio is; the oracle (float32 on the same grid) says how exactly
the engine computes. Neither torch nor an engine is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.common.cli import EXIT_OK, run_verb
from experiments.measuring.job import MEASURED, RESULT
from experiments.scoring.audio import RANDOM_WEIGHTS, Audio, heard_of, read_all, unchanged, validity_scores
from experiments.scoring.ingredients import ingredients, keep_ingredients
from experiments.scoring.models import intelligibility, model_recipes, predicted_mos, speaker
from experiments.scoring.reference import is_reference, kept_floors, model_names
from experiments.scoring.sides import sides_of, widened
from metrics.fidelity.alone import score_alone
from metrics.fidelity.catalog import PAIR_FAMILIES, PAIRED, by_name, wanted
from metrics.fidelity.pairing import AgainstName, Kind
from metrics.fidelity.scores import score_of, score_pairs
from metrics.isolation import Limits
from metrics.model_identity import reference_model_of
from metrics.outcome import Outcome
from metrics.record import (
    RecordError,
    ReferenceModel,
    RunRecord,
    Score,
    ScoreStatus,
    Utterance,
    load_record,
    save_record,
)
from metrics.reference import is_the
from reports.commands import VerbParser

DESCRIPTION = """Score the audio of a finished run, or of a cell of a sweep, and rewrite its result.json.

examples:
  python -m experiments.scoring.score outputs/DIR
  python -m experiments.scoring.score outputs/DIR/cells/bf16-euler_7 --quality full

exit codes: 0 done, 2 usage or no such run, 130 interrupted
"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Other:
    """The run that another is compared with."""

    name: AgainstName
    folder: Path | None
    kind: Kind = "paired"


def score_run(folder: Path, reference: Path | None, oracle: Path | None, quality_set: str | None = None) -> RunRecord:
    """Score a finished run and rewrite its result.json; a run that is not ok is left as it is.

    quality_set: the name of a choice of `quality` whose scores are added to those that the run asked for.

    reference None: the run is the reference itself, or its scores say that none was given. Raises RecordError for a
    folder without a readable record.
    """
    record = load_record(folder / RESULT)
    if record.status != "ok":
        return record
    if "quality" not in record.config:
        raise RecordError(f"{folder / RESULT}: config.quality is missing; run again")
    if quality_set is not None:
        record = replace(record, config={**record.config, "quality": widened(record.config["quality"], quality_set)})
        save_record(record, folder / RESULT)  # first: what the scores are made of is read from there
    used = ingredients(folder, reference, oracle)
    quality = record.config["quality"]
    heard, unreadable = read_all(folder, record)
    scores = [score for score in record.scores if score.metric in MEASURED]
    scores += validity_scores(record, heard, unreadable)
    refusal = _refusal(record, quality)
    if refusal is not None:
        scores += _absent(record, record.utterances, "reference", "not_applicable", refusal)
    else:
        scores += paired_scores(record, heard, Other(name="reference", folder=reference))
        if oracle is not None:
            scores += paired_scores(record, heard, Other(name="oracle", folder=oracle))
        scores += lone_scores(record, heard)
        scores += _model_scores(record, heard, reference)
    kept = kept_floors(record.config) if refusal is None and reference is not None else ()
    scored = replace(
        record, scores=tuple(scores), recipes=_recipes(scores, quality), floors=kept,
        reference=_compared_with(record, reference) if refusal is None else None,
    )  # fmt: skip
    save_record(scored, folder / RESULT)
    keep_ingredients(folder, used)
    return scored


def _compared_with(record: RunRecord, reference: Path | None) -> ReferenceModel | None:
    """Which model stands behind the scores against the reference; None where there are none."""
    against = load_record(reference / RESULT) if reference is not None else record
    if against.status != "ok" or (reference is None and not is_reference(record.config)):
        return None
    return reference_model_of(record, against)


def _refusal(record: RunRecord, quality: Mapping[str, Any]) -> str | None:
    """Why no quality score is given at all."""
    if record.facts and record.facts.get("random_weights"):
        return RANDOM_WEIGHTS
    return None if quality["enabled"] else "quality.enabled=false"


def limits_of(quality: Mapping[str, Any]) -> Limits:
    return Limits(timeout_s=float(quality["timeout_s"]), memory_bytes=int(quality["child_memory_bytes"]))


def families_of(record: RunRecord, among: Sequence[str]) -> list[str]:
    return [family for family in record.config["quality"]["metrics"] if family in among]


def _recipes(scores: Sequence[Score], quality: Mapping[str, Any]) -> dict[str, str]:
    known, models = by_name(), model_recipes(quality)
    names = [name for name in sorted({score.metric for score in scores}) if name in known]
    extra = {name: models.get(known[name].family) for name in names}
    return {name: known[name].full_recipe + (f"; {extra[name]}" if extra[name] else "") for name in names}


def paired_scores(record: RunRecord, heard: Mapping[str, Audio], other: Other) -> list[Score]:
    """Scores against another run, sentence by sentence; a sentence it lacks has a status instead."""
    name, everything = other.name, record.utterances
    if other.folder is None:
        if is_reference(record.config):
            return _absent(record, everything, name, "not_applicable", is_the(name))
        return _absent(record, everything, name, "unavailable", f"no {name} was given")
    against = load_record(other.folder / RESULT)
    if against.status != "ok":
        return _absent(record, everything, name, "unavailable", f"the {name} is {against.status}: {against.reason}")
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
    return scores + score_pairs(pairs, name, families, limits_of(record.config["quality"]), other.kind)


def lone_scores(record: RunRecord, heard: Mapping[str, Audio]) -> list[Score]:
    """Scores of each utterance by itself."""
    ours = [
        heard_of(record, u, heard[u.utterance_id], "reference") for u in record.utterances if u.utterance_id in heard
    ]
    return score_alone(ours, record.config["quality"]["metrics"], limits_of(record.config["quality"]))


def _model_scores(record: RunRecord, heard: Mapping[str, Audio], reference: Path | None) -> list[Score]:
    """Scores by models, each family only where it was asked for."""
    families, limits = record.config["quality"]["metrics"], limits_of(record.config["quality"])
    scores: list[Score] = []
    if "wer" in families:
        scores += intelligibility(record, heard, limits)
    if "speaker" in families:
        scores += speaker(record, heard, reference, limits)
    if "predicted_mos" in families:
        scores += predicted_mos(record, heard, limits)
    return scores


def _absent(
    record: RunRecord, utterances: Sequence[Utterance], against: AgainstName, status: ScoreStatus, reason: str
) -> list[Score]:
    metrics = wanted(PAIRED, families_of(record, PAIR_FAMILIES), against)
    outcome = Outcome.none(status, reason)
    return [score_of(metric, against, u.utterance_id, outcome) for u in utterances for metric in metrics]


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.scoring.score", description=DESCRIPTION)
    parser.add_argument("folder", type=Path, help="the folder of the run (result.json, audio/, mel/)")
    parser.add_argument("--quality", metavar="NAME", help="add the scores of another choice of `quality`, as full")
    parser.add_argument("--reference", type=Path, help="folder of the quality reference; default: the run's own")
    parser.add_argument("--oracle", type=Path, help="folder of the float32 run on the same grid; default: of the sweep")
    options = parser.parse_args(argv)
    reference, oracle = options.reference, options.oracle
    if reference is None and oracle is None:
        reference, oracle = sides_of(options.folder, options.quality)
    if reference is not None and reference.resolve() == options.folder.resolve():
        reference = None
    record = score_run(options.folder, reference, oracle, options.quality)
    num_ok = sum(score.status == "ok" for score in record.scores)
    print(f"{record.label}: {num_ok} of {len(record.scores)} scores have a number")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
