"""junit.xml of a verdict: one test case per finding, for the test page of a CI."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from junitparser import Error, Failure, Skipped, TestCase, TestSuite

from metrics.verdict import Outcome

Kind = Literal["failure", "skipped", "error", None]
KINDS: Mapping[Outcome, Kind] = {
    "PASS": None, "WARN": None, "FAIL": "failure", "INCONCLUSIVE": "skipped", "INVALID_ENV": "error",
    "NO_BASELINE": "error",
}  # fmt: skip
RESULTS = {"failure": Failure, "skipped": Skipped, "error": Error}
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


@dataclass(frozen=True, slots=True)
class Case:
    """name: the metric or rule. outcome: the word before the text. kind: what a CI makes of it, None: passed."""

    name: str
    outcome: str
    text: str
    kind: Kind


def junit_suite(name: str, label: str, cases: Sequence[Case], properties: Mapping[str, str]) -> str:
    """The file. label: what was judged, the class of every case. properties: of the whole suite."""
    suite = TestSuite(_xml(name))
    for key, value in properties.items():
        suite.add_property(key, _xml(value))
    for one in cases:
        case = TestCase(_xml(one.name), classname=_xml(label))
        message = _xml(f"{one.outcome}: {one.text}")
        if one.kind is None:
            case.system_out = message
        else:
            case.result = [RESULTS[one.kind](message)]
        suite.add_testcase(case)
    return suite.tostring().decode("utf-8") + "\n"


def _xml(text: str) -> str:
    """Without the control characters that XML forbids: an engine's own words may hold any."""
    return NOT_XML.sub("?", text)
