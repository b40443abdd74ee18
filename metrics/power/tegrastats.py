"""One line of NVIDIA's tegrastats -> what it says. JetPack 4 to 7.2, with root and without.

A line has no grammar of its own; its fields are told apart by their shape. Each is taken from the left by the first
shape that fits, and what fits none is refused by name: a field that is skipped might have been power.

    RAM 18207/62841MB (lfb 466x4MB)    SWAP 86/31420MB (cached 0MB)    IRAM 0/255kB(lfb 255kB)
    CPU [14%@2188,off]                 MTS fg 1% bg 1%
    cpu@52.562C   tj@35.9C/36.1C (now and highest; -256C: the zone is switched off)
    VDD_IN 5251mW/8535mW   VDD_IN 5297/5297   VDD_GPU 1mW/1mW/1mW (now, average, highest since it was started)
    GR3D_FREQ 99%@[612]   EMC_FREQ 3%@2133   EMC_FREQ 0%   NVENC0_FREQ @1556   VIC 36%@115   APE 174   VIC off

Times are those of the board's clock, without a zone. JetPack's own sources are closed: shapes and the meaning of the
third value are read off recorded lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypedDict

from metrics.power.rails import UNUSED

OFF_C = -256.0
DATE_FORMAT = "%m-%d-%Y %H:%M:%S"
SHOWN_CHARS = 40

_NAME = r"(?P<name>[A-Za-z]\w*)"
_MHZ = r"(?P<mhz>\[\d+(?:,\d+)*\]|\d+)"
_SHAPES: tuple[tuple[str, str], ...] = (
    ("date", r"(?P<date>\d\d-\d\d-\d{4} \d\d:\d\d:\d\d)"),
    ("ram", r"RAM (?P<used>\d+)/(?P<total>\d+)MB ?\(lfb \d+x\d+[kM]B\)"),
    ("swap", r"SWAP (?P<used>\d+)/(?P<total>\d+)MB ?\(cached \d+MB\)"),
    ("iram", r"IRAM \d+/\d+kB ?\(lfb \d+kB\)"),
    ("cpu", r"CPU \[(?P<cores>[^\]]*)\]"),
    ("mts", r"MTS fg \d+% bg \d+%"),
    ("temperature", rf"{_NAME}@(?P<now>-?\d+(?:\.\d+)?)C(?:/(?P<most>-?\d+(?:\.\d+)?)C)?"),
    ("rail", rf"{_NAME} (?P<now>\d+)(?:mW)?/(?P<average>\d+)(?:mW)?(?:/(?P<most>\d+)(?:mW)?)?"),
    ("rail", rf"{_NAME} (?P<now>\d+)mW"),
    ("load", rf"{_NAME} (?P<percent>\d+)%(?:@{_MHZ})?"),
    ("load", rf"{_NAME} @{_MHZ}"),
    ("load", rf"{_NAME} (?P<mhz>\d+)"),
    ("off", rf"{_NAME} off"),
)
# Behind a field comes a blank or nothing: "5mW/" is no rail of 5 mW with something else behind it
_PATTERNS = tuple((kind, re.compile(rf"{shape}(?=\s|$)")) for kind, shape in _SHAPES)
_CORE = re.compile(r"(\d+)%@(\d+)")


class UnknownForm(ValueError):
    """A line that is none of tegrastats, or has a field of a shape that is not known; its text names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rail:
    """Milliwatts. average and most are since tegrastats was started, None where the line does not say."""

    now_mw: float
    average_mw: float | None = None
    most_mw: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Of a CPU core, the GPU, the memory controller or another unit. mhz: one a cluster, () where it is not said."""

    percent: float | None
    mhz: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tegrastats:
    """What a line says; None and empty where it does not. MB as tegrastats counts them, degrees Celsius.

    cores: None for one that is switched off. gated: temperature zones that are. off: units that are. rails: every one
    with its label, whether or not a rule knows it.
    """

    date: datetime | None = None
    ram_mb: tuple[int, int] | None = None
    swap_mb: tuple[int, int] | None = None
    cores: tuple[Load | None, ...] = ()
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    gated: tuple[str, ...] = ()
    rails: Mapping[str, Rail] = field(default_factory=dict)
    loads: Mapping[str, Load] = field(default_factory=dict)
    off: tuple[str, ...] = ()

    @property
    def rails_mw(self) -> dict[str, float]:
        """The values of now."""
        return {name: rail.now_mw for name, rail in self.rails.items()}


def parse_tegrastats(line: str) -> Tegrastats:
    """Raises UnknownForm."""
    found = _Gathered()
    for kind, match in _fields(line):
        getattr(found, f"take_{kind}")(match)
    if not found.once:
        raise UnknownForm("an empty line is none of tegrastats")
    return Tegrastats(
        temperatures_c=found.temperatures_c, gated=tuple(found.gated), rails=found.rails, loads=found.loads,
        off=tuple(found.off), **found.single,
    )  # fmt: skip


def _fields(line: str) -> Iterator[tuple[str, re.Match[str]]]:
    place, text = 0, line.strip()
    while place < len(text):
        for kind, pattern in _PATTERNS:
            match = pattern.match(text, place)
            if match is not None:
                yield kind, match
                place = match.end()
                break
        else:
            raise UnknownForm(f"{text[place : place + SHOWN_CHARS]!r} is no field of tegrastats that is known here")
        while place < len(text) and text[place].isspace():
            place += 1


class _Single(TypedDict, total=False):
    """Fields of Tegrastats that a line has once."""

    date: datetime
    ram_mb: tuple[int, int]
    swap_mb: tuple[int, int]
    cores: tuple[Load | None, ...]


class _Gathered:
    """The state of a reading: one method a kind of field."""

    def __init__(self) -> None:
        self.single: _Single = {}
        self.once: set[str] = set()
        self.temperatures_c: dict[str, float] = {}
        self.gated: list[str] = []
        self.rails: dict[str, Rail] = {}
        self.loads: dict[str, Load] = {}
        self.off: list[str] = []

    def _note(self, kind: str, name: str = "") -> str:
        """Two values for one name: which is meant cannot be known."""
        key = f"{kind} {name}".strip()
        if key in self.once:
            raise UnknownForm(f"{key} stands twice in a line of tegrastats")
        self.once.add(key)
        return name

    def take_date(self, match: re.Match[str]) -> None:
        self._note("date")
        try:
            self.single["date"] = datetime.strptime(match["date"], DATE_FORMAT)
        except ValueError:
            raise UnknownForm(f"{match['date']!r} is no month-day-year and time") from None

    def take_ram(self, match: re.Match[str]) -> None:
        self._note("RAM")
        self.single["ram_mb"] = (int(match["used"]), int(match["total"]))

    def take_swap(self, match: re.Match[str]) -> None:
        self._note("SWAP")
        self.single["swap_mb"] = (int(match["used"]), int(match["total"]))

    def take_iram(self, match: re.Match[str]) -> None:
        self._note("IRAM")

    def take_mts(self, match: re.Match[str]) -> None:
        self._note("MTS")

    def take_cpu(self, match: re.Match[str]) -> None:
        self._note("CPU [")
        self.single["cores"] = tuple(_core(text) for text in match["cores"].split(","))

    def take_temperature(self, match: re.Match[str]) -> None:
        name = self._note("temperature", match["name"])
        if float(match["now"]) == OFF_C:
            self.gated.append(name)
        else:
            self.temperatures_c[name] = float(match["now"])

    def take_rail(self, match: re.Match[str]) -> None:
        if match["name"] == UNUSED:
            self.once.add("rail")
            return
        values = {key: float(value) for key, value in match.groupdict().items() if key != "name" and value is not None}
        name = self._note("rail", match["name"])
        self.rails[name] = Rail(
            now_mw=values["now"], average_mw=values.get("average"), most_mw=values.get("most")
        )  # fmt: skip

    def take_load(self, match: re.Match[str]) -> None:
        groups = match.groupdict()
        percent, mhz = groups.get("percent"), groups.get("mhz") or ""
        self.loads[self._note("load", match["name"])] = Load(
            percent=None if percent is None else float(percent), mhz=tuple(map(float, re.findall(r"\d+", mhz)))
        )

    def take_off(self, match: re.Match[str]) -> None:
        self.off.append(self._note("load", match["name"]))


def _core(text: str) -> Load | None:
    if text == "off":
        return None
    found = _CORE.fullmatch(text)
    if found is None:
        raise UnknownForm(f"CPU [{text[:SHOWN_CHARS]}]: a core is off or PERCENT%@MHZ")
    return Load(percent=float(found[1]), mhz=(float(found[2]),))
