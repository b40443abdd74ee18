"""Kokoro's graph in an ONNX Runtime session: options as settings, the file as ONNX Runtime rewrites it for this CPU."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.cache import cached_folder, source_sha256
from engine.contract import ConfigError, InvalidRequest, UnsupportedEngine
from engine.kokoro.weights import AS_FILE, Weights
from engine.runtimes.onnx_package import required, versions
from engine.runtimes.onnx_session import SessionSettings, make_session, open_session, optimised, session_options

PRECISIONS = (AS_FILE, "fp32")
TYPES = {
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32, "tensor(float16)": np.float16,
}  # fmt: skip
PAD = 0  # before and after the tokens
TRIED = (50, 83, 54)  # any tokens: what a provider does not run is seen with them
DEQUANTISE = "engine.kokoro.dequantise"


def graph_of(weights: Weights, precision: str) -> Path:
    """The file that is run. precision: file as it is, fp32 with dequantised weights, made once and kept.

    Raises ConfigError for another precision, UnsupportedEngine where the weights cannot be put back.
    """
    if precision not in PRECISIONS:
        raise ConfigError("engine.precision", precision, "must be fp32, or file for its own", "use file")
    if precision == AS_FILE or weights.precision == precision:
        return weights.path
    if weights.precision != "int8":
        raise UnsupportedEngine(
            f"the weights of {weights.path.name} are {weights.precision}", "give the float32 file, or engine=kokoro"
        )
    from engine.kokoro.dequantise import dequantised

    parts = {"model": weights.sha256, "code": source_sha256(DEQUANTISE), **versions("onnx")}
    name = f"{weights.path.stem}.float32.onnx"
    return cached_folder("kokoro_fp32", parts, lambda folder: dequantised(weights.path, folder / name)) / name


class Model:
    """One session. run: tokens and style in, audio out; `num_runs` counts them."""

    def __init__(self, path: Path, settings: SessionSettings, optimised_file: bool):
        self.settings, self.num_runs = settings, 0
        self.session = self._opened(path, optimised_file)
        self._types = {one.name: TYPES[one.type] for one in self.session.get_inputs()}
        self._tokens = "input_ids" if "input_ids" in self._types else "tokens"
        if {"style", "speed", self._tokens} - self._types.keys():
            raise ConfigError(
                "model.checkpoint", path, f"takes {', '.join(self._types)}", "give an ONNX export of Kokoro-82M"
            )
        if len(self.session.get_outputs()) > 1:
            raise UnsupportedEngine(f"{path.name} reports durations, by which pauses are set", "use engine=kokoro_onnx")

    def _opened(self, path: Path, optimised_file: bool) -> Any:
        settings = self.settings
        settings.check()
        if settings.provider != "cpu":
            return open_session(path, settings, _first_run).session
        source = optimised(path, settings) if optimised_file else path
        return make_session(
            source, session_options(settings, "none" if optimised_file else settings.optimization), settings
        )

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.session.get_modelmeta().custom_metadata_map)

    def run(self, tokens: Sequence[int], style: np.ndarray, speed: float) -> np.ndarray:
        """tokens (T,), style (1, 256) -> float32 (S,) at 24 kHz. Raises InvalidRequest for a speed that the file cannot
        take: of some exports it is a whole number."""
        if np.issubdtype(self._types["speed"], np.integer) and speed != int(speed):
            raise InvalidRequest("speed_ratio", speed, "this export takes whole numbers alone", "use speed_ratio=1")
        feeds = {
            self._tokens: np.array([[PAD, *tokens, PAD]], dtype=self._types[self._tokens]),
            "style": np.asarray(style, dtype=self._types["style"]),
            "speed": np.array([speed], dtype=self._types["speed"]),
        }
        self.num_runs += 1
        return np.asarray(self.session.run(None, feeds)[0]).ravel()


def _first_run(session: Any) -> None:
    kinds = {one.name: TYPES[one.type] for one in session.get_inputs()}
    shapes = {"style": np.zeros((1, 256)), "speed": np.ones(1)}
    tokens = np.array([[PAD, *TRIED, PAD]])
    session.run(None, {name: shapes.get(name, tokens).astype(kind) for name, kind in kinds.items()})


def package_versions() -> dict[str, str]:
    """Of what speaks. Raises UnsupportedEngine where ONNX Runtime is not installed."""
    names = ("kokoro-onnx", "phonemizer", "espeakng-loader", "numpy")
    return {
        "onnxruntime": str(required("onnxruntime").__version__),
        **{n: importlib.metadata.version(n) for n in names},
    }
