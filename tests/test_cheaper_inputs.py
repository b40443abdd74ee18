"""References of other lengths, cut in pauses or made up for drawn weights, and the calibration of step reuse."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.contract import ConfigError
from engine.frontend import generated_frames
from experiments.common.cli import EXIT_OK, EXIT_USAGE, run_verb
from experiments.settings.compose import compose_cells, compose_config
from experiments.solvers.calibrate_reuse import main as calibrate
from experiments.solvers.calibrate_reuse import rescale_of, split_alphas
from experiments.trim_reference import last_pause_s
from experiments.trim_reference import main as trim
from experiments.workload.requests import load_workload
from tests.engines import WIDE

RATE_HZ = 24000


@pytest.mark.parametrize("seconds", [12, 8, 5, 3])
def test_a_made_up_clip_of_any_length_gives_a_sentence_the_same_frames(seconds: int) -> None:
    workload = load_workload(compose_config([*WIDE, f"reference=synthetic_{seconds}s", "workload=smoke"]))
    voice = workload.voices[0]
    assert workload.describe()["reference_s"] == seconds
    ref_text = voice.text + " "
    assert len(ref_text) == 15 * seconds
    assert generated_frames(seconds * RATE_HZ // 256, ref_text, "x" * 60, 1.0) in (374, 375)


def test_trained_weights_are_never_given_a_made_up_clip() -> None:
    with pytest.raises(ConfigError, match="no voice for trained weights"):
        load_workload(compose_config(["reference=synthetic_5s"]))
    with pytest.raises(ConfigError, match="synthetic:SECONDS"):
        load_workload(compose_config([*WIDE, "reference=synthetic_5s", "reference.voices.0.audio='synthetic:x'"]))


def test_the_preset_changes_nothing_but_the_length_of_the_reference() -> None:
    cells = compose_cells(["experiment=reference_length"])
    assert len({cell.label for cell in cells}) == 4
    assert all({**cell.config, "reference": None} == {**cells[0].config, "reference": None} for cell in cells)


def clip(tmp_path: Path) -> Path:
    """3 s of sound with pauses from 1.0 to 1.2 s, of 50 ms at 1.6 s, and from 2.5 to 2.7 s."""
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    audio_S = 0.3 * np.sin(2 * np.pi * 200 * t)
    for start, end in ((1.0, 1.2), (1.6, 1.65), (2.5, 2.7)):
        audio_S[int(start * RATE_HZ) : int(end * RATE_HZ)] = 0
    path = tmp_path / "long.wav"
    soundfile.write(path, audio_S.astype(np.float32), RATE_HZ)
    return path


def test_the_cut_is_in_the_last_pause_that_is_long_enough(tmp_path: Path) -> None:
    audio_S, rate_hz = soundfile.read(clip(tmp_path), dtype="float32")
    assert last_pause_s(audio_S, rate_hz, 2.0) == pytest.approx(1.1)
    assert last_pause_s(audio_S, rate_hz, 2.6) == pytest.approx(2.6)
    assert last_pause_s(audio_S, rate_hz, 0.9) is None


def test_trimming_writes_the_clip_and_refuses_a_text_it_cannot_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = str(clip(tmp_path)), tmp_path / "short.wav"
    assert run_verb(trim, [path, "--max-s", "2", "--text", "We walk to the sea.", "--out", str(out)]) == EXIT_OK
    assert soundfile.info(out).frames == round(1.1 * RATE_HZ)
    (override,) = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert override.startswith("reference.voices=[{id:'short'")
    assert run_verb(trim, [path, "--max-s", "2", "--text", "We", "--out", str(out)]) == EXIT_USAGE
    assert run_verb(trim, [path, "--max-s", "0.9", "--text", "We walk.", "--out", str(out)]) == EXIT_USAGE
    errors = capsys.readouterr().err.splitlines()
    assert "2 letters for 1.0 s of speech (2.0 a second" in errors[0]
    assert "no pause" in errors[1]


def test_the_polynomial_is_recovered_exactly() -> None:
    change = [0.0, 0.1, 0.2, 0.3, 0.5]
    assert rescale_of(change, [3 * c * c + 0.5 * c for c in change]) == pytest.approx([3.0, 0.5, 0.0])


def test_calibration_prints_a_schedule_per_alpha(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(calibrate, ["solver=euler_8", "workload=smoke", "alphas=0.000001,9"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "alpha 1e-06: 8 of 8 evaluations, evaluated: [0, 1, 2, 3, 4, 5, 6, 7]" in printed
    assert "alpha 9: 2 of 8 evaluations, evaluated: [0, 7]" in printed
    assert "rescale: [" in printed
    with pytest.raises(ConfigError, match="alphas"):
        split_alphas(["alphas=0.1,x"])
