"""Everything that can be refused before the first job starts. What the engine knows, engine.build checks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from baselines.stored.verdict import Limits
from engine.build import validate_config
from engine.contract import ConfigError
from engine.frontend import unknown_tokens
from engine.paths import find_file
from engine.weights.checkpoint import locate
from engine.weights.vocabulary import read_vocabulary
from experiments.common.cli import refused_limit, resume_command, warn_once
from experiments.common.failure import RETRIED
from experiments.common.quoting import argument
from experiments.jetson.memory import refused_allocator
from experiments.measuring.calibration import KINDS
from experiments.measuring.job import RESULT
from experiments.settings.bounds import check_bounds
from experiments.settings.compose import Cell, compose_config, compose_run, refuse_infinite
from experiments.settings.reference import reference_model
from experiments.workload.requests import Workload, load_workload
from metrics.fidelity.catalog import ENCODERS, FAMILIES
from metrics.models.intelligibility import RECOGNISERS
from metrics.power.energy import FEWEST_BUSY_S
from metrics.record import RecordError, load_record, to_json

GROUPS = (
    "model", "engine", "solver", "vocoder", "reference", "workload", "stream", "device", "measure", "quality", "gate",
    "tracking", "sweep", "seed", "text", "out",
)  # fmt: skip
LATER = ("text",)  # not yet in what older versions have stored
TEXTS = ("out", "quality.reference_dir")  # with nothing as default
# where null has a meaning of its own
NULLABLE = (
    "solver.steps",
    "device.threads",
    "workload.select",
    "stream.first_chunk_max_bytes",
    "measure.machine_ratio",
)
# Groups that are read without asking whether a key is there; what older presets lack
NEEDED = ("workload", "stream", "device", "measure", "quality", "tracking", "sweep", "reference")
OPTIONAL = ("reference.cross_fade", "measure.energy_busy_s")
BYTES_PER_UTTERANCE = 4 << 20  # 20 s of float32 audio and its mel
BYTES_PER_RUN = 8 << 20


def one_cell(overrides: Sequence[str]) -> Cell:
    """The one variant that the overrides name, composed and checked. Raises ConfigError."""
    cell = compose_run(overrides)
    validate_cells([cell])
    return cell


def validate_cells(cells: Sequence[Cell]) -> None:
    """All cells, before the first is started; what several cells share is checked once."""
    checked: set[str] = set()
    for cell in cells:
        spoken = repr([cell.config.get(key) for key in ("model", "workload", "reference", "seed")])
        validate(cell.config, check_texts=spoken not in checked)
        checked.add(spoken)


def validate(config: Mapping[str, Any], *, check_texts: bool = True) -> None:
    """Raises ConfigError (or InvalidRequest) for the first setting that cannot be run as asked."""
    _check_keys(config)
    refuse_infinite("", config)
    _check_types("", config, _defaults())
    check_bounds(config)
    try:
        _check_allocator(str(config["device"]["kind"]))
        validate_config(config)
        _check_measure(config["measure"])
        _check_quality(config)
        _check_rest(config)
        gate_limits(config["gate"])
        if check_texts:
            workload = load_workload(config)
            validate_texts(workload, config["model"])
            for warning in workload.warnings:
                warn_once(warning)
    except KeyError as error:
        raise ConfigError(str(error.args[0]), "(deleted)", "is needed", "leave it in") from error


def _check_allocator(kind: str) -> None:
    name = refused_allocator(os.environ) if kind != "cpu" else None
    if name is not None:
        raise ConfigError(
            name, os.environ[name], "must not ask for expandable_segments on a Jetson: it ends out of memory",
            f"unset {name}",
        )  # fmt: skip


def gate_limits(gate: Mapping[str, Any]) -> Limits:
    """The `gate` group. Raises ConfigError."""
    try:
        return Limits.from_mapping(gate)
    except ValueError as error:
        raise refused_limit(error) from error


def validate_texts(workload: Workload, model: Mapping[str, Any]) -> None:
    """Every sentence and transcript has words, in characters of the model's vocabulary."""
    vocabulary = read_vocabulary(locate("model.vocab", model["vocab"]))
    for line in workload.lines:
        check_text(f"text of {line.utterance_id}", line.text, vocabulary)
    for voice in {voice.voice_id: voice for voice in workload.voices}.values():
        check_text(f"reference.text of {voice.voice_id}", voice.text, vocabulary)


def check_text(key: str, text: str, vocabulary: Mapping[str, int]) -> None:
    """Raises ConfigError for a text without words, or with characters that the vocabulary lacks."""
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    if not text.strip():
        raise ConfigError(key, shown, "is empty", "write a sentence")
    unknown = unknown_tokens(text, vocabulary)
    if unknown:
        raise ConfigError(
            key, shown, f"the model's vocabulary lacks {' '.join(map(repr, unknown))}",
            "write it in characters of the vocabulary (numbers as words) or use a model that has them",
        )  # fmt: skip


