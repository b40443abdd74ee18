"""The energy of a pass as scores of a record: per second of generated speech, with where the watts came from."""

from __future__ import annotations

from typing import Final

from metrics.power.energy import Energy
from metrics.record import Better, Score, ScoreStatus

GROSS, NET, MEAN, IDLE = "energy_j_per_audio_s", "energy_net_j_per_audio_s", "power_mean_w", "power_idle_w"
# Of a record's environment: what the pass's telemetry says, its source and the rule of its total among it
ENVIRONMENT: Final = "energy"
BETTER: dict[str, Better] = {GROSS: "lower", NET: "lower", MEAN: "neither", IDLE: "neither"}


def energy_scores(energy: Energy, audio_s: float, source: str) -> tuple[Score, ...]:
    """gross J, J above idle, watts while busy and idle. The reason says how they were got. Raises ValueError for a pass
    that spoke nothing."""
    if audio_s <= 0:
        raise ValueError(f"audio_s={audio_s}: must be above 0")
    values = {
        GROSS: energy.gross_j / audio_s, NET: energy.net_j / audio_s, MEAN: energy.power_mean_w,
        IDLE: energy.power_idle_w,
    }  # fmt: skip
    how = (
        f"{source}; {energy.busy_s:.1f} s of work, {energy.num_samples} samples of which {energy.num_updates} say "
        f"something new, longest gap {energy.longest_gap_s:.2f} s, tail {energy.tail_s:.1f} s"
    )
    said = how if energy.drift is None else f"{how}; {energy.drift}"
    return tuple(_score(name, value, "ok", said) for name, value in values.items())


def no_energy(status: ScoreStatus, reason: str) -> tuple[Score, ...]:
    """Why there is none; for the first figure alone, which the others are made with."""
    return (_score(GROSS, None, status, reason),)


def _score(name: str, value: float | None, status: ScoreStatus, reason: str) -> Score:
    return Score(metric=name, utterance_id=None, value=value, status=status, reason=reason, better=BETTER[name])
