"""Fuzz: flags and settings of the verbs' own, listening answers, tracking memory and plan files, spoilt; each ends with
a documented code and, with 2, one line. Fixed seeds, nothing is measured."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest

import reports.__main__ as report_verb
import reports.listening.__main__ as listening
from engine.backends.tensorrt.plan_file import PlanIdentity, read_plan, write_plan
from engine.contract import ConfigError
from engine.runtimes.profiles import Profile
from experiments import baseline, decide, gate, plan_samples, quality_gate, stream, trim_reference
from experiments.checks import gpu as gpu_check
from experiments.checks import overhead
from experiments.compare import __main__ as compare
from experiments.doctor import __main__ as doctor
from experiments.load import __main__ as load
from experiments.optimize import __main__ as optimize
from experiments.scoring import score
from experiments.selftest import __main__ as selftest
from experiments.selftest import quality as quality_selftest
from experiments.selftest import stored as gate_selftest
from experiments.serve import __main__ as serve
from experiments.solvers import calibrate_reuse
from experiments.solvers import fit as fit_solver
from experiments.tracking import __main__ as tracking
from tests.fuzzing import Case, Verb, cases_of, check, draw_nothing, params, spoilt_json, stop_before_measuring
from tests.listening_runs import answered, two_runs, who_likes
from tests.tracking_folders import write_sweep

READ = frozenset({0, 2})
JUDGED = READ | {11}  # what cannot be told ends so
STRANGE = (
    "", "abc", "nan", "inf", ".nan", ".inf", "-1", "1e400", "null", "true", "[]", "{a:1}", "[.nan]", "'", "${seed}",
    "1" * 5000, "\0",
)  # fmt: skip
# Key -> values that are right although they look strange; every other one of STRANGE ends with 2
RIGHT = {
    "arrival_seed": (), "rate_per_s": ("", "null"), "soak_min": ("", "null"), "max_batch": ("", "null"),
    "bucket_chars": ("[]",), "batching": ("true",), "sentinel": ("true",), "blocks_per_server": ("", "null"),
    "pairs": ("", "null"), "keep": ("true",), "name": ("abc", "nan", "inf", "null", "true", "1" * 5000),
    "gpu_check.max_rtf": ("null",), "record": ("abc", "nan", "inf", "null", "true"), "sweep.constraints": ("[]",),
    "sweep.space": ("{a:1}",), "reference": STRANGE,
}  # fmt: skip
ANY = frozenset({0, 2, 14})
JOURNALS = "journals and listening readers"
KNOWN: dict[str, str] = {}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stop_before_measuring(monkeypatch, tmp_path)
    draw_nothing(monkeypatch)

    def taken(host: str, port: int) -> NoReturn:  # nothing is bound here: what comes so far was not refused
        key, value = ("port", port) if host == "127.0.0.1" else ("host", host)  # as the real one says it
        raise ConfigError(key, value, f"{host}:{port} cannot be had", "use port=0")

    monkeypatch.setattr("experiments.serve.__main__.open_socket", taken)


# Verb, the words before, its own keys whose every strange value is wrong, and those whose value is only strange
OWN: tuple[tuple[Verb, tuple[str, ...], tuple[str, ...]], ...] = (
    (load.main, (), ("users", "requests", "warmup_requests", "arrival_seed", "queue_limit", "scenario", "transport")),
    (load.main, ("scenario=open",), ("rate_per_s", "soak_min")),
    (load.main, ("scenario=search",), ("limit_s", "search_ratio", "probe_requests", "search_time_limit_s")),
    (load.main, ("batching=true",), ("batch_window_s", "max_batch", "bucket_chars")),
    (load.main, ("soak_min=1",), ("memory_every_s", "leak_limit_bytes_per_h")),
    (load.main, ("transport=http",), ("url", "connections", "request_limit_s")), (load.main, (), ("batching",)),
    (serve.main, (), ("port", "host", "queue_limit", "batching")),
    (compare.main, (), ("ignore_ratio", "catch_ratio", "false_alarm_frac", "miss_frac", "looks", "pairs_per_block",
                        "sentences_per_block", "blocks_per_server", "order_seed", "call_limit_s", "time_limit_s",
                        "se_floor_frac", "metrics", "mode", "sentinel", "quiet_restart_frac")),
    (compare.main, ("mode=quick",), ("quick_looks", "pairs")),
    (selftest.main, (), ("minutes", "replays", "keep")),
    (selftest.main, ("minutes=1", "keep=false"), ("ratios", "record")),
    (gate_selftest.main, ("minutes=1",), ("sessions", "keep")), (gate_selftest.main, (), ("minutes",)),
    (fit_solver.main, ("workload=en_heldout", "workload.limit=4"), ("steps", "tries", "name")),
    (calibrate_reuse.main, (), ("alphas",)), (stream.main, (), ("rounds",)),
    (optimize.main, (), ("sweep.num_trials", "sweep.sampler", "sweep.sampler_seed", "sweep.objectives",
                         "sweep.constraints", "sweep.space")),
    (gpu_check.main, (), ("gpu_check.max_rtf",)),
    (plan_samples.main, ("metric=wer_frac",), ("margin", "sd", "alpha", "preset")),
    (plan_samples.main, ("metric=artifact_vs_reference",), ("limit", "true_rate")),
    (plan_samples.main, (), ("share", "metric")),
    (quality_gate.main, ("a", "b"), ("alpha", "coverage_frac", "preset", "only")), (decide.main, ("a",), ("rule",)),
    (listening.main, ("build", "a", "b"), ("method", "pairs", "reference", "text", "seed")),
    (listening.main, ("serve", "a"), ("port",)),
)  # fmt: skip


def own_cases() -> Iterator[Case]:
    """Three strange values of each key, in turn."""
    turn = itertools.cycle(STRANGE)
    for verb, before, keys in OWN:
        for key in keys:
            for value in itertools.islice(turn, 3):
                codes = ANY if value in RIGHT.get(key, ()) else frozenset({2})
                words = (*before, f"{key}={value}")
                for case in cases_of(verb, [words]):
                    yield replace(case, codes=codes, named=() if codes == ANY else (key,))


CLIP = str(Path(__file__).resolve().parent.parent / "engine" / "pocket" / "slt.wav")
TRIMMED = {"--max-s": "1.2", "--text": "We walk to the sea.", "--out": "x.wav"}
FLAGS: tuple[tuple[Verb, tuple[tuple[str, ...], ...]], ...] = (
    (gate.main, ((), ("../x",), ("a\0b",), ("x", "--run"), ("x", "--run", "nowhere"), ("x", "--run", "/dev/null"),
                 ("x", "seed=1", "--run", "nowhere"), ("x", "--run", "."), ("x" * 200,))),
    (baseline.main, ((), ("nosuch",), ("record",), ("record", ".."), ("record", "x", "--run", "."),
                     ("record", "x" * 200), ("approve", "x"), ("diff", "x"), ("diff", "x", "nowhere"),
                     ("list", "engine=fp32"))),
    (score.main, ((), ("nowhere",), ("/dev/null",), ("a\0b",), (".", "--reference", "nowhere"))),
    (report_verb.main, ((), ("nowhere",), ("/dev/null",), (".",), ("a\0b",), ("", "--out", "x"))),
    (decide.main, ((), ("a", "b"), (".",), ("rule=nosuch",), (".", "rule=/dev/null"), (".", "x=1"))),
    (quality_gate.main, ((), ("a",), ("a", "b", "c"), (".", "."), ("a", "b", "out=/proc/x/y"))),
    (tracking.main, ((), ("sync", "nowhere"), ("status", "/dev/null"), ("nosuch",), ("sync", "\0"))),
    (listening.main, (("nosuch",), ("build",), ("build", "nowhere"), ("serve",), ("serve", "nowhere"), ("collect",),
                      ("collect", "nowhere"), ("collect", "."), ("build", "\0"))),
    (overhead.main, tuple(("--pairs", value) for value in ("abc", "0", "-1", "1e3"))),
    (quality_selftest.main, ((), ("nowhere",), (".",))), (doctor.main, (("--json", "x"),)),
    (trim_reference.main, tuple(
        (CLIP, *itertools.chain(*{**TRIMMED, flag: value}.items()))
        for flag, value in (("--max-s", "abc"), ("--max-s", "nan"), ("--max-s", "-1"), ("--max-s", "0"),
                            ("--text", ""), ("--out", "."), ("--out", "nowhere/x.wav"), ("--out", "a\0b"))
    )),
)  # fmt: skip


def flag_cases() -> Iterator[Case]:
    for verb, given in FLAGS:
        yield from cases_of(verb, [*given, ("--nosuch",)])


# --- listening


@lru_cache(maxsize=1)
def listening_set() -> dict[str, bytes]:
    """The files of a set and of one listener's answers, by their names."""
    from tests.fuzzing import outcome_of

    with TemporaryDirectory() as name:
        folder = Path(name)
        runs = two_runs(folder, num_sentences=6)
        made = folder / "set"
        assert outcome_of(listening.main, ["build", *map(str, runs), f"out={made}", "pairs=4", "seed=1"]).code == 0
        result = answered(made, "anna", who_likes("fp32-euler_7"))
        return {
            "listening.html": (made / "listening.html").read_bytes(), "key.json": (made / "key.json").read_bytes(),
            "answers/anna.json": json.dumps(result).encode(),
        }  # fmt: skip


