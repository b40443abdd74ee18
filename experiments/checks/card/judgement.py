"""Whether a mel is near enough to float32's, by the engine's precision."""

from __future__ import annotations

from typing import Literal

import numpy as np

ORACLE = "fp32"
# Largest relative L2 of the mel. float32 in another order of sums is some 1e-5 off after seven steps, half types lose
# 2 to 3 digits (bfloat16 some 1e-2), INT8 about a tenth; garbage, also of the right size, is at 1 or more.
ALLOWED = {"fp32": 1e-3, "half": 5e-2, "int8": 0.3}

Status = Literal["ok", "wrong", "skipped", "failed"]


def allowed_for(precision: str) -> float:
    """precision: as in an engine's facts."""
    return ALLOWED["int8" if precision.startswith("int8") else "fp32" if precision == "fp32" else "half"]


def judged(mel: np.ndarray, expected: np.ndarray, allowed: float) -> tuple[Status, float | None, str | None]:
    """A row's status, error and reason."""
    if mel.shape != expected.shape:
        return "wrong", None, f"its mel is {mel.shape}, must be {expected.shape}"
    if not np.isfinite(mel).all() or not np.isfinite(expected).all() or not expected.any():
        return "wrong", None, "its mel or float32's is not finite, or that is zero"
    gap = mel.astype(np.float64) - expected
    error = float(np.linalg.norm(gap) / np.linalg.norm(expected.astype(np.float64)))
    return "ok" if error <= allowed else "wrong", error, None
