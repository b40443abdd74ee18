"""A latency test on top of pytest-benchmark, with interleaved pairs and an interval instead of a mean and a threshold.

In a conftest.py: `pytest_plugins = ["experiments.pytest_plugin"]`, or `pytest -p experiments.pytest_plugin`. Then

    def test_inference_latency_regression(benchmark, f5bench_gate):
        reference, candidate = f5bench_gate.engines("engine=fp32", "engine=bf16")
        f5bench_gate(benchmark, candidate, against=reference)

Any two functions without arguments will do. pytest-benchmark times the candidate, and its table and JSON are its own;
the reference is timed before or after it, as a balanced coin says, so that what the machine does hits both. All calls
share one process: what differs from process to process is not seen, `python -m experiments.compare` sees it.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pytest

from metrics.process import settle_home
from metrics.stats import RatioInterval, ratio_interval

Outcome = Literal["PASS", "WARN", "FAIL", "INCONCLUSIVE"]
Call = Callable[[], Any]
PAIRS_KEY = pytest.StashKey[list[str]]()
# One-sided, each: unchanged code fails, a change of catch_ratio passes
ERROR_FRAC = 0.01
FEWEST_PAIRS = 7  # of fewer no interval holds with that: 0.5 ** 6 is above it


class SmallRegression(UserWarning):
    """A real slowdown that is below the ratio to be caught."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairVerdict:
    """ratio: candidate / reference, the median of the pairs; low and high hold with 1 - ERROR_FRAC each."""

    outcome: Outcome
    ratio: float
    low: float
    high: float
    num_pairs: int

    def __str__(self) -> str:
        interval = f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.outcome}: {interval} of the reference's time, {self.num_pairs} pairs"


def judge_pairs(interval: RatioInterval, ignore_ratio: float, catch_ratio: float) -> PairVerdict:
    """FAIL: surely slower than ignore_ratio and not surely under catch_ratio; WARN: both; PASS: surely under it."""
    is_slower, is_caught = interval.low > ignore_ratio, interval.high >= catch_ratio
    outcome: Outcome = "PASS" if not is_caught else "INCONCLUSIVE"
    if is_slower:
        outcome = "FAIL" if is_caught else "WARN"
    return PairVerdict(
        outcome=outcome, ratio=interval.ratio, low=interval.low, high=interval.high, num_pairs=interval.num_pairs
    )


class Pairs:
    """Times the reference around pytest-benchmark's own rounds. `before_round` is its setup function.

    A timed call that follows one of its own side finds its weights in the cache and is 2 to 6 % faster. So where the
    order of a pair would bring that about, both are called once before it, untimed.
    """

    def __init__(self, reference: Call, candidate: Call, num_pairs: int, num_warmups: int, timer: Callable[[], float]):
        self.reference_s: list[float] = []
        self._reference, self._candidate, self._timer, self._num_warmups = reference, candidate, timer, num_warmups
        self._is_before = balanced_coin(num_pairs)
        self._num_rounds, self._owes, self._was_reference_last = 0, False, False

    def before_round(self) -> None:
        """The reference of the round before, where its turn was second; then this round's, where it is first."""
        self.settle()
        if self._num_rounds < self._num_warmups:
            self._reference()
        elif self._is_before[self._num_rounds - self._num_warmups]:
            if self._was_reference_last:
                self._reference()
                self._candidate()
            self._time()
        else:
            if not self._was_reference_last:
                self._candidate()
                self._reference()
            self._owes = True
        self._was_reference_last = False  # the round to come ends with the candidate, unless a reference is owed
        self._num_rounds += 1

    def settle(self) -> None:
        """The last round's reference, where it is still to come."""
        if self._owes:
            self._time()
            self._owes, self._was_reference_last = False, True

    def _time(self) -> None:
        before_s = self._timer()
        self._reference()
        self.reference_s.append(self._timer() - before_s)


def balanced_coin(num_pairs: int, seed: int = 0) -> list[bool]:
    """Random order inside each pair, as often one way as the other in every four."""
    chance, coins = random.Random(seed), list[bool]()
    while len(coins) < num_pairs:
        coins += chance.sample([True, True, False, False], 4)
    return coins[:num_pairs]


