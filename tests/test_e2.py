"""E2-TTS: the flat U-Net transformer as a step equals upstream's own module, and runs through the same pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.backends.cuda_graph.denoiser import GraphSampler
from engine.backends.eager.denoiser import EagerDenoiser
from engine.build import validate_config
from engine.clock import HostClock
from engine.context import Context, materials
from engine.contract import ConfigError, UnsupportedEngine
from engine.solver.guidance import Rows
from engine.solver.methods import solver_spec
from engine.solver.sampler import StepSampler
from engine.step.conditioner import Conditioner, Conditioning, stack
from engine.step.precision import PreparedStep, apply_precision
from engine.weights.checkpoint import draw_state
from engine.weights.shapes import unett_shapes
from tests.engines import config, engine, request
from tests.recording import TracingRecorder

# Four blocks, so that two pairs of skip connections have to find their mirror images
SMALL = (
    "model=e2tts_base_random", "model.arch.dim=128", "model.arch.depth=4", "model.arch.heads=4",
    "model.arch.dim_head=32", "model.vocab=engine/pocket/vocab.txt",
)  # fmt: skip
FORMS = {
    "as published": (),
    "added": ("model.arch.skip_connect_type=add",),
    "no skips": ("model.arch.skip_connect_type=none",),
    "normed": ("+model.arch.qk_norm=rms_norm", "model.arch.pe_attn_head=null"),
    "text width": ("model.arch.text_dim=48", "model.arch.text_mask_padding=true"),
}
TOKENS = (5, 9, 1, 30, 12, 7)


class Bound:
    """One solve's conditioning for upstream's module and for our step, with the same drawn weights."""

    def __init__(self, *overrides: str):
        self.config = config(*SMALL, *overrides)
        self.context = Context(self.config, solver_spec(self.config["solver"]), HostClock())
        self.made = materials(self.context)
        self.times = self.context.solver.evaluation_times

    def theirs(self) -> Any:
        from f5_tts.model import UNetT

        model = self.made.model
        module = UNetT(**self.config["model"]["arch"], text_num_embeds=len(model.vocabulary), mel_dim=100)
        loaded = module.load_state_dict(dict(model.state), strict=False)
        assert (set(loaded.missing_keys), loaded.unexpected_keys) == ({"rotary_embed.inv_freq"}, [])
        return module.eval()

    def conditioning(self, utterances: list[tuple[torch.Tensor, int]]) -> Conditioning:
        """utterances: reference mel and frames of each."""
        conditioner = Conditioner(self.made.arch, 100, self.made.model.state, "cpu")
        return stack([conditioner.constants(TOKENS, mel, n, True) for mel, n in utterances])

    def denoiser(self, precision: str = "fp32", packed: bool = False) -> EagerDenoiser:
        prepared = apply_precision(self.made.step, precision, "cpu", packed=packed)
        return EagerDenoiser(prepared, self.made.arch, self.made.tables, "cpu")

    def rows(self, utterances: list[tuple[torch.Tensor, int]], precision: str = "fp32", packed: bool = False) -> Rows:
        return self.denoiser(precision, packed).bind(self.conditioning(utterances))


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def distance(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((mine - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@torch.inference_mode()
def test_a_step_equals_upstreams_module(form: tuple[str, ...]) -> None:
    """Conditional and unconditional rows apart, at the first time and at a late one."""
    bound = Bound(*form)
    module, mel, x = bound.theirs(), drawn(20, 100), drawn(1, 61, 100)
    rows = bound.rows([(mel, 61)])
    cond = torch.nn.functional.pad(mel, (0, 0, 0, 41))[None]
    for place in (0, 5):
        both = module(
            x=x, cond=cond, text=torch.tensor([TOKENS]), time=torch.tensor(bound.times[place]), cfg_infer=True
        )
        mine = rows(x, place, True)
        assert distance(mine[0], both[0]) <= 1e-5
        assert distance(mine[1], both[1]) <= 1e-5
        assert distance(both[0], both[1]) > 0.01, "rows that agree would hide a mix-up"
        assert distance(rows(x, place, False)[0], both[0]) <= 1e-5
    assert distance(rows(x, 0, True)[0], rows(x, 5, True)[0]) > 0.01, "the time has to matter"


@pytest.mark.parametrize("form", ["as published", "normed"])
@torch.inference_mode()
def test_a_padded_batch_equals_single_runs(form: str) -> None:
    bound = Bound(*FORMS[form])
    lengths = (61, 40, 52)
    utterances, noises = [(drawn(18 + n % 5, 100), n) for n in lengths], [drawn(n, 100) for n in lengths]
    x = torch.nn.utils.rnn.pad_sequence(noises, batch_first=True)
    together = bound.rows(utterances)(x, 2, True).unflatten(0, (2, 3))
    for i, n in enumerate(lengths):
        alone = bound.rows([utterances[i]])(noises[i][None], 2, True)
        assert distance(together[:, i, :n], alone) <= 1e-5


@pytest.mark.parametrize(("form", "cfg_strength"), [("as published", 2.0), ("normed", 0.0)])
def test_the_mel_equals_upstreams(form: str, cfg_strength: float) -> None:
    ask = request("That was close.")
    chosen = (*SMALL, *FORMS[form], "solver=euler_7", f"solver.cfg_strength={cfg_strength}")
    with engine("engine=upstream", *chosen) as peer, engine("engine=fp32", *chosen) as ours:
        theirs, mine = peer.synthesize([ask])[0], ours.synthesize([ask])[0]
    assert (mine.noise_sha256, mine.num_evals) == (theirs.noise_sha256, theirs.num_evals)
    assert np.abs(theirs.mel_ND).max() > 1
    assert np.abs(mine.mel_ND - theirs.mel_ND).max() <= 1e-4


@pytest.mark.parametrize(("precision", "bound"), [("amp", 0.03), ("bf16", 0.03), ("fp16", 0.01), ("int8", 0.1)])
@torch.inference_mode()
def test_lower_precisions_stay_near_float32(precision: str, bound: float) -> None:
    utterances, x = [(drawn(20, 100), 61), (drawn(15, 100), 40)], drawn(2, 61, 100)
    exact, rough = (Bound().rows(utterances, precision=name)(x, 2, True) for name in ("fp32", precision))
    assert 0 < distance(rough[0], exact[0]) < bound


@torch.inference_mode()
def test_packed_weights_give_the_same_step() -> None:
    """The form in which a CPU runs float32, with the skip connections' products in it."""
    utterances, x = [(drawn(20, 100), 61)], drawn(1, 61, 100)
    plain, packed = (Bound().rows(utterances, packed=packed)(x, 2, True) for packed in (False, True))
    assert distance(packed, plain) <= 1e-5


