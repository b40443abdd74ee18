"""What the loads in this process and over HTTP share: what was asked for, the bench, the report's head."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from experiments.common.environment import fingerprint, now_iso
from experiments.common.journal import JournalWriter
from experiments.common.plain import Config
from experiments.load.audio import AudioCheck
from experiments.load.driver import Item, World
from experiments.load.report import LoadReport
from experiments.load.scenarios import Bench, Result
from experiments.load.stored import AskedLoad, Head
from experiments.serve.line import BatchRule
from experiments.serve.settings import Load
from experiments.settings.compose import Cell
from experiments.workload.requests import Workload
from metrics.parts.environment import Environment
from metrics.parts.facts import Facts
from metrics.speed.memory import read_memory

Counters = Callable[[], Mapping[str, int]]


class BuiltFacts(Facts, total=False):
    """What an engine or a service says of itself. environment: of the service's machine."""

    environment: Environment


def built_facts(content: Mapping[str, object]) -> BuiltFacts:
    return cast(BuiltFacts, content)


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What was asked for on the command line, checked."""

    cell: Cell
    settings: Load
    workload: Workload
    out: Path

    @property
    def config(self) -> Config:
        return self.cell.config

    @property
    def device(self) -> str:
        return str(self.cell.config["device"]["kind"])


def open_journal(order: Order, stack: ExitStack) -> JournalWriter:
    journal = stack.enter_context(JournalWriter(order.out / "requests.jsonl"))
    journal.append("start", {"created": now_iso(), "label": order.cell.label, "settings": order.settings.model_dump()})
    return journal


def make_bench(
    order: Order, world: World, rule: BatchRule, journal: JournalWriter, facts: BuiltFacts, counters: Counters
) -> Bench:
    """counters: of the engine as they are by now (metrics.speed.steady). Raises ConfigError for batches that the engine
    does not take."""
    batch_sizes = order.settings.batch_sizes(facts["max_batch"]) if order.settings.scenario == "batches" else ()
    lines = order.workload.lines
    return Bench(
        items=[Item(utterance_id=line.utterance_id, num_chars=len(line.text)) for line in lines],
        texts={line.utterance_id: line.text for line in lines},
        world=world,
        rule=rule,
        max_batch=rule.max_batch,
        journal=journal,
        check=AudioCheck(
            config=order.config,
            lines=lines,
            folder=order.out,
            random_weights=bool(facts["random_weights"]),
            voice_dc=order.workload.voice_dc,
        ),
        settings=order.settings,
        read_pss=lambda: read_memory().pss_bytes,
        say=say,
        counters=counters,
        batch_sizes=batch_sizes,
    )


def make_report(
    order: Order, facts: BuiltFacts, result: Result, check: AudioCheck, calls_before: object = 0
) -> LoadReport:
    """calls_before: what the engine had counted when the load began."""
    if check.num_heard and facts["proof"].get("calls") == calls_before:
        check.invalid.append("the engine counted no call: its answers were made before")
    head: Head = {
        "created": now_iso(),
        "settings": cast(AskedLoad, order.settings.model_dump()),
        "config": order.config,
        "facts": cast(Facts, {name: value for name, value in facts.items() if name != "environment"}),
        # A service says what it runs on; without a service it is this process
        "environment": facts.get("environment") or fingerprint(order.config["device"]),
        "workload": order.workload.describe(),
    }
    return LoadReport(
        label=order.cell.label, head=head, result=result, num_heard=check.num_heard, num_distinct=check.num_distinct,
        invalid=tuple(check.invalid),
    )  # fmt: skip


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
