"""Fuzz: settings of every verb that composes an experiment, spoilt; each ends with 2 and one line, or was right.

Fixed seeds, no measurement (tests/fuzzing.py). The bounds stand here a second time on purpose: the tests' own reading
of what is documented, not the program's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import baseline, run, stream
from experiments.checks import overhead, step_error
from experiments.compare import __main__ as compare
from experiments.load import __main__ as load
from experiments.optimize import __main__ as optimize
from experiments.scoring import floor
from experiments.selftest import __main__ as selftest
from experiments.selftest import stored as gate_selftest
from experiments.serve import __main__ as serve
from experiments.solvers import calibrate_reuse
from experiments.solvers import fit as fit_solver
from experiments.sweep import __main__ as sweep
from tests.fuzzing import Case, cases_of, check, params, stop_before_measuring

# verb -> its words before the overrides
COMPOSING = (
    (run.main, ()), (sweep.main, ("engine=fp32",)), (optimize.main, ("engine=fp32,bf16",)), (stream.main, ()),
    (floor.main, ()), (load.main, ()), (serve.main, ("port=0",)), (calibrate_reuse.main, ()), (step_error.main, ()),
    (fit_solver.main, ("steps=3", "workload=en_heldout", "workload.limit=4")), (overhead.main, ()),
    (baseline.main, ("record", "mine")), (compare.main, ()), (gate_selftest.main, ("minutes=1", "keep=false")),
    (selftest.main, ("minutes=1", "keep=false")),
)  # fmt: skip
# A comparison does not read them, or means a side by them
OF_THE_RUN_ALONE = ("measure", "quality", "gate", "stream", "sweep", "tracking", "out", "reference")
# Values that Hydra sets without composing anew: ten times as fast
NO_COUNT = ("null", "true", "-1", "1.5", "nan", "inf", "1e300", "100000000000000000000000")
NO_NUMBER = ("null", "true", "nan", "inf", "-inf", "-1")
NO_FLAG = ("null", "0", "1", "1.5", "nan")
NO_TEXT = ("null", "true", "0", "1.5", "nan", "-1")
COUNTS = {
    0: ("seed", "measure.warmup_rounds", "measure.slow_warmup_rounds", "measure.order_seed", "measure.cold_starts",
        "model.arch.conv_layers", "sweep.retries.killed", "sweep.retries.hang"),
    1: ("measure.rounds", "measure.slow_rounds", "measure.slow_from_evals", "measure.warmup_utterances",
        "measure.calibrations_per_round", "model.arch.dim", "model.arch.depth", "model.arch.heads",
        "model.arch.dim_head", "model.arch.text_dim", "model.mel_bins", "model.sample_rate_hz", "model.hop_samples",
        "vocoder.backbone.input_channels", "vocoder.backbone.dim", "vocoder.backbone.intermediate_dim",
        "vocoder.backbone.num_layers", "vocoder.head.dim", "vocoder.head.n_fft", "vocoder.head.hop_length",
        "quality.child_memory_bytes", "solver.steps"),
}  # fmt: skip
OR_NULL = ("workload.limit", "device.threads", "measure.memory_limit_bytes", "sweep.max_failures", "solver.num_evals",
           "stream.first_chunk_max_bytes")  # fmt: skip
NUMBERS = (
    "reference.target_rms", "reference.speed_ratio", "reference.cross_fade_s", "measure.time_limit_s",
    "quality.timeout_s", "sweep.grace_s", "tracking.timeout_s", "model.arch.ff_mult", "solver.cfg_strength",
    "gate.catch_ratio", "gate.ignore_ratio", "gate.snr_margin_db", "gate.memory_ratio", "gate.confidence",
    "gate.machine_ratio", "gate.session_noise_frac",
)  # fmt: skip
FLAGS = ("quality.enabled", "sweep.fail_fast", "measure.gemm_peak", "model.arch.text_embedding_average_upsampling")
TEXTS = (
    "model.name", "model.backbone", "model.checkpoint", "model.vocab", "model.mel_spec_type", "engine.name",
    "engine.precision", "engine._target_", "solver.name", "solver.method", "solver.grid", "solver.guidance",
    "vocoder.name", "vocoder.kind", "vocoder.checkpoint", "vocoder.head.padding", "reference.name",
    "reference.cross_fade", "workload.name", "workload.texts", "stream.name", "device.name", "device.kind",
    "measure.name", "measure.calibration", "quality.name", "quality.recogniser.kind", "quality.speaker.kind",
    "gate.name", "tracking.name", "tracking.mode", "tracking.uri", "tracking.experiment", "sweep.name", "sweep.lock",
)  # fmt: skip
LISTS = ("quality.metrics", "workload.select", "reference.voices")
GROUPS = ("model", "engine", "solver", "vocoder", "reference", "workload", "stream", "device", "measure", "quality",
          "gate", "tracking", "sweep", "model.arch", "vocoder.backbone", "vocoder.head", "quality.recogniser",
          "quality.speaker", "sweep.retries")  # fmt: skip


def wrong_values() -> Iterator[tuple[str, str]]:
    """Three wrong values of every key, one of every text and group, drawn."""
    chance = random.Random(15)
    rows = [(key, NO_COUNT if least == 0 else (*NO_COUNT, "0"), 3) for least, keys in COUNTS.items() for key in keys]
    rows += [(key, [value for value in (*NO_COUNT, "0") if value != "null"][:7], 2) for key in OR_NULL]
    rows += [(key, NO_NUMBER, 2) for key in NUMBERS]
    rows += [(key, NO_FLAG, 1) for key in FLAGS]
    rows += [(key, NO_TEXT, 1) for key in TEXTS]
    rows += [(key, NO_TEXT[1:], 1) for key in LISTS]
    rows += [(key, ("null", "true", "5", "nan"), 1) for key in GROUPS]
    for key, values, num in rows:
        yield from ((key, value) for value in chance.sample(list(values), num))


# Composed anew by Hydra, each a quarter of a second
OTHER_KINDS = (
    "measure.rounds=many", "measure.rounds=''", "measure.rounds=[1]", "seed={a:1}", "reference.cross_fade=[linear]",
    "model.backbone={a:1}", "vocoder.kind=[vocos]", "engine.precision=[fp32]", "solver.method=[euler]",
    "solver.grid=[0,a,1]", "solver.grid=[0,nan,1]", "solver.grid=[1,0]", "solver.guidance_interval=[nan,1]",
    "solver.guidance_interval=5", "solver.guidance_schedule=[[0,nan]]", "solver.guidance_schedule=[a]",
    "solver.rule={max_chars:[[null]]}", "solver.rule={max_chars:5}", "solver.reuse={kind:[1]}", "solver.reuse=5",
    "solver.reuse={kind:threshold,threshold:nan}", "solver.fitted={model:pocket,weights:[[1]]}",
    "quality.metrics=[[snr]]", "quality.metrics=snr", "quality.recogniser.kind=[a]", "quality.reference_dir=.",
    "tracking.mode='on'", "sweep.retries={often:1}", "workload.select=[]", "workload.select={a:1}",
    "workload.texts=[]", "workload.texts=[[en_core]]", "workload.texts=.", "reference.voices=[1]",
    "reference.voices=[{id:a}]", "reference.voices=[]", "device.kind=cuda:-1", "model.checkpoint=.",
    "model.arch.skip_connect_type=5",
)  # fmt: skip
ODD = (
    "engine=nosuch", "engine=", "engine=null", "engine=FP32", "engine=[1]", "engine=[]", "engine=[fp32,bf16]",
    "=x", "x", "", "+", "++", "~", "~nosuch", "~engine", "+engine=fp32", "+measure.foo=1", "+model.nosuch=1",
    "++gate.x=1", "+solver.sawy=0", "~model.arch", "~model.name", "~solver.method", "~engine._target_", "~device.kind",
    "~quality.speaker.kind", "~tracking.uri", "~sweep.retries", "~gate.catch_ratio", "~out", "~vocoder.kind",
    "solver.name=${seed}", "solver.name=${nosuch}", "solver.name=${oc.env:NO_SUCH_VARIABLE}", "seed=${seed}", "a=b=c",
    "measure.rounds='1'", "workload.texts='ü\n'", "workload.texts=\u202e", "engine=fp32,", "engine=range(1,3)",
    "seed=interval(0,1)", "seed=range(0,0)", "measure.rounds=int(abc)", "hydra.nosuch=1", "engine=glob(*)",
    "out='a\0b'", "out=/proc/nothing/here", "out=[1]", "out=5", "out=true", "seed=0x10", "seed=TRUE", "+" * 50,
    "seed=" + "9" * 5000, "a" * 5000, "workload@x=bench", "engine@model=fp32", "experiment=[bench]",
    "experiment=nosuch", "engine._target_=os.system", "engine._target_=engine.nosuch.x", "engine._target_=engine..x",
    "engine._target_=engine.build.PACKAGES", "engine._target_=engine.build.Context", "-x", "--nosuch", "--multi",
    "model.checkpoint='random:'", "model.checkpoint='random:-1'", "model.checkpoint='random:\u00b2'",
    "model.checkpoint='random:" + "9" * 30 + "'", "model.checkpoint='hub:'", "model.checkpoint='hub:a//c'",
    "model.checkpoint='f5_tts:'", "model.checkpoint='a\0b'", "model.vocab=" + "a" * 300, "model.vocab=~nobody/x",
    "reference.voices.0.text=null", "reference.voices.0.text=5", "reference.voices.0.id=null",
    "reference.voices.0.id=rms", "reference.voices.0.audio=null", "reference.voices.9.id=1", "resume=nowhere",
    "sweep.resume=nowhere", "hydra.run.dir=/tmp/x", "hydra/launcher=basic",
)  # fmt: skip
RIGHT = (
    ("engine=bf16", "measure.rounds=3"), ("solver.name='007'", "solver.sway=0"), ("seed=9223372036854775807",),
    ("device.threads=null",), ("workload.select=null", "workload.limit=1"), ("reference.cross_fade_s=0",),
    ("++engine.max_batch=2",), ("solver.guidance_interval=[0,0.3]",), ("out='ausg\u00e4nge \u4e2d'",),
    ("quality=full",), ("engine=compiled", "engine.shapes=bucketed", "engine.bucket_frames=64"),
    ("solver=adaptive",), ("model=e2tts_base_random", "vocoder=vocos_random"), ("measure.memory_limit_bytes=1048576",),
)  # fmt: skip
KNOWN: dict[str, str] = {}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stop_before_measuring(monkeypatch, tmp_path)


def named_by(override: str) -> tuple[str, ...]:
    """What the line may call it: the key, or what it cannot go together with."""
    key = override.lstrip("+~").partition("=")[0]
    return (key, "vocoder.name", "solver.steps") if key.startswith(("model.", "vocoder.", "solver.")) else (key,)


def value_cases() -> Iterator[Case]:
    for number, (key, value) in enumerate(wrong_values()):
        verb, before = COMPOSING[number % len(COMPOSING)]
        if verb in (compare.main, selftest.main) and key.partition(".")[0] in OF_THE_RUN_ALONE:
            verb, before = COMPOSING[0]
        yield from cases_of(verb, [(*before, f"{key}={value}")], named_by(key))


def grammar_cases() -> Iterator[Case]:
    for override in (*OTHER_KINDS, *ODD):
        yield from cases_of(run.main, [(override,)])


@pytest.mark.parametrize("case", params(value_cases(), KNOWN))
def test_a_wrong_value_is_named(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", params(grammar_cases(), KNOWN))
def test_what_is_no_setting_is_one_line(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("overrides", RIGHT, ids=" ".join)
def test_what_is_right_is_taken(overrides: tuple[str, ...], tmp_path: Path) -> None:
    check(Case(name=" ".join(overrides), verb=run.main, make=lambda folder: overrides, codes=frozenset({0})), tmp_path)
