"""Which sentence is spoken by whom, and when two workloads are the same."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.contract import ConfigError
from experiments.workload.requests import load_workload, select_lines
from tests.engines import ROOT, config


def voices(*overrides: str) -> dict[str, str]:
    workload = load_workload(config(*overrides))
    return {line.utterance_id: voice.voice_id for line, voice in zip(workload.lines, workload.voices, strict=True)}


def test_voices_alternate_over_the_full_list_so_that_a_subset_changes_no_voice() -> None:
    everything = voices("workload=en_core")
    assert [everything[f"en{i:02d}"] for i in range(1, 5)] == ["slt", "rms", "slt", "rms"]
    for chosen in (("workload=bench",), ("workload=en_core", "workload.select=[en02,en03,en36]"), ("workload=smoke",)):
        some = voices(*chosen)
        assert some == {name: everything[name] for name in some}


def test_select_and_limit() -> None:
    lines = select_lines({"texts": "en_core", "select": ["en05", "en01"], "limit": None})
    assert [line.utterance_id for line in lines] == ["en01", "en05"]
    assert len(select_lines({"texts": "en_core", "select": None, "limit": 3})) == 3
    assert len(select_lines({"texts": "en_core", "select": None, "limit": None})) == 36


def test_several_lists_follow_each_other_and_their_positions_run_on() -> None:
    both = {"texts": ["en_ladder", "en_core"], "select": None, "limit": None}
    with pytest.raises(ConfigError, match="no such text list"):
        select_lines(both)
    lines = select_lines({**both, "texts": ["en_heldout", "en_core"]})
    assert [line.position for line in lines] == list(range(86))
    assert (lines[0].utterance_id, lines[50].utterance_id) == ("eh01", "en01")
    with pytest.raises(ConfigError, match="occurs twice"):
        select_lines({**both, "texts": ["en_core", "en_core"]})


def test_the_default_workload_is_the_twelve_shortest_sentences() -> None:
    everything = load_workload(config("workload=en_core")).lines
    shortest = sorted(everything, key=lambda line: len(line.text))[:12]
    chosen = load_workload(config()).lines
    assert {line.utterance_id for line in chosen} == {line.utterance_id for line in shortest}


def test_requests_carry_seed_speed_and_voice() -> None:
    workload = load_workload(config("seed=3", "reference.speed_ratio=1.25", "workload=smoke"))
    assert {request.seed for request in workload.requests} == {3}
    assert {request.speed_ratio for request in workload.requests} == {1.25}
    assert all(request.ref_audio_S.dtype == "float32" and request.ref_text for request in workload.requests)


@pytest.mark.parametrize(
    "change",
    [
        "workload.select=[en01]", "seed=1", "reference.speed_ratio=1.1", "model.hop_samples=320",
        "reference.voices.0.text=Another transcript.", "reference.voices.1.audio=engine/pocket/slt.wav",
    ],
)  # fmt: skip
def test_identity_changes_with_what_is_spoken(change: str) -> None:
    assert load_workload(config(change)).identity_sha256 != load_workload(config()).identity_sha256


@pytest.mark.parametrize("change", ["engine=bf16", "solver=euler_6", "measure.rounds=1", "workload.name=other"])
def test_identity_stays_with_how_it_is_spoken(change: str) -> None:
    assert load_workload(config(change)).identity_sha256 == load_workload(config()).identity_sha256


def test_description_for_the_record() -> None:
    workload = load_workload(config("workload=smoke"))
    described = workload.describe()
    assert described["num_utterances"] == 2
    assert described["utterances"][0] == {
        "id": "en03", "category": "short", "text": "We leave in ten minutes.", "voice": "slt",
        "prompt_sha256": workload.voices[0].prompt_sha256, "voice_dc": workload.voice_dc["en03"],
    }  # fmt: skip
    assert 1.0 < described["reference_s"] < 12.0
    assert workload.voice_dc["en03"] == pytest.approx(float(workload.requests[0].ref_audio_S.mean()), abs=1e-6)


def user_texts(folder: Path, content: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(content, encoding="utf-8")
    return str(path)


def test_a_users_own_texts(tmp_path: Path) -> None:
    path = user_texts(tmp_path, "utterances:\n  - {id: a-1, category: short, text: Hello there.}\n")
    workload = load_workload(config(f"workload.texts={path}", "workload.select=null"))
    assert [(line.utterance_id, line.text) for line in workload.lines] == [("a-1", "Hello there.")]


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ({"texts": "en_cor"}, r"workload.texts=en_cor: no such text list; use one of en_core, .*es_core"),
        ({"select": ["en1"]}, r"workload.select=en1: no such id in this text list \(en01 to en36\); near it: en"),
        ({"select": []}, "workload.select=.*must be a list of ids"),
        ({"select": "en01"}, "workload.select=en01: must be a list of ids"),
        ({"limit": 0}, "workload.limit=0: must be a whole number from 1"),
        ({"limit": True}, "workload.limit=True: must be a whole number"),
    ],
)
def test_mistakes_are_named(workload: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select_lines({"texts": "en_core", "select": None, "limit": None, **workload})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("utterances: [", "not a text list"),
        ("sentences: []", "not a text list"),
        ("utterances: []", "holds no utterances"),
        ("utterances: [{id: a, text: b}]", "not a text list .*category"),
        ("utterances: [{id: a/b, category: c, text: d}]", "cannot be a file name"),
        ("utterances: [{id: ../a, category: c, text: d}]", "cannot be a file name"),
        ("utterances: [{id: a, category: c, text: d}, {id: a, category: c, text: e}]", "id a occurs twice"),
    ],
)
def test_damaged_texts_are_named(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        select_lines({"texts": user_texts(tmp_path, content), "select": None, "limit": None})


def test_paths_work_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "conf" / "texts" / "en_long.yaml", tmp_path / "here.yaml")
    monkeypatch.chdir(tmp_path)
    workload = load_workload(config("workload.texts=here.yaml", "workload.select=null"))
    assert [line.utterance_id for line in workload.lines] == ["enp1", "enp2"]