class Gate:
    """The fixture `f5bench_gate`."""

    def __init__(self, config: pytest.Config, stack: ExitStack):
        self._config, self._stack = config, stack
        self._faults: list[Callable[[], str | None]] = []

    def __call__(
        self,
        benchmark: Any,
        candidate: Call,
        *,
        against: Call,
        pairs: int | None = None,
        timer: Callable[[], float] | None = None,
    ) -> PairVerdict:
        """Run, judge, and fail, warn or skip the test. Both functions must have finished when they return.

        A GPU call synchronises by itself or is wrapped so. timer: of the reference; pytest-benchmark's own, which times
        the candidate, by default. Returns the verdict where the test goes on.
        """
        if benchmark.disabled:
            pytest.skip("f5bench: benchmarks are disabled, nothing was timed")
        num_pairs = int(self._config.getoption("f5bench_pairs")) if pairs is None else pairs
        _refuse_few(num_pairs, "pairs")
        warmups = 3
        turns = Pairs(against, candidate, num_pairs, warmups, timer or benchmark._timer)
        benchmark.pedantic(candidate, setup=turns.before_round, rounds=num_pairs, iterations=1, warmup_rounds=warmups)
        turns.settle()
        self._refuse_invalid()
        interval = ratio_interval(list(benchmark.stats.stats.data), turns.reference_s, 1 - 2 * ERROR_FRAC)
        assert interval is not None, "from FEWEST_PAIRS on there is one"
        catch_ratio = float(self._config.getoption("f5bench_catch_ratio"))
        verdict = judge_pairs(interval, float(self._config.getoption("f5bench_ignore_ratio")), catch_ratio)
        benchmark.extra_info["f5bench"] = asdict(verdict)
        self._config.stash[PAIRS_KEY].append(f"{benchmark.name}: {verdict}")
        self._act(verdict)
        return verdict

    def _refuse_invalid(self) -> None:
        """No figure without valid audio behind it, whatever its speed."""
        for fault in self._faults:
            reason = fault()
            if reason is not None:
                pytest.fail(f"f5bench: {reason}", pytrace=False)

    def _act(self, verdict: PairVerdict) -> None:
        if verdict.outcome == "FAIL":
            pytest.fail(f"f5bench: {verdict}", pytrace=False)
        if verdict.outcome == "WARN":
            warnings.warn(SmallRegression(f"f5bench: {verdict}"), stacklevel=3)
        if verdict.outcome == "INCONCLUSIVE":
            word = f"f5bench: {verdict}; more pairs (--f5bench-pairs) or a quieter machine would tell"
            if self._config.getoption("f5bench_unsure") == "fail":
                pytest.fail(word, pytrace=False)
            pytest.skip(word)

    def engines(self, *variants: str) -> tuple[Call, ...]:
        """One function per variant, given as overrides in one string ("engine=int8 solver=euler_6 workload=smoke").

        Each call speaks the next sentence of the workload, the same one in every variant; the first answer to each must
        be valid audio, or the test fails. They are closed, and the device is free again, when the test ends.
        """
        from experiments.pytest_plugin.engines import speakers  # late: it imports torch

        made = speakers(variants, self._stack)
        self._faults += [speaker.fault for speaker in made]
        return made


@pytest.fixture
def f5bench_gate(request: pytest.FixtureRequest) -> Iterator[Gate]:
    """Interleaved pairs of a candidate and a reference, judged by an interval (see this module)."""
    with ExitStack() as stack:
        yield Gate(request.config, stack)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("f5bench")
    group.addoption("--f5bench-pairs", default=60, type=int, help="pairs per test (default: %(default)s)")
    group.addoption("--f5bench-ignore-ratio", default=1.0, type=float, help="a slowdown below it never fails")
    group.addoption("--f5bench-catch-ratio", default=1.05, type=float, help="a slowdown from it on is to be found")
    group.addoption(
        "--f5bench-unsure", default="skip", choices=("skip", "fail"), help="what a test does that cannot tell"
    )


def pytest_configure(config: pytest.Config) -> None:
    settle_home()
    ignore_ratio = float(config.getoption("f5bench_ignore_ratio"))
    catch_ratio = float(config.getoption("f5bench_catch_ratio"))
    _refuse_few(int(config.getoption("f5bench_pairs")), "--f5bench-pairs")
    if not 1 <= ignore_ratio < catch_ratio < math.inf:
        raise pytest.UsageError(
            f"--f5bench-ignore-ratio={ignore_ratio:g} --f5bench-catch-ratio={catch_ratio:g}: ratios of candidate to "
            "reference, 1 or more for what is ignored and above that for what must be caught; use 1.00 and 1.05"
        )
    config.stash[PAIRS_KEY] = []


def _refuse_few(num_pairs: int, option: str) -> None:
    if num_pairs < FEWEST_PAIRS:
        raise pytest.UsageError(f"{option}={num_pairs}: must be a whole number from {FEWEST_PAIRS}; use 60")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Every verdict, also of the tests that passed."""
    if config.stash[PAIRS_KEY]:
        terminalreporter.section("f5bench")
        for line in config.stash[PAIRS_KEY]:
            terminalreporter.write_line(line)
