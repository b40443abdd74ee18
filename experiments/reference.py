"""The quality reference: the same sentences by fp32 at 32 euler steps, made once and kept.

A reference is spoken once, untimed, and found again by the hash of everything that decides its sound.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.checkpoint import content_sha256, is_random, locate
from engine.contract import ConfigError
from experiments.compose import ROOT, compose_config
from experiments.job import RESULT, Launcher, launch, new_job
from experiments.workload import find_file, load_workload
from metrics.catalog import PAIR_FAMILIES
from metrics.record import Floor, RecordError, load_record, to_json, write_atomically

ENGINE, SOLVER = "fp32", "euler_32"
LABEL = f"{ENGINE}-{SOLVER}"
CACHE = Path("outputs") / ".references"
KEY = "cache_key.txt"
SHARED_KEYS = ("model", "vocoder", "workload", "reference", "seed", "text")


@lru_cache(maxsize=1)
def _groups() -> tuple[dict[str, Any], dict[str, Any]]:
    config = compose_config([f"engine={ENGINE}", f"solver={SOLVER}"])
    return config["engine"], config["solver"]


def reference_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the reference of a configuration is made with: its guidance strength, but fp32 and 32 euler steps."""
    engine, solver = _groups()
    strength = config["solver"]["cfg_strength"]
    return {**config, "engine": dict(engine), "solver": {**solver, "cfg_strength": strength}}


def is_reference(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is its own reference."""
    if config["quality"]["reference_dir"] is not None:
        return False
    wanted = reference_config(config)
    return all(config[group] == wanted[group] for group in ("engine", "solver"))


def needs_reference(config: Mapping[str, Any]) -> bool:
    """Random weights and disabled scores have nothing to compare."""
    sources = (str(config["model"]["checkpoint"]), str(config["vocoder"]["checkpoint"]))
    wanted = [family for family in config["quality"]["metrics"] if family in (*PAIR_FAMILIES, "speaker")]
    return bool(config["quality"]["enabled"] and wanted and not any(map(is_random, sources)))


def reference_key(config: Mapping[str, Any]) -> str:
    """Equal for configurations that one reference serves."""
    content = {key: config.get(key) for key in SHARED_KEYS}
    strength, device = config["solver"]["cfg_strength"], config["device"]["kind"]
    return to_json([content, strength, device, config["quality"]["reference_dir"]])


def provide_reference(config: Mapping[str, Any], folder: Path, launcher: Launcher) -> Path:
    """The RUN folder to compare with: quality.reference_dir, else `folder`, filled from the cache or by a worker.

    The record there may have status failed or skipped; scores then say so.
    """
    given = config["quality"]["reference_dir"]
    if given is not None:
        return find_file(str(given))
    wanted = reference_config(config)
    key = cache_key(wanted)
    cached = CACHE / key
    if _is_finished(folder) and _key_of(folder) == key:
        return folder
    if _is_finished(cached) and _key_of(cached) == key:
        _copy(cached, folder)
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KEY).unlink(missing_ok=True)
    launch(new_job(folder, LABEL, "reference", wanted), launcher)
    if _is_finished(folder):
        write_atomically(folder / KEY, key + "\n")  # last: a folder with it is whole and made by this code
        _keep(folder, cached)
    return folder


def _copy(cached: Path, folder: Path) -> None:
    """Beside the target, then renamed: a run that is killed meanwhile leaves no half reference."""
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(cached, beside)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def _key_of(folder: Path) -> str | None:
    """What a reference was made with; None where that was not written, so that nothing stale is taken."""
    path = folder / KEY
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def cache_key(config: Mapping[str, Any]) -> str:
    """Hash over workload identity, weights, architecture, guidance, device and the engine's own source code."""
    content = {
        "workload": load_workload(config).identity_sha256,
        "reference": [
            *(config["reference"][key] for key in ("target_rms", "cross_fade_s")),
            config["reference"].get("cross_fade", "linear"),
        ],
        "model": {**config["model"], "checkpoint": _weights(config["model"]["checkpoint"])},
        "vocab": content_sha256(locate("model.vocab", config["model"]["vocab"])),
        "vocoder": {**config["vocoder"], "checkpoint": _weights(config["vocoder"]["checkpoint"])},
        "solver": config["solver"],
        "device": config["device"]["kind"],
        "code": _code_version(),
    }
    return hashlib.sha256(to_json(content).encode()).hexdigest()[:24]


def floor_path(config: Mapping[str, Any]) -> Path:
    """Where the floor of a configuration's reference lies, whether it was made or not."""
    return CACHE / f"{cache_key(reference_config(config))}-floor.json"


def kept_floors(config: Mapping[str, Any]) -> tuple[Floor, ...]:
    """The floors made earlier for this reference, none where there are none or the weights are not here."""
    try:
        content = json.loads(floor_path(config).read_text(encoding="utf-8"))
    except (FileNotFoundError, ConfigError):
        return ()
    return tuple(Floor(**entry) for entry in content["floors"])


def _weights(source: str) -> str:
    return source if is_random(source) else content_sha256(locate("checkpoint", source))


@lru_cache(maxsize=1)
def _code_version() -> str:
    """The source of the engine package, committed or not, and the library that does the arithmetic."""
    digest = hashlib.sha256(metadata.version("torch").encode())
    for path in sorted((ROOT / "engine").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _is_finished(folder: Path) -> bool:
    """Whether a reference lies there with all of its files."""
    try:
        record = load_record(folder / RESULT)
    except RecordError:
        return False
    files = [path for utterance in record.utterances for path in (utterance.audio_path, utterance.mel_path)]
    return record.status == "ok" and all((folder / path).is_file() for path in files)


def _keep(folder: Path, cached: Path) -> None:
    """Copy into the cache beside the target, then rename: a second run never sees half of it."""
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent, prefix=".new-") as beside:
            fresh = Path(beside) / "run"
            shutil.copytree(folder, fresh)
            shutil.rmtree(cached, ignore_errors=True)
            fresh.rename(cached)
    except OSError:
        return  # a cache that cannot be written costs the next run a minute, this one nothing
