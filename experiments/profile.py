"""Where the time of a call goes: `python -m experiments.profile engine=fp32`.

PyTorch's own profiler around a few warm calls: on a CPU its operations, on a card the kernels. What an engine does
outside of PyTorch (ONNX Runtime, code of our own) has no operation there, and is told as what is left of the call.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.clock import Clock, make_clock
from engine.contract import ConfigError, Engine, Synthesis, SynthesisRequest
from experiments.common.cli import EXIT_JOB_FAILED, EXIT_OK, complain, note, run_verb
from experiments.common.device_lock import device_lock
from experiments.common.environment import fingerprint, now_iso
from experiments.common.plain import Config
from experiments.common.presets import with_presets
from experiments.measuring.engines import build_by_name, facts_content
from experiments.measuring.peaks import gemm_peaks
from experiments.measuring.running import default_out
from experiments.measuring.timed import time_call
from experiments.measuring.validate import one_cell, validate_out
from experiments.scoring.audio import invalid_reason
from experiments.settings.compose import Cell
from experiments.settings.front import answered
from experiments.settings.keys import key_of, refuse_misspelt, refuse_unread
from experiments.workload.requests import load_workload
from metrics.record import to_json, write_atomically
from metrics.speed.roofline import PEAK_OF, Dit, guided_frac
from reports.words import significant

HELP = """Where the time of a warm call goes: stages, operations (kernels on a card), share of the peak.

  calls=3        calls that are profiled, after as many that are only timed
  rows=20        operations in the table; profile.json has all
  nvtx=false     true: no profile, but NVTX ranges around stages and operations, for nsys; needs a card

