"""A Jetson's power rails: INA3221 and INA238 by hwmon, and the INA3221 of JetPack 4 by iio. Without root.

The chip averages: NVIDIA's power-on script sets `samples` and `update_interval` (kernel, Documentation/hwmon/
ina3221.rst). Reading faster than that gives copies, so both stand with every figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.jetson.tree import NoValue, Tree
from experiments.telemetry.reading import Reading
from metrics.power.rails import UNUSED, NoRule, Rule, rule_of, total
from metrics.power.telemetry import Chip

INA3221_CHANNELS = (1, 2, 3)  # in4 to in6 are voltages over the shunts, in7 is their sum
IIO_CHANNELS = (0, 1, 2)
WATTS = {"uW": 1e-6, "mW": 1e-3}
MV_MA = 1e-6


@dataclass(frozen=True, kw_only=True)
class Rail:
    """files: of its power, or of voltage (mV) and current (mA), whose product it is. scale: watts in one of that."""

    label: str
    files: tuple[str, ...]
    scale: float

    def watts(self, tree: Tree) -> float:
        """Raises NoValue, also for a power below 0: a current flows one way here, so the sensor is wrong."""
        watts = self.scale
        for name in self.files:
            watts *= tree.number(name)
        if watts < 0:
            raise NoValue(f"/{self.files[-1]}: gives {watts:g} W, which no rail uses")
        return watts


@dataclass(frozen=True, kw_only=True)
class JetsonRails:
    """rule: None where the rails that are here make no total that is known; rule_missing says why."""

    tree: Tree
    rails: tuple[Rail, ...]
    rule: Rule | None
    rule_missing: str | None
    chips: tuple[Chip, ...]
    unreadable: Mapping[str, str]
    source: str = "rails"

    @classmethod
    def find(cls, tree: Tree, family: str) -> JetsonRails:
        """Raises NoValue where there is no rail at all that can be read."""
        unreadable: dict[str, str] = {}
        rails, chips = _found(tree, unreadable)
        if not rails:
            said = "; ".join(unreadable.values())
            raise NoValue(said or "/sys/class/hwmon: holds no power sensor of a Jetson (ina3221, ina238)")
        rule, rule_missing = None, None
        try:
            rule = rule_of([rail.label for rail in rails], family)
        except NoRule as error:
            rule_missing = str(error)
        return cls(
            tree=tree, rails=tuple(rails), rule=rule, rule_missing=rule_missing, chips=tuple(chips),
            unreadable=unreadable,
        )  # fmt: skip

    @property
    def update_interval_s(self) -> float | None:
        """The slowest chip's, None where none says."""
        known = [ms for chip in self.chips if (ms := chip["update_interval_ms"]) is not None]
        return max(known) / 1000 if known else None

    def head(self) -> dict[str, Any]:
        missing = dict(self.unreadable)
        if self.rule_missing is not None:
            missing["total"] = self.rule_missing
        return {
            "rule": None if self.rule is None else self.rule.name,
            "total_of": [] if self.rule is None else list(self.rule.rails),
            "rails": {rail.label: list(rail.files) for rail in self.rails},
            "chips": list(self.chips), "missing": missing,
        }  # fmt: skip

    def read(self) -> Reading:
        rails_w: dict[str, float] = {}
        missing: dict[str, str] = {}
        for rail in self.rails:
            try:
                rails_w[rail.label] = rail.watts(self.tree)
            except NoValue as error:
                missing[rail.label] = str(error)
        total_w = None if self.rule is None else total(rails_w, self.rule)
        return Reading(rails_w=rails_w, total_w=total_w, missing=missing)


def _found(tree: Tree, unreadable: dict[str, str]) -> tuple[list[Rail], list[Chip]]:
    rails: dict[str, Rail] = {}
    chips: list[Chip] = []
    for name in tree.names("sys/class/hwmon/hwmon*/name"):
        folder = name.rpartition("/")[0]
        if tree.text_or_none(name) == "ina3221":
            chips.append(_chip(tree, folder, "ina3221"))
            _add(tree, rails, _ina3221(tree, folder, unreadable), unreadable)
    for name in tree.names("sys/bus/i2c/drivers/ina238/*/hwmon/hwmon*/power1_input"):
        chips.append(_chip(tree, name.rpartition("/")[0], "ina238"))
        _add(tree, rails, [Rail(label="VIN", files=(name,), scale=WATTS["uW"])], unreadable)
    for name in tree.names("sys/bus/i2c/drivers/ina3221x/*/iio:device*"):
        chips.append({"name": "ina3221x", "samples": None, "update_interval_ms": None})
        _add(tree, rails, _iio(tree, name), unreadable)
    return list(rails.values()), chips


def _add(tree: Tree, rails: dict[str, Rail], found: list[Rail], unreadable: dict[str, str]) -> None:
    """A rail whose sensor does not answer now is none: a total that lacks it is no total."""
    for rail in found:
        try:
            rail.watts(tree)
        except NoValue as error:
            unreadable[rail.label] = str(error)
            continue
        if rail.label in rails:
            raise NoValue(f"/{rail.files[0]}: is called {rail.label}, as another rail is: which is meant is not known")
        rails[rail.label] = rail


def _ina3221(tree: Tree, folder: str, unreadable: dict[str, str]) -> list[Rail]:
    found = []
    for number in INA3221_CHANNELS:
        voltage, current = f"{folder}/in{number}_input", f"{folder}/curr{number}_input"
        label = tree.text_or_none(f"{folder}/in{number}_label")
        if label is None:
            if tree.has_file(voltage):
                unreadable[f"{folder.rpartition('/')[2]} channel {number}"] = f"/{folder}/in{number}_label: has no name"
        elif label not in ("", UNUSED):
            found.append(Rail(label=label, files=(voltage, current), scale=MV_MA))
    return found


def _iio(tree: Tree, folder: str) -> list[Rail]:
    names = {number: tree.text_or_none(f"{folder}/rail_name_{number}") for number in IIO_CHANNELS}
    return [
        Rail(label=label, files=(f"{folder}/in_power{number}_input",), scale=WATTS["mW"])
        for number, label in names.items()
        if label not in (None, "", UNUSED)
    ]


def _chip(tree: Tree, folder: str, name: str) -> Chip:
    return {
        "name": name, "samples": tree.number_or_none(f"{folder}/samples"),
        "update_interval_ms": tree.number_or_none(f"{folder}/update_interval"),
    }  # fmt: skip
