"""Words of a text, and how those that were heard differ from those that were asked for.

Edits are jiwer's alignment. Two counts are of our own, because flow matching without an alignment fails in these two
ways: words said again right after themselves, and words of the ending that were never said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

import jiwer

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class WordErrors:
    """Edit counts over words or characters; the sum of several is the corpus.

    repeated: words said again right after themselves, beyond what the text repeats; among the insertions or not.
    lost_ending: words of the text after the last one that was heard as anything; among the deletions.
    """

    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    repeated: int = 0
    lost_ending: int = 0

    @property
    def wer_frac(self) -> float:
        """Errors per reference word; above 1 where many words were inserted."""
        return (self.substitutions + self.deletions + self.insertions) / self.reference_words


def words_of(text: str) -> list[str]:
    """Lower-case words: letters and inner apostrophes only."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def word_error(reference: str, hypothesis: str) -> WordErrors:
    """Edit counts between texts as people write them. Raises ValueError where the reference has no word."""
    wanted, got = words_of(reference), words_of(hypothesis)
    if not wanted:
        raise ValueError(f"no words in the reference {reference!r}")
    return word_edits(wanted, got)


def word_edits(wanted: Sequence[str], got: Sequence[str]) -> WordErrors:
    """Edit counts between normalised words, with what was repeated and what was lost at the end."""
    return _edits(list(wanted), list(got), " ", max(0, num_repeated(got) - num_repeated(wanted)))


def character_edits(wanted: Sequence[str], got: Sequence[str]) -> WordErrors:
    """Edit counts between the characters of normalised words; nothing is counted as repeated or lost."""
    found = _edits(list(" ".join(wanted)), list(" ".join(got)), "", 0)
    return WordErrors(
        substitutions=found.substitutions, deletions=found.deletions, insertions=found.insertions,
        reference_words=found.reference_words,
    )  # fmt: skip


def _edits(wanted: list[str], got: list[str], glue: str, repeated: int) -> WordErrors:
    """glue: what stands between two units, by which jiwer aligns them: a blank between words, "" between letters."""
    if not got:
        num = len(wanted)
        return WordErrors(substitutions=0, deletions=num, insertions=0, reference_words=num, lost_ending=num)
    process = jiwer.process_words if glue else jiwer.process_characters
    found = process(glue.join(wanted), glue.join(got))
    last = found.alignments[0][-1]
    return WordErrors(
        substitutions=found.substitutions,
        deletions=found.deletions,
        insertions=found.insertions,
        reference_words=len(wanted),
        repeated=repeated,
        lost_ending=last.ref_end_idx - last.ref_start_idx if last.type == "delete" else 0,
    )


def num_repeated(words: Sequence[str]) -> int:
    """How many words belong to a span that stands right after its like: 3 in "at the bridge at the bridge"."""
    again: set[int] = set()
    for length in range(1, len(words) // 2 + 1):
        for start in range(len(words) - 2 * length + 1):
            middle = start + length
            if words[start:middle] == words[middle : middle + length]:
                again.update(range(middle, middle + length))
    return len(again)


def corpus_wer(errors: Sequence[WordErrors]) -> WordErrors:
    """All utterances as one text (micro average). Raises ValueError on none."""
    if not errors:
        raise ValueError("no utterances")
    return WordErrors(**{one.name: sum(getattr(error, one.name) for error in errors) for one in fields(WordErrors)})