def listening_cases() -> Iterator[Case]:
    for name, seed, num in (("key.json", 21, 10), ("answers/anna.json", 22, 14), ("answers/anna.jsonl", 23, 4)):
        source = name.removesuffix("l")
        for how, content in spoilt_json(listening_set()[source].decode(), seed, num):
            yield Case(
                name=f"collect {name} {how}", verb=listening.main, make=_with_answers(name, content), codes=JUDGED
            )


def _with_answers(name: str, content: bytes) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        for other, whole in {**listening_set(), name: content}.items():
            (folder / "set" / other).parent.mkdir(parents=True, exist_ok=True)
            (folder / "set" / other).write_bytes(whole)
        return ["collect", str(folder / "set")]

    return make


# --- tracking


def tracking_cases() -> Iterator[Case]:
    stored = {"uri": "sqlite:///x.db", "experiment": "f5bench", "runs": {"run-1": {"run_uuid": "u", "run_id": "r",
              "content_sha256": "0", "files": {"a": {"sha256": "0", "num_bytes": 1, "mtime_ns": 2}}}}}  # fmt: skip
    text = json.dumps({"schema_version": 1, "stores": [stored]})
    for how, content in spoilt_json(text, seed=24, num=12):
        yield Case(name=f"status .tracking.json {how}", verb=tracking.main, make=_with_state(content), codes=READ)


