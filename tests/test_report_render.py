"""The files of a report: what stands in them, that they are whole, and that rendering again changes nothing."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from reports.__main__ import main
from reports.data.table import load_table
from reports.render.every import render_report
from reports.render.terminal import print_report
from tests.test_report_data import DEFAULT_CELLS, REFERENCE, FakeCell, write_run, write_sweep
from tests.test_report_html import page_of

ROOT = Path(__file__).parent.parent


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_sweep(tmp_path_factory.mktemp("render") / "sweep")
    render_report(folder)
    return folder


def test_every_file_a_report_promises_is_there(rendered: Path) -> None:
    for name in ("report.md", "report.html", "rows.csv", "samples.parquet"):
        assert (rendered / name).stat().st_size > 0
    pictures = sorted(path.name for path in (rendered / "plots").iterdir())
    variants = ("amp-euler_7", "fp32-euler_7", "int8-euler_7", "upstream-euler_32")
    assert pictures == ["latency.png", "rtf_quality.png", *(f"spectrogram-{v}.png" for v in variants), "stages.png"]


def test_markdown_says_where_the_numbers_come_from(rendered: Path) -> None:
    text = (rendered / "report.md").read_text(encoding="utf-8")
    assert text.startswith(
        "# f5bench report: sweep-1\n\nQuality not judged. Fastest: int8-euler_7, 6.00 times as fast as "
    )
    assert "int8-euler_7 speaks at RTF 0.300 (reference 2.1 s, 5.2 s generated in 4 sentences)." in text
    for part in ("amd-epyc-2c-cpu", "AMD EPYC 9V74, 2 cores", "bench, identity feedc0defeed", "2.11.0", "0123456789ab"):
        assert part in text
    assert "RTF: wall seconds per generated second; reference 2.1 s, 5.2 s generated in 4 sentences." in text
    assert "## How to read a row" in text
    assert "| same-run verdicts | no selftest of host class " in text


def test_markdown_tables_hold_their_shape_whatever_the_sentences_say(rendered: Path) -> None:
    text = (rendered / "report.md").read_text(encoding="utf-8")
    assert "Keep your ticket \\| please." in text
    for block in text.split("\n\n"):
        if block.startswith("| "):
            widths = {line.replace("\\|", "").count("|") for line in block.splitlines()}
            assert len(widths) == 1, block


def test_markdown_shows_no_speed_of_broken_audio_but_says_so(rendered: Path) -> None:
    lines = (rendered / "report.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if line.startswith("| amp-euler_7 |"))
    assert row.startswith("| amp-euler_7 | 7 | - | - | - | - | - |")
    assert "audio invalid: 2 of 4 sentences: en04" in row


def test_links_and_pictures_lead_to_files(rendered: Path) -> None:
    text = (rendered / "report.md").read_text(encoding="utf-8")
    targets = [part.split(")")[0] for part in text.split("](")[1:]]
    assert "cells/int8-euler_7/audio/en01.wav" in targets
    assert "plots/rtf_quality.png" in targets
    assert all((rendered / target).is_file() for target in targets)


def test_rendering_again_changes_no_byte(rendered: Path, tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(rendered, copy)
    before = contents(copy)
    render_report(copy)
    assert contents(copy) == before


def test_no_output_names_the_machines_folders(rendered: Path) -> None:
    for name, content in contents(rendered).items():
        if not name.endswith("result.json"):
            assert str(rendered).encode() not in content, name
            assert b"/home/someone" not in content or name == "sweep.json", name


def test_rows_csv_has_the_units_and_the_caption(rendered: Path) -> None:
    rows = pd.read_csv(rendered / "rows.csv").set_index("label")
    assert list(rows.index) == [cell.label for cell in DEFAULT_CELLS]
    assert rows.loc["int8-euler_7", "rtf"] == pytest.approx(0.3)
    assert rows.loc["int8-euler_7", "p50_ms"] == pytest.approx(375)
    assert rows.loc["int8-euler_7", "num_ok_pesq_wb_vs_reference"] == 3
    assert pd.isna(rows.loc["amp-euler_7", "rtf"])
    assert set(rows["reference_s"]) == {2.1}


def test_samples_hold_every_trial_in_base_units(rendered: Path) -> None:
    samples = pd.read_parquet(rendered / "samples.parquet")
    assert len(samples) == 4 * (2 + 2 + 16 + 4 + 4)
    assert samples["is_warmup"].sum() == 4 * 5
    invalid = samples[samples["label"] == "amp-euler_7"]
    assert set(invalid["row_status"]) == {"invalid"}
    one = samples[(samples["label"] == "int8-euler_7") & ~samples["is_warmup"] & (samples["utterance_id"] == "en01")]
    assert one["wall_s"].tolist() == [0.3, 0.3, 0.3]


def test_a_report_elsewhere_carries_two_sentences_and_points_nowhere_else(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "published"
    render_report(rendered, out)
    text = (out / "report.md").read_text(encoding="utf-8")
    sounds = re.findall(r"\]\((audio/[^)]+)\)", text)
    assert len(sounds) == 5 * 2
    assert all((out / source).is_file() for source in sounds)
    assert "cells/" not in text
    assert "carries two sentences of each row, as 16-bit FLAC" in text


def test_what_is_published_is_text_and_small_pictures(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "published"
    assert main([str(rendered), "--publish", str(out)]) == 0
    paths = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in paths} == {".md", ".png"}
    assert not [path for path in paths if "spectrogram" in path.name]
    assert max(path.stat().st_size for path in paths) < 150_000
    text = (out / "report.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert [link for link in links if not (out / link).is_file()] == []
    assert "the same command makes them again" in text
    assert "| fp32" in text
    assert main([str(rendered), "--publish", str(rendered)]) == 2, "the run's own report stays"


def test_missing_wavs_are_said_and_cost_only_their_pictures(tmp_path: Path) -> None:
    write_sweep(tmp_path, [REFERENCE, FakeCell(label="int8-euler_7")])
    shutil.rmtree(tmp_path / "cells" / "int8-euler_7" / "audio")
    (tmp_path / "cells" / REFERENCE.label / "audio" / "en01.wav").write_bytes(b"RIFF, but nothing more")
    render_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (
        "gone or unreadable, so they cannot be heard or drawn: fp32-euler_32 (1 of 4), int8-euler_7 (4 of 4)." in text
    )
    assert "0.100" in text
    assert not (tmp_path / "plots" / "spectrogram-int8-euler_7.png").exists()


def test_a_chart_of_one_score_has_its_whole_label(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    for path in tmp_path.rglob("result.json"):
        content = json.loads(path.read_text("utf-8"))
        content["scores"] = [score for score in content["scores"] if not score["metric"].startswith("pesq")]
        path.write_text(json.dumps(content), "utf-8")
    render_report(tmp_path)
    picture = np.asarray(Image.open(tmp_path / "plots" / "rtf_quality.png").convert("L"))
    assert picture.shape[1] < 1000, "one panel"
    assert picture[:, [0, 1, -2, -1]].min() == 255, "what runs over the edge darkens it"


def test_a_reference_that_is_no_row_is_heard_and_seen(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(label="int8-euler_7"))
    write_run(tmp_path / "reference", REFERENCE)
    render_report(tmp_path)
    assert "[en01](reference/audio/en01.wav)" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "[en01](audio/en01.wav)" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (tmp_path / "plots" / "spectrogram-int8-euler_7.png").is_file()


def test_a_sweep_in_which_nothing_ran_still_has_its_report(tmp_path: Path) -> None:
    write_sweep(tmp_path, [cell for cell in DEFAULT_CELLS if cell.state != "ok"])
    render_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "skipped: no float16 convolution on this CPU" in text
    page_of(tmp_path / "report.html")


def test_the_terminal_table_fits_100_columns(rendered: Path) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    print_report(load_table(rendered), console)
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= 100
    for part in ("int8-euler_7", "0.300", "n=12<59", "2.50 3/4", "audio invalid", "x base: how many times as fast as"):
        assert part in text
    assert "reference 2.1 s, 5.2 s generated in 4 sentences" in text


def test_the_command_prints_the_table_and_the_paths(rendered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(rendered), "--print"]) == 0
    out = capsys.readouterr().out
    assert "Quality not judged. Fastest: int8-euler_7" in out
    assert out.splitlines()[-4:] == [
        str(rendered / name) for name in ("report.md", "report.html", "rows.csv", "samples.parquet")
    ]


@pytest.mark.parametrize("version", [None, 1])
def test_a_wrong_folder_costs_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int | None
) -> None:
    if version is not None:
        (tmp_path / "result.json").write_text(f'{{"schema_version": {version}}}', encoding="utf-8")
    assert main([str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert ("schema_version 1, this program reads 2" if version else "no result.json") in captured.err


def test_an_output_folder_that_cannot_be_made_costs_one_line(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main([str(rendered), "--out", str(tmp_path / "file" / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_reports_render_without_torch(tmp_path: Path) -> None:
    write_sweep(tmp_path, [REFERENCE, FakeCell(label="int8-euler_7")])
    code = (
        "import sys, reports.__main__ as verb\n"
        "assert verb.main([sys.argv[1], '--print']) == 0\n"
        "loaded = {'torch', 'hydra', 'f5_tts'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
