"""TensorRT plans as far as no TensorRT is needed: for whom a plan is, which shapes it holds, when it is wrong."""

import copy
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.backends.tensorrt import plan as tensorrt_build
from engine.backends.tensorrt.check import check_plan, drawn_feeds
from engine.backends.tensorrt.plan import Built, Demands, counted, profile_shapes, provide, step_shapes
from engine.backends.tensorrt.plan_file import (
    PlanIdentity,
    count_fused_attention,
    described,
    read_plan,
    write_described,
    write_plan,
)
from engine.backends.tensorrt.runtime import versions_here
from engine.contract import ConfigError, InvalidRequest, UnsupportedEngine
from engine.runtimes.profiles import Profile, choose_profile, profiles_of
from engine.step.dit import Arch, DiTStep
from engine.step.examples import run_step
from engine.step.inputs import Feeds
from tests.engines import engine

PROFILES = profiles_of([[64, 563, 750], [751, 1406, 2048]])
HERE = PlanIdentity(
    onnx_sha256="a" * 64, precision="bf16", profiles=PROFILES, groups=2, max_batch=1, workspace_bytes=1 << 32,
    tensorrt_version="10.16.1", compute_capability="9.0",
)  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [[], None, "64", [[64, 63, 70]], [[1, 2, 3]], [[64, 100]], [[64, 100, 200], [300, 400, 500]]],
)
def test_profiles_that_make_no_sense_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"engine\.profiles"):
        profiles_of(value)


def test_a_length_finds_its_profile_and_others_get_one_clear_error() -> None:
    assert [choose_profile(PROFILES, n, 1, 1) for n in (64, 750, 751, 2048)] == [0, 0, 1, 1]
    for num_frames in (63, 2049):
        with pytest.raises(InvalidRequest, match=rf"64\.\.2048: the plan holds no utterance of {num_frames} frames"):
            choose_profile(PROFILES, num_frames, 1, 1)
    with pytest.raises(InvalidRequest, match="no batch of 3"):
        choose_profile(PROFILES, 100, 3, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"onnx_sha256": "b" * 64}, {"precision": "int8_bf16"}, {"profiles": PROFILES[:1]}, {"groups": 1},
        {"max_batch": 2}, {"runtime": "tensorrt_rtx"},
        {"tensorrt_version": "10.3.0"}, {"compute_capability": "8.7"}, {"workspace_bytes": 1},
    ],
)  # fmt: skip
def test_everything_a_plan_depends_on_changes_its_name(change: dict[str, Any], tmp_path: Path) -> None:
    other = replace(HERE, **change)
    assert other.key() != HERE.key()
    path = tmp_path / "p.plan"
    write_plan(path, b"plan", other, {})
    with pytest.raises(UnsupportedEngine, match="a plan for something else: " + next(iter(change))) as refusal:
        read_plan(path, HERE)
    assert "engine.plan=null" in refusal.value.remedy


def test_a_plan_comes_back_as_written_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "p.plan"
    write_plan(path, b"plan", HERE, {"64": {"relative_l2": 0.5}})
    assert read_plan(path, HERE) == (b"plan", {"64": {"relative_l2": 0.5}})
    path.write_bytes(b"pla")
    with pytest.raises(UnsupportedEngine, match="is not the file that"):
        read_plan(path, HERE)
    described(path).write_text("{", "utf-8")
    with pytest.raises(UnsupportedEngine, match="cannot be read as a plan"):
        read_plan(path, HERE)


def test_fused_attention_is_counted_in_the_inspectors_layers() -> None:
    layers = [
        {"Name": "__myl_Fc_myl0_1", "TacticName": "sm80_xmma_gemm_bf16"},
        {"Name": "_gemm_mha_v2_myl0_7", "TacticName": "_gemm_mha_v2_0x1"},
        {"Name": "ForeignNode", "TacticName": "fmha_v2_flash_attention_bf16_64_64_S_qkv_128_sm90"},
        "softmax_island",
    ]
    assert count_fused_attention(json.dumps({"Layers": layers})) == 2
    assert count_fused_attention(json.dumps({"Layers": []})) == 0


def test_int8_products_are_counted_and_fewer_than_demanded_is_refused() -> None:
    layers = [
        {"Name": "blocks.0.qkv", "TacticName": "sm80_xmma_gemm_i8f16_i8i32_f16_tn_n", "Metadata": "[ONNX Layer: a]"},
        {"Name": "__myl_FcAdd_myl0_3", "TacticName": "sm80_xmma_gemm_i8i8_i8i32_f32_tn_n_tilesize128x128x64"},
        {"Name": "stored", "Inputs": [{"Format/Datatype": "Int8"}], "TacticName": "sm80_xmma_gemm_f16f16_f16f32"},
        {"Name": "_gemm_mha_v2", "TacticName": "_gemm_mha_v2_0x1"},
    ]
    said = json.dumps({"Layers": layers})
    step = small_step()
    asked = Demands(oracle=step, examples_at=lambda n: [], fused_attention=1, int8_products=2)
    assert counted(said, asked) == {"fused_attention": 1, "int8_products": 2}
    for key in ("int8_products", "fused_attention"):
        with pytest.raises(UnsupportedEngine, match="of 3 ") as refusal:
            counted(said, replace(asked, **{key: 3}))
        assert f"engine.needs_{key}=false" in refusal.value.remedy


