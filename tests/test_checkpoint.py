"""Loading weights: the pocket model and any file in upstream's format; damage and mismatch are refused in one line."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.build import check_device, validate_config
from engine.contract import ConfigError, UnsupportedEngine
from engine.weights.checkpoint import draw_state, load_model
from engine.weights.shapes import dit_shapes
from tests.engines import ROOT, config, engine, request

POCKET = ROOT / "engine" / "pocket"


def test_expected_names_and_shapes_are_upstreams() -> None:
    """dit_shapes is written by hand; upstream's own state_dict is the truth, for pocket and for full size."""
    from f5_tts.model import DiT

    for model in ("pocket", "f5tts_v1_base"):
        arch = config(f"model={model}")["model"]["arch"]
        with torch.device("meta"):
            own = DiT(**arch, text_num_embeds=74, mel_dim=100).state_dict()
        buffers = {"rotary_embed.inv_freq"}
        expected = {f"transformer.{k}": tuple(v.shape) for k, v in own.items() if k not in buffers}
        assert dit_shapes(arch, 74, 100) == expected


def test_full_size_configuration_builds_from_upstreams_format(tmp_path: Path) -> None:
    """F5TTS_v1_Base's own loader path on a local file with EMA names, cut to two blocks for the test's sake."""
    arch = config("model=f5tts_v1_base", "model.arch.depth=2")["model"]["arch"]
    state = draw_state(dit_shapes(arch, 74, 100), seed=3)
    bookkeeping = {"initted": torch.tensor(True), "step": torch.tensor(1)}
    save_file({**{f"ema_model.{k}": v for k, v in state.items()}, **bookkeeping}, tmp_path / "model.safetensors")
    with engine(
        "model=f5tts_v1_base", "model.arch.depth=2", f"model.checkpoint={tmp_path / 'model.safetensors'}",
        "model.vocab=engine/pocket/vocab.txt", "vocoder=vocos_random", "solver=euler_6",
    ) as ours:  # fmt: skip
        assert ours.synthesize([request("That was close.")])[0].num_evals == 6


def test_missing_hub_weights_say_how_to_fetch_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hf download SWivid/F5-TTS"):
        validate_config(config("model=f5tts_v1_base", "vocoder=vocos_random", "model.vocab=engine/pocket/vocab.txt"))


@pytest.mark.parametrize("keep", [0, 100, 100_000])
def test_a_checkpoint_cut_short_is_refused(keep: int, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes((POCKET / "dit.safetensors").read_bytes()[:keep])
    with pytest.raises(ConfigError, match="not a readable checkpoint") as refused:
        engine(f"model.checkpoint={tmp_path / 'cut.safetensors'}")
    assert "model.checkpoint" in str(refused.value)


def test_text_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("hello")
    with pytest.raises(ConfigError, match="checkpoint"):
        engine(f"model.checkpoint={tmp_path / 'x.pt'}")


def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    lines = (POCKET / "vocab.txt").read_text("utf-8").split("\n")
    (tmp_path / "vocab.txt").write_text("\n".join(lines[:-3]) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has 72 tokens, the checkpoint was trained with 74"):
        engine(f"model.vocab={tmp_path / 'vocab.txt'}")


def test_weights_of_another_architecture_name_the_tensor() -> None:
    with pytest.raises(ConfigError, match="transformer_blocks"):
        engine("model.arch.depth=7")
    with pytest.raises(ConfigError, match="backbone"):
        engine("vocoder.backbone.dim=128")


def test_weights_that_are_not_there_are_refused_before_anything_is_built() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        validate_config(config("model.checkpoint=nowhere.safetensors"))
    with pytest.raises(ConfigError, match="a whole number"):
        validate_config(config("model.checkpoint=random:x"))


@pytest.mark.parametrize(("kind", "says"), [("cuda:9", "CUDA devices"), ("tpu", "must be cpu, cuda or cuda:N")])
def test_a_device_that_is_not_there_is_refused(kind: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_device({"kind": kind, "threads": None})


def test_parts_that_are_not_built_are_refused_not_ignored() -> None:
    with pytest.raises(UnsupportedEngine, match="qk_norm"):
        engine("+model.arch.qk_norm=rms_norm")
    with pytest.raises(UnsupportedEngine, match="dropuot"):
        engine("+model.arch.dropuot=0.1")


def test_pocket_weights_fold_upper_case_exactly() -> None:
    table = load_file(POCKET / "dit.safetensors")["transformer.text_embed.text_embed.weight"]
    lines = (POCKET / "vocab.txt").read_text("utf-8").split("\n")
    assert torch.equal(table[lines.index("A") + 1], table[lines.index("a") + 1])


def test_weights_and_voices_stay_under_25_megabytes() -> None:
    assert sum(path.stat().st_size for path in POCKET.iterdir()) <= 25e6


def test_drawn_weights_are_named_by_what_was_drawn(tmp_path: Path) -> None:
    """The draw depends on every shape, so a cache or a baseline must not take one for the other."""
    lines = (POCKET / "vocab.txt").read_text("utf-8").split("\n")
    (tmp_path / "vocab.txt").write_text("\n".join(lines[:-3]) + "\n", encoding="utf-8")
    drawn = ("model.checkpoint=random:0", "model.arch.depth=1")
    one, same, *others = (
        load_model(config(*drawn, *more)["model"])
        for more in (
            (),
            (),
            (f"model.vocab={tmp_path / 'vocab.txt'}",),
            ("model.arch.depth=2",),
            ("model.mel_bins=80",),
        )
    )
    assert one.sha256 == same.sha256
    assert one.sha256.startswith("random:0:")
    assert len({one.sha256, *(other.sha256 for other in others)}) == 4
    assert not torch.equal(one.state["proj_out.weight"], others[0].state["proj_out.weight"])
