"""Strengths of several systems from pairwise preferences: Bradley and Terry (1952), with ties after Davidson (1970).

P(i over j) = p_i / (p_i + p_j + v sqrt(p_i p_j)), P(tie) = v sqrt(p_i p_j) / (the same); theta = log p, that of the
first system 0. Errors are clustered by sentence and listener (the sandwich), since votes are not independent.
Shape letters: N votes, K free parameters, C outcomes (i better, j better, tie).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from reports.listening.judging.inference import clustered_covariance

MAX_ROUNDS = 100
TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True, slots=True)
class Strength:
    """theta: log strength over the first system's. low, high: its interval; None where too few listened."""

    system: str
    theta: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Duel:
    """One vote. outcome: 0 the first is better, 1 the second is, 2 a tie."""

    first: str
    second: str
    outcome: int
    sentence: str
    listener: str


def fit(systems: Sequence[str], duels: Sequence[Duel], confidence: float = 0.95) -> tuple[Strength, ...] | str:
    """Strengths in the order of `systems`, or the reason why there is no largest likelihood."""
    if not _is_connected(systems, duels):
        return "some systems won or lost every comparison with the others, so their distance has no estimate"
    design_NCK, outcome_NC = _design(systems, duels)
    beta_K = _newton(design_NCK, outcome_NC)
    shares_NC = _shares(design_NCK, beta_K)
    scores_NK = np.einsum("nck,nc->nk", design_NCK, outcome_NC - shares_NC)
    bread_KK = np.linalg.inv(_information(design_NCK, shares_NC))
    meat_KK, freedom = clustered_covariance(
        scores_NK, [duel.sentence for duel in duels], [duel.listener for duel in duels]
    )
    errors_K = np.sqrt(np.diag(bread_KK @ meat_KK @ bread_KK))
    found = [Strength(system=systems[0], theta=0.0, low=0.0, high=0.0)]
    for k, system in enumerate(systems[1:]):
        theta = float(beta_K[k])
        reach = None if freedom is None else float(stats.t.ppf((1 + confidence) / 2, freedom) * errors_K[k])
        low, high = (None, None) if reach is None else (theta - reach, theta + reach)
        found.append(Strength(system=system, theta=theta, low=low, high=high))
    return tuple(found)


def _is_connected(systems: Sequence[str], duels: Sequence[Duel]) -> bool:
    """A finite maximum needs a way of wins (or ties) from every system to every other one."""
    index = {system: i for i, system in enumerate(systems)}
    beats = np.zeros((len(systems), len(systems)))
    for duel in duels:
        first, second = index[duel.first], index[duel.second]
        if duel.outcome in (0, 2):
            beats[first, second] = 1
        if duel.outcome in (1, 2):
            beats[second, first] = 1
    num, _ = sparse.csgraph.connected_components(sparse.csr_matrix(beats), directed=True, connection="strong")
    return num == 1 and len({duel.outcome for duel in duels} - {2}) > 0


def _design(systems: Sequence[str], duels: Sequence[Duel]) -> tuple[np.ndarray, np.ndarray]:
    """Logits are theta_i / 2 - theta_j / 2, its negative, and log v; the last only where there are ties."""
    index = {system: i - 1 for i, system in enumerate(systems)}
    has_ties = any(duel.outcome == 2 for duel in duels)
    num_outcomes = 3 if has_ties else 2
    design_NCK = np.zeros((len(duels), num_outcomes, len(systems) - 1 + has_ties))
    outcome_NC = np.zeros((len(duels), num_outcomes))
    for n, duel in enumerate(duels):
        for name, sign in ((duel.first, 0.5), (duel.second, -0.5)):
            if index[name] >= 0:
                design_NCK[n, 0, index[name]] += sign
                design_NCK[n, 1, index[name]] -= sign
        if has_ties:
            design_NCK[n, 2, -1] = 1.0
        outcome_NC[n, duel.outcome] = 1.0
    return design_NCK, outcome_NC


def _shares(design_NCK: np.ndarray, beta_K: np.ndarray) -> np.ndarray:
    logit_NC = design_NCK @ beta_K
    weight_NC = np.exp(logit_NC - logit_NC.max(axis=1, keepdims=True))
    return np.asarray(weight_NC / weight_NC.sum(axis=1, keepdims=True))


def _information(design_NCK: np.ndarray, shares_NC: np.ndarray) -> np.ndarray:
    mean_NK = np.einsum("nck,nc->nk", design_NCK, shares_NC)
    square_KK = np.einsum("nck,nc,ncl->kl", design_NCK, shares_NC, design_NCK)
    return np.asarray(square_KK - mean_NK.T @ mean_NK)


def _log_likelihood(design_NCK: np.ndarray, outcome_NC: np.ndarray, beta_K: np.ndarray) -> float:
    return float((outcome_NC * np.log(np.maximum(_shares(design_NCK, beta_K), 1e-300))).sum())


def _newton(design_NCK: np.ndarray, outcome_NC: np.ndarray) -> np.ndarray:
    """The likelihood is concave, so a halved Newton step always climbs."""
    beta_K = np.zeros(design_NCK.shape[2])
    value = _log_likelihood(design_NCK, outcome_NC, beta_K)
    for _ in range(MAX_ROUNDS):
        shares_NC = _shares(design_NCK, beta_K)
        slope_K = np.einsum("nck,nc->k", design_NCK, outcome_NC - shares_NC)
        step_K = np.linalg.solve(_information(design_NCK, shares_NC), slope_K)
        length = 1.0
        while _log_likelihood(design_NCK, outcome_NC, beta_K + length * step_K) < value and length > 1e-6:
            length /= 2
        beta_K = beta_K + length * step_K
        value = _log_likelihood(design_NCK, outcome_NC, beta_K)
        if float(np.abs(step_K).max()) < TOLERANCE:
            break
    return beta_K


def chance_over_first(theta: float) -> float:
    """Share of comparisons with the first system that a system of this strength wins, ties left out."""
    return 1 / (1 + math.exp(-theta))
