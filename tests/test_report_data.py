"""Made-up sweeps for the report tests: figures of a real one's size, chosen so that what is printed is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import wavfile

from metrics.record import RunRecord, Score, Trial, Utterance, save_record

RATE_HZ = 24_000
SENTENCES = {
    "en01": ("short", "Good morning to you!", 1.0),
    "en04": ("short", "That was close.", 0.75),
    "en09": ("medium", "She folded the letter twice.", 2.0),
    "en11": ("medium", "Keep your ticket | please.", 1.5),
}
SCORES = {
    "log_mel_mae_vs_reference": "lower",
    "snr_vs_reference_db": "higher",
    "pesq_wb_vs_reference": "higher",
    "stoi_vs_reference": "higher",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeCell:
    """A cell to write. Every call takes rtf x the sentence's seconds; scores are the same for every sentence.

    scores: log-mel, SNR, PESQ, STOI, or () for none. invalid and missing_pesq: ids of sentences. spread: share by which
    a round is slower than the one before it.
    """

    label: str
    rtf: float = 0.1
    num_evals: int = 7
    rounds: int = 3
    scores: tuple[float, ...] = (0.2, 12.0, 3.0, 0.9)
    state: str = "ok"
    reason: str | None = None
    remedy: str | None = None
    invalid: tuple[str, ...] = ()
    missing_pesq: tuple[str, ...] = ()
    random_weights: bool = False
    spread: float = 0.0
    noise: float = 0.05
    calibration_s: float = 0.01
    has_record: bool = True

    @property
    def engine(self) -> str:
        return self.label.split("-")[0]

    @property
    def solver(self) -> str:
        return self.label.split("-")[1]


REFERENCE = FakeCell(label="fp32-euler_32", rtf=1.5, num_evals=32, rounds=1, scores=(), noise=0.0)
DEFAULT_CELLS = (
    FakeCell(label="upstream-euler_32", rtf=1.8, num_evals=32, rounds=1, scores=(0.0, 120.0, 4.644, 1.0), noise=0.0),
    REFERENCE,
    FakeCell(label="fp32-euler_7", rtf=0.45, rounds=15),
    FakeCell(label="int8-euler_7", rtf=0.3, scores=(0.25, 9.5, 2.5, 0.875), missing_pesq=("en04",)),
    FakeCell(label="amp-euler_7", rtf=0.01, invalid=("en04", "en09")),
    FakeCell(
        label="fp16-euler_7",
        state="skipped",
        reason="no float16 convolution on this CPU",
        remedy="use engine=bf16, or a CUDA device",
    ),
    FakeCell(
        label="bf16-euler_7",
        state="failed",
        reason="OSError: /home/someone/secret/place/weights.bin is truncated",
        remedy="fetch it again",
        has_record=False,
    ),
)


def write_sweep(root: Path, cells: Sequence[FakeCell] = DEFAULT_CELLS, *, status: str = "done", **env: Any) -> Path:
    """A SWEEP folder under root; `env` overrides the environment of every record."""
    entries = []
    for cell in cells:
        folder = root / "cells" / cell.label
        if cell.has_record and cell.state not in ("pending", "running"):
            write_run(folder, cell, env)
        entry = {"label": cell.label, "dir": f"cells/{cell.label}", "state": cell.state, "overrides": []}
        entries.append({**entry, "reason": cell.reason, "remedy": cell.remedy})
    labels = [cell.label for cell in cells]
    sweep = {
        "schema_version": 1,
        "sweep_id": "sweep-1",
        "created": "2026-11-20T13:00:00+00:00",
        "finished": "2026-11-20T13:05:00+00:00" if status == "done" else None,
        "status": status,
        "reference": f"cells/{REFERENCE.label}" if REFERENCE.label in labels else None,
        "cells": entries,
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "sweep.json").write_text(json.dumps(sweep), encoding="utf-8")
    return root


def write_run(folder: Path, cell: FakeCell, env: dict[str, Any] | None = None) -> Path:
    """A RUN folder: result.json and, where it ran, its audio."""
    folder.mkdir(parents=True, exist_ok=True)
    ran = cell.state == "ok"
    record = RunRecord(
        run_id=f"run-{cell.label}",
        created="2026-11-20T13:00:00+00:00",
        status=cell.state,  # type: ignore[arg-type]
        reason=cell.reason,
        remedy=cell.remedy,
        label=cell.label,
        config=config_of(cell, folder),
        facts=facts_of(cell) if ran else None,
        environment={**ENVIRONMENT, **(env or {})},
        workload=workload_of(),
        build_s=1.25 if ran else None,
        first_call_s=0.875 if ran else None,
        peak_rss_bytes=900 * 2**20 if ran else None,
        peak_pss_bytes=(800 if cell.engine != "int8" else 640) * 2**20 if ran else None,
        peak_device_bytes=None,
        utterances=utterances_of(cell, folder) if ran else (),
        trials=trials_of(cell) if ran else (),
        scores=scores_of(cell) if ran else (),
    )
    save_record(record, folder / "result.json")
    return folder


ENVIRONMENT = {
    "host_class": "amd-epyc-2c-cpu",
    "cpu_model": "AMD EPYC 9V74",
    "num_cores": 2,
    "versions": {"torch": "2.11.0"},
    "device": "cpu",
    "gpu": None,
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_dirty": False,
    "threads": 2,
    "load_1min": 0.1,
    "started": "2026-11-20T13:00:00+00:00",
}


def workload_of() -> dict[str, Any]:
    return {
        "name": "bench",
        "identity_sha256": "feedc0de" * 8,
        "num_utterances": len(SENTENCES),
        "reference_s": 2.1,
        "generated_s": sum(seconds for _, _, seconds in SENTENCES.values()),
        "utterances": [
            {"id": name, "category": category, "text": text, "voice": "slt"}
            for name, (category, text, _) in SENTENCES.items()
        ],
    }


def config_of(cell: FakeCell, folder: Path) -> dict[str, Any]:
    return {
        "model": {"name": "f5tts_v1_base_random" if cell.random_weights else "pocket"},
        "engine": {"name": cell.engine, "precision": cell.engine},
        "solver": {"name": cell.solver, "steps": steps_of(cell)},
        "quality": {"enabled": True},
        "seed": 0,
        "out": str(folder),
    }


def steps_of(cell: FakeCell) -> int:
    return cell.num_evals // (2 if cell.solver.startswith("midpoint") else 1)


def facts_of(cell: FakeCell) -> dict[str, Any]:
    return {
        "name": cell.engine,
        "denoiser": "eager",
        "precision": cell.engine,
        "solver": cell.solver,
        "steps": steps_of(cell),
        "model": "pocket",
        "weights_bytes": 25 * 2**20,
        "random_weights": cell.random_weights,
        "proof": {"evals": cell.num_evals, "weights": {"torch.float32": 142}},
    }


def trials_of(cell: FakeCell) -> tuple[Trial, ...]:
    """One warm-up round that is 3 times as slow, then the rounds."""
    trials = []
    for repeat in range(-1, cell.rounds):
        factor = 3.0 if repeat < 0 else 1.0 + cell.spread * repeat
        for name, (_, _, seconds) in SENTENCES.items():
            wall_s = cell.rtf * seconds * factor
            trials.append(
                Trial(
                    utterance_id=name,
                    repeat=max(repeat, 0),
                    wall_s=wall_s,
                    cpu_s=wall_s * 1.9,
                    audio_s=seconds,
                    frontend_s=0.05 * wall_s,
                    denoise_s=0.75 * wall_s,
                    vocoder_s=0.175 * wall_s,
                    join_s=0.025 * wall_s,
                    num_evals=cell.num_evals,
                    peak_bytes=700 * 2**20,
                    started_unix_s=1.7e9 + repeat,
                    is_warmup=repeat < 0,
                    calibration_s=cell.calibration_s,
                )
            )
    return tuple(trials)


def scores_of(cell: FakeCell) -> tuple[Score, ...]:
    if cell.random_weights:
        reason = "random weights: a speed workload"
        names = ("audio_valid", *SCORES)
        return tuple(_score(metric, name, None, "not_applicable", reason) for name in SENTENCES for metric in names)
    scores = []
    for name in SENTENCES:
        if name in cell.invalid:
            scores.append(_score("audio_valid", name, None, "error", "silent: RMS 0, must be over 0.001"))
        else:
            scores.append(_score("audio_valid", name, 1.0, "ok", None))
        for metric, value in zip(SCORES, cell.scores, strict=False):
            if metric.startswith("pesq") and name in cell.missing_pesq:
                scores.append(_score(metric, name, None, "too_few", "0.20 s long: PESQ needs 0.25 s"))
            else:
                scores.append(_score(metric, name, value, "ok", None))
    return tuple(scores)


def _score(metric: str, name: str, value: float | None, status: str, reason: str | None) -> Score:
    better = SCORES.get(metric, "higher")
    fields = {"metric": metric, "utterance_id": name, "value": value, "status": status}
    return Score(**fields, reason=reason, better=better)  # type: ignore[arg-type]


def utterances_of(cell: FakeCell, folder: Path) -> tuple[Utterance, ...]:
    utterances = []
    for name, (category, text, seconds) in SENTENCES.items():
        audio_S = voice_like(name, seconds, cell.noise)
        path = folder / "audio" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        wavfile.write(path, RATE_HZ, np.full_like(audio_S, np.nan) if name in cell.invalid else audio_S)
        utterances.append(
            Utterance(
                utterance_id=name,
                category=category,
                text=text,
                sample_rate_hz=RATE_HZ,
                num_samples=audio_S.size,
                num_frames=audio_S.size // 256,
                num_chunks=1,
                noise_sha256=hashlib.sha256(name.encode()).hexdigest(),
                audio_sha256=hashlib.sha256(audio_S.tobytes()).hexdigest(),
                audio_path=f"audio/{name}.wav",
                mel_path=f"mel/{name}.npy",
            )
        )
    return tuple(utterances)


def voice_like(name: str, seconds: float, noise: float) -> np.ndarray:
    """(S,) float32: a gliding harmonic tone in syllables, with noise added."""
    generator = np.random.default_rng(sum(name.encode()))
    time_S = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    phase_S = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * time_S)) / RATE_HZ
    tone_S = sum(np.sin(k * phase_S) * np.exp(-(((k * 130 - 900) / 1500) ** 2)) for k in range(1, 60))
    syllables_S = np.clip(np.sin(2 * np.pi * 3.5 * time_S), 0, None)
    breath_S = generator.standard_normal(time_S.size) * np.clip(-np.sin(2 * np.pi * 3.5 * time_S), 0, None) * 0.3
    audio_S = 0.03 * (np.asarray(tone_S) * syllables_S + breath_S)
    return (audio_S + 0.03 * noise * generator.standard_normal(time_S.size)).astype(np.float32)


def read_record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def rewrite_record(folder: Path, **changes: Any) -> None:
    (folder / "result.json").write_text(json.dumps({**read_record(folder), **changes}), encoding="utf-8")


def test_the_made_up_trials_are_what_the_assertions_elsewhere_assume() -> None:
    trials = trials_of(FakeCell(label="fp32-euler_7", rtf=0.5, rounds=2))
    assert [asdict(trial)["wall_s"] for trial in trials[4:8]] == [0.5, 0.375, 1.0, 0.75]
    assert sum(trial.is_warmup for trial in trials) == len(SENTENCES)
