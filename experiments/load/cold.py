"""Cold against warm: one request to a fresh process that builds the engine first, beside the same one to the service.

As a program (`python -m experiments.load.cold JOB.json`) it is that fresh process.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import soundfile

from engine.clock import make_clock
from engine.contract import UnsupportedEngine
from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.journal import JournalWriter
from experiments.common.plain import Config
from experiments.common.processes import worker_environment
from experiments.load.audio import AudioCheck, Heard
from experiments.load.driver import sentence_order
from experiments.load.http import HttpWorld
from experiments.load.stored import ColdPairs, MedianTime, RatioEntry
from experiments.measuring.engines import build_by_name
from experiments.measuring.timed import time_call
from experiments.workload.requests import load_workload
from metrics.record import to_json, write_atomically
from metrics.stats import median_interval, quantile, ratio_interval

CONFIDENCE = 0.95


def main(argv: Sequence[str]) -> int:
    """The fresh process: build, speak one sentence, write it, say on stdout what it took inside."""
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    config = job["config"]
    clock = make_clock(str(config["device"]["kind"]))
    request = load_workload(config).requests[job["item"]]
    before_s = clock.now_s()
    with build_by_name(config, clock) as engine:
        clock.sync()
        build_s = clock.now_s() - before_s
        call = time_call(clock, lambda: engine.synthesize([request]))
    (spoken,) = call.result
    soundfile.write(job["wav"], spoken.audio_S, spoken.sample_rate_hz, subtype="FLOAT")
    inside = {
        "build_s": build_s, "call_s": call.wall_s, "num_frames": len(spoken.mel_ND),
        "num_chunks": spoken.num_chunks, "num_evals": spoken.num_evals,
    }  # fmt: skip
    print(to_json(inside))
    return EXIT_OK


def cold_call(config: Config, item: int, folder: Path, lock: int) -> tuple[dict[str, float], Heard]:
    """One fresh process. wall_s runs from before its start to its end. Raises UnsupportedEngine where it fails."""
    job, wav = folder / "cold.json", folder / "cold.wav"
    write_atomically(job, to_json({"config": dict(config), "item": item, "wav": str(wav)}))
    command = [sys.executable, "-m", "experiments.load.cold", str(job)]
    before_s = time.perf_counter()
    done = subprocess.run(
        command, env=worker_environment(config), stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
        errors="replace", check=False,
        pass_fds=(lock,),
    )  # fmt: skip
    wall_s = time.perf_counter() - before_s
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UnsupportedEngine(f"the fresh process failed: {last}", "run it alone with experiments.run")
    inside = json.loads(done.stdout.strip().splitlines()[-1])
    audio_S, rate_hz = soundfile.read(wav, dtype="float32")
    heard = Heard(
        audio_S=audio_S, sample_rate_hz=rate_hz, num_frames=inside["num_frames"], num_chunks=inside["num_chunks"],
        num_evals=inside["num_evals"],
    )  # fmt: skip
    return {"wall_s": wall_s, "build_s": inside["build_s"], "call_s": inside["call_s"]}, heard


def warm_call(world: HttpWorld, item: int) -> tuple[float, Heard]:
    """The same request to the service. Raises UnsupportedEngine where it is not answered."""
    before_s = world.now_s()
    reply, ended_s = world.ask(item)
    if reply.status != "ok":
        raise UnsupportedEngine(f"the service answered {reply.reason}", "see log.txt")
    return ended_s - before_s, reply.payload


@dataclass(frozen=True, kw_only=True, slots=True)
class ColdBench:
    """What a comparison needs. folder: where the fresh process leaves its audio; lock: the device's, inherited."""

    world: HttpWorld
    config: Config
    check: AudioCheck
    journal: JournalWriter
    folder: Path
    lock: int
    num_items: int
    max_error_frac: float
    say: Callable[[str], None]


def cold_vs_warm(bench: ColdBench, num_pairs: int, seed: int) -> ColdPairs:
    """Pairs on the same sentence, in random order; the service is idle while the fresh process runs.

    A pair counts when both sides answered. The first one too many that did not ends the comparison: `refusal` says so.
    """
    chance, sentences = random.Random(seed), sentence_order(bench.num_items, seed)
    for item in range(min(bench.num_items, 3)):
        warm_call(bench.world, item)  # the service's own first calls are not what is compared
    answered: list[Mapping[str, Mapping[str, float]]] = []
    errors: list[str] = []
    for pair in range(num_pairs):
        item = next(sentences)
        sides = {side: _one_side(bench, side, pair, item) for side in chance.sample(["cold", "warm"], 2)}
        failed = [f"{side}: {found}" for side, found in sides.items() if isinstance(found, str)]
        if failed:
            errors.append(failed[0])
        else:
            answered.append({side: found for side, found in sides.items() if not isinstance(found, str)})
        bench.say(f"pair {pair + 1} of {num_pairs}" + (f": {failed[0]}" if failed else ""))
        if len(errors) > bench.max_error_frac * num_pairs:
            return _refused(errors, len(answered), num_pairs, bench.max_error_frac)
    return _content([one["cold"] for one in answered], [one["warm"]["wall_s"] for one in answered], errors)


def _one_side(bench: ColdBench, side: str, pair: int, item: int) -> dict[str, float] | str:
    """What one request took, or why it was not answered; in the journal either way."""
    entry: dict[str, Any] = {"level": side, "number": pair, "item": item}
    try:
        if side == "cold":
            times, heard = cold_call(bench.config, item, bench.folder, bench.lock)
        else:
            wall_s, heard = warm_call(bench.world, item)
            times = {"wall_s": wall_s}
    except UnsupportedEngine as error:
        bench.journal.append("request", {**entry, "status": "failed", "reason": error.reason})
        return error.reason
    bench.journal.append("request", {**entry, **times, "sha256": bench.check.hear(item, heard)})
    return times


def _refused(errors: Sequence[str], num_answered: int, num_pairs: int, max_error_frac: float) -> ColdPairs:
    refusal = (
        f"cold_vs_warm: {len(errors)} of the first {num_answered + len(errors)} pairs were not answered, of "
        f"{num_pairs} max_error_frac={max_error_frac:g} allows {100 * max_error_frac:g} %: {errors[-1]}"
    )
    return {"num_pairs": num_answered, "errors": dict(Counter(errors)), "refusal": refusal, "ratio": None}


def _content(cold: Sequence[Mapping[str, float]], warm: Sequence[float], errors: Sequence[str]) -> ColdPairs:
    walls_s = [one["wall_s"] for one in cold]
    ratio = ratio_interval(walls_s, warm, CONFIDENCE)
    return {
        "num_pairs": len(warm),
        "errors": dict(Counter(errors)),
        "refusal": None,
        "cold_s": _median(walls_s),
        "cold_build_s": _median([one["build_s"] for one in cold]),
        "cold_call_s": _median([one["call_s"] for one in cold]),
        "warm_s": _median(warm),
        "ratio": None if ratio is None else cast(RatioEntry, asdict(ratio)),
    }


def _median(values_s: Sequence[float]) -> MedianTime:
    return {"value_s": quantile(values_s, 0.5), "interval_s": median_interval(values_s, CONFIDENCE)}


if __name__ == "__main__":
    sys.exit(run_verb(main))
