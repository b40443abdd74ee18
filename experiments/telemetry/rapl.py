"""A processor's own energy counters (RAPL) by powercap. Since 2020 only root may read them (CVE-2020-8694)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.jetson.tree import NoValue, Tree
from experiments.telemetry.reading import Reading

ZONES = "sys/class/powercap/intel-rapl:*"
PACKAGE = "package-"
JOULES = 1e-6


@dataclass(frozen=True)
class Rapl:
    """zones: name of a package -> its folder. Zones inside a package (core, uncore, dram) and psys, which packages are
    inside of, are not added to anything, so they are not read."""

    tree: Tree
    zones: tuple[tuple[str, str], ...]
    source: str = "rapl"

    @classmethod
    def find(cls, tree: Tree) -> Rapl:
        """Raises NoValue where there is no package whose counter this user may read."""
        zones = []
        for folder in tree.names(ZONES):
            if folder.count(":") == 1 and (name := tree.text(f"{folder}/name")).startswith(PACKAGE):
                tree.number(f"{folder}/energy_uj")
                zones.append((name, folder))
        if not zones:
            raise NoValue("/sys/class/powercap: holds no package of a processor")
        return cls(tree, tuple(zones))

    def head(self) -> dict[str, Any]:
        spans, missing = {}, {}
        for name, folder in self.zones:
            try:
                spans[name] = self.tree.number(f"{folder}/max_energy_range_uj") * JOULES
            except NoValue as error:
                missing[name] = str(error)
        names = [name for name, _ in self.zones]
        return {"rule": "packages", "total_of": names, "span_j": spans, "missing": missing}

    def read(self) -> Reading:
        counters_j, missing = {}, {}
        for name, folder in self.zones:
            try:
                counters_j[name] = self.tree.number(f"{folder}/energy_uj") * JOULES
            except NoValue as error:
                missing[name] = str(error)
        return Reading(counters_j=counters_j, missing=missing)
