"""The fixture in somebody else's test suite: what fails, what warns, what is left open, and in which order it calls."""

import itertools
import json
import random

import pytest

from experiments.pytest_plugin import ERROR_FRAC, FEWEST_PAIRS, Pairs, balanced_coin, judge_pairs
from metrics.stats import RatioInterval, ratio_interval
from tests.engines import ROOT

pytest_plugins = ["pytester"]
pytest.importorskip("pytest_benchmark")
# A machine whose clock only calls move: 200 ms each, with noise, the candidate `ratio` times as long
SUITE = """
import random
import pytest

class Machine:
    t_s, chance = 0.0, random.Random(1)
    def now(self):
        return self.t_s
    def call(self, ratio, noise):
        self.t_s += 0.2 * ratio * (1 + noise * self.chance.gauss(0, 1))

machine = Machine()

@pytest.mark.benchmark(timer=machine.now)
def test_inference_latency_regression(benchmark, f5bench_gate):
    reference, candidate = (lambda: machine.call(1.0, NOISE)), (lambda: machine.call(RATIO, NOISE))
    f5bench_gate(benchmark, candidate, against=reference)
"""


@pytest.fixture(autouse=True)
def in_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suites that are run here time for themselves: pytest-benchmark keeps out of a worker of pytest-xdist."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def suite(pytester: pytest.Pytester, ratio: float, noise: float, *options: str) -> pytest.RunResult:
    pytester.makepyfile(SUITE.replace("NOISE", str(noise)).replace("RATIO", str(ratio)))
    return pytester.runpytest("-p", "experiments.pytest_plugin", "--benchmark-json=out.json", *options)


@pytest.mark.parametrize(
    ("ratio", "noise", "outcome", "counts"),
    [
        (1.00, 0.02, "PASS", {"passed": 1}),
        (0.95, 0.02, "PASS", {"passed": 1}),
        (1.02, 0.01, "WARN", {"passed": 1}),
        (1.10, 0.02, "FAIL", {"failed": 1}),
        (1.05, 0.20, "INCONCLUSIVE", {"skipped": 1}),
    ],
)
def test_the_verdict_is_the_tests_outcome(
    ratio: float, noise: float, outcome: str, counts: dict[str, int], pytester: pytest.Pytester
) -> None:
    result = suite(pytester, ratio, noise)
    result.assert_outcomes(**counts)
    result.stdout.fnmatch_lines([f"test_inference_latency_regression: {outcome}: * of the reference's time, 60 pairs"])
    assert ("SmallRegression: f5bench: WARN" in result.stdout.str()) == (outcome == "WARN")
    if outcome in ("PASS", "WARN"):  # pytest-benchmark leaves failed tests out of its file
        (one,) = json.loads((pytester.path / "out.json").read_text())["benchmarks"]
        assert one["extra_info"]["f5bench"]["outcome"] == outcome
        assert one["stats"]["rounds"] == 60


def test_what_cannot_be_told_fails_where_one_wants_it_to(pytester: pytest.Pytester) -> None:
    suite(pytester, 1.05, 0.2, "--f5bench-unsure=fail").assert_outcomes(failed=1)


def test_ratios_that_mean_nothing_are_refused(pytester: pytest.Pytester) -> None:
    result = suite(pytester, 1.0, 0.02, "--f5bench-catch-ratio=0.95")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "use 1.00 and 1.05" in result.stderr.str()


def test_switched_off_benchmarks_are_no_pass(pytester: pytest.Pytester) -> None:
    suite(pytester, 1.0, 0.02, "--benchmark-disable").assert_outcomes(skipped=1)


