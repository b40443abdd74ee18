"""What a listening test found about a run, for MLflow: from the `listening.json` that `reports.listening collect` left.

Values are named by the other system and by the first letters of the set, so that a second test does not overwrite the
first. The file itself goes along as an artifact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from metrics.record import RecordError

LISTENING = "listening.json"
SET_CHARS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """tags: the verdicts in words. summary: means with their interval's ends, as candidate against baseline."""

    tags: Mapping[str, str]
    summary: Mapping[str, float]


def heard_of(folder: Path) -> Heard:
    """Empty where nobody listened. Raises RecordError for a file that collect did not write."""
    path = folder / LISTENING
    if not path.is_file():
        return Heard(tags={}, summary={})
    tags: dict[str, str] = {}
    summary: dict[str, float] = {}
    try:
        sets = json.loads(path.read_text(encoding="utf-8"))["sets"]
        for set_sha256, part in sorted(sets.items()):
            name = f"listening.{set_sha256[:SET_CHARS]}"
            tags[f"{name}.method"] = part["method"]
            tags[f"{name}.verdict"] = "; ".join(c["sentence"] for c in part["comparisons"]) or part["status"]
            summary[f"{name}.listeners"] = float(part["num_listeners"])
            for comparison in part["comparisons"]:
                summary.update(_ends(name, comparison))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path}: not what `reports.listening collect` leaves ({error}); collect again") from error
    return Heard(tags=tags, summary=summary)


class Estimate(TypedDict):
    mean: float | None
    low: float | None
    high: float | None


class ComparisonEntry(TypedDict):
    """One of `comparisons` that listeners made, of listening.json."""

    candidate: str
    baseline: str
    measure: str
    estimate: Estimate


def _ends(name: str, comparison: ComparisonEntry) -> dict[str, float]:
    estimate = comparison["estimate"]
    pair = f"{comparison['candidate']} over {comparison['baseline']}"
    key = re.sub(r"[^\w ./-]", "_", f"{name}.{comparison['measure']}.{pair}")
    ends = {key: estimate["mean"], f"{key}.low": estimate["low"], f"{key}.high": estimate["high"]}
    return {end: float(value) for end, value in ends.items() if value is not None}
