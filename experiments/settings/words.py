"""The words of verbs that judge folders: RUN folders and key=value settings, quality limits by preset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from baselines.quality.rules import QualityLimits
from baselines.refused import SettingRefused
from engine.contract import ConfigError
from engine.paths import find_file
from experiments.common.cli import refused_limit
from experiments.common.presets import CONF
from experiments.common.written import NotWritten, read_document, refuse_unwritten, value_of
from experiments.common.written import typed as typed_value
from experiments.settings.composing import refuse_infinite

PRESETS = CONF / "gate" / "quality"


KEYS = ("preset", "out", "alpha", "coverage_frac", "only")


def split_words(words: Sequence[str], keys: Sequence[str]) -> tuple[list[Path], dict[str, Any]]:
    """(folders, settings as a file would have them). Raises ConfigError for a key that is none of `keys`."""
    folders: list[Path] = []
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or "/" in key or _is_there(word):
            folders.append(Path(word))
            continue
        if key not in keys:
            raise ConfigError(key, value, "no such key", f"the keys are {', '.join(keys)}")
        try:
            settings[key] = value if key in TEXTS else typed_value(value)
        except NotWritten as error:
            raise ConfigError(key, value, "not a value", "see --help") from error
        refuse_infinite(key, settings[key])
    return folders, settings


def read_quality_limits(settings: Mapping[str, object]) -> QualityLimits:
    """The preset with the changes of the command line. Raises ConfigError naming the key."""
    content = read_yaml("preset", str(settings.get("preset", "seeds")), PRESETS)
    content.update({key: settings[key] for key in ("alpha", "coverage_frac") if key in settings})
    only = settings.get("only")
    rows = content.get("metrics")
    if only is not None and isinstance(rows, list):
        wanted = only if isinstance(only, list) else [only]
        known = [row.get("metric") for row in rows if isinstance(row, dict)]
        for name in wanted:
            if name not in known:
                raise ConfigError("only", name, "has no rule in this preset", f"it has {', '.join(map(str, known))}")
        content["metrics"] = [row for row in rows if row["metric"] in wanted]
    try:
        return QualityLimits.from_mapping(content)
    except SettingRefused as error:
        raise refused_limit(error) from error


def read_yaml(key: str, name: str, folder: Path) -> dict[str, Any]:
    """The mapping of a file of `folder` by its name, or of any by its path. Raises ConfigError naming `key`."""
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    path = find_file(name) if is_path else folder / f"{name}.yaml"
    if not os.path.isfile(path):  # a name too long for a file is none
        names = ", ".join(sorted(known.stem for known in folder.glob("*.yaml")))
        raise ConfigError(key, name, "no such rules", f"use one of {names}, or a path to a YAML file")
    try:
        content = value_of(read_document(path).root)
        if not isinstance(content, dict):
            raise NotWritten(f"it is no set of keys; see {folder.relative_to(CONF.parent)}")
    except NotWritten as error:
        raise refuse_unwritten(key, name, error, "not a rules file") from error
    return {str(key): value for key, value in content.items()}


TEXTS = ("preset", "rule", "out", "metric")  # settings that are what was typed, whatever it looks like


def _is_there(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # too long for a name, or with a zero in it: no file
        return False
