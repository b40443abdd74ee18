"""A capture that fails: what was there before it is there after it, and what can still be captured is."""

from collections.abc import Callable

import pytest
import torch

from engine.contract import UnsupportedEngine
from engine.runtimes.cuda_graphs import CaptureFailed, CudaRecorder, KeptGraphs
from engine.runtimes.onnx_package import runtime_failures
from engine.step.precision import apply_precision
from engine.step.unett import UNetTArch, UNetTStep
from tests.fake_cuda import FakeCuda


def out_of_memory(cuda: FakeCuda) -> None:
    """In the capture alone, whose pool asks for its memory afresh."""
    if cuda.recording:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")


def mistaken(cuda: FakeCuda) -> None:
    if cuda.recording:
        raise KeyError("a mistake of ours")


@pytest.mark.parametrize(
    ("fails", "raised", "says"),
    [
        (FakeCuda.break_capture, CaptureFailed, "operation not permitted when stream is capturing"),
        (out_of_memory, CaptureFailed, r"OutOfMemoryError: CUDA out of memory.*lower engine.max_graphs or engine.max_"),
        (mistaken, KeyError, "a mistake of ours"),
    ],
)
def test_after_a_failed_capture_everything_is_as_before_and_the_next_one_works(
    fails: Callable[[FakeCuda], None], raised: type[Exception], says: str
) -> None:
    cuda = FakeCuda()
    recorder, generator = CudaRecorder("cuda:0", cuda), cuda.default_generators[0]
    state = generator.state
    first, _ = recorder.record(lambda: "first")
    with pytest.raises(raised, match=says):
        recorder.record(lambda: fails(cuda))
    assert cuda.stream_now is cuda.default_stream
    assert cuda.recording == [], "the allocator serves everybody again"
    assert generator.state is state
    generator.manual_seed(7)
    second, made = recorder.record(lambda: "second")
    assert made == "second"
    first()
    second()
    generator.manual_seed(8)
    assert state.seed == 8


def test_the_memory_of_a_broken_capture_is_given_up_once_and_that_of_whole_ones_is_kept() -> None:
    cuda = FakeCuda()
    recorder = CudaRecorder("cuda:0", cuda)
    recorder.record(lambda: None)
    with pytest.raises(CaptureFailed):
        recorder.record(cuda.break_capture)
    recorder.record(lambda: None)
    assert cuda.uses == {1: 1, 2: 1}


def test_an_error_before_the_capture_is_told_in_the_same_words() -> None:
    def never() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    cuda = FakeCuda()
    with pytest.raises(CaptureFailed, match="no graph was captured"):
        CudaRecorder("cuda:0", cuda).record(never)
    assert cuda.stream_now is cuda.default_stream
    assert issubclass(CaptureFailed, runtime_failures()), "it costs one engine of a GPU check alone"


@pytest.mark.parametrize("precision", ["bf16", "int8_torchao"])
def test_a_card_without_bfloat16_is_refused_and_one_with_it_is_not(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    step = UNetTStep(UNetTArch.of({"dim": 32, "depth": 2, "heads": 1, "dim_head": 32}), 8)
    with pytest.raises(
        UnsupportedEngine, match=r"bfloat16 needs compute capability 8.0 and Tesla T4 has 7.5"
    ) as refusal:
        apply_precision(step, precision, "cuda:0")
    assert refusal.value.remedy.startswith("use engine=fp16")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 7))
    assert apply_precision(step, "bf16", "cuda:0").dtype == torch.bfloat16


def test_more_keys_than_graphs_are_kept_drops_the_oldest_and_counts_it() -> None:
    kept: KeptGraphs[int, str] = KeptGraphs(2)
    for key in (1, 2, 1, 3, 1, 2):
        assert kept.of(key, lambda key=key: f"graph {key}") == f"graph {key}"
    assert len(kept) == 2
    assert kept.steady_counters() == {"graph_captures": 4, "graphs_evicted": 2}


def test_a_graph_that_could_not_be_captured_costs_no_other_one() -> None:
    def full() -> str:
        raise CaptureFailed(torch.OutOfMemoryError("CUDA out of memory."))

    kept: KeptGraphs[str, str] = KeptGraphs(1)
    kept.of("short", lambda: "graph")
    with pytest.raises(CaptureFailed):
        kept.of("long", full)
    assert kept.of("short", full) == "graph"
    assert (kept.captures, kept.evicted, kept.failed, len(kept)) == (1, 0, 1, 1)
