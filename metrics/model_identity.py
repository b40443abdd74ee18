"""Which model a record is of: what two rows must have in common before they are called the same model."""

from __future__ import annotations

import hashlib

from metrics.record import ReferenceModel, RunRecord, to_json
from metrics.typed import part_of

TOLD_BY = ("backbone", "arch", "mel_bins", "mel_spec_type")  # of the `model` group


def model_identity(record: RunRecord) -> tuple[str, str]:
    """Hashes of the weights (as the engine has read them) and of the architecture, which the weights alone do not tell:
    the same tensors speak otherwise with other settings."""
    model = part_of(record.config, "model")
    arch = hashlib.sha256(to_json({key: model.get(key) for key in TOLD_BY}).encode()).hexdigest()
    return str((record.facts or {}).get("weights_sha256")), arch


def reference_model_of(record: RunRecord, against: RunRecord) -> ReferenceModel:
    """What `record` is scored against, named."""
    weights, arch = model_identity(against)
    return ReferenceModel(
        model=str(part_of(against.config, "model").get("name")), weights_sha256=weights, arch_sha256=arch,
        is_own=(weights, arch) == model_identity(record),
    )  # fmt: skip


def spelt(reference: ReferenceModel) -> str:
    """NAME, weights and architecture, short: two files of one name are two models."""
    return f"{reference.model} (weights {reference.weights_sha256[:12]}, architecture {reference.arch_sha256[:8]})"
