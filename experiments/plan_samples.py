"""How many sentences, clips, ratings or votes does a question need? `python -m experiments.plan_samples`."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from baselines.quality.rules import Plan, QualityLimits
from baselines.quality.samples import clips_for_rate, pairs_for_margin, pairs_for_margin_t
from baselines.quality.sentences import pair_scores
from baselines.refused import SettingRefused
from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, refused_limit, run_verb
from experiments.settings.words import read_quality_limits, split_words
from metrics.fidelity.catalog import by_name
from metrics.record import load_run
from reports.commands import VerbParser

KEYS = ("metric", "margin", "sd", "limit", "true_rate", "share", "alpha", "preset")
POWERS = (0.8, 0.9)
DESCRIPTION = f"""{__doc__}
Without settings: the preset's planning table. All figures are for one-sided tests of 5 %, votes for two-sided ones.

  metric=NAME margin=M sd=S       pairs for non-inferiority at a margin; S is the spread of one paired difference
  metric=NAME RUN_A RUN_B         the same, S measured on two scored runs of the same sentences
  metric=NAME limit=L true_rate=R clips to show a rate under L where the truth is R (default 0), exact
  share=P                         independent votes to find a true preference of P, exact, two-sided
  alpha=0.05 preset=seeds         margins and spreads that are not given come from the preset's `planning`

examples:
  python -m experiments.plan_samples
  python -m experiments.plan_samples metric=wer_frac margin=0.01 outputs/A outputs/B
  python -m experiments.plan_samples metric=artifact_vs_reference limit=0.01 true_rate=0.002
  python -m experiments.plan_samples share=0.6
"""


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.plan_samples", description=DESCRIPTION)
    parser.add_argument("words", nargs="*", metavar="[KEY=VALUE ...] [RUN_A RUN_B]")
    folders, settings = split_words(parser.parse_args(argv).words, KEYS)
    for key in ("margin", "sd", "limit", "true_rate", "share", "alpha"):
        value = settings.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigError(key, value, "must be a number", "see --help")
    preset: dict[str, Any] = {key: settings[key] for key in ("preset", "alpha") if key in settings}
    limits = read_quality_limits(preset)
    try:
        for line in _lines(folders, settings, limits):
            print(line)
    except SettingRefused as error:
        raise refused_limit(error) from error
    return EXIT_OK


def _lines(folders: Sequence[Path], settings: Mapping[str, str | float], limits: QualityLimits) -> Iterator[str]:
    if "share" in settings:
        from reports.listening.judging.inference import votes_needed  # scipy.stats comes with it, a second

        share = float(settings["share"])
        counts = [votes_needed(share, power, limits.alpha) for power in POWERS]
        yield f"votes, preference {share:g}: {_counts(counts)} (exact binomial, two-sided {limits.alpha:g})"
        return
    if "metric" not in settings:
        if folders or settings.keys() - {"alpha", "preset"}:
            raise ConfigError("metric", "", "is needed with these settings", "say which one; see --help")
        for metric, plan in limits.planning.items():
            yield from _plan(metric, plan, limits.alpha)
        return
    metric = str(settings["metric"])
    planned: Plan = limits.planning.get(metric, {})
    if metric not in by_name() and metric not in limits.planning:
        known = ", ".join(limits.planning)
        raise ConfigError("metric", metric, "no such score", f"use one of {known} or of metrics/fidelity/catalog.py")
    given = {key: settings[key] for key in ("margin", "sd", "limit", "true_rate") if key in settings}
    asked: Plan = {**planned, **cast(Plan, given)}  # numbers, as was seen above
    if "margin" in settings:
        asked.pop("limit", None)
    if folders:
        asked["sd"] = _measured_sd(metric, folders)
        yield f"{metric}: the paired difference of these runs spreads by {asked['sd']:.4g}"
    if "limit" not in asked and ("margin" not in asked or "sd" not in asked):
        raise ConfigError("metric", metric, "needs a margin and a spread", "give margin= and sd=, or RUN_A RUN_B")
    yield from _plan(metric, asked, limits.alpha)


def _plan(metric: str, plan: Plan, alpha: float) -> Iterator[str]:
    if "limit" in plan:
        limit, rate = float(plan["limit"]), float(plan.get("true_rate", 0.0))
        counts = [clips_for_rate(limit, rate, power, alpha) for power in POWERS]
        yield f"{metric}: under {limit:g} where the truth is {rate:g}: {_counts(counts)} (clips, exact binomial)"
        return
    margin = float(plan["margin"])
    for sd in plan["sd"] if isinstance(plan["sd"], list) else [plan["sd"]]:
        normal = [pairs_for_margin(margin, float(sd), power, alpha) for power in POWERS]
        exact = [pairs_for_margin_t(margin, float(sd), power, alpha) for power in POWERS]
        note = "" if normal == exact else f"; by Student's t {exact[0]} and {exact[1]}"
        yield f"{metric}: margin {margin:g}, SD of a difference {float(sd):.4g}: {_counts(normal)} (pairs{note})"


def _counts(counts: Sequence[int]) -> str:
    return ", ".join(f"{num} for {100 * power:g} % power" for num, power in zip(counts, POWERS, strict=True))


def _measured_sd(metric: str, folders: Sequence[Path]) -> float:
    """SD of the paired difference of two runs. Raises ConfigError where fewer than two sentences are a pair."""
    if len(folders) != 2:
        raise ConfigError("runs", len(folders), "a spread is measured on two runs", "give RUN_A RUN_B")
    if metric not in by_name():
        raise ConfigError("metric", metric, "is not stored in runs", "give sd=")
    pairs = pair_scores(load_run(folders[0]), load_run(folders[1]), metric)
    if len(pairs.second) < 2:
        name, reason = next(iter({**pairs.lost, **pairs.failed}.items()), ("-", "no sentence in common"))
        raise ConfigError("metric", metric, f"{len(pairs.second)} sentences are a pair", f"{name}: {reason}")
    sd = statistics.stdev(pairs.second[name] - pairs.first[name] for name in pairs.second)
    if sd == 0:
        raise ConfigError("metric", metric, "every difference of these runs is the same", "give sd=")
    return sd


if __name__ == "__main__":
    sys.exit(run_verb(main))
