"""Synthetic run records with known costs and known noise, for the tests of baselines and gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from baselines.stored.store import Baseline
from baselines.stored.verdict import Limits
from metrics.record import CalibrationReading, RunRecord, Score, Trial, Utterance

HOST = "test-2c-cpu"
IDS = tuple(f"en{i:02d}" for i in range(1, 13))
SNR = "snr_vs_reference_db"
VALID = "audio_valid"
LIMITS = Limits(
    catch_ratio=1.05,
    ignore_ratio=1.00,
    coarse_catch_ratio=1.25,
    coarse_ignore_ratio=1.10,
    snr_margin_db=1.0,
    worst_sentence_snr_margin_db=3.0,
    memory_ratio=1.02,
    memory_extra_bytes=16 * 2**20,
    session_noise_frac=0.02,
    coarse_session_noise_frac=0.03,
    session_noise_floor_frac=0.003,
    drift_residual_frac=0.05,
    machine_ratio=1.5,
    other_cpu_frac=0.75,
    confidence=0.99,
    pass_confidence=0.95,
)


@dataclass(frozen=True, kw_only=True)
class World:
    """SDs of the log of a machine's times. machine: moves target and calibration alike; session: the target alone.

    unlike: of a session's calibrations of another kind of work than the engine's, which drift in a way of their own.
    wall_factor: how much noisier than CPU time the wall time of calls, rounds and calibrations is.
    """

    call: float = 0.01
    round: float = 0.003
    calibration: float = 0.003
    unlike: float = 0.05
    cpu_machine: float = 0.0
    cpu_session: float = 0.0
    wall_factor: float = 1.0
    wall_machine: float = 0.0
    wall_session: float = 0.0


# A quiet machine; a shared one like the measured two-core machine (wall drifts by 56 %, 2 % of it survive division; CPU
# time moves by half a percent); one whose every session differs by 2 % in a way no calibration sees.
QUIET = World(cpu_session=0.002, wall_session=0.002)
SHARED = World(cpu_machine=0.02, cpu_session=0.005, wall_factor=8, wall_machine=0.45, wall_session=0.02)
DRIFTING = World(cpu_machine=0.02, cpu_session=0.02, wall_machine=0.1, wall_session=0.02)
NOISY = World(round=0.3)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a synthetic run is like. slower: factor on every time, not on the calibration."""

    world: World = QUIET
    slower: float = 1.0
    rounds: int = 5
    ids: Sequence[str] = IDS
    device: str = "cpu"
    calibrated: bool = True
    audio: str = "a"
    snr_change_db: float = 0.0
    peak_bytes: int = 700 * 2**20


def make_run(seed: int, recipe: Recipe | None = None, **changes: Any) -> RunRecord:
    """A record of `recipe`; `changes` replace fields of the record afterwards."""
    recipe = recipe or Recipe()
    trials = make_trials(np.random.default_rng(seed), recipe)
    run = RunRecord(
        run_id=f"run-{seed}",
        created="2026-01-01T00:00:00+00:00",
        status="ok",
        reason=None,
        remedy=None,
        label="fp32-euler_7",
        config={"engine": {"name": "fp32"}, "measure": {"calibration": "gemm"}, "out": f"outputs/{seed}"},
        facts=facts(),
        environment=environment(recipe.device),
        workload={"name": "bench", "identity_sha256": "w0", "num_utterances": len(recipe.ids)},
        build_s=1.0,
        first_call_s=0.5,
        peak_rss_bytes=recipe.peak_bytes + 2**20,
        peak_pss_bytes=recipe.peak_bytes,
        peak_device_bytes=None,
        utterances=tuple(make_utterance(name, recipe.audio) for name in recipe.ids),
        trials=trials,
        scores=make_scores(recipe),
        calibrations=make_calibrations(np.random.default_rng((seed, 1)), recipe, trials),
    )
    return replace(run, **changes)


def make_trials(rng: np.random.Generator, recipe: Recipe) -> tuple[Trial, ...]:
    world, num = recipe.world, len(recipe.ids)

    def factor(spread: float, count: int = 1) -> np.ndarray:
        return np.exp(rng.normal(0, spread, count))

    cpu_machine, wall_machine = factor(world.cpu_machine), factor(world.wall_machine)
    cpu_session, wall_session = factor(world.cpu_session), factor(world.wall_session)
    shares = 0.2 + 0.05 * np.arange(num)
    trials = []
    for repeat in range(-1, recipe.rounds):
        cpu = cpu_machine * cpu_session * factor(world.round) * factor(world.call, num) * recipe.slower
        wall_round = factor(world.round * world.wall_factor) * factor(world.call * world.wall_factor, num)
        wall = wall_machine * wall_session * wall_round * recipe.slower
        calibration_cpu_s = 0.2 * cpu_machine * factor(world.calibration)
        calibration_s = 0.1 * wall_machine * factor(world.calibration * world.wall_factor)
        for place, name in enumerate(recipe.ids):
            trials.append(
                Trial(
                    utterance_id=name,
                    repeat=repeat,
                    wall_s=float(shares[place] * wall[place]),
                    cpu_s=float(2 * shares[place] * cpu[place]),
                    audio_s=2.0,
                    frontend_s=0.0,
                    denoise_s=float(shares[place] * wall[place]),
                    vocoder_s=0.0,
                    join_s=0.0,
                    num_evals=7,
                    peak_bytes=recipe.peak_bytes,
                    started_unix_s=float(repeat),
                    is_warmup=repeat < 0,
                    calibration_s=float(calibration_s[0]) if recipe.calibrated else None,
                    calibration_cpu_s=float(calibration_cpu_s[0]) if recipe.calibrated else None,
                )
            )
    return tuple(trials)


