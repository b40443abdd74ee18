"""Power beside a measurement: `python -m experiments.telemetry watch` shows what this machine can say of it.

    python -m experiments.telemetry watch --seconds 5       where watts come from here, and what is missing
    python -m experiments.telemetry import tegrastats.log   a log of your own in the form of telemetry.jsonl

On a Jetson every measured run has a telemetry.jsonl beside its journal: power and state once a second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, run_verb
from experiments.jetson.tree import Tree
from experiments.telemetry.backends import choose
from experiments.telemetry.board_state import read_state
from experiments.telemetry.importing import read_log, summary, write_log
from experiments.telemetry.sampler import TELEMETRY, Sampler
from reports.commands import VerbParser

MOST_HZ = 100.0


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.telemetry", description=__doc__)
    parser.add_argument("action", choices=["watch", "import"])
    parser.add_argument("log", nargs="?", type=Path, help="of tegrastats, for import")
    parser.add_argument("--out", type=Path, help="file to write; import: LOG.telemetry.jsonl beside the log")
    parser.add_argument("--interval-ms", type=float, default=1000.0, help="import: between lines without a date")
    parser.add_argument("--seconds", type=float, default=5.0, help="watch: how long")
    parser.add_argument("--hz", type=float, default=10.0, help="watch: samples of power a second")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"], help="watch: whose power")
    options = parser.parse_args(argv)
    if options.action == "import":
        return _import(options)
    if options.log is not None:
        raise ConfigError("LOG", options.log, "belongs to import", "leave it out")
    return _watch(options)


def _import(options: argparse.Namespace) -> int:
    if options.log is None:
        raise ConfigError("LOG", "nothing", "import needs the log", "name the file that tegrastats wrote")
    _positive("--interval-ms", options.interval_ms, 1e6)
    log = read_log(options.log, options.interval_ms / 1000)
    out = options.out or options.log.with_name(f"{options.log.name}.{TELEMETRY}")
    write_log(log, options.log, out)
    print("\n".join([*summary(log), f"wrote  {out}"]))
    return EXIT_OK


def _watch(options: argparse.Namespace) -> int:
    _positive("--seconds", options.seconds, 86400)
    _positive("--hz", options.hz, MOST_HZ)
    tree = Tree()
    backend = choose(options.device, tree)
    with tempfile.TemporaryDirectory() as folder:
        path = options.out or Path(folder) / TELEMETRY
        with Sampler(path, backend, lambda: read_state(tree), power_hz=options.hz):
            time.sleep(options.seconds)
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    print("\n".join(_seen(lines)))
    return EXIT_OK


def _seen(lines: Sequence[dict]) -> list[str]:
    """The head, then each rail's mean over what was sampled."""
    head, power = lines[0], [line for line in lines if line["kind"] == "power"]
    found = [f"source {head['source']}"]
    if head.get("rule"):
        found.append(f"total  by rule {head['rule']}: {' + '.join(head['total_of'])}")
    found += [f"sensor {chip['name']}: samples {chip['samples']}, {chip['update_interval_ms']} ms a value"
              for chip in head.get("chips", [])]  # fmt: skip
    for label in sorted({label for line in power for label in line.get("rails_w", {})}):
        values = [line["rails_w"][label] for line in power if label in line.get("rails_w", {})]
        found.append(f"rail   {label}: {statistics.fmean(values):.3f} W mean of {len(values)}")
    totals = [line["total_w"] for line in power if "total_w" in line]
    if totals:
        found.append(f"mean   {statistics.fmean(totals):.3f} W, {len(set(totals))} values of {len(totals)} are new")
    return [*found, *(f"none   {name}: {reason}" for name, reason in head.get("missing", {}).items())]


def _positive(key: str, value: float, most: float) -> None:
    if not 0 < value <= most:
        raise ConfigError(key, value, f"must be above 0 and at most {most:g}", "see --help")


if __name__ == "__main__":
    sys.exit(run_verb(main))
