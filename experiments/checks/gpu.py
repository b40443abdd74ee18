"""Proves the CUDA engines on this machine: `python -m experiments.checks.gpu [out=DIR] [KEY=VALUE ...]`.

The full-size model with drawn weights, 5 s of reference, 10 s generated, NFE 7. Within gpu_check.budget_s=360 seconds:
the card's peaks, then every engine in a process of its own, whose one build is compared with float32, spoken twice
and timed; the captured loop must equal the eager one bit for bit; a profile of the fastest. The most telling comes
first, float32's and the peer's speed last; OUT/gpu_check.json holds what is known after every step, and at the end what
was not reached. gpu_check.budget_s=null takes its time, and then measures all as any sweep does (OUT/sweep/), every mel
with guidance and without (OUT/correctness.json), and pairs of engines in turns (OUT/compare-*/): OUT/thorough.json.
KEY=VALUE go to every part. Ratios against `upstream` are against float32 with TF32 off, as this harness runs it; by
itself upstream loads its model in float16 on a GPU.

  --wheels DIR   no check: gathers the wheels that a bare machine with torch and without an index lacks, 25 MB at most

exit codes: 0 every engine proven, 2 usage, 10 an engine is not equal, not near float32 or slower than
gpu_check.max_rtf=0.004 allows (H200 class; null on other cards), 11 all that ran is proven, but engines were skipped
or not reached (named, with the reason), 12 no CUDA device here, 14 an engine failed, 130 interrupted
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engine.contract import ConfigError, Engine, SynthesisRequest
from engine.paths import ROOT
from experiments.checks.card.cases import TEXT, TRANSCRIPT, batches, engine_of
from experiments.checks.card.quick import PRESET, check, verb
from experiments.checks.card.wheels import gather, told
from experiments.common.cli import (
    EXIT_ENVIRONMENT,
    EXIT_JOB_FAILED,
    EXIT_OK,
    EXIT_REGRESSION,
    EXIT_UNSURE,
    complain,
    one_line,
    run_verb,
)
from experiments.common.plain import as_config
from experiments.common.presets import with_presets
from experiments.compare.settings import is_read
from experiments.measuring.running import default_out
from experiments.settings.compose import compose_cells
from experiments.settings.front import show_help
from experiments.settings.keys import refuse_misspelt
from experiments.settings.typed import unknown_key
from metrics.record import RecordError, RunRecord, load_record, to_json, write_atomically
from metrics.speed.trials import speed_of

CORRECT = "checks.gpu_correct"  # the verb that compares every engine's mel with float32's
REFERENCE_S = 5.0
MAX_RTF, RTF_CARD = 0.004, "H200"
OWN, MAX_RTF_KEY, BUDGET_KEY = "gpu_check.", "gpu_check.max_rtf", "gpu_check.budget_s"
OWN_KEYS = [MAX_RTF_KEY, BUDGET_KEY]
BUDGET_S = 360.0
DEFAULT: Literal["default"] = "default"
MEASURED = {EXIT_OK, EXIT_REGRESSION, EXIT_UNSURE}  # exit codes of parts that ran; what they found is in their folders
PAIRS = (("bf16", "cuda_graph"), ("cuda_graph", "cuda_graph_compiled"), ("upstream", "cuda_graph_compiled"))


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRow:
    """One engine of the sweep. rtf_ratio: None where it was not measured, for the reason given."""

    engine: str
    status: str
    rtf_ratio: float | None = None
    reason: str | None = None


@with_presets
def main(argv: Sequence[str]) -> int:
    if "--help" in argv or "-h" in argv:
        show_help(__doc__ or "")
        return EXIT_OK
    if argv and argv[0] == "--wheels":
        return wheels_for(argv[1:])
    for arg in argv:
        if "=" not in arg or arg.startswith("-"):
            raise ConfigError("option", arg, "there is no such option", "settings are written KEY=VALUE; see --help")
    own = [arg for arg in argv if not arg.startswith(("out=", OWN))]
    max_rtf, budget_s = asked_rtf(argv), asked_budget(argv)
    compose_cells([PRESET, *own])  # what Hydra refuses is refused here, once, and not by every part
    reason = why_not_here()
    if reason:
        complain(reason)
        return EXIT_ENVIRONMENT
    given = [arg.partition("=")[2] for arg in argv if arg.startswith("out=")]
    folder = Path(given[-1] if given else default_out("gpu_check")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bar, overrides = default_rtf() if max_rtf == DEFAULT else max_rtf, [*workload_overrides(folder), *own]
    code = check(folder, overrides, bar, budget_s)
    if budget_s is not None:
        return code
    codes = (code, thorough(folder, overrides, bar))
    return next(worst for worst in (EXIT_REGRESSION, EXIT_JOB_FAILED, EXIT_UNSURE, EXIT_OK) if worst in codes)


def wheels_for(words: Sequence[str]) -> int:
    if len(words) != 1:
        raise ConfigError("--wheels", " ".join(words), "must be one folder", "use --wheels wheels")
    folder = Path(words[0])
    print(told(folder, gather(folder)))
    return EXIT_OK


def why_not_here() -> str | None:
    """None where a CUDA device can be used."""
    import torch

    if torch.cuda.is_available():
        return None
    return (
        f"gpu_check needs a CUDA device: torch {torch.__version__} finds {torch.cuda.device_count()} here; run it on a "
        "machine with an NVIDIA GPU and its driver"
    )


def asked_rtf(argv: Sequence[str]) -> float | Literal["default"] | None:
    """The bar in RTF as given, None for none. Raises ConfigError, also for a key of gpu_check that there is not."""
    bar: float | Literal["default"] | None = DEFAULT
    for arg in argv:
        key, _, text = arg.partition("=")
        if not key.startswith(OWN):
            refuse_misspelt(key, text, OWN_KEYS)
            continue
        if key not in OWN_KEYS:
            raise unknown_key(key, text, OWN_KEYS)
        if key == BUDGET_KEY:
            continue
        bar = None if text == "null" else positive(key, text)
    return bar


def asked_budget(argv: Sequence[str]) -> float | None:
    """Seconds of the whole check, None for no limit. Raises ConfigError."""
    given = [arg.partition("=")[2] for arg in argv if arg.partition("=")[0] == BUDGET_KEY]
    if not given:
        return BUDGET_S
    return None if given[-1] == "null" else positive(BUDGET_KEY, given[-1], "360, or null for no limit")


def positive(key: str, text: str, use: str = "0.004") -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(key, text, "must be a number above 0, or null", f"use {use}")
    return value


def default_rtf() -> float | None:
    """The H200's bar where the card is one."""
    import torch

    return MAX_RTF if RTF_CARD in torch.cuda.get_device_name(0) else None


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
        "reference.prepare.audio=none", "reference.prepare.text=none",  # the clip is made to its length
        f"reference.voices=[{voice}]", f'workload.texts="{folder / "texts.yaml"}"', "workload.select=null",
        "measure.rounds=60", "measure.time_limit_s=1800",
    ]  # fmt: skip


