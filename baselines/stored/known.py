"""What a baseline knows beside its sessions: which calibrations fit, and how noisy its host class is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from baselines.stored.latency import Known
from baselines.stored.sessions import CLOCKS, HostNoise, best_work, host_noise, residual_spreads, works_of
from baselines.stored.store import Baseline, Choice, baseline_path, list_baselines, read_baseline
from metrics.record import RecordError, RunRecord


def chosen_works(runs: Sequence[RunRecord]) -> dict[str, Choice]:
    """For each clock the calibration that leaves the smallest spread over all rounds of all sessions."""
    choices = {}
    for clock in CLOCKS:
        spreads = residual_spreads(runs, clock)
        work = best_work(works_of(runs), spreads)
        if work is not None:
            choices[clock.metric] = Choice(work=work, spread_frac=spreads)
    return choices


def known_of(baseline: Baseline, records: Path) -> Known:
    """The recorded choice, and the session noise pooled over every baseline of the host class that can be read."""
    stored = []
    for host_class, name in list_baselines(records):
        if host_class != baseline.host_class:
            continue
        try:
            stored.append(read_baseline(baseline_path(records, host_class, name)))
        except RecordError:
            continue  # only evidence is lost; `baseline list` names the file
    noise: dict[str, HostNoise] = {}
    for clock in CLOCKS:
        found = host_noise([(other.runs, _work(other, clock.metric)) for other in stored], clock)
        if found is not None:
            noise[clock.metric] = found
    works = {metric: choice.work for metric, choice in baseline.calibrations.items()}
    return Known(works=works, noise=noise)


def _work(baseline: Baseline, metric: str) -> str | None:
    choice = baseline.calibrations.get(metric)
    return None if choice is None else choice.work
