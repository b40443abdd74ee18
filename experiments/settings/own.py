"""A verb's own group (compare, load, serve): composed by Hydra from conf/GROUP, a frozen model from then on.

GROUP.KEY=VALUE sets a key and GROUP=NAME chooses a preset, as in every group. KEY=VALUE alone, as it was written before
these were groups, still means GROUP.KEY=VALUE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.contract import ConfigError
from experiments.common.presets import CONF, folders, presets
from experiments.common.quoting import hydra_value
from experiments.common.written import NotWritten
from experiments.common.written import typed as value_of_text
from experiments.settings.composing import refuse_infinite, refused
from experiments.settings.front import is_help, is_information, refuse_flags, show_by_hydra, show_help
from experiments.settings.keys import key_of, refuse_misspelt
from experiments.settings.overrides import given, parse
from experiments.settings.typed import Group, described, group_of, takes_text, unknown_key

G = TypeVar("G", bound=Group)


@dataclass(frozen=True, slots=True)
class Own(Generic[G]):
    """A verb's own group. preset: what is taken where none is chosen."""

    name: str
    kind: type[G]
    preset: str

    def split(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """(those of this group as Hydra writes them, the rest). Raises ConfigError for one that is nearly its key."""
        mine: list[str] = []
        rest: list[str] = []
        for word in words:
            key, _, value = word.partition("=")
            if key_of(word).partition(".")[0] == self.name:
                mine.append(word)
            elif key in self.kind.model_fields:
                mine.append(self._as_today(key, value))
            else:
                refuse_misspelt(key, value, self.kind.model_fields)
                rest.append(word)
        return mine, rest

    def answered(self, argv: Sequence[str], text: str, words: Sequence[str] | None = None) -> bool:
        """Whether help, or what Hydra shows, was asked for and is printed now; if not, only overrides are left.

        words: the overrides that a whole experiment is composed of, where that is not all of them. Raises ConfigError.
        """
        if is_help(argv):
            keys = [f"keys of {self.name} ({self.name}.KEY=VALUE; {self.name}=NAME: {', '.join(presets(self.name))}):"]
            show_help("\n".join([text.rstrip("\n"), "", *keys, *described(self.kind, self.name)]))
            return True
        if is_information(argv):
            overrides = [word for word in argv if "=" in word and not word.startswith("-")]
            flags = [word for word in argv if word not in overrides]
            show_by_hydra([*flags, *self.shown(overrides if words is None else words)])
            return True
        refuse_flags(argv)
        return False

    def keys(self, words: Sequence[str]) -> list[str]:
        """The keys of this group that the words set."""
        return [key_of(word).removeprefix(f"{self.name}.") for word in self.split(words)[0] if "." in key_of(word)]

    def made(self, mine: Sequence[str]) -> G:
        """The model that the words of this group amount to. Raises ConfigError."""
        parsed = parse(mine)
        for override in parsed:
            self._check(override)
        chosen = [str(override.value()) for override in parsed if override.key_or_group == self.name]
        preset = chosen[-1] if chosen else self.preset
        values = [str(override.input_line).lstrip("+") for override in parsed if override.key_or_group != self.name]
        beside = [f"hydra.searchpath={hydra_value([f'file://{own}' for own in folders()[1:]])}"]
        try:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                composed = compose(f"{self.name}/{preset}", [*values, *beside])
            plain = OmegaConf.to_container(composed[self.name], resolve=True, throw_on_missing=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise refused(error, mine) from error
        refuse_infinite(self.name, plain)
        return group_of(self.kind, self.name, plain)

    def shown(self, words: Sequence[str]) -> list[str]:
        """What Hydra takes to show the whole configuration with this group in it."""
        mine, rest = self.split(words)
        chosen = [word for word in mine if key_of(word) == self.name]
        values = [word for word in mine if key_of(word) != self.name]
        return [f"+{chosen[-1].lstrip('+')}" if chosen else f"+{self.name}={self.preset}", *rest, *values]

    def _as_today(self, key: str, value: str) -> str:
        """A text is as it is typed where the key takes one, else as a file would have it."""
        if takes_text(self.kind.model_fields[key]) and value != "null":
            return f"{self.name}.{key}={hydra_value(value)}"
        try:
            found = value_of_text(value)
        except NotWritten as error:
            raise ConfigError(f"{self.name}.{key}", value, "not a value", f"see conf/{self.name}") from error
        refuse_infinite(f"{self.name}.{key}", found)
        return f"{self.name}.{key}={hydra_value(found)}"

    def _check(self, override: Override) -> None:
        key = override.key_or_group
        if override.is_sweep_override():
            raise ConfigError(key, given(override), "is one value", "give one of them")
        known = [f"{self.name}.{name}" for name in self.kind.model_fields]
        if key != self.name and key not in known:
            raise unknown_key(key, given(override), known)
        if override.is_delete():
            raise ConfigError(key, "(deleted)", "is needed", "leave it in")
