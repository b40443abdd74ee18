"""Where an ONNX engine's evaluation spends its time: `python -m experiments.checks.onnx_profile engine=onnx_int8
--frames 330`.

ONNX Runtime's own profile of guided evaluations on drawn inputs, by operator, beside the same of engine=onnx.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.build import build_engine
from engine.clock import HostClock
from engine.context import Context, materials
from engine.contract import ConfigError
from experiments.common.cli import run_verb
from experiments.settings.compose import compose_config
from reports.commands import VerbParser


def milliseconds(events: list[dict[str, Any]], skipped: int, runs: int) -> tuple[float, dict[str, tuple[int, float]]]:
    """Of one run after the first `skipped`: its whole time, nodes and kernel time by operator."""
    from engine.runtimes.onnx_session import kernel_events

    totals = [event for event in events if event["name"] == "model_run"][skipped:]
    nodes = kernel_events(events)
    nodes = nodes[skipped * len(nodes) // (skipped + runs) :]
    spent_us: Counter[str] = Counter()
    for event in nodes:
        spent_us[event["args"]["op_name"]] += event["dur"]
    counts = Counter(event["args"]["op_name"] for event in nodes)
    whole_ms = statistics.median(event["dur"] for event in totals) / 1e3
    return whole_ms, {op: (counts[op] // runs, us / runs / 1e3) for op, us in spent_us.most_common()}


def profiled(overrides: list[str], frames: int, runs: int, skipped: int = 3) -> tuple[float, dict[str, Any]]:
    import onnxruntime
    import torch

    from engine.backends.onnx.denoiser import OnnxDenoiser, run_once
    from engine.runtimes.onnx_session import PROVIDERS, session_options
    from engine.solver.methods import solver_spec
    from engine.step.examples import example_feeds

    config = compose_config(overrides)
    torch.set_num_threads(config["device"]["threads"] or torch.get_num_threads())
    context = Context(config, solver_spec(config["solver"]), HostClock())
    with build_engine(config, HostClock()) as engine, tempfile.TemporaryDirectory() as folder:
        denoiser = engine._parts.speaker.sampler._denoiser  # type: ignore[attr-defined]
        if not isinstance(denoiser, OnnxDenoiser):
            raise ConfigError(
                "engine.name", config["engine"]["name"], "is not run by ONNX Runtime", "use engine=onnx_int8"
            )
        options = session_options(denoiser._settings, denoiser._settings.optimization)
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        graph, providers = str(denoiser._graphs[False]), [PROVIDERS[denoiser._settings.provider]]
        session = onnxruntime.InferenceSession(graph, options, providers=providers)
        feeds = example_feeds(materials(context).dit, 2, (frames,), False)
        for _ in range(skipped + runs):
            run_once(session, feeds, (*feeds["projected"].shape[:3], feeds["x"].shape[-1]))
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return milliseconds(events, skipped, runs)


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.checks.onnx_profile", description=__doc__)
    parser.add_argument("overrides", nargs="+")
    parser.add_argument("--frames", type=int, default=330)
    parser.add_argument("--runs", type=int, default=20)
    asked = parser.parse_args(argv)
    for overrides in (asked.overrides, [*asked.overrides, "engine=onnx"]):
        whole_ms, operators = profiled(overrides, asked.frames, asked.runs)
        print(f"{' '.join(overrides)}: {whole_ms:.2f} ms an evaluation of {asked.frames} frames, guided")
        for operator, (count, ms) in operators.items():
            print(f"  {operator:28s} {count:4d} nodes {ms:8.3f} ms {100 * ms / whole_ms:5.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(run_verb(main))
