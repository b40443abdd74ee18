"""Everything that can be refused before the first job starts. What the engine knows, engine.build checks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from baselines.verdict import Limits
from engine.build import validate_config
from engine.checkpoint import locate
from engine.contract import ConfigError
from engine.frontend import read_vocabulary, unknown_tokens
from experiments.calibration import KINDS
from experiments.cli import refused_limit
from experiments.compose import CONF, Cell, compose_config, compose_run
from experiments.failure import RETRIED
from experiments.flat_settings import unknown_key
from experiments.workload import Workload, find_file, load_workload
from metrics.catalog import ENCODERS, FAMILIES
from metrics.intelligibility import RECOGNISERS

GROUPS = (
    "model", "engine", "solver", "vocoder", "reference", "workload", "stream", "device", "measure", "quality", "gate",
    "tracking", "sweep", "seed", "out",
)  # fmt: skip
# where null has a meaning of its own
NULLABLE = (
    "solver.steps",
    "device.threads",
    "workload.select",
    "stream.first_chunk_max_bytes",
    "measure.machine_ratio",
)
# a text, or something else that its own reader checks
FREE = ("solver.grid", "workload.texts")
# a text where it is not null
TEXTS = (
    "out", "sweep.resume", "tracking.uri", "quality.reference_dir", "quality.recogniser.folder", "quality.speaker.file",
    "quality.predicted_mos.dnsmos", "quality.predicted_mos.dnsmos_p808", "quality.predicted_mos.utmos",
)  # fmt: skip
# engine, model, solver and vocoder say themselves what their builders take
CLOSED = ("reference", "workload", "stream", "device", "measure", "quality", "gate", "tracking", "sweep")
# where every number counts something
COUNTED = ("model.arch.", "model.sample_rate_hz", "vocoder.backbone.", "vocoder.head.")
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
    _check_types("", config, _defaults())
    try:
        validate_config(config)
        _check_measure(config["measure"])
        _check_quality(config["quality"])
        _check_rest(config)
        if check_texts:
            validate_texts(load_workload(config), config["model"])
    except KeyError as error:
        raise ConfigError(str(error.args[0]), "(deleted)", "is needed", "leave it in") from error


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
        if key not in config:
            raise ConfigError(key, "(deleted)", "is needed", "leave it in")
    for group in CLOSED:
        for name in config[group] if isinstance(config[group], Mapping) else ():
            if name not in _known_keys(group):
                raise unknown_key(f"{group}.{name}", config[group][name], [f"{group}.{k}" for k in _known_keys(group)])


@lru_cache(maxsize=len(CLOSED))
def _known_keys(group: str) -> tuple[str, ...]:
    """Of every preset of a group."""
    files = sorted((CONF / group).rglob("*.yaml"))
    found = [str(key) for file in files for key in OmegaConf.load(file) if key != "defaults"]
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=1)
def _defaults() -> Mapping[str, Any]:
    return compose_config([])


def _check_types(path: str, value: Any, default: Any) -> None:
    """The kind of value that the default configuration has there: settings, a list, a number, true or false, a text."""
    key = path.removeprefix(".")
    if isinstance(default, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(key, value, "is a group of settings", "set the keys inside it, see --cfg job")
        for name in value.keys() & default.keys():
            _check_types(f"{path}.{name}", value[name], default[name])
    elif value is None and key in NULLABLE:
        return
    elif key in TEXTS:
        if value is not None and not (isinstance(value, str) and value):
            raise ConfigError(key, value, "must be a text, or null", f"in quotes where it is a number: {key}='\"5\"'")
    elif isinstance(default, list) and not isinstance(value, list):
        raise ConfigError(key, value, "must be a list", f"write {key}=[...]")
    elif _is_number(default) and not _is_number(value):
        raise ConfigError(key, value, "must be a number", f"the default is {default}")
    elif isinstance(default, int) and key.startswith(COUNTED) and not isinstance(default, bool):
        _whole_number(key, value, 1)
    elif isinstance(default, bool):
        _boolean(key, value)
    elif isinstance(default, str) and key not in FREE and not (isinstance(value, str) and value):
        raise ConfigError(key, value, "must be a text", f"the default is {default}")


def _check_measure(measure: Mapping[str, Any]) -> None:
    for key, least in (
        ("warmup_rounds", 0), ("rounds", 1), ("slow_warmup_rounds", 0), ("slow_rounds", 1), ("slow_from_evals", 1),
        ("order_seed", 0), ("warmup_utterances", 1), ("calibrations_per_round", 1),
        ("cold_starts", 0),
    ):  # fmt: skip
        _whole_number(f"measure.{key}", measure[key], least)
    _positive("measure.time_limit_s", measure["time_limit_s"])
    if measure["memory_limit_bytes"] is not None:
        _whole_number("measure.memory_limit_bytes", measure["memory_limit_bytes"], 1 << 20)
    ratio = measure["machine_ratio"]
    if ratio is not None and not (_is_number(ratio) and 1 < ratio < float("inf")):
        raise ConfigError("measure.machine_ratio", ratio, "must be a number above 1, or null", "use 2")
    if measure["calibration"] not in KINDS:
        raise ConfigError(
            "measure.calibration", measure["calibration"], f"must be one of {', '.join(KINDS)}", "use all"
        )


def _check_quality(quality: Mapping[str, Any]) -> None:
    _boolean("quality.enabled", quality["enabled"])
    _positive("quality.timeout_s", quality["timeout_s"])
    _whole_number("quality.child_memory_bytes", quality["child_memory_bytes"], 1 << 28)
    wanted = quality["metrics"]
    if not isinstance(wanted, list) or any(name not in FAMILIES for name in wanted):
        allowed = f"must be a list of {', '.join(FAMILIES)}"
        raise ConfigError("quality.metrics", wanted, allowed, "leave out the others")
    for key, kinds in (("recogniser", tuple(RECOGNISERS)), ("speaker", ENCODERS)):
        kind = quality[key]["kind"]
        if kind not in kinds:
            raise ConfigError(f"quality.{key}.kind", kind, f"must be one of {', '.join(kinds)}", f"use {kinds[0]}")
    folder = quality["reference_dir"]
    if folder is not None and not (find_file(str(folder)) / "result.json").is_file():
        raise ConfigError(
            "quality.reference_dir", folder, "holds no result.json", "give the folder of a finished run, or null"
        )


def _check_rest(config: Mapping[str, Any]) -> None:
    _whole_number("seed", config["seed"], 0)
    reference, sweep, tracking = config["reference"], config["sweep"], config["tracking"]
    for key in ("target_rms", "speed_ratio"):
        _positive(f"reference.{key}", reference[key])
    if not _is_number(reference["cross_fade_s"]) or reference["cross_fade_s"] < 0:
        raise ConfigError(
            "reference.cross_fade_s", reference["cross_fade_s"], "must be a number from 0", "upstream's default is 0.15"
        )
    _check_sweep(sweep)
    try:
        Limits.from_mapping(config["gate"])
    except ValueError as error:
        raise refused_limit(error) from error
    _positive("tracking.timeout_s", tracking["timeout_s"])
    if tracking["mode"] not in ("auto", "off"):
        raise ConfigError(
            "tracking.mode", tracking["mode"], "must be auto or off", "use tracking=none to switch it off"
        )


def _check_sweep(sweep: Mapping[str, Any]) -> None:
    _boolean("sweep.fail_fast", sweep["fail_fast"])
    if sweep["max_failures"] is not None:
        _whole_number("sweep.max_failures", sweep["max_failures"], 1)
    if sweep["lock"] not in ("wait", "refuse"):
        raise ConfigError("sweep.lock", sweep["lock"], "must be wait or refuse", "use sweep.lock=wait")
    if not _is_number(sweep["grace_s"]) or sweep["grace_s"] < 0:
        raise ConfigError("sweep.grace_s", sweep["grace_s"], "must be a number from 0", "use sweep.grace_s=60")
    for kind, number in sweep["retries"].items():
        if kind not in RETRIED:
            raise ConfigError(f"sweep.retries.{kind}", number, "no such kind of failure", f"use {', '.join(RETRIED)}")
        _whole_number(f"sweep.retries.{kind}", number, 0)
    for kind in RETRIED:
        if kind not in sweep["retries"]:
            raise KeyError(f"sweep.retries.{kind}")


def validate_out(out: Path, num_runs: int, num_utterances: int) -> None:
    """Make the output folder. Raises ConfigError where that fails, where results lie already, or for want of space."""
    for name in ("result.json", "sweep.json", "journal.jsonl"):
        if (out / name).exists():
            raise ConfigError(
                "out", out, f"already holds {name}, and nothing measured is overwritten",
                "choose another folder, or continue a sweep with `python -m experiments.sweep resume=DIR`",
            )  # fmt: skip
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
    from engine.solver import solver_spec

    solver = solver_spec(config["solver"])
    return solver.steps * solver.evals_per_step


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole_number(key: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(key, value, f"must be a whole number from {least}", f"use {key}={max(least, 1)}")


def _positive(key: str, value: Any) -> None:
    if not _is_number(value) or not 0 < value < float("inf"):
        raise ConfigError(key, value, "must be a number above 0", "see --cfg job for the default")


def _boolean(key: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(key, value, "must be true or false", f"use {key}=true")
