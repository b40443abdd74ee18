"""Running a plan of TensorRT-RTX, as far as no device is needed: kernels kept on disk, one address an input."""

import ctypes
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.backends.tensorrt.denoiser import PlanRunner
from engine.backends.tensorrt.rtx import KernelCache, RtxSettings, Slots, refuse_invalid
from engine.contract import UnsupportedEngine


class Compiled:
    """TensorRT-RTX's runtime cache: takes what it wrote itself, of one card."""

    def __init__(self, card: bytes = b"h200", kernels: bytes = b""):
        self.card, self.kernels = card, kernels

    def serialize(self) -> bytes:
        return self.card + self.kernels

    def deserialize(self, blob: bytes) -> bool:
        fits = blob.startswith(self.card)
        self.kernels = blob.removeprefix(self.card) if fits else self.kernels
        return fits


def test_compiled_kernels_are_there_in_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "k.kernels"
    assert not KernelCache(Compiled(), path).load()
    KernelCache(Compiled(kernels=b"one two"), path).keep()
    fresh = Compiled()
    cache = KernelCache(fresh, path)
    assert cache.load()
    assert fresh.kernels == b"one two"
    before = path.stat().st_ino
    cache.keep()
    assert path.stat().st_ino == before, "nothing new, nothing written"
    fresh.kernels += b" three"
    cache.keep()
    assert path.read_bytes()[32:] == b"h200one two three"
    assert [entry.name for entry in path.parent.iterdir()] == ["k.kernels"]


@pytest.mark.parametrize("size", [0, 31, 32, 40])
def test_a_cut_runtime_cache_is_said_and_made_anew(
    size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "k.kernels"
    KernelCache(Compiled(kernels=b"one two"), path).keep()
    path.write_bytes(path.read_bytes()[:size])
    compiled = Compiled()
    cache = KernelCache(compiled, path)
    assert not cache.load()
    assert compiled.kernels == b""
    assert capsys.readouterr().err == "k.kernels is damaged: kernels are compiled again\n"
    compiled.kernels = b"new"
    cache.keep()
    assert path.read_bytes() == hashlib.sha256(b"h200new").digest() + b"h200new"


def test_a_runtime_cache_of_another_card_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "k.kernels"
    KernelCache(Compiled(b"orin", b"one"), path).keep()
    assert not KernelCache(Compiled(b"h200"), path).load()
    assert "of another card, driver or version" in capsys.readouterr().err


def test_every_shape_of_an_input_lies_at_one_address() -> None:
    slots = Slots({"x": 24, "y": 4}, {"x": torch.float16, "y": torch.float32}, torch.device("cpu"))
    wide, narrow = torch.randn(2, 3, 4), torch.randn(1, 3, 4)
    first = slots.put("x", wide)
    assert (first.dtype, first.shape) == (torch.float16, wide.shape)
    assert torch.equal(first, wide.half())
    second = slots.put("x", narrow)
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(second, narrow.half())
    second.zero_()
    assert not slots.put("x", narrow).any(), "what lies there is not copied again"
    assert slots.of("y", (2, 2)).data_ptr() != first.data_ptr()


VALID, INVALID = object(), object()
FLAGS = {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4}
SIZES = {"x": (1, 8, 5), "projected": (2, 1, 8, 3)}


class FakeContext:
    """Writes into the velocity how often it has run."""

    def __init__(self) -> None:
        self.addresses: list[dict[str, int]] = []
        self.set: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> None:
        self.set[name] = address

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (*self.shapes["projected"][:3], self.shapes["x"][2])

    def execute_async_v3(self, stream: int) -> bool:
        self.addresses.append(dict(self.set))
        count = torch.Size(self.get_tensor_shape("velocity")).numel()
        for i in range(count):
            ctypes.c_float.from_address(self.set["velocity"] + 4 * i).value = len(self.addresses)
        return True


class FakeEngine:
    num_io_tensors, num_optimization_profiles = 3, 2

    def __init__(self, compiled: Compiled):
        self.context, self.compiled, self.configs = FakeContext(), compiled, []

    def get_tensor_name(self, i: int) -> str:
        return ("x", "projected", "velocity")[i]

    def get_tensor_dtype(self, name: str) -> str:
        return "f32"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return {"x": (1, -1, 5), "projected": (-1, 1, -1, 3)}[name]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [SIZES[name]] * 3

    def create_runtime_config(self) -> Any:
        self.configs.append(
            SimpleNamespace(create_runtime_cache=lambda: self.compiled, set_runtime_cache=lambda _: True)
        )
        return self.configs[-1]

    def create_execution_context(self, config: Any) -> FakeContext:
        return self.context


def fake_trt(engine: FakeEngine, validity: tuple[object, int] = (VALID, 0)) -> Any:
    runtime = SimpleNamespace(
        engine_header_size=4, get_engine_validity=lambda _: validity, deserialize_cuda_engine=lambda _: engine
    )
    return SimpleNamespace(
        Logger=_Logger, Runtime=lambda _: runtime,
        EngineValidity=SimpleNamespace(INVALID=INVALID), EngineInvalidityDiagnostics=SimpleNamespace(__members__=FLAGS),
        DataType=SimpleNamespace(FLOAT="f32", HALF="f16", BF16="bf16"),
        CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole", DISABLED="off"),
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="eager", LAZY="lazy", NONE="none"),
    )  # fmt: skip