@torch.inference_mode()
def test_a_recorded_solve_is_the_solve() -> None:
    """What a CUDA graph holds, recorded without a GPU: the same answer for another utterance of the same length."""
    bound = Bound("solver=euler_5")
    solver, denoiser, recorder = bound.context.solver, bound.denoiser(), TracingRecorder()
    graph = GraphSampler(denoiser, solver, recorder, 2)
    for mel in (drawn(20, 100), drawn(15, 100)):
        conditioning, x0 = bound.conditioning([(mel, 61)]), drawn(1, 61, 100)
        recorded, plain = (s.sample(conditioning, x0.clone()) for s in (graph, StepSampler(denoiser, solver)))
        assert distance(recorded, plain) <= 1e-6
    assert recorder.recorded == 1


@torch.inference_mode()
def test_the_compiler_takes_the_step_whole_and_once_for_all_lengths() -> None:
    """Dynamo alone: what engine=compiled hands to inductor, and how often."""
    graphs = []

    def keep(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    bound = Bound()
    step = torch.compile(bound.made.step.eval(), fullgraph=True, dynamic=True, backend=keep)
    compiled = EagerDenoiser(PreparedStep(step, torch.float32, None), bound.made.arch, bound.made.tables, "cpu")
    for num_frames in (61, 54, 90):
        conditioning, x = bound.conditioning([(drawn(20, 100), num_frames)]), drawn(1, num_frames, 100)
        mine, exact = (denoiser.bind(conditioning)(x, 1, True) for denoiser in (compiled, bound.denoiser()))
        assert distance(mine, exact) <= 1e-6
    assert len(graphs) == 1


def test_expected_names_and_shapes_are_upstreams() -> None:
    from f5_tts.model import UNetT

    for form in ((), *([*SMALL, *form] for form in FORMS.values())):
        arch = config("model=e2tts_base", *form[1:])["model"]["arch"]
        with torch.device("meta"):
            own = UNetT(**arch, text_num_embeds=74, mel_dim=100).state_dict()
        expected = {f"transformer.{k}": tuple(v.shape) for k, v in own.items() if k != "rotary_embed.inv_freq"}
        assert unett_shapes(arch, 74, 100) == expected


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("prefix", ["ema_model.", ""], ids=["ema", "plain"])
def test_upstreams_files_load(suffix: str, prefix: str, tmp_path: Path) -> None:
    arch, path = config(*SMALL)["model"]["arch"], tmp_path / f"model.{suffix}"
    drawn_weights = draw_state(unett_shapes(arch, 74, 100), seed=0)
    state = {f"{prefix}{name}": value for name, value in drawn_weights.items()}
    if suffix == "pt":
        torch.save({"ema_model_state_dict": state, "update": 1}, path)
    else:
        save_file(state, path)
    made = Bound(f"model.checkpoint={path}").made
    assert not made.model.random
    assert all(torch.equal(value, drawn_weights[f"transformer.{name}"]) for name, value in made.model.state.items())


def test_weights_of_the_other_architecture_are_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"UNetT.*holds a DiT"):
        engine(*SMALL, "model.checkpoint=engine/pocket/dit.safetensors")
    arch, path = config(*SMALL)["model"]["arch"], tmp_path / "e2.safetensors"
    save_file(draw_state(unett_shapes(arch, 74, 100), seed=0), path)
    with pytest.raises(ConfigError, match=r"DiT.*holds a UNetT"):
        engine(f"model.checkpoint={path}")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.backbone=MMDiT", "must be DiT or UNetT"),
        ("model.arch.depth=3", "must be even"),
        ("model.arch.skip_connect_type=sum", "concat, add, none"),
        ("+model.arch.qk_norm=layer_norm", "null, rms_norm"),
        ("+model.arch.long_skip_connection=true", "not a key of upstream's UNetT"),
    ],
)
def test_what_upstream_could_not_build_is_refused_before_anything_is(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        validate_config(config(*SMALL, override))


def test_missing_hub_weights_say_how_to_fetch_them() -> None:
    with pytest.raises(ConfigError, match="hf download SWivid/E2-TTS E2TTS_Base"):
        validate_config(config("model=e2tts_base", "vocoder=vocos_random"))


@pytest.mark.parametrize("name", ["onnx", "onnx_int8", "onnx_int8_dynamic", "tensorrt_fp16", "tensorrt_int8"])
def test_engines_that_export_a_dit_refuse(name: str) -> None:
    with pytest.raises(UnsupportedEngine, match="takes the step of a DiT") as refused:
        engine(f"engine={name}", *SMALL)
    assert "engine=fp32" in refused.value.remedy


def test_text_convolutions_are_upstreams_alone() -> None:
    with pytest.raises(UnsupportedEngine, match="conv_layers=2"):
        engine(*SMALL, "+model.arch.conv_layers=2")
