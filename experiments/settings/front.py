"""The command line of the verbs that compose an experiment: overrides, --help, and what Hydra itself can show."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from engine.contract import ConfigError
from experiments.common.presets import CONF, groups, own_folder
from experiments.common.presets import presets as options
from experiments.settings.composing import implied, refused
from reports.commands import here

HELP = ("--help", "-h")
CONFIG = ("--cfg", "-c")
# Hydra prints something for these and runs nothing
COMPLETION = ("--shell-completion", "-sc")
INFORMATION = (*CONFIG, "--info", "-i", "--hydra-help", *COMPLETION, "--version")
MULTIRUN = ("-m", "--multirun")
# Hydra's own script knows `python FILE` and installed programs, not `python -m MODULE`; the answers are Hydra's
BASH = """_f5bench_complete()
{
    [[ "$COMP_LINE" =~ python[0-9.]*[[:space:]]+-m[[:space:]]+(experiments\\.[a-z_.]+)[[:space:]]+(.*)$ ]] || return
    local verb="${BASH_REMATCH[1]}" line="f5bench ${BASH_REMATCH[2]}" choices
    choices=$(COMP_LINE="$line" COMP_POINT="${#line}" "${COMP_WORDS[0]}" -m "$verb" -sc query=bash 2>/dev/null)
    COMPREPLY=($(compgen -W "$choices" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _f5bench_complete python python3 .venv/bin/python"""


def is_help(argv: Sequence[str]) -> bool:
    return any(arg in HELP for arg in argv)


def show_help(text: str) -> None:
    """The commands in it as they are typed here."""
    print(here(text.rstrip("\n")))


def is_information(argv: Sequence[str]) -> bool:
    return any(arg.split("=")[0] in INFORMATION for arg in argv)


def is_config(argv: Sequence[str]) -> bool:
    return any(arg.split("=")[0] in CONFIG for arg in argv)


def without_multirun(argv: Sequence[str]) -> list[str]:
    """Hydra's own flag for several jobs: a sweep is one without it too, a run becomes one by it."""
    return [arg for arg in argv if arg not in MULTIRUN]


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
        "relative paths start in the working directory; a file that is not there is looked for in the repository.",
        "--config-dir DIR adds your own presets, DIR/GROUP/NAME.yaml, to the choices.",
        "--cfg job prints the composed configuration, --info defaults-tree where it comes from; -m sweeps as in Hydra.",
        "exit codes: 0 done, 1 unexpected error, 2 usage or configuration, 14 an engine or job failed, 130 interrupted",
    ]
    return "\n".join(lines)


def answered(argv: Sequence[str], description: str, *, first: Sequence[str] = (), taken: Sequence[str] = ()) -> bool:
    """Whether help, or what Hydra itself shows, was asked for and is printed now; if not, only overrides are left.

    first: overrides that the verb puts before the user's. taken: options that the verb understands itself. Raises
    ConfigError for any other option.
    """
    if is_help(argv):
        show_help(help_text(description))
        return True
    if is_information(argv):
        show_by_hydra([*first, *argv])
        return True
    refuse_flags([arg for arg in argv if arg not in taken])
    return False


def composed_file(name: str, overrides: Sequence[str]) -> DictConfig:
    """conf/NAME.yaml, which is no experiment, with the overrides. Raises ConfigError."""
    refuse_flags(overrides)
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose(name, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        said = str(error).splitlines()[0]
        raise ConfigError("settings", " ".join(overrides), said, f"see conf/{name}.yaml") from error


def show_by_hydra(argv: Sequence[str]) -> None:
    """Let Hydra answer --cfg, --info and the like; it reads sys.argv and composes nothing that is run."""
    if any(arg in COMPLETION for arg in argv) and "install=bash" in argv:
        print(BASH)
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of printing several lines and leaving with 1
    own = own_folder()
    beside = [] if own is None else ["--config-dir", str(own)]
    overrides = [arg for arg in argv if "=" in arg and not arg.startswith("-")]
    flags = [arg for arg in argv if arg not in overrides]  # Hydra wants all overrides in one row
    is_completion = any(arg in COMPLETION for arg in argv)
    sys.argv = [sys.argv[0], *beside, *(argv if is_completion else [*flags, *implied(overrides)])]

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def nothing(config: Any) -> None:
        return None

    try:
        nothing()
    except (HydraException, OmegaConfBaseException) as error:
        raise refused(error, [arg for arg in argv if not arg.startswith("-")]) from error
