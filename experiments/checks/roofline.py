"""What share of the device's matrix products the denoiser reaches, by requests a call:
`python -m experiments.checks.roofline engine=compiled_bf16 model=f5tts_v1_base_random vocoder=vocos_random
solver=uniform_5 workload=smoke engine.bucket_frames=32 --requests 1,2,4,8`. The sizes take turns; the peak is the best
of all turns.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace

from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import ConfigError, Engine, SynthesisRequest
from experiments.common.cli import run_verb
from experiments.common.device_lock import device_lock
from experiments.common.environment import num_threads
from experiments.measuring.peaks import gemm_peaks
from experiments.settings.compose import compose_run
from experiments.workload.requests import load_workload
from metrics.speed.roofline import Dit, rows_of
from reports.commands import VerbParser

TURNS = 5
KINDS = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}


def call(engine: Engine, request: SynthesisRequest, num: int, dit: Dit, ref_frames: int) -> tuple[float, float]:
    """(operations, seconds) of the denoise stage of one call; every request has noise of its own."""
    rows = rows_of(engine.facts.cfg_strength)
    spoken = engine.synthesize([replace(request, seed=seed) for seed in range(num)])
    flop = sum(one.num_evals * dit.evaluation_flop(ref_frames + len(one.mel_ND), rows) for one in spoken)
    return flop, spoken[0].stages.denoise_s  # of the whole call, in every answer


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.checks.roofline", description=__doc__)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--requests", default="1,2,4,8")
    options = parser.parse_args(argv)
    import torch

    from engine.solver.methods import solver_spec

    config, clock = compose_run(options.overrides).config, HostClock()
    solver_spec(config["solver"])  # refuses a model without one, whose arithmetic nothing here knows
    torch.set_num_threads(num_threads(config["device"]))
    workload, dit = load_workload(config), Dit.of(config["model"])
    request = workload.requests[0]
    hz = config["model"]["sample_rate_hz"] / config["model"]["hop_samples"]
    ref_frames = round(len(request.ref_audio_S) / request.ref_sample_rate_hz * hz)
    if not all(text.isdecimal() and 0 < int(text) < 1000 for text in options.requests.split(",")):
        raise ConfigError("--requests", options.requests, "must be whole numbers with commas", "use --requests 1,2,4,8")
    sizes = [int(text) for text in options.requests.split(",")]
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    peaks: list[float] = []
    with device_lock("cpu", "wait", print), build_engine(config, clock) as engine:
        kind, name = KINDS[engine.facts.precision], engine.facts.name
        for size in sizes:
            call(engine, request, size, dit, ref_frames)
        for _ in range(TURNS):
            peaks.append(gemm_peaks(config, clock)["gemm_peak_flop_per_s"][kind])
            for size in sizes:
                flop, seconds = call(engine, request, size, dit, ref_frames)
                rates[size].append(flop / seconds)
    print(f"{name}, {kind}: products reach {max(peaks) / 1e9:.0f} GFLOP/s ({TURNS} turns)")
    for size, found in rates.items():
        rate = statistics.median(found)
        share = 100 * rate / max(peaks)
        low, high = (100 * end / max(peaks) for end in (min(found), max(found)))
        print(f"{size} requests a call: {rate / 1e9:.0f} GFLOP/s, {share:.1f} % ({low:.1f}..{high:.1f}) of that")
    return 0


if __name__ == "__main__":
    sys.exit(run_verb(main))
