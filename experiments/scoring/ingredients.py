"""What a run's scores were made of, so that a sweep that goes on scores only where something of it has changed.

scored.json beside result.json holds a hash of each part: the measured run with its audio, the reference and the oracle
likewise, the floors, what scores (code, packages, models, texts), and the scores that came of it. All by content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

from experiments.common.plain import as_config
from experiments.common.sources import scoring_hash
from experiments.measuring.job import MEASURED, RESULT
from experiments.scoring.models import model_recipes
from experiments.scoring.reference import kept_floors
from experiments.workload.requests import select_lines
from metrics.fidelity.catalog import by_name
from metrics.record import Floor, RecordError, RunRecord, load_record, to_json, write_atomically

SCORED = "scored.json"


Ingredients = Mapping[str, str | None]


def ingredients(folder: Path, reference: Path | None, oracle: Path | None, floors: Sequence[Floor]) -> Ingredients:
    """Part -> its hash, as everything is now. floors: of `floors_beside`.

    Raises RecordError for a folder without a readable record.
    """
    record = load_record(folder / RESULT)
    return {
        "run": _run_hash(folder),
        "reference": _run_hash(reference, is_side=True) if reference is not None else None,
        "oracle": _run_hash(oracle, is_side=True) if oracle is not None else None,
        "floors": _hash([to_json([asdict(floor) for floor in floors])]),
        "means": _hash([scoring_hash(), *_recipes(to_json(as_config(record.config)["quality"])), *_texts(record)]),
    }


def floors_beside(record: RunRecord, reference: Path | None) -> tuple[Floor, ...]:
    """What scores against a reference are read on; finding them hashes all code that speaks."""
    return kept_floors(as_config(record.config)) if reference is not None else ()


def keep_ingredients(folder: Path, used: Ingredients) -> None:
    """Last of all: beside scores that are on the disk. used: of the moment before they were made."""
    content = {**used, "scores": _scores_hash(load_record(folder / RESULT))}
    write_atomically(folder / SCORED, to_json(content) + "\n")


def is_scored(folder: Path, reference: Path | None, oracle: Path | None) -> bool:
    """Whether the scores of a run are there, and what they were made of is what they would be made of now."""
    try:
        kept = json.loads((folder / SCORED).read_text(encoding="utf-8"))
        record = load_record(folder / RESULT)
        now = ingredients(folder, reference, oracle, floors_beside(record, reference))
        return bool(kept == {**now, "scores": _scores_hash(record)})
    except (FileNotFoundError, ValueError):  # never scored, or one of the files is damaged
        return False


def _run_hash(folder: Path, is_side: bool = False) -> str:
    """Of what was measured, not of its scores: the record and the bytes of the audio and mel files that it names.

    is_side: a run that another is compared with, whatever itself is scored for.
    """
    try:
        record = load_record(folder / RESULT)
    except RecordError as error:
        return _hash([f"no record: {error}"])
    measured = tuple(score for score in record.scores if score.metric in MEASURED)
    config = {key: value for key, value in record.config.items() if not (is_side and key == "quality")}
    bare = replace(record, config=config, scores=measured, recipes={}, floors=(), reference=None)
    files = [folder / path for one in record.utterances for path in (one.audio_path, one.mel_path)]
    contents = (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing" for path in files)
    return _hash([to_json(asdict(bare)), *contents])


def _scores_hash(record: RunRecord) -> str:
    return _hash([to_json([asdict(score) for score in record.scores])])


@lru_cache(maxsize=8)
def _recipes(quality: str) -> tuple[str, ...]:
    """Of every score, with the versions of the packages and the hashes of the model files. quality: as JSON."""
    models = model_recipes(json.loads(quality))
    return (*(metric.full_recipe for metric in by_name().values()), to_json(models))


def _texts(record: RunRecord) -> list[str]:
    """Of the whole text list, which is what the recogniser may hear."""
    config = as_config(record.config)
    if not {"wer", "wer_closed"} & set(config["quality"]["metrics"]):
        return []
    return [line.text for line in select_lines({"texts": config["workload"]["texts"], "select": None, "limit": None})]


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]
