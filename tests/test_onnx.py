"""The step through ONNX Runtime: the same answer as the eager step, bound memory, refusals, files on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.backends.eager.denoiser import EagerDenoiser
from engine.backends.onnx.build import step_graphs
from engine.backends.onnx.denoiser import OnnxDenoiser
from engine.backends.onnx.export import check_step
from engine.cache import cached_folder
from engine.clock import HostClock
from engine.context import Context, Materials, materials
from engine.contract import ConfigError, UnsupportedEngine
from engine.runtimes.onnx_session import SessionSettings, count_nodes, open_session, provider_options, refuse_fallback
from engine.solver.methods import solver_spec
from engine.step.conditioner import stack
from engine.step.examples import example_feeds, run_step
from engine.step.precision import apply_precision
from tests.engines import WIDE, config, engine, request

pytest.importorskip("onnxruntime")
STEP = 1e-4


def made(*overrides: str) -> tuple[Context, Materials]:
    composed = config("engine=onnx", *overrides)
    context = Context(composed, solver_spec(composed["solver"]), HostClock())
    return context, materials(context)


@pytest.fixture(scope="module", params=[(), WIDE], ids=["pocket", "full-width"])
def pair(request: pytest.FixtureRequest) -> tuple[EagerDenoiser, OnnxDenoiser]:
    context, parts = made(*request.param)
    example = example_feeds(parts.dit, 2, (64,), False)
    graphs = step_graphs(context, parts, padded=True)
    ours = OnnxDenoiser(graphs, SessionSettings(threads=2), parts.arch, parts.tables, example)
    return EagerDenoiser(apply_precision(parts.step, "fp32", "cpu"), parts.arch, parts.tables, "cpu"), ours


@pytest.mark.parametrize("frames", [33, 150, 401])
@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_rows_equal_the_eager_steps(
    pair: tuple[EagerDenoiser, OnnxDenoiser], frames: int, guided: bool, batch: int
) -> None:
    """Three lengths, batch 1 and 3 (padded: unequal lengths share it), guidance on and off; only real frames count."""
    eager, ours = pair
    generator = torch.Generator().manual_seed(frames)
    dim, lengths = eager._final.shape[-1], [frames, frames - 7, frames // 2][:batch]
    constants = [
        (torch.randn(1 + guided, n, dim, generator=generator), torch.randn(1 + guided, dim, n, generator=generator))
        for n in lengths
    ]
    conditioning = stack(constants)
    x = torch.randn(batch, frames, 100, generator=generator)
    with torch.inference_mode():
        expected = eager.bind(conditioning)(x, 3, guided)
        rows = ours.bind(conditioning)
        found = rows(x, 3, guided)
        kept = found.clone()
        rows(x + 1, 4, guided)
    assert torch.equal(found, kept), "a result stays what it was when the next evaluation runs"
    for row, length in enumerate(lengths * (1 + guided)):
        gap = (found[row, :length] - expected[row, :length]).norm() / expected[row, :length].norm()
        assert gap <= STEP


def test_mel_equals_the_oracles_and_the_proof_says_where_it_ran() -> None:
    ask = request("Turn left at the bridge.")
    with engine("engine=onnx") as ours, engine("engine=fp32") as oracle:
        mine, theirs = ours.synthesize([ask])[0], oracle.synthesize([ask])[0]
        warm = ours.facts.proof["steady_counters"]
        ours.synthesize([ask])
        proof = ours.facts.proof
    assert np.abs(mine.mel_ND - theirs.mel_ND).max() <= 1e-4
    assert list(proof["nodes_by_provider"]) == ["CPUExecutionProvider"]
    assert proof["nodes_by_op"]["MultiHeadAttention"] == 6, "one fused attention per block"
    assert proof["steady_counters"] == warm == {"sessions_created": 1}


def test_the_check_refuses_another_answer_and_not_a_number() -> None:
    _, parts = made()
    for factor in (1.01, float("nan")):

        def wrong(feeds: dict[str, torch.Tensor], factor: float = factor) -> torch.Tensor:
            return run_step(parts.dit, feeds) * factor

        with pytest.raises(UnsupportedEngine, match=r"from PyTorch at 37 of 37 frames, 1 guidance rows"):
            check_step(parts.dit, wrong, False, STEP)
    assert check_step(parts.dit, lambda feeds: run_step(parts.dit, feeds), False, STEP) == 0.0


def test_what_is_not_there_is_refused_and_what_does_not_exist_is_a_setting() -> None:
    with pytest.raises(ConfigError, match=r"engine.provider=openvino: must be one of cpu, cuda, tensorrt"):
        engine("engine=onnx", "engine.provider=openvino")
    with pytest.raises(ConfigError, match=r"engine.session.optimization=most"):
        engine("engine=onnx", "engine.session.optimization=most")
    with pytest.raises(ConfigError, match=r"engine.session.threads=4: is not known"):
        engine("engine=onnx", "+engine.session.threads=4")


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_absent_providers_are_refused_with_the_package_that_has_them(provider: str) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is installed")
    with pytest.raises(UnsupportedEngine, match=r"has no .*ExecutionProvider") as refusal:
        engine(f"engine=onnx_{provider}")
    assert "onnxruntime-gpu" in refusal.value.remedy


def test_tensorrt_keeps_engines_by_the_graphs_content_and_never_in_tf32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path))
    settings = SessionSettings(provider="tensorrt", device="cuda:1")
    folders = []
    for content in (b"one", b"other"):
        (tmp_path / "step.onnx").write_bytes(content)
        options = provider_options(settings, tmp_path / "step.onnx")
        assert options["device_id"] == "1"
        folders.append(options["trt_engine_cache_path"])
    assert folders[0] != folders[1]
    assert all(Path(folder).is_relative_to(tmp_path) and Path(folder).is_dir() for folder in folders)

    known = ["TensorrtExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    with pytest.raises(UnsupportedEngine, match="TF32") as refusal:
        settings.check()
    assert "NVIDIA_TF32_OVERRIDE=0" in refusal.value.remedy
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    settings.check()


def node(op: str, provider: str) -> dict[str, object]:
    return {"cat": "Node", "name": f"x_{op}_kernel_time", "args": {"op_name": op, "provider": provider}}


def test_a_gpu_provider_may_leave_shapes_to_the_cpu_and_nothing_else() -> None:
    gpu, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    events = [node("MatMul", gpu), node("Shape", cpu), node("Concat", cpu)]
    refuse_fallback("cuda", events)
    assert count_nodes(events) == ({gpu: 1, cpu: 2}, {"MatMul": 1, "Shape": 1, "Concat": 1})
    mixed = [node("TRTKernel", "TensorrtExecutionProvider"), node("SkipLayerNormalization", gpu)]
    with pytest.raises(UnsupportedEngine, match="left nodes to others: 1 SkipLayerNormalization to CUDA"):
        refuse_fallback("tensorrt", mixed)
    with pytest.raises(UnsupportedEngine, match="left nodes to others: 1 Softmax to CPU"):
        refuse_fallback("cuda", [*events, node("Softmax", cpu)])


def test_a_provider_that_was_dropped_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dropped:
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(SessionSettings, "check", lambda self: None)
    monkeypatch.setattr(
        "engine.runtimes.onnx_session.make_session", lambda path, options, settings, profiles: Dropped()
    )
    ran: list[object] = []
    with pytest.raises(UnsupportedEngine, match=r"did not activate CUDAExecutionProvider \(active: CPU"):
        open_session(tmp_path / "step.onnx", SessionSettings(provider="cuda", device="cuda:0"), ran.append)
    assert not ran


@pytest.mark.parametrize(("provider", "name"), [("cuda", "CUDA"), ("tensorrt", "Tensorrt")])
def test_a_provider_that_cannot_start_is_refused_with_its_own_reason_and_nothing_else_is_opened(
    provider: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime's constructor by itself opens the file with another provider then."""
    import onnxruntime

    context, parts = made()
    path = step_graphs(context, parts, padded=False)[False]
    create = onnxruntime.InferenceSession._create_inference_session

    def failing(session: object, providers: list[object], *rest: object) -> None:
        if providers != ["CPUExecutionProvider"]:
            raise RuntimeError("CUDA failure 35: the driver is too old\nin file x")
        create(session, providers, *rest)

    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path))  # of TensorRT's engines
    monkeypatch.setattr(SessionSettings, "check", lambda self: None)
    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", failing)
    says = rf"cannot open step.onnx with {name}ExecutionProvider \(CUDA failure 35: the driver is too old\)"
    with pytest.raises(UnsupportedEngine, match=says) as refusal:
        open_session(path, SessionSettings(provider=provider, device="cuda:0"), lambda session: None)
    assert "engine.provider=cpu" in refusal.value.remedy
    assert "Falling back" not in capsys.readouterr().out


