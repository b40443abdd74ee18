"""Scores of the audio that was timed: `python -m experiments.scoring.score DIR [--quality NAME]`.

Runs in a process of its own after the measurement, reads the WAV and mel files back, and rewrites result.json. The
reference (float32, 32 euler steps) says how good the audio is; the oracle (float32 on the same grid) says how exactly
the engine computes. Neither torch nor an engine is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.common.cli import EXIT_OK, report_command, run_verb
from experiments.common.plain import QualitySettings, as_config
from experiments.measuring.job import MEASURED, RESULT
from experiments.scoring.audio import RANDOM_WEIGHTS, Audio, read_all, validity_scores
from experiments.scoring.ingredients import floors_beside, ingredients, keep_ingredients
from experiments.scoring.models import intelligibility, model_recipes, predicted_mos, second_opinion, speaker
from experiments.scoring.scores import Other, _absent, limits_of, lone_scores, paired_scores
from experiments.scoring.sides import runs_in, sides_of, widened
from experiments.settings.reference import is_reference
from metrics.fidelity.catalog import by_name
from metrics.model_identity import reference_model_of
from metrics.record import (
    RecordError,
    ReferenceModel,
    RunRecord,
    Score,
    load_record,
    save_record,
)
from reports.commands import VerbParser

DESCRIPTION = """Score the audio of a finished run, of a cell of a sweep or of all its cells, and rewrite result.json.

examples:
  python -m experiments.scoring.score outputs/DIR
  python -m experiments.scoring.score outputs/DIR/cells/bf16-euler_7 --quality full
  python -m experiments.scoring.score outputs/SWEEP --quality full    # its table then has words and predicted MOS

exit codes: 0 done, 2 usage or no such run, 130 interrupted
"""


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
        wider = widened(as_config(record.config)["quality"], quality_set)
        record = replace(record, config={**record.config, "quality": wider})
        save_record(record, folder / RESULT)  # first: what the scores are made of is read from there
    floors = floors_beside(record, reference)
    used = ingredients(folder, reference, oracle, floors)
    quality = as_config(record.config)["quality"]
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
    scored = replace(
        record, scores=tuple(scores), recipes=_recipes(scores, quality), floors=floors if refusal is None else (),
        reference=_compared_with(record, reference) if refusal is None else None,
    )  # fmt: skip
    save_record(scored, folder / RESULT)
    keep_ingredients(folder, used)
    return scored


def _compared_with(record: RunRecord, reference: Path | None) -> ReferenceModel | None:
    """Which model stands behind the scores against the reference; None where there are none."""
    against = load_record(reference / RESULT) if reference is not None else record
    if against.status != "ok" or (reference is None and not is_reference(as_config(record.config))):
        return None
    return reference_model_of(record, against)


def _refusal(record: RunRecord, quality: QualitySettings) -> str | None:
    """Why no quality score is given at all."""
    if record.facts and record.facts.get("random_weights"):
        return RANDOM_WEIGHTS
    return None if quality["enabled"] else "quality.enabled=false"


def _recipes(scores: Sequence[Score], quality: QualitySettings) -> dict[str, str]:
    known, models = by_name(), model_recipes(quality)
    names = [name for name in sorted({score.metric for score in scores}) if name in known]
    extra = {name: models.get(known[name].family) for name in names}
    return {name: known[name].full_recipe + (f"; {extra[name]}" if extra[name] else "") for name in names}


def _model_scores(record: RunRecord, heard: Mapping[str, Audio], reference: Path | None) -> list[Score]:
    """Scores by models, each family only where it was asked for."""
    quality = as_config(record.config)["quality"]
    families, limits = quality["metrics"], limits_of(quality)
    scores: list[Score] = []
    if "wer" in families:
        scores += intelligibility(record, heard, limits)
    if "wer_closed" in families:
        scores += second_opinion(record, heard, limits)
    if "speaker" in families:
        scores += speaker(record, heard, reference, limits)
    if "predicted_mos" in families:
        scores += predicted_mos(record, heard, limits)
    return scores


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.scoring.score", description=DESCRIPTION)
    parser.add_argument("folder", type=Path, help="of a run (result.json, audio/, mel/), or of a sweep (cells/)")
    parser.add_argument("--quality", metavar="NAME", help="add the scores of another choice of `quality`, as full")
    parser.add_argument("--reference", type=Path, help="folder of the quality reference; default: the run's own")
    parser.add_argument("--oracle", type=Path, help="folder of the float32 run on the same grid; default: of the sweep")
    options = parser.parse_args(argv)
    runs = runs_in(options.folder)
    for run in runs:
        found = sides_of(run, options.quality)
        reference, oracle = options.reference or found[0], options.oracle or found[1]
        reference, oracle = (None if side and side.resolve() == run.resolve() else side for side in (reference, oracle))
        record = score_run(run, reference, oracle, options.quality)
        num_ok = sum(score.status == "ok" for score in record.scores)
        print(f"{record.label}: {num_ok} of {len(record.scores)} scores have a number", flush=True)
    if runs != [options.folder]:
        print(f"report   {report_command(options.folder)}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
