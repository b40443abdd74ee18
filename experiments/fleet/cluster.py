"""The fleet on Ray: which machines there are, a relay on each that a sweep uses, and what becomes of one that is lost.

Ray carries lines and counts who is alive. A relay holds its machine (the resource f5_device, and every f5_host) for as
long as the sweep lasts, as a sweep on its own machine holds the device lock; nothing of a measurement is a Ray task.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from engine.contract import ConfigError
from engine.paths import ROOT
from experiments.common.plain import LauncherSettings
from experiments.common.repository import git_state
from experiments.fleet import relay
from experiments.fleet.facts import DEVICE, RESOURCE
from experiments.fleet.machines import HeadLost, Machine, MachineLost
from experiments.fleet.travel import code_archive
from metrics.parts.environment import Commit

ADDRESS = "RAY_ADDRESS"
INSTALL = "pip install -c constraints.txt -e '.[ray]'"
START = "python -m experiments.fleet head"
# Whoever calls shows a token: Ray listens on every interface, and who reaches it can run code. RAY_AUTH_MODE=disabled
# in the environment is for a fleet of somebody else's that asks for none
TOKENS = {"RAY_AUTH_MODE": "token"}
# Ray's own defaults, for one machine: what is printed by workers goes to their logs, nobody is told at a start
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
# Of a machine that measures: Ray looks at nothing ten times a second there, and ends no process for want of memory
CALM = {
    "RAY_memory_monitor_refresh_ms": "0", "RAY_event_stats": "0", "RAY_task_events_report_interval_ms": "0",
    "RAY_enable_metrics_collection": "0", "RAY_metrics_report_interval_ms": "60000",
    "RAY_raylet_report_resources_period_milliseconds": "1000", "RAY_raylet_check_gc_period_milliseconds": "10000",
}  # fmt: skip
# Ray would end this very process when its head has not answered for a minute; whoever measures ends by itself, and
# says what is kept
PATIENT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
CONNECT_S = 10.0
HEAD_S = 20.0  # a head that has not answered by then is lost; machines themselves leave one after a minute
HELD_S = 20.0  # a machine that has not answered by then is said to be held


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A machine that has joined. classes: its host classes, as it named them when it joined."""

    node_id: str
    address: str
    classes: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people; several nodes of one machine share its address."""
        return f"{self.address} ({self.node_id[:6]})"

    @property
    def kinds(self) -> list[str]:
        """cpu, cuda:0: the devices of its host classes."""
        last = {name.rpartition("-")[2] for name in self.classes}
        return sorted("cuda:0" if kind == "cuda" else kind for kind in last)


def ray_module() -> ModuleType:
    """Raises ConfigError where Ray is not installed."""
    wanted = {**QUIET, **TOKENS}  # which Ray reads as it is imported
    os.environ.update({name: os.environ.get(name, value) for name, value in wanted.items()})
    try:
        import ray
    except ImportError as error:
        raise ConfigError("launcher", "ray", f"needs a package that is not installed ({error.name})", INSTALL) from None
    return ray


@dataclass(slots=True, eq=False)
class Cluster:
    """A connection. code: what a relay starts with, as a reference of Ray's; git: the commit that it is of. opened: the
    relays by node."""

    ray: ModuleType
    code: Any
    git: Commit
    opened: dict[str, Machine] = field(default_factory=dict)

    def nodes(self) -> list[Node]:
        """The machines that are alive, those with a host class alone. Raises HeadLost."""
        found = []
        for node in _answered(self.ray.nodes):
            names = [name.removeprefix(RESOURCE) for name in node["Resources"] if name.startswith(RESOURCE)]
            if node["Alive"] and names:
                found.append(
                    Node(node_id=node["NodeID"], address=node["NodeManagerAddress"], classes=tuple(sorted(names)))
                )
        return sorted(found, key=lambda node: (node.address, node.node_id))

    def reach(self, node: Node) -> Machine:
        """A relay on the machine, once for each; it answers when no other sweep holds the machine."""
        if node.node_id not in self.opened:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            held = {DEVICE: 1, **{f"{RESOURCE}{name}": 1 for name in node.classes}}
            where = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
            actor = self.ray.remote(relay.Relay).options(
                num_cpus=0, resources=held, max_restarts=0, scheduling_strategy=where
            ).remote(self.code)  # fmt: skip
            self.opened[node.node_id] = Machine(
                name=node.name, talk=lambda line: self._talk(node, actor, line),
                close=lambda: self._close(node, actor), git=self.git,
            )  # fmt: skip
        return self.opened[node.node_id]

    def _talk(self, node: Node, actor: Any, request: str) -> Iterator[str]:
        from ray.exceptions import RayError

        try:
            answers = actor.talk.options(num_returns="streaming").remote(request)
            for answer in answers:
                yield self.ray.get(answer)
        except RayError as error:
            raise MachineLost(f"{node.name}: {_said(error)}") from error

    def _close(self, node: Node, actor: Any) -> None:
        self.opened.pop(node.node_id, None)
        self.ray.kill(actor)


def _answered(ask: Callable[[], list[dict[str, Any]]], patience_s: float = HEAD_S) -> list[dict[str, Any]]:
    """What the head says. Ray asks for ever, so somebody else waits for it. Raises HeadLost."""
    answers: list[list[dict[str, Any]]] = []
    asking = threading.Thread(target=lambda: answers.append(ask()), name="asks the head", daemon=True)
    asking.start()
    asking.join(patience_s)
    if not answers:
        raise HeadLost(f"the head of the fleet has not answered for {patience_s:g} s")
    return answers[0]


def _said(error: Exception) -> str:
    """Ray's message without its pages of advice."""
    cause = getattr(error, "cause", None)
    lines = [line.strip() for line in str(cause or error).splitlines() if line.strip()]
    return lines[-1] if cause is not None and lines else (lines or [type(error).__name__])[0]


@contextmanager
def connected(settings: LauncherSettings, more: Collection[str] = ()) -> Iterator[Cluster]:
    """A connection to the fleet's head; code travels with it. more: packages beside ours, for workers of tests.

    Raises ConfigError where Ray is not installed, no head is named, or none answers.
    """
    with _environment(PATIENT):
        ray = ray_module()
    address = settings.get("address") or os.environ.get(ADDRESS)
    if not address:
        raise ConfigError(
            "launcher.address", "null", "names no fleet, and RAY_ADDRESS is not set",
            f"start one with `{START}`, then launcher.address=HOST:PORT",
        )  # fmt: skip
    try:
        _refuse_silent(address)
        ray.init(
            address=address,
            namespace="f5bench",
            log_to_driver=False,
            logging_level="error",
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            "launcher.address", address, f"no fleet answers there ({_said(error)})", f"start one with `{START}`"
        ) from error
    try:
        ray.cloudpickle.register_pickle_by_value(relay)
        yield Cluster(ray, ray.put(code_archive(more)), git_state(ROOT))
    finally:
        ray.shutdown()


def _refuse_silent(address: str) -> None:
    """Raises OSError where nobody listens: Ray itself would ask until it gives up for good."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():  # else one of Ray's own words, such as auto
        socket.create_connection((host.rpartition("/")[2], int(port)), CONNECT_S).close()


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """What Ray reads as it is imported, and nobody after it."""
    fresh = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for name in fresh:
            del os.environ[name]


def free_classes(available: Mapping[str, float]) -> dict[str, int]:
    """Host class -> machines that nobody holds, from what Ray says is available."""
    return {name.removeprefix(RESOURCE): int(count) for name, count in available.items() if name.startswith(RESOURCE)}
