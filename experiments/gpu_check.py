"""Proves the CUDA engines on this machine: `python -m experiments.gpu_check [out=DIR] [KEY=VALUE ...]`.

The full-size model with drawn weights, 5 s of reference, 10 s generated, NFE 7. Four parts, each through the ordinary
means: the captured loop is compared bit by bit with the eager one (three lengths, one and three utterances, guidance on
and off); every engine's mel is compared with float32's (`experiments.gpu_correct`); every CUDA engine is measured
(`experiments.sweep experiment=gpu_check`); pairs of engines are measured interleaved (`experiments.compare`). Leaves
OUT/equality.json, OUT/correctness.json, OUT/sweep/ with records and report, OUT/compare-*/, OUT/gpu_check.json.
KEY=VALUE go to every part.

exit codes: 0 proven, 2 usage, 10 an engine is not equal, not near float32 or slower than gpu_check.max_rtf=0.004 allows
(H200 class; null on other cards), 12 no CUDA device here, 14 an engine failed, 130 interrupted
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.clock import make_clock
from engine.contract import ConfigError, Engine, SynthesisRequest
from experiments.cli import EXIT_ENVIRONMENT, EXIT_JOB_FAILED, EXIT_OK, EXIT_REGRESSION, EXIT_UNSURE, complain, run_verb
from experiments.compose import ROOT, compose_config
from experiments.job import FLOAT32, module_environment
from experiments.run import default_out
from metrics.record import RecordError, load_record, to_json, write_atomically
from metrics.speed import speed_of

CORRECT = "gpu_correct"  # the verb that compares every engine's mel with float32's
REFERENCE_S, GENERATED_S = 5.0, 10.0
MAX_RTF, RTF_CARD = 0.004, "H200"
MEASURED = {EXIT_OK, EXIT_REGRESSION, EXIT_UNSURE}  # exit codes of parts that ran; what they found is in their folders
FRAMES = (280, 563, 938)  # generated, at 24 kHz / 256: 3, 6 and 10 s
PAIRS = (("bf16", "cuda_graph"), ("cuda_graph", "cuda_graph_compiled"), ("upstream", "cuda_graph_compiled"))
# The text is twice as long as the transcript, so that upstream's duration rule gives twice the reference's seconds
TRANSCRIPT = "We walk along the sea in the morning, and look for birds."
TEXT = (
    "When the wind turned to the north, we carried the boats up to the house and waited there until the evening light."
)


def main(argv: Sequence[str]) -> int:
    if "--help" in argv or "-h" in argv:
        print(__doc__)
        return EXIT_OK
    for arg in argv:
        if "=" not in arg or arg.startswith("-"):
            raise ConfigError("option", arg, "there is no such option", "settings are written KEY=VALUE; see --help")
    reason = why_not_here()
    if reason:
        complain(reason)
        return EXIT_ENVIRONMENT
    given = [arg.partition("=")[2] for arg in argv if arg.startswith("out=")]
    folder = Path(given[-1] if given else default_out("gpu_check")).resolve()
    own = [arg for arg in argv if not arg.startswith(("out=", "gpu_check."))]
    folder.mkdir(parents=True, exist_ok=True)
    return check(folder, [*workload_overrides(folder), *own], asked_rtf(argv))


def why_not_here() -> str | None:
    """None where a CUDA device can be used."""
    import torch

    if torch.cuda.is_available():
        return None
    return (
        f"gpu_check needs a CUDA device: torch {torch.__version__} finds {torch.cuda.device_count()} here; run it on a "
        "machine with an NVIDIA GPU and its driver"
    )


def asked_rtf(argv: Sequence[str]) -> float | None:
    """The bar in RTF: as given, else the H200's where the card is one."""
    given = [arg.partition("=")[2] for arg in argv if arg.startswith("gpu_check.max_rtf=")]
    if not given:
        import torch

        return MAX_RTF if RTF_CARD in torch.cuda.get_device_name(0) else None
    if given[-1] == "null":
        return None
    try:
        return float(given[-1])
    except ValueError as error:
        raise ConfigError("gpu_check.max_rtf", given[-1], "must be a number or null", "use 0.004") from error


def workload_overrides(folder: Path) -> list[str]:
    """Writes a 5 s voice (the pocket voice repeated) and one text of 10 s; the overrides that name them."""
    import soundfile

    audio_S, rate_hz = soundfile.read(ROOT / "engine" / "pocket" / "slt.wav", dtype="float32")
    soundfile.write(folder / "reference.wav", np.resize(audio_S, round(REFERENCE_S * rate_hz)), rate_hz)
    size = 2 * (len(TRANSCRIPT) + 1)  # upstream puts a space behind the transcript
    text = TEXT[:size].rstrip().ljust(size, ".")
    line = json.dumps({"id": "gpu10s", "category": "long", "text": text})
    (folder / "texts.yaml").write_text(f"name: gpu_check\nlanguage: en\nutterances:\n  - {line}\n", "utf-8")
    voice = f'{{id: repeated, audio: "{folder / "reference.wav"}", text: "{TRANSCRIPT}"}}'
    return [
        "device=cuda", "model=f5tts_v1_base_random", "vocoder=vocos_random", "quality.enabled=false",
        f"reference.voices=[{voice}]", f'workload.texts="{folder / "texts.yaml"}"', "workload.select=null",
        "measure.rounds=60", "measure.time_limit_s=1800",
    ]  # fmt: skip


