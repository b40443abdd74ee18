"""An interrupted sweep shows what it has, says what it keeps, and every command that it prints works."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.common.cli import EXIT_USAGE, disk_full, report_command, resume_command, run_verb
from experiments.measuring import running as running_module
from experiments.settings.compose import compose_cells
from experiments.sweep import cells as cells_module
from experiments.sweep import running as sweeping
from experiments.sweep.__main__ import main
from experiments.sweep.ledger import load_ledger
from experiments.sweep.running import new_sweep, resume_folder, resumed_sweep, run_sweep
from metrics.record import load_record
from reports.commands import here
from reports.data.source import load_source
from reports.data.table import load_table

FAKE = (sys.executable, "-m", "tests.fakes")
SMALL = (
    "workload=smoke", "measure.rounds=1", "measure.warmup_rounds=0", "measure.calibration=none",
    "measure.gemm_peak=false", "quality.metrics=[snr,log_mel]", "tracking=none",
)  # fmt: skip
OUT = Path("my sweeps/a 'b")


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str, str]:
    """A sweep of three that Ctrl-C ended in the second cell: where, what happened in order, stdout and stderr."""
    folder = tmp_path_factory.mktemp("interrupted")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    events: list[str] = []
    said: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, before)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("F5BENCH_STATE_DIR", str(folder / "locks"))
        monkeypatch.setenv("FAKE_BF16", "interrupt")
        logged(monkeypatch, events)
        made = new_sweep(compose_cells([*SMALL, f"out={hydra_text(OUT)}", "engine=fp32,bf16,upstream"]))
        made.command = FAKE
        with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                said["code"] = run_sweep(made)
    assert said["code"] == 130
    return folder, events, (folder / "stdout").read_text(), (folder / "stderr").read_text()


def hydra_text(path: Path) -> str:
    from experiments.measuring.fresh import hydra_value

    return hydra_value(str(path))


def logged(monkeypatch: pytest.MonkeyPatch, events: list[str]) -> None:
    """The real functions, with a note of when each begins and ends."""
    launch, start, finish = (
        cells_module.launch_with_energy,
        sweeping.start_scoring,
        sweeping.finish_scoring,
    )

    def launched(spec: Any, launcher: Any) -> Any:
        events.append(f"timed {spec.label}")
        try:
            return launch(spec, launcher)
        finally:
            events.append("timed no more")

    def started(target: Path, *rest: Any) -> Any:
        events.append(f"scored {target.name}")
        return start(target, *rest)

    def finished(target: Path, process: Any) -> bool:
        events.append("scored no more")
        return finish(target, process)

    monkeypatch.setattr(cells_module, "launch_with_energy", launched)
    monkeypatch.setattr(sweeping, "start_scoring", started)
    monkeypatch.setattr(sweeping, "finish_scoring", finished)


@pytest.fixture
def there(interrupted: tuple[Path, list[str], str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the interrupted sweep, in the directory that holds it."""
    shutil.copytree(interrupted[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    return OUT


def test_a_cell_is_scored_as_it_ends_and_never_beside_timing(interrupted: tuple[Path, list[str], str, str]) -> None:
    assert interrupted[1] == [
        "timed fp32-euler_7", "timed no more", "scored fp32-euler_7", "scored no more", "timed bf16-euler_7",
        "timed no more",
    ]  # fmt: skip


def test_an_interrupted_sweep_shows_its_finished_cells(interrupted: tuple[Path, list[str], str, str]) -> None:
    folder, _, out, err = interrupted
    record = load_record(folder / OUT / "cells/fp32-euler_7/result.json")
    assert [score.status for score in record.scores_of("snr_vs_reference_db")] == ["ok"] * len(record.utterances)
    assert "fp32-euler_7" in out
    said = err.splitlines()[-1]
    assert said.startswith("error: interrupted; go on with: ")
    assert said.endswith(resume_command("sweep", OUT).removeprefix("python"))


def test_reports_shows_what_is_there_and_how_to_finish(there: Path) -> None:
    rows = {row.label: row for row in load_table(there).rows}
    assert rows["fp32-euler_7"].timing is not None
    for label in ("bf16-euler_7", "upstream-euler_7"):
        assert (rows[label].status, rows[label].timing) == ("pending", None)
        assert rows[label].remedy == f"finish the sweep with `{resume_command('sweep', there)}`"


def test_every_command_that_was_printed_is_one_that_works(
    interrupted: tuple[Path, list[str], str, str], there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.rstrip("`") for text in interrupted[2:] for line in text.splitlines()]
    commands = [line.partition("python -m ")[2] for line in lines]
    found = [shlex.split(command) for command in commands if command]
    assert {words[0] for words in found} == {"reports", "experiments.sweep"}
    for module, *argv in found:
        if module == "experiments.sweep":
            folder = resume_folder(argv)
            assert folder == there
            assert len(resumed_sweep(folder).cells) == 3
        else:
            assert load_source(Path(argv[0])).status == "interrupted"


def test_going_on_says_how_many_are_kept_and_why_others_are_not(
    there: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = resumed_sweep(there)
    said = cells_module.review(made)
    assert said == [
        "1 of 3 cells are kept; 1 begun and not finished (bf16-euler_7), 1 not begun yet (upstream-euler_7)"
    ]
    path = there / "cells/fp32-euler_7/result.json"
    path.write_text(path.read_text()[:-100])
    tally, why = cells_module.review(resumed_sweep(there))
    assert tally.startswith("0 of 3 cells are kept; ")
    assert "1 no longer true or whole, named below" in tally
    assert why == "fp32-euler_7: its record is missing or damaged: it is measured again"


def test_a_sweep_that_has_not_begun_keeps_nothing_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cells_module.review(new_sweep(compose_cells([*SMALL, "out=out", "engine=fp32,bf16"]))) == []


def test_what_others_are_compared_with_is_measured_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = new_sweep(compose_cells([*SMALL, "out=out", "engine=bf16,fp32", "solver=euler_7,euler_32"]))
    labels = [made.cells[index].label for index in made.todo()]
    assert labels == ["fp32-euler_32", "bf16-euler_7", "bf16-euler_32", "fp32-euler_7"]
    assert load_ledger(Path("out")).entries[0].label == "bf16-euler_7"


def test_the_settings_of_a_stored_sweep_are_shown(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(main, ["--cfg", "job", f"resume={there}"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("--- # ")] == [
        "--- # fp32-euler_7", "--- # bf16-euler_7", "--- # upstream-euler_7",
    ]  # fmt: skip
    assert "limit" in out


def change(name: str, value: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / "sweep.json").read_text())
        content[name] = value
        (folder / "sweep.json").write_text(json.dumps(content))

    return apply


def moved(folder: Path) -> None:
    (folder / "cells/bf16-euler_7").rename(folder / "elsewhere")


def older(folder: Path) -> None:
    path = folder / "cells/bf16-euler_7/job.json"
    content = json.loads(path.read_text())
    del content["config"]["solver"]
    path.write_text(json.dumps(content))


def half_a_job(folder: Path) -> None:
    (folder / "cells/bf16-euler_7/job.json").write_text('{"run_id": 1}')


def a_run(folder: Path) -> None:
    (folder / "sweep.json").rename(folder / "result.json")


def a_directory(folder: Path) -> None:
    (folder / "sweep.json").unlink()
    (folder / "sweep.json").mkdir()


@pytest.mark.parametrize("flags", [[], ["--cfg", "job"]])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (a_run, "no such sweep"), (a_directory, "cannot be read"),
        (change("schema_version", 2), "another schema version"),
        (change("cells", {}), "damaged sweep file"), (change("cells", "abc"), "damaged sweep file"),
        (change("cells", [[]]), "damaged sweep file"), (change("status", "asleep"), "damaged sweep file"),
        (moved, "cell bf16-euler_7 of this sweep is not there; move its folder back"), (half_a_job, "damaged job file"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_gone_on_with_is_one_line(
    there: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], words: str, flags: list[str]
) -> None:
    damage(there)
    assert run_verb(main, [*flags, f"resume={there}"]) == EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert str(there) in line


def test_settings_of_another_version_are_one_line(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older(there)
    assert run_verb(main, [f"resume={there}"]) == EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert "solver=(deleted): is needed" in line


@pytest.mark.parametrize("argv", [["resume="], ["resume=nowhere"], ["resume=nowhere", "engine=fp32"]])
def test_no_folder_is_one_line(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_verb(main, argv) == EXIT_USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("filename", [None, "out/cells/x/journal.jsonl"])
def test_a_full_disk_names_the_real_folder_and_the_command(
    filename: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    full = OSError(28, "No space left on device", filename)
    go_on = resume_command("sweep", OUT)
    assert disk_full(full, OUT, go_on) == EXIT_USAGE
    assert capsys.readouterr().err == (
        f"error: {filename or OUT}: the disk is full; free some space and go on with: {here(go_on)}\n"
    )
    with pytest.raises(PermissionError):
        disk_full(PermissionError(13, "no"), OUT, go_on)


def test_a_sweep_on_a_full_disk_says_how_it_goes_on(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(sweep: Any, stack: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweeping, "_measure_and_score", full)
    assert run_sweep(resumed_sweep(there)) == EXIT_USAGE
    assert capsys.readouterr().err.strip().endswith(f"go on with: {here(resume_command('sweep', there))}")


def test_a_search_goes_on_by_its_own_verb(there: Path) -> None:
    (there / "request.json").write_text('{"argv": []}')
    remedies = {row.remedy for row in load_table(there).rows if row.status == "pending"}
    assert remedies == {f"finish the sweep with `{resume_command('optimize', there)}`"}


def test_a_failed_scoring_prints_the_whole_command(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (there / "cells/fp32-euler_7/result.json").write_text("{")
    process = running_module.start_scoring(there / "cells/fp32-euler_7", there / "reference", None)
    assert not running_module.finish_scoring(there / "cells/fp32-euler_7", process)
    found = re.search(r"`(.*)` does it again", capsys.readouterr().err)
    assert found is not None
    assert shlex.split(found.group(1))[1:] == [
        "-m", "experiments.scoring.score", str(there / "cells/fp32-euler_7"), "--reference", str(there / "reference"),
    ]  # fmt: skip
    assert shlex.split(report_command(there))[1:] == ["-m", "reports", str(there), "--print"]


def test_no_message_names_a_folder_that_nobody_has() -> None:
    """Only help texts and docstrings speak of DIR."""

    root = Path(__file__).resolve().parent.parent
    for room in ("experiments", "reports"):
        for path in sorted((root / room).rglob("*.py")):
            tree = ast.parse(path.read_text())
            docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and node not in docstrings and "\n" not in str(node.value):
                    assert not re.search(r"resume=DIR|out=\?|CELL_DIR", str(node.value)), f"{path}:{node.lineno}"
