"""One graph a call, without a GPU: what is recorded is the same sound as stage by stage, for a class of lengths, with
one launch and one wait a call, and a workload of many lengths keeps few graphs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine.backends.cuda_graph.build import call_of, captured_vocoder, cuda_call
from engine.backends.cuda_graph.speaker import GraphSpeaker, Limits
from engine.backends.eager.build import eager_denoiser
from engine.clock import HostClock
from engine.context import Build, Context, assemble_around, materials
from engine.contract import Engine, UnsupportedEngine
from engine.solver.methods import solver_spec
from engine.step.conditioner import Conditioner, stack
from engine.step.dit import Arch
from engine.step.masked import MaskedConditioner, MaskedInputs, source_row, token_row
from engine.vocoders.cuda import CudaVocos
from engine.vocoders.real import MaskedVocos
from engine.weights.checkpoint import load_model
from experiments.settings.compose import compose_config
from experiments.workload.requests import load_workload
from tests.engines import config, engine, request
from tests.recording import TracingRecorder

SMALL = ("model.checkpoint=random:0", "model.arch.depth=1", "solver=uniform_4", "solver.steps=2")
TEXTS = ("That was close.", "Turn left at the bridge.", "We walk along the sea in the morning.")
NEAR = 1e-4  # class A: relative L2 of mel and sound, float32 in another order of sums


@pytest.fixture(autouse=True)
def plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: the recorder cannot hold oneDNN's packed tensors."""
    monkeypatch.setattr("engine.step.precision.can_pack", lambda dtype: False)
    monkeypatch.setattr("engine.step.packed.can_pack", lambda dtype: False)


class Desk(TracingRecorder):
    """The recorder with ordinary memory; counts how often the host waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype)

    def wait(self) -> None:
        self.waits += 1


def called(*overrides: str, max_graphs: int = 32, max_batch: int = 8, desk: Any = None) -> tuple[Engine, Any]:
    """engine=cuda_call with float32 and the tracing recorder in the place of the card's."""
    composed, desk = config(*SMALL, *overrides), desk or Desk()
    context = Context(composed, solver_spec(composed["solver"]), HostClock())
    made = materials(context)
    form = MaskedVocos(made.vocoder.decoder.module).eval()  # type: ignore[attr-defined]
    vocoder = CudaVocos(form, form, None, desk, 1)
    denoiser, step_bytes = eager_denoiser(context, made, "fp32")
    limits = Limits(max_batch=max_batch, max_graphs=max_graphs, mel_bins=100, hop=256)
    speaker = GraphSpeaker(
        call_of(context, made, denoiser, vocoder), desk, limits, "cpu", context.clock, vocoder
    )  # fmt: skip
    build = Build(name="call", denoiser="graph", precision="fp32", step_bytes=step_bytes, max_batch=max_batch)
    return assemble_around(context, made, speaker, build), desk


def distance(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.linalg.norm(one.astype(np.float64) - other) / np.linalg.norm(other.astype(np.float64)))


def same(ours: Engine, theirs: Engine, asks: Sequence[Any]) -> None:
    for one, other in zip(ours.synthesize(asks), theirs.synthesize(asks), strict=True):
        assert distance(one.mel_ND, other.mel_ND) <= NEAR
        assert distance(one.audio_S, other.audio_S) <= NEAR
        assert (one.num_evals, one.noise_sha256) == (other.num_evals, other.noise_sha256)


@pytest.mark.parametrize("overrides", [(), ("solver.cfg_strength=0",)], ids=["guided", "unguided"])
def test_a_call_is_the_same_sound_as_its_stages_alone_in_a_batch_and_after_other_lengths(
    overrides: tuple[str, ...],
) -> None:
    asks = [request(text, utterance_id=text) for text in TEXTS]
    quiet = replace(asks[1], ref_audio_S=asks[1].ref_audio_S * np.float32(0.05))  # with a gain
    with called(*overrides)[0] as ours, engine(*SMALL, *overrides) as eager:
        for calls in ([asks[2]], [asks[0]], [asks[1]], asks, [quiet], [request(TEXTS[0], voice="rms", seed=3)]):
            same(ours, eager, calls)


def test_a_long_text_is_cut_and_streamed_over_the_same_graphs() -> None:
    ask = request("The road was dry. " * 12, utterance_id="long")
    ours, desk = called()
    with ours, engine(*SMALL) as eager:
        same(ours, eager, [ask])
        recorded = desk.recorded
        streamed = np.concatenate([block.audio_S for block in ours.stream(request(TEXTS[2]))])
        whole = eager.synthesize([request(TEXTS[2])])[0].audio_S
        assert distance(streamed, whole) <= NEAR
        before = desk.recorded
        list(ours.stream(request(TEXTS[2], seed=5)))
    assert desk.recorded == before >= recorded


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Silent(Desk):
    """A desk whose replays leave no trace: as on a card, where they run elsewhere."""

    def record(self, run: Any) -> Any:
        replay, kept = super().record(run)

        def unseen() -> None:
            with torch.utils._python_dispatch._disable_current_modes():
                replay()

        return unseen, kept


