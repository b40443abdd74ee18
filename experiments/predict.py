"""What engines can reach on a device that is not here: `python -m experiments.predict device=agx_orin_64gb`."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import yaml

from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.plain import Config
from experiments.common.presets import CONF, with_presets
from experiments.measuring.validate import planned_evals, validate_out
from experiments.settings.compose import compose_run
from experiments.settings.front import answered
from experiments.settings.keys import key_of, refuse_misspelt, refuse_unread
from metrics.record import to_json, write_atomically
from metrics.speed.bound import DEVICES, Peaks, Task, evaluation_bound, rtf_bound
from metrics.speed.roofline import Dit, rows_of
from reports.words import significant

HELP = f"""A bound on every engine's RTF on a device, from counted arithmetic and its maker's peaks. No measurement.

  device=NAME         {", ".join(DEVICES)}
  reference_s=5       seconds of the reference clip
  generated_s=10      seconds of speech
  model=, solver=     as in experiments.run (default: f5tts_v1_base_random, euler_7)
  out=DIR             leaves prediction.json there, which no report, gate or baseline reads

"likely" is the bound over the share of it that the same engine reached on an H200; what that is worth stands below the
table: the same is done for figures that somebody measured on an AGX Orin, with its error.

examples:
  python -m experiments.predict device=agx_orin_64gb
  python -m experiments.predict device=orin_nano_8gb_super solver=euler_16 reference_s=3 generated_s=6
"""
FORETOLD = """An H200's own rows are foretold as if they had not run, from the median share of the others. With such an
error a figure for the engines with - would come, so they have none."""
PREDICTION = "prediction.json"
KEYS = ("device", "reference_s", "generated_s", "out")
UNREAD = ("engine", "vocoder", "reference", "workload", "measure", "quality", "gate", "sweep", "tracking")
DEFAULTS = ("model=f5tts_v1_base_random", "solver=euler_7")
ENGINES = (
    "upstream", "fp32", "amp", "bf16", "fp16", "compiled_bf16", "cuda_graph", "cuda_graph_compiled", "int8_torchao",
    "fused_bf16", "fused_fp16", "fused_int8", "fused_fp8", "onnx_cuda", "onnx_tensorrt", "tensorrt", "tensorrt_fp16",
    "tensorrt_fp32", "tensorrt_int8",
)  # fmt: skip
MOST_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A figure that somebody measured: engine is the row of ours that is most like it."""

    what: str
    device: str
    engine: str
    num_evals: int
    reference_s: float
    generated_s: float
    rtf: float