@pytest.mark.slow
def test_two_engines_in_three_lines(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(pytester.path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(
        """
        def test_inference_latency_regression(benchmark, f5bench_gate):
            one = "workload.select=[en04] solver=euler_6"
            reference, candidate = f5bench_gate.engines(f"engine=fp32 {one}", f"engine=int8 {one}")
            f5bench_gate(benchmark, candidate, against=reference, pairs=8)
        """
    )
    # In a process of its own: pytester forgets the modules that a test has imported, and torch comes only once
    result = pytester.runpytest_subprocess("-p", "experiments.pytest_plugin", "--f5bench-catch-ratio=50")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*PASS: *, 8 pairs"])


def test_an_engine_that_says_nothing_fails_and_another_number_of_threads_is_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(pytester.path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(
        """
        import pytest
        import torch
        from engine.contract import ConfigError
        
        from tests.load_fakes import ToneEngine

        @pytest.mark.parametrize("engine", ["fp32", "bf16"])
        def test_latency(engine, benchmark, f5bench_gate, monkeypatch):
            def build(config, clock):
                assert torch.get_num_threads() == 1
                return ToneEngine(silent=config["engine"]["name"] == "bf16")

            monkeypatch.setattr("engine.build.build_engine", build)
            one = "workload=smoke device.threads=1"
            reference, candidate = f5bench_gate.engines(f"engine=fp32 {one}", f"engine={engine} {one}")
            f5bench_gate(benchmark, candidate, against=reference, pairs=8)

        def test_threads(f5bench_gate):
            with pytest.raises(ConfigError, match="they share a process"):
                f5bench_gate.engines("device.threads=1", "device.threads=2")
        """
    )
    result = pytester.runpytest_subprocess("-p", "experiments.pytest_plugin", "--f5bench-catch-ratio=50")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*f5bench: bf16-euler_7*: invalid audio of *silent*"])
    assert "test_latency[bf16]: PASS" not in result.stdout.str()


def test_pairs_are_in_random_balanced_order_and_belong_together() -> None:
    log: list[str] = []

    def timer() -> float:
        log.append("|")
        return float(len(log))

    pairs = Pairs(lambda: log.append("r"), lambda: log.append("c"), num_pairs=40, num_warmups=2, timer=timer)
    for _ in range(42):
        pairs.before_round()
        log.append("C")
    pairs.settle()
    assert len(pairs.reference_s) == 40
    calls = "".join(log).replace("|r|", "R")
    assert calls.startswith("rCrC")
    assert calls.count("c") == calls.count("r") - 2, "both speak the same sentences"
    for before, call in itertools.pairwise(calls[4:]):
        assert call.islower() or before.lower() != call.lower(), "no timed call finds its own weights in the cache"
    timed = "".join(call for call in calls[4:] if call.isupper())
    assert len(timed) == 80
    assert {timed[i : i + 2] for i in range(0, 80, 2)} == {"RC", "CR"}
    assert [timed[i] == "R" for i in range(0, 80, 2)] == balanced_coin(40)
    assert all(sum(balanced_coin(40)[i : i + 4]) == 2 for i in range(0, 40, 4))


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.97, 1.03, "PASS"), (1.01, 1.04, "WARN"), (1.01, 1.07, "FAIL"), (0.99, 1.06, "INCONCLUSIVE"),
     (1.2, 1.3, "FAIL"), (0.5, 0.6, "PASS"), (1.0, 1.05, "INCONCLUSIVE")],
)  # fmt: skip
def test_the_rule(low: float, high: float, outcome: str) -> None:
    interval = RatioInterval(ratio=(low + high) / 2, low=low, high=high, num_pairs=60, confidence=0.98)
    assert judge_pairs(interval, 1.0, 1.05).outcome == outcome


def test_unchanged_code_fails_in_at_most_one_of_a_hundred() -> None:
    """Simulated: 400 gates of 60 pairs, a machine that drifts by half while it is measured."""
    chance, num_failed = random.Random(5), 0
    for _ in range(400):
        level = [1 + 0.5 * i / 60 for i in range(60)]
        reference, candidate = ([0.2 * x * (1 + 0.03 * chance.gauss(0, 1)) for x in level] for _ in range(2))
        interval = ratio_interval(candidate, reference, 0.98)
        assert interval is not None
        num_failed += judge_pairs(interval, 1.0, 1.05).outcome == "FAIL"
    assert num_failed <= 8  # 4 expected at the most; 9 or more in 2 % of honest gates


@pytest.mark.parametrize("option", ["--f5bench-pairs=0", "--f5bench-pairs=-3", "--f5bench-pairs=6",
                                    "--f5bench-ignore-ratio=nan", "--f5bench-catch-ratio=inf"])  # fmt: skip
def test_an_option_out_of_its_range_is_one_line_before_any_test(option: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(f5bench_gate): raise AssertionError('it ran')")
    result = pytester.runpytest_inprocess("-p", "experiments.pytest_plugin", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.stderr.lines if line.startswith("ERROR: ")]
    assert len(lines) == 1
    assert option.partition("=")[0] in lines[0]
    assert "use " in lines[0]


def test_a_number_of_pairs_that_gives_no_interval_is_refused_by_the_fixture() -> None:
    assert ratio_interval([1.0] * FEWEST_PAIRS, [1.0] * FEWEST_PAIRS, 1 - 2 * ERROR_FRAC) is not None
    few = FEWEST_PAIRS - 1
    assert ratio_interval([1.0] * few, [1.0] * few, 1 - 2 * ERROR_FRAC) is None