def compare_arguments(reference: str, candidate: str, overrides: Sequence[str]) -> list[str]:
    """A comparison of two engines. There `reference.KEY` is a setting of the reference side, so what sets the group
    `reference` is said of both sides; what only the sweep reads is left to that."""
    sides = ("reference", "candidate")
    arguments = [f"reference.engine={reference}", f"candidate.engine={candidate}", "compare=quick", "compare.pairs=48"]
    for override in filter(is_read, overrides):
        of_voices = override.partition("=")[0].partition(".")[0] == "reference"
        arguments += [f"{side}.{override}" for side in sides] if of_voices else [override]
    return arguments


def thorough(folder: Path, overrides: Sequence[str], max_rtf: float | None) -> int:
    """The sweep, every mel with guidance and without, and comparisons in turns."""
    asked = list(dict.fromkeys(str(c.config["engine"]["name"]) for c in compose_cells([PRESET, *overrides])))
    equal = equality(overrides)
    write_atomically(folder / "equality.json", to_json(equal) + "\n")
    for row in equal:
        print(f"{'equal' if row['equal'] else 'NOT EQUAL'}  {row['what']}", flush=True)
    codes = {CORRECT: verb(CORRECT, *overrides, f"out={folder}")}
    codes["sweep"] = verb("sweep", PRESET, *overrides, f"out={folder / 'sweep'}")
    for reference, candidate in PAIRS:
        name = f"{reference}-{candidate}"
        out = f"out={folder / f'compare-{name}'}"
        codes[name] = verb("compare", *compare_arguments(reference, candidate, overrides), out)
    rows = engine_rows(folder / "sweep" / "cells", asked)
    missing = unproven(rows, folder / "correctness.json")
    rtf = {row.engine: row.rtf_ratio for row in rows}
    code = verdict([row["equal"] for row in equal], rtf, codes, max_rtf, missing)
    content = {
        "equality": equal, "rows": [asdict(row) for row in rows], "unproven": missing, "max_rtf": max_rtf,
        "codes": codes, "exit_code": code,
    }  # fmt: skip
    write_atomically(folder / "thorough.json", to_json(content) + "\n")
    for engine, reason in missing.items():
        print(f"not proven  {engine}: {reason}")
    if code == EXIT_UNSURE:
        complain(f"cannot tell: what ran is proven, but not {', '.join(missing)}")
    print(f"records  {folder}")
    return code


