"""What the fuzz tests share: a verb called in this process, what may come of it, and how its input is spoilt.

Nothing is measured. Where a verb has accepted everything and would start a worker, build an engine or take the device,
`Started` is raised instead (`stop_before_measuring`), and counts as exit code 0.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from experiments.common.cli import run_verb

Verb = Callable[[Sequence[str]], int]

# Where measuring begins: module and name, as the verb calls it
STARTS = (
    ("experiments.sweep.single", "run_and_show"), ("experiments.sweep.running", "run_sweep"),
    ("experiments.optimize.__main__", "run_search"),
    ("experiments.stream", "device_lock"), ("experiments.scoring.floor", "device_lock"), ("experiments.load.__main__",
    "device_lock"), ("experiments.checks.overhead", "device_lock"), ("experiments.checks.overhead", "watch_parent"),
    ("experiments.compare.__main__", "device_lock"), ("experiments.functions.__main__", "device_lock"),
    ("experiments.selftest.live", "device_lock"),
    ("experiments.selftest.__main__", "rates"), ("experiments.serve.__main__", "Service"),
    ("experiments.solvers.fit", "build_by_name"),
    ("experiments.solvers.calibrate_reuse", "build_by_name"), ("experiments.checks.step_error", "build_engine"),
    ("experiments.checks.gpu", "check"), ("experiments.checks.gpu_correct", "correctness"),
)  # fmt: skip
# Verbs that measure in a process of their own, `experiments.run` with these overrides
FRESH = ("experiments.gate", "experiments.baseline", "experiments.selftest.stored")


class Started(Exception):
    """Everything was accepted: now something would be measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One spoilt input. codes: what may come of it. named: what the one line must name, where it ends with 2.

    make: writes what it needs into a folder; gives the arguments.
    """

    name: str
    verb: Verb
    make: Callable[[Path], Sequence[str]]
    codes: frozenset[int] = frozenset({2})
    named: tuple[str, ...] = ()


def cases_of(verb: Verb, given: Iterable[Sequence[str]], named: Sequence[str] = ()) -> Iterator[Case]:
    """One case for every list of arguments, without files."""
    for argv in given:
        words = tuple(argv)
        yield Case(name=f"{verb.__module__.rpartition('.')[2]} {' '.join(words)}"[:90], verb=verb, make=_just(words),
                   named=tuple(named))  # fmt: skip


def _just(words: Sequence[str]) -> Callable[[Path], Sequence[str]]:
    return lambda folder: words


def params(cases: Iterable[Case], known: Mapping[str, str]) -> list[Any]:
    """For pytest.mark.parametrize. known: part of a case's name -> why it does not hold yet."""
    found = []
    for case in cases:
        reasons = [reason for part, reason in known.items() if part in case.name]
        marks = [pytest.mark.xfail(reason=reasons[0], strict=True)] if reasons else []
        found.append(pytest.param(case, id=ascii(case.name)[1:-1], marks=marks))
    return found


