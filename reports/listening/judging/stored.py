"""What collect leaves for machines: verdict.json of a set, and listening.json beside each run that was heard in it."""

from __future__ import annotations

from typing import Any, TypedDict


class ComparisonEntry(TypedDict, total=False):
    """Two systems by one measure; winner, sentence: what follows from its interval."""

    baseline: str
    candidate: str
    measure: str
    winner: str | None
    sentence: str


class OpinionEntry(TypedDict, total=False):
    """How one system was rated."""

    system: str


class AnalysisEntry(TypedDict):
    """Of the listeners who count, or of everybody. bradley_terry_reason: why there are no strengths."""

    comparisons: list[ComparisonEntry]
    opinions: list[OpinionEntry]
    bradley_terry: list[dict[str, Any]] | None
    bradley_terry_reason: str | None
    side_bias: dict[str, Any] | None
    votes_needed_60: int


class ListenerEntry(TypedDict):
    """One result. reasons: why it does not count, from checks."""

    listener: str
    result_id: str
    num_answers: int
    num_turns: int
    device: str
    hearing: str
    comment: str
    is_counted: bool
    reasons: list[str]
    checks: list[dict[str, Any]]


class ListeningVerdict(TypedDict):
    """verdict.json. level: mean gain in dB that made each system equally loud."""

    schema_version: int
    kind: str
    method: str
    set_sha256: str
    key_sha256: str
    systems: list[dict[str, Any]]
    reference: str | None
    rules: dict[str, Any]
    level: dict[str, float]
    listeners: list[ListenerEntry]
    notes: list[str]
    status: str
    reason: str | None
    counted: AnalysisEntry | None
    everybody: AnalysisEntry | None


class RunPart(TypedDict):
    """What one set found about one run, in its listening.json."""

    name: str
    method: str
    key_sha256: str
    status: str
    num_listeners: int
    comparisons: list[ComparisonEntry]
    opinions: list[OpinionEntry]
