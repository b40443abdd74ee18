"""The command line of a comparison: settings of conf/compare.yaml, overrides of each side, revisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baselines.paired.data import CANDIDATE, REFERENCE
from baselines.paired.rule import Mode, PairedLimits
from engine.contract import ConfigError
from experiments.common.cli import refused_limit
from experiments.compare.bench import RunPlan
from experiments.settings.bounds import LONGEST_S
from experiments.settings.flat_settings import flat_settings, key_of, refuse_misspelt

FILE = "compare.yaml"
SEE = f"see conf/{FILE}"
UNREAD = ("measure", "quality", "gate", "stream", "experiment")
SIDES = (REFERENCE, CANDIDATE)
FEWEST_PAIRS = 12
SERVED_BLOCKS = 4
WHOLE = ("pairs_per_block", "sentences_per_block", "blocks_per_server", "order_seed", "pairs")
NULLABLE = ("pairs", "blocks_per_server")
POSITIVE = ("call_limit_s", "time_limit_s", "quiet_restart_frac")
MODES: Mapping[str, Mode] = {"blocks": "blocks", "quick": "quick"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SideRequest:
    """What the command line says of one side. revision: a git revision, None for this tree."""

    overrides: tuple[str, ...]
    revision: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything but the engines. values: the keys of conf/compare.yaml as they were used."""

    limits: PairedLimits
    plan: RunPlan
    sentinel: bool
    quiet_restart_frac: float
    time_limit_s: float
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    sides: Mapping[str, SideRequest]
    settings: Settings


def read_command(argv: Sequence[str]) -> Command:
    """reference.KEY=VALUE, candidate.KEY=VALUE, keys of conf/compare.yaml, the rest for both. Raises ConfigError."""
    defaults = flat_settings(FILE)
    overrides: dict[str, list[str]] = {side: [] for side in SIDES}
    revisions: dict[str, str | None] = dict.fromkeys(SIDES)
    given: list[str] = []
    for text in argv:
        key, _, value = text.partition("=")
        side, _, rest = text.partition(".")
        if side in SIDES and "=" not in side:
            if rest.startswith("revision="):
                revisions[side] = rest.partition("=")[2]
            else:
                overrides[side].append(rest)
        elif key in defaults:
            given.append(text)
        elif key in SIDES:
            voices = "reference.reference=NAME candidate.reference=NAME for other voices"
            remedy = f"write {key}.engine=NAME, {key}.revision=HEAD~1, or {voices}"
            raise ConfigError(key, value, "needs a key of its own", remedy)
        else:
            refuse_misspelt(key, value, defaults)
            for own in overrides.values():
                own.append(text)
    _refuse_unread([text for own in overrides.values() for text in own])
    sides = {s: SideRequest(overrides=tuple(overrides[s]), revision=revisions[s]) for s in SIDES}
    return Command(sides=sides, settings=read_settings(given, num_trees=len(set(revisions.values()))))


def is_read(override: str) -> bool:
    """Whether a comparison makes anything of an override."""
    key = key_of(override)
    group = key.split(".")[0]
    return group not in UNREAD and (group != "sweep" or key == "sweep.lock")


def _refuse_unread(overrides: Sequence[str]) -> None:
    for text in overrides:
        if not is_read(text):
            remedy = f"leave it out; limits, pairs and looks of a comparison are keys of their own, {SEE}"
            raise ConfigError(key_of(text), text.partition("=")[2], "a comparison does not read it", remedy)


def read_settings(given: Sequence[str], num_trees: int = 1) -> Settings:
    """conf/compare.yaml with `KEY=VALUE` changes. num_trees: how many different checkouts are compared."""
    values = flat_settings(FILE, given)
    for key in WHOLE:
        if values[key] is None and key in NULLABLE:
            continue
        if not isinstance(values[key], int) or isinstance(values[key], bool):
            raise ConfigError(key, values[key], "must be a whole number", SEE)
    for key in ("pairs_per_block", "sentences_per_block", "blocks_per_server"):
        if values[key] is not None and values[key] < 1:
            raise ConfigError(key, values[key], "must be at least 1", SEE)
    if values["order_seed"] < 0:
        raise ConfigError("order_seed", values["order_seed"], "must be a whole number from 0", SEE)
    for key in POSITIVE:
        fits = isinstance(values[key], (int, float)) and not isinstance(values[key], bool)
        if not fits or not 0 < values[key] <= LONGEST_S:
            raise ConfigError(key, values[key], f"must be a number above 0, up to {LONGEST_S:g}", SEE)
    if not isinstance(values["sentinel"], bool):
        raise ConfigError("sentinel", values["sentinel"], "must be true or false", "use sentinel=true")
    limits = _limits(values)
    per_server = values["blocks_per_server"] or (SERVED_BLOCKS if num_trees == 1 else 1)
    quick = limits.mode == "quick"
    plan = RunPlan(
        turns_per_block=limits.looks[-1] if quick else int(values["pairs_per_block"]),
        sentences_per_block=int(values["sentences_per_block"]),
        blocks_per_server=int(per_server),
        order_seed=int(values["order_seed"]),
        call_limit_s=float(values["call_limit_s"]),
    )
    return Settings(
        limits=limits, plan=plan, sentinel=values["sentinel"], quiet_restart_frac=float(values["quiet_restart_frac"]),
        time_limit_s=float(values["time_limit_s"]), values=values,
    )  # fmt: skip


def _limits(values: Mapping[str, Any]) -> PairedLimits:
    mode, pairs = str(values["mode"]), values["pairs"]
    if mode not in MODES:
        raise ConfigError("mode", mode, f"must be one of {', '.join(MODES)}", "use mode=blocks")
    if pairs is not None and mode != "quick":
        raise ConfigError("pairs", pairs, "counts the pairs of quick mode", "add mode=quick, or set pairs_per_block")
    if pairs is not None and pairs < FEWEST_PAIRS:
        raise ConfigError("pairs", pairs, f"must be at least {FEWEST_PAIRS}", "use pairs=48")
    looks = values["looks"] if mode == "blocks" else [pairs] if pairs is not None else values["quick_looks"]
    if not isinstance(looks, list) or not all(isinstance(n, int) and not isinstance(n, bool) for n in looks):
        raise ConfigError(
            "looks" if mode == "blocks" else "quick_looks",
            looks,
            "must be a list of whole numbers",
            "use looks=[4,8,16]",
        )
    metrics = values["metrics"] if isinstance(values["metrics"], list) else [values["metrics"]]
    try:
        return PairedLimits.from_mapping({**values, "mode": MODES[mode], "looks": looks, "metrics": metrics})
    except ValueError as error:
        raise refused_limit(error) from error
