"""What a listening set is asked to be: `key=value` words of the command line, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

METHODS = {
    "ab": "which of two sounds better, and each from 1 to 5",
    "abx": "which of two is the third one: is a difference audible at all",
    "ccr": "the second against the first, from -3 to 3 (P.800 annex E)",
    "dcr": "damage against a known reference, from 1 to 5 (P.800 annex D)",
    "mushra": "several at once from 0 to 100, with hidden reference and anchor (BS.1534)",
}
NUM_PAIRS = 30
# A MUSHRA screen takes several minutes; more than so many tire a listener
NUM_SCREENS = 15
MAX_STIMULI = 12
TEXT = ("show", "hide")
TITLE = "Listening test"


class ListeningError(ValueError):
    """A set that cannot be built, or results that cannot be used: what, why, what to do, in one line."""


def bad_setting(key: str, value: object, allowed: str, remedy: str) -> ListeningError:
    """The same words as every other setting's mistake."""
    return ListeningError(f"{key}={value}: {allowed}; {remedy}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSettings:
    """runs: folders in the order given. reference: label of what DCR and MUSHRA compare with, None the first.

    seed: None draws a secret one; with a given one the set can be built again, by everybody who knows it.
    """

    runs: tuple[Path, ...]
    out: Path
    method: str = "ab"
    num_pairs: int = NUM_PAIRS
    reference: str | None = None
    is_text_shown: bool = True
    title: str = TITLE
    seed: int | None = None


def split_words(words: Sequence[str], allowed: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    """(paths, key -> value). A word is a setting where a key stands before its first =; a path may hold one."""
    paths, values = [], {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in allowed:
            values[key] = value
        elif equals and key.isidentifier() and not Path(word).exists():
            raise bad_setting(key, value, "is not a setting here", f"the settings are {', '.join(allowed)}")
        else:
            paths.append(Path(word))
    return paths, values


MAX_DIGITS = 18  # more is a slip of the hand
BUILD_KEYS = ("method", "pairs", "reference", "text", "title", "seed", "out")


def build_settings(words: Sequence[str], default_out: Path) -> BuildSettings:
    """Raises ListeningError for an unknown key or value."""
    paths, values = split_words(words, BUILD_KEYS)
    method = values.get("method", "ab")
    if method not in METHODS:
        raise bad_setting("method", method, f"must be one of {', '.join(METHODS)}", "method=ab asks the most")
    text = values.get("text", "show")
    if text not in TEXT:
        raise bad_setting("text", text, "must be show or hide", "hide keeps the sentence off the page")
    default_pairs = NUM_SCREENS if method == "mushra" else NUM_PAIRS
    return BuildSettings(
        runs=tuple(paths),
        out=Path(values["out"]) if values.get("out") else default_out,
        method=method,
        num_pairs=_whole("pairs", values.get("pairs", str(default_pairs)), 1),
        reference=values.get("reference") or None,
        is_text_shown=text == "show",
        title=values.get("title") or TITLE,
        seed=_whole("seed", values["seed"], 0) if "seed" in values else None,
    )


def _whole(key: str, value: str, least: int) -> int:
    if not value.isdecimal() or len(value) > MAX_DIGITS or int(value) < least:
        raise bad_setting(key, value, f"must be a whole number from {least} on", f"leave {key} out for the default")
    return int(value)
