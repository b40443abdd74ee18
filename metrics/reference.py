"""Whether a run is the reference that quality is compared with: by what its own record says, never by its names.

`quality.reference_dir`, or a reference given when it was scored, makes another run the reference of one that has the
reference's settings.
"""

from __future__ import annotations

from collections.abc import Sequence

from metrics.fidelity.pairing import AgainstName
from metrics.record import RunRecord, Score

AGAINST = "_vs_reference"


def is_the(name: AgainstName) -> str:
    """The reason of a score against a run that is the scored run itself."""
    return f"is the {name}"


def says_it_is_the_reference(record: RunRecord) -> bool:
    """It was scored, and found to have no other run to be compared with."""
    return any(score.reason == is_the("reference") for score in _scores(record)) and not is_compared(record)


def is_compared(record: RunRecord) -> bool:
    """A figure of its distance to another run stands in it: that is never hidden."""
    return any(score.value is not None for score in _scores(record))


def _scores(record: RunRecord) -> Sequence[Score]:
    return [score for score in record.scores if AGAINST in score.metric]
