"""Where a relative path starts: in the working directory, else in the repository; the same for every setting."""

import json
import shutil
from pathlib import Path

import pytest

from engine.paths import find_file
from engine.weights.checkpoint import content_sha256, locate
from experiments.compare.preparing import paths_from_here
from experiments.gate import overrides_of
from experiments.measuring.validate import validate
from experiments.scoring.models import model_recipes
from experiments.settings.compose import compose_config
from experiments.settings.identity import identity_of
from experiments.settings.words import read_yaml
from experiments.tracking.store import Destination
from experiments.workload.requests import load_workload
from metrics.record import save_record
from tests.baseline_runs import make_run
from tests.engines import ROOT

POCKET = ROOT / "engine" / "pocket"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that is not the repository, with files of the same and of other names."""
    folder = tmp_path / "Ö l 朝 🙂"
    (folder / "engine" / "pocket").mkdir(parents=True)
    shutil.copy(POCKET / "rms.wav", folder / "engine" / "pocket" / "slt.wav")  # another clip under a bundled name
    shutil.copy(POCKET / "vocab.txt", folder / "my vocab.txt")
    (folder / "texts").mkdir()
    (folder / "texts" / "mine.txt").write_text("Yes.\n", encoding="utf-8")
    (folder / "rules.yaml").write_text("name: mine\n", encoding="utf-8")
    (folder / "mine.db").write_bytes(b"")
    (folder / "run").mkdir()
    save_record(make_run(1), folder / "run" / "result.json")
    monkeypatch.chdir(folder)
    return folder


def test_a_path_of_any_setting_starts_in_the_working_directory(elsewhere: Path) -> None:
    assert locate("model.vocab", "my vocab.txt") == Path("my vocab.txt")
    assert locate("model.checkpoint", "engine/pocket/dit.safetensors") == POCKET / "dit.safetensors"
    workload = load_workload(compose_config(["workload.texts=texts/mine.txt"]))
    assert workload.voices[0].file_sha256 == content_sha256(POCKET / "rms.wav"), "the file that is here"
    assert read_yaml("preset", "rules.yaml", ROOT / "conf" / "gate" / "quality") == {"name": "mine"}
    assert Destination(uri="sqlite:///mine.db", experiment="e", timeout_s=1).database == elsewhere / "mine.db"
    assert find_file("run/result.json").is_file()
    assert find_file(str(elsewhere / "nothing")) == elsewhere / "nothing"
    config = compose_config(["model.vocab=my vocab.txt", "quality.reference_dir=run", "workload=smoke"])
    validate(config)
    assert identity_of(config).weights == identity_of(compose_config(["workload=smoke"])).weights, "by content"


def test_files_of_models_that_score_are_found_there_too(elsewhere: Path) -> None:
    (elsewhere / "dnsmos.onnx").write_bytes(b"model")
    quality = compose_config(["quality.predicted_mos.dnsmos=dnsmos.onnx"])["quality"]
    assert "dnsmos sha256" in model_recipes(quality)["predicted_mos"]


def test_a_side_that_works_in_another_tree_reads_the_files_of_this_folder(elsewhere: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    config = compose_config(["model.vocab=my vocab.txt"])
    config["vocoder"]["checkpoint"] = "engine/pocket/vocos.safetensors"
    for where in (tree, ROOT):
        found = paths_from_here(config, where)
        assert found["model"]["vocab"] == str(elsewhere / "my vocab.txt")
        assert found["reference"]["voices"][0]["audio"] == str(elsewhere / "engine" / "pocket" / "slt.wav")
        assert Path(where / found["vocoder"]["checkpoint"]).is_file(), "bundled: the tree's, else this program's"
    assert json.dumps(paths_from_here(config, ROOT)["solver"]) == json.dumps(config["solver"])


def test_a_gate_speaks_the_texts_of_its_baseline_and_not_what_they_imply() -> None:
    config = compose_config(["workload.texts=en_heldout", "workload.select=[enh01]", "workload.name=bench"])
    assert compose_config(overrides_of(config))["workload"] == config["workload"]
    select = compose_config([])["workload"]["select"]
    config = compose_config(["workload.texts=[en_core,en_heldout]", "workload.name=bench"])
    config["workload"]["select"] = select
    assert compose_config(overrides_of(config))["workload"] == config["workload"]
