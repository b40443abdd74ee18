"""An engine under load, as a service would have it: `python -m experiments.load engine=bf16 load.users=4`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

from engine.clock import make_clock
from engine.contract import ConfigError, UnsupportedEngine
from experiments.common.cli import (
    EXIT_ENVIRONMENT,
    EXIT_JOB_FAILED,
    EXIT_OK,
    EXIT_REGRESSION,
    EXIT_UNSURE,
    complain,
    run_verb,
)
from experiments.common.device_lock import device_lock
from experiments.common.presets import with_presets
from experiments.load.in_process import EngineWorld
from experiments.load.parts import Order, built_facts, make_bench, make_report, open_journal, say
from experiments.load.report import LoadReport, markdown_of, write_report
from experiments.load.scenarios import run_scenario
from experiments.measuring.engines import build_by_name, facts_content
from experiments.measuring.running import default_out, sync_tracking
from experiments.measuring.validate import one_cell, refuse_cuts, validate_out
from experiments.serve.settings import LOAD, refuse_unread, split_command
from experiments.telemetry.watch import watched, watching
from experiments.workload.requests import load_workload
from metrics.speed.steady import counted

HELP = """Drive one engine as a service would: requests that wait, batches, percentiles, errors, memory.

  load.scenario=closed        1 to load.users=N users who ask again after every answer
  load.scenario=open          Poisson arrivals at load.rate_per_s; latency counts from the intended time
  load.target_s=1             open: is the p95 under it? 10 where it is not, 11 where that cannot be told
  load.scenario=offline       load.requests=N at once
  load.scenario=batches       the same by requests a call: load.batches=[1,8,64], or powers of two up to what it takes
  load.scenario=search        the highest rate whose p95 keeps under load.limit_s, as a bracket
  load.scenario=cold_vs_warm  a fresh process for one request beside the warm service (load.transport=http)
  load.transport=http         the engine in a service of its own (experiments.serve), or in the one at load.url=
  load.batching=true          requests of like length share a call (batch_window_s, bucket_chars, max_batch)
  load.soak_min=N             one closed or open level for N minutes, with a leak test on PSS
  Everything else is an override of the variant, as in experiments.run.

examples:
  python -m experiments.load engine=bf16 solver=euler_7 load.users=4
  python -m experiments.load load.scenario=open load.rate_per_s=3 load.batching=true load.requests=300
  python -m experiments.load load.scenario=search load.limit_s=0.8
  python -m experiments.load 'load.users=[2]' load.soak_min=10
  python -m experiments.load load=seeds_rps engine=cuda_call vocoder=vocos_cuda device=cuda engine.max_batch=64

Leaves requests.jsonl (every request), load.json and load.md in out=DIR.
exit codes: 0 done, 2 usage or configuration, 10 memory leaks or the target is missed, 11 search, target or leak test
cannot tell, 12 a Jetson's power mode or clocks changed or it was throttled, 14 the engine failed, its audio is invalid
or more than max_error_frac of a level's requests were not answered, 130 interrupted
"""


@with_presets
def main(argv: Sequence[str]) -> int:
    if LOAD.answered(argv, HELP):
        return EXIT_OK
    settings, overrides = split_command(argv)
    refuse_unread(argv, settings)
    cell = one_cell(overrides)
    refuse_cuts(cell.config, "a load test")
    order = Order(
        cell=cell, settings=settings, workload=load_workload(cell.config),
        out=Path(cell.config["out"] or default_out(f"load-{cell.label}")),
    )  # fmt: skip
    refuse_used(order.out)
    validate_out(order.out, 1, len(order.workload.lines))
    with ExitStack() as stack:
        lock = stack.enter_context(device_lock(order.device, cell.config["sweep"]["lock"], say))
        # A service that runs already may be on another machine, which says what it is itself
        with watching(order.out) if settings.url is None else nullcontext() as watch:
            report = in_process(order, stack) if settings.transport == "inprocess" else over_http(order, lock, stack)
    environment = watched(report.head["environment"], watch, order.out)
    report = replace(report, head={**report.head, "environment": environment})
    exit_code = publish(report, order.out)
    sync_tracking(order.config, order.out)
    return exit_code


def refuse_used(out: Path) -> None:
    for name in ("load.json", "requests.jsonl"):
        if (out / name).exists():
            raise ConfigError(
                "out", out, f"already holds {name}, and nothing measured is overwritten", "choose another"
            )


def in_process(order: Order, stack: ExitStack) -> LoadReport:
    """The engine in this process, on a thread of its own."""
    clock = make_clock(order.device)
    journal = open_journal(order, stack)
    world = stack.enter_context(EngineWorld(lambda: build_by_name(order.config, clock), order.workload.requests, clock))
    rule = order.settings.rule(world.facts.max_batch)
    facts = facts_content(world.facts)
    bench = make_bench(order, world, rule, journal, built_facts(facts), lambda: counted(world.facts.proof))
    result = run_scenario(bench)
    journal.append("facts", facts_content(world.facts))
    return make_report(order, built_facts(facts_content(world.facts)), result, bench.check)


def over_http(order: Order, lock: int, stack: ExitStack) -> LoadReport:
    """The engine in a service of its own, or in one that runs already (url=)."""
    try:
        from experiments.load import over_http as load_service
    except ImportError as error:
        raise UnsupportedEngine(f"a load over HTTP needs {error.name}", "pip install '.[serve]'") from error
    return load_service.over_http(order, lock, stack)


def publish(report: LoadReport, out: Path) -> int:
    """The files first: what is printed is on the disk already."""
    write_report(report, out)
    print(markdown_of(report), end="")
    print(f"\nrecord  {out / 'load.json'}")
    return exit_code(report)


def exit_code(report: LoadReport) -> int:
    result = report.result
    if report.invalid:
        complain(f"invalid audio: {report.invalid[0]}")
        return EXIT_JOB_FAILED
    if report.void is not None:
        complain(f"the load is not valid: {report.void}; set the board as it was and run it again")
        return EXIT_ENVIRONMENT
    if result.unsteady is not None:
        complain(f"the engine was not steady: {result.unsteady}")
        return EXIT_JOB_FAILED
    if report.gone is not None:
        complain(report.gone)
        return EXIT_JOB_FAILED
    if result.errors is not None:
        complain(f"the load is not valid: {result.errors}; every request with its reason is in requests.jsonl")
        return EXIT_JOB_FAILED
    if report.cold is None and not any(level.summary.num_ok for level in result.levels):
        complain("no request was answered; the reasons are in requests.jsonl")
        return EXIT_JOB_FAILED
    target = None if result.target is None else result.target.outcome
    if (result.leak is not None and result.leak.outcome == "leak") or target == "fails":
        return EXIT_REGRESSION
    unsure = (result.leak is not None and result.leak.outcome == "cannot tell") or (
        result.search is not None and result.search.outcome == "cannot tell"
    )
    unsure = unsure or target == "cannot tell"
    return EXIT_UNSURE if unsure else EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