def test_a_file_cut_short_is_one_clear_refusal(tmp_path: Path) -> None:
    context, parts = made()
    whole = step_graphs(context, parts, padded=False)[False].read_bytes()
    (tmp_path / "step.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnsupportedEngine, match=r"cannot open step\.onnx.*cut short or of another version"):
        open_session(tmp_path / "step.onnx", SessionSettings(), lambda session: None)


def test_the_cache_makes_once_repairs_damage_and_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path / "cache"))
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "step.onnx").write_bytes(b"graph")

    place = cached_folder("onnx_step", {"weights": "a"}, make)
    assert cached_folder("onnx_step", {"weights": "a"}, make) == place
    assert len(calls) == 1
    assert json.loads((place / "manifest.json").read_text())["made_from"] == {"weights": "a"}
    (place / "step.onnx").write_bytes(b"gra")
    assert (cached_folder("onnx_step", {"weights": "a"}, make) / "step.onnx").read_bytes() == b"graph"
    assert cached_folder("onnx_step", {"weights": "b"}, make) != place

    def fail(folder: Path) -> None:
        (folder / "part").write_bytes(b"x")
        raise UnsupportedEngine("no", "none")

    with pytest.raises(UnsupportedEngine):
        cached_folder("onnx_step", {"weights": "c"}, fail)
    assert len(list(place.parent.iterdir())) == 2
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="F5BENCH_CACHE"):
        cached_folder("onnx_step", {"weights": "a"}, make)
