"""Variants with long settings: on a terminal, in a folder's name, in the lines of progress. No figure is ever cut."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from experiments.common.progress import Board, Planned
from experiments.measuring.running import default_out, planned
from experiments.settings.compose import compose_run
from reports.data.table import load_table
from reports.render.terminal import print_report, stdout_console
from reports.words import cut, in_parts
from tests.report_sweeps import Judgeable, write_judgeable

OWN = "model=f5tts_v1_base-model.checkpoint=model_1000.pt-model.release=v1-quality.metrics=_log_mel_-3f2a9c10"
LONG = f"fp32-euler_7-{OWN}"


def printed(rows: list[Judgeable], width: int, folder: Path) -> str:
    file = io.StringIO()
    print_report(load_table(write_judgeable(folder, rows)), Console(file=file, width=width, highlight=False))
    return file.getvalue()


def test_a_single_variant_shows_its_figures_and_its_settings_below(tmp_path: Path) -> None:
    said = printed([Judgeable(label=LONG, audio="a", slowness=1.3, log_mel=0.41)], 100, tmp_path)
    line = next(line for line in said.splitlines() if line.startswith("fp32-euler_7 "))
    assert line.split()[:6] == ["fp32-euler_7", "7", "0.600", "1200", "n=30<59", "0.410"]
    assert said.replace("\n", " ").replace("- ", "-").count("model.checkpoint=model_1000.pt") == 1
    assert "too wide" not in said


@pytest.mark.parametrize("width", [20, 60, 80, 100, 140])
def test_of_several_the_names_are_cut_and_stay_apart_and_no_figure_is(width: int, tmp_path: Path) -> None:
    rows = [Judgeable(label=f"fp32-euler_{n}-{OWN}", audio="a", slowness=n, log_mel=0.41) for n in (7, 12)]
    said = printed(rows, width, tmp_path)
    table = said[said.index("\nvariant ") + 1 :].splitlines()
    shown = [line for line in table if re.match(r"fp32-.*…", line)]
    assert len({line.split()[0] for line in shown}) == len(rows)
    assert [line.split()[1:3] for line in shown] == [["7", "3.23"], ["7", "5.54"]]
    if width == 100:
        assert "log-mel" in table[0]
        assert "peak MiB" in table[0]


def test_what_does_not_fit_names_the_command_that_shows_it(tmp_path: Path) -> None:
    rows = [Judgeable(label=f"fp32-euler_{n}-{OWN}", audio="a", slowness=n, log_mel=0.41) for n in (7, 12)]
    said = printed(rows, 60, tmp_path)
    assert "too wide for 60 columns: " in said
    wide = int(re.search(r"`\S+ .*reports \S+ --print` shows them with COLUMNS=(\d+)", said)[1])  # type: ignore[index]
    assert "too wide" not in printed(rows, wide, tmp_path / "again")
    assert LONG in printed(rows, wide, tmp_path / "whole")


def test_columns_are_obeyed_by_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert stdout_console().width == 200
    monkeypatch.delenv("COLUMNS")
    assert stdout_console().width == 100


def test_words() -> None:
    assert in_parts(LONG) == ("fp32-euler_7", OWN)
    assert in_parts("fp32-euler_7") == ("fp32-euler_7", "")
    assert cut("abcdefghij", 5) == "ab…ij"
    assert cut("abcde", 5) == "abcde"


def test_a_folder_that_nobody_named_stays_short_and_two_stay_two() -> None:
    one, other = default_out(LONG).name, default_out(f"{LONG}x").name
    assert re.fullmatch(r"\d{8}-\d{6}-fp32-euler_7-[0-9a-f]{8}", one)
    assert one[-8:] != other[-8:]
    assert default_out("fp32-euler_7-vocoder=bigvgan").name.endswith("-fp32-euler_7-vocoder=bigvgan")


def test_a_single_variant_names_its_settings_once() -> None:
    output = io.StringIO()
    plan = Planned(label=LONG, num_trials=5, num_evals=7, num_warm=3)
    with Board([plan], console=Console(file=output, width=400), now_s=lambda: 0.0) as board:
        board.start(0)
        board.finish(0, "ok", None)
    assert output.getvalue().splitlines() == [
        f"[1/1] {LONG}: 5 calls, 3 of them to warm up", "[1/1] fp32-euler_7: ok, 0.0 s"
    ]  # fmt: skip


def test_the_calls_of_a_quick_run_say_which_are_counted() -> None:
    plan = planned(compose_run(["measure=quick", "workload=smoke"]))
    assert plan.calls == "5 calls, 3 of them to warm up"
