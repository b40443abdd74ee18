"""The files that listeners sent, as sessions: what is whole in each, and which files are of one session.

A page draws a random id for every session. A session of an earlier page has none: it is known by who began it and when,
and one that does not say when by its whole content. A name is no identity: two people may give the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

from metrics.journal_lines import Lines, split_lines, torn_text
from metrics.record import to_json
from metrics.typed import parse_json
from reports.listening.study.settings import ListeningError

RESULT = "listening-result"
LINE_KINDS = ("answer", "session")
RESULT_ID = re.compile(r"[0-9a-f]{16,64}")
ASK = "ask the listener for the JSON download"


class Given(TypedDict, total=False):
    """One of a result's `answers`. position: which screen of the session; given: when."""

    position: int
    trial: str
    shown: list[str]
    x: int | None
    response: Any
    time_s: float
    given: str


class Result(TypedDict, total=False):
    """A page's download; journals are read into the same form."""

    kind: str
    result_id: str
    set_sha256: str
    key_sha256: str
    method: str
    schedule: int
    listener: str
    device: str
    hearing: str
    comment: str
    started: str
    finished: str
    num_turns: int
    answers: list[Given]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One session as one file has it, in the form of a page's download."""

    path: Path
    data: Result


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One session as all files together have it; path: the first of them."""

    result_id: str
    path: Path
    data: Result


def read_sent(path: Path) -> tuple[list[Sent], str | None]:
    """The sessions of a download (JSON) or a journal (JSON lines), and what of the file is torn.

    Raises ListeningError for a file that is neither.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ListeningError(f"{path}: no such result; give the files that listeners downloaded") from None
    except OSError as error:
        raise ListeningError(f"{path}: cannot be read ({error.strerror}); give the files of listeners") from error
    try:
        data = parse_json(content)
        problem = "not a result of a listening page"
    except ValueError as error:
        data, problem = None, f"not a result ({error})"
    if isinstance(data, dict) and data.get("kind") == RESULT:
        return [Sent(path=path, data=cast(Result, data))], None
    lines = split_lines(content, LINE_KINDS)
    is_journal = bool(lines.whole) and all(entry["kind"] in LINE_KINDS for entry in lines.entries)
    if not is_journal and (lines.whole or path.suffix != ".jsonl"):  # nothing in it is whole: only its name is left
        raise ListeningError(f"{path}: {problem}; {ASK}")
    torn = f"{path.name}: {torn_text(lines.torn)}; every whole answer is kept" if lines.torn else None
    if not lines.whole:
        torn = f"{path.name}: holds no whole answer"
    return _of_journal(path, lines), torn


def _of_journal(path: Path, lines: Lines) -> list[Sent]:
    """The last line of a position counts. Journals of old hold everybody of one name: told apart by their start."""
    heads: dict[tuple[Any, ...], dict[str, Any]] = {}
    answers: dict[tuple[Any, ...], dict[int, Any]] = {}
    for number, line in lines.whole:
        own = line.get("result_id") or line.get("started")
        key = (str(line.get("listener")), str(own))
        head = {name: value for name, value in line.items() if name not in ("answer", "kind", "received")}
        heads.setdefault(key, {}).update(head)
        given = answers.setdefault(key, {})
        if line["kind"] == "answer":
            try:
                given[int(line["answer"]["position"])] = line["answer"]
            except (KeyError, TypeError, ValueError) as error:
                raise ListeningError(f"{path}: line {number} is no answer ({error}); {ASK}") from error
    return [
        Sent(path=path, data=cast(Result, {**head, "kind": RESULT, "answers": _in_order(answers[key])}))
        for key, head in heads.items()
    ]


def _in_order(answers: Mapping[int, Given]) -> list[Given]:
    return [answers[place] for place in sorted(answers)]


