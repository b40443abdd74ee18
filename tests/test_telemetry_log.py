"""Telemetry by its verb: logs of tegrastats that somebody brings, and what is watched here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.common.cli import run_verb
from experiments.telemetry import __main__ as telemetry
from experiments.telemetry.__main__ import main
from experiments.telemetry.sampler import TELEMETRY
from tests.jetson_trees import BOARDS, plant
from tests.tegrastats_lines import LINES


@pytest.fixture(autouse=True)
def no_nvpmodel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def log_of(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "tegrastats.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_log_becomes_telemetry_and_a_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = log_of(tmp_path, LINES["16"], LINES["17"])
    assert run_verb(main, ["import", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 lines over 1.0 s, longest gap 1.0 s"
    assert said[1].startswith("total  19.97 W mean, 19.55 to 20.40 W (board rails by rule thor-rails: VDD_GPU + ")
    assert said[2] == "hottest  tj 35.9 C"
    head, power, state, *_ = [json.loads(line) for line in (tmp_path / f"tegrastats.log.{TELEMETRY}").open()]
    assert (head["source"], head["rule"], head["missing"]) == ("tegrastats", "thor-rails", {})
    assert (power["t_s"], power["total_w"]) == (0.0, 20.402)
    assert (state["gpu_hz"], state["zones_c"]["cpu"]) == (314e6, 34.843)


def test_lines_of_one_second_are_spread_over_it(tmp_path: Path) -> None:
    first = LINES["08"]
    path = log_of(tmp_path, first, first, first.replace("18:42:06", "18:42:07"))
    assert run_verb(main, ["import", str(path), "--out", str(tmp_path / "out.jsonl")]) == 0
    entries = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [entry["t_s"] for entry in entries if entry["kind"] == "power"] == [0.0, 0.5, 1.0]


def test_a_log_without_power_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(main, ["import", str(log_of(tmp_path, LINES["06"]))]) == 0
    assert "total  unknown: the lines name no rail" in capsys.readouterr().out


def test_a_log_without_dates_goes_by_the_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = log_of(tmp_path, LINES["01"], LINES["01"], LINES["01"])
    assert run_verb(main, ["import", str(path), "--interval-ms", "500"]) == 0
    assert capsys.readouterr().out.startswith("3 lines over 1.0 s, longest gap 0.5 s")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((LINES["08"], "VDD_IN 5W/5W"), "line 2: 'VDD_IN 5W/5W' is no field of tegrastats"),
        ((LINES["08"], LINES["08"].replace("18:42:06", "18:42:05")), "the clock went back"),
        ((LINES["08"], LINES["01"]), "some lines have a date and some have none"),
        (("",), "holds no line"),
    ],
)
def test_a_log_that_says_something_else_is_one_line(
    lines: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(main, ["import", str(log_of(tmp_path, *lines))]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize(
    "words",
    [
        ["import"],
        ["import", "nowhere.log"],
        ["watch", "x.log"],
        ["watch", "--hz", "0"],
        ["import", "x", "--interval-ms", "-1"],
    ],
)
def test_a_mistake_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(main, words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "total", "mean"),
    [
        ("agx-orin-jp5", "agx-orin-rails: VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0", 8.711),
        ("agx-orin-jp6", "agx-orin-rails: VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0", 8.711),
        ("agx-orin-jp7", "agx-orin-rails: VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0", 8.711),
        ("orin-nx", "vdd-in: VDD_IN", 9.250), ("orin-nano", "vdd-in: VDD_IN", 5.252),
        ("thor-jp71", "thor-vin: VIN", 19.780),
        ("thor-jp72", "thor-rails: VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0", 10.572),
    ],
)  # fmt: skip
def test_watch_shows_the_watts_of_each_board(
    name: str, total: str, mean: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tree = plant(tmp_path, BOARDS[name])
    monkeypatch.setattr(telemetry, "Tree", lambda: tree)
    assert run_verb(main, ["watch", "--seconds", "0.05", "--hz", "50"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["source rails", f"total  by rule {total}"]
    assert "sensor ina3221: samples 512, 430 ms a value" in said
    assert any(line.startswith(f"mean   {mean:.3f} W") for line in said), said


def test_watch_shows_where_watts_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    """On this machine, whatever it is."""
    assert run_verb(main, ["watch", "--seconds", "0.2", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("source ")
