"""Answers as listeners sent them, checked against the key: only then is it known who was heard.

A result is a page's download (JSON) or the journal that `serve` keeps of a listener (JSON lines); reports.listening.
sessions reads both.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from metrics.typed import parse_json
from reports.listening.judging.sessions import Given, Result, Session, read_sent, sessions_of
from reports.listening.study.rules import Rules
from reports.listening.study.settings import METHODS, ListeningError

SCHEMA_VERSION = 1
PREFERENCES = ("first", "second", "none")
MAX_LISTENER_CHARS = 40
SHOWN_ID = 8  # characters of an id beside a name


class KeyTrial(TypedDict):
    """One of a key's `trials`. of: the trial that it repeats."""

    kind: str
    utterance_id: str
    clips: list[str]
    of: str | None


class KeyClip(TypedDict):
    """One of a key's `clips`, as far as it is read here. treatment: what a control was done to."""

    system: str
    treatment: str | None
    duration_s: float
    gain_db: float


class Response(TypedDict, total=False):
    """What was said to one screen: which keys there are is decided by the method."""

    preference: str
    rating_a: int
    rating_b: int
    ratings: list[Any]  # None for the open reference, else whole numbers
    match: int
    ccr: int
    dcr: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """The key file as build wrote it."""

    sha256: str
    set_sha256: str
    method: str
    reference: str | None
    systems: tuple[Mapping[str, str], ...]
    trials: Mapping[str, KeyTrial]
    clips: Mapping[str, KeyClip]
    rules: Rules
    folder: Path

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(system["name"] for system in self.systems)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One counted screen. systems: who was shown, in order (a control by its treatment); audio_s: per clip."""

    trial: str
    kind: str
    utterance_id: str
    of: str | None
    systems: tuple[str, ...]
    x: int | None
    response: Response
    time_s: float
    audio_s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """One person's answers. name: unique among those that are judged together. num_turns: screens of the session."""

    result_id: str
    name: str
    device: str
    hearing: str
    comment: str
    num_turns: int
    answers: tuple[Answer, ...]

    @property
    def counted(self) -> tuple[Answer, ...]:
        return tuple(answer for answer in self.answers if answer.kind == "pair")

    def of_kind(self, kind: str) -> tuple[Answer, ...]:
        return tuple(answer for answer in self.answers if answer.kind == kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """notes: what was torn, what was the same twice, who shares a name; for people."""

    listeners: tuple[Listener, ...]
    notes: tuple[str, ...]


def load_key(path: Path) -> Key:
    """Raises ListeningError for what is not a key."""
    try:
        content = path.read_bytes()
        data = parse_json(content)
        if data["kind"] != "listening-key" or data["schema_version"] != SCHEMA_VERSION:
            raise ListeningError(f"key={path}: not a key of this program's version; use the key.json that build wrote")
        return Key(
            sha256=hashlib.sha256(content).hexdigest(),
            set_sha256=data["set_sha256"],
            method=data["method"],
            reference=data["reference"],
            systems=tuple(data["systems"]),
            trials=data["trials"],
            clips=data["clips"],
            rules=data["rules"],
            folder=path.resolve().parent,
        )
    except FileNotFoundError:
        raise ListeningError(f"key={path}: no such file; give key=FILE, the key.json that build wrote") from None
    except OSError as error:
        raise ListeningError(f"key={path}: cannot be read ({error.strerror}); use the key.json of build") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, ListeningError):
            raise
        raise ListeningError(f"key={path}: not a key ({error}); use the key.json that build wrote") from error


def load_listeners(paths: Sequence[Path], key: Key) -> Loaded:
    """Raises ListeningError for a result of another set, or one that this key was not committed for."""
    notes, found = [], []
    for path in dict.fromkeys(paths):
        sent, torn = read_sent(path)
        notes += [torn] if torn else []
        for one in sent:
            _refuse_other_set(one.path, one.data, key)
        found += sent
    sessions, same = sessions_of(found)
    listeners, namesakes = _named([_listener(one, key) for one in sessions])
    return Loaded(listeners=listeners, notes=(*notes, *same, *namesakes))


