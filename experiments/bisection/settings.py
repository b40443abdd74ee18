"""The command line of a walk: the two revisions, how far it may go, and what each of its comparisons is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from engine.contract import ConfigError
from experiments.compare.settings import COMPARE, SIDES
from experiments.settings.keys import key_of, resumed_folder
from experiments.settings.own import Own
from experiments.settings.typed import Group
from reports.commands import typed

FUNCTION = "function"  # the key that a walk over a function's revisions has, and one over engines has not
REVISIONS = ("good", "bad")
# What a walk says to every comparison itself, or cannot use: key of compare -> why
NOT_FOR_A_WALK = {
    "mode": "one set of processes decides nothing here", "pairs": "is of quick mode", "quick_looks": "is of quick mode",
    "false_alarm_frac": "is a share of bisect.wrong_frac", "miss_frac": "is a share of bisect.wrong_frac",
}  # fmt: skip


class Bisect(Group):
    """`bisect`; conf/bisect/walk.yaml says more of each key."""

    wrong_frac: float = Field(
        0.05, gt=0, lt=0.5, description="of walks that take a wrong turn, all comparisons together"
    )
    spare: int = Field(3, ge=0, le=64, description="comparisons for revisions that cannot be told")


BISECT = Own("bisect", Bisect, "walk")


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """words: what every comparison is told. out: None for a folder of today."""

    good: str
    bad: str
    words: tuple[str, ...]
    settings: Bisect
    out: Path | None

    @property
    def of_functions(self) -> bool:
        return any(word.startswith(f"{FUNCTION}=") for word in self.words)


def read_command(argv: Sequence[str]) -> Command:
    """good=REV [bad=REV] [bisect.KEY=VALUE], the rest for the comparisons. Raises ConfigError."""
    mine, rest = BISECT.split([word for word in argv if key_of(word) not in (*REVISIONS, "out")])
    for word in rest:
        _refuse(word)
    _refuse_unfit(rest)
    said = {key: word.partition("=")[2] for word in argv if (key := key_of(word)) in (*REVISIONS, "out")}
    if not said.get("good"):
        raise ConfigError("good", said.get("good", "(none)"), "names the revision that was fast", "write good=v1.0")
    out = said.get("out")
    return Command(
        good=said["good"], bad=said.get("bad") or "HEAD", words=tuple(rest), settings=BISECT.made(mine),
        out=None if out is None else Path(out),
    )  # fmt: skip


def composed_words(argv: Sequence[str]) -> list[str]:
    """What Hydra can show of a command line."""
    return [word for word in argv if "=" in word and key_of(word) not in (*REVISIONS, "resume")]


def resume_folder(argv: Sequence[str]) -> Path | None:
    """DIR of resume=DIR, None for a new walk. Raises ConfigError."""
    return resumed_folder(argv, "experiments.bisection")


def _refuse(word: str) -> None:
    """What would make the two sides differ by more than their revision, or is read by nobody."""
    key, _, value = word.partition("=")
    side, _, rest = key.partition(".")
    if side in SIDES and rest:
        remedy = "write it without a side; " + typed("experiments.compare", f"{key}={value}") + " compares variants"
        raise ConfigError(key, value, "a walk compares revisions of one and the same variant", remedy)
    if key == "revision":
        raise ConfigError(key, value, "is set by the walk", "write good=REV bad=REV")
    if key.partition(".")[0] == "tracking":
        raise ConfigError(key, value, "a walk is not logged", "leave it out; its folders hold everything")


def _refuse_unfit(words: Sequence[str]) -> None:
    for key in COMPARE.keys(words):
        if key in NOT_FOR_A_WALK:
            raise ConfigError(f"compare.{key}", "(set)", NOT_FOR_A_WALK[key], "leave it out")
    settings = COMPARE.made(COMPARE.split(words)[0])
    if settings.mode != "blocks":
        raise ConfigError("compare.mode", settings.mode, NOT_FOR_A_WALK["mode"], "leave it out")
    if len(settings.limits.metrics) > 1:
        remedy = "name one, such as compare.metrics=[wall_time]"
        raise ConfigError("compare.metrics", list(settings.limits.metrics), "a walk follows one", remedy)
