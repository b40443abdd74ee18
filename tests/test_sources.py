"""Whatever can change an answer changes the cell's key; what only people read does not."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.common.sources import (
    BEHIND,
    DISTRIBUTIONS,
    ROOMS,
    TIMED_PATH,
    code_hash,
    imported,
    package_versions,
    scoring_hash,
)
from experiments.scoring import reference
from experiments.settings.identity import identity_of
from tests.engines import ROOT, config

PARTS = ("config", "code", "weights", "environment")


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    for room in ("engine", "experiments", "metrics"):
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    return tree


def touch(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n")


def every_kind_of_engine_file() -> list[str]:
    """One file of every suffix below engine/, so that a new kind of file is tried as soon as there is one."""
    kinds: dict[str, str] = {}
    for path in sorted((ROOT / "engine").rglob("*")):
        if path.is_file() and path.suffix not in (".md", ".pyc", ".safetensors", ".wav"):
            kinds.setdefault(path.suffix, path.relative_to(ROOT).as_posix())
    return sorted(kinds.values())


@pytest.mark.parametrize(
    "name",
    [
        *every_kind_of_engine_file(), "engine/native/tiles.cpp", "engine/native/products.h",
        "experiments/measuring/measure.py", "experiments/measuring/peaks.py", "experiments/common/environment.py",
        "experiments/workload/synthetic.py", "metrics/speed/steady.py", "metrics/__init__.py",
    ],
)  # fmt: skip
def test_a_file_that_can_change_an_answer_changes_the_hash(copied: Path, name: str) -> None:
    before = code_hash(copied)
    touch(copied / name)
    assert code_hash(copied) != before


@pytest.mark.parametrize(
    "name",
    [
        "engine/pocket/MODEL_CARD.md",
        "experiments/common/progress.py",
        "experiments/tracking/__main__.py",
        "metrics/fidelity/prosody.py",
    ],
)
def test_what_only_judges_or_is_read_by_people_leaves_the_hash(copied: Path, name: str) -> None:
    before = code_hash(copied)
    touch(copied / name)
    assert code_hash(copied) == before


def test_a_new_file_and_a_file_that_is_gone_change_the_hash(copied: Path) -> None:
    before = code_hash(copied)
    (copied / "engine/native/new.h").write_text("#define WIDE 1\n")
    added = code_hash(copied)
    (copied / "engine/native/new.h").unlink()
    assert before == code_hash(copied) != added
    (copied / "engine/plan.bin").write_bytes(b"\0")
    assert code_hash(copied) not in (before, added)


@pytest.mark.parametrize(
    "line",
    [
        "import metrics.mine", "import metrics.mine as other", "from metrics.mine import x", "from metrics import mine",
        "from .near import x", "from . import near", "def late():\n    from metrics import mine",
        "class A:\n    if True:\n        x = 1\n    else:\n        import metrics.mine",
        "try:\n    pass\nexcept OSError:\n    import metrics.mine", "try:\n    pass\nfinally:\n    import metrics.mine",
        "match 1:\n    case 2:\n        with open('x'):\n            import metrics.mine",
        "async def late():\n    async for x in y:\n        import metrics.mine",
    ],
)  # fmt: skip
def test_every_spelling_of_an_import_is_followed(tmp_path: Path, line: str) -> None:
    for name in (
        "engine/__init__",
        "experiments/__init__",
        "metrics/__init__",
        "metrics/mine",
        "experiments/measuring/near",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    (tmp_path / "experiments/measuring/near.py").write_text("import metrics.mine\n")
    (tmp_path / "experiments/measuring/worker.py").write_text(f"import os.path, numpy\n{line}\n")
    before = code_hash(tmp_path)
    (tmp_path / "metrics/mine.py").write_text("x = 2\n")
    assert code_hash(tmp_path) != before


def test_a_module_that_becomes_a_package_is_still_followed(tmp_path: Path) -> None:
    for name in ("experiments/measuring/worker", "metrics/deep/__init__", "metrics/deep/er"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "experiments/measuring/worker.py").write_text("from metrics.deep import er\n")
    found = {path.relative_to(tmp_path).as_posix() for path in imported(tmp_path, TIMED_PATH)}
    assert found == {"experiments/measuring/worker.py", "metrics/deep/__init__.py", "metrics/deep/er.py"}


def test_the_worker_really_imports_nothing_else_of_ours() -> None:
    """What a fresh interpreter has loaded after the worker's import, the engine aside, is what is followed."""
    rooms = [room for room in ROOMS if room != "engine"]
    program = f"""
import sys, json, experiments.measuring.worker
print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.split(".")[0] in {rooms!r}]))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {Path(name) for name in json.loads(said.stdout)}
    assert loaded <= imported(ROOT, TIMED_PATH)


def test_one_hash_serves_cells_and_references(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = config()
    before = identity_of(base, copied)
    touch(copied / "engine/native/vectors.h")
    assert identity_of(base, copied).changed_since({part: getattr(before, part) for part in PARTS}) == ["code"]
    key = reference.cache_key(base)
    monkeypatch.setattr(reference, "code_hash", lambda: code_hash(copied))
    assert reference.cache_key(base) != key


@pytest.mark.parametrize(
    "name", ["metrics/fidelity/spectral.py", "experiments/scoring/score.py", "experiments/workload/requests.py"]
)
def test_what_scores_changes_the_hash_of_scores(copied: Path, name: str) -> None:
    before = scoring_hash(copied)
    touch(copied / name)
    assert scoring_hash(copied) != before


def test_the_versions_of_every_imported_package_are_part_of_the_environment() -> None:
    known = package_versions()
    foreign = set()
    for path in (ROOT / "engine").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            foreign |= {name.split(".")[0] for name in names}
    assert foreign - {*sys.stdlib_module_names, "engine"} <= set(known)
    assert {"torch", "f5_tts", "soundfile", *BEHIND, *DISTRIBUTIONS} <= set(known)
    assert known["torch"]
    assert known["yaml"]


def test_another_version_of_one_package_is_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.settings import identity

    before = identity._environment.__wrapped__('{"kind": "cpu", "threads": 1}')
    versions = {**package_versions(), "safetensors": "0.0.1"}
    monkeypatch.setattr(identity, "package_versions", lambda: versions)
    assert identity._environment.__wrapped__('{"kind": "cpu", "threads": 1}') != before


def changed_by(path: Path, before: dict[str, object], after: dict[str, object] | None = None) -> list[str]:
    """Parts of the identity that change when the file does."""
    path.write_bytes(b"one")
    first = identity_of(before)
    path.write_bytes(b"other")
    return identity_of(after or before).changed_since({part: getattr(first, part) for part in PARTS})


@pytest.mark.parametrize("place", ["here.plan", "deep/here.plan", "absolute"])
@pytest.mark.parametrize("suffix", ["", ".json"])
def test_a_file_that_a_setting_names_is_known_by_its_bytes(
    place: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    name = str(tmp_path / "a.plan") if place == "absolute" else place
    (tmp_path / name).write_bytes(b"plan")
    base = config()
    for nested in ({"plan": name}, {"session": {"files": [name]}}):
        asked = {**base, "engine": {**base["engine"], **nested}}
        assert changed_by(Path(f"{tmp_path / name}{suffix}"), asked) == ["weights"]


def test_the_texts_of_a_workload_count_by_what_is_spoken(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    lines = "utterances: [{{id: a1, category: short, text: {}}}, {{id: a2, category: short, text: {}}}]"
    mine.write_text(lines.format("Good day.", "Good night."))
    asked = config(f"workload.texts={mine}", "workload.select=[a1]")
    before = {part: getattr(identity_of(asked), part) for part in PARTS}
    mine.write_text(lines.format("Good day.", "It is raining again."))
    assert identity_of(asked).changed_since(before) == []
    mine.write_text(lines.format("It is raining.", "Good night."))
    assert identity_of(asked).changed_since(before) == ["weights"]


@given(st.text(max_size=300))
def test_no_text_of_a_setting_is_too_odd_to_be_looked_for(text: str) -> None:
    from experiments.settings.identity import named_by

    assert all(path.is_file() for path in named_by(text))
