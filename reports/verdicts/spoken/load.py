"""The words of a load test: what the service held, in one sentence, from load.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metrics.typed import number_in, part_of
from reports.verdicts.spoken.parts import listed, pick
from reports.verdicts.spoken.plain import counted, seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Of a level; value_s None where its requests were too few."""

    value_s: float | None = None
    interval_s: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadLevel:
    name: str
    requests_per_s: float | None = None
    latency_p50: Latency = Latency()
    latency_p95: Latency = Latency()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rate:
    """A level without its latencies."""

    name: str
    requests_per_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Search:
    outcome: str
    holds_per_s: float | None = None
    fails_per_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Target:
    outcome: str
    over_frac: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Audio:
    num_heard: int
    num_invalid: int


def load_levels(content: Mapping[str, object]) -> tuple[LoadLevel, ...]:
    """In the order of the test. Raises ValueError for what is no level."""
    return tuple(_level(entry) for entry in listed(content, "levels")) if "levels" in content else ()


def _level(entry: Mapping[str, object]) -> LoadLevel:
    p50, p95 = (pick(Latency, entry.get(key) or {}) for key in ("latency_p50", "latency_p95"))
    rate = pick(_Rate, entry)
    return LoadLevel(name=rate.name, requests_per_s=rate.requests_per_s, latency_p50=p50, latency_p95=p95)


def spoken_load(content: Mapping[str, object]) -> str:
    """2.1 requests/s, half of them answered within 480 ms, 95 % within 910 ms. Raises ValueError or LookupError."""
    if content.get("status", "ok") == "invalid":
        audio = pick(_Audio, content["audio"])
        return f"no figures: {audio.num_invalid} of {counted(audio.num_heard, 'answer')} heard are no whole speech"
    if content.get("status") == "void":
        return f"no figures: the machine was not in order, {content.get('reason')}"
    if content.get("status") == "unsteady":
        return "no figures: the engine was not steady while it was measured"
    if content.get("status") == "failed":
        return f"not valid: {content.get('reason')}"
    settings = part_of(content, "settings")
    if content.get("search"):
        return _held(pick(_Search, content["search"]), number_in(settings, "limit_s"))
    if content.get("target"):
        offered = part_of(listed(content, "levels")[-1], "setting")
        rate_per_s, target_s = number_in(offered, "rate_per_s"), number_in(settings, "target_s")
        return _met(pick(_Target, content["target"]), rate_per_s, target_s)
    timed = [level for level in load_levels(content) if level.requests_per_s is not None]
    if not timed:
        return "no figures: too few requests were answered"
    most = max(timed, key=lambda level: level.requests_per_s or 0.0)
    p50, p95 = most.latency_p50.value_s, most.latency_p95.value_s
    parts = [f"{'up to ' if len(timed) > 1 else ''}{most.requests_per_s:.3g} requests/s"]
    parts += [] if p50 is None else [f"half of them answered within {seconds(p50)}"]
    parts += [] if p95 is None else [f"95 % within {seconds(p95)}"]
    return ", ".join(parts)


def _met(found: _Target, rate_per_s: float, target_s: float) -> str:
    limit = f"95 % of answers within {seconds(target_s)}"
    word = {"holds": "hold", "fails": "do not hold"}.get(found.outcome, "were not told from missing")
    return f"{rate_per_s:.3g} requests/s {word} {limit} ({100 * found.over_frac:.1f} % were later)"


def _held(found: _Search, limit_s: float) -> str:
    limit = f"95 % of answers within {seconds(limit_s)}"
    if found.holds_per_s is None:
        return f"no rate was shown to hold {limit}"
    fails = "" if found.fails_per_s is None else f"; {found.fails_per_s:.3g} do not"
    return f"{found.holds_per_s:.3g} requests/s hold {limit}{fails}"
