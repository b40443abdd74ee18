"""Synthetic scored runs of thirty sentences with known paired differences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from metrics.record import RunRecord, Score
from tests.baseline_runs import Recipe, make_run

IDS30 = tuple(f"en{i:02d}" for i in range(1, 31))
BLIND = "blind_snr_delta_vs_reference_db"
WER = "wer_frac"
SIMILARITY = "speaker_similarity_resemblyzer"
ARTIFACT = "artifact_vs_reference"
DNSMOS = "mos_pred_dnsmos_ovrl"
# Sentences differ from one another far more than variants do
LEVELS: Mapping[str, tuple[float, float]] = {
    BLIND: (0.0, 1.0), WER: (0.02, 0.005), SIMILARITY: (0.92, 0.02), ARTIFACT: (0.0, 0.0),
    DNSMOS: (3.0, 0.2),
}  # fmt: skip
SPREADS: Mapping[str, float] = {BLIND: 0.3, WER: 0.002, SIMILARITY: 0.004, ARTIFACT: 0.0, DNSMOS: 0.02}


def scored(audio: str, shifts: Mapping[str, float] | None = None, ids: tuple[str, ...] = IDS30) -> RunRecord:
    """A run whose scores are the sentences' levels, plus a shift and a spread of its own where `audio` is not "a"."""
    levels, own = np.random.default_rng(0), np.random.default_rng(sum(map(ord, audio)))
    scores = [_score("audio_valid", name, 1.0) for name in ids]
    for metric, (mean, sd) in LEVELS.items():
        values = mean + sd * levels.standard_normal(len(ids))
        if audio != "a":
            noise = own.standard_normal(len(ids))
            values += (shifts or {}).get(metric, 0.0) + SPREADS[metric] * (noise - noise.mean())
        scores += [_score(metric, name, float(value)) for name, value in zip(ids, values, strict=True)]
    run = make_run(1 if audio == "a" else 2, Recipe(rounds=1, ids=ids, audio=audio))
    return replace(run, scores=tuple(scores), label=f"engine-{audio}")


def _score(metric: str, name: str, value: float) -> Score:
    better = "lower" if metric in (WER, ARTIFACT) else "higher"
    return Score(metric=metric, utterance_id=name, value=value, status="ok", reason=None, better=better)


def without(run: RunRecord, metric: str, name: str, status: str, reason: str) -> RunRecord:
    """`run` where the score of one sentence has a status instead of a number."""
    return replace(
        run,
        scores=tuple(
            replace(s, value=None, status=status, reason=reason) if (s.metric, s.utterance_id) == (metric, name) else s
            for s in run.scores
        ),
    )


def write_run(folder: Path, run: RunRecord) -> Path:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(asdict(run)), encoding="utf-8")
    return folder
