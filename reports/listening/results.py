"""Answers as listeners sent them, checked against the key: only then is it known who was heard.

A result is a page's download (JSON) or the journal that `serve` keeps of a listener (JSON lines, the last line of a
position counts).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.listening.settings import METHODS, ListeningError

SCHEMA_VERSION = 1
PREFERENCES = ("first", "second", "none")
MAX_LISTENER_CHARS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """The key file as build wrote it."""

    sha256: str
    set_sha256: str
    method: str
    reference: str | None
    systems: tuple[Mapping[str, str], ...]
    trials: Mapping[str, Mapping[str, Any]]
    clips: Mapping[str, Mapping[str, Any]]
    rules: Mapping[str, Any]
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
    response: Mapping[str, Any]
    time_s: float
    audio_s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """One person's answers. num_turns: screens of the whole session."""

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


def load_key(path: Path) -> Key:
    """Raises ListeningError for what is not a key."""
    try:
        content = path.read_bytes()
        data = json.loads(content)
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
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ListeningError):
            raise
        raise ListeningError(f"key={path}: not a key ({error}); use the key.json that build wrote") from error


def load_listeners(paths: Sequence[Path], key: Key) -> tuple[Listener, ...]:
    """Raises ListeningError for a result of another set, or one that this key was not committed for."""
    found: dict[str, tuple[Path, Listener]] = {}
    for path in paths:
        listener = _listener(path, _read(path), key)
        known = found.get(listener.name)
        if known is not None:
            # The same person's download and journal, or two stages of one session: the fuller one has everything
            if len(known[1].answers) >= len(listener.answers):
                continue
        found[listener.name] = path, listener
    return tuple(listener for _, listener in found.values())


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return _from_journal([json.loads(line) for line in text.splitlines() if line.strip()])
        data = json.loads(text)
    except FileNotFoundError:
        raise ListeningError(f"{path}: no such result; give the files that listeners downloaded") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ListeningError(f"{path}: not a result ({error}); ask the listener for the JSON download") from error
    if not isinstance(data, dict) or data.get("kind") != "listening-result":
        raise ListeningError(f"{path}: not a result of a listening page; ask the listener for the JSON download")
    return data


def _from_journal(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    session: dict[str, Any] = {}
    answers: dict[int, Any] = {}
    for line in lines:
        session.update({name: value for name, value in line.items() if name not in ("answer", "kind")})
        if line["kind"] == "answer":
            answers[int(line["answer"]["position"])] = line["answer"]
    return {**session, "kind": "listening-result", "answers": [answers[place] for place in sorted(answers)]}


def _listener(path: Path, data: Mapping[str, Any], key: Key) -> Listener:
    if data.get("key_sha256") != key.sha256:
        raise ListeningError(
            f"{path}: was committed to another key (its page names {str(data.get('key_sha256'))[:12]}.., this key is "
            f"{key.sha256[:12]}..); give the key.json of the same build, unchanged"
        )
    if data.get("set_sha256") != key.set_sha256 or data.get("method") not in METHODS:
        raise ListeningError(f"{path}: is of another listening set; give the results of this one")
    try:
        name = str(data["listener"]).strip()
        answers = tuple(_answer(entry, key) for entry in data["answers"])
        if not 0 < len(name) <= MAX_LISTENER_CHARS or len({answer.trial for answer in answers}) != len(answers):
            raise ValueError("no listener id, or a trial answered twice")
        return Listener(
            name=name,
            device=str(data.get("device") or ""),
            hearing=str(data.get("hearing") or ""),
            comment=str(data.get("comment") or ""),
            num_turns=int(data["num_turns"]),
            answers=answers,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ListeningError(f"{path}: damaged result ({error}); ask for it again") from error


def _answer(entry: Mapping[str, Any], key: Key) -> Answer:
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


def _checked(method: str, response: Mapping[str, Any], num_clips: int) -> Mapping[str, Any]:
    """The response with whole numbers in its scale's range, or ValueError."""
    if method == "ab":
        if response["preference"] not in PREFERENCES:
            raise ValueError(f"preference {response['preference']!r}")
        ratings = {name: _within(response[name], 1, 5) for name in ("rating_a", "rating_b")}
        return {"preference": response["preference"], **ratings}
    if method == "mushra":
        ratings_given = list(response["ratings"])
        if len(ratings_given) != num_clips:
            raise ValueError("a rating is missing")
        return {"ratings": [None, *(_within(value, 0, 100) for value in ratings_given[1:])]}
    name, low, high = {"abx": ("match", 0, 1), "ccr": ("ccr", -3, 3), "dcr": ("dcr", 1, 5)}[method]
    return {name: _within(response[name], low, high)}


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
