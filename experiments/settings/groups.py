"""Every group of a configuration checked as a frozen model, made of the keys, kinds and bounds that it is declared by.

This is the border: everything below takes the kinds for granted. What fits together (a grid and its steps, a vocoder
and its model) is checked where it is known. A key that is declared nowhere is refused, so that a misspelt one is never
ignored; groups whose keys are known only where they are built (OPEN) leave that to the builder.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import ConfigDict, create_model

from engine import settings as engines
from engine.keys import Elsewhere
from experiments.common import plain
from experiments.common.plain import Config
from experiments.settings.typed import Group, Text, group_of

GROUPS: Mapping[str, type] = {
    "model": engines.ModelSettings, "engine": engines.EngineSettings, "solver": engines.SolverSettings,
    "vocoder": engines.VocoderSettings, "reference": engines.ReferenceSettings, "workload": plain.WorkloadSettings,
    "stream": engines.StreamSettings, "device": engines.DeviceSettings, "measure": plain.MeasureSettings,
    "quality": plain.QualitySettings, "sweep": plain.SweepSettings, "tracking": plain.TrackingSettings,
    "launcher": plain.LauncherSettings, "text": engines.TextSettings, "enhance": engines.EnhanceSettings,
    "gate": plain.GateSettings,
}  # fmt: skip
OPEN = (
    engines.EngineSettings, engines.ArchSettings, engines.GeneratorSettings, engines.OnnxSession,
    engines.CalibrationSettings, engines.VoiceSettings, engines.PrepareSettings, plain.GateSettings,
)  # fmt: skip


class OpenGroup(Group):
    """One that is built by what knows the rest of its keys."""

    model_config = ConfigDict(extra="ignore")


class _Top(Group):
    seed: plain.Seed
    out: Text | None


@cache
def model_of(kind: Any) -> type[Group]:
    """The frozen model of a declared group; keys that may be missing are None there where they are."""
    required = kind.__required_keys__
    hints = get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {key: (_checked(hint), ... if key in required else None) for key, hint in hints.items()}
    return create_model(kind.__name__, __base__=OpenGroup if kind in OPEN else Group, __doc__=kind.__doc__, **fields)


def _checked(hint: Any) -> Any:
    """The kind as pydantic is to check it: a text is not empty, a declared group a model, Elsewhere anything."""
    if hint is str:
        return Text
    if is_typeddict(hint):
        return model_of(hint)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if any(isinstance(entry, Elsewhere) for entry in parts[1:]):
            return Any
        return Annotated[(_checked(parts[0]), *parts[1:])]
    if origin in (Union, UnionType):
        return Union[tuple(map(_checked, parts))]  # noqa: UP007 - of as many as there are
    if origin is list:
        return list[model_of(parts[0])] if is_typeddict(parts[0]) else hint  # type: ignore[misc]
    return hint


def check_groups(config: Config) -> None:
    """Raises ConfigError for the first key that does not exist, or whose value is none of its kind."""
    group_of(_Top, "", {key: config.get(key) for key in ("seed", "out")})
    for name, kind in GROUPS.items():
        if name in config:  # records of before lack the later ones
            group_of(model_of(kind), name, config.get(name))
