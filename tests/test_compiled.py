"""The compiled step against the eager one, and what it counts."""

import numpy as np
import pytest
import torch

from engine.backends.compiled.denoiser import CompiledDenoiser, CompileOptions
from engine.backends.eager.build import eager_denoiser
from engine.clock import HostClock
from engine.context import Build, Context, assemble, materials
from engine.contract import ConfigError, Engine, UnsupportedEngine
from engine.runtimes.inductor import CountingInductor
from engine.solver.methods import solver_spec
from engine.solver.sampler import StepSampler
from tests.engines import config, engine, request

TEXTS = ("That was close.", "Turn left at the bridge.", "We walk along the sea in the morning.")
SMALL = ("model.checkpoint=random:0", "model.arch.depth=1")  # as wide as pocket; one block compiles in seconds
EAGER = (*SMALL, "solver=euler_6", "+engine.max_padding_frac=0.9")
UNGUIDED = "solver.cfg_strength=0"


def fp32(*overrides: str) -> Engine:
    return compiled(*EAGER, "engine=compiled", *overrides)


def compiled(*overrides: str) -> Engine:
    try:
        return engine(*overrides)
    except UnsupportedEngine as refusal:
        pytest.skip(refusal.reason)


def compilations(ours: Engine) -> int:
    return ours.facts.proof["steady_counters"]["compilations"]


def worst(ours: Engine, eager: Engine, texts: tuple[str, ...]) -> float:
    asks = [request(text, utterance_id=text) for text in texts]
    pairs = zip(ours.synthesize(asks), eager.synthesize(asks), strict=True)
    return max(float(np.abs(one.mel_ND - other.mel_ND).max()) for one, other in pairs)


def test_one_compilation_serves_every_length_and_the_answer_is_the_eager_ones() -> None:
    torch._dynamo.reset()  # a step that another test of this process has compiled is not compiled again
    with fp32() as ours, engine(*EAGER) as eager:
        assert worst(ours, eager, TEXTS[:1]) < 1e-3
        assert compilations(ours) == 1
        assert all(worst(ours, eager, (text,)) < 1e-3 for text in TEXTS[1:])
        assert compilations(ours) == 1, "other lengths, no other compilation"
        assert worst(ours, eager, TEXTS) < 1e-3
        assert compilations(ours) == 2, "a batch has masks, which is another graph"
        assert worst(ours, eager, TEXTS[::-1]) < 1e-3
        assert compilations(ours) == 2
        proof = ours.facts.proof
        assert proof["compile_s"] > 0
        assert proof["compiled_evals"] == proof["num_evals"] > 0
    with fp32(UNGUIDED) as ours, engine(*EAGER, UNGUIDED) as eager:
        assert worst(ours, eager, TEXTS[:1]) < 1e-3


@pytest.mark.parametrize("shapes", ["bucketed", "dynamic"])
def test_buckets_pad_and_mask_to_the_same_answer(shapes: str) -> None:
    """Without the compiler: what a bucket does to shapes and masks is the same."""
    composed = config(*EAGER)
    context = Context(composed, solver_spec(composed["solver"]), HostClock())
    made = materials(context)
    inner, step_bytes = eager_denoiser(context, made, "fp32")
    options = CompileOptions.of("step", shapes, 512, None)
    counter = CountingInductor({})
    made.step.register_forward_pre_hook(lambda *_: setattr(counter, "runs", counter.runs + 1))  # as a compiled graph
    padding = CompiledDenoiser(inner, counter, options)
    build = Build(name="x", denoiser="x", precision="fp32", step_bytes=step_bytes, max_padding_frac=0.9)
    with assemble(context, made, StepSampler(padding, context.solver), build) as ours, engine(*EAGER) as eager:
        assert all(worst(ours, eager, (text,)) < 1e-3 for text in TEXTS)
        assert worst(ours, eager, TEXTS) < 1e-3


