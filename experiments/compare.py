"""Two engines in one run: `python -m experiments.compare reference.engine=upstream candidate.engine=fp32 [pairs=60]`.

Pairs of calls on the same sentence, in random order inside each pair, so that what the machine does in the meantime
hits both. The result is the ratio of wall times with an exact order-statistic interval of the median (metrics.stats).
Both engines live in one process and only one works at a time.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.clock import Clock, make_clock
from engine.contract import ConfigError, Engine, SynthesisRequest
from experiments.cli import EXIT_OK, complain, run_verb
from experiments.compose import compose_config
from experiments.device_lock import device_lock
from experiments.environment import fingerprint, num_threads
from experiments.validate import validate
from experiments.workload import load_workload
from metrics.record import write_atomically
from metrics.stats import RatioInterval, ratio_interval

SIDES = ("reference", "candidate")
CONFIDENCE = 0.95


def split_sides(argv: Sequence[str]) -> tuple[dict[str, list[str]], int]:
    """Overrides of each side (`reference.KEY=VALUE`, `candidate.KEY=VALUE`, the rest for both), and the pairs."""
    overrides: dict[str, list[str]] = {side: [] for side in SIDES}
    pairs = "60"
    for text in argv:
        side, _, rest = text.partition(".")
        if text.startswith("pairs="):
            pairs = text.partition("=")[2]
        elif side in SIDES and "=" not in side:
            overrides[side].append(rest)
        else:
            for side_overrides in overrides.values():
                side_overrides.append(text)
    if not pairs.isdigit() or int(pairs) < 6:
        raise ConfigError("pairs", pairs, "must be a whole number of at least 6", "use pairs=60")
    return overrides, int(pairs)


def wall_s(engine: Engine, request: SynthesisRequest, clock: Clock) -> float:
    clock.sync()
    before_s = clock.now_s()
    engine.synthesize([request])
    clock.sync()
    return clock.now_s() - before_s


def measure_pairs(
    engines: Sequence[Engine], requests: Sequence[SynthesisRequest], num_pairs: int, clock: Clock
) -> list[tuple[float, float]]:
    """(reference, candidate) seconds of each pair, after one call of each engine on each sentence."""
    for request in requests:
        for engine in engines:
            engine.synthesize([request])
    chance, times = random.Random(0), []
    for i in range(num_pairs):
        pair = [0.0, 0.0]
        for side in chance.sample((0, 1), 2):
            pair[side] = wall_s(engines[side], requests[i % len(requests)], clock)
        times.append((pair[0], pair[1]))
        print(f"\rpair {i + 1} of {num_pairs}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return times


def sentence(interval: RatioInterval, names: Mapping[str, str]) -> str:
    ratio = f"{interval.ratio:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    return (
        f"{names['candidate']} takes {ratio} of the time of {names['reference']} "
        f"(median of {interval.num_pairs} interleaved pairs, {interval.confidence:.0%} interval)"
    )


def main(argv: Sequence[str]) -> int:
    if "--help" in argv:
        print(__doc__)
        return EXIT_OK
    overrides, num_pairs = split_sides(argv)
    configs = {side: compose_config(overrides[side]) for side in SIDES}
    for config in configs.values():
        validate(config)
    import torch

    from engine.build import build_engine

    shared: Mapping[str, Any] = configs["candidate"]
    torch.set_num_threads(num_threads(shared["device"]))
    clock = make_clock(str(shared["device"]["kind"]))
    requests = load_workload(shared).requests
    with device_lock(str(shared["device"]["kind"]), "wait", complain):
        with build_engine(configs["reference"], clock) as reference, build_engine(configs["candidate"], clock) as ours:
            times = measure_pairs((reference, ours), requests, num_pairs, clock)
            names = {side: f"{e.facts.name}-{e.facts.solver}" for side, e in zip(SIDES, (reference, ours), strict=True)}
    interval = ratio_interval([b for _, b in times], [a for a, _ in times], CONFIDENCE)
    if interval is None:
        raise ConfigError("pairs", num_pairs, "too few for an interval", "use pairs=60")
    print(sentence(interval, names))
    if shared["out"]:
        content = {
            "names": names, "ratio": interval.ratio, "low": interval.low, "high": interval.high,
            "num_pairs": num_pairs, "confidence": CONFIDENCE, "times_s": times,
            "environment": fingerprint(shared["device"]),
        }  # fmt: skip
        write_atomically(Path(shared["out"]) / "comparison.json", json.dumps(content, indent=1) + "\n")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
