"""Lengths that TensorRT plans for behind ONNX Runtime: the options' text, its key on disk, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.backends.onnx.build import step_graphs
from engine.backends.onnx.denoiser import OnnxDenoiser
from engine.backends.onnx.export import dynamic_axes
from engine.context import Build, assemble, materials
from engine.contract import ConfigError, InvalidRequest
from engine.runtimes.onnx_profiles import AXES, planned_of, profile_options
from engine.runtimes.onnx_session import SessionSettings, provider_options
from engine.solver.sampler import StepSampler
from engine.step.dit import Arch, DiTStep
from engine.step.examples import example_feeds
from tests.engines import config, engine, request
from tests.test_onnx import made

ONE = [[64, 100, 300]]


def test_profiles_are_written_as_onnx_runtime_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = DiTStep(Arch(dim=64, depth=2, heads=2, dim_head=32, ff_mult=2), 100)
    planned = planned_of("tensorrt", ONE, 3)
    assert planned is not None
    shapes = planned.shapes(example_feeds(step, 2, (64,), masked=True))
    options = profile_options(shapes)
    assert options["trt_profile_max_shapes"] == (
        "x:3x300x100,projected:2x3x300x64,convolved:2x3x64x300,cos:300x1x32,sin:300x1x32,modulation:2x6x64,final:2x64,"
        "frames:2x3x300x1,keys:2x3x1x1x300"
    )
    assert options["trt_profile_min_shapes"].startswith("x:1x64x100,projected:1x1x64x64,convolved:1x1x64x64,")
    assert options["trt_profile_opt_shapes"].startswith("x:1x100x100,projected:2x1x100x64,convolved:2x1x64x100,")

    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path))
    (tmp_path / "step.onnx").write_bytes(b"graph")
    settings = SessionSettings(provider="tensorrt", device="cuda:0")
    planned_for = provider_options(settings, tmp_path / "step.onnx", shapes)
    other = provider_options(settings, tmp_path / "step.onnx", {**shapes, "max": shapes["opt"]})
    assert planned_for.items() >= options.items()
    assert planned_for["trt_engine_cache_path"] != other["trt_engine_cache_path"], "engines of other profiles"


def test_every_axis_that_varies_in_the_graph_varies_in_the_profile() -> None:
    axes = {name: {i for i, letter in enumerate(letters) if letter != "."} for name, letters in AXES.items()}
    exported = dynamic_axes(masked=True)
    assert axes == {name: set(dims) for name, dims in exported.items() if dims}
    named = {str(dim.__name__) for dims in exported.values() for dim in dims.values()}
    assert named == set("".join(AXES.values())) - {"."}


def test_a_shape_outside_the_profiles_is_refused_before_anything_is_built_for_it() -> None:
    """The same denoiser on the CPU, where any length would run."""
    context, parts = made()
    planned = planned_of("tensorrt", ONE, 1)
    example = example_feeds(parts.dit, 2, (64,), False)
    graphs = step_graphs(context, parts, padded=False)
    denoiser = OnnxDenoiser(graphs, SessionSettings(threads=2), parts.arch, parts.tables, example, planned)
    build = Build(name="onnx", denoiser="onnx_graph", precision="fp32", step_bytes=0, max_batch=1)
    with assemble(context, materials(context), StepSampler(denoiser, context.solver), build) as ours:
        assert len(ours.synthesize([request("Turn left.", num_frames=100)])[0].mel_ND) == 100
        with pytest.raises(InvalidRequest, match="the plan holds no utterance of"):
            ours.synthesize([request("Turn left.", num_frames=400)])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["engine=onnx_tensorrt", "engine.profiles=null"], "must say which lengths TensorRT plans for"),
        (["engine=onnx_tensorrt", "engine.profiles=[[100,64,200]]"], "engine.profiles"),
        (["engine=onnx_tensorrt", "engine.profiles=[[64,90,99],[100,150,200]]"], "uses the first profile alone"),
        (["engine=onnx", "+engine.profiles=[[64,100,200]]"], "provider=cpu takes any length without a plan"),
    ],
)
def test_profiles_missing_misplaced_or_out_of_order_are_settings(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        engine(*overrides)
    assert says in str(refused.value)


def test_the_preset_plans_for_the_lengths_of_the_other_tensorrt_engines() -> None:
    (ours,), others = (config(f"engine={name}")["engine"]["profiles"] for name in ("onnx_tensorrt", "tensorrt"))
    assert (ours[0], ours[-1]) == (others[0][0], others[-1][-1])