def _with_state(content: bytes) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        made = write_sweep(folder / "swept", "sqlite:///x.db")
        (folder / "x.db").write_bytes(b"")
        (made / ".tracking.json").write_bytes(content)
        return ["status", str(made)]

    return make


# --- plan files


IDENTITY = PlanIdentity(
    onnx_sha256="0", precision="bf16", profiles=(Profile(min_frames=64, opt_frames=100, max_frames=200),), groups=2,
    max_batch=1, workspace_bytes=1 << 30, tensorrt_version="10", compute_capability="8.7",
)  # fmt: skip


def plan_of(argv: Sequence[str]) -> int:
    """What a worker does with `engine.plan`."""
    read_plan(Path(argv[0]), IDENTITY)
    return 0


def plan_cases() -> Iterator[Case]:
    described = {"identity": asdict(IDENTITY), "plan_sha256": "0" * 64, "checks": {"finite": True}}
    for how, content in spoilt_json(json.dumps(described), seed=25, num=10):
        yield Case(name=f"plan.json {how}", verb=plan_of, make=_with_plan(content), codes=frozenset({14}))


def _with_plan(content: bytes) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        write_plan(folder / "a.plan", b"plan", IDENTITY, {})
        (folder / "a.plan.json").write_bytes(content)
        return [str(folder / "a.plan")]

    return make


@pytest.mark.parametrize("case", params(own_cases(), KNOWN))
def test_settings_of_the_verbs_own(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", params(flag_cases(), KNOWN))
def test_flags(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", params(listening_cases(), KNOWN))
def test_listening(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", params(itertools.chain(tracking_cases(), plan_cases()), KNOWN))
def test_tracking_and_plans(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