CHECKS = {"fused_attention": 1, "int8_products": 0, "lengths": {}}


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Plans are built without TensorRT, into a cache of the test's own; one line for each."""
    plans: list[str] = []

    def build(onnx: Path, identity: PlanIdentity, shapes: Any) -> Built:
        plans.append(identity.key())
        return Built(plan=b"plan", report=None)

    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(tensorrt_build, "build_plan", build)
    monkeypatch.setattr(tensorrt_build, "verified", lambda *_: CHECKS)
    return plans


def provided(given: Path | None = None, **demanded: int) -> tensorrt_build.Ready:
    demands = Demands(oracle=small_step(), examples_at=lambda n: [], **demanded)
    start: Any = SimpleNamespace  # no device to run it
    return provide(Path("step.onnx"), HERE, demands, lambda plan: start(plan=plan), given)


def test_a_kept_plan_is_held_against_what_is_demanded_now(built: list[str]) -> None:
    provided(fused_attention=0)
    provided(fused_attention=1)
    assert len(built) == 1, "the second one comes from the cache"
    with pytest.raises(UnsupportedEngine, match="1 of 2 attention blocks are fused") as refusal:
        provided(fused_attention=2)
    assert "engine.needs_fused_attention=false" in refusal.value.remedy
    with pytest.raises(UnsupportedEngine, match="0 of 2 int8 layers"):
        provided(int8_products=2)


def test_a_damaged_plan_of_the_cache_is_built_again_and_a_given_one_is_refused(
    built: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    provided()
    (path,) = tmp_path.rglob("*.plan")
    path.write_bytes(b"pla")
    with pytest.raises(UnsupportedEngine, match="is not the file that"):
        provided(given=path)
    assert provided().plan_bytes == 4
    assert "it is built again" in capsys.readouterr().err
    assert provided(given=path).plan_bytes == 4
    assert len(built) == 2


def test_a_profile_of_one_length_names_every_input_the_network_leaves_open() -> None:
    one = replace(HERE, profiles=profiles_of([[1406, 1406, 1406]]), groups=1)
    # As the export writes it: guidance rows, batch and frames stay open
    open_sizes = {
        "x": (-1, -1, 100), "projected": (-1, -1, -1, 64), "convolved": (-1, -1, 64, -1), "cos": (-1, 1, 32),
        "sin": (-1, 1, 32), "modulation": (2, 6, 64), "final": (2, 64),
    }  # fmt: skip
    inputs = [SimpleNamespace(name=name, shape=shape) for name, shape in open_sizes.items()]
    network: Any = SimpleNamespace(num_inputs=len(inputs), get_input=lambda i: inputs[i])
    (profile,) = profile_shapes(step_shapes(small_step(), one), network)
    assert set(profile) == {"x", "projected", "convolved", "cos", "sin"}
    assert profile["x"] == ((1, 1406, 100),) * 3


def test_tensorrt_that_is_not_installed_is_refused_with_the_package() -> None:
    if importlib.util.find_spec("tensorrt"):
        pytest.skip("TensorRT is installed")
    with pytest.raises(UnsupportedEngine, match="TensorRT is not installed") as refusal:
        versions_here("cuda:0")
    assert "pip install '.[tensorrt]'" in refusal.value.remedy


def small_step() -> DiTStep:
    torch.manual_seed(0)
    return DiTStep(Arch(dim=64, depth=2, heads=2, dim_head=32, ff_mult=2), 100).eval()


def test_a_sound_plan_passes_at_every_length_of_its_profiles() -> None:
    oracle = small_step()
    half = copy.deepcopy(oracle).bfloat16()

    def run(feeds: Feeds) -> torch.Tensor:
        return run_step(half, {name: value.bfloat16() for name, value in feeds.items()})

    profiles = (Profile(min_frames=8, opt_frames=20, max_frames=40),)
    found = check_plan(run, oracle, profiles, lambda n: [drawn_feeds(oracle, 2, n, True)], "bf16")
    assert list(found) == ["8", "20", "40"]
    assert all(0 < row["relative_l2"] < 0.1 for row in found.values())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda v: v * float("nan"), "at 40 frames: values that are not finite"),
        (lambda v: v * 0, "at 40 frames: relative error 1, energy x 0"),
        (lambda v: v.flip(2), "at 40 frames: relative error"),
    ],
)
def test_a_plan_that_is_blank_or_wrong_at_one_length_only_is_refused(spoil: Any, says: str) -> None:
    oracle = small_step()

    def run(feeds: Feeds) -> torch.Tensor:
        velocity = run_step(oracle, feeds)
        return spoil(velocity) if velocity.shape[2] == 40 else velocity

    profiles = (Profile(min_frames=8, opt_frames=20, max_frames=40),)
    with pytest.raises(UnsupportedEngine, match=says):
        check_plan(run, oracle, profiles, lambda n: [drawn_feeds(oracle, 1, n, False)], "fp32")


