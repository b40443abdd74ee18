"""One list of outcomes for every rule: which decides, how the process ends, what a CI's test page shows."""

from __future__ import annotations

from typing import get_args
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from baselines.paired.selftests import STORED, load_errors
from experiments.common import cli
from metrics.verdict import EXIT_CODES, SEVERITY, WORDS, Outcome, worst
from reports.verdicts.junit import KINDS, Case, junit_suite


def test_every_outcome_has_its_place_its_code_its_words_and_its_kind() -> None:
    names = set(get_args(Outcome))
    assert names == set(SEVERITY) == set(EXIT_CODES) == set(WORDS) == set(KINDS)
    assert EXIT_CODES["FAIL"] == cli.EXIT_REGRESSION
    assert EXIT_CODES["INCONCLUSIVE"] == cli.EXIT_UNSURE
    assert EXIT_CODES["INVALID_ENV"] == cli.EXIT_ENVIRONMENT
    assert EXIT_CODES["NO_BASELINE"] == cli.EXIT_NO_BASELINE


def test_the_worst_decides() -> None:
    assert worst([]) == "PASS"
    assert worst(["PASS", "INCONCLUSIVE", "WARN"]) == "INCONCLUSIVE"
    assert worst(["FAIL", "INCONCLUSIVE"]) == "FAIL", "what is shown is not undone by what is not"


def test_files_of_before_are_read_in_todays_words() -> None:
    kept = load_errors("intel-xeon-amx-2c-cpu", STORED)  # written when the word was CANNOT_TELL
    assert kept is not None
    words = {word for tally in kept.tallies for word in tally.outcomes}
    assert "INCONCLUSIVE" in words
    assert words <= set(SEVERITY)


@given(st.text(), st.text(), st.sampled_from([None, "failure", "skipped", "error"]))
def test_a_test_page_holds_whatever_an_engine_says(name: str, text: str, kind: str | None) -> None:
    case = Case(name, "FAIL", text, kind)  # type: ignore[arg-type]
    suite = ElementTree.fromstring(junit_suite("gate", name, [case], {"host_class": text}))
    assert suite.get("tests") == "1"
    for each, count in (("failure", "failures"), ("skipped", "skipped"), ("error", "errors")):
        assert suite.get(count) == str(int(kind == each))
        assert (suite.find(f"testcase/{each}") is not None) == (kind == each)
