"""A user's mistakes: one line each, naming the key, the value and the remedy, before anything is started."""

import errno
import os
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.contract import ConfigError, UnsupportedEngine
from experiments import run
from experiments.common.cli import run_verb
from experiments.measuring import validate
from experiments.settings.compose import compose_cells, compose_run
from experiments.sweep import __main__ as sweep
from metrics.record import RecordError
from tests.engines import config

SPEECH = np.sin(np.arange(48000) / 30).astype(np.float32) * 0.3


def refused(capfd: pytest.CaptureFixture[str], verb: Any, argv: Sequence[str]) -> str:
    """The one line that the verb leaves on stderr; nothing on stdout, exit code 2."""
    assert run_verb(verb, argv) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("engine=fp33", "engine=fp33: did you mean engine=fp32?; choose one of amp, bf16, .*upstream"),
        ("solver=euler_9", "solver=euler_9: did you mean solver=euler_.?; choose one of adaptive, .*euler_16, "),
        ("enigne=fp32", "enigne=fp32: no such key, did you mean engine?; known here: device, engine, "),
        ("engine.treads=3", "engine.treads=3: no such key, did you mean device.threads?; "),
        ("refrence.engine=fp32", "refrence.engine=fp32: no such key, did you mean reference.engine?"),
        ("workload.sed=4", "workload.sed=4: no such key, did you mean seed?"),
        ("reference.voices=me.wav", "reference.voices=me.wav: must be a list of .*; write 'reference.voices=.{id: "),
        ("measure.rouns=3", "measure.rouns=3: no such key, did you mean measure.rounds?"),
        ("measure.max_calls=lots", "measure.max_calls=lots: no such key; known here: measure.cal.*; correct or "),
        ("engine.precison=fp16", "engine.precison=fp16: no such key, did you mean engine.precision?"),
        ("measure=3", "measure=3: choose one of .*quick, steady"),
        ("engine", "engine=: not an override .*; write KEY=VALUE"),
        ("workload.select=[en01", "workload.select=.en01: not an override"),
        ("engine=fp32,bf16", "engine=fp32,bf16: a run takes one value; use `.*experiments.sweep` for several"),
        ("experiment=bench", "experiment=bench: a preset of 11 cells is a sweep; use `.*experiments.sweep` with it"),
        ("experiment=none", "experiment=none: choose one of bench"),
        ("+more=1", "more=1: no such key; the keys are model, engine"),
        ("~seed", "seed=.deleted.: is needed"),
        ("~measure.rounds", "measure.rounds=.deleted.: is needed"),
        ("solver.steps=0", "solver.steps=0: must be a whole number from 1"),
        ("solver.steps=2.5", "solver.steps=2.5: must be a whole number"),
        ("solver.num_evals=6", "solver.steps=7: give exactly one of steps and num_evals"),
        ("solver.steps=9", "solver.grid=epss: EPSS is defined for 5, 6, 7, 10, 12, 16 steps, not 9; use"),
        ("solver.grid=[0,0.5,1]", "solver.steps=7: solver.grid is a list of 2 steps, .*set solver.steps=null or 2"),
        ("solver.sway=1.8", "solver.sway=1.8: must lie in .-1, 1.75."),
        ("solver.sway=-1.1", "solver.sway=-1.1: must lie in .-1, 1.75."),
        ("solver.sway=abc", "solver.sway=abc: must be a number from -1e.06 to 1e.06"),
        ("solver.sway=null", "solver.sway=None: must be a number from"),
        ("model.arch.dim=wide", "model.arch.dim=wide: must be a whole number from 16"),
        ("model.arch=wide", "model.arch=wide: is a group of settings"),
        ("reference.voices=slt", "reference.voices=slt: must be a list"),
        ("~workload.texts", "workload.texts=.deleted.: is needed"),
        ("solver.cfg_strength=-1", "solver.cfg_strength=-1: must be a number from 0"),
        ("solver.method=rk45", "solver.method=rk45: must be one of euler, midpoint, heun, rk4"),
        ("measure.rounds=0", "measure.rounds=0: must be a whole number from 1 to 1000000; use measure.rounds=1"),
        ("measure.rounds=many", "measure.rounds=many: must be a whole number from 1"),
        ("measure.warmup_rounds=-1", "measure.warmup_rounds=-1: must be a whole number from 0"),
        ("measure.time_limit_s=0", "measure.time_limit_s=0: must be a number above 0"),
        ("measure.calibration=fft", "measure.calibration=fft: must be one of all, gemm, memory, dispatch, none"),
        ("measure.memory_limit_bytes=10", "measure.memory_limit_bytes=10: must be a whole number from 1048576"),
        ("quality.metrics=[mos]", "quality.metrics=.*mos.*: must be a list of log_mel, snr, si_sdr"),
        ("quality.reference_dir=nowhere", "quality.reference_dir=nowhere: holds no result.json"),
        ("reference.target_rms=0", "reference.target_rms=0: must be a number above 0"),
        ("sweep.lock=steal", "sweep.lock=steal: must be wait or refuse"),
        ("seed=-1", "seed=-1: must be a whole number from 0"),
        ("device.kind=tpu", "device.kind=tpu: must be cpu, cuda or cuda:N"),
        ("device.kind=cuda:99", "device.kind=cuda:99: this machine has . CUDA devices; use device=cpu"),
        ("device.threads=0", "device.threads=0: must be a whole number from 1"),
        ("model.checkpoint=missing.safetensors", "model.checkpoint=missing.safetensors: no such file"),
        ("model.vocab=missing.txt", "model.vocab=missing.txt: no such file"),
        ("vocoder.checkpoint=missing.pt", "vocoder.checkpoint=missing.pt: no such file"),
        ("workload.texts=en_cor", "workload.texts=en_cor: no such text list; use one of .*en_core"),
        ("workload.select=[en1]", "workload.select=en1: no such id in this text list"),
        ("reference.voices.0.audio=missing.wav", r"reference.voices.0..audio=missing.wav: no such file, looked for"),
        ("reference.voices=[{id: a, audio: b.wav}]", "reference.voices.0.=.id: a, audio: b.wav.: text is missing"),
        ("reference.voices=[{id: a, audio: b.wav, text: ''}]", "reference.voices.0..text='': the transcript of voice"),
        ("workload.texts=mine.txt", f"workload.texts=mine.txt: no such file, looked for in {Path.cwd()}"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(override: str, expected: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refused(capfd, run.main, [override, f"out={tmp_path / 'out'}"])
    assert re.match(expected.replace("?", r"\?"), line), line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "num_evals", "expected", "remedy"),
    [
        ("midpoint", 7, "midpoint evaluates 2 times a step", "use 6 or 8"),
        ("heun", 9, "heun evaluates 2 times a step", "use 8 or 10"),
        ("rk4", 6, "rk4 evaluates 4 times a step", "use 4 or 8"),
    ],
)
def test_odd_evaluation_counts(
    method: str, num_evals: int, expected: str, remedy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ["solver.steps=null", f"solver.num_evals={num_evals}", f"solver.method={method}"]
    line = refused(capfd, run.main, settings)
    assert line.startswith(f"solver.num_evals={num_evals}: {expected}")
    assert line.endswith(remedy)


@pytest.mark.parametrize(
    ("audio", "rate_hz", "expected"),
    [
        (np.zeros(0, np.float32), 24000, "the file holds no samples"),
        (np.zeros(48000, np.float32), 24000, "the audio is silent"),
        (np.full(48000, np.nan, np.float32), 24000, "the audio holds NaN or infinite samples"),
        (np.tile(SPEECH, 7), 24000, "14.00 s long: upstream keeps 12.05 s, and the transcript is that of the whole"),
    ],
)
def test_unusable_reference_audio(
    audio: np.ndarray, rate_hz: int, expected: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "voice.wav", audio, rate_hz, subtype="FLOAT")
    line = refused(capfd, run.main, [f"reference.voices.0.audio={tmp_path / 'voice.wav'}"])
    assert line.startswith(f"reference.voices[0].audio={tmp_path / 'voice.wav'}: {expected}")


def test_a_file_that_is_not_audio(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "voice.wav").write_text("hello")
    line = refused(capfd, run.main, [f"reference.voices.0.audio={tmp_path / 'voice.wav'}"])
    assert "not readable as audio" in line
    assert "convert it to WAV" in line


@pytest.mark.parametrize(("channels", "rate_hz"), [(2, 24000), (1, 8000)])
def test_stereo_and_telephone_rates_are_what_upstream_takes(channels: int, rate_hz: int, tmp_path: Path) -> None:
    audio = np.repeat(SPEECH[:, None], channels, axis=1)
    soundfile.write(tmp_path / "voice.wav", audio, rate_hz, subtype="FLOAT")
    validate.validate(config(f"reference.voices.0.audio={tmp_path / 'voice.wav'}"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "text of mine='': is empty; write a sentence"),
        ("  ", "text of mine=' ': is empty; write a sentence"),
        ("Price: 5 \u20ac", "the model's vocabulary lacks '\u20ac'; write it in characters of the vocabulary"),
        ("\u042f \u0442\u0443\u0442", "the model's vocabulary lacks '\u042f' '\u0442' '\u0443'"),
        ("Ni hao \u4f60", "the model's vocabulary lacks"),
    ],
)
def test_texts_that_cannot_be_spoken(
    text: str, expected: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"utterances: [{{id: mine, category: short, text: '{text}'}}]", encoding="utf-8")
    line = refused(capfd, run.main, [f"workload.texts={path}", "workload.select=null"])
    assert line.startswith("text of mine=")
    assert expected in line


