"""What the harness costs: `python -m experiments.checks.overhead [OVERRIDES] [--pairs N] [--parent | --telemetry]`.

The same engine is called by the harness's own loop and by a bare loop, interleaved in random order. Printed are the two
times of a call (does the harness disturb what it measures?) and what a turn of the loop takes beyond its call (does it
waste time?), which is mostly the journal reaching the disk. With --parent the process that started a worker is timed
while it waits: what it takes of a core, it may take from the worker. With --telemetry the same engine is called while
sensors are read beside it, as they are on a Jetson, and while they are not. A benchmark to be read, not a test.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.clock import make_clock
from engine.contract import ConfigError, Engine, SynthesisRequest
from experiments.checks import sampled
from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.device_lock import device_lock
from experiments.common.journal import JournalWriter, read_journal
from experiments.common.plain import Config
from experiments.common.presets import with_presets
from experiments.common.progress import Board
from experiments.measuring.engines import build_by_name, resident_peak_bytes
from experiments.measuring.job import Launcher, launch, new_job
from experiments.measuring.measure import MeasurePlan, Probes, TrialLoop
from experiments.measuring.running import planned
from experiments.measuring.validate import one_cell
from experiments.settings.compose import Cell
from experiments.telemetry.sampler import TELEMETRY
from experiments.workload.requests import load_workload
from metrics.stats import median_interval, quantile
from reports.commands import VerbParser

CALL_S = 0.2  # the call that the harness may cost one percent of
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Pair:
    """Seconds of one bare call, of one call as the harness timed it, and of that whole turn of its loop."""

    bare_s: float
    timed_s: float
    turn_s: float


def measure_pairs(engine: Engine, request: SynthesisRequest, num_pairs: int, config: Config) -> list[Pair]:
    """num_pairs interleaved pairs after one warm-up call of each kind; the journal lies below outputs/."""
    clock, chance = make_clock(str(config["device"]["kind"])), random.Random(0)
    outputs = Path("outputs")
    outputs.mkdir(exist_ok=True)
    probes = Probes(
        clock=clock, reset_peak=_nothing, peak_bytes=resident_peak_bytes, after_round=_nothing, calibrations={}
    )
    plan = MeasurePlan(warmup_rounds=0, rounds=num_pairs, order_seed=0, time_limit_s=float("inf"))
    with tempfile.TemporaryDirectory(dir=outputs, prefix=".overhead-") as folder:
        path = Path(folder) / "journal.jsonl"
        bare: list[float] = []
        turns: list[float] = []
        with JournalWriter(path) as journal:
            loop = TrialLoop(engine, [request], plan, probes, journal, float("inf"))

            def bare_call() -> None:
                before_s = time.perf_counter()
                engine.synthesize([request])
                clock.sync()
                bare.append(time.perf_counter() - before_s)

            def turn() -> None:
                before_s = time.perf_counter()
                loop.trial(request, len(turns), False)
                turns.append(time.perf_counter() - before_s)

            for _ in range(num_pairs + 1):
                first, second = chance.sample([bare_call, turn], 2)
                first()
                second()
        timed = [trial.wall_s for trial in read_journal(path).trials]
    return [Pair(*times) for times in zip(bare[1:], timed[1:], turns[1:], strict=True)]


@dataclass(slots=True)
class ParentWatch:
    """CPU seconds of this process between the first and the last time it woke up for a running worker."""

    wakings: list[tuple[float, float]]

    @classmethod
    def start(cls) -> ParentWatch:
        return cls(wakings=[])

    def wake(self) -> None:
        self.wakings.append((time.monotonic(), time.process_time()))

    @property
    def share(self) -> float:
        """Of one core. Raises ValueError where the worker ended before a second waking."""
        if len(self.wakings) < 2:
            raise ValueError("the worker ended too soon; measure.rounds=20 takes longer")
        (from_s, cpu_from_s), (to_s, cpu_to_s) = self.wakings[0], self.wakings[-1]
        return (cpu_to_s - cpu_from_s) / (to_s - from_s)


def watch_parent(cell: Cell) -> ParentWatch:
    """Run one variant as `experiments.run` does, with its progress board, and look at this process meanwhile."""
    watch = ParentWatch.start()
    Path("outputs").mkdir(exist_ok=True)
    plan = planned(cell)
    with (
        tempfile.TemporaryDirectory(dir="outputs", prefix=".overhead-") as folder,
        Board([plan]) as board,
        device_lock(str(cell.config["device"]["kind"]), "wait", board.say) as lock,
    ):
        board.start(0)

        def tick(journal: Path) -> None:
            board.tick(0, journal)
            watch.wake()

        result = launch(new_job(Path(folder), cell.label, "measure", cell.config), Launcher(lock=lock, on_tick=tick))
        board.finish(0, result.record.status, result.record.reason)
    return watch


def report(pairs: Sequence[Pair]) -> str:
    """Both loops with the 95 % interval of the median, and their difference pair by pair."""
    beyond = [pair.turn_s - pair.timed_s for pair in pairs]
    share = quantile(beyond, 0.5) / CALL_S * 100
    return "\n".join(
        [
            f"{len(pairs)} interleaved pairs",
            f"call in a bare loop    {_line([pair.bare_s for pair in pairs])}",
            f"call in the harness    {_line([pair.timed_s for pair in pairs])}",
            f"difference             {_line([pair.timed_s - pair.bare_s for pair in pairs])}",
            f"ratio                  {_line([pair.timed_s / pair.bare_s for pair in pairs], 1.0, '')}",
            f"beyond the call        {_line(beyond)}: {share:.2f} % of a 200 ms call, not in any number",
        ]
    )


def _line(values: Sequence[float], scale: float = 1e3, unit: str = " ms") -> str:
    interval = median_interval(list(values), CONFIDENCE)
    median = f"{quantile(list(values), 0.5) * scale:.3f}{unit}"
    return median + (f" ({interval[0] * scale:.3f}..{interval[1] * scale:.3f})" if interval else " (too few pairs)")


def _nothing() -> None:
    return None


@with_presets
def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.checks.overhead", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="Hydra overrides of the engine to call")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--parent", action="store_true", help="what the waiting parent takes of one core")
    parser.add_argument("--telemetry", action="store_true", help="what reading the sensors beside a call costs it")
    options = parser.parse_args(argv)
    if options.parent and options.telemetry:
        raise ConfigError("--telemetry", "with --parent", "are two questions", "ask one of them")
    if options.pairs < 1:
        raise ConfigError("--pairs", options.pairs, "must be a whole number from 1", "use --pairs 40")
    cell = one_cell(options.overrides)
    if options.parent:
        watch = watch_parent(cell)
        seconds = watch.wakings[-1][0] - watch.wakings[0][0]
        print(f"the waiting parent took {100 * watch.share:.2f} % of one core over {seconds:.1f} s")
        return EXIT_OK
    request = load_workload(cell.config).requests[0]
    device = str(cell.config["device"]["kind"])
    with (
        device_lock(device, "wait", lambda line: print(line, file=sys.stderr)),
        build_by_name(cell.config, make_clock(device)) as engine,
    ):
        if options.telemetry:
            print(beside_telemetry(engine, request, options.pairs, device))
        else:
            print(report(measure_pairs(engine, request, options.pairs, cell.config)))
    return EXIT_OK


def beside_telemetry(engine: Engine, request: SynthesisRequest, num_pairs: int, device: str) -> str:
    """The sampler's file lies below outputs/, as that of a run does."""
    Path("outputs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="outputs", prefix=".overhead-") as folder:
        path = Path(folder) / TELEMETRY
        with sampled.sampler(device, path) as switch:
            stretches = sampled.measure_stretches(engine, request, make_clock(device), num_pairs, switch)
        return sampled.report(stretches, sampled.num_samples(path))


if __name__ == "__main__":
    sys.exit(run_verb(main))
