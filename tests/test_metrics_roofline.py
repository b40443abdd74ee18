"""Arithmetic counted by hand, and speeds over it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from engine.step.dit import Arch, DiTStep, rope_table
from engine.step.inputs import StepInputs
from engine.step.unett import UNetTArch, UNetTStep
from metrics.speed.roofline import Dit, best_peaks, roofline
from tests.baseline_runs import make_run

MODEL: dict[str, Any] = {
    "name": "m", "mel_bins": 100, "sample_rate_hz": 24000, "hop_samples": 256,
    "arch": {"dim": 256, "depth": 2, "heads": 4, "ff_mult": 2},
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2])
def test_the_count_is_what_the_step_really_does(rows: int) -> None:
    """PyTorch's own counter over the real module; both leave out norms and activations."""
    arch, frames = Arch(dim=256, depth=2, heads=4, ff_mult=2), 96
    step = DiTStep(arch, 100).eval()
    inputs = StepInputs(
        torch.zeros(1, frames, 100), torch.zeros(rows, frames, 256), torch.zeros(rows, 256, frames),
        *rope_table(frames, arch), torch.zeros(2, 6, 256), torch.zeros(2, 256),
    )  # fmt: skip
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step(inputs)
    assert Dit.of(MODEL).evaluation_flop(frames, rows) == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize("skip", ["concat", "add"])
def test_the_count_of_a_unett_is_what_its_step_really_does(skip: str) -> None:
    arch, frames, rows = {**MODEL["arch"], "skip_connect_type": skip}, 96, 2
    step = UNetTStep(UNetTArch.of(arch), 100).eval()
    inputs = StepInputs(
        torch.zeros(1, frames, 100), torch.zeros(rows, frames, 256), torch.zeros(rows, 256, frames),
        *rope_table(frames, step.arch.shared), torch.zeros(256), torch.zeros(0),
    )  # fmt: skip
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step(inputs)
    dit = Dit.of({**MODEL, "arch": arch, "backbone": "UNetT"})
    assert dit.evaluation_flop(frames, rows) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_speed_peak_and_floor_come_from_the_same_trials() -> None:
    run = make_run(0)
    facts = {
        **(run.facts or {}),
        "precision": "fp32",
        "cfg_strength": 2.0,
        "proof": {"guided_evals": 3, "unguided_evals": 1},
    }
    run = replace(
        run, config={"model": MODEL}, facts=facts, workload={**run.workload, "reference_s": 1.024},
        environment={**run.environment, "gemm_peak_flop_per_s": {"float32": 1e12}},
    )  # fmt: skip
    dit, by_id = Dit.of(MODEL), {u.utterance_id: u for u in run.utterances}
    flop = sum(
        t.num_evals * (0.75 * dit.evaluation_flop(n, 2) + 0.25 * dit.evaluation_flop(n, 1))
        for t in run.steady_trials
        for n in [96 + by_id[t.utterance_id].num_frames]
    )
    seconds, audio_s = (sum(getattr(t, key) for t in run.steady_trials) for key in ("denoise_s", "audio_s"))
    work = roofline(run)
    assert work is not None
    assert work.flop_per_s == pytest.approx(flop / seconds)
    assert work.peak_frac == pytest.approx(flop / seconds / 1e12)
    assert work.floor_rtf == pytest.approx(flop / audio_s / 1e12)


def test_int8_has_no_roof_made_of_other_products() -> None:
    run = make_run(0)
    facts = {**(run.facts or {}), "precision": "int8", "cfg_strength": 2.0, "proof": {}}
    peaks = {**run.environment, "gemm_peak_flop_per_s": {"float32": 1e12, "bfloat16": 1e10}}
    workload = {**run.workload, "reference_s": 1.0}
    found = roofline(replace(run, config={"model": MODEL}, facts=facts, environment=peaks, workload=workload))
    assert found is not None
    assert (found.peak_frac, found.floor_rtf) == (None, None)
    own = {**peaks, "gemm_peak_flop_per_s": {**peaks["gemm_peak_flop_per_s"], "int8": 2 * found.flop_per_s}}
    held = roofline(replace(run, config={"model": MODEL}, facts=facts, environment=own, workload=workload))
    assert held is not None
    assert held.peak_frac == pytest.approx(0.5)


def test_the_best_peak_of_a_table_is_the_roof_of_its_rows() -> None:
    """One that was taken in a busy moment lies under what the very engine then reached."""
    run = make_run(0)
    busy, quiet = ({"gemm_peak_flop_per_s": {"float32": rate, "int8": 3 * rate}} for rate in (1e10, 2e10))
    runs = [replace(run, environment={**run.environment, **peaks}) for peaks in (busy, quiet, {})]
    assert best_peaks(runs) == {"float32": 2e10, "int8": 6e10}
    facts = {**(run.facts or {}), "precision": "fp32", "cfg_strength": 2.0, "proof": {}}
    row = replace(runs[0], config={"model": MODEL}, facts=facts, workload={**run.workload, "reference_s": 1.0})
    own, held = roofline(row), roofline(row, best_peaks(runs))
    assert own is not None
    assert held is not None
    assert own.peak_frac == pytest.approx(2 * (held.peak_frac or 0))


def test_no_peak_measured_means_no_share_of_it() -> None:
    run = make_run(0)
    run = replace(
        run, config={"model": MODEL}, facts={**(run.facts or {}), "precision": "fp32", "cfg_strength": 0.0, "proof": {}}
    )
    work = roofline(replace(run, workload={**run.workload, "reference_s": 1.0}))
    assert work is not None
    assert (work.peak_frac, work.floor_rtf) == (None, None)
    assert roofline(replace(run, config={})) is None
