"""Everything that can be refused before the first job starts. What the engine knows, engine.build checks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from baselines.refused import SettingRefused
from baselines.stored.verdict import Limits
from engine.build import validate_config
from engine.contract import ConfigError
from engine.enhance.stages import cutting
from engine.families.family import family_of
from engine.paths import find_file
from engine.settings import ModelSettings
from experiments.common.cli import refused_limit, resume_command, warn_once
from experiments.common.plain import Config, MeasureSettings
from experiments.jetson.memory import refused_allocator
from experiments.measuring.job import RESULT
from experiments.settings.compose import Cell, compose_config, compose_run
from experiments.settings.composing import refuse_infinite
from experiments.settings.groups import check_groups
from experiments.settings.reference import reference_model
from experiments.workload.foreign import foreign_voices
from experiments.workload.requests import Workload, load_workload
from metrics.fidelity.catalog import ENCODERS, FAMILIES
from metrics.models.intelligibility import RECOGNISERS
from metrics.power.energy import FEWEST_BUSY_S
from metrics.record import RecordError, load_record

GROUPS = (
    "model", "engine", "solver", "vocoder", "reference", "workload", "stream", "device", "measure", "quality", "gate",
    "tracking", "sweep", "launcher", "seed", "text", "enhance", "out",
)  # fmt: skip
LATER = ("text", "enhance", "launcher")  # not yet in what older versions have stored
# Groups that are read without asking whether a key is there; what older presets lack
NEEDED = ("workload", "stream", "device", "measure", "quality", "tracking", "sweep", "reference")
OPTIONAL = ("reference.cross_fade", "measure.energy_busy_s", "sweep.hosts")
LOCAL = "local"
LAUNCHERS = (LOCAL, "ray")
BYTES_PER_UTTERANCE = 4 << 20  # 20 s of float32 audio and its mel
BYTES_PER_RUN = 8 << 20


def one_cell(overrides: Sequence[str]) -> Cell:
    """The one variant that the overrides name, composed and checked. Raises ConfigError."""
    cell = compose_run(overrides)
    validate_cells([cell])
    return cell


def validate_cells(cells: Sequence[Cell], *, elsewhere: bool = False) -> None:
    """All cells, before the first is started; what several cells share is checked once. elsewhere: the verb can have
    them measured by other machines."""
    checked: set[str] = set()
    for cell in cells:
        spoken = repr([cell.config.get(key) for key in ("model", "workload", "reference", "seed")])
        validate(cell.config, check_texts=spoken not in checked, elsewhere=elsewhere)
        checked.add(spoken)


def validate(config: Config, *, check_texts: bool = True, elsewhere: bool = False) -> None:
    """Raises ConfigError (or InvalidRequest) for the first setting that cannot be run as asked."""
    _check_keys(config)
    refuse_infinite("", config)
    _refuse_deleted("", config, _defaults(), family_of(config["model"]).UNREAD)
    check_groups(config)
    _check_launcher(config, elsewhere)
    try:
        check_allocator(str(config["device"]["kind"]))
        validate_config(config)
        _check_energy(config["measure"])
        _check_quality(config)
        gate_limits(config["gate"])
        if check_texts:
            family_of(config["model"]).check_weights(config["model"])  # before anything waits for the device
            workload = load_workload(config)
            validate_texts(workload, config["model"])
            for warning in (*workload.warnings, *foreign_voices(config["model"], workload.speakers)):
                warn_once(warning)
    except KeyError as error:
        raise ConfigError(str(error.args[0]), "(deleted)", "is needed", "leave it in") from error


def refuse_cuts(config: Config, what: str) -> None:
    """Raises ConfigError for forms of `enhance` that take samples out, where answers are checked by their length."""
    forms = cutting(config)
    if forms:
        raise ConfigError(
            "enhance", ", ".join(forms), f"shortens audio, and {what} checks every answer by its length",
            "use f5bench sweep with it, or enhance=denoise or deess",
        )  # fmt: skip


def _check_launcher(config: Config, elsewhere: bool) -> None:
    """What measures elsewhere is asked for by name alone, and by a verb that can. Raises ConfigError."""
    name, hosts = launcher_of(config), config["sweep"].get("hosts")
    if name not in LAUNCHERS:
        raise ConfigError("launcher.name", name, f"must be {' or '.join(LAUNCHERS)}", "use launcher=local")
    if name != LOCAL and not elsewhere:
        raise ConfigError(
            "launcher", name, "only sweep, optimize and gate are measured on other machines",
            "use `python -m experiments.sweep` with it, or launcher=local",
        )  # fmt: skip
    if name == LOCAL and hosts is not None:
        raise ConfigError("sweep.hosts", hosts, "chooses machines of a fleet", "set launcher=ray, or sweep.hosts=null")


def launcher_of(config: Config) -> str:
    """Records of before there was the choice were measured here."""
    return str(config["launcher"]["name"]) if "launcher" in config else LOCAL


def check_allocator(kind: str) -> None:
    """Raises ConfigError for an allocator that a Jetson cannot have. kind: of the device."""
    name = refused_allocator(os.environ) if kind != "cpu" else None
    if name is not None:
        raise ConfigError(
            name, os.environ[name], "must not ask for expandable_segments on a Jetson: it ends out of memory",
            f"unset {name}",
        )  # fmt: skip


def gate_limits(gate: Mapping[str, object]) -> Limits:
    """The `gate` group. Raises ConfigError."""
    try:
        return Limits.from_mapping(gate)
    except SettingRefused as error:
        raise refused_limit(error) from error


def validate_texts(workload: Workload, model: ModelSettings) -> None:
    """The model can speak every sentence, and knows the words of every clip."""
    check = family_of(model).text_check(model)
    for line in workload.lines:
        check(f"text of {line.utterance_id}", line.text)
    for voice in {voice.voice_id: voice for voice in workload.voices}.values():
        if not voice.style:
            check(f"reference.text of {voice.voice_id}", voice.text)


def _check_keys(config: Mapping[str, object]) -> None:
    for key, value in config.items():
        if key not in GROUPS:
            raise ConfigError(key, value, "no such key", f"the keys are {', '.join(GROUPS)}")
    for key in GROUPS:
        if key not in config and key not in LATER:
            raise ConfigError(key, "(deleted)", "is needed", "leave it in")


@lru_cache(maxsize=1)
def _defaults() -> Config:
    return compose_config([])


def _refuse_deleted(
    key: str, settings: Mapping[str, object], default: Mapping[str, object], unread: Sequence[str]
) -> None:
    """Raises ConfigError for a key of these groups that the default configuration has and this one has not. unread: of
    this kind of model."""
    for name, known in default.items():
        inner = f"{key}.{name}" if key else name
        found = settings.get(name)
        if name not in settings and key.partition(".")[0] in NEEDED and inner not in (*OPTIONAL, *unread):
            raise ConfigError(inner, "(deleted)", "is needed", "leave it in")
        if isinstance(known, Mapping) and isinstance(found, Mapping):
            _refuse_deleted(inner, found, known, unread)


def _check_energy(measure: MeasureSettings) -> None:
    busy_s = measure.get("energy_busy_s", 0)
    if 0 < busy_s < FEWEST_BUSY_S:
        raise ConfigError(
            "measure.energy_busy_s", busy_s, f"must be 0 or at least {FEWEST_BUSY_S:g}: a sensor averages", "use 30"
        )


def _check_reference_model(config: Config) -> None:
    """It has to be built as the variants are, so what is wrong with it is said before they are measured."""
    model = reference_model(config)
    try:
        tried: Config = {**config, "model": model}
        validate_config(tried)
    except ConfigError as error:
        raise ConfigError(
            "quality.reference_model", model["name"],
            f"is what quality is compared with, and {error.key}={error.value}: {error.allowed}",
            f"{error.remedy}; or set quality.reference_model=own",
        ) from error  # fmt: skip


def _check_quality(config: Config) -> None:
    quality = config["quality"]
    wanted = quality["metrics"]
    if any(name not in FAMILIES for name in wanted):
        allowed = f"must be a list of {', '.join(FAMILIES)}"
        raise ConfigError("quality.metrics", wanted, allowed, "leave out the others")
    for key, kind, kinds in (
        ("recogniser", quality["recogniser"]["kind"], tuple(RECOGNISERS)),
        ("speaker", quality["speaker"]["kind"], ENCODERS),
    ):
        if kind not in kinds:
            raise ConfigError(f"quality.{key}.kind", kind, f"must be one of {', '.join(kinds)}", f"use {kinds[0]}")
    if quality.get("reference_model") is not None:
        _check_reference_model(config)
    if quality["reference_dir"] is not None:
        _check_reference(quality["reference_dir"])


def _check_reference(folder: str) -> None:
    key, remedy = "quality.reference_dir", "give the folder of a finished run, or null"
    result = find_file(folder) / RESULT
    if not result.is_file():
        raise ConfigError(key, folder, f"holds no {RESULT}", remedy)
    try:
        record = load_record(result)
    except RecordError as error:
        raise ConfigError(key, folder, f"cannot be used ({error})", remedy) from error
    if record.status != "ok":
        raise ConfigError(key, folder, f"is {record.status} ({record.reason})", remedy)


def validate_out(out: Path, num_runs: int, num_utterances: int) -> None:
    """Make the output folder. Raises ConfigError where that fails, where results lie already, or for want of space."""
    for name in ("result.json", "sweep.json", "journal.jsonl"):
        if (out / name).exists():
            remedy = "choose another folder"
            if (out / "sweep.json").exists():
                verb = "optimize" if (out / "request.json").exists() else "sweep"
                remedy += f", or go on with `{resume_command(verb, out)}`"
            raise ConfigError("out", out, f"already holds {name}, and nothing measured is overwritten", remedy)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out, prefix=".writable."):
            pass
    except OSError as error:
        raise ConfigError(
            "out", out, f"cannot be written ({os.strerror(error.errno or 0)})", "choose a folder that you may write"
        ) from error
    needed = num_runs * (BYTES_PER_RUN + num_utterances * BYTES_PER_UTTERANCE)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise ConfigError(
            "out", out, f"{free / 1e6:.0f} MB are free there, this may take {needed / 1e6:.0f} MB",
            "free some space or choose another disk",
        )  # fmt: skip


def planned_evals(config: Config) -> int:
    """Velocity evaluations of one chunk, from a validated configuration."""
    return family_of(config["model"]).num_evals(config)
