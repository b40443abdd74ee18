"""What models guess that listeners would say. Never "the MOS": columns of their own, named after the model.

Predictors follow acoustic damage, hardly prosody, and saturate between good systems; use them in pairs, as a tripwire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metrics.fidelity.artefacts import SILENT_RMS, rms
from metrics.fidelity.perceptual import resampled
from metrics.isolation import Item, Limits, run_shared
from metrics.models.tasks import RATE_HZ
from metrics.outcome import Outcome

# setting -> (task, the names of its numbers)
MODELS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "dnsmos": ("metrics.models.tasks:dnsmos_task", ("sig", "bak", "ovrl")),
    "dnsmos_p808": ("metrics.models.tasks:dnsmos_p808_task", ("p808",)),
    "utmos": ("metrics.models.tasks:utmos_task", ("utmos",)),
}


def predictions(
    audios: Sequence[tuple[np.ndarray, int]], model: str, file: str | None, limits: Limits
) -> list[dict[str, Outcome]]:
    """One outcome per number of the model for each (audio_S, sample_rate_hz)."""
    task, names = MODELS[model]
    refusals = [_unfit(audio_S) for audio_S, _ in audios]
    items = [
        Item((resampled(audio_S, rate_hz, RATE_HZ),))
        for (audio_S, rate_hz), refusal in zip(audios, refusals, strict=True)
        if refusal is None
    ]
    answers = iter(run_shared(task, f"the MOS predictor {model}", {"file": file}, items, limits))
    found = []
    for refusal in refusals:
        if refusal is None:
            answer = next(answers)
            if answer.status == "ok":
                found.append({name: Outcome.ok(answer.payload[name]) for name in names})
                continue
            refusal = Outcome.none(answer.status, answer.reason or "no reason was given")
        found.append(dict.fromkeys(names, refusal))
    return found


def _unfit(audio_S: np.ndarray) -> Outcome | None:
    if audio_S.ndim != 1 or audio_S.size == 0 or not np.isfinite(audio_S).all():
        return Outcome.none("error", "not mono audio with finite samples")
    return Outcome.none("error", "the audio is silent") if rms(audio_S) <= SILENT_RMS else None
