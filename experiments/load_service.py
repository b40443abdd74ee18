"""A load over HTTP: against a service that is started for it, or one that runs already."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx

from engine.clock import make_clock
from engine.contract import ConfigError
from experiments.job import LOG
from experiments.load_audio import AudioCheck
from experiments.load_cold import ColdBench, cold_vs_warm
from experiments.load_http import HttpWorld, ask_json, bodies_of, open_client, started_service
from experiments.load_parts import Order, make_bench, make_report, open_journal, say
from experiments.load_queue import BatchRule
from experiments.load_report import LoadReport
from experiments.load_run import Result, run_scenario

PASSED_ON = ("batching", "batch_window_s", "max_batch", "bucket_chars", "queue_limit")
UNBOUNDED = 1 << 30


def over_http(order: Order, lock: int, stack: ExitStack) -> LoadReport:
    """Raises ConfigError for a service that is not what the command line names, UnsupportedEngine where none starts."""
    values = order.settings.values
    url = values["url"] or stack.enter_context(
        started_service(order.config, [*order.cell.overrides, *_passed_on(values)], order.out / LOG, lock)
    )
    client = stack.enter_context(open_client(str(url), int(values["connections"]), float(values["request_limit_s"])))
    return load_client(client, order, lock, stack)


def _passed_on(values: Mapping[str, Any]) -> list[str]:
    """Settings of the line, as the service's command line reads them."""
    words = {True: "true", False: "false", None: "null"}
    return [
        f"{key}={words[values[key]] if values[key] is None or isinstance(values[key], bool) else values[key]}"
        for key in PASSED_ON
    ]


def load_client(client: httpx.Client, order: Order, lock: int, stack: ExitStack) -> LoadReport:
    """The scenario against whatever answers `client`."""
    values, facts = order.settings.values, ask_json(client, "/facts")
    _refuse_other(facts, order)
    journal = open_journal(order, stack)
    journal.append("facts", facts)
    clock = make_clock("cpu")  # the device is the service's; here only the wall clock counts
    world = stack.enter_context(HttpWorld(client, bodies_of(order.workload), int(values["connections"]), clock))
    # The line on this side only passes on; how long a request waits there is part of its latency
    bench = make_bench(order, world, BatchRule(capacity=UNBOUNDED), journal, bool(facts["random_weights"]))
    bench.max_batch = int(facts["batching"]["max_batch"])
    bench.read_pss = lambda: read_pss(client)
    if order.settings.scenario != "cold_vs_warm":
        result = run_scenario(bench)
        return _report(client, facts, order, result, bench.check)
    cold = cold_vs_warm(
        ColdBench(
            world=world, config=order.config, check=bench.check, journal=journal, folder=order.out, lock=lock,
            num_items=len(bench.items), say=say,
        ),
        int(values["cold_pairs"]), int(values["arrival_seed"]),
    )  # fmt: skip
    return replace(_report(client, facts, order, Result(), bench.check), cold=cold)


def _report(
    client: httpx.Client, first: Mapping[str, Any], order: Order, result: Result, check: AudioCheck
) -> LoadReport:
    """first: the facts as the load began, which stand where the service has died of it: what was measured is kept."""
    try:
        facts = ask_json(client, "/facts")
    except ConfigError as gone:
        # Its counters are those of before the first request, so they cannot show that the answers were fresh
        proof = {key: value for key, value in first["proof"].items() if key != "calls"}
        facts = {**first, "proof": proof}
        return replace(
            make_report(order, facts, result, check),
            gone=f"the service was gone at the end of the load: {gone.allowed}",
        )
    return make_report(order, facts, result, check)


def read_pss(client: httpx.Client) -> int | None:
    """None where the service does not answer: a reading less, and the requests say the rest."""
    try:
        reading = ask_json(client, "/memory")["pss_bytes"]
    except ConfigError:
        return None
    return None if reading is None else int(reading)


def _refuse_other(facts: Mapping[str, Any], order: Order) -> None:
    """The service must be the variant whose name the report will bear, as far as its facts tell."""
    name, steps = order.config["engine"]["name"], order.config["solver"]["steps"]
    if facts.get("name") != name:
        raise ConfigError("engine", name, f"the service runs {facts.get('name')}", "name the same engine, or start one")
    if steps is not None and facts.get("steps") != steps:
        raise ConfigError("solver.steps", steps, f"the service takes {facts.get('steps')}", "name the same solver")
