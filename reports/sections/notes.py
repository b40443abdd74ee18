"""The sentences around the table: headline, determinism, what is missing and why."""

from __future__ import annotations

from dataclasses import dataclass

from metrics.model_identity import spelt
from metrics.record import RunRecord
from reports.data.context import Context
from reports.data.quality import LOG_MEL, PESQ, RANDOM_WEIGHTS, gaps_of
from reports.data.table import Row, Table, is_void
from reports.sections.scores import METRIC_NAMES, quality_text
from reports.sections.verdict import verdict_of
from reports.words import listed, plural, significant

STATUS_WORDS = {
    "invalid": "audio invalid",
    "unsteady": "not steady",
    "unchecked": "audio not checked",
    "skipped": "skipped",
    "failed": "failed",
    "pending": "pending",
    "running": "running",
}

NOTHING = "Nothing was measured yet."
MACHINE_WORD = "machine not in order"


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingScore:
    """Scores that are not in the table, for one reason, over all rows."""

    metric: str
    status: str
    reason: str
    where: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """text: all of it, the verdict in front; named: the row that the verdict names first, None for none."""

    verdict: str
    named: str | None
    text: str


def note_of(row: Row) -> str:
    """What the last column says: nothing for a row that stands on valid, trained audio."""
    if row.validity == "random":
        return RANDOM_WEIGHTS
    if row.status == "ok":
        other = other_model_of(row)
        said = [MACHINE_WORD] if is_void(row) else []
        said += [f"another model than the reference's: compared with {other}"] if other else []
        return "; ".join(said)
    remedy = f"; {row.remedy}" if row.remedy and row.status != "invalid" else ""
    return f"{STATUS_WORDS[row.status]}: {row.reason}{remedy}"


def other_model_of(row: Row) -> str | None:
    """The reference's model where the row speaks with another one."""
    reference = row.cell.record.reference if row.cell.record else None
    return None if reference is None or reference.is_own else spelt(reference)


def headline_of(table: Table, context: Context | None) -> str:
    """The verdict, what the variant that it names costs and scores, and what became of the rest."""
    return headline_parts(table, context).text


def headline_parts(table: Table, context: Context | None) -> Headline:
    """The same in parts. Raises RecordError for a damaged verdict of the quality gate."""
    if context is None:
        return Headline(verdict=NOTHING, named=None, text=NOTHING)
    verdict = verdict_of(table)
    if verdict.row is None:
        return Headline(verdict=verdict.text, named=None, text=f"{verdict.text} {_capital(_tally(table))}.")
    detail = f"{_speed_sentence(verdict.row, context)} {_quality_sentence(verdict.row)}"
    text = f"{verdict.text} {detail} {_capital(_tally(table))}."
    return Headline(verdict=verdict.text, named=verdict.row.label, text=text)


def _speed_sentence(row: Row, context: Context) -> str:
    assert row.timing is not None
    return f"{row.label} speaks at RTF {significant(row.timing.rtf)} ({context.seconds})."


def _quality_sentence(row: Row) -> str:
    if row.validity == "random":
        return "Its weights are random: a speed workload, no quality."
    if row.is_reference:
        return "It is the reference that quality is compared with."
    have = [metric for metric in (LOG_MEL, PESQ) if metric in row.quality and row.quality[metric].mean is not None]
    if not have:
        return "Its audio is valid; no score against the reference could be computed."
    units = {LOG_MEL: " nats"}
    figures = " and ".join(
        f"{METRIC_NAMES[metric]} {quality_text(row, metric)}{units.get(metric, '')}" for metric in have
    )
    other = other_model_of(row)
    return f"Against the float32 reference{f' of another model, {other},' if other else ''} it has {figures}."


def _tally(table: Table) -> str:
    counts = {
        "measured": len(table.timed_rows),
        **{word: sum(row.status == status for row in table.rows) for status, word in STATUS_WORDS.items()},
    }
    parts = [f"{number} {word}" for word, number in counts.items() if number or word == "measured"]
    return f"{', '.join(parts)} of {plural(len(table.rows), 'variant')}"


def left_out(table: Table) -> tuple[Row, ...]:
    """Rows without a speed."""
    return tuple(row for row in table.rows if row.timing is None)


def missing_scores(table: Table) -> tuple[MissingScore, ...]:
    """Every score of a printed row that is not a number, grouped by its reason."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for row in table.timed_rows:
        if row.cell.record is None or row.is_reference:
            continue
        for gap in gaps_of(row.cell.record):
            where = f"{row.label} ({listed(gap.utterance_ids)})"
            grouped.setdefault((gap.metric, gap.status, gap.reason), []).append(where)
    return tuple(
        MissingScore(metric=metric, status=status, reason=reason, where=tuple(where))
        for (metric, status, reason), where in grouped.items()
    )


def determinism_of(table: Table) -> tuple[str, ...]:
    """Whether all rows began from the same noise, and which rows made the same audio to the bit."""
    records = {row.label: row.cell.record for row in table.timed_rows if row.cell.record and row.cell.record.utterances}
    if not records:
        return ()
    return (_noise_sentence(records), _twins_sentence(records))


def window_notes(table: Table) -> tuple[str, ...]:
    """Which sentences were spoken in chunks longer than the model was ever shown."""
    records = [row.cell.record for row in table.rows if row.cell.record is not None]
    found = {name: max(s) for r in records for name, s in (r.workload.get("chunks_beyond_window_s") or {}).items()}
    if not found:
        return ()
    longest = f"the longest chunk {max(found.values()):.1f} s beside its reference"
    return (
        f"Beyond the model's window of 22 s, where it skips and mumbles: {listed(sorted(found))} ({longest}); "
        "text.max_chunk_s=10 cuts them.",
    )


def _noise_sentence(records: dict[str, RunRecord]) -> str:
    hashes: dict[str, set[str]] = {}
    silent = []
    for label, record in records.items():
        known = {u.utterance_id: u.noise_sha256 for u in record.utterances if u.noise_sha256}
        if not known:
            silent.append(label)
        for utterance_id, digest in known.items():
            hashes.setdefault(utterance_id, set()).add(digest)
    unknown = f" Noise not known: {listed(silent)}." if silent else ""
    different = sorted(utterance_id for utterance_id, digests in hashes.items() if len(digests) > 1)
    if different:
        return (
            f"Initial noise differs between rows for {listed(different)}: their scores compare unlike things.{unknown}"
        )
    return (
        f"The initial noise is keyed by sentence, seed and length; its hash is the same in every row that knows it "
        f"({plural(len(hashes), 'sentence')}).{unknown}"
    )


def _twins_sentence(records: dict[str, RunRecord]) -> str:
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for label, record in records.items():
        audio = tuple(sorted((u.utterance_id, u.audio_sha256) for u in record.utterances))
        groups.setdefault(audio, []).append(label)
    twins = [f"{labels[0]} = {' = '.join(labels[1:])}" for labels in groups.values() if len(labels) > 1]
    if twins:
        return f"Bit-identical audio in every sentence: {'; '.join(twins)}."
    return "No two rows made the same audio to the bit."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
