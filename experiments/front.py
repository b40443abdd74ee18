"""The command line of the verbs that compose an experiment: overrides, --help, and what Hydra itself can show."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from engine.contract import ConfigError
from experiments.compose import CONF, groups, options, refused

HELP = ("--help", "-h")
CONFIG = ("--cfg", "-c")
# Hydra prints something for these and runs nothing
INFORMATION = (*CONFIG, "--info", "-i", "--hydra-help", "--shell-completion", "-sc", "--version")


def is_help(argv: Sequence[str]) -> bool:
    return any(arg in HELP for arg in argv)


def is_information(argv: Sequence[str]) -> bool:
    return any(arg.split("=")[0] in INFORMATION for arg in argv)


def is_config(argv: Sequence[str]) -> bool:
    return any(arg.split("=")[0] in CONFIG for arg in argv)


def refuse_flags(argv: Sequence[str]) -> None:
    """What is left after help and information are overrides only."""
    for arg in argv:
        if arg.startswith("-"):
            raise ConfigError("option", arg, "there is no such option", "settings are written KEY=VALUE; see --help")


def help_text(description: str) -> str:
    """A verb's description and examples, and what can be chosen."""
    lines = [
        description.rstrip("\n"),
        "",
        "choices (GROUP=NAME; every key inside one is set by GROUP.KEY=VALUE):",
    ]
    lines += [f"  {group:<11} {', '.join(options(group)) or '(none)'}" for group in groups()]
    lines += [
        "  seed        a whole number; keys the noise",
        "  out         the output folder; default outputs/DATE-TIME-NAME",
        "",
        "--cfg job prints the composed configuration, --info defaults-tree where it comes from.",
        "exit codes: 0 done, 2 usage or configuration, 14 an engine or job failed, 130 interrupted",
    ]
    return "\n".join(lines)


def show_by_hydra(argv: Sequence[str]) -> None:
    """Let Hydra answer --cfg, --info and the like; it reads sys.argv and composes nothing that is run."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of printing several lines and leaving with 1
    sys.argv = [sys.argv[0], *argv]

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def nothing(config: Any) -> None:
        return None

    try:
        nothing()
    except (HydraException, OmegaConfBaseException) as error:
        raise refused(error, [arg for arg in argv if not arg.startswith("-")]) from error