def check(folder: Path, overrides: Sequence[str], max_rtf: float | None) -> int:
    equal = equality(overrides)
    write_atomically(folder / "equality.json", to_json(equal) + "\n")
    for row in equal:
        print(f"{'equal' if row['equal'] else 'NOT EQUAL'}  {row['what']}", flush=True)
    codes = {CORRECT: verb(CORRECT, *overrides, f"out={folder}")}
    codes["sweep"] = verb("sweep", "experiment=gpu_check", *overrides, f"out={folder / 'sweep'}")
    for reference, candidate in PAIRS:
        sides = (f"reference.engine={reference}", f"candidate.engine={candidate}", "mode=quick", "pairs=48")
        codes[f"{reference}-{candidate}"] = verb(
            "compare", *sides, *overrides, f"out={folder / f'compare-{reference}-{candidate}'}"
        )
    rows = rtf_rows(folder / "sweep" / "cells")
    code = verdict([row["equal"] for row in equal], rows, codes, max_rtf)
    content = {"equality": equal, "rtf": rows, "max_rtf": max_rtf, "codes": codes, "exit_code": code}
    write_atomically(folder / "gpu_check.json", to_json(content) + "\n")
    print(f"records  {folder}")
    return code


def verdict(
    equal: Sequence[bool], rows: Mapping[str, float | None], codes: Mapping[str, int], max_rtf: float | None
) -> int:
    """10 before 14: an engine that is wrong or too slow is a finding, a part that could not run is none."""
    graphs = [rtf for name, rtf in rows.items() if name.startswith("cuda_graph") and rtf is not None]
    if (
        not all(equal)
        or codes.get(CORRECT) == EXIT_REGRESSION
        or (max_rtf is not None and graphs and min(graphs) > max_rtf)
    ):
        return EXIT_REGRESSION
    if not set(codes.values()) <= MEASURED or not equal or not graphs:
        return EXIT_JOB_FAILED
    return EXIT_OK


def verb(name: str, *arguments: str) -> int:
    print(f"\n== {name} {' '.join(arguments[:3])}", flush=True)
    command = [sys.executable, "-m", f"experiments.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**module_environment(), **FLOAT32}, check=False).returncode


def rtf_rows(cells: Path) -> dict[str, float | None]:
    """Engine -> RTF from the sweep's records; None where it was skipped or failed."""
    rows: dict[str, float | None] = {}
    for path in sorted(cells.glob("*/result.json")):
        try:
            record = load_record(path)
            rows[str(record.config["engine"]["name"])] = speed_of(record.trials).rtf_ratio
        except (RecordError, ValueError) as error:
            rows[path.parent.name] = None
            complain(f"{path.parent.name}: {error}")
    return rows


def equality(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The captured loop against the eager one on this device, both in bfloat16: is every sample the same?"""
    found = []
    for guidance in ("2", "0"):
        both = [engine_of("bf16", overrides, guidance), engine_of("cuda_graph", overrides, guidance)]
        with both[0] as eager, both[1] as graph:
            for what, requests in batches(overrides):
                # Twice: the second is a replay of a graph captured before
                same = all(same_sound(eager, graph, requests) for _ in range(2))
                found.append({"what": f"{what}, guidance {guidance}", "equal": same})
            found.append(
                {"what": f"replayed, guidance {guidance}", "equal": graph.facts.proof["graph_replays"] == 2 * 4}
            )
    return found


def same_sound(one: Engine, other: Engine, requests: Sequence[SynthesisRequest]) -> bool:
    pairs = zip(one.synthesize(requests), other.synthesize(requests), strict=True)
    return all(np.array_equal(a.audio_S, b.audio_S) and np.array_equal(a.mel_ND, b.mel_ND) for a, b in pairs)


def engine_of(name: str, overrides: Sequence[str], guidance: str) -> Engine:
    from engine.build import build_engine

    config = compose_config([f"engine={name}", "solver=euler_7", f"solver.cfg_strength={guidance}", *overrides])
    return build_engine(config, make_clock(str(config["device"]["kind"])))


def batches(overrides: Sequence[str]) -> Iterator[tuple[str, list[SynthesisRequest]]]:
    """Three lengths alone, then three utterances of near lengths in one solve."""
    from experiments.workload import load_workload

    ask = load_workload(compose_config(["engine=bf16", *overrides])).requests[0]
    for num_frames in FRAMES:
        yield f"{num_frames} frames", [replace(ask, num_frames=num_frames)]
    near = [replace(ask, num_frames=FRAMES[1] - 4 * i, utterance_id=f"{ask.utterance_id}-{i}") for i in range(3)]
    yield "three utterances in one solve", near


if __name__ == "__main__":
    sys.exit(run_verb(main))
