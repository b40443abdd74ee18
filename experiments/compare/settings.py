"""The command line of a comparison: the group `compare`, overrides of each side, revisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from baselines.paired.data import CANDIDATE, REFERENCE
from baselines.paired.rule import PairedLimits
from baselines.refused import SettingRefused
from engine.contract import ConfigError
from engine.keys import LONGEST_S
from experiments.settings.keys import key_of
from experiments.settings.own import Own
from experiments.settings.typed import Group

SEE = "see conf/compare/blocks.yaml"
UNREAD = ("measure", "quality", "gate", "stream", "experiment", "load", "serve")
SIDES = (REFERENCE, CANDIDATE)
FEWEST_PAIRS = 12
SERVED_BLOCKS = 4


class Compare(Group):
    """`compare`: how two sides are measured and judged; conf/compare/blocks.yaml says more of each key."""

    mode: Literal["blocks", "quick"] = Field("blocks", description="quick: one set of processes, on quiet hosts")
    ignore_ratio: float = Field(1.0, description="a change below it never fails beyond the budget")
    catch_ratio: float = Field(1.05, description="one of it never passes beyond the budget")
    false_alarm_frac: float = Field(0.005, description="of comparisons of unchanged code, all looks and metrics")
    miss_frac: float = Field(0.005, description="of comparisons of a change of catch_ratio")
    looks: list[int] = Field([4, 8, 16], description="blocks after which a verdict may fall")
    quick_looks: list[int] = Field([12, 24, 48, 96, 192], description="pairs, in quick mode")
    pairs: int | None = Field(None, ge=FEWEST_PAIRS, description="quick: one look at so many")
    se_floor_frac: float = Field(0.0015, description="no standard error is believed below it")
    metrics: str | list[str] = Field(["wall_time"], description="gated; cpu_time and, on CUDA, device_time besides")
    sentinel: bool = Field(False, description="the unchanged reference as a third side")
    pairs_per_block: int = Field(6, ge=1)
    sentences_per_block: int = Field(2, ge=1)
    blocks_per_server: int | None = Field(None, ge=1, description="blocks forked from one importing process")
    quiet_restart_frac: float = Field(0.005, gt=0, le=LONGEST_S)
    other_cpu_frac: float | None = Field(
        0.25, gt=0, le=1, description="of the cores, for other programs meanwhile; more is INVALID_ENV; null: any"
    )
    order_seed: int = Field(0, ge=0)
    call_limit_s: float = Field(300, gt=0, le=LONGEST_S, description="of one call or build")
    time_limit_s: float = Field(1800, gt=0, le=LONGEST_S, description="of the whole comparison")

    @model_validator(mode="after")
    def _pairs_are_of_quick_mode(self) -> Self:
        if self.pairs is not None and self.mode != "quick":
            remedy = "add compare.mode=quick, or set compare.pairs_per_block"
            raise ConfigError("compare.pairs", self.pairs, "counts the pairs of quick mode", remedy)
        return self

    @property
    def limits(self) -> PairedLimits:
        """What the rule is given. Raises ConfigError for limits that cannot be meant."""
        quick = [self.pairs] if self.pairs is not None else self.quick_looks
        try:
            return PairedLimits(
                mode=self.mode, ignore_ratio=self.ignore_ratio, catch_ratio=self.catch_ratio,
                false_alarm_frac=self.false_alarm_frac, miss_frac=self.miss_frac, se_floor_frac=self.se_floor_frac,
                looks=tuple(self.looks if self.mode == "blocks" else quick),
                metrics=(self.metrics,) if isinstance(self.metrics, str) else tuple(self.metrics),
            )  # fmt: skip
        except SettingRefused as error:
            raise ConfigError(f"compare.{error.key}", error.value, error.allowed, error.remedy) from error


COMPARE = Own("compare", Compare, "blocks")


@dataclass(frozen=True, kw_only=True, slots=True)
class SideRequest:
    """What the command line says of one side. revision: a git revision, None for this tree."""

    overrides: tuple[str, ...]
    revision: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """How a block is made. blocks_per_server: after so many blocks the importing processes are fresh, too."""

    turns_per_block: int
    sentences_per_block: int
    blocks_per_server: int
    order_seed: int
    call_limit_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything but the engines, for a number of trees. asked: the group as it was given."""

    asked: Compare
    limits: PairedLimits
    plan: RunPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    sides: Mapping[str, SideRequest]
    settings: Settings