Of the workload the first sentence is spoken. It leaves profile.json and trace.json (chrome://tracing, Perfetto).
What the profiler costs is in its figures: shares hold, and times are those of the calls without it.

examples:
  python -m experiments.profile engine=fp32
  python -m experiments.profile engine=cuda_graph device=cuda calls=10
  nsys profile -t cuda,nvtx python -m experiments.profile engine=bf16 device=cuda nvtx=true

exit codes: 0 done, 2 usage or configuration, 14 this engine cannot be built here, or its audio is not valid, 130
interrupted
"""
PROFILE, TRACE = "profile.json", "trace.json"
OWN = {"calls": 3, "rows": 20}
UNREAD = ("gate", "quality", "tracking", "sweep.resume")
MOST = 1000
WARM_CALLS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """Of one call. own_ms: without what it calls; share: of the call (of the kernels' time on a card)."""

    name: str
    count: float
    own_ms: float
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    calls: int
    rows: int
    nvtx: bool
    overrides: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """Of the calls without a profiler: medians. stages_ms: of the engine's own marks. invalid: why their audio cannot
    be believed, None where it can, or where random weights speak noise."""

    call_ms: float
    stages_ms: dict[str, float]
    audio_s: float
    flop: float | None
    denoise_s: float
    invalid: str | None


def read_asked(argv: Sequence[str]) -> Asked:
    """Raises ConfigError."""
    own = {key_of(word): word.partition("=")[2] for word in argv if key_of(word) in (*OWN, "nvtx")}
    rest = [word for word in argv if key_of(word) not in (*OWN, "nvtx")]
    refuse_unread(rest, UNREAD, "a profile")
    for word in rest:
        refuse_misspelt(*word.partition("=")[::2], (*OWN, "nvtx"))
    numbers = {key: _whole(key, own.get(key, str(default))) for key, default in OWN.items()}
    nvtx = own.get("nvtx", "false")
    if nvtx not in ("true", "false"):
        raise ConfigError("nvtx", nvtx, "must be true or false", "use nvtx=true under nsys")
    return Asked(calls=numbers["calls"], rows=numbers["rows"], nvtx=nvtx == "true", overrides=tuple(rest))


def _whole(key: str, said: str) -> int:
    if not said.isascii() or not said.isdecimal() or not 1 <= int(said) <= MOST:
        raise ConfigError(key, said, f"must be a whole number from 1 to {MOST}", f"use {key}={OWN[key]}")
    return int(said)


def timed(engine: Engine, request: SynthesisRequest, clock: Clock, config: Config, calls: int) -> Timed:
    found = [time_call(clock, lambda: engine.synthesize([request])[0]) for _ in range(calls)]
    stages = [call.result.stages for call in found]
    names = {"front end": "frontend_s", "denoiser": "denoise_s", "vocoder": "vocoder_s", "join": "join_s"}
    last = found[-1].result
    return Timed(
        call_ms=1e3 * statistics.median(call.wall_s for call in found),
        stages_ms={name: 1e3 * statistics.median(getattr(one, key) for one in stages) for name, key in names.items()},
        audio_s=len(last.audio_S) / last.sample_rate_hz, flop=_flop(engine, request, config, last),
        denoise_s=statistics.median(one.denoise_s for one in stages),
        invalid=None if engine.facts.random_weights else invalid_reason(request, last.audio_S, last.sample_rate_hz),
    )  # fmt: skip


def _flop(engine: Engine, request: SynthesisRequest, config: Config, spoken: Synthesis) -> float | None:
    """Products of the denoiser in one call; None for a model that is no DiT. Chunks count as of equal length."""
    model = config["model"]
    if "arch" not in model:
        return None
    hz = model["sample_rate_hz"] / model["hop_samples"]
    frames = round(len(request.ref_audio_S) / request.ref_sample_rate_hz * hz) + len(spoken.mel_ND) // spoken.num_chunks
    dit, guided = Dit.of(model), guided_frac(engine.facts.proof, engine.facts.cfg_strength)
    each = guided * dit.evaluation_flop(frames, 2) + (1 - guided) * dit.evaluation_flop(frames, 1)
    return spoken.num_evals * each


def profiled(
    engine: Engine, request: SynthesisRequest, clock: Clock, device: str, calls: int, trace: Path
) -> tuple[list[Operation], float]:
    """(operations by their own time, milliseconds of a profiled call)."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # that a CPU has no card is no error
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    on_card = device != "cpu"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        walls = [time_call(clock, lambda: engine.synthesize([request])).wall_s for _ in range(calls)]
    profiler.export_chrome_trace(str(trace))
    wanted = DeviceType.CUDA if on_card else DeviceType.CPU
    found = [
        (event.key, event.count, event.self_device_time_total if on_card else event.self_cpu_time_total)
        for event in profiler.key_averages()
        if event.device_type == wanted
    ]
    whole_us = sum(us for *_, us in found) if on_card else 1e6 * sum(walls)
    operations = [
        Operation(name=name, count=count / calls, own_ms=us / 1e3 / calls, share=us / whole_us)
        for name, count, us in found
        if us > 0
    ]
    return sorted(operations, key=lambda one: -one.own_ms), 1e3 * statistics.median(walls)


@contextlib.contextmanager
def nvtx_ranges() -> Iterator[None]:
    """An NVTX range around every PyTorch operation, and one around the call."""
    import torch

    with torch.autograd.profiler.emit_nvtx(), torch.cuda.nvtx.range("f5bench call"):
        yield


def lines_of(
    label: str, of: Timed, operations: Sequence[Operation], peak: tuple[str, float] | None, rows: int, on_card: bool
) -> list[str]:
    parts = ", ".join(
        f"{name} {significant(ms)} ms ({100 * ms / of.call_ms:.0f} %)" for name, ms in of.stages_ms.items()
    )
    what = "kernels" if on_card else "PyTorch's operations"
    lines = [f"{label}: {significant(of.call_ms)} ms a call, {of.audio_s:.2f} s of speech", parts]
    if of.flop is not None and peak is not None and of.denoise_s > 0:
        rate = of.flop / of.denoise_s
        lines.append(
            f"the denoiser's products: {significant(of.flop / 1e9)} GFLOP at {significant(rate / 1e9)} GFLOP/s, "
            f"{100 * rate / peak[1]:.0f} % of what {peak[0]} products reach here ({significant(peak[1] / 1e9)})"
        )
    lines += ["", f"{'own ms':>9} {'share':>6} {'calls':>7}  {what}"]
    lines += [f"{one.own_ms:>9.3f} {100 * one.share:>5.1f}% {one.count:>7.4g}  {one.name}" for one in operations[:rows]]
    rest = operations[rows:]
    if rest:
        lines.append(_line(sum(one.own_ms for one in rest), sum(one.share for one in rest), f"{len(rest)} others"))
    if not on_card:
        left = max(0.0, 1 - sum(one.share for one in operations))
        lines.append(f"{'':>9} {100 * left:>5.1f}% {'':>7}  none of them: Python, the profiler itself, other runtimes")
    return lines


def _line(own_ms: float, share: float, name: str) -> str:
    return f"{own_ms:>9.3f} {100 * share:>5.1f}% {'':>7}  {name}"


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    asked = read_asked(argv)
    cell = one_cell(asked.overrides)
    config, device = cell.config, str(cell.config["device"]["kind"])
    if asked.nvtx and device == "cpu":
        raise ConfigError("nvtx", "true", "needs a card: a CPU has no such ranges", "add device=cuda, or leave it out")
    out = Path(config["out"] or default_out(f"profile-{cell.label}"))
    validate_out(out, 1, 1)
    request, clock = load_workload(config).requests[0], make_clock(device)
    with device_lock(device, config["sweep"]["lock"], note), build_by_name(config, clock) as engine:
        for _ in range(WARM_CALLS):
            engine.synthesize([request])
        if asked.nvtx:
            for _ in range(asked.calls):
                with nvtx_ranges():
                    engine.synthesize([request])
            print(f"{cell.label}: {asked.calls} calls with NVTX ranges; nsys has the profile")
            return EXIT_OK
        return _profile(engine, request, clock, cell, asked, out)


def _profile(engine: Engine, request: SynthesisRequest, clock: Clock, cell: Cell, asked: Asked, out: Path) -> int:
    config, device = cell.config, str(cell.config["device"]["kind"])
    out.mkdir(parents=True, exist_ok=True)
    found = timed(engine, request, clock, config, asked.calls)
    if found.invalid is not None:
        complain(f"{cell.label}: no number, its audio is not valid: {found.invalid}")
        return EXIT_JOB_FAILED
    peak = _peak(config, clock, engine.facts.precision)
    operations, profiled_ms = profiled(engine, request, clock, device, asked.calls, out / TRACE)
    content: dict[str, Any] = {
        "schema_version": 1, "kind": "profile", "label": cell.label, "created": now_iso(), "config": config,
        "facts": facts_content(engine.facts), "environment": fingerprint(config["device"]),
        "utterance_id": request.utterance_id, "timed": asdict(found), "profiled_call_ms": profiled_ms,
        "peak_flop_per_s": None if peak is None else peak[1], "operations": [asdict(one) for one in operations],
    }  # fmt: skip
    write_atomically(out / PROFILE, to_json(content) + "\n")
    print("\n".join(lines_of(cell.label, found, operations, peak, asked.rows, device != "cpu")))
    print(f"record  {out / PROFILE}\ntrace   {out / TRACE}")
    return EXIT_OK


def _peak(config: Config, clock: Clock, precision: str) -> tuple[str, float] | None:
    """(kind, operations a second) of products of the engine's own kind; None where they are not measured here."""
    kind = PEAK_OF.get(precision, "")
    rates = gemm_peaks(config, clock).get("gemm_peak_flop_per_s", {})
    return (kind, rates[kind]) if kind in rates else None


if __name__ == "__main__":
    sys.exit(run_verb(main))
