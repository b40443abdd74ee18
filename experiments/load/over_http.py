"""A load over HTTP: against a service that is started for it, or one that runs already."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TypedDict, cast

import httpx

from engine.clock import make_clock
from engine.contract import ConfigError
from engine.families.family import family_of
from experiments.common.quoting import hydra_value
from experiments.load.audio import AudioCheck
from experiments.load.cold import ColdBench, cold_vs_warm
from experiments.load.http import HttpWorld, ask_json, bodies_of, open_client, started_service
from experiments.load.parts import BuiltFacts, Counters, Order, built_facts, make_bench, make_report, open_journal, say
from experiments.load.report import LoadReport
from experiments.load.scenarios import Result, run_scenario
from experiments.measuring.job import LOG
from experiments.serve.line import BatchRule
from experiments.serve.settings import Line, Load
from metrics.speed.steady import counted

UNBOUNDED = 1 << 30


class ServedLine(TypedDict):
    """`batching` of a service's facts: its line as experiments.serve.line.BatchRule has it."""

    max_batch: int
    window_s: float
    bucket_chars: list[int]
    capacity: int


def over_http(order: Order, lock: int, stack: ExitStack) -> LoadReport:
    """Raises ConfigError for a service that is not what the command line names, UnsupportedEngine where none starts."""
    load = order.settings
    url = load.url or stack.enter_context(
        started_service(order.config, [*order.cell.overrides, *_passed_on(order.settings)], order.out / LOG, lock)
    )
    client = stack.enter_context(open_client(url, load.connections, load.request_limit_s))
    return load_client(client, order, lock, stack)


def _passed_on(settings: Load) -> list[str]:
    """Settings of the line, as the service's command line reads them. No line is too long for an offline load."""
    passed = {key: getattr(settings, key) for key in Line.model_fields}
    if settings.scenario == "offline":
        passed["queue_limit"] = max(settings.queue_limit, settings.requests)
    return [f"serve.{key}={hydra_value(value)}" for key, value in passed.items()]


def load_client(client: httpx.Client, order: Order, lock: int, stack: ExitStack) -> LoadReport:
    """The scenario against whatever answers `client`."""
    load, served = order.settings, ask_json(client, "/facts")
    facts, line = built_facts(served), cast(ServedLine, served["batching"])
    if load.url is not None:  # else it was started with this very command line
        _refuse_other(served, order)
        _refuse_other_line(line, order)
    journal = open_journal(order, stack)
    journal.append("facts", served)
    clock = make_clock("cpu")  # the device is the service's; here only the wall clock counts
    world = stack.enter_context(HttpWorld(client, bodies_of(order.workload), load.connections, clock))
    # The line on this side only passes on; how long a request waits there is part of its latency
    rule = BatchRule(capacity=UNBOUNDED)
    bench = make_bench(order, world, rule, journal, facts, counters_reader(client, facts))
    bench.max_batch = line["max_batch"]
    bench.read_pss = lambda: read_pss(client)
    if order.settings.scenario != "cold_vs_warm":
        result = run_scenario(bench)
        return _report(client, facts, order, result, bench.check)
    cold = cold_vs_warm(
        ColdBench(
            world=world, config=order.config, check=bench.check, journal=journal, folder=order.out, lock=lock,
            num_items=len(bench.items), max_error_frac=load.max_error_frac, say=say,
        ),
        load.cold_pairs, load.arrival_seed,
    )  # fmt: skip
    return replace(_report(client, facts, order, Result(errors=cold["refusal"]), bench.check), cold=cold)


def _report(client: httpx.Client, first: BuiltFacts, order: Order, result: Result, check: AudioCheck) -> LoadReport:
    """first: the facts as the load began, which stand where the service has died of it: what was measured is kept."""
    try:
        now = built_facts(ask_json(client, "/facts"))
    except ConfigError as gone:
        # Its counters are those of before the first request, so they cannot show that the answers were fresh
        proof = {key: value for key, value in first["proof"].items() if key != "calls"}
        facts: BuiltFacts = {**first, "proof": proof}
        return replace(
            make_report(order, facts, result, check),
            gone=f"the service was gone at the end of the load: {gone.allowed}",
        )
    return make_report(order, now, result, check, first["proof"].get("calls", 0))


def counters_reader(client: httpx.Client, first: BuiltFacts) -> Counters:
    """Reads the service's counters; the last known ones where it does not answer: that it is gone is told by itself."""
    last = counted(first["proof"])

    def read() -> dict[str, int]:
        nonlocal last
        try:
            last = counted(ask_json(client, "/facts")["proof"])
        except ConfigError:
            pass
        return last

    return read


def read_pss(client: httpx.Client) -> int | None:
    """None where the service does not answer: a reading less, and the requests say the rest."""
    try:
        reading = ask_json(client, "/memory")["pss_bytes"]
    except ConfigError:
        return None
    return None if reading is None else int(reading)


def _refuse_other(facts: Mapping[str, object], order: Order) -> None:
    """The service must be the variant whose name the report will bear, as far as its facts tell."""
    config = order.config
    asked = {
        "engine": ("name", config["engine"]["name"]), "model": ("model", config["model"]["name"]),
        **family_of(config["model"]).asked(config),
    }  # fmt: skip
    for key, (fact, wanted) in asked.items():
        found = facts.get(fact)
        found = tuple(found) if isinstance(found, list) else found
        if found is not None and found != wanted:
            raise ConfigError(key, wanted, f"the service runs {found}", f"name the same {key}, or start a service")


def _refuse_other_line(line: ServedLine, order: Order) -> None:
    """The report says how requests were batched, and with url= the service decides that."""
    load = order.settings
    asked = dataclasses.asdict(load.rule(UNBOUNDED if load.max_batch is None else load.max_batch))
    found: dict[str, object] = {**line, "bucket_chars": tuple(line["bucket_chars"])}
    batching = line["max_batch"] > 1
    if batching != load.batching:
        raise ConfigError(
            "load.batching", load.batching, f"the service was started with serve.batching={str(batching).lower()}",
            "give the service's own settings, or start it with these",
        )  # fmt: skip
    names = {"capacity": "queue_limit"}
    if batching:
        names |= {"window_s": "batch_window_s", "bucket_chars": "bucket_chars"}
        names |= {} if load.max_batch is None else {"max_batch": "max_batch"}
    for field, key in names.items():
        if asked[field] != found[field]:
            raise ConfigError(
                f"load.{key}", getattr(load, key), f"the service was started with {found[field]}",
                "give the service's own settings, or start it with these",
            )  # fmt: skip
    in_line = min(load.requests, load.connections)
    if load.scenario == "offline" and in_line > line["capacity"]:
        raise ConfigError(
            "load.requests", load.requests, f"{in_line} are on their way at once, the service's line takes "
            f"{line['capacity']}", f"start it with serve.queue_limit={in_line}, or use fewer connections",
        )  # fmt: skip
