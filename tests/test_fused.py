"""The fused step without a GPU: its kernels in Triton's interpreter, and compiled to machine code for four targets."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.backends.fused.build import refuse_here
from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import ConfigError, UnsupportedEngine
from tests.engines import ROOT, WIDE, config

triton = pytest.importorskip("triton")

from engine.backends.fused import launch  # noqa: E402
from engine.backends.fused.step import FusedStep, refuse_arch  # noqa: E402
from engine.step.dit import Arch, DiTStep  # noqa: E402
from tests.fused_compiled import SHARED_BYTES, Recorder, check_compiled  # noqa: E402


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """What tests/fused_interpreted.py found, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "tests.fused_interpreted"]
    ran = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    found = json.loads(ran.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
def test_every_kernel_and_whole_evaluations_are_those_of_pytorch_in_float64(interpreted: dict[str, Any]) -> None:
    rows = interpreted["rows"]
    assert [row for row in rows if not row[1] <= row[2]] == []
    names = " ".join(name for name, _, _ in rows)
    for part in ("norm_modulate", "gelu_product", "gated_product", "rope_product", "rope behind", "first_convolution",
                 "second_convolution", "step 256", "step 1024", "bfloat16", "float16"):  # fmt: skip
        assert part in names, "a kernel that nobody looked at"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_a_half_type_the_fused_step_is_as_near_to_float64_as_the_eager_one(
    interpreted: dict[str, Any], dtype: str
) -> None:
    """The interpreter cuts bfloat16 off where a device rounds it."""
    fused, eager = interpreted["half"][dtype]
    assert 0 < fused < (1.1 if dtype == "float16" else 1.3) * eager


@pytest.mark.slow
def test_an_evaluation_launches_seven_or_eight_kernels_a_block_and_moves_a_third(interpreted: dict[str, Any]) -> None:
    """One block; three launches before it and two behind it."""
    traffic = interpreted["traffic"]
    for name, per_block in (("ours", 7), ("library's", 8)):
        assert sum(traffic[name]["launched"].values()) - 5 == per_block
        assert traffic[name]["elementwise"] == {}, "PyTorch launched something beside its products"
        assert 0 < traffic[name]["bytes"] <= traffic["eager"]["bytes"] / 3
    assert sum(traffic["eager"]["elementwise"].values()) > 15


@pytest.mark.slow
def test_the_choice_is_the_fastest_of_those_that_are_right_and_is_made_once(interpreted: dict[str, Any]) -> None:
    choices = interpreted["choices"]
    first, read, placed = choices["measured"]
    assert first == 1, "lengths of one bucket share a choice"
    assert read == 0, "another engine reads it from the cache"
    assert placed == 2, "a guided utterance may be evaluated with its unconditional row or without"
    assert choices["same"]
    found = choices["found"]["1 rows, up to 128 frames, masked"]
    for part in ("qkv", "out", "ff_in", "ff_out"):
        assert found[part]["chosen"] == min(found[part]["ms"], key=found[part]["ms"].get)
    assert "is wrong by" in found["ff_in"]["refused"]["cublaslt"], "GELU on a CPU is the exact one"
    assert set(found["attention"]["refused"]) == {"cudnn"}


def launches(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> list[tuple[Any, dict[str, Any]]]:
    """Everything that a guided, padded evaluation of a full-width model can launch, with every tile."""
    kept: list[tuple[Any, dict[str, Any]]] = []
    for name in ("norm_modulate", "rope", "product", "first_convolution", "second_convolution"):
        kernel = getattr(launch.kernels, f"{name}_kernel")
        monkeypatch.setattr(launch.kernels, f"{name}_kernel", Recorder(kernel, kept))
    kernels, a = launch.Kernels(), torch.zeros(2, 70, 1024, dtype=dtype)
    into, qkv, back = (nn.Linear(*size, dtype=dtype) for size in ((1024, 2048), (1024, 3072), (2048, 1024)))
    table = torch.zeros(70, 1, 64, dtype=dtype)
    weight, present = launch.by_taps(torch.zeros(1024, 64, 31, dtype=dtype)), torch.ones(2, 70, 1, dtype=dtype)
    kernels.norm_modulate(a, a[0, 0], a[0, 0])
    kernels.rope(torch.zeros(2, 70, 3072, dtype=dtype), launch.Rope(table, table, 16))
    kernels.first_convolution(a[:1], weight, a, present)
    kernels.second_convolution(a, (weight, a[0, 0]), a[:1], a, present)
    for tile in launch.TILES:
        kernels.rope_product(a, qkv, launch.Rope(table, table, 16), tile)
        hidden = kernels.gelu_product(a, into, tile)
        kernels.gated_product(hidden, back, a[0, 0], a, tile)
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(SHARED_BYTES))
def test_every_kernel_compiles_for_the_device_without_spills_and_within_its_memory(
    target: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = launches(monkeypatch, torch.float16 if target == 87 else torch.bfloat16)
    assert len(found) == 4 + 3 * len(launch.TILES)
    for kernel, given in found:
        check_compiled(kernel, given, target, tmp_path)


def test_tiles_that_a_device_cannot_hold_are_not_offered() -> None:
    assert launch.fitting_tiles(99 << 10) == launch.TILES
    assert launch.fitting_tiles(90 << 10) == launch.TILES[1:]


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.backends.fused.build.materials", lambda context: pytest.fail("weights were read"))


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("name", ["fused_bf16", "fused_fp16"])
def test_without_cuda_it_is_refused_before_weights_are_read(name: str) -> None:
    with pytest.raises(UnsupportedEngine, match=f"{name} is made of CUDA kernels and device.kind is cpu") as refusal:
        build_engine(config(f"engine={name}"), HostClock())
    assert refusal.value.remedy == "use device=cuda, or engine=compiled_bf16 here"


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("setting", "says"),
    [("engine.precision=int8", "must be one of bf16, fp16, int8_bf16"), ("engine.max_graphs=0", "from 1")],
)
def test_settings_that_cannot_be_meant_are_named(setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_engine(config("engine=fused_bf16", setting), HostClock())


def test_what_a_machine_with_cuda_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Tesla T4")
    with pytest.raises(
        UnsupportedEngine, match=r"needs compute capability 8\.0 and Tesla T4 has 7\.5; use engine=cuda_graph"
    ):
        refuse_here("cuda:0", "fused_fp16", "fp16")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 7))
    monkeypatch.setattr("shutil.which", lambda compiler: None)
    with pytest.raises(UnsupportedEngine, match=r"finds no C compiler; apt-get install g\+\+"):
        refuse_here("cuda:0", "fused_fp16", "fp16")
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(UnsupportedEngine, match="Triton, which is not installed; pip install triton"):
        refuse_here("cuda:0", "fused_fp16", "fp16")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dim_head": 32}, "dim_head=64, not 32"), ({"dim": 384}, "dim in multiples of 256, not 384"),
        ({"depth": 0}, "nothing to evaluate"), ({"ff_mult": 2.1}, "dim x ff_mult in multiples of 64, not 537"),
    ],
)  # fmt: skip
def test_a_model_that_the_kernels_do_not_divide_is_refused(changes: dict[str, Any], says: str) -> None:
    arch = Arch(**{"dim": 256, "depth": 1, "heads": 4, **changes})
    with pytest.raises(UnsupportedEngine, match=says):
        refuse_arch(arch)


def test_the_fused_step_holds_the_eager_steps_weights_and_no_others() -> None:
    model = config("engine=fused_bf16", *WIDE)["model"]
    step = DiTStep(Arch.of({**model["arch"], "depth": 1}), 100)
    before = sum(weight.numel() for weight in step.parameters())
    fused = FusedStep(step, lambda rows, frames, masked: pytest.fail("nothing is evaluated"), torch.bfloat16)
    assert sum(weight.numel() for weight in fused.parameters()) == before
