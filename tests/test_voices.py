"""Voices of the `reference` group: their ids, what was done to their clips and what is wrong with them, on record."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, EXIT_USAGE, run_verb
from experiments.measuring.validate import validate
from experiments.trim_reference import main as trim
from experiments.trim_reference import override_of
from experiments.workload.foreign import foreign_voices
from experiments.workload.requests import load_workload, select_lines
from experiments.workload.voices import load_voices, load_voices_of_record
from metrics.fidelity.prompt import level_warnings, silence_warnings, transcript_warnings
from reports.data.context import caption_of, context_of, warnings_of
from reports.data.table import load_table
from tests.engines import ROOT, config
from tests.test_report_data import FakeCell, read_record, rewrite_record, write_run

SLT = ROOT / "engine" / "pocket" / "slt.wav"
WORDS = "We walk to the sea."


def group(*voices: dict[str, Any], audio: str = "upstream") -> dict[str, Any]:
    return {"prepare": {"audio": audio, "text": "upstream"}, "voices": list(voices)}


def voice(voice_id: str, audio: Path = SLT, text: str = WORDS) -> dict[str, Any]:
    return {"id": voice_id, "audio": str(audio), "text": text}


@pytest.mark.parametrize("ids", [("a", "a"), ("a", "b", "A"), ("slt", "rms", "slt")])
def test_two_voices_of_one_id_are_refused(ids: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"reference\.voices=.*two voices are called .*an id of its own"):
        load_voices(group(*(voice(name) for name in ids)))


@pytest.mark.parametrize("name", ["a/b", "../a", "", ".", "a b", "x" * 101, "é"])
def test_ids_that_are_no_file_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be a file name; use at most 100"):
        load_voices(group(voice(name)))
    (tmp_path / "t.yaml").write_text(f"utterances: [{{id: {name!r}, category: c, text: d}}]", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be a file name; use at most 100"):
        select_lines({"texts": str(tmp_path / "t.yaml"), "select": None, "limit": None})


def test_a_misspelt_key_of_a_voice_is_named() -> None:
    with pytest.raises(ConfigError, match=r"reference\.voices\.cuttext=x: no such key"):
        load_voices(group({**voice("a"), "cuttext": "x"}))


@pytest.mark.parametrize("audio", ["x" * 300, "~nobody-of-that-name/a.wav", "a\0b.wav", "/root/\udcff.wav", ""])
def test_paths_that_are_none_are_one_line(audio: str) -> None:
    with pytest.raises(ConfigError):
        load_voices(group({**voice("a"), "audio": audio}))


@pytest.mark.parametrize("entry", ["slt", 3, None, ["a"]])
def test_a_voice_that_is_no_group_of_keys_is_refused(entry: Any) -> None:
    with pytest.raises(ConfigError, match="a voice has id, audio and text"):
        load_voices(group(entry))


def test_the_record_says_what_was_done_to_each_voice() -> None:
    workload = load_workload(config("workload.texts=en_core", "workload.select=[en01,en02]"))
    slt, rms = workload.describe()["voices"]
    assert (slt["id"], rms["id"]) == ("slt", "rms")
    assert slt["file_s"] == pytest.approx(1.4933, abs=1e-4)
    assert slt["reference_s"] == pytest.approx(1.3929, abs=1e-4)
    assert slt["prepare"] == {"audio": "upstream", "text": "upstream", "edge_db": -42, "tail_s": 0.05}
    assert (slt["resampler"], slt["warnings"]) == ("none", [])
    assert slt["notes"] == ["prepared as upstream: 1.49 s of file, 1.39 s of reference"]
    assert slt["frontend_s"] > 0
    assert workload.requests[0].ref_text == "We walk to the sea. "
    assert len(workload.requests[0].ref_audio_S) == round(slt["reference_s"] * 24000)
    assert workload.describe()["reference_s"] == pytest.approx((slt["reference_s"] + rms["reference_s"]) / 2)


def test_what_is_prepared_differently_is_another_workload() -> None:
    changes = ("reference.prepare.audio=none", "reference.prepare.text=none", "reference.prepare.edge_db=-30",
               "reference.prepare.tail_s=0.1", "seed=0")  # fmt: skip
    found = [load_workload(config("workload=smoke", change)) for change in changes]
    assert len({workload.identity_sha256 for workload in found}) == len(changes)
    assert len({workload.voices[0].prompt_sha256 for workload in found}) == len(changes)


def test_runs_from_before_there_was_a_preparation_keep_their_identity_and_their_clips() -> None:
    untouched = ("workload=smoke", "reference.prepare.audio=none", "reference.prepare.text=none")
    assert load_workload(config(*untouched)).identity_sha256 == OLD_SMOKE
    old = config("workload=smoke")
    del old["reference"]["prepare"]
    assert [len(found.audio_S) for found in load_voices_of_record(old)] == [35840, 35840]
    with pytest.raises(ConfigError, match="prepare"):
        validate(old)


OLD_SMOKE = "bc19081067364c766c2e99f4ece92f91fc4f12008fee1a489152d2c8cf843cc0"


def test_a_coprime_rate_is_in_the_record(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "odd.wav", 0.2 * np.sin(np.arange(2 * 44101) / 9), 44101)
    (found,) = load_voices(group(voice("odd", tmp_path / "odd.wav")))
    assert found.describe({}, 24000)["resampler"] == "soxr VHQ"
    assert found.rate_hz == 44101


def spoken(*parts: float) -> np.ndarray:
    """Positive: seconds of a voice-like tone; negative: of silence."""
    pieces = [np.sin(np.arange(round(s * 24000)) / 20) * 0.3 if s > 0 else np.zeros(round(-s * 24000)) for s in parts]
    return np.concatenate(pieces).astype(np.float32)


def test_silences_are_said_with_what_they_cost() -> None:
    assert silence_warnings(spoken(2, -0.4, 1), 24000) == []
    (tail,) = silence_warnings(spoken(1, -3), 24000)
    assert tail == "3.0 s of silence at its end count as speaking time: every sentence gets 300% longer"
    inner = silence_warnings(spoken(-0.6, 2, -1.5, 1), 24000)
    assert [text[:30] for text in inner] == ["0.6 s of silence at its start ", "1.5 s of silence inside it cou"]


def test_levels_beyond_full_scale_and_flat_tops_are_said() -> None:
    clean_SC = spoken(1)[:, None]
    assert level_warnings(clean_SC) == []
    over = level_warnings(5 * clean_SC)
    assert "over full scale (peak 1.50)" in over[0]
    assert "clipped" in over[1]
    (flat,) = level_warnings(np.concatenate([clean_SC, np.clip(4 * clean_SC, -1, 1)], axis=1))
    assert "samples in a row at full scale" in flat


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("We walk to the sea and back.", None),
        ("We", r"2 letters for 2\.0 s of speech \(1\.0 a second"),
        ("We walk to the sea and back again, " * 4, r"\(5\d\.\d a second"),
        ("我们走到海边再走回来", None),
        ("我", r"3 letters"),
    ],
)
def test_a_transcript_that_cannot_be_the_clips_is_said(text: str, says: str | None) -> None:
    found = transcript_warnings(spoken(2), 24000, text)
    assert len(found) == (says is not None)
    if says is not None:
        assert re.search(says, found[0])


def test_warnings_stand_in_the_record_and_are_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, 9 * spoken(2), 24000, subtype="FLOAT")
    loud = config("workload=smoke")
    loud["reference"]["voices"] = [voice("loud", path)]
    validate(loud)
    validate(loud)
    *said, foreign = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "model=pocket speaks in two voices" in foreign  # said once, and of the choice of model: not in the record
    assert said[0].startswith("warning: voice loud: ")
    assert [f"warning: {text}" for text in load_workload(loud).describe()["voices"][0]["warnings"]] == said


def test_the_report_says_what_was_done_and_warns(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", FakeCell(label="fp32-euler_7"))
    said = {
        "id": "me", "notes": ["prepared as upstream: 4.49 s of file, 1.39 s of reference"], "resampler": "soxr VHQ",
        "frontend_s": 0.016, "warnings": ["voice me: it is clipped"],
    }  # fmt: skip
    rewrite_record(folder, workload={**read_record(folder)["workload"], "voices": [said]})
    table = load_table(folder)
    context = context_of(table)
    assert context is not None
    assert dict(caption_of(context))["voices"] == (
        "me: prepared as upstream: 4.49 s of file, 1.39 s of reference; resampled by soxr VHQ. Front end of it all, "
        "once a process and in no trial: 16 ms"
    )
    assert "voice me: it is clipped" in warnings_of(table)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab'\"\\${} ,:[]=%é#;~&", min_size=1, max_size=10), st.text("a'\"\\${ ,", max_size=6))
def test_the_printed_override_comes_back_through_a_shell_and_hydra(text: str, name: str) -> None:
    path = Path("/tmp") / f"it's{name} b.wav"
    (word,) = shlex.split(override_of(path, text))
    override = OverridesParser.create().parse_override(word)
    composed = OmegaConf.create({"reference": {"voices": []}})
    OmegaConf.update(composed, override.key_or_group, override.value())
    (found,) = OmegaConf.to_container(composed, resolve=True)["reference"]["voices"]
    assert (found["text"], found["audio"]) == (text, str(path.resolve()))


def test_a_clip_that_needs_cutting_is_cut_and_its_line_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio_S, rate_hz = soundfile.read(SLT, dtype="float32")
    long, out = tmp_path / "long.wav", tmp_path / "it's short.wav"
    soundfile.write(long, np.concatenate([audio_S, np.zeros(12000)] * 10), rate_hz)
    text = "We walk to the sea, don't we. We walk to the sea."
    assert run_verb(trim, [str(long), "--max-s", "5", "--text", text, "--out", str(out)]) == EXIT_OK
    line = capsys.readouterr().out.splitlines()[-1]
    (found,) = load_voices(config(*shlex.split(line))["reference"])
    assert (found.voice_id, found.text) == ("it_s_short", text + " ")
    assert 3 < found.file_s <= 5


@pytest.mark.parametrize(
    "change", [("--max-s", "nan"), ("--max-s", "20"), ("--text", "a\nb"), ("--text", " "), ("--out", "/nowhere/a.wav")]
)
def test_what_cannot_be_trimmed_is_one_line(
    change: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--max-s": "1.4", "--text": WORDS, "--out": str(tmp_path / "o.wav"), **dict([change])}
    soundfile.write(tmp_path / "a.wav", spoken(1, -0.3, 1), 24000)
    argv = [str(tmp_path / "a.wav"), *(word for pair in given.items() for word in pair)]
    assert run_verb(trim, argv) == EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert change[0] in line


def test_a_voice_that_the_bundled_model_was_never_taught_is_told(tmp_path: Path) -> None:
    own, copied = tmp_path / "own.wav", tmp_path / "copy.wav"
    copied.write_bytes(SLT.read_bytes())
    audio_S, rate_hz = soundfile.read(copied)
    soundfile.write(own, 0.5 * audio_S, rate_hz)
    voices = load_voices(group(*({"id": path.stem, "audio": str(path), "text": WORDS} for path in (copied, own))))
    (said,) = foreign_voices(config()["model"], voices)
    assert said.startswith("voice own: model=pocket speaks in two voices")
    assert not list(foreign_voices(config("model=f5tts_v1_base_random")["model"], voices))
