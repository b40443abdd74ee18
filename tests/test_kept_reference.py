"""A reference that is kept is whole and of the code, weights and texts of now, or it is made again; which is said."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from experiments.measuring.job import Launcher
from experiments.scoring import reference
from experiments.scoring.audio import read_all
from experiments.scoring.reference import cache_key, provide_reference
from experiments.scoring.scores import Other, paired_scores
from experiments.settings.reference import reference_config
from metrics.record import load_record
from tests.engines import config

SPEAKER = Launcher(command=(sys.executable, "-m", "tests.stub_speaker"))
HERE = Path("out/reference")


class Desk:
    """Asks for the reference as a sweep does; `said` is what a person reads, `made` how often it was really spoken."""

    def __init__(self, folder: Path):
        self.said: list[str] = []
        self._log = folder / "spoken.log"
        self.config = config("workload=smoke")

    @property
    def made(self) -> int:
        return len(self._log.read_text().splitlines()) if self._log.is_file() else 0

    def ask(self, **changes: Any) -> str:
        provide_reference({**self.config, **changes}, HERE, SPEAKER, self.said.append)
        return self.said[-1]

    @property
    def cached(self) -> Path:
        return reference.CACHE / cache_key(reference_config(self.config))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUB_SPEAKER_LOG", str(tmp_path / "spoken.log"))
    return Desk(tmp_path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def gone(path: Path) -> None:
    path.unlink()


FILES = ("audio/en03.wav", "mel/en03.npy", "result.json", "manifest.json")
Damage = Callable[[Path], None]


def test_it_is_made_once_kept_and_copied(desk: Desk) -> None:
    assert desk.ask() == "reference: fp32-euler_32 is made"
    assert "is kept, nothing that it was made of has changed" in desk.ask()
    shutil.rmtree("out")
    assert f"copied from {desk.cached}, made earlier of the same code, weights and texts" in desk.ask()
    assert load_record(HERE / "result.json").status == "ok"
    assert desk.made == 1


@pytest.mark.parametrize("damage", [truncated, flipped, gone])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_one_heals_and_that_is_said(desk: Desk, name: str, damage: Damage) -> None:
    desk.ask()
    whole = {path.name: path.read_bytes() for path in HERE.rglob("*") if path.is_file()}
    damage(HERE / name)
    said = desk.ask()
    assert f"{HERE} is damaged (" in said
    assert f"copied from {desk.cached}" in said
    assert {path.name: path.read_bytes() for path in HERE.rglob("*") if path.is_file()} == whole
    assert desk.made == 1


@pytest.mark.parametrize(("name", "damage"), [("audio/en03.wav", truncated), ("mel/en03.npy", flipped)])
def test_where_both_are_damaged_it_is_made_again_and_kept_again(desk: Desk, name: str, damage: Damage) -> None:
    desk.ask()
    for folder in (HERE, desk.cached):
        damage(folder / name)
    said = desk.ask()
    assert f"{HERE} is damaged ({name}); {desk.cached} is damaged ({name}); fp32-euler_32 is made" in said
    assert desk.made == 2
    assert "is kept" in desk.ask()
    shutil.rmtree("out")
    assert "copied from" in desk.ask()
    assert desk.made == 2


def test_one_of_other_code_is_never_taken_and_that_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.ask()
    monkeypatch.setattr(reference, "code_hash", lambda: "other code")
    assert desk.ask() == f"reference: {HERE} is of other code, weights, texts or packages; fp32-euler_32 is made"
    assert desk.made == 2


def test_one_of_another_seed_is_another(desk: Desk) -> None:
    desk.ask()
    assert "is of other code, weights, texts or packages" in desk.ask(seed=5)
    assert desk.made == 2


def test_a_reference_dir_whose_audio_was_altered_gives_no_scores(desk: Desk) -> None:
    """One that a person names is theirs: it is not made again, and not believed."""
    desk.ask()
    record = load_record(HERE / "result.json")
    mine = replace(record, config={**record.config, "quality": {**record.config["quality"], "metrics": ["log_mel"]}})
    heard, _ = read_all(HERE, record)
    theirs = Path("theirs")
    shutil.copytree(HERE, theirs)
    soundfile.write(theirs / "audio/en03.wav", np.zeros(24000, np.float32), 24000, subtype="FLOAT")
    (score,) = paired_scores(mine, heard, Other(name="reference", folder=theirs))
    assert (score.value, score.status) == (None, "unavailable")
    assert "audio/en03.wav is not the audio of its record" in str(score.reason)
