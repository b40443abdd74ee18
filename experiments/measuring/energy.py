"""The energy of a second of speech: a pass of its own in a fresh process, never taken from the timed rounds.

`measure=energy` adds it behind the ordinary measurement: idle, the whole workload again and again for
measure.energy_busy_s, idle. This process reads the power ten times a second meanwhile; the worker notes when it began
and ended, by the clock that both share. What cannot carry a figure is a score with its reason, never a 0.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from engine.clock import Clock
from engine.contract import Engine, SynthesisRequest
from experiments.common.journal import JOURNAL, Work, read_journal
from experiments.jetson.board import is_jetson
from experiments.jetson.tree import Tree
from experiments.measuring.cold import launch_with_cold_starts
from experiments.measuring.job import RESULT, JobResult, JobSpec, Launcher, launch
from experiments.telemetry.backends import Backend, choose, missing_power
from experiments.telemetry.board_state import read_state
from experiments.telemetry.sampler import TELEMETRY, Sampler
from experiments.telemetry.watch import Watch, seen_in
from experiments.telemetry.zeus import beside_zeus, zeus_window
from metrics.parts.environment import Environment, PowerSeen
from metrics.power.energy import (
    IDLE_S,
    SHORTEST_TAIL_S,
    Energy,
    NoEnergy,
    PowerSample,
    energy_of_counter,
    energy_of_power,
    unwrapped,
)
from metrics.power.figures import ENVIRONMENT, energy_scores, no_energy
from metrics.power.telemetry import Line
from metrics.record import Score, save_record, to_json, write_atomically

FOLDER, ZEUS = "energy", "zeus.json"
POWER_HZ = 10.0
# What came before has left the sensor, then the idle board is seen; the same behind the work
QUIET_S = SHORTEST_TAIL_S + IDLE_S + 1.0


def launch_with_energy(spec: JobSpec, launcher: Launcher) -> JobResult:
    """As launch_with_cold_starts; then the pass that the configuration asks for, whose figures are scores of the
    record. A pass that fails is their reason: the times stand."""
    if launcher.elsewhere is not None:  # cold starts and energy are of the machine that measures
        return launcher.elsewhere(spec, launcher)
    result = launch_with_cold_starts(spec, launcher)
    wanted = spec.kind == "measure" and float(spec.config["measure"].get("energy_busy_s", 0)) > 0
    if not wanted or result.record.status != "ok":
        return result
    scores = energy_of(spec, launcher, choose(str(spec.config["device"]["kind"])), Tree())
    seen, second = seen_in(spec.folder / FOLDER), spec.folder / FOLDER / ZEUS
    if second.is_file():
        seen = {**seen, **cast(PowerSeen, json.loads(second.read_text(encoding="utf-8")))}
    environment: Environment = {**result.record.environment, ENVIRONMENT: seen}
    record = replace(result.record, scores=(*result.record.scores, *scores), environment=environment)
    save_record(record, spec.folder / RESULT)
    return replace(result, record=record)


def energy_of(spec: JobSpec, launcher: Launcher, backend: Backend, tree: Tree) -> tuple[Score, ...]:
    """One pass below the run's folder: its own job, log and telemetry."""
    head = backend.head()
    if not head.get("rule"):
        return no_energy("unavailable", f"no total of power here: {missing_power(head)}")
    folder = spec.folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    watch = Watch(tree) if is_jetson(tree) else None
    kind = str(spec.config["device"]["kind"])
    with Sampler(folder / TELEMETRY, backend, lambda: read_state(tree), power_hz=POWER_HZ) as sampler:
        time.sleep(2 / POWER_HZ)  # a sample before and one behind the window of the second opinion
        with zeus_window(kind, backend.source) as window:
            ended = launch(replace(spec, folder=folder, kind="energy"), replace(launcher, on_tick=None))
        time.sleep(2 / POWER_HZ)
    if ended.record.status != "ok":
        return no_energy("error", f"the energy pass {ended.record.status}: {ended.record.reason}")
    fault = sampler.problem or (None if watch is None else watch.fault(ended.record.environment))
    if fault is not None:
        return no_energy("not_comparable", fault)
    lines = [json.loads(line) for line in (folder / TELEMETRY).read_text("utf-8").splitlines()]
    if window is not None:
        write_atomically(folder / ZEUS, to_json(beside_zeus(lines, window)) + "\n")
    work = read_journal(folder / JOURNAL).energy
    assert work is not None, "a worker that ended well has written it"
    try:
        found = energy_in(lines, work["start_s"], work["end_s"])
    except NoEnergy as error:
        return no_energy("too_few", str(error))
    return energy_scores(found, work["audio_s"], _source(lines[0]))


def energy_in(lines: Sequence[Line], start_s: float, end_s: float) -> Energy:
    """From the entries of telemetry.jsonl: by the counter where there is one, else by samples of power. Raises
    NoEnergy."""
    head, power = lines[0], [line for line in lines[1:] if line["kind"] == "power"]
    parts, interval_s = head["total_of"], head["periods_s"]["power"]
    if power and all(set(parts) <= set(line.get("counters_j", {})) for line in power):
        columns = [
            unwrapped([line["counters_j"][part] for line in power], head.get("span_j", {}).get(part, float("inf")))
            for part in parts
        ]
        readings = [(line["t_s"], sum(values)) for line, *values in zip(power, *columns, strict=True)]
        return energy_of_counter(readings, start_s, end_s, interval_s=interval_s)
    samples = [PowerSample(line["t_s"], line["total_w"]) for line in power if "total_w" in line]
    updates_ms = [chip["update_interval_ms"] for chip in head.get("chips", ()) if chip["update_interval_ms"]]
    update_s = max(updates_ms, default=1000 * interval_s) / 1000
    return energy_of_power(samples, start_s, end_s, interval_s=interval_s, update_interval_s=update_s)


def work_for(engine: Engine, requests: Sequence[SynthesisRequest], clock: Clock, busy_s: float) -> Work:
    """In the worker: every sentence once, idle, whole passes over the workload for busy_s at least, idle."""
    for request in requests:
        engine.synthesize([request])
    clock.sync()
    time.sleep(QUIET_S)
    start_s, audio_s, num_calls = time.monotonic(), 0.0, 0
    while time.monotonic() - start_s < busy_s:
        for request in requests:
            synthesis = engine.synthesize([request])[0]
            audio_s += len(synthesis.audio_S) / synthesis.sample_rate_hz
            num_calls += 1
    clock.sync()
    end_s = time.monotonic()
    time.sleep(QUIET_S)
    return {"start_s": start_s, "end_s": end_s, "audio_s": audio_s, "num_calls": num_calls}


def _source(head: Line) -> str:
    chips = [
        f"{chip['name']} {chip['samples']} samples, {chip['update_interval_ms']} ms" for chip in head.get("chips", ())
    ]
    return "; ".join([f"source {head['source']}, rule {head['rule']}", *dict.fromkeys(chips)])