# docs/gpu.md: one H200, 2026-11-27, full size, 5 s of reference, 10 s generated, euler 7, guided
H200 = tuple(
    Measured(what=f"{engine} on an H200", device="h200", engine=engine, num_evals=7, reference_s=5.0, generated_s=10.0,
             rtf=ms / 10_000)
    for engine, ms in (
        ("upstream", 389.5), ("fp32", 305.5), ("amp", 87.4), ("bf16", 107.0), ("fp16", 62.9), ("compiled_bf16", 44.1),
        ("cuda_graph", 50.6), ("cuda_graph_compiled", 38.2),
    )
)  # fmt: skip
# Published by the ishowtts project on an AGX Orin developer kit of 32 GB, which has the clocks and cores of the 64 GB
# module: upstream's pipeline in float16. Lengths from its notes: the first is another workload than the two below it
ORIN = (
    Measured(what="AGX Orin, 32 steps, clocks free", device="agx_orin_64gb", engine="fp16", num_evals=32,
             reference_s=11.5, generated_s=11.35, rtf=1.32),
    Measured(what="AGX Orin, 8 steps, clocks locked", device="agx_orin_64gb", engine="fp16", num_evals=8,
             reference_s=5.33, generated_s=3.9, rtf=0.251),
    Measured(what="AGX Orin, 7 steps, clocks locked", device="agx_orin_64gb", engine="fp16", num_evals=7,
             reference_s=5.33, generated_s=3.9, rtf=0.213),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Asked:
    device: str
    reference_s: float
    generated_s: float
    out: Path | None
    overrides: tuple[str, ...]


def read_asked(argv: Sequence[str]) -> Asked:
    """Raises ConfigError."""
    own = {key_of(word): word.partition("=")[2] for word in argv if key_of(word) in KEYS}
    rest = [word for word in argv if key_of(word) not in KEYS]
    refuse_unread(rest, UNREAD, "a prediction")
    for word in rest:
        refuse_misspelt(*word.partition("=")[::2], KEYS)
    device = own.get("device", "")
    if device not in DEVICES:
        raise ConfigError("device", device or "nothing", f"must be one of {', '.join(DEVICES)}", "name one of them")
    given = {key_of(word) for word in rest}
    defaults = [word for word in DEFAULTS if key_of(word) not in given]
    return Asked(
        device=device, reference_s=_seconds("reference_s", own.get("reference_s", "5")),
        generated_s=_seconds("generated_s", own.get("generated_s", "10")),
        out=Path(own["out"]) if own.get("out") else None, overrides=(*defaults, *rest),
    )  # fmt: skip


def _seconds(key: str, said: str) -> float:
    try:
        value = float(said)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST_S:
        raise ConfigError(key, said, f"must be above 0 and at most {MOST_S:g} seconds", f"use {key}=5")
    return value


def precision_of(engine: str) -> str:
    """As its preset or the one that it is made of has it; upstream's is float32, as it is measured here."""
    preset = yaml.safe_load((CONF / "engine" / f"{engine}.yaml").read_text(encoding="utf-8"))
    if "precision" in preset:
        return str(preset["precision"])
    parents = [entry for entry in preset.get("defaults", ()) if isinstance(entry, str) and entry != "_self_"]
    return precision_of(parents[0]) if parents else "fp32"


def task_of(config: Config, reference_s: float, generated_s: float, num_evals: int) -> Task:
    model = config["model"]
    frames = (reference_s + generated_s) * model["sample_rate_hz"] / model["hop_samples"]
    return Task(
        dit=Dit.of(model), num_frames=round(frames), rows=rows_of(config["solver"]["cfg_strength"]),
        num_evals=num_evals, generated_s=generated_s,
    )  # fmt: skip


class Bound(TypedDict):
    """An engine of prediction.json. by: what bounds it; likely_rtf: None where the engine has no row on an H200."""

    engine: str
    precision: str
    bound_rtf: float
    by: str
    likely_rtf: float | None


class Check(TypedDict):
    """A measured figure of prediction.json beside its bound and what would have been predicted."""

    what: str
    measured_rtf: float
    bound_rtf: float
    bound_share: float
    likely_rtf: float
    error_frac: float


class Predictor:
    """Bounds of one composed model and solver, and what the H200's rows reached of theirs."""

    def __init__(self, asked: Asked):
        from engine.solver.methods import solver_spec  # brings torch, which --help does without

        self.asked = asked
        self.config = compose_run(list(asked.overrides)).config
        solver_spec(self.config["solver"])  # refuses a model without one, whose arithmetic nothing here knows
        self.precisions = {name: precision_of(name) for name in ENGINES}
        full = compose_run(list(DEFAULTS)).config  # what was measured elsewhere was of this model, guided
        self.shares = {row.engine: self._bound(row, full) / row.rtf for row in H200}
        self._full = full

    def _bound(self, row: Measured, config: Config) -> float:
        task = task_of(config, row.reference_s, row.generated_s, row.num_evals)
        return rtf_bound(task, self.precisions[row.engine], DEVICES[row.device])

    def rows(self) -> list[Bound]:
        """An engine that the device can run a row: bound, what bounds it, and the likely figure, None where the engine
        has no H200 row."""
        asked, peaks = self.asked, DEVICES[self.asked.device]
        task = task_of(self.config, asked.reference_s, asked.generated_s, planned_evals(self.config))
        found: list[Bound] = []
        for engine, precision in self.precisions.items():
            if not peaks.makes(precision):
                continue
            bound, share = rtf_bound(task, precision, peaks), self.shares.get(engine)
            found.append({
                "engine": engine, "precision": precision, "bound_rtf": bound,
                "by": evaluation_bound(task, precision, peaks).by,
                "likely_rtf": None if share is None else bound / share,
            })  # fmt: skip
        return found

    def checks(self) -> list[Check]:
        """Every measured figure beside its bound and beside what would have been predicted: of an Orin from the same
        engine's share, of an H200's own row from the median share of its other rows."""
        found: list[Check] = []
        for row in (*H200, *ORIN):
            bound = self._bound(row, self._full)
            others = [share for engine, share in self.shares.items() if engine != row.engine]
            likely = bound / (statistics.median(others) if row.device == "h200" else self.shares[row.engine])
            found.append({
                "what": row.what, "measured_rtf": row.rtf, "bound_rtf": bound, "bound_share": bound / row.rtf,
                "likely_rtf": likely, "error_frac": likely / row.rtf - 1,
            })  # fmt: skip
        return found


def lines_of(predictor: Predictor) -> list[str]:
    asked, config, peaks = predictor.asked, predictor.config, DEVICES[predictor.asked.device]
    return [
        f"PREDICTED, not measured: {peaks.title}",
        f"{config['model']['name']}, {config['solver']['name']}, {planned_evals(config)} evaluations; reference "
        f"{asked.reference_s:g} s, {asked.generated_s:g} s generated, one utterance a call",
        _peaks_line(peaks), "",
        f"{'engine':<20} {'precision':<13} {'RTF at best':>11}  {'bounded by':<11} {'likely':>7}",
        *(_row_line(row) for row in predictor.rows()), "",
        "The bound is the denoiser's alone, at peaks that nothing reaches. likely: the bound over the share of it that "
        "this engine reached",
        "on an H200, where launches cost more and traffic less than on a Jetson; - has not run there.", "",
        f"{'what was measured':<34} {'RTF':>7} {'bound':>8} {'share':>6} {'likely':>7} {'error':>7}",
        *(_check_line(row) for row in predictor.checks()),
        "", FORETOLD,
    ]  # fmt: skip


def _peaks_line(peaks: Peaks) -> str:
    rates = ", ".join(f"{name} {rate / 1e12:.4g} T/s" for name, rate in
                      (("float32", peaks.fp32), ("half", peaks.half), ("int8", peaks.int8)))  # fmt: skip
    return f"dense peaks: {rates}, memory {peaks.bytes_per_s / 1e9:.4g} GB/s ({peaks.source})"


def _row_line(row: Bound) -> str:
    likely = "-" if row["likely_rtf"] is None else significant(row["likely_rtf"])
    return (
        f"{row['engine']:<20} {row['precision']:<13} {significant(row['bound_rtf']):>11}  {row['by']:<11} {likely:>7}"
    )


def _check_line(row: Check) -> str:
    return (
        f"{row['what']:<34} {significant(row['measured_rtf']):>7} {significant(row['bound_rtf']):>8} "
        f"{100 * row['bound_share']:>4.0f} % {significant(row['likely_rtf']):>7} {100 * row['error_frac']:>+5.0f} %"
    )


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    asked = read_asked(argv)
    predictor = Predictor(asked)
    if asked.out is not None:
        validate_out(asked.out, 0, 0)
        content = {
            "schema_version": 1, "kind": "prediction", "device": asked.device, "reference_s": asked.reference_s,
            "generated_s": asked.generated_s, "model": predictor.config["model"]["name"],
            "solver": predictor.config["solver"]["name"], "rows": predictor.rows(), "checks": predictor.checks(),
        }  # fmt: skip
        write_atomically(asked.out / PREDICTION, to_json(content) + "\n")
    print("\n".join(lines_of(predictor)))
    if asked.out is not None:
        print(f"record  {asked.out / PREDICTION}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
