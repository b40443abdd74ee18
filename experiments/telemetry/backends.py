"""Where watts come from here: a Jetson's rails, NVIDIA's management library, a processor's counters, or nowhere.

Chosen once and named in every file. What a source cannot say is left out with its reason, never written as 0: NVML on
an Orin knows the GPU's name and no power, and a zero would be read as a figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from experiments.jetson.board import read_jetson
from experiments.jetson.tree import NoValue, Tree
from experiments.telemetry.nvml import open_nvml
from experiments.telemetry.rails import JetsonRails
from experiments.telemetry.rapl import Rapl
from experiments.telemetry.reading import Reading
from metrics.typed import part_of


class Backend(Protocol):
    """source: rails, nvml, rapl or none."""

    @property
    def source(self) -> str: ...

    def head(self) -> Mapping[str, object]:
        """What stands once at the head of a file: names, units, filters, the rule of the total, what is missing."""
        ...

    def read(self) -> Reading:
        """Now. Never raises for a sensor: each may fail alone."""
        ...


@dataclass(frozen=True)
class Nothing:
    """No source of power here, and why."""

    reasons: Mapping[str, str]
    source: str = field(default="none", init=False)

    def head(self) -> Mapping[str, object]:
        return {"missing": dict(self.reasons)}

    def read(self) -> Reading:
        return Reading()


def choose(kind: str, tree: Tree | None = None) -> Backend:
    """kind: cpu or cuda[:INDEX]. A Jetson's rails are of the whole board, so they are taken for both."""
    tree = Tree() if tree is None else tree
    board = read_jetson(tree)
    if board is not None:
        try:
            return JetsonRails.find(tree, board.family)
        except NoValue as error:
            return Nothing({"rails": str(error), "nvml": "has no power on a Jetson"})
    if kind != "cpu":
        try:
            return open_nvml(int(kind.partition(":")[2] or 0))
        except NoValue as error:
            return Nothing({"nvml": str(error)})
    try:
        return Rapl.find(tree)
    except NoValue as error:
        return Nothing({"rapl": str(error)})


def missing_power(head: Mapping[str, object]) -> str:
    """Why a source has no total, in one line. head: of a backend."""
    return "; ".join(str(reason) for reason in part_of(head, "missing").values()) or "nothing measures it"