def test_a_warm_call_is_one_launch_one_wait_and_a_handful_of_host_operations() -> None:
    ours, desk = called("solver.steps=4", desk=Silent())
    ask = request(TEXTS[0])
    with ours:
        ours.synthesize([ask])
        waits, replays = desk.waits, desk.replayed
        with Operations() as seen:
            ours.synthesize([replace(ask, utterance_id="another")])
    assert (desk.waits - waits, desk.replayed - replays) == (1, 1)
    views = ("detach", "to", "resolve_conj", "resolve_neg", "slice", "select", "alias", "view")
    real = [name for name in seen.names if name.split(".")[1] not in views]
    assert sorted(real) == ["aten.cat.default", "aten.clone.default", "aten.randn.generator"], "noise in, mel out"
    assert not any("_local_scalar_dense" in name for names in desk.operations for name in names), "nothing asked back"


def test_eighty_six_lengths_keep_few_graphs() -> None:
    """What would be captured, not captured: every sentence of the English workloads, by two voices."""
    lines = load_workload(compose_config(["workload=en_all"])).requests
    ours, _ = called()
    with ours:
        speaker = ours._parts.speaker  # type: ignore[attr-defined]
        shapes, lengths = set(), set()
        for ask in lines:
            jobs = ours._jobs(0, ask)  # type: ignore[attr-defined]
            lengths |= {job.chunk.num_frames for job in jobs}
            shapes |= {shape for shape, _ in speaker._batches(jobs)}
    assert len(lines) == 86
    assert 3 * len(shapes) < len(lengths)
    assert len(shapes) <= 20


def test_batches_share_graphs_by_powers_of_two_and_more_classes_than_are_kept_are_counted() -> None:
    asks = [request(TEXTS[0], utterance_id=f"u{i}", seed=i) for i in range(7)]
    ours, desk = called(max_graphs=1)
    with ours, engine(*SMALL) as eager:
        for size in (5, 7, 8):
            same(ours, eager, asks[:size])
        assert desk.recorded == 1
        assert (ours.facts.proof["rows_run"], ours.facts.proof["rows_asked"]) == (24, 19)
        ours.synthesize(asks[:1])
        proof = ours.facts.proof
    assert {"graph_captures": 2, "graphs_evicted": 1}.items() <= proof["steady_counters"].items()
    assert (proof["graphs_kept"], proof["vocoder"]["runtime"]) == (1, "cuda")


def test_a_batch_over_what_was_built_is_refused() -> None:
    with called(max_batch=2)[0] as ours, pytest.raises(ValueError, match="3 requests in a batch, this engine takes 2"):
        ours.synthesize([request(TEXTS[0])] * 3)


@torch.inference_mode()
@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("masked_text", [False, True])
def test_masked_conditioning_is_each_rows_own(spread: bool, masked_text: bool) -> None:
    model = config("model=pocket")["model"]
    changes = {"text_embedding_average_upsampling": spread, "text_mask_padding": masked_text}
    arch = Arch.of({**model["arch"], **changes})
    conditioner = Conditioner(arch, 100, load_model(model).state, "cpu")
    texts, lengths, refs = [[5, 6, 7], list(range(3, 40))], (61, 90), (20, 33)
    mels = [torch.randn(size, 100, generator=torch.Generator().manual_seed(size)) for size in refs]
    alone = stack([conditioner.constants(t, m, n, True) for t, m, n in zip(texts, mels, lengths, strict=True)])
    tokens, source = np.ones((2, 128), np.int64), np.ones((2, 128), np.int64)
    mel, own = torch.zeros(2, 128, 100), torch.zeros(2, 128)
    for i, num_frames in enumerate(lengths):
        token_row(texts[i], num_frames, tokens[i])
        source_row(len(texts[i]), num_frames, source[i])
        mel[i, : refs[i]], own[i, :num_frames] = mels[i], 1.0
    inputs = MaskedInputs(torch.from_numpy(tokens), torch.from_numpy(source) if spread else None, mel, own)
    masked = MaskedConditioner(conditioner)
    projected, convolved = masked.constants(inputs, masked.positions(128), True)
    for row in range(4):
        frames = lengths[row % 2]
        assert distance(projected[row, :frames].numpy(), alone.projected[row, :frames].numpy()) <= 1e-5
        assert distance(convolved[row, :, :frames].numpy(), alone.convolved[row, :, :frames].numpy()) <= 1e-5
    assert not projected[0, 61:].any()


@pytest.mark.parametrize(
    ("overrides", "device", "says", "remedy"),
    [
        ((), "cpu", "needs a CUDA device", "use device=cuda"),
        (("solver=teacache_32",), "cuda:0", "decides from the data", "use solver.reuse=null"),
        (("solver=cfg_zero_star_7", "+engine.max_batch=1"), "cuda:0", "lengths", "use engine=cuda_graph"),
    ],
)
def test_what_one_graph_cannot_hold_is_refused_with_a_way_out(
    overrides: tuple[str, ...], device: str, says: str, remedy: str
) -> None:
    composed = config("engine=cuda_call", *[o for o in overrides if "engine" not in o])
    composed["device"]["kind"] = device
    context = Context(composed, solver_spec(composed["solver"]), HostClock())
    most = 1 if len(overrides) > 1 else 8
    with pytest.raises(UnsupportedEngine, match=says) as refusal:
        cuda_call(context=context, name="cuda_call", precision="bf16", max_batch=most)
    assert refusal.value.remedy.startswith(remedy)


def test_a_vocoder_that_cannot_be_captured_is_refused() -> None:
    composed = config(*SMALL)
    context = Context(composed, solver_spec(composed["solver"]), HostClock())
    with pytest.raises(UnsupportedEngine, match="vocoder=vocos cannot be captured") as refusal:
        captured_vocoder(materials(context), "cuda_call")
    assert refusal.value.remedy.startswith("use vocoder=vocos_cuda")
