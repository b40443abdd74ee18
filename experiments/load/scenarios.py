"""The scenarios: levels of load one after the other; every request is in requests.jsonl as soon as it is answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.common.journal import JournalWriter
from experiments.load.audio import AudioCheck
from experiments.load.driver import (
    Clients,
    ClosedClients,
    Drive,
    Extent,
    Item,
    Order,
    PlannedClients,
    Watch,
    World,
    drive,
    poisson_times,
    sentence_order,
)
from experiments.load.search import Search, SearchResult, search_rate
from experiments.serve.line import BatchQueue, BatchRule
from experiments.serve.settings import Load
from metrics.speed.leak import LeakVerdict, judge_leak
from metrics.speed.load import LimitVerdict, LoadSummary, Served, judge_limit, summarise, without_figures_of_few
from metrics.speed.steady import changed_text
from metrics.speed.trials import LENGTHS, length_of

TAIL = 0.95
CAPACITY = "capacity"
OPEN_LOAD_FRAC = 0.7
CAPACITY_CALLS = 4
MOST_CAPACITY_REQUESTS = 64

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One level of load and what came of it. by_length: apart, for sentences of each length.

    is_probe: of a search, which looks for the rate that is too much: there a full line is an answer, a fault is none.
    """

    name: str
    setting: Mapping[str, float]
    summary: LoadSummary
    by_length: Mapping[str, LoadSummary]
    is_probe: bool = False

    def fault(self, max_error_frac: float) -> str | None:
        """Why the whole load is not valid, None where this level says nothing against it."""
        summary = self.summary
        if summary.refusal is None or (self.is_probe and summary.num_failed <= max_error_frac * summary.num_requests):
            return None
        return f"{self.name}: {summary.refusal}"


@dataclass(slots=True)
class Result:
    """What a load found; `judge` is asked only after all audio was judged. unsteady: the counters that moved.

    target: the open loop's p95 against load.target_s, None where none was set or the level has no figures.
    errors: the first level with more errors than the load may have.
    """

    levels: list[Level] = field(default_factory=list)
    unsteady: str | None = None
    leak: LeakVerdict | None = None
    search: SearchResult | None = None
    target: LimitVerdict | None = None
    errors: str | None = None


@dataclass(slots=True)
class Bench:
    """Everything a level needs. max_batch: how many requests the engine really takes in one call; the rule is that of
    the line on this side, which over HTTP only passes on. counters: what must not move once the engine is warm.
    batch_sizes: of the scenario `batches`."""

    items: Sequence[Item]
    texts: Mapping[str, str]
    world: World
    rule: BatchRule
    max_batch: int
    journal: JournalWriter
    check: AudioCheck
    settings: Load
    read_pss: Callable[[], int | None]
    say: Say
    counters: Callable[[], Mapping[str, int]]
    memory: list[tuple[float, int]] = field(default_factory=list)
    level: str = ""
    batch_sizes: Sequence[int] = ()

    def run(self, name: str, clients: Clients, watch: Watch | None = None) -> list[Served]:
        self.level = name
        plan = Drive(items=self.items, clients=clients, queue=BatchQueue(self.rule), world=self.world)
        return drive(plan, self._record, watch)

    def _record(self, order: Order, served: Served, payload: Any) -> None:
        sha256 = None if payload is None else self.check.hear(order.item, payload)
        content = dataclasses.asdict(served)
        self.journal.append(
            "request", {"level": self.level, "number": order.number, "user": order.user, **content, "sha256": sha256}
        )

    def watch(self) -> Watch:
        return Watch(self.settings.memory_every_s, self._look)

    def _look(self, now_s: float) -> None:
        pss_bytes = self.read_pss()
        if pss_bytes is not None:
            self.memory.append((now_s, pss_bytes))
            self.journal.append("memory", {"level": self.level, "at_s": now_s, "pss_bytes": pss_bytes})

    def sentences(self) -> Iterator[int]:
        return sentence_order(len(self.items), self.settings.arrival_seed)

    def closed(self, num_users: int, extent: Extent, think_s: float = 0.0) -> ClosedClients:
        return ClosedClients(num_users, extent, self.sentences(), self.world.now_s(), think_s)

    def open(self, rate_per_s: float, extent: Extent, seed: int) -> PlannedClients:
        return PlannedClients(poisson_times(rate_per_s, extent, self.world.now_s(), seed), self.sentences())


def run_scenario(bench: Bench) -> Result:
    """closed, open, offline, batches or search. Nothing of the warm-up is in a level.

    An engine that counts what it compiles, captures or opens hears every sentence in the warm-up.
    """
    settings, result = bench.settings, Result()
    num_warmup = settings.warmup_requests
    if num_warmup:
        num_warmup = max(num_warmup, len(bench.items) if bench.counters() else 0)
        if settings.scenario == "batches":
            _warm_batches(bench, num_warmup)
        else:
            users = max(settings.levels) if settings.scenario == "closed" else bench.max_batch
            bench.run("warmup", bench.closed(users, Extent(num_requests=num_warmup)))
    scenarios = {"closed": _closed, "open": _open, "offline": _offline, "batches": _batches, "search": _search}
    before = bench.counters()
    scenarios[settings.scenario](bench, result)
    said = changed_text(before, bench.counters())
    result.unsteady = f"{said} while requests were timed; raise warmup_requests" if said else None
    faults = [level.fault(settings.max_error_frac) for level in result.levels]
    result.errors = next((fault for fault in faults if fault is not None), None)
    return result