def make_calibrations(
    rng: np.random.Generator, recipe: Recipe, trials: Sequence[Trial]
) -> tuple[CalibrationReading, ...]:
    """One reading of each work a round; the GEMM is what the trials carry, the others move on their own as well."""
    unlike = {
        "gemm": 1.0,
        **{work: float(np.exp(rng.normal(0, recipe.world.unlike))) for work in ("memory", "dispatch")},
    }
    rounds = {t.repeat: t for t in trials if t.calibration_s is not None}
    return tuple(
        CalibrationReading(
            work=work,
            repeat=repeat,
            is_warmup=trial.is_warmup,
            wall_s=(trial.calibration_s or 0.0) * factor,
            cpu_s=(trial.calibration_cpu_s or 0.0) * factor,
        )
        for repeat, trial in rounds.items()
        for work, factor in unlike.items()
    )


def with_calibration(run: RunRecord, wall_factor: float, cpu_factor: float) -> RunRecord:
    """`run` on a machine on which every calibration takes that many times as long."""
    readings = (replace(c, wall_s=c.wall_s * wall_factor, cpu_s=c.cpu_s * cpu_factor) for c in run.calibrations)
    return replace(run, calibrations=tuple(readings))


def make_scores(recipe: Recipe) -> tuple[Score, ...]:
    valid = tuple(score(VALID, name, 1.0) for name in recipe.ids)
    snr = tuple(score(SNR, name, 15.0 + 0.5 * place + recipe.snr_change_db) for place, name in enumerate(recipe.ids))
    return valid + snr


def score(metric: str, utterance_id: str, value: float) -> Score:
    return Score(metric=metric, utterance_id=utterance_id, value=value, status="ok", reason=None, better="higher")


def no_score(metric: str, utterance_id: str | None, status: Any, reason: str) -> Score:
    return Score(metric=metric, utterance_id=utterance_id, value=None, status=status, reason=reason, better="higher")


def with_scores(run: RunRecord, *changed: Score) -> RunRecord:
    """`run` with the scores of the same metric and utterance replaced."""
    new = {(s.metric, s.utterance_id): s for s in changed}
    return replace(run, scores=tuple(new.get((s.metric, s.utterance_id), s) for s in run.scores))


def make_utterance(name: str, audio: str) -> Utterance:
    return Utterance(
        utterance_id=name,
        category="short",
        text="Good morning.",
        sample_rate_hz=24000,
        num_samples=48000,
        num_frames=188,
        num_chunks=1,
        noise_sha256="n0",
        audio_sha256=f"{audio}-{name}",
        audio_path=f"audio/{name}.wav",
        mel_path=f"mel/{name}.npy",
    )


def environment(device: str = "cpu") -> dict[str, Any]:
    return {
        "host_class": HOST,
        "cpu_model": "Test CPU",
        "num_cores": 2,
        "device": device,
        "gpu": None,
        "power_mode": None,
        "threads": 2,
        "versions": {"torch": "2.11.0"},
        "git_commit": "abc123",
        "git_dirty": False,
        "load_1min": 0.5,
        "started": "2026-01-01T00:00:00+00:00",
    }


def facts(**changes: Any) -> Mapping[str, Any]:
    return {
        "name": "fp32",
        "denoiser": "eager",
        "precision": "fp32",
        "solver": "euler",
        "steps": 7,
        "evals_per_step": 1,
        "time_grid": [0.0, 0.5, 1.0],
        "sway": -1.0,
        "cfg_strength": 2.0,
        "vocoder": "vocos",
        "model": "pocket",
        "num_threads": 2,
        "weights_sha256": "m0",
        "random_weights": False,
        "versions": {"torch": "2.11.0"},
        **changes,
    }


def five(recipe: Recipe | None = None, **changes: Any) -> list[RunRecord]:
    """Sessions of one baseline: enough to know its noise."""
    return [make_run(seed, recipe, **changes) for seed in (1, 11, 12, 13, 14)]


def changed(**recipe: Any) -> RunRecord:
    """A new run that speaks other bits than the baseline."""
    return make_run(2, Recipe(audio="b", **recipe))


def with_facts(**changes: Any) -> RunRecord:
    return make_run(2, facts=facts(**changes))


def with_environment(**changes: Any) -> RunRecord:
    return make_run(2, environment={**environment(), **changes})


def on_machine(factor: float) -> RunRecord:
    """The same code on a machine on which everything takes that many times as long."""
    run = make_run(2)
    trials = tuple(replace(t, wall_s=factor * t.wall_s, cpu_s=factor * t.cpu_s) for t in run.trials)
    return with_calibration(replace(run, trials=trials), factor, factor)


def make_baseline(*sessions: RunRecord, name: str = "nightly", host_class: str = HOST) -> Baseline:
    return Baseline(
        name=name,
        host_class=host_class,
        recorded="2026-01-01T00:00:00+00:00",
        recorded_by="someone",
        why="a test",
        git_commit="abc123",
        runs=sessions or (make_run(1),),
    )