class _Logger:
    WARNING = 2

    def __init__(self, severity: int):
        pass


class _Stream:
    cuda_stream = 7

    def __init__(self, device: object = None):
        pass

    def wait_stream(self, other: object) -> None:
        pass


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)


def settings(path: Path, **changes: Any) -> RtxSettings:
    return RtxSettings(**{"specialise": "eager", "cuda_graph": True, "kernels": path, **changes})


def feeds(num_frames: int) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(1, num_frames, 5), "projected": torch.randn(2, 1, num_frames, 3)}


def test_a_captured_evaluation_finds_everything_where_it_was(streams: None, tmp_path: Path) -> None:
    compiled = Compiled(kernels=b"first")
    engine = FakeEngine(compiled)
    runner = PlanRunner(b"plan", "cpu", fake_trt(engine), settings(tmp_path / "k.kernels"))
    (chosen,) = engine.configs
    assert (chosen.cuda_graph_strategy, chosen.dynamic_shapes_kernel_specialization_strategy) == ("whole", "eager")
    first, second, third = runner(feeds(8)), runner(feeds(8)), runner(feeds(4))
    assert [float(v.unique()) for v in (first, second, third)] == [1, 2, 3], "an answer stays when the next is made"
    assert (first.shape, third.shape) == ((2, 1, 8, 5), (2, 1, 4, 5))
    assert engine.context.addresses[0] == engine.context.addresses[1] == engine.context.addresses[2]


def test_kernels_are_kept_in_the_call_that_compiled_them(streams: None, tmp_path: Path) -> None:
    compiled, path = Compiled(kernels=b"first"), tmp_path / "k.kernels"
    runner = PlanRunner(b"plan", "cpu", fake_trt(FakeEngine(compiled)), settings(path, cuda_graph=False))
    runner(feeds(8))
    assert path.read_bytes()[32:] == b"h200first"
    compiled.kernels = b"second"
    runner(feeds(8))
    assert path.read_bytes()[32:] == b"h200first", "no new shape: nothing is written in a call that may be timed"
    runner(feeds(4))
    assert path.read_bytes()[32:] == b"h200second"


@pytest.mark.parametrize(
    ("found", "says"),
    [(1, "another version of TensorRT-RTX"), (2, "this card's compute capability"), (5, "version.*driver is too old"),
     (0, "cannot be used on this machine"), (FLAGS["OLD_CUDA_DRIVER"], "CUDA driver is too old for it")],
)  # fmt: skip
def test_a_plan_that_the_runtime_calls_invalid_is_refused_with_its_reason(found: int, says: str) -> None:
    trt = fake_trt(FakeEngine(Compiled()), (INVALID, found))
    with pytest.raises(UnsupportedEngine, match=says) as refusal:
        refuse_invalid(trt, trt.Runtime(None), b"plan")
    assert "engine.plan=null" in refusal.value.remedy
