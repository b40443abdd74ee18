"""Watts, joules, heat and throttling in reports, the gate, MLflow and a baseline's page; nothing where unmeasured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines.refused import SettingRefused
from baselines.stored.gate import judge
from baselines.stored.store import save_baseline
from baselines.stored.verdict import Finding, Limits
from experiments.baseline import main as baseline_verb
from experiments.common.cli import run_verb
from experiments.tracking.content import load_content
from metrics.power.summary import summary_of
from metrics.record import RunRecord, Score, load_record, save_record
from reports.data.power import samples_of
from reports.data.table import load_table
from reports.render.every import render_report
from reports.render.power import energy_points
from reports.sections.power_columns import power_columns
from reports.verdicts.spoken.runs import StoredFinding, _stored_row
from tests.baseline_runs import LIMITS, changed, environment, five, make_baseline
from tests.test_report_data import FakeCell, write_sweep

BOARD = {
    "board": "Jetson AGX Orin 64GB", "family": "agx-orin", "jetpack": "6.2.1", "l4t": "36.4.4", "mode_id": 0,
    "mode_name": "MAXN", "clocks": "locked", "unknown": {},
}  # fmt: skip
ON_BOARD: dict[str, Any] = {
    "host_class": "jetson-agx-orin-64gb-maxn-locked-cuda", "device": "cuda:0", "jetson": BOARD,
    "power_mode": "MAXN (id 0)", "unified_memory": {"lost_bytes": 5000 * 2**20},
    "telemetry": {"source": "rails", "rule": "agx-orin-rails", "hottest_c": 71.5, "hottest_zone": "tj-thermal",
                  "throttles": [], "events": {"oc1": 0, "oc3": 12}},
    "energy": {"source": "rails", "rule": "agx-orin-rails"},
}  # fmt: skip


def joules(gross: float, net: float = 4.0, watts: float = 30.0) -> tuple[Score, ...]:
    values = {"energy_j_per_audio_s": gross, "energy_net_j_per_audio_s": net, "power_mean_w": watts}
    return tuple(
        Score(metric=name, utterance_id=None, value=value, status="ok", reason="source rails", better="lower")
        for name, value in values.items()
    )


def with_joules(folder: Path, gross: float) -> None:
    path = folder / "result.json"
    record = load_record(path)
    save_record(replace(record, scores=(*record.scores, *joules(gross))), path)


def lines_of_telemetry(num: int = 60) -> list[dict[str, Any]]:
    head = {"kind": "head", "t_s": 100.0, "source": "rails", "rule": "agx-orin-rails", "total_of": ["VIN"]}
    samples: list[dict[str, Any]] = []
    for second in range(num):
        watts = 30.0 if 20 <= second < 40 else 9.0
        samples.append({"kind": "power", "t_s": 100.0 + second, "total_w": watts})
        throttles = ["cpu-throttle-alert"] if second == 30 else []
        state = {"zones_c": {"tj-thermal": 50.0 + second / 10, "cpu-thermal": 40.0}, "throttles": throttles}
        samples.append({"kind": "state", "t_s": 100.0 + second, "events": {"oc3": second}, **state})
    return [head, *samples]


def write_telemetry(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines_of_telemetry())
    (folder / "telemetry.jsonl").write_text(text + '{"kind": "power", "t_', encoding="utf-8")  # killed while it wrote


@pytest.fixture
def on_board(tmp_path: Path) -> Path:
    cells = (FakeCell(label="fp16-euler_7", rtf=0.1), FakeCell(label="int8-euler_7", rtf=0.08))
    root = write_sweep(tmp_path / "sweep", cells, **ON_BOARD)
    for label, gross in (("fp16-euler_7", 6.5), ("int8-euler_7", 5.25)):
        with_joules(root / "cells" / label, gross)
    write_telemetry(root / "cells" / "fp16-euler_7" / "energy")
    return root


def test_a_report_of_a_board_has_watts_joules_heat_and_mode_with_their_charts(on_board: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render_report(on_board, out)
    said = (out / "report.md").read_text()
    row = next(line for line in said.splitlines() if line.startswith("| fp16-euler_7 | 6.50 | 4.00 | 30.0 | 71.5 |"))
    assert "| OC3 12 times | MAXN (id 0), clocks locked | rails, rule agx-orin-rails |" in row
    assert said.index("plots/latency.png") < said.index("plots/power.png") < said.index("plots/rtf_energy.png")
    assert "5000 unified" in said, "on one memory the peak is what the board had less of"
    assert "W idle" not in said, "a column that nobody measured is left out"
    page = (out / "report.html").read_text()
    assert 'id="power"' in page
    assert "RTF against joules per second of speech: fp16-euler_7 RTF 0.100, 6.50 J" in page
    assert (out / "plots" / "power.png").stat().st_size > 5000


def test_a_machine_without_power_has_no_word_of_it(tmp_path: Path) -> None:
    render_report(write_sweep(tmp_path / "sweep", (FakeCell(label="fp32-euler_7"),)), tmp_path / "out")
    said = (tmp_path / "out" / "report.md").read_text() + (tmp_path / "out" / "report.html").read_text()
    assert "Power and heat" not in said
    assert "J per s of speech" not in said
    assert not (tmp_path / "out" / "plots" / "power.png").exists()


def test_audio_that_cannot_be_believed_has_no_joules(tmp_path: Path) -> None:
    root = write_sweep(tmp_path / "sweep", (FakeCell(label="amp-euler_7", invalid=("en04",)),), **ON_BOARD)
    with_joules(root / "cells" / "amp-euler_7", 1.5)
    assert energy_points(load_table(root)) == []


def test_samples_are_read_up_to_a_torn_line(on_board: Path) -> None:
    table = load_table(on_board)
    seen = samples_of(table.source, table.rows[0])
    assert seen is not None
    assert (len(seen.watts), seen.watts[25], seen.degrees[-1], seen.throttled_s) == (
        60,
        (25.0, 30.0),
        (59, 55.9),
        (30,),
    )
    assert samples_of(table.source, table.rows[1]) is None


def test_the_summary_of_a_record_is_what_the_samples_say() -> None:
    found = summary_of(lines_of_telemetry())
    assert found["power_mean_w"] == pytest.approx(16.0)
    assert (found["hottest_c"], found["hottest_zone"]) == (pytest.approx(55.9), "tj-thermal")
    assert (found["throttles"], found["events"], found["longest_gap_s"]) == (["cpu-throttle-alert"], {"oc3": 59}, 1.0)
    card = [{"kind": "head", "source": "nvml", "rule": "card"},
            {"kind": "power", "t_s": 0, "total_w": 300.0, "gpu_c": 61.0, "throttles": ["power cap"]}]  # fmt: skip
    assert summary_of(card) == {
        "source": "nvml", "rule": "card", "num_samples": 1, "power_mean_w": 300.0, "power_max_w": 300.0,
        "hottest_c": 61.0, "hottest_zone": "gpu", "throttles": ["power cap"],
    }  # fmt: skip
    assert summary_of([]) == {}


def test_swap_that_grew_is_a_column_of_its_own(tmp_path: Path) -> None:
    lines = lines_of_telemetry()
    for line, mib in zip([line for line in lines if line["kind"] == "state"], (100, 100, 612, 500), strict=False):
        line["swap_used_bytes"] = mib * 2**20
    seen = summary_of(lines)
    assert seen["swap_grew_bytes"] == 512 * 2**20
    assert "swap_grew_bytes" not in summary_of(lines[:4])
    root = write_sweep(tmp_path / "sweep", (FakeCell(label="fp16-euler_7"),), **{**ON_BOARD, "telemetry": seen})
    table = load_table(root)
    shown = {column.header: column.text(table.rows[0]) for column in power_columns(table)}
    assert shown["swap +MiB"] == "512"
    calm = write_sweep(tmp_path / "calm", (FakeCell(label="fp16-euler_7"),), **ON_BOARD)
    assert "swap +MiB" not in {column.header for column in power_columns(load_table(calm))}


def run_with(gross: float | None, how: str = "agx-orin-rails", run: RunRecord | None = None) -> RunRecord:
    base = changed() if run is None else run
    env = {**base.environment, "energy": {"source": "rails", "rule": how}}
    return base if gross is None else replace(base, scores=(*base.scores, *joules(gross)), environment=env)


def energy_finding(new: RunRecord, limits: Limits = LIMITS) -> Finding | None:
    stored = [run_with(10.0, run=run) for run in five()]
    return next((f for f in judge(stored, new, limits).findings if f.metric == "energy_j_per_audio_s"), None)


@pytest.mark.parametrize(
    ("new", "outcome", "said"),
    [
        (run_with(10.9), "PASS", "10.90 J per second of speech against 10.00 (median of 5 session(s)), x1.090"),
        (run_with(11.1), "FAIL", "x1.110, allowed x1.1"),
        (run_with(5.0), "PASS", "x0.500"),
        (run_with(None), "INCONCLUSIVE", "this run has none: measured without measure=energy"),
        (run_with(10.0, "vdd-in"), "INVALID_ENV", "energy by source rails, rule vdd-in here and by source rails, rule"),
    ],
)
def test_the_gate_holds_joules_where_the_baseline_has_them(new: RunRecord, outcome: str, said: str) -> None:
    finding = energy_finding(new)
    assert finding is not None
    assert (finding.outcome, said in finding.explanation) == (outcome, True), finding.explanation


def test_a_baseline_without_joules_asks_for_none_and_the_limit_is_a_setting() -> None:
    assert not [f for f in judge(five(), run_with(10.0), LIMITS).findings if f.metric == "energy_j_per_audio_s"]
    finding = energy_finding(run_with(11.1), replace(LIMITS, energy_ratio=1.2))
    assert finding is not None
    assert finding.outcome == "PASS"
    with pytest.raises(SettingRefused, match=r"gate\.energy_ratio"):
        replace(LIMITS, energy_ratio=0.9)


def test_limits_that_were_written_before_there_was_energy_stay_good() -> None:
    given = {name: getattr(LIMITS, name) for name in Limits.__dataclass_fields__ if name != "energy_ratio"}
    assert Limits.from_mapping(given).energy_ratio == 1.10


def test_joules_are_spoken_with_their_unit_and_their_growth() -> None:
    row = _stored_row(StoredFinding(
        metric="energy_j_per_audio_s", outcome="FAIL", explanation="", baseline=10.0, new=11.5, effect=1.15, limit=1.1
    ))  # fmt: skip
    assert (row.what, row.before, row.after, row.change) == ("energy per second of speech", "10 J", "11.5 J", "+15 %")


def test_mlflow_gets_joules_watts_and_the_samples(on_board: Path) -> None:
    (run,) = [child for child in load_content(on_board).children if child.name == "fp16-euler_7"]
    energy = {name: value for name, value in run.summary.items() if name.startswith("energy/")}
    assert energy == {
        "energy/j_per_audio_s": 6.5, "energy/net_j_per_audio_s": 4.0, "energy/power_mean_w": 30.0,
        "energy/hottest_c": 71.5,
    }  # fmt: skip
    assert run.summary["memory/peak_mib"] == 5000
    assert "energy/telemetry.jsonl" in run.files


def test_the_page_of_a_baseline_opens_with_the_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on_board = {**environment("cuda:0"), **ON_BOARD}
    runs = [
        run_with(gross, run=replace(run, environment=on_board)) for gross, run in zip((9, 11), five(), strict=False)
    ]
    save_baseline(make_baseline(*runs, host_class=str(ON_BOARD["host_class"])), tmp_path / "records")
    out = tmp_path / "PERFORMANCE_BASELINE.md"
    words = ["page", "nightly", "--records", str(tmp_path / "records"), "--out", str(out)]
    assert run_verb(baseline_verb, words) == 0
    assert capsys.readouterr().out.strip() == str(out)
    lines = out.read_text().splitlines()
    assert lines[0] == "# Performance baseline nightly"
    assert lines[4:8] == [
        "| board | Jetson AGX Orin 64GB |", "| JetPack | 6.2.1 (L4T 36.4.4) |", "| power mode | MAXN (id 0) |",
        "| clocks | locked |",
    ]  # fmt: skip
    assert "5000 unified | 9.00 | 4.00 | 30.0 |" in out.read_text()


def test_the_page_of_a_processor_opens_with_it_and_has_no_column_of_watts(tmp_path: Path) -> None:
    save_baseline(make_baseline(), tmp_path)
    out = tmp_path / "page.md"
    assert run_verb(baseline_verb, ["page", "nightly", "--records", str(tmp_path), "--out", str(out)]) == 0
    said = out.read_text()
    assert "| processor | Test CPU, 2 cores |" in said
    assert "W busy" not in said
    assert "Reviewed: no, " in said
