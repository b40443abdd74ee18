"""A fleet of Ray on this machine alone: a head and several nodes, each with its own cores, locks and cache.

What differs between nodes is real: a node of one core has another host class than one of two.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from experiments.fleet.cluster import CALM, ray_module
from experiments.fleet.facts import LOOPBACK, offered

STORE_BYTES = 80_000_000
TOKEN = secrets.token_hex(32)  # one a process: Ray reads it once
# Ray's own ports of a node: one that is asked for is not waited for
PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


class LocalFleet:
    """A context manager. nodes: what add gave, by name."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None):
        self._folder, self._environment = folder, dict(environment or {})
        self.nodes: dict[str, Any] = {}
        self._cores: dict[str, Collection[int]] = {}

    def __enter__(self) -> LocalFleet:
        os.environ["RAY_AUTH_TOKEN"] = TOKEN
        ray_module()
        self._start_head()
        return self

    def _start_head(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, **_shared()}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, name: str, cores: Collection[int]) -> None:
        """A machine called `name` that may use these cores alone."""
        own = {
            **CALM, **self._environment, "F5BENCH_STATE_DIR": str(self._folder / name / "locks"),
            "F5BENCH_CACHE": str(self._folder / name / "cache"),
        }  # fmt: skip
        self._cores[name] = cores
        with started_with(own, cores):
            self.nodes[name] = self._cluster.add_node(wait=False, num_cpus=1, resources=offered("cpu"), **_shared())

    def raylet(self, name: str) -> int:
        """The process whose death is the node's."""
        from ray._private.ray_constants import PROCESS_TYPE_RAYLET

        return int(self.nodes[name].all_processes[PROCESS_TYPE_RAYLET][0].process.pid)

    def kill_head(self) -> None:
        """As a head whose machine is switched off: what knows of all the others is gone."""
        from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER

        os.kill(self._cluster.head_node.all_processes[PROCESS_TYPE_GCS_SERVER][0].process.pid, signal.SIGKILL)

    def renew(self) -> None:
        """Another head, at another address, which the machines that there were have joined."""
        self._cluster.shutdown()
        self.nodes.clear()
        self._start_head()
        for name, cores in self._cores.items():
            self.add(name, cores)

    def remove(self, name: str) -> None:
        """As a machine that is switched off."""
        self._cluster.remove_node(self.nodes.pop(name), allow_graceful=False)


def _shared() -> dict[str, Any]:
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in PORTS]
        for one in taken:
            one.bind((LOOPBACK, 0))
        ports = [one.getsockname()[1] for one in taken]
    return {
        "node_ip_address": LOOPBACK, "object_store_memory": STORE_BYTES, **dict(zip(PORTS, ports, strict=True)),
    }  # fmt: skip


@contextmanager
def started_with(environment: Mapping[str, str], cores: Collection[int]) -> Iterator[None]:
    """What is started meanwhile has this environment and these cores."""
    before, had = os.sched_getaffinity(0), {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        for name, value in had.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