def sessions_of(sent: Sequence[Sent]) -> tuple[list[Session], list[str]]:
    """Every session once, in an order that does not depend on that of the files; and what was found to be the same.

    Raises ListeningError for an id that is no id, or that two names share.
    """
    groups: dict[str, list[Sent]] = {}
    for one in sent:
        groups.setdefault(_identity(one), []).append(one)
    sessions: list[Session] = []
    notes: list[str] = []
    for result_id, found in groups.items():
        group = sorted(found, key=lambda one: (one.path.name, to_json(one.data)))
        different = _without_copies(group, notes)
        if len(different) > 1 and "result_id" not in different[0].data and _changed(different):
            who = f"{different[0].data.get('listener')}: {', '.join(one.path.name for one in different)}"
            notes.append(f"{who} began at the same moment and answer differently: counted as {len(different)} people")
            sessions += [Session(result_id=_digest(one.data), path=one.path, data=one.data) for one in different]
        else:
            sessions.append(_merged(result_id, different, notes))
    return sorted(sessions, key=lambda one: (str(one.data.get("listener")), one.result_id)), notes


def _identity(sent: Sent) -> str:
    given, started = sent.data.get("result_id"), sent.data.get("started")
    if given is not None:
        if not isinstance(given, str) or not RESULT_ID.fullmatch(given):
            raise ListeningError(f"{sent.path}: damaged result (result_id {given!r}); ask for it again")
        return given
    if not started:
        return _digest(sent.data)
    return _digest({name: sent.data.get(name) for name in ("set_sha256", "listener", "schedule", "started")})


def _digest(content: Any) -> str:
    return hashlib.sha256(to_json(content).encode()).hexdigest()[:32]


def _without_copies(group: Sequence[Sent], notes: list[str]) -> list[Sent]:
    kept: dict[str, Sent] = {}
    for one in group:
        first = kept.setdefault(to_json(one.data), one)
        if first is not one:
            notes.append(f"{one.path.name}: the same as {first.path.name}, counted once")
    return list(kept.values())


def _merged(result_id: str, group: Sequence[Sent], notes: list[str]) -> Session:
    """Every answer that any of the files has; of two to one screen the one that was given later."""
    names = {str(one.data.get("listener")) for one in group}
    if len(names) > 1:
        raise ListeningError(
            f"{group[1].path}: the id of {group[0].path.name} under another name ({', '.join(sorted(names))}); "
            "give the files as they were sent"
        )
    ranked = sorted(group, key=lambda one: (len(_answers(one)), str(one.data.get("finished") or ""), to_json(one.data)))
    answers: dict[int, Given] = {}
    for one in ranked:
        for place, answer in _answers(one).items():
            known = answers.get(place)
            if known is None or _given(answer) >= _given(known):
                answers[place] = answer
    if len(group) > 1:
        files = " and ".join(one.path.name for one in group)
        changed = _changed(group, is_same=True)
        said = (
            f"; {'screen' if len(changed) == 1 else 'screens'} {_listed(changed)} as answered last" if changed else ""
        )
        notes.append(f"{files}: one session of {names.pop()}, counted once{said}")
    data = ranked[-1].data if len(group) == 1 else {**ranked[-1].data, "answers": _in_order(answers)}
    return Session(result_id=result_id, path=group[0].path, data=data)


def _answers(sent: Sent) -> dict[int, Given]:
    try:
        return {int(answer["position"]): answer for answer in sent.data["answers"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ListeningError(f"{sent.path}: damaged result ({error}); ask for it again") from error


def _changed(group: Sequence[Sent], is_same: bool = False) -> list[int]:
    """Screens with two different answers; without is_same only where neither is the later one."""
    seen: dict[int, list[Given]] = {}
    for one in group:
        for place, answer in _answers(one).items():
            seen.setdefault(place, []).append(answer)
    return [
        place
        for place, answers in sorted(seen.items())
        if any(
            _said(a) != _said(b) and (is_same or _given(a) == _given(b)) for a in answers for b in answers if a is not b
        )
    ]


def _said(answer: Given) -> list[object]:
    """Without the times, which go on where somebody looks at a screen again."""
    return [answer.get("trial"), answer.get("shown"), answer.get("x"), answer.get("response")]


def _given(answer: Given) -> str:
    return str(answer.get("given") or "")


def _listed(places: Sequence[int]) -> str:
    return ", ".join(str(place + 1) for place in places)
