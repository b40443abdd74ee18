"""The rules by which answers count: part of the key, so they are fixed before anybody has listened.

Sources: ITU-T P.808 (traps and gold items), ITU-R BS.1534-3 section 4.1.2 (hidden reference).
"""

from __future__ import annotations

from typing import TypedDict


class Rules(TypedDict):
    """`rules` of a key."""

    min_heard_frac: float
    max_fast_frac: float
    max_catch_wrong_frac: float
    max_identical_frac: float
    max_repeat_contradicted_frac: float
    mushra_good: int
    max_mushra_frac: float
    confidence: float
    ties: str
    decision: str


RULES: Rules = {
    # The page lets a listener go on only after this share of every clip; a faster answer was not made on the page
    "min_heard_frac": 0.95,
    "max_fast_frac": 0.1,
    # More wrong catch trials than this: the listener is left out
    "max_catch_wrong_frac": 0.34,
    # Identical pairs answered as if different (AB: a preference; CCR: 2 points; DCR: under 4)
    "max_identical_frac": 0.67,
    # Repeats on the other side that contradict the first answer
    "max_repeat_contradicted_frac": 0.5,
    # MUSHRA: hidden reference under 90 on more than this share of screens, or the anchor at 90 or over
    "mushra_good": 90,
    "max_mushra_frac": 0.15,
    "confidence": 0.95,
    "ties": "half a vote each side in shares and intervals; left out of the exact tests",
    "decision": "preferred only where the exact test over sentences and the interval clustered by sentence and listener"
    " both say so, after Holm's correction over all comparisons",
}