def test_blocks_compiled_one_by_one_share_their_compilation() -> None:
    deeper = (*EAGER, "model.arch.depth=3")
    with compiled(*deeper, "engine=compiled", "engine.region=block") as ours, engine(*deeper) as eager:
        assert worst(ours, eager, TEXTS[:1]) < 1e-3
        assert compilations(ours) == 1, "three blocks, one graph"
        assert ours.facts.proof["compiled_region"] == "block"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("engine.region=loop", "must be step or block"),
        ("engine.shapes=any", "must be dynamic or bucketed"),
        ("engine.shapes=bucketed", "must be a positive whole number"),
        ("engine.bucket_frames=0", "must be a positive whole number or null"),
        ("+engine.inductor.freezzing=true", "is not a setting of torch._inductor.config"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        engine("engine=compiled_bf16", override)


def test_without_a_cpp_compiler_the_engine_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UnsupportedEngine, match="C\\+\\+ compiler") as refusal:
        engine("engine=compiled_bf16")
    assert "apt-get install g++" in refusal.value.remedy


@pytest.mark.parametrize("name", ["compiled", "compiled_bf16", "int8_torchao"])
@pytest.mark.parametrize("by_environment", [True, False])
def test_where_the_compiler_is_switched_off_the_engine_refuses(
    name: str, by_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "int8_torchao":
        pytest.importorskip("torchao")
    if by_environment:
        monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    off = torch._dynamo.config.patch(disable=not by_environment)
    with off, pytest.raises(UnsupportedEngine, match="is switched off here") as refusal:
        engine(*EAGER, f"engine={name}")
    assert refusal.value.remedy == "unset them, or use engine=bf16"


def test_an_evaluation_outside_of_a_compiled_graph_is_refused() -> None:
    ask = request(TEXTS[0])
    with fp32() as ours:
        ours.synthesize([ask])
        with torch.compiler.set_stance("force_eager"), pytest.raises(UnsupportedEngine, match="ran the plain function"):
            ours.synthesize([ask])
        assert len(ours.synthesize([ask])[0].audio_S) > 0


def test_bfloat16_attention_compiles_once_more_where_its_scores_leave_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bound lowered to 260 frames of two rows of four heads; the reference has some 141. A CPU with tiles uses the
    fused kernel at every length."""
    monkeypatch.setattr("engine.step.attention.has_tiles", lambda: False)
    monkeypatch.setattr("engine.step.attention.SCORES_MAX_BYTES", 2 * 4 * 260**2 * 2)
    with compiled(*EAGER, "engine=compiled_bf16") as ours:
        counts = []
        for num_frames in (60, 100, 140, 200):
            ours.synthesize([request(TEXTS[0], num_frames=num_frames)])
            counts.append(compilations(ours))
    assert counts == [1, 1, 2, 2]


def test_dynamic_shapes_in_multiples_make_one_graph_also_for_a_length_that_needs_no_padding() -> None:
    with compiled(*EAGER, "engine=compiled_bf16", "engine.bucket_frames=16") as ours, engine(*EAGER) as eager:
        frames = [60, 61, 75]
        reference = ours._parts.frontend.prepare(request(TEXTS[0]), 0.1).reference.mel_ND  # type: ignore[attr-defined]
        frames.append(-len(reference) % 16 + 64)
        for num_frames in frames:
            ask = request(TEXTS[0], num_frames=num_frames)
            mine, plain = (one.synthesize([ask])[0] for one in (ours, eager))
            assert mine.mel_ND.shape == plain.mel_ND.shape
            assert np.abs(mine.mel_ND - plain.mel_ND).mean() < 0.05
        assert compilations(ours) <= 1


def test_int8_kernels_that_the_compiler_cannot_see_are_refused() -> None:
    with pytest.raises(UnsupportedEngine, match="opaque to the compiler"):
        engine("engine=compiled_bf16", "engine.precision=int8")


def test_torchaos_int8_is_refused_without_a_compiler() -> None:
    with pytest.raises(UnsupportedEngine, match="gains nothing without a compiler") as refusal:
        engine("engine=bf16", "engine.precision=int8_torchao")
    assert refusal.value.remedy == "use engine=int8_torchao"


def test_torchaos_int8_is_counted_as_stored() -> None:
    pytest.importorskip("torchao")
    with compiled(*EAGER, "engine=int8_torchao") as ours:
        proof = ours.facts.proof
    assert proof["quantized_linears"] == 4, "one block's"
    assert max(proof["weight_elements_by_dtype"], key=proof["weight_elements_by_dtype"].get) == "int8"
