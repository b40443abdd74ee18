"""The peer on a machine without what only its training needs."""

import subprocess
import sys

import pytest

from engine.upstream.stand_ins import cover
from tests.engines import ROOT, engine, request


def test_a_stand_in_can_be_imported_from_and_says_what_is_missing_when_called() -> None:
    assert cover(("f5bench_absent_package", "json")) == ["f5bench_absent_package"]
    from f5bench_absent_package import Dataset  # type: ignore[import-not-found]

    class Own(Dataset):  # type: ignore[misc]
        pass

    with pytest.raises(ModuleNotFoundError, match="f5bench_absent_package is not installed"):
        Own()
    assert cover(("f5bench_absent_package",)) == []


def test_the_peer_is_imported_where_wandb_datasets_and_cached_path_are_not() -> None:
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("wandb", "datasets", "cached_path"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from engine.upstream.stand_ins import cover
print(*cover())
from f5_tts.infer.utils_infer import infer_batch_process
from f5_tts.model import CFM, DiT, UNetT
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["wandb", "datasets", "cached_path"]


def test_the_peer_generates_as_many_frames_as_are_asked_from_the_same_noise() -> None:
    ask = request("That was close.", num_frames=131)
    with engine("engine=upstream", "solver=euler_5") as peer, engine("solver=euler_5") as ours:
        theirs, mine = peer.synthesize([ask])[0], ours.synthesize([ask])[0]
    assert len(theirs.mel_ND) == len(mine.mel_ND) == 131
    assert theirs.noise_sha256 == mine.noise_sha256