def test_a_plan_for_batches_is_tried_with_a_full_one_of_unequal_lengths() -> None:
    """A plan that forgets the mask is right for every utterance alone."""
    oracle, batches = small_step(), []

    def run(feeds: Feeds) -> torch.Tensor:
        batches.append(len(feeds["x"]))
        return run_step(oracle, feeds)

    def unmasked(feeds: Feeds) -> torch.Tensor:
        return run_step(oracle, {**feeds, "keys": torch.zeros_like(feeds["keys"])})

    profiles = (Profile(min_frames=8, opt_frames=20, max_frames=40),)

    def examples_at(num_frames: int) -> list[Feeds]:
        return [drawn_feeds(oracle, 2, num_frames, True)]

    assert list(check_plan(run, oracle, profiles, examples_at, "fp32", 3)) == ["8", "20", "40"]
    assert batches == [1, 3] * 3
    check_plan(unmasked, oracle, profiles, examples_at, "fp32")
    with pytest.raises(UnsupportedEngine, match="the built plan is wrong at 8 frames of 3 utterances: relative error"):
        check_plan(unmasked, oracle, profiles, examples_at, "fp32", 3)


@pytest.mark.parametrize(
    "name",
    [
        "tensorrt", "tensorrt_fp16", "tensorrt_fp32", "tensorrt_int8", "tensorrt_rtx_bf16", "tensorrt_rtx_fp16",
        "tensorrt_rtx_fp32", "tensorrt_rtx_int8",
    ],
)  # fmt: skip
def test_without_a_gpu_the_engine_says_so_and_what_to_use(name: str) -> None:
    with pytest.raises(UnsupportedEngine, match="needs a CUDA device") as refusal:
        engine(f"engine={name}")
    assert "device=cuda" in refusal.value.remedy


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["engine=tensorrt", "engine.precision=int8"], r"engine\.precision"),
        (["engine=tensorrt", "engine.profiles=[]"], r"engine\.profiles"),
        (["engine=tensorrt", "+engine.runtime=tensorrt_lite"], "must be tensorrt or tensorrt_rtx"),
        (["engine=tensorrt", "+engine.runtime=tensorrt_rtx"], "engine.specialise=null: belongs to engine.runtime"),
        (["engine=tensorrt", "+engine.cuda_graph=true"], "engine.cuda_graph=True: belongs to engine.runtime"),
        (["engine=tensorrt_rtx_bf16", "engine.specialise=never"], "must be one of eager, lazy, none"),
        (["engine=tensorrt_rtx_bf16", "engine.runtime=tensorrt"], "use engine.specialise=null"),
    ],
)
def test_settings_are_refused_before_anything_is_built(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        engine(*overrides)


def test_a_plan_of_before_there_was_a_choice_is_tensorrts(tmp_path: Path) -> None:
    path = tmp_path / "p.plan"
    write_plan(path, b"plan", HERE, CHECKS)
    said = json.loads(described(path).read_text("utf-8"))
    del said["identity"]["runtime"]
    described(path).write_text(json.dumps(said), "utf-8")
    assert read_plan(path, HERE) == (b"plan", CHECKS)
    with pytest.raises(UnsupportedEngine, match="runtime tensorrt, here tensorrt_rtx"):
        read_plan(path, replace(HERE, runtime="tensorrt_rtx"))


def test_a_plan_that_trtexec_built_is_taken_and_checked_before_it_is_used(
    built: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its description was written before it: of which version, card and bytes it is shows when it is run."""
    path, checked = tmp_path / "step.plan", []

    def verify(*_: object) -> dict[str, Any]:
        checked.append(path)
        return CHECKS

    monkeypatch.setattr(tensorrt_build, "verified", verify)
    write_described(path, HERE)
    with pytest.raises(UnsupportedEngine, match="cannot be read as a plan"):
        provided(given=path)
    path.write_bytes(b"of the board")
    assert provided(given=path).checks == CHECKS
    assert (checked, built) == ([path], [])
    for change in ({"precision": "fp16"}, {"groups": 1}, {"onnx_sha256": "c" * 64}):
        write_described(path, replace(HERE, **change))
        with pytest.raises(UnsupportedEngine, match=f"for something else: {next(iter(change))}"):
            provided(given=path)
