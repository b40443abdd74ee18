"""Hydra's overrides: parsed, refused in one line that says what would work, and what a sweep is made of."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException, OverrideParseException

from engine.contract import ConfigError
from experiments.common.presets import folders, groups, presets
from experiments.common.quoting import argument

FUNCTIONS = ("choice(", "range(", "interval(", "glob(", "sort(", "shuffle(", "tag(")
MAX_VALUES = 10_000  # of one range: more is a slip of a digit


def parse(overrides: Sequence[str]) -> list[Override]:
    """Raises ConfigError for the first that is no override, with the line to type instead."""
    parsed = []
    for text in overrides:
        try:
            found = OverridesParser.create().parse_overrides([text])
        except (OverrideParseException, HydraException, RecursionError, ValueError) as error:  # of thousands of digits
            raise _unparsed(text, error) from error
        for override in found:
            _refuse_hydra(override)
            _refuse_several(override)
        parsed += found
    return parsed


def _refuse_several(override: Override) -> None:
    """A list in the place of a choice: Hydra would lay one preset over the other."""
    if override.key_or_group in groups() and not override.is_sweep_override() and isinstance(override.value(), list):
        group = override.key_or_group
        raise ConfigError(group, given(override), "is one choice", f"write {group}=NAME, or {group}=A,B for a sweep")


def alternatives(override: Override) -> list[str]:
    """The overrides `KEY=VALUE` that a swept one stands for, itself where it is not swept. Raises ConfigError."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if isinstance(override.value(), IntervalSweep):
        raise ConfigError(
            override.key_or_group, given(override), "an interval has no list of cells",
            "use a comma list or range(start,stop,step)",
        )  # fmt: skip
    key = override.get_key_element()
    return [f"{key}={value}" for value in values_of(override)]


def check_sweep(override: Override) -> None:
    """Raises ConfigError for a sweep over nothing."""
    if isinstance(override.value(), IntervalSweep):
        interval = override.value()
        if not interval.start < interval.end:
            raise ConfigError(
                override.key_or_group, given(override), "is an empty interval", "write interval(LOW,HIGH)"
            )
        if "log" in interval.tags and interval.start <= 0:
            raise ConfigError(
                override.key_or_group, given(override), "a logarithmic interval begins above 0",
                "leave out tag(log,...), or begin above 0",
            )  # fmt: skip
    elif override.is_sweep_override():
        values_of(override)


def given(override: Override) -> str:
    """The value as it was typed."""
    return str(override.input_line).partition("=")[2]


def values_of(override: Override) -> list[str]:
    """The values of a sweep in Hydra's spelling, at least one; of another override its own."""
    key, swept = override.key_or_group, override.value()
    if not override.is_sweep_override():
        return [str(override.get_value_element_as_str())]
    if isinstance(swept, Glob):
        choices = [] if not any((folder / key).is_dir() for folder in folders()) else presets(key)
        values = list(swept.filter(choices))
        if not values:
            allowed = (
                f"none of {', '.join(choices)} is named so" if choices else "is no group, and glob() names presets"
            )
            raise ConfigError(key, given(override), allowed, "write GROUP=glob(*), or a comma list")
        return values
    if isinstance(swept, RangeSweep):
        _refuse_range(override, swept)
    return [str(value) for value in override.sweep_string_iterator()]


def _refuse_range(override: Override, swept: RangeSweep) -> None:
    """Raises ConfigError for a range without a value, or with more than anybody wants."""
    step, span = swept.step, (swept.stop or 0) - (swept.start or 0)
    if not step or span / step <= 0:
        raise ConfigError(
            override.key_or_group,
            given(override),
            "is an empty range",
            "write range(start,stop) or range(start,stop,step)",
        )
    if span / step > MAX_VALUES:
        raise ConfigError(
            override.key_or_group, given(override), f"is a range of more than {MAX_VALUES} values", "use a larger step"
        )


def _refuse_hydra(override: Override) -> None:
    """Hydra's own settings rule where Hydra itself runs the jobs; here nothing would read them."""
    if override.key_or_group.replace("/", ".").split(".")[0] == "hydra":
        folder = override.key_or_group in ("hydra.run.dir", "hydra.sweep.dir")
        raise ConfigError(
            override.key_or_group, given(override), "Hydra's own settings are not read here",
            f"name the folder by {shortest('out', given(override))}" if folder else "leave it out; see --help",
        )  # fmt: skip


def shortest(key: str, value: str) -> str:
    """KEY=VALUE to type, with quotes only where they are needed."""
    plain = f"{key}={value}"
    try:
        parsed = OverridesParser.create().parse_overrides([plain])[0]
    except HydraException:
        return argument(key, value)
    return plain if parsed.value() == value and shlex.quote(plain) == plain else argument(key, value)


def _unparsed(text: str, error: Exception) -> ConfigError:
    key, equals, value = text.partition("=")
    detail = " ".join(str(error).splitlines()[:2])
    if not equals or not key.strip():
        return ConfigError(key, value, f"not an override ({detail})", "write KEY=VALUE")
    if any("\ud800" <= char <= "\udfff" for char in text):
        return ConfigError(key, ascii(value), "is not UTF-8", "give it a name in UTF-8")
    if value.startswith(FUNCTIONS):
        remedy = "the forms are A,B range(a,b,step) interval(a,b) glob(x*) sort(...) shuffle(...)"
        return ConfigError(key, value, f"not an override: no such sweep ({detail})", remedy)
    if value[:1] in ("[", "{"):
        return ConfigError(
            key, value, "not an override: a bracket is left open, or a text inside has other signs than letters and "
            "digits and no double quotes", f"for example {_example(key)}",
        )  # fmt: skip
    allowed = "not an override: it needs quotes of its own beside the shell's"
    return ConfigError(key, value, allowed, f"type {argument(key, _bare(value))}")


def _bare(value: str) -> str:
    """Without the quotes that were tried."""
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1].replace(f"\\{value[0]}", value[0]) if is_quoted else value


def _example(key: str) -> str:
    if key == "reference.voices":
        return """'reference.voices=[{id: me, audio: "my file.wav", text: "It'"'"'s, as I said, ready."}]'"""
    return f"""'{key}=["one text, with a comma", "another"]'"""
