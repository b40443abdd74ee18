"""A file of weights is used whole, or refused by the name of a tensor with what the file is."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from engine.contract import ConfigError
from engine.vocoders.load import load_vocoder
from engine.weights.checkpoint import SHAPES, check_header, draw_state, load_model
from engine.weights.file import read_state
from engine.weights.fit import ROPE, Needs, check_fit, model_carries, model_described
from tests.engines import ROOT, config

POCKET = ROOT / "engine" / "pocket"
TINY = {"dim": 16, "depth": 2, "heads": 1, "dim_head": 16, "ff_mult": 2, "text_dim": 16, "conv_layers": 1}
State = dict[str, torch.Tensor]


def model_of(arch: dict[str, Any], path: Path, backbone: str = "DiT") -> dict[str, Any]:
    return config("model.vocab=engine/pocket/vocab.txt")["model"] | {
        "arch": arch, "backbone": backbone, "checkpoint": str(path),
    }  # fmt: skip


def drawn(arch: dict[str, Any], backbone: str = "DiT") -> State:
    return draw_state(SHAPES[backbone](arch, 74, 100), seed=1)


@pytest.mark.parametrize(
    ("override", "named", "says"),
    [
        ("model.arch.depth=3", "transformer_blocks.3.", "backbone=DiT depth=6 dim=256 heads*dim_head=256"),
        ("model.arch.conv_layers=1", "text_blocks.1.", "text_dim=128 conv_layers=2 vocabulary=74 mel_bins=100"),
        ("model.arch.conv_layers=0", "text_blocks.0.", "conv_layers=2"),
        ("model.arch.depth=7", "transformer_blocks.6.", "depth=6"),
        ("model.arch.ff_mult=4", "ff.ff.0.0.weight", "ff_mult=2"),
    ],
)
def test_a_model_that_is_not_the_files_is_refused_with_what_the_file_is(override: str, named: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_model(config(override)["model"])
    assert refused.value.key == "model.checkpoint"
    assert named in str(refused.value.value)
    assert says in refused.value.allowed
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("load", [load_model, check_header], ids=["load", "header"])
def test_the_refusal_gives_the_sizes_that_the_file_has(load: Callable[[Any], object], tmp_path: Path) -> None:
    """As one line to paste: with it the file is taken; and the header alone is enough to say so."""
    held = TINY | {"depth": 3, "heads": 2, "ff_mult": 1.5, "text_mask_padding": True}
    save_file(drawn(held), tmp_path / "mine.safetensors")
    with pytest.raises(ConfigError) as refused:
        load(model_of(TINY | {"text_mask_padding": True}, tmp_path / "mine.safetensors"))
    pasted = shlex.split(refused.value.remedy.partition("their sizes: ")[2])
    pasted_arch = config("model=f5tts_v1_base", *pasted)["model"]["arch"]
    assert pasted_arch == held
    load(model_of(pasted_arch, tmp_path / "mine.safetensors"))


def test_heads_of_another_size_are_refused_by_the_rotary_frequencies() -> None:
    """The products are as large; only the stored frequencies tell two heads of 128 from four of 64."""
    with pytest.raises(ConfigError, match=r"rotary_embed\.inv_freq.*other values"):
        load_model(config("model.arch.heads=2", "model.arch.dim_head=128")["model"])


@pytest.mark.parametrize(
    ("held", "asked", "named"),
    [
        ({}, {"skip_connect_type": "none"}, r"layers\.1\.0\.weight"),
        ({"qk_norm": "rms_norm"}, {}, r"k_norm\.weight"),
        ({"depth": 4}, {"skip_connect_type": "add"}, r"layers\.2\."),
    ],
)
def test_an_e2_of_another_kind_is_refused(
    held: dict[str, Any], asked: dict[str, Any], named: str, tmp_path: Path
) -> None:
    save_file(drawn(TINY | {"conv_layers": 0} | held, "UNetT"), tmp_path / "e2.safetensors")
    with pytest.raises(ConfigError, match=named) as refused:
        load_model(model_of(TINY | {"conv_layers": 0} | asked, tmp_path / "e2.safetensors", "UNetT"))
    assert "backbone=UNetT" in refused.value.allowed


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_two_architectures_are_one_loads_as_the_other_only_where_they_are_the_same(
    data: st.DataObject,
) -> None:
    def arch() -> tuple[str, dict[str, Any]]:
        backbone = data.draw(st.sampled_from(["DiT", "UNetT"]))
        own = {
            "depth": data.draw(st.sampled_from([2, 4])), "ff_mult": data.draw(st.sampled_from([1, 2])),
            "conv_layers": data.draw(st.sampled_from([0, 1, 2])), "dim": data.draw(st.sampled_from([16, 32])),
        }  # fmt: skip
        if backbone == "UNetT":
            own |= {"skip_connect_type": data.draw(st.sampled_from(["concat", "add"]))}
            own |= {"qk_norm": data.draw(st.sampled_from([None, "rms_norm"]))}
        return backbone, TINY | own

    (held, held_arch), (asked, asked_arch) = arch(), arch()
    state, shapes = drawn(held_arch, held), SHAPES[asked](asked_arch, 74, 100)
    needs = Needs(shapes, model_carries(asked_arch), model_described)
    if {name: tuple(value.shape) for name, value in state.items()} == shapes:
        check_fit("model.checkpoint", state, needs, "")
        return
    with pytest.raises(ConfigError) as refused:
        check_fit("model.checkpoint", state, needs, "")
    assert f"backbone={held} depth={held_arch['depth']} dim={held_arch['dim']}" in refused.value.allowed


def as_trained(state: State) -> dict[str, Any]:
    """model_last.pt of upstream's trainer, with the mel's buffers of its older files."""
    ema = {f"ema_model.{name}": value for name, value in state.items()}
    ema |= {"initted": torch.tensor(True), "step": torch.tensor(7)}
    ema |= {f"ema_model.mel_spec.mel_stft.{name}": torch.ones(3) for name in ("mel_scale.fb", "spectrogram.window")}
    return {
        "model_state_dict": {**state, "transformer.proj_out.bias": torch.zeros(100)}, "ema_model_state_dict": ema,
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]},
        "scheduler_state_dict": {"last_epoch": 3}, "update": 7, "note": "best", "loss": 0.5,
    }  # fmt: skip


def test_what_upstreams_files_carry_besides_is_taken_for_what_it_is(tmp_path: Path) -> None:
    state = drawn(TINY) | {ROPE: model_carries(TINY)[ROPE]}
    torch.save(as_trained(state), tmp_path / "model_last.pt")
    loaded = load_model(model_of(TINY, tmp_path / "model_last.pt"))
    for name, value in drawn(TINY).items():  # of the average, not of the model beside it
        assert torch.equal(loaded.state[name.removeprefix("transformer.")], value)


def without_average(content: dict[str, Any]) -> None:
    del content["ema_model_state_dict"]
    content["model_state_dict"]["extra"] = torch.ones(1)


def mixed(content: dict[str, Any]) -> None:
    content["ema_model_state_dict"]["transformer.proj_out.bias"] = torch.zeros(100)


def another_base(content: dict[str, Any]) -> None:
    content["ema_model_state_dict"][f"ema_model.{ROPE}"] = 500000.0 ** -(torch.arange(8) / 8)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(discriminator={"a": torch.ones(1)}), "discriminator beside ema_model_state_dict"),
        (lambda c: c["ema_model_state_dict"].update(online={"a": torch.ones(1)}), "online, a dict of tensors"),
        (lambda c: c["ema_model_state_dict"].update(a=torch.ones(1, dtype=torch.int8)), "holds a as int8"),
        (lambda c: c["ema_model_state_dict"].update(lora=torch.ones(1)), "tensor lora"),
        (without_average, "tensor extra"),
        (mixed, "proj_out.bias twice"),
        (another_base, "inv_freq"),
    ],
)
def test_anything_else_in_a_file_is_refused_by_name(
    change: Callable[[dict[str, Any]], None], says: str, tmp_path: Path
) -> None:
    content = as_trained(drawn(TINY) | {ROPE: model_carries(TINY)[ROPE]})
    change(content)
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ConfigError) as refused:
        load_model(model_of(TINY, tmp_path / "model.pt"))
    assert says in str(refused.value)


def test_half_precision_files_are_read_as_what_they_are(tmp_path: Path) -> None:
    state = {name: value.bfloat16() for name, value in (drawn(TINY) | {ROPE: model_carries(TINY)[ROPE]}).items()}
    save_file(state, tmp_path / "half.safetensors")
    assert load_model(model_of(TINY, tmp_path / "half.safetensors")).state["proj_out.weight"].dtype == torch.float32


@pytest.mark.parametrize("content", [3, [torch.ones(2)], {3: torch.ones(2)}, {"generator": [1]}, torch.ones(2), {}])
def test_files_of_other_things_are_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"model\.checkpoint"):
        load_model(model_of(TINY, tmp_path / "x.pt"))


def vocos_file(path: Path, **changes: torch.Tensor) -> dict[str, Any]:
    """charactr's layout: a whole Vocos, its feature extractor's buffers with it."""
    own = load_file(POCKET / "vocos.safetensors")
    own |= {f"feature_extractor.mel_spec.{name}": torch.ones(3) for name in ("mel_scale.fb", "spectrogram.window")}
    torch.save(own | changes, path)
    return config(f"vocoder.checkpoint={path}")["vocoder"]


def test_a_whole_vocos_is_taken_with_its_feature_extractor(tmp_path: Path) -> None:
    assert not load_vocoder(vocos_file(tmp_path / "pytorch_model.bin"), "cpu").random


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head.istft.window", torch.ones(1024)), ("backbone.convnext.6.gamma", torch.ones(256)),
        ("feature_extractor.encodec.x", torch.ones(1)), ("discriminators.0", torch.ones(1)),
    ],
)  # fmt: skip
def test_a_vocos_with_something_else_is_refused_by_name(name: str, value: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=name) as refused:
        load_vocoder(vocos_file(tmp_path / "v.bin", **{name: value}), "cpu")
    assert "backbone.dim=256 backbone.intermediate_dim=768" in refused.value.allowed


def test_a_shorter_vocos_is_not_cut_out_of_a_longer_one() -> None:
    with pytest.raises(ConfigError, match=r"convnext\.3.*backbone\.num_layers=6"):
        load_vocoder(config("vocoder.backbone.num_layers=3")["vocoder"], "cpu")


def test_a_checkpoint_with_more_than_tensors_says_what_and_the_command_that_helps(tmp_path: Path) -> None:
    state = drawn(TINY)
    torch.save({"ema_model_state_dict": state, "best_loss": np.float64(0.3)}, tmp_path / "it's.pt")
    with pytest.raises(ConfigError) as refused:
        load_model(model_of(TINY, tmp_path / "it's.pt"))
    assert "holds numpy._core.multiarray.scalar, and only tensors" in str(refused.value)
    assert "\n" not in str(refused.value)
    words = shlex.split(refused.value.remedy.partition("alone: ")[2])
    assert words[0] == "python"
    subprocess.run([sys.executable, *words[1:]], check=True, timeout=60)
    again = read_state("model.checkpoint", Path(words[-1]))
    assert all(torch.equal(again[name], value) for name, value in state.items())


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_a_line_or_the_same_weights(data: st.DataObject, tmp_path: Path) -> None:
    suffix = data.draw(st.sampled_from([".pt", ".safetensors"]))
    whole, broken = tmp_path / f"whole{suffix}", tmp_path / f"broken{suffix}"
    state = {"a": torch.arange(6.0), "b": torch.ones(2, 2)}
    save_file(state, whole) if suffix == ".safetensors" else torch.save({"model_state_dict": state}, whole)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    broken.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, len(content) - 1]))])
    found, refused = {}, ""
    try:
        found = read_state("model.checkpoint", broken)
    except ConfigError as error:
        refused = str(error)
    assert "\n" not in refused
    assert all(isinstance(name, str) and value.dtype == torch.float32 for name, value in found.items())
