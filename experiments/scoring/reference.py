"""The quality reference: the same sentences by fp32 at 32 euler steps, made once and kept.

A reference is spoken once, untimed, and found again by the hash of everything that decides its sound. It is made of the
reference *model*, whatever a variant does to it, and of the vocoder's weights as PyTorch runs them in float32.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.cache import MANIFEST, damage_of, seal
from engine.contract import ConfigError
from engine.families.family import family_of
from engine.paths import find_file
from experiments.common.cli import warn_once
from experiments.common.plain import Config, as_config
from experiments.common.sources import code_hash, package_versions
from experiments.measuring.job import RESULT, Launcher, launch, new_job
from experiments.settings.reference import is_own_model, reference_config, reference_label, reference_model
from experiments.workload.requests import load_workload
from metrics.record import Floor, RecordError, RunRecord, load_record, to_json, write_atomically
from reports.commands import here, typed

CACHE = Path("outputs") / ".references"
KEY = "cache_key.txt"
Say = Callable[[str], None]


def model_names(record: RunRecord, against: RunRecord) -> tuple[str, str] | tuple[None, None]:
    """What the pair's models have to agree in where `record` states another reference model than its own: the one that
    is wanted, and the one of `against`. Nothing where it is its own, whose weights then have to be equal."""
    config = as_config(record.config)
    if is_own_model(config):
        return None, None
    return to_json(reference_model(config)), to_json(against.config["model"])


def provide_reference(config: Config, folder: Path, launcher: Launcher, say: Say) -> Path:
    """The RUN folder to compare with: quality.reference_dir, else `folder`, filled from the cache or by a worker.

    Whether it was kept or made, and why, is said in one line. The record there may have status failed or skipped;
    scores then say so.
    """
    given = config["quality"]["reference_dir"]
    if given is not None:
        return find_file(str(given))
    wanted = reference_config(config)
    key = cache_key(wanted)
    cached = CACHE / key
    here, there = _fault_of(folder, key), _fault_of(cached, key)
    if here is None:
        say(f"reference: {folder} is kept, nothing that it was made of has changed")
        return folder
    if there is None:
        say(f"reference: {_and(here)}copied from {cached}, made earlier of the same code, weights and texts")
        _copy(cached, folder)
        return folder
    say(f"reference: {_and(here, there)}{reference_label(config)} is made")
    _make(wanted, folder, key, launcher)
    if _fault_of(folder, key) is None:
        _keep(folder, cached)
    return folder


def _copy(cached: Path, folder: Path) -> None:
    """Beside the target, then renamed: a run that is killed meanwhile leaves no half reference."""
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(cached, beside)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def _make(wanted: Config, folder: Path, key: str, launcher: Launcher) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in (KEY, MANIFEST):
        (folder / name).unlink(missing_ok=True)
    launch(new_job(folder, reference_label(wanted), "reference", wanted), launcher)
    if _is_finished(folder):
        write_atomically(folder / KEY, key + "\n")
        seal(folder, {"key": key})  # last: a folder with it is whole and made by this code


def _fault_of(folder: Path, key: str) -> str | None:
    """Why what lies there is not this reference, empty where nothing does; None: it is, whole and unchanged."""
    if not (folder / KEY).is_file():
        return ""
    if (folder / KEY).read_text(encoding="utf-8", errors="replace").strip() != key:
        return f"{folder} is of other code, weights, texts or packages"
    damaged = damage_of(folder)
    if damaged is None and not _is_finished(folder):
        damaged = RESULT
    return None if damaged is None else f"{folder} is damaged ({damaged})"


def _and(*faults: str) -> str:
    return "".join(f"{fault}; " for fault in faults if fault)


def cache_key(config: Config) -> str:
    """Hash over workload identity, weights, architecture, guidance, device, packages and the code that speaks."""
    content = {
        "workload": load_workload(config).identity_sha256,
        "reference": [
            *(config["reference"].get(key) for key in ("target_rms", "cross_fade_s")),
            config["reference"].get("cross_fade", "linear"),
        ],
        "files": family_of(config["model"]).files(config),
        "model": _without_places(config["model"]),
        "vocoder": _without_places(config["vocoder"]),
        "solver": config["solver"],
        "device": config["device"]["kind"],
        "code": code_hash(),
        "versions": package_versions(),
    }
    return hashlib.sha256(to_json(content).encode()).hexdigest()[:24]


def floor_path(config: Config) -> Path:
    """Where the floor of a configuration's reference lies, whether it was made or not."""
    return CACHE / f"{cache_key(reference_config(config))}-floor.json"


def kept_floors(config: Config) -> tuple[Floor, ...]:
    """The floors made earlier for this reference, none where there are none or the weights are not here.

    A damaged file is as none: it is named, and `floor` makes it again.
    """
    try:
        path = floor_path(config)
        content = json.loads(path.read_text(encoding="utf-8"))
        return tuple(Floor(**entry) for entry in content["floors"])
    except (FileNotFoundError, ConfigError):
        return ()
    except (ValueError, TypeError, KeyError) as error:
        again = typed("experiments.scoring.floor", f"model={config['model']['name']}")
        warn_once(
            f"{path}: damaged ({type(error).__name__}); no floors are shown until `{here(again)}` makes them again"
        )
        return ()


def _without_places(group: Mapping[str, object]) -> dict[str, object]:
    """Files count by content, wherever they lie."""
    return {key: value for key, value in group.items() if key not in ("checkpoint", "vocab", "voices")}


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
