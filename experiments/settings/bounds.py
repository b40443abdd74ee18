"""What each setting may be, by its dotted key: its kind, its bounds, whether it may be null; and which keys there are.

This is the border: everything below takes the kinds for granted. What fits together (a grid and its steps, a vocoder
and its model) is checked where it is known. A key that stands in no preset of its group is refused, so that a misspelt
one is never ignored.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard

import yaml

from engine.contract import ConfigError
from experiments.common.presets import CONF

LONGEST_S = 1e9  # thirty years; beyond it the waiting functions of the system overflow
MOST_BYTES = 1 << 50
MOST_COUNT = 10**6
LAST_SEED = 2**63 - 1  # of torch's and numpy's generators
WIDEST = 1 << 16  # of a layer
# Groups whose keys the engine itself checks against what it builds
OWN_KEYS = ("engine", "model.arch", "vocoder.generator", "engine.session", "engine.calibration", "solver.reuse")
FREE = (
    "quality.reference_model",
    "engine.inductor",
    "vocoder.inductor",
    "sweep.space",
    "solver.rule",
    "solver.fitted",
)  # named by others


@dataclass(frozen=True, slots=True)
class Bound:
    """refuse: (allowed, remedy) for a value that is none, None for one that is. {key} stands in both for the key."""

    refuse: Callable[[object], tuple[str, str] | None]
    may_be_null: bool = False


def whole(least: int, most: int = MOST_COUNT, *, multiple: int = 1, null: bool = False) -> Bound:
    def refuse(value: object) -> tuple[str, str] | None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            return f"must be a whole number from {least}", f"use {{key}}={max(least, 1)}"
        if value > most:
            return f"must be at most {most}", f"use {{key}}={most} or less"
        return None if value % multiple == 0 else (f"must be a multiple of {multiple}", f"use {{key}}={multiple}")

    return Bound(refuse, null)


def number(least: float, most: float = math.inf, *, null: bool = False) -> Bound:
    """From least to most, both included."""

    def refuse(value: object) -> tuple[str, str] | None:
        if _is_number(value) and least <= value <= most:
            return None
        upper = f" to {most:g}" if most < math.inf else ""
        return f"must be a number from {least:g}{upper}", "see --cfg job for the default"

    return Bound(refuse, null)


def above_zero(most: float) -> Bound:
    def refuse(value: object) -> tuple[str, str] | None:
        if not _is_number(value) or value <= 0:
            return "must be a number above 0", "see --cfg job for the default"
        return None if value <= most else (f"must be at most {most:g}", "see --cfg job for the default")

    return Bound(refuse)


def flag() -> Bound:
    return Bound(lambda value: None if isinstance(value, bool) else ("must be true or false", "use {key}=true"))


def text(*, null: bool = False) -> Bound:
    """Any text but an empty one. What looks like a number, a date or a truth value is one unless it is quoted."""

    def refuse(value: object) -> tuple[str, str] | None:
        if isinstance(value, str) and value.strip() and "\0" not in value:
            return None
        return "must be a text" + (" or null" if null else ""), "quote what looks like a number: {key}=\\'1\\'"

    return Bound(refuse, null)


def texts(*, or_one: bool = False) -> Bound:
    """A list of texts; or_one: or a text alone."""

    def refuse(value: object) -> tuple[str, str] | None:
        if or_one and isinstance(value, str):
            return None
        fits = isinstance(value, list) and all(isinstance(part, str) for part in value)
        return None if fits else ("must be a list of texts", "write {key}=[one,other]")

    return Bound(refuse)


def group(*, null: bool = False) -> Bound:
    def refuse(value: object) -> tuple[str, str] | None:
        fits = isinstance(value, Mapping)
        return None if fits else ("is a group of settings", "set the keys inside it, see --cfg job")

    return Bound(refuse, null)


def grid(value: object) -> tuple[str, str] | None:
    fits = isinstance(value, str) or (isinstance(value, list) and all(map(_is_number, value)))
    return None if fits else ("must be epss, epss8_style, uniform or a list of t", "use solver.grid=uniform")


def voices(value: object) -> tuple[str, str] | None:
    needed = {"id", "audio", "text"}
    fits = isinstance(value, list) and all(isinstance(one, Mapping) and needed <= set(one) for one in value)
    return None if fits else ("must be a list of {id, audio, text}", "see conf/reference/pocket_voices.yaml")


NAME, FLAG = text(), flag()
SECONDS = above_zero(LONGEST_S)
SIZE = whole(1, WIDEST)
MODEL: Mapping[str, Bound] = {
    "backbone": NAME, "arch": group(), "checkpoint": NAME, "vocab": NAME, "mel_bins": SIZE, "mel_spec_type": NAME,
    "sample_rate_hz": whole(1000, MOST_COUNT), "hop_samples": SIZE,
    # The convolution before the blocks has 16 groups; rotary positions turn pairs
    "arch.dim": whole(16, WIDEST, multiple=16), "arch.depth": whole(1, 1000), "arch.heads": whole(1, 1000),
    "arch.dim_head": whole(2, WIDEST, multiple=2), "arch.ff_mult": above_zero(1000), "arch.text_dim": SIZE,
    "arch.conv_layers": whole(0, 1000), "arch.text_mask_padding": FLAG, "arch.pe_attn_head": whole(1, 1000, null=True),
    "arch.text_embedding_average_upsampling": FLAG, "arch.skip_connect_type": NAME, "arch.qk_norm": text(null=True),
}  # fmt: skip
ENGINE: Mapping[str, Bound] = {
    "_target_": NAME, "precision": NAME, "region": NAME, "shapes": NAME, "provider": NAME, "compiled": FLAG,
    "bucket_frames": whole(1, MOST_COUNT, null=True), "inductor": group(null=True), "session": group(null=True),
    "calibration": group(null=True), "calibration.method": NAME, "calibration.sentences": texts(),
    "float_layers": texts(), "plan": text(null=True), "workspace_bytes": whole(1 << 20, MOST_BYTES),
    "needs_fused_attention": FLAG, "needs_int8_products": FLAG, "max_graphs": whole(1), "max_batch": whole(1, 4096),
    "max_padding_frac": number(0, 1), "session.spinning": FLAG, "session.arena": FLAG, "session.exact_int8": FLAG,
    "session.execution_mode": NAME, "session.optimization": NAME,
}  # fmt: skip
SOLVER: Mapping[str, Bound] = {"method": NAME, "grid": Bound(grid), "guidance": NAME, "sway": number(-1e6, 1e6)}
VOCODER: Mapping[str, Bound] = {
    "kind": NAME, "checkpoint": NAME, "runtime": NAME, "precision": NAME, "inductor": group(null=True),
    "backbone": group(), "head": group(), "generator": group(), "head.padding": NAME,
    "generator.use_tanh_at_final": FLAG, "generator.use_bias_at_final": FLAG,
    **dict.fromkeys(
        ("backbone.input_channels", "backbone.dim", "backbone.intermediate_dim", "head.dim", "head.n_fft",
         "head.hop_length", "generator.num_mels", "generator.upsample_initial_channel"), SIZE,
    ),
    "backbone.num_layers": whole(1, 1000),
}  # fmt: skip
REFERENCE: Mapping[str, Bound] = {
    "target_rms": above_zero(1),
    "cross_fade_s": number(0, 10),
    "cross_fade": NAME,
    "speed_ratio": number(0.3, 3),
    "voices": Bound(voices),
}
MEASURE: Mapping[str, Bound] = {
    "warmup_rounds": whole(0), "rounds": whole(1), "slow_warmup_rounds": whole(0), "slow_rounds": whole(1),
    "slow_from_evals": whole(1), "order_seed": whole(0, LAST_SEED), "warmup_utterances": whole(1),
    "calibrations_per_round": whole(1), "cold_starts": whole(0), "energy_busy_s": number(0, LONGEST_S),
    "time_limit_s": SECONDS, "calibration": NAME,
    "memory_limit_bytes": whole(1 << 20, MOST_BYTES, null=True), "gemm_peak": FLAG,
    "machine_ratio": number(1, null=True),
}  # fmt: skip
QUALITY: Mapping[str, Bound] = {
    "enabled": FLAG, "metrics": texts(), "timeout_s": SECONDS, "child_memory_bytes": whole(1 << 28, MOST_BYTES),
    "reference_dir": text(null=True), "recogniser": group(), "recogniser.kind": NAME, "recogniser.language": NAME,
    "recogniser.folder": text(null=True), "speaker": group(), "speaker.kind": NAME, "speaker.file": text(null=True),
    "predicted_mos": group(), "predicted_mos.dnsmos": text(null=True), "predicted_mos.dnsmos_p808": text(null=True),
    "predicted_mos.utmos": text(null=True),
}  # fmt: skip
SWEEP: Mapping[str, Bound] = {
    "all": FLAG, "fail_fast": FLAG, "max_failures": whole(1, null=True), "resume": text(null=True), "lock": NAME,
    "grace_s": number(0, LONGEST_S), "retries": group(), "num_trials": whole(1), "sampler": NAME,
    "sampler_seed": whole(0, 2**32 - 1), "objectives": texts(), "constraints": texts(or_one=True), "space": group(),
    **{f"retries.{kind}": whole(0) for kind in ("exception", "out_of_memory", "killed", "crash", "hang")},
}  # fmt: skip
GROUPS: Mapping[str, Mapping[str, Bound]] = {
    "model": MODEL, "engine": ENGINE, "solver": SOLVER, "vocoder": VOCODER, "reference": REFERENCE,
    "workload": {"texts": texts(or_one=True), "limit": whole(1, null=True)}, "stream": {}, "gate": {},
    "device": {"kind": NAME, "threads": whole(1, 4096, null=True)}, "measure": MEASURE, "quality": QUALITY,
    "sweep": SWEEP,
    "tracking": {"mode": NAME, "uri": text(null=True), "experiment": NAME, "timeout_s": SECONDS},
}  # fmt: skip
TOP: Mapping[str, Bound] = {"seed": whole(0, LAST_SEED), "out": text(null=True)}


def check_bounds(config: Mapping[str, Any]) -> None:
    """Raises ConfigError for the first key that does not exist, or whose value is none of its kind."""
    for key, bound in TOP.items():
        _check(key, config[key], bound)
    for name, bounds in GROUPS.items():
        _check_known(name, config[name])
        if "name" not in config[name]:
            raise ConfigError(f"{name}.name", "(deleted)", "is needed", "leave it in")
        _check(f"{name}.name", config[name]["name"], NAME)
        for key, bound in bounds.items():
            found, value = _at(config[name], key.split("."))
            if found:
                _check(f"{name}.{key}", value, bound)


def _check(key: str, value: object, bound: Bound) -> None:
    if value is None and bound.may_be_null:
        return
    refused = bound.refuse(value)
    if refused is not None:
        allowed, remedy = refused
        raise ConfigError(key, value, allowed, remedy.format(key=key))


def _at(node: Any, path: Sequence[str]) -> tuple[bool, Any]:
    """(is there, value); what lies in a group that is null is not there."""
    for part in path:
        if not isinstance(node, Mapping) or part not in node:
            return False, None
        node = node[part]
    return True, node


def _check_known(name: str, settings: Mapping[str, Any]) -> None:
    known = {*known_keys(name), *(f"{name}.{key}" for key in GROUPS[name])}
    for key, value in _leaves(name, settings):
        if key not in known:
            beside = sorted(other for other in known if other.rpartition(".")[0] == key.rpartition(".")[0])
            near = difflib.get_close_matches(key, beside, n=1)
            remedy = f"did you mean {near[0]}?" if near else "correct or remove it"
            raise ConfigError(key, value, f"no such key; known here: {', '.join(beside)}", remedy)


@lru_cache(maxsize=32)
def known_keys(name: str) -> frozenset[str]:
    """The dotted keys of all presets of a group."""
    found: set[str] = set()
    for path in [*(CONF / name).glob("*.yaml"), *(CONF / name / "base").glob("*.yaml")]:
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        found.update(key for key, _ in _leaves(name, content) if key != f"{name}.defaults")
    return frozenset(found)


def _leaves(key: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted keys, groups among them, down to what others check."""
    if key in OWN_KEYS or key in FREE:
        return
    for name, value in node.items():
        yield f"{key}.{name}", value
        if isinstance(value, Mapping):
            yield from _leaves(f"{key}.{name}", value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