def read_command(argv: Sequence[str]) -> Command:
    """reference.KEY=VALUE, candidate.KEY=VALUE, compare.KEY=VALUE, the rest for both. Raises ConfigError."""
    revisions: dict[str, str | None] = dict.fromkeys(SIDES)
    shared: list[str] = []
    for text in argv:
        key, _, value = text.partition("=")
        side, _, rest = text.partition(".")
        if side in SIDES and "=" not in side:
            if rest.startswith("revision="):
                revisions[side] = rest.partition("=")[2]
        elif key in SIDES:
            voices = "reference.reference=NAME candidate.reference=NAME for other voices"
            remedy = f"write {key}.engine=NAME, {key}.revision=HEAD~1, or {voices}"
            raise ConfigError(key, value, "needs a key of its own", remedy)
        else:
            shared.append(text)
    mine, both = COMPARE.split(shared)
    # In the order of the command line: what is said later counts
    overrides = {side: [own for text in argv for own in _of_side(text, side, both)] for side in SIDES}
    _refuse_unread([text for own in overrides.values() for text in own])
    sides = {s: SideRequest(overrides=tuple(overrides[s]), revision=revisions[s]) for s in SIDES}
    return Command(sides=sides, settings=settings_of(COMPARE.made(mine), num_trees=len(set(revisions.values()))))


def _of_side(text: str, side: str, both: Sequence[str]) -> list[str]:
    """What one word of the command line says of a side."""
    start = f"{side}."
    if text.startswith(start) and not text.startswith(f"{start}revision="):
        return [text.removeprefix(start)]
    return [text] if text in both else []


def is_read(override: str) -> bool:
    """Whether a comparison makes anything of an override."""
    key = key_of(override)
    group = key.split(".")[0]
    return group not in UNREAD and (group != "sweep" or key == "sweep.lock")


@contextmanager
def naming_sides(command: Command) -> Iterator[None]:
    """What is refused of one side's own overrides is named as it was typed: candidate.engin, not engin."""
    try:
        yield
    except ConfigError as error:
        own = [side for side in SIDES if any(key_of(text) == error.key for text in command.sides[side].overrides)]
        if len(own) != 1:
            raise
        allowed = error.allowed.replace("did you mean ", f"did you mean {own[0]}.")
        raise ConfigError(f"{own[0]}.{error.key}", error.value, allowed, error.remedy) from error


def _refuse_unread(overrides: Sequence[str]) -> None:
    for text in overrides:
        if not is_read(text):
            remedy = f"leave it out; limits, pairs and looks of a comparison are keys of compare, {SEE}"
            raise ConfigError(key_of(text), text.partition("=")[2], "a comparison does not read it", remedy)


def read_settings(words: Sequence[str], num_trees: int = 1) -> Settings:
    """compare.KEY=VALUE. num_trees: how many different checkouts are compared. Raises ConfigError."""
    return settings_of(COMPARE.made(COMPARE.split(words)[0]), num_trees)


def settings_of(asked: Compare, num_trees: int) -> Settings:
    """Raises ConfigError for limits that cannot be meant."""
    limits = asked.limits
    plan = RunPlan(
        turns_per_block=limits.looks[-1] if limits.mode == "quick" else asked.pairs_per_block,
        sentences_per_block=asked.sentences_per_block,
        blocks_per_server=asked.blocks_per_server or (SERVED_BLOCKS if num_trees == 1 else 1),
        order_seed=asked.order_seed,
        call_limit_s=asked.call_limit_s,
    )
    return Settings(asked=asked, limits=limits, plan=plan)
