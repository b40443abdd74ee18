"""Warm-up: it ends when calls and counters are steady, and says so when they never are."""

from dataclasses import replace
from pathlib import Path

from experiments.common.journal import JournalWriter, read_journal
from experiments.measuring.measure import measure
from tests.fakes import FakeClock, FakeEngine, facts, plan, probes, request


class Settling(FakeEngine):
    """Its calls get faster and faster, until they are steady after `settles` of them; counts what it compiles."""

    def __init__(self, clock: FakeClock, settles: int, compiles_for_ever: bool = False):
        super().__init__(facts(), clock)
        self._settles, self._for_ever, self.compiled = settles, compiles_for_ever, 0

    def synthesize(self, requests):  # type: ignore[no-untyped-def]
        early = max(0, self._settles - len(self.calls))
        self._seconds = 0.2 * (1 + 0.1 * early)
        self.compiled += early > 0 or self._for_ever
        return super().synthesize(requests)


def warm(tmp_path: Path, engine: Settling, clock: FakeClock, *, counted: bool = False, most: int = 12):  # type: ignore[no-untyped-def]
    names = [request(f"u{i}") for i in range(5)]
    chosen = plan(warmup_rounds=most, warmup_utterances=3, rounds=1)
    seen = replace(probes(clock, False), counters=lambda: {"compilations": engine.compiled} if counted else {})
    with JournalWriter(tmp_path / "j") as journal:
        measure(engine, names, chosen, seen, journal)
    return read_journal(tmp_path / "j")


def test_warm_up_ends_at_once_where_there_is_nothing_to_warm(tmp_path: Path) -> None:
    clock = FakeClock()
    read = warm(tmp_path, Settling(clock, 0), clock)
    assert [(t.is_warmup, t.repeat) for t in read.trials if t.is_warmup] == [
        (True, i) for i in range(3) for _ in range(3)
    ]
    assert read.warm_up is not None
    assert (read.warm_up["num_rounds"], read.warm_up["is_steady"]) == (3, True)


def test_warm_up_goes_on_while_the_times_still_fall(tmp_path: Path) -> None:
    clock = FakeClock()
    read = warm(tmp_path, Settling(clock, 20), clock)
    assert read.warm_up is not None
    assert read.warm_up["is_steady"]
    assert 6 <= read.warm_up["num_rounds"] <= 10
    steady_s = {round(t.wall_s, 9) for t in read.trials if not t.is_warmup}
    assert steady_s == {0.2}


def test_a_warm_up_that_never_settles_says_so(tmp_path: Path) -> None:
    clock = FakeClock()
    read = warm(tmp_path, Settling(clock, 1000), clock, most=4)
    assert read.warm_up is not None
    assert (read.warm_up["num_rounds"], read.warm_up["is_steady"]) == (4, False)
    assert read.warm_up["slope_interval_frac"][1] < 0
    few = warm(tmp_path / "few", Settling(clock, 1000), clock, most=1)
    assert few.warm_up is not None
    assert few.warm_up["is_steady"] is None


def test_an_engine_that_counts_hears_every_sentence_and_waits_for_its_counters(tmp_path: Path) -> None:
    clock = FakeClock()
    read = warm(tmp_path, Settling(clock, 0), clock, counted=True)
    assert {t.utterance_id for t in read.trials if t.is_warmup and t.repeat == 0} == {f"u{i}" for i in range(5)}
    assert read.counters == {"before": {"compilations": 0}, "after": {"compilations": 0}}
    busy = warm(tmp_path / "busy", Settling(clock, 0, compiles_for_ever=True), clock, counted=True, most=3)
    assert busy.warm_up is not None
    assert busy.counters is not None
    assert busy.warm_up["is_steady"] is False
    assert busy.counters["after"]["compilations"] == busy.counters["before"]["compilations"] + 5
    never = warm(tmp_path / "never", Settling(clock, 0), clock, counted=True, most=0)
    assert sum(t.is_warmup for t in never.trials) == 5