def _named(listeners: Sequence[Listener]) -> tuple[tuple[Listener, ...], list[str]]:
    """Where two people gave one name, the beginning of the result's id is added."""
    counts = Counter(listener.name for listener in listeners)
    named = [
        one if counts[one.name] == 1 else replace(one, name=f"{one.name} ({one.result_id[:SHOWN_ID]})")
        for one in listeners
    ]
    if len({one.name for one in named}) < len(named):
        named = [replace(one, name=f"{one.name} ({one.result_id})") for one in listeners]
    notes = [
        f"{number} listeners are called {name}: counted as {number} people"
        for name, number in counts.items()
        if number > 1
    ]
    return tuple(named), notes


def _refuse_other_set(path: Path, data: Result, key: Key) -> None:
    if data.get("key_sha256") != key.sha256:
        raise ListeningError(
            f"{path}: was committed to another key (its page names {str(data.get('key_sha256'))[:12]}.., this key is "
            f"{key.sha256[:12]}..); give the key.json of the same build, unchanged"
        )
    if data.get("set_sha256") != key.set_sha256 or data.get("method") not in METHODS:
        raise ListeningError(f"{path}: is of another listening set; give the results of this one")


def _listener(session: Session, key: Key) -> Listener:
    data = session.data
    try:
        name = str(data["listener"]).strip()
        answers = tuple(_answer(entry, key) for entry in data["answers"])
        if not 0 < len(name) <= MAX_LISTENER_CHARS or len({answer.trial for answer in answers}) != len(answers):
            raise ValueError("no listener id, or a trial answered twice")
        return Listener(
            result_id=session.result_id,
            name=name,
            device=str(data.get("device") or ""),
            hearing=str(data.get("hearing") or ""),
            comment=str(data.get("comment") or ""),
            num_turns=int(data["num_turns"]),
            answers=answers,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ListeningError(f"{session.path}: damaged result ({error}); ask for it again") from error


def _answer(entry: Given, key: Key) -> Answer:
    trial = key.trials[entry["trial"]]
    shown = list(entry["shown"])
    if sorted(shown) != sorted(trial["clips"]):
        raise ValueError(f"trial {entry['trial']} shows clips that are not its own")
    clips = [key.clips[clip_id] for clip_id in shown]
    x = entry.get("x")
    time_s = float(entry["time_s"])
    if not 0 <= time_s < 1e6 or (key.method == "abx" and x not in (0, 1)):
        raise ValueError(f"trial {entry['trial']} has no time, or no X")
    return Answer(
        trial=entry["trial"],
        kind=trial["kind"],
        utterance_id=trial["utterance_id"],
        of=trial["of"],
        systems=tuple(clip["treatment"] or clip["system"] for clip in clips),
        x=x,
        response=_checked(key.method, entry["response"], len(shown)),
        time_s=time_s,
        audio_s=tuple(float(clip["duration_s"]) for clip in clips),
    )


def _checked(method: str, response: Response, num_clips: int) -> Response:
    """The response with whole numbers in its scale's range, or ValueError."""
    if method == "ab":
        if response["preference"] not in PREFERENCES:
            raise ValueError(f"preference {response['preference']!r}")
        rated = [_within(given, 1, 5) for given in (response["rating_a"], response["rating_b"])]
        return {"preference": response["preference"], "rating_a": rated[0], "rating_b": rated[1]}
    if method == "mushra":
        ratings_given = list(response["ratings"])
        if len(ratings_given) != num_clips:
            raise ValueError("a rating is missing")
        return {"ratings": [None, *(_within(value, 0, 100) for value in ratings_given[1:])]}
    if method == "abx":
        return {"match": _within(response["match"], 0, 1)}
    if method == "ccr":
        return {"ccr": _within(response["ccr"], -3, 3)}
    return {"dcr": _within(response["dcr"], 1, 5)}


def lead_of_first(answer: Answer) -> int:
    """1 where the first clip shown was liked better, -1 the second, 0 neither."""
    if "preference" in answer.response:
        return {"first": 1, "second": -1, "none": 0}[answer.response["preference"]]
    value = int(answer.response["ccr"])
    return (value < 0) - (value > 0)


def _within(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{value!r} is not a whole number from {low} to {high}")
    return value
