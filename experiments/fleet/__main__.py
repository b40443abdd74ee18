"""A fleet of machines that measure for one sweep: `python -m experiments.fleet head`, `join HOST:PORT`, `status`.

    python -m experiments.fleet head                      on the machine that sweeps are started from
    python -m experiments.fleet join HOST:PORT            on every machine that measures; doctor first
    python -m experiments.fleet join HOST:PORT cuda       its GPU alone
    python -m experiments.fleet status [--address HOST:PORT]
    python -m experiments.sweep launcher=ray launcher.address=HOST:PORT 'sweep.hosts=[jetson-*,nvidia-*]'

head and join stay in the foreground: Ctrl-C leaves. Without --listen they are reached by loopback; Ray's servers listen
on every interface whatever they are told, so whoever calls has to show Ray's token (~/.ray/auth_token).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from experiments.common.cli import EXIT_ENVIRONMENT, EXIT_OK, note, run_verb
from experiments.common.processes import module_environment
from experiments.fleet.cluster import ADDRESS, CALM, QUIET, TOKENS, Cluster, connected, free_classes, ray_module
from experiments.fleet.facts import LOOPBACK, RESOURCE, offered
from experiments.fleet.relay import PYTHON
from reports.commands import VerbParser, typed

PORT = 6379
# A board's memory is for the model: Ray takes a third of it where it is not told otherwise
STORE_BYTES = 100_000_000


RAY = (sys.executable, "-m", "ray.scripts.scripts")


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    return int(options.act(options))


def _parser() -> VerbParser:
    parser = VerbParser(prog="python -m experiments.fleet", description=__doc__)
    acts = parser.add_subparsers(metavar="head|join|status", required=True)
    head = acts.add_parser("head", help="start a fleet on this machine, which measures nothing itself")
    head.add_argument("--listen", default=LOOPBACK, help="the address that machines reach (default: loopback)")
    head.add_argument("--port", type=int, default=PORT)
    head.set_defaults(act=start_head)
    join = acts.add_parser("join", help="let this machine measure for a fleet")
    join.add_argument("address", metavar="HOST:PORT")
    join.add_argument("device", nargs="?", choices=("cpu", "cuda", "both"), default=None,
                      help="what it offers (default: its GPU where it has one, else its CPU)")  # fmt: skip
    join.add_argument("--listen", default=LOOPBACK, help="this machine's address as the head reaches it")
    join.add_argument("--python", default=sys.executable, help="the interpreter of the benchmark here")
    join.set_defaults(act=join_fleet)
    status = acts.add_parser("status", help="which host classes there are, and how many machines are free")
    status.add_argument("--address", default=None, help="HOST:PORT of the head (default: RAY_ADDRESS)")
    status.set_defaults(act=show_status)
    return parser


def start_head(options: argparse.Namespace) -> int:
    """Ray's own command, in the foreground. It measures nothing, so nothing is scheduled there."""
    command = [
        "--head", f"--node-ip-address={options.listen}", f"--port={options.port}", "--num-cpus=0", "--num-gpus=0",
        "--include-dashboard=false",
    ]  # fmt: skip
    note(f"machines join with: {typed('experiments.fleet', 'join', f'{options.listen}:{options.port}')}")
    return _ray_start(command, options.listen)


def join_fleet(options: argparse.Namespace) -> int:
    """Doctor first: a machine whose core does not work joins nothing."""
    checked = subprocess.run(
        [options.python, "-m", "experiments.doctor"], env=module_environment(), stdin=subprocess.DEVNULL, check=False
    )
    if checked.returncode != EXIT_OK:
        note("error: join: the core does not work here, see above; this machine does not join")
        return EXIT_ENVIRONMENT
    resources = offered(options.device)
    names = ", ".join(name.removeprefix(RESOURCE) for name in resources if name.startswith(RESOURCE))
    note(f"{options.address}: joins as {names}")
    os.environ[PYTHON] = options.python
    command = [
        f"--address={options.address}", f"--node-ip-address={options.listen}", "--num-cpus=1", "--num-gpus=0",
        f"--resources={json.dumps(resources)}",
    ]  # fmt: skip
    return _ray_start(command, options.listen, CALM)


def _ray_start(command: Sequence[str], listen: str, settings: Mapping[str, str] = MappingProxyType({})) -> int:
    """Until Ctrl-C, or until Ray ends. Callers have to show Ray's token, as its servers listen on every interface
    whatever they are told; on loopback one is made for this user where there is none."""
    ray_module()
    environment = {**TOKENS, **os.environ, **QUIET, **settings}
    if listen == LOOPBACK:
        subprocess.run([*RAY, "get-auth-token", "--generate"], env=environment, capture_output=True, check=False)
    store = f"--object-store-memory={STORE_BYTES}"
    return subprocess.run(
        [*RAY, "start", *command, store, "--block"],
        env=environment, stdin=subprocess.DEVNULL, check=False,
    ).returncode  # fmt: skip


def show_status(options: argparse.Namespace) -> int:
    """Asks the head alone: no machine that may be measuring is disturbed."""
    if options.address:
        os.environ[ADDRESS] = options.address
    with connected({"name": "ray", "address": options.address}) as cluster:
        print("\n".join(status_lines(cluster, cluster.ray.available_resources())))
    return EXIT_OK


def status_lines(cluster: Cluster, available: Mapping[str, float]) -> list[str]:
    """A line for every host class."""
    nodes, free = cluster.nodes(), free_classes(available)
    classes = sorted({name for node in nodes for name in node.classes})
    if not classes:
        return ["no machine has joined yet: `python -m experiments.fleet join HOST:PORT` on each"]
    lines = []
    for name in classes:
        there = [node.name for node in nodes if name in node.classes]
        lines.append(f"{name}: {len(there)} joined, {free.get(name, 0)} free: {', '.join(there)}")
    return lines


if __name__ == "__main__":
    sys.exit(run_verb(main))