def _check_keys(config: Mapping[str, Any]) -> None:
    for key in config:
        if key not in GROUPS:
            raise ConfigError(key, config[key], "no such key", f"the keys are {', '.join(GROUPS)}")
    for key in GROUPS:
        if key not in config and key not in LATER:
            raise ConfigError(key, "(deleted)", "is needed", "leave it in")


@lru_cache(maxsize=1)
def _defaults() -> Mapping[str, Any]:
    return compose_config([])


def _check_types(path: str, value: Any, default: Any) -> None:
    """The kind of value that the default configuration has there: settings, a list, a number, true or false, a text."""
    key = path.removeprefix(".")
    if isinstance(default, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(key, value, "is a group of settings", "set the keys inside it, see --cfg job")
        for name in default:
            if name in value:
                _check_types(f"{path}.{name}", value[name], default[name])
            elif key.partition(".")[0] in NEEDED and f"{key}.{name}" not in OPTIONAL:
                raise ConfigError(f"{key}.{name}", "(deleted)", "is needed", "leave it in")
    elif value is None and key in NULLABLE:
        return
    elif isinstance(default, list) and not isinstance(value, list):
        raise ConfigError(key, value, "must be a list", f"write {key}=[...]")
    elif _is_number(default) and not _is_number(value):
        raise ConfigError(key, value, "must be a number", f"the default is {default}")
    elif (isinstance(default, str) or key in TEXTS) and isinstance(value, bool | int | float):
        raise ConfigError(
            key, to_json(value), "is read as a number or as true or false, not as a text",
            f"type {argument(key, to_json(value))}",
        )  # fmt: skip


def _check_measure(measure: Mapping[str, Any]) -> None:
    ratio = measure["machine_ratio"]
    if ratio is not None and not (_is_number(ratio) and 1 < ratio < float("inf")):
        raise ConfigError("measure.machine_ratio", ratio, "must be a number above 1, or null", "use 2")
    busy_s = measure.get("energy_busy_s", 0)
    if 0 < busy_s < FEWEST_BUSY_S:
        raise ConfigError(
            "measure.energy_busy_s", busy_s, f"must be 0 or at least {FEWEST_BUSY_S:g}: a sensor averages", "use 30"
        )
    if measure["calibration"] not in KINDS:
        raise ConfigError(
            "measure.calibration", measure["calibration"], f"must be one of {', '.join(KINDS)}", "use all"
        )


def _check_reference_model(config: Mapping[str, Any]) -> None:
    """It has to be built as the variants are, so what is wrong with it is said before they are measured."""
    model = reference_model(config)
    try:
        validate_config({**config, "model": model})
    except ConfigError as error:
        raise ConfigError(
            "quality.reference_model", model["name"],
            f"is what quality is compared with, and {error.key}={error.value}: {error.allowed}",
            f"{error.remedy}; or set quality.reference_model=own",
        ) from error  # fmt: skip


def _check_quality(config: Mapping[str, Any]) -> None:
    quality = config["quality"]
    wanted = quality["metrics"]
    if any(name not in FAMILIES for name in wanted):
        allowed = f"must be a list of {', '.join(FAMILIES)}"
        raise ConfigError("quality.metrics", wanted, allowed, "leave out the others")
    for key, kinds in (("recogniser", tuple(RECOGNISERS)), ("speaker", ENCODERS)):
        kind = quality[key]["kind"]
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


def _check_rest(config: Mapping[str, Any]) -> None:
    sweep, tracking = config["sweep"], config["tracking"]
    _check_sweep(sweep)
    if tracking["mode"] not in ("auto", "off"):
        raise ConfigError(
            "tracking.mode", tracking["mode"], "must be auto or off", "use tracking=none to switch it off"
        )


def _check_sweep(sweep: Mapping[str, Any]) -> None:
    if sweep["lock"] not in ("wait", "refuse"):
        raise ConfigError("sweep.lock", sweep["lock"], "must be wait or refuse", "use sweep.lock=wait")
    for kind, number in sweep["retries"].items():
        if kind not in RETRIED:
            raise ConfigError(f"sweep.retries.{kind}", number, "no such kind of failure", f"use {', '.join(RETRIED)}")


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


def planned_evals(config: Mapping[str, Any]) -> int:
    """Velocity evaluations of one chunk, from a validated configuration."""
    from engine.solver.methods import solver_spec

    solver = solver_spec(config["solver"])
    return solver.steps * solver.evals_per_step


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