def verdict(
    equal: Sequence[bool],
    rtf: Mapping[str, float | None],
    codes: Mapping[str, int],
    max_rtf: float | None,
    missing: Collection[str],
) -> int:
    """10 before 14: an engine that is wrong or too slow is a finding, a part that could not run is none. missing: the
    engines that nothing is known of, which leave the rest proven."""
    graphs = [value for name, value in rtf.items() if name.startswith("cuda_graph") and value is not None]
    if (
        not all(equal)
        or codes.get(CORRECT) == EXIT_REGRESSION
        or (max_rtf is not None and graphs and min(graphs) > max_rtf)
    ):
        return EXIT_REGRESSION
    if not set(codes.values()) <= MEASURED or not equal or not graphs:
        return EXIT_JOB_FAILED
    return EXIT_UNSURE if missing else EXIT_OK


def engine_rows(cells: Path, asked: Sequence[str]) -> list[EngineRow]:
    """A row for every engine that the sweep was asked for, from its records."""
    found: dict[str, EngineRow] = {}
    for path in sorted(cells.glob("*/result.json")):
        try:
            row = row_of(load_record(path))
        except RecordError as error:
            complain(error)
        else:
            found[row.engine] = row
    lost = {name: EngineRow(engine=name, status="failed", reason="the sweep left no record of it") for name in asked}
    return [found.get(name, lost[name]) for name in asked]


def row_of(record: RunRecord) -> EngineRow:
    name = str(as_config(record.config)["engine"]["name"])
    reason = "; ".join(filter(None, (record.reason, record.remedy)))
    if record.status != "ok":
        return EngineRow(engine=name, status=record.status, reason=one_line(reason) or "no reason given")
    try:
        return EngineRow(engine=name, status="ok", rtf_ratio=speed_of(record.trials).rtf_ratio)
    except ValueError as error:
        return EngineRow(engine=name, status="failed", reason=one_line(error))


def unproven(rows: Sequence[EngineRow], correctness: Path) -> dict[str, str]:
    """Engine -> why its speed or its mel is not known."""
    found = {row.engine: f"{row.status} ({row.reason})" for row in rows if row.rtf_ratio is None}
    compared = json.loads(correctness.read_text("utf-8")) if correctness.is_file() else []
    for row in compared:
        if row["status"] in ("skipped", "failed"):
            found.setdefault(row["engine"], f"{row['status']} at guidance {row['guidance']} ({row['reason']})")
    return found


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


if __name__ == "__main__":
    sys.exit(run_verb(main))
