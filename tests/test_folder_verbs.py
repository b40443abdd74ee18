"""Verbs on folders: a run folder may have any name, and what is no folder of the right kind is one line and exit 2."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import baseline, decide, gate, plan_samples, quality_gate
from experiments.bisection import __main__ as bisect
from experiments.common.cli import run_verb
from experiments.optimize import __main__ as optimize
from experiments.scoring import score
from experiments.sweep import __main__ as sweep
from experiments.tracking import __main__ as tracking
from metrics.record import load_run
from reports.__main__ import main as render
from reports.data.source import load_source
from reports.listening.__main__ import main as listening
from tests.listening_runs import two_runs

Verb = Callable[[list[str]], int]
VERBS: dict[str, Verb] = {
    "reports": render,
    "build": lambda words: listening(["build", *words, *words]),
    "serve": lambda words: listening(["serve", *words]),
    "collect": lambda words: listening(["collect", *words]),
    "quality_gate": lambda words: run_verb(quality_gate.main, [*words, *words]),
    "decide": lambda words: run_verb(decide.main, words),
    "plan_samples": lambda words: run_verb(plan_samples.main, ["metric=wer_frac", "margin=0.01", *words, *words]),
    "gate": lambda words: run_verb(gate.main, ["main", "--run", *words]),
    "baseline record": lambda words: run_verb(baseline.main, ["record", "x", "--why", "y", "--run", *words]),
    "baseline diff": lambda words: run_verb(baseline.main, ["diff", "x", *words]),
    "score": lambda words: run_verb(score.main, words),
    "sync": lambda words: run_verb(tracking.main, ["sync", *words]),
    "status": lambda words: run_verb(tracking.main, ["status", *words]),
    "sweep": lambda words: run_verb(sweep.main, [f"resume={words[0]}"]),
    "bisect": lambda words: run_verb(bisect.main, [f"resume={words[0]}"]),
    "optimize": lambda words: run_verb(optimize.main, [f"resume={words[0]}"]),
}


def wrong_paths(base: Path) -> dict[str, Path]:
    for name in ("empty", "empty.json", "folder/result.json", "folder/sweep.json", "folder/key.json", "folder/answers"):
        (base / name).mkdir(parents=True)
    for name in ("list", "deep", "bytes"):
        (base / name).mkdir()
        content = {"list": b"[1]", "deep": b"[" * 9999, "bytes": b"\xff\xfe\x00"}[name]
        for file in ("result.json", "sweep.json", "key.json"):
            (base / name / file).write_bytes(content)
    (base / "file.json").write_text("{}")
    (base / "file").write_text("hello")
    return {
        "missing": base / "missing", "missing.json": base / "missing.json", "empty": base / "empty",
        "empty.json": base / "empty.json", "folders for files": base / "folder", "list": base / "list",
        "deep": base / "deep", "bytes": base / "bytes", "file.json": base / "file.json", "file": base / "file",
        "below a file": base / "file" / "run", "too long": base / ("x" * 300),
    }  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_folder_of_the_right_kind_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    paths = wrong_paths(tmp_path / "base")
    for what, path in paths.items():
        code = VERBS[verb]([str(path)])
        shown, error = capsys.readouterr()
        if verb == "status" and "broken" in shown:  # it lists what there is, and says it of each
            continue
        assert code == 2, (what, error)
        assert len(error.splitlines()) == 1, (what, error)
        assert error.startswith("error: "), (what, error)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return two_runs(tmp_path_factory.mktemp("runs"), 3, 0.2)


def test_a_run_folder_is_known_by_what_it_is(runs: list[Path], tmp_path: Path) -> None:
    named = shutil.copytree(runs[0], tmp_path / "x.json")
    record = load_run(runs[0])
    plain = shutil.copy(runs[0] / "result.json", tmp_path / "record")
    for path in (named, named / "result.json", Path(plain)):
        assert load_run(path) == record


def test_every_verb_takes_a_run_folder_that_is_named_like_a_file(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [str(shutil.copytree(run, tmp_path / f"{run.name}.json")) for run in runs]
    files = [f"{folder}/result.json" for folder in named]
    for given in (named, files):
        assert run_verb(quality_gate.main, given) in (0, 10, 11, 12)
        assert (tmp_path / "b.json/quality_gate/verdict.json").is_file()
    assert run_verb(quality_gate.main, [*named, f"out={files[0]}"]) == 2
    assert "result.json: " in capsys.readouterr().err.splitlines()[-1]
    assert load_source(Path(named[0])).cells[0].record is not None
    assert listening(["build", *named, f"out={tmp_path / 'set.json'}", "pairs=3"]) == 0
    assert listening(["build", *named, f"out={files[0]}", "pairs=3"]) == 2
    assert run_verb(gate.main, ["none", "--run", named[0]]) == 13
