"""Completion of the one command in bash, zsh and fish: verbs, configuration groups, their choices."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

from reports.commands import Offered, VerbParser

# What each shell is told; all of them ask `f5bench complete WORDS...` and take a candidate a line
SCRIPTS = {
    "bash": """_f5bench() {
    local IFS=$'\\n'
    local found="$("${COMP_WORDS[0]}" complete "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)"
    COMPREPLY=($(compgen -W "$found" -- "${COMP_WORDS[COMP_CWORD]}"))
    [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o default -F _f5bench f5bench""",
    "zsh": """#compdef f5bench
_f5bench() {
    local -a found
    found=("${(@f)$("${words[1]}" complete "${LBUFFER}" 2>/dev/null)}")
    compadd -S '' -- $found
}
compdef _f5bench f5bench""",
    "fish": """complete -c f5bench -f -a '(f5bench complete (commandline -cp))'""",
}
SHELLS = tuple(SCRIPTS)
COMPOSING = (
    "run", "sweep", "optimize", "stream", "load", "profile", "predict", "floor", "compare", "compare-functions",
    "bisect", "selftest", "gate", "gate-selftest", "serve", "watch", "fit-solver", "calibrate-reuse", "export",
    "gpu-check", "gpu-correct", "step-error", "overhead", "onnx-profile", "roofline", "distill", "train-pocket",
    "pocket-eval", "enhance-check",
)  # fmt: skip
BOTH = ("gate", "overhead", "onnx-profile", "roofline")  # overrides, and flags of their own
OWN_WORDS = {"listening": ("build", "serve", "collect", "--help")}
HYDRAS = ("--help", "--cfg", "--info", "--config-dir", "--multirun")
OWN_GROUPS = {"compare-functions": "compare", "bisect": "compare", "distill": "recipe"}  # a group of another name


def script(shell: str) -> str:
    """What `eval` takes in that shell."""
    return SCRIPTS[shell]


def candidates(line: Sequence[str], verbs: Mapping[str, str]) -> list[str]:
    """The words that may stand where the cursor is. line: one string, the command line up to the cursor."""
    words = " ".join(line).split(" ")[1:]
    if len(words) <= 1:
        return [verb for verb in verbs if verb.startswith(words[0] if words else "")]
    verb, rest = words[0], words[1:]
    if verb in OWN_WORDS:
        return [word for word in OWN_WORDS[verb] if word.startswith(rest[-1])] if len(rest) == 1 else []
    if verb not in COMPOSING or (verb in BOTH and rest[-1].startswith("-")):
        found = _flags(verbs.get(verb), rest)
        return found or (_overrides(rest[-1], "") if rest[:1] == ["record"] and verb == "baseline" else [])
    if rest[-1].startswith("-"):
        return [flag for flag in HYDRAS if flag.startswith(rest[-1])]
    return _overrides(rest[-1], OWN_GROUPS.get(verb, verb))


def _flags(module: str | None, words: Sequence[str]) -> list[str]:
    """Of a verb on folders: what its own parser takes. words: behind the verb, the last one begun."""
    if module is None:
        return []
    found = importlib.import_module(module)
    if getattr(found, "__path__", None) is not None:  # a package
        found = importlib.import_module(f"{module}.__main__")
    VerbParser.completing = True
    try:
        found.main(words)
    except Offered as offered:
        return offered.words
    finally:
        VerbParser.completing = False
    return []


def _overrides(word: str, verb: str) -> list[str]:
    """GROUP= until a group is named, then its choices, also after a comma. verb: may have a group of its own."""
    from experiments.common.presets import CONF, groups, presets

    side, dot, rest = word.partition(".")
    if dot and side in ("reference", "candidate"):  # of a comparison
        return [f"{side}.{found}" for found in _overrides(rest, "")]
    name, equals, value = word.partition("=")
    known = dict.fromkeys((*groups(), *([verb] if verb and (CONF / verb).is_dir() else [])))
    if not equals:
        return [f"{group}=" for group in known if group.startswith(name)]
    if name not in known:
        return []
    before, comma, last = value.rpartition(",")
    return [f"{name}={before}{comma}{choice}" for choice in presets(name) if choice.startswith(last)]