def test_a_transcript_outside_the_vocabulary(capfd: pytest.CaptureFixture[str]) -> None:
    line = refused(capfd, run.main, ["reference.voices.0.text='\u00bfQu\u00e9?'"])
    assert line.startswith("reference.text of slt=")


def test_an_output_folder_that_cannot_be_made(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused(capfd, run.main, [f"out={tmp_path / 'file' / 'out'}"])
    assert line == (
        f"out={tmp_path / 'file' / 'out'}: cannot be written (Not a directory); choose a folder that you may write"
    )


@pytest.mark.parametrize("name", ["result.json", "sweep.json", "journal.jsonl"])
def test_results_are_never_overwritten(name: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    line = refused(capfd, run.main, [f"out={tmp_path}"])
    assert f"already holds {name}, and nothing measured is overwritten" in line
    assert (tmp_path / name).read_text() == "precious"


def test_too_little_space(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil._ntuple_diskusage(total=10**9, used=10**9, free=5 * 10**6)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    line = refused(capfd, run.main, [f"out={tmp_path}"])
    assert line.startswith(f"out={tmp_path}: 5 MB are free there, this may take ")


def test_a_disk_that_fills_up_meanwhile_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    def verb(argv: Sequence[str]) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "outputs/x/journal.jsonl")

    line = refused(capfd, verb, [])
    assert line.startswith("outputs/x/journal.jsonl: the disk is full; free some space")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a", 1, "b", "c"), 2),
        (RecordError("x.json: schema_version 9, this program reads 1"), 2),
        (UnsupportedEngine("no kernels", "use another"), 14),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(error: BaseException, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    def verb(argv: Sequence[str]) -> int:
        raise error

    assert run_verb(verb, []) == code
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_defect_keeps_its_traceback() -> None:
    def verb(argv: Sequence[str]) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_verb(verb, [])


def test_every_cell_is_checked_before_the_first_is_started(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refused(capfd, sweep.main, ["engine=fp32", "solver.steps=6,9", f"out={tmp_path / 'out'}"])
    assert "EPSS is defined for" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["experiment=bench", "engine=fp32"], "engine=fp32: experiment=bench sets it in its cells"),
        (["engine=fp32,fp32"], "cells=fp32-euler_7: the same cell twice"),
        (["engine=fp32", "seed=interval(0,1)"], "seed=interval(0,1): an interval has no list of cells"),
        (["engine=fp32,bf17"], "engine=bf17: did you mean engine=bf16?; choose one of amp, bf16"),
        (["resume=nowhere"], "nowhere/sweep.json: no such sweep"),
        (["resume=x", "engine=fp32"], "engine=fp32: cannot be set beside resume"),
        (["engine=fp32", "out=a,b"], "out=(several values): is one for the whole sweep"),
    ],
)
def test_mistakes_of_a_sweep(argv: list[str], expected: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert refused(capfd, sweep.main, argv).startswith(expected)


def test_the_default_sweep_is_the_users_list() -> None:
    labels = [cell.label for cell in compose_cells([])]
    assert labels[0] == "fp32-euler_32"
    wanted = {f"fp32-{method}_{steps}" for method in ("euler", "midpoint") for steps in (6, 7, 8)}
    wanted |= {f"{engine}-euler_7" for engine in ("amp", "bf16", "int8")}
    assert set(labels) == wanted | {"fp32-euler_32", "upstream-euler_32"}
    quick = compose_cells(["workload=smoke", "measure.rounds=1"])
    assert [cell.label for cell in quick] == labels
    assert {cell.config["measure"]["rounds"] for cell in quick} == {1}


@pytest.mark.parametrize(
    ("argv", "labels"),
    [
        (
            ["engine=fp32,bf16", "solver=euler_6,euler_7"],
            ["fp32-euler_6", "fp32-euler_7", "bf16-euler_6", "bf16-euler_7"],
        ),
        (["engine=int8"], ["int8-euler_7"]),
        (["seed=0,1"], ["fp32-euler_7-seed=0", "fp32-euler_7-seed=1"]),
        (["engine=fp32", "solver.sway=0,1"], ["fp32-euler_7-solver.sway=0", "fp32-euler_7-solver.sway=1"]),
        (["engine=fp32", "workload=smoke"], ["fp32-euler_7"]),
        (["engine=fp32", "solver.steps=range(5,7)"], ["fp32-euler_7-solver.steps=5", "fp32-euler_7-solver.steps=6"]),
        (["engine=fp32", "model.checkpoint=a/b c.pt"], ["fp32-euler_7-model.checkpoint=a_b_c.pt"]),
    ],
)  # fmt: skip
def test_cells_and_their_names(argv: list[str], labels: list[str]) -> None:
    assert [cell.label for cell in compose_cells(argv)] == labels


def test_a_run_is_named_after_what_makes_it_another_variant() -> None:
    assert compose_run(["engine=int8", "workload=smoke"]).label == "int8-euler_7"
    assert compose_run(["solver.sway=0"]).label == "fp32-euler_7-solver.sway=0"
    assert len(compose_run([f"model.checkpoint={'x' * 300}"]).label) <= 120


def test_a_cancelled_job_leaves_like_ctrl_c() -> None:
    def verb(argv: Sequence[str]) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
        return 0

    before = signal.getsignal(signal.SIGTERM)
    assert run_verb(verb, []) == 130
    assert signal.getsignal(signal.SIGTERM) is before
