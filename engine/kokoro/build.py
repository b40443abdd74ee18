"""The functions that conf/engine/kokoro*.yaml name in `_target_`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.clock import Clock
from engine.contract import ConfigError, Engine, EngineFacts, UnsupportedEngine
from engine.kokoro.phonemes import CACHES, Phonemes, package_folder, package_speller, vocabulary
from engine.kokoro.weights import AS_FILE, Weights, load_weights, open_voices, style_names, voices_path, voices_sha256
from engine.runtimes.onnx_session import constants_by_dtype
from engine.settings import EngineConfig, OnnxSession

NOT_APPLICABLE = "not_applicable"
ON_CPU = {"CPUExecutionProvider", "AzureExecutionProvider"}  # the second is in every build and runs no graph
# Of what speaks, by name; docs/engines.md says where each is from
LICENCES = {
    "weights and voices": "Apache-2.0", "ONNX export and kokoro-onnx": "MIT",
    "phonemizer and espeak-ng (loaded as a library)": "GPL-3.0-or-later",
}  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class KokoroContext:
    """What these build functions get: the whole resolved configuration and the clock."""

    config: EngineConfig
    clock: Clock

    @property
    def threads(self) -> int:
        return self.config["device"]["threads"] or len(os.sched_getaffinity(0))

    def settings(self, session: OnnxSession | None, provider: str = "cpu") -> Any:
        """engine.session as engine.runtimes.onnx_session has it. Raises ConfigError for a key that is none of its."""
        from engine.runtimes.onnx_session import SessionSettings

        known = set(SessionSettings.__dataclass_fields__) - {"provider", "device", "threads"}
        given: Mapping[str, object] = session or {}
        for key in given:
            if key not in known:
                allowed = f"no such key ({', '.join(sorted(known))})"
                raise ConfigError(f"engine.session.{key}", given[key], allowed, "correct the spelling")
        device = str(self.config["device"]["kind"])
        return SessionSettings(provider=provider, device=device, threads=self.threads, **(session or {}))


def kokoro(
    *,
    context: KokoroContext,
    name: str,
    precision: str = AS_FILE,
    provider: str = "cpu",
    session: OnnxSession | None = None,
    optimised_file: bool = True,
    phoneme_cache: str = "disk",
) -> Engine:
    """Ours. precision: file for the file's own, fp32 for dequantised weights. optimised_file: the graph is read as ONNX
    Runtime has rewritten it for this CPU, kept on disk; false: rewritten at every start."""
    from engine.kokoro.engine import KokoroEngine, Parts
    from engine.kokoro.session import Model, graph_of
    from engine.text.streaming import stream_rule

    if phoneme_cache not in CACHES:
        raise ConfigError("engine.phoneme_cache", phoneme_cache, f"must be one of {', '.join(CACHES)}", "use disk")
    settings = context.settings(session, provider)
    settings.check()
    package_folder()
    config, weights = context.config, load_weights(context.config["model"])
    run_from = _of_the_graph(weights, graph_of(weights, precision))
    model = Model(run_from.path, settings, optimised_file)
    known, language = vocabulary(model.metadata), config["model"]["language"]
    parts = Parts(
        phonemes=Phonemes(package_speller(known, language), known, language, phoneme_cache),
        model=model,
        voices=_voices(config),
        trim=config["model"]["trim"],
        stream=stream_rule(config["stream"]),
        clock=context.clock,
    )
    proof = {"providers": model.session.get_providers(), "optimised_file": optimised_file and provider == "cpu"}
    facts = _facts(
        context, name, run_from, weights.precision if precision == AS_FILE else precision, "onnxruntime", proof
    )
    return KokoroEngine(parts, facts)


def kokoro_onnx(*, context: KokoroContext, name: str, keep: bool = True, session: OnnxSession | None = None) -> Engine:
    """The package as its users run it. keep: one session for all calls, false: one a call, as a command line has it.
    session: null for the package's own options and all cores, else ours, with device.threads."""
    from engine.kokoro.package import PackageEngine

    settings = context.settings(session)
    settings.check()
    config, weights = context.config, load_weights(context.config["model"])
    package_folder()
    path, voices = str(weights.path), str(voices_path(config["model"]))

    def make() -> Any:
        from kokoro_onnx import Kokoro

        from engine.runtimes.onnx_session import make_session, session_options

        if session is None:
            made = Kokoro(path, voices)
            _refuse_other_device(made.sess.get_providers(), str(config["device"]["kind"]))
            return made
        options = session_options(settings, settings.optimization)
        return Kokoro.from_session(make_session(weights.path, options, settings), voices)

    proof = {"session_options": "the package's own" if session is None else "ours", "session_kept": keep}
    facts = _facts(context, name, weights, weights.precision, "kokoro_onnx", proof)
    if session is None:  # ONNX Runtime's own choice, whatever device.threads says
        facts = replace(facts, num_threads=len(os.sched_getaffinity(0)))
    return PackageEngine(make, config["model"], keep, facts, context.clock)


def _of_the_graph(weights: Weights, path: Path) -> Weights:
    """What is run, where that is another file than the one that the weights are read from."""
    if path == weights.path:
        return weights
    return replace(weights, path=path, elements_by_dtype=dict(constants_by_dtype(path)))


def _refuse_other_device(providers: Sequence[str], device: str) -> None:
    """The package takes whatever ONNX Runtime has, or $ONNX_PROVIDER: a row of the CPU must not be a card's."""
    if device == "cpu" and not set(providers) <= ON_CPU:
        raise UnsupportedEngine(
            f"kokoro-onnx speaks by {providers[0]}, and device.kind=cpu was asked for",
            "set ONNX_PROVIDER=CPUExecutionProvider, or engine.session={} for our own options",
        )


def _voices(config: EngineConfig) -> dict[str, np.ndarray]:
    """The styles that the configuration's voices name, and no other: a voice is half a megabyte."""
    with open_voices(voices_path(config["model"])) as found:
        return {name: found[name] for name in style_names(config["model"])}


def _facts(
    context: KokoroContext, name: str, weights: Weights, precision: str, denoiser: str, proof: Mapping[str, object]
) -> EngineFacts:
    from engine.kokoro.session import package_versions

    model = context.config["model"]
    return EngineFacts(
        name=name,
        denoiser=denoiser,
        precision=precision,
        solver=NOT_APPLICABLE,
        steps=1,
        evals_per_step=1,
        time_grid=(),
        sway=0.0,
        cfg_strength=0.0,
        vocoder=NOT_APPLICABLE,
        noise=NOT_APPLICABLE,
        model=model["name"],
        device_name=str(context.config["device"]["kind"]),
        num_threads=context.threads,
        weights_bytes=weights.path.stat().st_size,
        weights_sha256=weights.sha256,
        random_weights=False,
        sample_rate_hz=model["sample_rate_hz"],
        max_batch=1,
        versions=package_versions(),
        proof={
            **proof,
            "weight_elements_by_dtype": dict(weights.elements_by_dtype),
            "voices_sha256": voices_sha256(model),
            "licences": LICENCES,
        },
    )