def stop_before_measuring(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """In a working directory of its own, with locks and caches of its own."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["f5bench"])  # Hydra's own flags write there
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(folder / "locks"))
    for module, name in STARTS:
        monkeypatch.setattr(importlib.import_module(module), name, _start)
    for module in FRESH:
        monkeypatch.setattr(importlib.import_module(module), "fresh_run", _fresh_run)
    monkeypatch.setattr(importlib.import_module("experiments.checks.gpu"), "why_not_here", lambda: None)
    monkeypatch.setattr(
        importlib.import_module("experiments.checks.gpu_correct"), "why_not_here", lambda: None, raising=False
    )


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, and not drawn: what a chart is made of is checked, and a tenth of the time taken."""
    for module in ("reports.render.plots", "reports.render.search", "reports.render.spectrograms"):
        monkeypatch.setattr(importlib.import_module(module), "save", _no_picture)


def _no_picture(figure: object, out: Path, name: str, num_colors: int | None = None) -> str:
    path = out / "plots" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG")
    return f"plots/{name}.png"


def _start(*args: object, **settings: object) -> Any:
    raise Started


def _fresh_run(overrides: Sequence[str], out: Path) -> int:
    """As in a process of its own: what it refuses is its line and its code."""
    from experiments import run
    from experiments.measuring.fresh import hydra_value

    kept = [text for text in overrides if not text.startswith("out=")]
    return run_verb(run.main, [*kept, f"out={hydra_value(str(out))}"])


def outcome_of(verb: Verb, argv: Sequence[str]) -> Outcome:
    """What is no documented end is raised, and fails the test with its traceback."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = verb(argv) if verb.__module__.startswith("reports") else run_verb(verb, argv)
        except Started:
            code = 0
        except SystemExit as end:  # argparse
            code = 0 if end.code is None else int(end.code)
    return Outcome(code=code, out=out.getvalue(), err=err.getvalue())


def check(case: Case, folder: Path) -> None:
    """The oracle: a documented code, and with 2 exactly one line that says which key or file is wrong."""
    argv = case.make(folder)
    found = outcome_of(case.verb, argv)
    said = f"{case.name}: {list(argv)}\nexit {found.code}\n{found.err}"
    assert "Traceback" not in found.err, said
    assert found.code in case.codes, said
    if found.code != 2:
        return
    errors = [line for line in found.err.splitlines() if "error: " in line]
    assert len(errors) == 1, said
    assert found.err.splitlines()[-1] == errors[0], said
    others = [line for line in found.err.splitlines()[:-1] if not line.startswith(("usage: ", " "))]
    assert not others, said
    if case.named:
        assert any(name in errors[0] for name in case.named), said


def spoilt_texts(text: str, seed: int) -> Iterator[tuple[str, bytes]]:
    """(how, bytes) of a text file that was cut, emptied, or written by something else."""
    chance, data = random.Random(seed), text.encode()
    for _ in range(3):
        place = chance.randrange(1, max(2, len(data.rstrip()) - 1))
        yield f"cut at {place}", data[:place]
    yield "empty", b""
    yield "spaces", b"  \n \n"
    yield "zeros", bytes(64)
    yield "not utf-8", b"\xff\xfe" + data
    yield "utf-16", text.encode("utf-16")
    yield "a picture", b"\x89PNG\r\n\x1a\n" + chance.randbytes(64)


def spoilt_json(text: str, seed: int, num: int) -> Iterator[tuple[str, bytes]]:
    """The same of a JSON file, and values of another kind at drawn places."""
    yield from spoilt_texts(text, seed)
    for what in ("null", "[]", "{}", "5", '"text"', "true", "NaN", "[" * 30000, '{"a":' * 30000, "1" * 5000):
        yield f"only {what[:10]}", what.encode()
    chance, content = random.Random(seed), json.loads(text)
    places = list(_places(content))
    for _ in range(num):
        place, value = chance.choice(places), chance.choice(STRANGE)
        yield f"{'.'.join(map(str, place))}={json.dumps(value)[:20]}", json.dumps(_with(content, place, value)).encode()


STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, 10**30, "", "text", "\udcff", [], ["a"], {}, {"a": 1}, [[]], float("nan"), float("inf"),
)  # fmt: skip
ABSENT = object()


def _places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and every third entry of the lists."""
    entries = content.items() if isinstance(content, dict) else []
    if isinstance(content, list):
        entries = [(i, content[i]) for i in range(0, len(content), 3)]
    for key, value in entries:
        yield (*place, key)
        yield from _places(value, (*place, key))


def _with(content: Any, place: Sequence[Any], value: Any) -> Any:
    changed = copy.deepcopy(content)
    node = changed
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return changed


TRAPS = ("null", "[]", "{}", "nan", "-1", "yes", "'", "&a", "*a", "!!python/object:os.system {}", "1e400")


def spoilt_yaml(text: str, seed: int, num: int) -> Iterator[tuple[str, bytes]]:
    """The same of a YAML file: other values in single lines, and YAML's own traps."""
    chance, lines = random.Random(seed), text.splitlines()
    places = [i for i, line in enumerate(lines) if ": " in line and not line.lstrip().startswith("#")]
    for _ in range(num):
        place, value = chance.choice(places), chance.choice(TRAPS)
        changed = [*lines[:place], lines[place].partition(": ")[0] + f": {value}", *lines[place + 1 :]]
        yield f"line {place}={value}", "\n".join(changed).encode()
    yield "a tab", text.replace("  ", "\t").encode()
    yield "bombed", b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a]\nutterances: [*b,*b,*b]\n"
    yield "twice", f"{text}\n{text}".encode()
    yield "a list", b"- a\n- b\n"
    yield "a number", b"5\n"
    yield "interpolated", text.encode() + b"\nmore: ${oc.env:NO_SUCH_THING}\n"
