"""How often a gate has been wrong on a host class, as measured by `experiments.selftest` for the same-run rule and by
`experiments.selftest.stored` for stored baselines; printed in every verdict.

One JSON file per host class and rule beside the stored records, small enough to review.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from metrics.record import RecordError, to_json, write_atomically
from metrics.stats import clopper_pearson
from metrics.typed import from_json, load_json
from metrics.verdict import OLD_WORDS

SELFTESTS = Path(__file__).resolve().parents[1] / "selftests"
SCHEMA_VERSION = 1
STORED = SELFTESTS / "stored"  # of the rule that judges by stored baselines
# Sources of a tally; any other is a recorded trace. Scaled: times of live sessions, multiplied by the true ratio
LIVE, SCALED, SYNTHETIC = "live", "live, scaled", "synthetic"
UNDECIDED = ("INCONCLUSIVE", "INVALID_ENV")
ONE_SIDED_95 = 0.90  # a two-sided 90 % interval has 5 % on either side


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """Outcomes of comparisons whose true ratio is `true_ratio`. source: live, or the name of a trace or a world."""

    source: str
    true_ratio: float
    outcomes: Mapping[str, int]

    @property
    def num(self) -> int:
        return sum(self.outcomes.values())

    @property
    def adds_up(self) -> bool:
        """Over invocations; a replay with the same seeds would be counted twice."""
        return self.source in (LIVE, SCALED)

    def bound(self, *names: str) -> tuple[int, float]:
        """(how many had one of these outcomes, upper 95 % bound of the rate; exact binomial)."""
        count = sum(self.outcomes.get(name, 0) for name in names)
        return count, (1.0 if self.num == 0 else clopper_pearson(count, self.num, ONE_SIDED_95)[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Restarts:
    """What processes of one host class differ by: SD, its upper 95 % bound, and the blocks that both are from."""

    sd_frac: float
    upper_frac: float
    num_blocks: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HostErrors:
    """What selftest found on a host class. restart_sd_frac: the worst that processes were found to differ by.

    restarts: the longest measurement of that, with its bound; None where there is none, as in files of old.
    """

    host_class: str
    rule: str
    created: str
    tallies: tuple[Tally, ...]
    restart_sd_frac: float | None
    restarts: Restarts | None = None

    def sentence(self) -> str:
        """Such as "false alarms 1 of 640 live (upper bound 0.74 %)", over all unchanged comparisons of this host class.

        WARN on unchanged code counts as one. Synthetic machines say nothing about this one and are left out.
        """
        real = [tally for tally in self.tallies if not tally.source.startswith(SYNTHETIC)]
        parts = []
        for title, is_meant in (("live", True), ("replayed", False)):
            total = merged([t for t in real if t.true_ratio == 1.0 and (t.source == LIVE) == is_meant])
            if total.num:
                count, upper = total.bound("FAIL", "WARN")
                # Replays of one trace share its blocks: they are not so many independent comparisons
                bound = [f"upper bound {100 * upper:.2g} %"] if title == "live" else []
                undecided = total.bound(*UNDECIDED)[0]
                notes = [*bound, *([f"{undecided} undecided"] if undecided else [])]
                parts.append(f"{count} of {total.num} {title}" + (f" ({', '.join(notes)})" if notes else ""))
        found = merged([t for t in self.tallies if t.true_ratio == 1.05 and t.adds_up])
        text = f"false alarms on this host class: {', '.join(parts)}" if parts else "no self-comparisons yet"
        if found.num:
            settled, _ = found.bound("FAIL", "WARN")
            passed, _ = found.bound("PASS")
            text += f"; +5 % found in {settled}, passed in {passed} of {found.num}"
        return text


def merged(tallies: list[Tally]) -> Tally:
    """All outcomes together, of tallies with one true ratio."""
    outcomes: dict[str, int] = {}
    for tally in tallies:
        for name, count in tally.outcomes.items():
            outcomes[name] = outcomes.get(name, 0) + count
    return Tally(source="all", true_ratio=tallies[0].true_ratio if tallies else 1.0, outcomes=outcomes)


def path_of(host_class: str, folder: Path = SELFTESTS) -> Path:
    return folder / f"{host_class}.json"


def save_errors(errors: HostErrors, folder: Path = SELFTESTS) -> Path:
    content = {
        "schema_version": SCHEMA_VERSION, "host_class": errors.host_class, "rule": errors.rule,
        "created": errors.created, "restart_sd_frac": errors.restart_sd_frac,
        "restarts": None if errors.restarts is None else asdict(errors.restarts),
        "tallies": [
            {"source": t.source, "true_ratio": t.true_ratio, "outcomes": dict(t.outcomes)} for t in errors.tallies
        ],
    }  # fmt: skip
    path = path_of(errors.host_class, folder)
    write_atomically(path, json.dumps(json.loads(to_json(content)), indent=1) + "\n")
    return path


def load_errors(host_class: str, folder: Path = SELFTESTS) -> HostErrors | None:
    """None where this host class was never tested. Raises RecordError for a damaged file."""
    path = path_of(host_class, folder)
    if not path.is_file():
        return None
    try:
        return _read(load_json(path))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: damaged ({error}); delete it, then let its self-test count anew") from error


def _read(content: object) -> HostErrors:
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"not of schema {SCHEMA_VERSION}, which this program reads")
    errors = from_json(HostErrors, {key: value for key, value in content.items() if key != "schema_version"})
    errors = replace(errors, tallies=tuple(map(_in_todays_words, errors.tallies)))
    repeated = Counter((tally.source, tally.true_ratio) for tally in errors.tallies)
    for (source, true_ratio), number in repeated.items():
        if number > 1:  # they would not be added but replace each other
            raise ValueError(f"{source}, true ratio {true_ratio:g} twice")
    return errors


def _in_todays_words(tally: Tally) -> Tally:
    return replace(tally, outcomes={OLD_WORDS.get(word, word): count for word, count in tally.outcomes.items()})


def same_run_sentence(host_class: str, folder: Path = SELFTESTS) -> str:
    """For what is not judged by the same-run rule itself, and must not borrow its figures. Raises RecordError."""
    return f"Same-run comparisons: {error_sentence(load_errors(host_class, folder), host_class)}"


def stored_sentence(host_class: str, folder: Path = STORED) -> str:
    """For a gate by a stored baseline. Raises RecordError."""
    errors = load_errors(host_class, folder)
    if errors is None:
        return (
            f"Stored baselines: no self-test of host class {host_class} yet: `python -m experiments.selftest.stored "
            "minutes=30` measures their false alarms"
        )
    return f"Stored baselines: {error_sentence(errors, host_class)}"


def tally_table(tallies: Sequence[Tally], outcomes: Sequence[str]) -> list[str]:
    """Markdown: a row for every source and true ratio."""
    head = ["times of", "true ratio", "comparisons", *outcomes]
    rows = [
        [one.source, f"{one.true_ratio:g}", str(one.num), *(str(one.outcomes.get(name, 0)) for name in outcomes)]
        for one in tallies
    ]
    return [
        f"| {' | '.join(head)} |",
        "|---" + "|---:" * (len(head) - 1) + "|",
        *(f"| {' | '.join(r)} |" for r in rows),
    ]


def error_sentence(errors: HostErrors | None, host_class: str) -> str:
    """For a report: the measured rate, or that there is none."""
    if errors is None:
        verb = "`python -m experiments.selftest minutes=10`"
        return f"no selftest of host class {host_class} yet: {verb} measures its false alarms"
    return f"{errors.sentence()} (rule {errors.rule}, {errors.created[:10]})"
