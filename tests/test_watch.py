"""`f5bench watch`: the schedule by a clock that is handed in, what is remembered, and who is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from baselines.stored.store import save_baseline
from engine.contract import ConfigError
from experiments import gate
from experiments.common import device_lock as lock_module
from experiments.common.cli import run_verb
from experiments.watch import __main__ as verb
from experiments.watch import session as sessions
from experiments.watch.ledger import LEDGER, read_ledger
from experiments.watch.schedule import due, next_due_s
from experiments.watch.settings import WATCH, Watch
from experiments.watch.told import TEXTFILE
from metrics.record import RecordError, save_record
from metrics.verdict import EXIT_CODES, Outcome
from tests.baseline_runs import Recipe, make_baseline, make_run
from tests.history_runs import FIRST_NIGHT, night, write_nights

HOUR_S = 3600.0
START_S = datetime(2026, 9, 1, 2, 30, tzinfo=timezone.utc).timestamp()


class FakeClock:
    """Stands still but while somebody waits, or works for `work_s`."""

    def __init__(self, now_s: float = START_S) -> None:
        self.unix_s = now_s

    def now_s(self) -> float:
        return self.unix_s

    def wait_until(self, unix_s: float) -> None:
        assert unix_s > self.unix_s, "asked to wait for the past"
        self.unix_s = unix_s


def shown(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, timezone.utc):%d %H:%M}"


@pytest.mark.parametrize(
    ("every", "offset", "moments"),
    [
        (1440, 180, ["01 03:00", "02 03:00", "03 03:00"]),
        (60, 0, ["01 03:00", "01 04:00", "01 05:00"]),
        (720, 60, ["01 13:00", "02 01:00", "02 13:00"]),
    ],
)
def test_runs_are_due_by_the_clock_of_the_wall(every: int, offset: int, moments: list[str]) -> None:
    clock = FakeClock()
    assert [shown(moment) for moment in islice(due(clock, every, offset, first_now=False), 3)] == moments


def test_a_run_that_takes_too_long_misses_what_was_due_meanwhile() -> None:
    clock = FakeClock()
    times = due(clock, 60, 0, first_now=True)
    assert shown(next(times)) == "01 02:30"
    clock.unix_s += 2.6 * HOUR_S
    assert shown(next(times)) == "01 06:00"
    assert next_due_s(START_S + HOUR_S / 2, 60, 0) == START_S + 1.5 * HOUR_S, "a run that is due now is the next one"


class FakeGate:
    """Leaves what the gate leaves: the run of a night from `first` on, its verdict; and takes an hour for it."""

    def __init__(
        self, clock: FakeClock, outcomes: Sequence[Outcome | None], slower: Callable[[int], float], first: int
    ) -> None:
        self.clock, self.outcomes, self.slower, self.first = clock, outcomes, slower, first
        self.words: list[Sequence[str]] = []

    def __call__(self, words: Sequence[str], out: Path) -> int:
        number = self.first + len(self.words)
        self.words.append(words)
        self.clock.unix_s += HOUR_S
        outcome = self.outcomes[len(self.words) - 1]
        if outcome is None:
            return 14
        save_record(night(number, self.slower(number)), out / "result.json")
        code = EXIT_CODES[outcome]
        finding = {
            "metric": "cpu_time",
            "outcome": outcome,
            "effect": 1.02,
            "effect_kind": "ratio",
            "interval": [1, 1.04],
        }
        content = {"outcome": outcome, "exit_code": code, "findings": [finding], "baseline": {"host_class": "here"}}
        (out / "verdict.json").write_text(json.dumps(content))
        return code


def settings(folder: Path, **changes: Any) -> Watch:
    return Watch(baseline="main", folder=str(folder), **changes)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, FakeGate]]:
    """(exit code, gate) of a watch over these outcomes."""

    def watch(
        *outcomes: Outcome | None, slower: Callable[[int], float] = lambda number: 1.0, first: int = 0, **changes: Any
    ) -> tuple[int, FakeGate]:
        clock = FakeClock(FIRST_NIGHT.timestamp() + first * 86400 - 60)
        gate = FakeGate(clock, outcomes, slower, first)
        monkeypatch.setattr(sessions, "run_gate", gate)
        asked = settings(tmp_path / "kept", runs=len(outcomes), **changes)
        return verb.watch(asked, ["workload=smoke"], clock), gate

    return watch


def samples(path: Path) -> dict[str, float]:
    """NAME{LABEL VALUES} -> value, the baseline and the host class left out."""
    found = {}
    for family in families(path.read_text()):
        for one in family.samples:
            labels = [value for name, value in one.labels.items() if name not in ("baseline", "host_class")]
            found[f"{one.name}{{{','.join(labels)}}}"] = one.value
    return found


def test_every_run_is_remembered_and_told_to_prometheus(
    tmp_path: Path, watched: Callable[..., tuple[int, FakeGate]]
) -> None:
    code, gate = watched("PASS", "WARN", "INCONCLUSIVE", textfile=str(tmp_path / "node/f5bench.prom"))
    assert code == 11, "of the last run"
    assert gate.words[0] == ["gate.baseline='main'", "workload=smoke"]
    entries = read_ledger(tmp_path / "kept")
    assert [one.outcome for one in entries] == ["PASS", "WARN", "INCONCLUSIVE"]
    assert [one.folder for one in entries] == ["20260901-030000", "20260902-030000", "20260903-030000"]
    assert entries[0].courses == {"rtf": "INCONCLUSIVE", "cpu": "INCONCLUSIVE", "memory": "INCONCLUSIVE",
                                  "snr": "INCONCLUSIVE"}  # fmt: skip
    seen = samples(tmp_path / "kept" / TEXTFILE)
    assert seen == samples(tmp_path / "node/f5bench.prom")
    assert (seen["f5bench_watch_outcome{INCONCLUSIVE}"], seen["f5bench_watch_outcome{PASS}"]) == (1, 0)
    assert (seen["f5bench_watch_runs{PASS}"], seen["f5bench_watch_runs{FAIL}"]) == (1, 0)
    assert seen["f5bench_watch_ratio{cpu_time,high}"] == 1.04
    assert seen["f5bench_watch_last_run_duration_seconds{}"] == HOUR_S
    assert "f5bench_watch_next_run_timestamp_seconds{}" not in seen, "it was the last one"


def test_what_the_gate_itself_leaves_is_read(tmp_path: Path) -> None:
    """The real rule and its real verdict.json, on a run that is 10 % slower than its baseline."""
    save_baseline(make_baseline(*(make_run(seed) for seed in (1, 11, 12, 13, 14))), tmp_path / "records")

    def judged(words: Sequence[str], out: Path) -> int:
        save_record(make_run(2, Recipe(slower=1.1)), out / "result.json")
        return run_verb(gate.main, ["nightly", "--records", str(tmp_path / "records"), "--run", str(out)])

    asked = settings(tmp_path / "kept")
    entry = sessions.Session(settings=asked, overrides=(), clock=FakeClock(), gate=judged).run(None)
    assert (entry.outcome, entry.exit_code, entry.host_class) == ("FAIL", 10, "test-2c-cpu")
    cpu = next(one for one in entry.findings if one.metric == "cpu_time")
    assert cpu.ratio == pytest.approx(1.1, abs=0.02)
    assert cpu.low is not None
    assert 1 < cpu.low < cpu.ratio
    assert read_ledger(tmp_path / "kept") == [entry]
    assert samples(tmp_path / "kept" / TEXTFILE)["f5bench_watch_ratio{cpu_time,low}"] == cpu.low


def test_a_step_that_one_gate_lets_pass_is_found_by_its_course(
    tmp_path: Path, watched: Callable[..., tuple[int, FakeGate]]
) -> None:
    write_nights(tmp_path / "kept", [1.0] * 16 + [1.08] * 3)
    code, _ = watched("PASS", slower=lambda number: 1.08, first=19)
    newest = read_ledger(tmp_path / "kept")[-1]
    assert newest.outcome == "PASS"
    assert newest.courses is not None
    assert (newest.courses["cpu"], newest.courses["memory"]) == ("FAIL", "PASS")
    assert code == 10
    assert samples(tmp_path / "kept" / TEXTFILE)["f5bench_watch_course{cpu,FAIL}"] == 1


def test_a_run_that_came_to_nothing_is_a_line_too_and_the_watch_goes_on(
    tmp_path: Path, watched: Callable[..., tuple[int, FakeGate]]
) -> None:
    code, _ = watched(None, "PASS")
    assert code == 0
    failed, passed = read_ledger(tmp_path / "kept")
    assert (failed.outcome, failed.exit_code, failed.reason) == (None, 14, "the gate came to no verdict (exit code 14)")
    assert passed.outcome == "PASS"
    seen = samples(tmp_path / "kept" / TEXTFILE)
    assert seen["f5bench_watch_runs{FAILED_TO_RUN}"] == 1


def test_a_line_that_was_torn_off_costs_that_line_alone(
    tmp_path: Path, watched: Callable[..., tuple[int, FakeGate]]
) -> None:
    watched("PASS")
    path = tmp_path / "kept" / LEDGER
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    assert len(read_ledger(tmp_path / "kept")) == 1
    watched("WARN")
    assert [one.outcome for one in read_ledger(tmp_path / "kept")] == ["PASS", "WARN"]
    path.write_text("{}\n")
    with pytest.raises(RecordError, match="move it away"):
        read_ledger(tmp_path / "kept")


@pytest.mark.enable_socket
def test_a_webhook_hears_of_a_verdict_that_is_another_than_before(
    tmp_path: Path, watched: Callable[..., tuple[int, FakeGate]], capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if len(heard) < 2 else 500)
            self.end_headers()

        def log_message(self, *words: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/secret"
        watched("PASS", "PASS", "FAIL", "FAIL", "PASS", webhook=url)
        server.shutdown()
    assert [(one["before"], one["outcome"]) for one in heard] == [("PASS", "FAIL"), ("FAIL", "PASS")]
    assert heard[0]["text"] == "f5bench FAIL against main on here: regression"
    said = capsys.readouterr().err
    assert "the webhook took nothing" in said
    assert "secret" not in said


def test_a_watch_that_the_gate_refuses_ends_instead_of_failing_every_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "run_gate", lambda words, out: 2)
    assert verb.watch(settings(tmp_path), [], FakeClock()) == 2
    assert len(read_ledger(tmp_path)) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "watch.baseline=(none): is needed"),
        (["watch.baseline=main", "out=here"], "out=here: is set by the watch; use watch.folder=DIR"),
        (["watch.baseline=main", "gate.baseline=x"], "is set by the watch; use watch.baseline=NAME"),
        (["watch.baseline=main", "watch.every_minutes=7"], "must divide a day of 1440"),
        (["watch.baseline=main", "watch=hourly", "watch.offset_minutes=60"], "must be below watch.every_minutes"),
        (["watch.baseline=main", "watch.webhook=nowhere"], "is no http(s) address"),
        (["watch.baseline=main", "solver=nosuch"], "solver=nosuch"),
        (["watch.baseline=main", "gate.catch_ratio=0.5"], "gate.catch_ratio"),
    ],
)
def test_a_mistake_is_told_before_the_first_night(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(verb.main, words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_an_hourly_watch_allows_one_look_less_of_the_false_alarms() -> None:
    assert WATCH.made(["watch=hourly", "watch.baseline=main"]).runs_a_month == 720
    with pytest.raises(ConfigError, match="is needed"):
        WATCH.made(["watch=hourly"])


def test_a_second_watch_of_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both would measure into one folder of a night, and one textfile would hide the other's verdict."""
    monkeypatch.setattr(lock_module, "PATIENCE_S", 0.1)
    with (
        lock_module.folder_lock(tmp_path),
        pytest.raises(ConfigError, match=r"watch\.folder=.*another process is working on this watch"),
    ):
        verb.watch(settings(tmp_path), [], FakeClock())
