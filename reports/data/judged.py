"""What a row lost against the base: by the quality gate's own verdict beside it, or by the same rules applied here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import yaml

from metrics.fidelity.catalog import by_name
from metrics.record import RecordError, RunRecord
from metrics.typed import load_json
from reports.commands import ROOT
from reports.data.quality import VALID, WER
from reports.data.table import Row, Table
from reports.words import listed

Kind = Literal["base", "reference", "kept", "unheard", "lost", "undecided", "unjudged"]
GATE = Path("quality_gate") / "verdict.json"  # where experiments.quality_gate leaves it in the candidate's folder
RULES = ROOT / "conf" / "gate" / "quality" / "standard.yaml"
# What is lost where a score of the family is worse beyond its margin
LOSSES: Mapping[str, str] = {
    "wer": "loses words",
    "speaker": "loses the voice",
    "blind_snr": "adds noise",
    "artifacts": "adds clicks, dropouts or cuts",
    "predicted_mos": "sounds worse to a listening model",
}
FAILED = "fails sentences"


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One row against the base.

    kind: kept: not worse by every rule that was judged, words among them; unheard: the same, but no word was counted;
    lost: worse by a rule; undecided: too few sentences to say; unjudged: nothing could be asked, `why` says why.
    losses: of kind lost, as verbs. left_out: scores whose rules nobody could judge. by: whose rules.
    """

    kind: Kind
    losses: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    why: str = ""
    by: str = ""


@lru_cache(maxsize=1)  # the headline, the table and the chart of one report ask for the same
def judged_rows(table: Table) -> Mapping[str, Judged]:
    """Row label -> what it lost. Raises RecordError for a damaged verdict file of the quality gate."""
    base = next((row for row in table.rows if row.label == table.base_label), None)
    return MappingProxyType({row.label: _judged(row, base, table) for row in table.rows})


def _judged(row: Row, base: Row | None, table: Table) -> Judged:
    if row is base:
        return Judged(kind="base", why="what the others are compared with")
    if row.timing is None or row.cell.record is None:
        return Judged(kind="unjudged", why=row.reason or row.status)
    if row.validity == "random":
        return Judged(kind="unjudged", why="random weights speak noise")
    if base is None or base.cell.record is None:
        kind: Kind = "reference" if row.is_reference else "unjudged"
        return Judged(kind=kind, why="there is no upstream row to be compared with")
    stored = _stored(table.source.path_of(row.cell, str(GATE)), base.cell.record, row.cell.record)
    found = stored or _asked_here(base.cell.record, row.cell.record)
    if row.is_reference and found.kind != "lost":
        return Judged(kind="reference", why="what the scores are measured against")
    return found


def _stored(path: Path, base: RunRecord, own: RunRecord) -> Judged | None:
    """The verdict of `experiments.quality_gate BASE ROW`; None where there is none, or it judged other runs."""
    if not path.is_file():
        return None
    try:
        content = load_json(path)
        runs = [content[side]["run_id"] for side in ("baseline", "candidate")]
        if content["kind"] != "quality" or runs != [base.run_id, own.run_id]:
            return None
        by = f"quality gate, rules {content['limits']['name']}"
        return _of(str(content["outcome"]), list(content["findings"]), content["reason"], by)
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: damaged verdict ({error}); run experiments.quality_gate again") from error


def _asked_here(base: RunRecord, own: RunRecord) -> Judged:
    """The quality gate's rules on the scores of the report itself."""
    # scipy.stats takes a second to import, and a verb that refuses its first word must not wait for it
    from baselines.quality.gate import judge_quality
    from baselines.quality.rules import QualityLimits

    limits = QualityLimits.from_mapping(yaml.safe_load(RULES.read_text(encoding="utf-8")))
    verdict = judge_quality(base, own, limits)
    findings = [
        {"metric": finding.metric, "outcome": finding.outcome, "explanation": finding.explanation}
        for finding in verdict.findings
    ]
    return _of(verdict.outcome, findings, verdict.reason, f"rules {limits.name}")


def _of(outcome: str, findings: Sequence[Mapping[str, object]], reason: str | None, by: str) -> Judged:
    left_out = tuple(dict.fromkeys(str(f["metric"]) for f in findings if f["outcome"] == "not judged"))
    heard = [f for f in findings if f["outcome"] != "not judged"]
    if outcome == "FAIL":
        worse = [f for f in heard if f["outcome"] == "worse"]
        losses = tuple(dict.fromkeys(_loss(str(f["metric"])) for f in worse))
        why = "; ".join(f"{f['metric']}: {f['explanation']}" for f in worse)
        return Judged(kind="lost", losses=losses, left_out=left_out, why=why, by=by)
    if reason is not None or all(f["metric"] == VALID for f in heard):
        why = reason or f"no score that a rule asks for was made ({listed(left_out)})"
        return Judged(kind="unjudged", left_out=left_out, why=why, by=by)
    if outcome != "PASS":
        open_ = [f for f in heard if f["outcome"] == "inconclusive"]
        why = "; ".join(f"{f['metric']}: {f['explanation']}" for f in open_)
        return Judged(kind="undecided", left_out=left_out, why=why, by=by)
    if WER not in {f["metric"] for f in heard}:
        return Judged(kind="unheard", left_out=left_out, why="words were not counted", by=by)
    return Judged(kind="kept", left_out=left_out, why="not worse by every rule that was judged", by=by)


def _loss(metric: str) -> str:
    if metric == VALID:
        return FAILED
    known = by_name().get(metric)
    return LOSSES.get(known.family if known else "", f"is worse in {metric}")
