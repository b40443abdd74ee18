"""experiments.scoring.floor with real workers and fake engines: what is deterministic has no floor of its own, seeds
differ."""

from pathlib import Path

import pytest

from experiments.measuring.job import Launcher
from experiments.scoring import floor, reference
from tests.engines import config

FAKE = ("python", "-m", "tests.fakes")


def test_the_floor_is_made_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(reference, "CACHE", tmp_path / "cache")
    chosen = config("workload=smoke", "quality.metrics=[snr,log_mel,gain,loudness]")
    assert reference.kept_floors(chosen) == ()
    made = floor.make_floors(chosen, tmp_path / "work", Launcher(command=(sys.executable, *FAKE[1:])))
    kept = {one.metric: one for one in reference.kept_floors(chosen)}
    assert tuple(made) == reference.kept_floors(chosen)
    assert (kept["snr_vs_reference_db"].repeat, kept["log_mel_mae_vs_reference"].repeat) == (120.0, 0.0)
    assert kept["snr_vs_reference_db"].other_seed is not None
    assert (kept["snr_vs_reference_db"].num_seeds, kept["snr_vs_reference_db"].num_pairs) == (5, 8)
    assert kept["loudness_lufs"].other_seed_sd is not None
    assert reference.kept_floors(config("workload=smoke", "seed=3")) == ()


@pytest.mark.parametrize("content", ["", "[]", '{"floors": [{"metric": 1}]}', '{"floors": 3}'])
def test_damaged_floors_are_as_none_and_named(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "floors.json"
    path.write_text(content)
    monkeypatch.setattr(reference, "floor_path", lambda config: path)
    assert reference.kept_floors(config("workload=smoke")) == ()
    said = capsys.readouterr().err
    assert f"{path}: damaged" in said
    assert "-m experiments.scoring.floor model=pocket` makes them again" in said
