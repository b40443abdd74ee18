"""Which listeners count: by the rules that stand in the key since before anybody listened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.listening.judging.results import Answer, Listener, lead_of_first
from reports.listening.making.plan import ANCHOR, DEGRADED
from reports.listening.study.rules import Rules


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """num_failed of num answers broke a rule that allows the share `max_frac`."""

    name: str
    num_failed: int
    num: int
    max_frac: float

    @property
    def is_passed(self) -> bool:
        return self.num_failed <= self.max_frac * self.num


@dataclass(frozen=True, kw_only=True, slots=True)
class Screened:
    """A listener with every check; `reasons` is empty for one who counts."""

    listener: Listener
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        failed = [check for check in self.checks if not check.is_passed]
        return tuple(f"{check.name}: {check.num_failed} of {check.num}" for check in failed)


def screen(listener: Listener, rules: Rules, method: str, reference: str | None) -> Screened:
    checks = [_counted("too fast to have heard both ends", listener.answers, _is_fast(rules), rules["max_fast_frac"])]
    if method == "mushra":
        good, share = rules["mushra_good"], rules["max_mushra_frac"]
        hidden = [answer.response["ratings"][_places(answer, reference)[1]] for answer in listener.counted]
        low = [answer.response["ratings"][_places(answer, ANCHOR)[0]] for answer in listener.counted]
        checks.append(_check(f"hidden reference under {good}", [rating < good for rating in hidden], share))
        checks.append(_check(f"anchor at {good} or over", [rating >= good for rating in low], share))
    else:
        catches, same = listener.of_kind("catch"), listener.of_kind("identical")
        checks.append(_counted("catch trials missed", catches, _is_missed, rules["max_catch_wrong_frac"]))
        checks.append(_counted("identical pairs told apart", same, _is_told_apart, rules["max_identical_frac"]))
        checks.append(_repeats(listener, rules["max_repeat_contradicted_frac"]))
    return Screened(listener=listener, checks=tuple(check for check in checks if check.num))


def _counted(name: str, answers: Sequence[Answer], is_failed: Any, max_frac: float) -> Check:
    return _check(name, [is_failed(answer) for answer in answers], max_frac)


def _check(name: str, failures: Sequence[bool], max_frac: float) -> Check:
    return Check(name=name, num_failed=sum(failures), num=len(failures), max_frac=max_frac)


def _places(answer: Answer, system: str | None) -> list[int]:
    return [place for place, name in enumerate(answer.systems) if name == system]


def _is_fast(rules: Rules) -> Any:
    """The page asks for every clip to its end, so less time than that was not spent on it (times add up to 0.01 s)."""

    def is_fast(answer: Answer) -> bool:
        return answer.time_s + 0.05 < rules["min_heard_frac"] * sum(answer.audio_s)

    return is_fast


def _is_missed(answer: Answer) -> bool:
    """The clip in heavy noise was not found to be the worse one."""
    bad = answer.systems.index(DEGRADED)
    response = answer.response
    if "preference" in response:
        return bool(response["preference"] != ("second", "first")[bad])
    if "match" in response:
        return bool(response["match"] != answer.x)
    if "ccr" in response:
        return bool(response["ccr"] >= 0 if bad == 1 else response["ccr"] <= 0)
    return bool(response["dcr"] > 3)


def _is_told_apart(answer: Answer) -> bool:
    response = answer.response
    if "preference" in response:
        return response["preference"] != "none" or abs(response["rating_a"] - response["rating_b"]) > 1
    if "ccr" in response:
        return abs(int(response["ccr"])) > 1
    return bool(response["dcr"] < 4)


def _repeats(listener: Listener, max_frac: float) -> Check:
    """Contradicted: the other system was preferred the second time; on a scale, the ratings differ by two points."""
    first = {answer.trial: answer for answer in listener.answers}
    pairs = [(first[answer.of], answer) for answer in listener.of_kind("repeat") if answer.of in first]
    return _check("repeats contradicted", [_contradicts(before, after) for before, after in pairs], max_frac)


def _contradicts(before: Answer, after: Answer) -> bool:
    if "dcr" in before.response:
        return abs(int(before.response["dcr"]) - int(after.response["dcr"])) >= 2
    signs = []
    for answer in (before, after):
        lead = lead_of_first(answer)
        signs.append(lead if answer.systems == before.systems else -lead)
    return signs[0] * signs[1] < 0
