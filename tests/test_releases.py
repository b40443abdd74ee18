"""Upstream's first release and v1 have the same tensors: which a file is is known or asked for, never guessed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from engine.build import validate_config
from engine.contract import ConfigError
from engine.weights.releases import DEFAULTS, RELEASES, SIZES, check_release
from tests.engines import config, engine, request

MODELS = ("f5tts_base", "f5tts_v1_base", "f5tts_base_bigvgan")


def upstreams(name: str) -> dict[str, Any]:
    from importlib.resources import files

    return yaml.safe_load((files("f5_tts") / "configs" / f"{name}.yaml").read_text("utf-8"))["model"]


@pytest.mark.parametrize("name", ["F5TTS_Base", "F5TTS_v1_Base", "F5TTS_Small", "F5TTS_v1_Small"])
def test_releases_and_sizes_are_those_of_upstreams_configurations(name: str) -> None:
    arch = upstreams(name)["arch"]
    release = RELEASES["v1" if "v1" in name else "v0"].arch
    assert {key: arch.get(key, DEFAULTS[key]) for key in release} == release
    assert (
        arch["dim"],
        arch["depth"],
        64 * arch["heads"],
        arch["ff_mult"],
        arch["text_dim"],
        arch["conv_layers"],
    ) in SIZES


@pytest.mark.parametrize(("model", "name"), [("f5tts_base", "F5TTS_Base"), ("f5tts_v1_base", "F5TTS_v1_Base")])
def test_a_preset_has_upstreams_architecture(model: str, name: str) -> None:
    theirs = {key: value for key, value in upstreams(name)["arch"].items() if value not in (None, False, "torch")}
    ours = config(f"model={model}")["model"]["arch"]
    assert {key: value for key, value in ours.items() if value is not False} == {**theirs, "dim_head": 64}


def own_file(tmp_path: Path, folder: str) -> Path:
    path = tmp_path / folder / "model_1200000.safetensors"
    path.parent.mkdir()
    path.touch()
    return path


@pytest.mark.parametrize("model", MODELS)
def test_a_file_of_ones_own_has_to_be_stated(model: str, tmp_path: Path) -> None:
    path = own_file(tmp_path, "german")
    with pytest.raises(
        ConfigError, match=r"model\.release=null: model_1200000\.safetensors has the tensors of"
    ) as refused:
        check_release(config(f"model={model}")["model"], path)
    assert "model.release=v1 with model=f5tts_v1_base" in refused.value.remedy
    stated = {"f5tts_base": "v0", "f5tts_v1_base": "v1", "f5tts_base_bigvgan": "v0_bigvgan"}[model]
    check_release(config(f"model={model}", f"model.release={stated}")["model"], path)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stated", RELEASES)
def test_what_is_stated_and_what_is_built_are_one_or_refused(model: str, stated: str, tmp_path: Path) -> None:
    own = {"f5tts_base": "v0", "f5tts_v1_base": "v1", "f5tts_base_bigvgan": "v0_bigvgan"}[model]
    settings = config(f"model={model}", f"model.release={stated}")["model"]
    if stated == own:
        return check_release(settings, None)
    with pytest.raises(ConfigError, match=r"model\.(arch|mel_spec_type)") as refused:
        check_release(settings, None)
    assert refused.value.remedy.startswith("use model=")


@pytest.mark.parametrize(
    ("folder", "model", "fits"),
    [
        ("F5TTS_Base", "f5tts_base", True), ("F5TTS_Base", "f5tts_v1_base", False),
        ("F5TTS_v1_Base", "f5tts_v1_base", True), ("F5TTS_v1_Base", "f5tts_base", False),
        ("F5TTS_Base_bigvgan", "f5tts_base_bigvgan", True), ("F5TTS_Base_bigvgan", "f5tts_base", False),
    ],
)  # fmt: skip
def test_upstreams_own_files_are_known_by_their_folder(folder: str, model: str, fits: bool, tmp_path: Path) -> None:
    settings, path = config(f"model={model}")["model"], own_file(tmp_path, folder)
    if fits:
        return check_release(settings, path)
    with pytest.raises(ConfigError, match=rf"upstream's {folder}/model_1200000\.safetensors"):
        check_release(settings, path)


def test_a_statement_against_the_files_name_is_refused(tmp_path: Path) -> None:
    settings = config("model=f5tts_v1_base", "model.release=v1")["model"]
    with pytest.raises(ConfigError, match=r"model\.release=v1.*and that is v0"):
        check_release(settings, own_file(tmp_path, "F5TTS_Base"))


@pytest.mark.parametrize(
    "changed", ["model.arch.depth=2", "model=e2tts_base", "model=pocket", "model=f5tts_base_random"]
)
def test_what_cannot_be_taken_for_another_is_not_asked_about(changed: str, tmp_path: Path) -> None:
    overrides = [changed] if changed.startswith("model=") else ["model=f5tts_v1_base", changed]
    model = config(*overrides)["model"]
    check_release(model, None if model["checkpoint"].startswith("random:") else own_file(tmp_path, "german"))


def test_it_is_asked_before_anything_is_built(tmp_path: Path) -> None:
    path = own_file(tmp_path, "german")
    with pytest.raises(ConfigError, match=r"model\.release"):
        validate_config(
            config(
                "model=f5tts_v1_base", f"model.checkpoint={path}", "model.vocab=engine/pocket/vocab.txt",
                "vocoder=vocos_random",
            )
        )  # fmt: skip
    with pytest.raises(ConfigError, match=r"model\.release=v2.*v0, v0_bigvgan, v1"):
        validate_config(config("model=f5tts_base_random", "model.release=v2", "vocoder=vocos_random"))


def test_the_first_release_equals_upstreams_own_module() -> None:
    """Two blocks of full width with drawn weights: the filler unmasked, the first head alone turned."""
    ask = request("That was close.")
    small = (
        "model=f5tts_base_random", "model.arch.depth=2", "model.vocab=engine/pocket/vocab.txt", "vocoder=vocos_random",
        "solver=euler_5",
    )  # fmt: skip
    with engine("engine=upstream", *small) as peer, engine("engine=fp32", *small) as ours:
        theirs, mine = peer.synthesize([ask])[0], ours.synthesize([ask])[0]
    assert np.abs(theirs.mel_ND).max() > 1
    assert np.abs(mine.mel_ND - theirs.mel_ND).max() <= 1e-4
    assert np.abs(mine.audio_S - theirs.audio_S).max() <= 1e-4 * max(np.abs(theirs.audio_S).max(), 1)
    with engine("engine=fp32", *small, "model.arch.text_mask_padding=true", "model.arch.pe_attn_head=null") as other:
        newer = other.synthesize([ask])[0]
    assert np.abs(newer.mel_ND - theirs.mel_ND).max() > 0.1, "as v1 the same weights say something else"