def _extent(settings: Load) -> Extent:
    if settings.soak_s is not None:
        return Extent(num_requests=None, duration_s=settings.soak_s)
    return Extent(num_requests=settings.requests)


def _level(bench: Bench, result: Result, name: str, clients: Clients, setting: Mapping[str, float]) -> list[Served]:
    soaking = bench.settings.soak_s is not None and name != CAPACITY
    served = bench.run(name, clients, bench.watch() if soaking else None)
    if not served:
        bench.say(f"{name}: nobody asked")
        return served
    level = _level_of(bench, name, served, setting)
    result.levels.append(level)
    # No figure yet: the audio of the whole load is judged first
    bench.say(f"{name}: {len(served)} requests, {sum(one.status != 'ok' for one in served)} not answered")
    if soaking and level.summary.refusal is None:  # who answers little keeps little
        limit = bench.settings.leak_limit_bytes_per_h
        times_s = [at_s - bench.memory[0][0] for at_s, _ in bench.memory]
        result.leak = judge_leak(times_s, [pss_bytes for _, pss_bytes in bench.memory], limit)
    return served


def _level_of(bench: Bench, name: str, served: Sequence[Served], setting: Mapping[str, float]) -> Level:
    limit = bench.settings.max_error_frac
    groups: dict[str, list[Served]] = {length: [] for length in LENGTHS}
    for one in served:
        groups[length_of(bench.texts[one.utterance_id])].append(one)
    summary = without_figures_of_few(summarise(served), limit)
    # In a level that lost so many, the ones of a length were not asked under the load that it bears the name of
    found = groups if summary.refusal is None else {}
    by_length = {length: without_figures_of_few(summarise(group), limit) for length, group in found.items() if group}
    is_probe = bench.settings.scenario == "search" and name != CAPACITY
    return Level(name=name, setting=setting, summary=summary, by_length=by_length, is_probe=is_probe)


def _closed(bench: Bench, result: Result) -> None:
    think_s = bench.settings.think_s
    for num_users in bench.settings.levels:
        clients = bench.closed(num_users, _extent(bench.settings), think_s)
        _level(bench, result, f"users-{num_users}", clients, {"users": num_users, "think_s": think_s})


def _capacity(bench: Bench, result: Result) -> float:
    """Requests a second of a loop that is never idle: the yardstick of the rates that follow; 0 with errors."""
    users = min(2 * bench.max_batch, bench.settings.queue_limit)
    extent = Extent(num_requests=min(MOST_CAPACITY_REQUESTS, max(16, CAPACITY_CALLS * users)))
    _level(bench, result, CAPACITY, bench.closed(users, extent), {"users": users})
    return result.levels[-1].summary.requests_per_s or 0.0


def _open(bench: Bench, result: Result) -> None:
    given, seed = bench.settings.rate_per_s, bench.settings.arrival_seed
    rate = given if given is not None else OPEN_LOAD_FRAC * _capacity(bench, result)
    if rate > 0:
        served = _level(bench, result, "open", bench.open(rate, _extent(bench.settings), seed), {"rate_per_s": rate})
        target_s, most = bench.settings.target_s, bench.settings.max_error_frac
        if served and target_s is not None:
            result.target = judge_limit(served, target_s, TAIL, max_error_frac=most)


def _offline(bench: Bench, result: Result) -> None:
    num = bench.settings.requests
    # Everything is there from the start: no line is too long for it
    bench.rule = dataclasses.replace(bench.rule, capacity=max(bench.rule.capacity, num))
    clients = PlannedClients([bench.world.now_s()] * num, bench.sentences())
    _level(bench, result, "offline", clients, {"requests": num})


def _all_at_once(bench: Bench, size: int, num: int) -> PlannedClients:
    """`num` requests that are there from the start, at most `size` a call; nobody waits for company."""
    rule = bench.rule
    bench.rule = dataclasses.replace(rule, max_batch=size, window_s=0.0, capacity=max(rule.capacity, num))
    return PlannedClients([bench.world.now_s()] * num, bench.sentences())


def _warm_batches(bench: Bench, num: int) -> None:
    """Every size is a shape of its own to an engine that captures or compiles: it hears what its level will ask."""
    for size in bench.batch_sizes:
        bench.run("warmup", _all_at_once(bench, size, max(num, bench.settings.requests)))


def _batches(bench: Bench, result: Result) -> None:
    for size in bench.batch_sizes:
        clients = _all_at_once(bench, size, bench.settings.requests)
        setting = {"requests": bench.settings.requests, "max_batch": size}
        _level(bench, result, f"batch-{size}", clients, setting)


def _search(bench: Bench, result: Result) -> None:
    load = bench.settings
    capacity = _capacity(bench, result)
    if capacity <= 0:
        return
    limit_s, began_s = load.limit_s, bench.world.now_s()

    def probe(rate_per_s: float, num_requests: int, number: int) -> LimitVerdict:
        name, extent = f"rate-{rate_per_s:.3g}-{number}", Extent(num_requests=num_requests)
        seed = load.arrival_seed + number
        served = _level(bench, result, name, bench.open(rate_per_s, extent, seed), {"rate_per_s": rate_per_s})
        return judge_limit(served, limit_s, TAIL, max_error_frac=load.max_error_frac)

    result.search = search_rate(
        Search(
            highest=1.2 * capacity,
            lowest=0.05 * capacity,
            ratio=load.search_ratio,
            num_requests=load.probe_requests,
            num_requests_most=load.probe_requests_most,
            time_limit_s=load.search_time_limit_s,
        ),
        probe,
        lambda: bench.world.now_s() - began_s,
    )
