"""What a TensorRT plan is and for whom: profiles, identity, the file beside it. Plain data, no TensorRT, no torch.

A plan holds for one graph, one set of profiles, one TensorRT version and one compute capability. All of that is its
identity; a cached plan is found by it, and a plan given as a file is refused by name of what differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.contract import ConfigError, Proof, UnsupportedEngine
from engine.runtimes.profiles import Profile

PRECISIONS = ("fp32", "fp16", "bf16")
INT8_PRECISIONS = ("int8_fp16", "int8_bf16")  # linear layers in int8, the other products in the type named last
KNOWN = {"identity", "plan_sha256", "checks"}  # of the file beside a plan
OPEN = ("tensorrt_version", "compute_capability")  # of an identity: null where the plan is built elsewhere
# What fused attention is called in the inspector's layer names, tactics and metadata (TensorRT 8.6 to 11)
FUSED_ATTENTION = ("_mha", "mha_", "fmha", "flash", "fused_attention", "attention_v2")
# What a product of int8 operands is called there: tactics of its own libraries and of Myelin
INT8_PRODUCTS = ("i8i8", "i8i32", "imma", "s8s8", "s8_s8")


def checked_precision(precision: str, known: Sequence[str] = PRECISIONS) -> None:
    if precision not in known:
        raise ConfigError(
            "engine.precision", precision, f"must be one of {', '.join(known)}",
            f"use engine=tensorrt{'' if known == PRECISIONS else '_int8'}, or engine.precision={known[-1]}",
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanIdentity:
    """Everything a plan depends on. onnx_sha256 covers weights and graph; groups: guidance rows (1 or 2);
    tensorrt_version: of the runtime, whichever of the two it is."""

    onnx_sha256: str
    precision: str
    profiles: tuple[Profile, ...]
    groups: int
    max_batch: int
    workspace_bytes: int
    tensorrt_version: str
    compute_capability: str
    runtime: str = "tensorrt"

    def key(self) -> str:
        """Name of the plan in the cache."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]


def write_plan(path: Path, plan: bytes, identity: PlanIdentity, checks: Proof) -> None:
    """PATH and PATH.json, the latter last: a plan without it was cut short and is not used."""
    meta = {"identity": asdict(identity), "plan_sha256": hashlib.sha256(plan).hexdigest(), "checks": dict(checks)}
    path.parent.mkdir(parents=True, exist_ok=True)
    described(path).unlink(missing_ok=True)
    path.write_bytes(plan)
    described(path).write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n", "utf-8")


def write_described(path: Path, identity: PlanIdentity) -> None:
    """PATH.json of a plan that trtexec is going to build at PATH: for which version and card, and of which bytes, is
    known there only. What a description leaves open is checked when the plan is used."""
    left_open = dict.fromkeys(OPEN)
    meta = {"identity": {**asdict(identity), **left_open}, "plan_sha256": None, "checks": {}}
    described(path).write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n", "utf-8")


def described(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def read_plan(path: Path, here: PlanIdentity) -> tuple[bytes, Proof]:
    """(plan, its checks). Raises UnsupportedEngine for a damaged file and for a plan of another GPU, version, graph or
    profile, naming each difference with both values. What a description of `write_described` leaves open differs from
    nothing."""
    remedy = "use engine.plan=null to build one here"
    try:
        plan, meta = path.read_bytes(), json.loads(described(path).read_text("utf-8"))
        found, digest, checks = meta["identity"], meta["plan_sha256"], meta["checks"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnsupportedEngine(
            f"{path.name} and {described(path).name} cannot be read as a plan and its description ({error!r})", remedy
        ) from error
    if not isinstance(found, dict) or not isinstance(checks, dict):
        raise UnsupportedEngine(
            f"{described(path).name} describes no plan (identity and checks must be objects)", remedy
        )
    found = {"runtime": "tensorrt", **found}  # plans of before there was a choice
    left_open = OPEN if digest is None and all(found.get(key, "") is None for key in OPEN) else ()
    if not left_open and hashlib.sha256(plan).hexdigest() != digest:
        raise UnsupportedEngine(f"{path.name} is not the file that {described(path).name} describes", remedy)
    expected = json.loads(json.dumps(asdict(here)))
    unknown = [*sorted(meta.keys() - KNOWN), *(f"identity.{key}" for key in sorted(found.keys() - expected.keys()))]
    if unknown:
        raise UnsupportedEngine(
            f"{described(path).name} says {', '.join(unknown)} of its plan, which this version does not know", remedy
        )
    differing = [
        f"{key} {found.get(key)}, here {value}"
        for key, value in expected.items()
        if found.get(key) != value and key not in left_open
    ]
    if differing:
        raise UnsupportedEngine(f"{path.name} is a plan for something else: " + "; ".join(differing), remedy)
    return plan, checks


def count_fused_attention(engine_information: str) -> int:
    """Layers of TensorRT's engine inspector (detailed, JSON) that hold a fused attention kernel; 0 means that scores
    are written to memory (an fp32 island around the softmax is enough: stable-audio-3 issues 73, 79)."""
    return _count_layers(engine_information, FUSED_ATTENTION)


def count_int8_products(engine_information: str) -> int:
    """Layers that multiply int8 by int8. A product whose operands are merely stored as int8 and computed in half is
    none, and TensorRT is free to build that."""
    return _count_layers(engine_information, INT8_PRODUCTS)


def _count_layers(engine_information: str, names: Sequence[str]) -> int:
    layers = json.loads(engine_information).get("Layers", [])
    texts = [(layer if isinstance(layer, str) else json.dumps(layer)).lower() for layer in layers]
    return sum(any(name in text for name in names) for text in texts)
