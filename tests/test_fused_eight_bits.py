"""engine=fused_int8, fused_fp8 without a GPU: kernels in Triton's interpreter, and compiled for four targets."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.backends.fused.build import refuse_here
from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import UnsupportedEngine
from tests.engines import ROOT, WIDE, config

triton = pytest.importorskip("triton")

from engine.backends.fused import launch  # noqa: E402
from engine.backends.fused.eight_bits import FP8, INT8, Form, QuantisedLinear  # noqa: E402
from engine.backends.fused.step import FusedStep, refuse_arch  # noqa: E402
from engine.step.dit import Arch, DiTStep  # noqa: E402
from engine.step.precision import weight_bytes, weight_histogram  # noqa: E402
from tests.fused_compiled import Recorder, check_compiled  # noqa: E402

FORMS = {"int8": INT8, "fp8": FP8}
TARGETS = [(87, "int8"), *((target, form) for target in (89, 90, 120) for form in ("int8", "fp8"))]


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """What tests/fused_interpreted_in_eight_bits.py found, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "tests.fused_interpreted_in_eight_bits"]
    ran = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    found = json.loads(ran.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
def test_every_kernel_is_pytorchs_arithmetic_in_float64_on_the_same_operands(interpreted: dict[str, Any]) -> None:
    rows = interpreted["rows"]
    assert [row for row in rows if not row[1] <= row[2]] == []
    names = " ".join(name for name, _, _ in rows)
    for part in ("whole sums by row", "whole sums by group", "norm_modulate 768 int8", "norm_modulate 1024 fp8",
                 "gelu_product 1024", "gated_product by groups 1024", "gated_product read 256", "rope_product 1024",
                 "rope behind cuBLASLt's", "int8 float16", "fp8 float32"):  # fmt: skip
        assert part in names, "a kernel that nobody looked at"


@pytest.mark.slow
@pytest.mark.parametrize(("form", "most"), [("int8", 0.01), ("fp8", 0.04)])
def test_an_evaluation_rounds_to_eight_bits_and_does_nothing_else_to_the_answer(
    form: str, most: float, interpreted: dict[str, Any]
) -> None:
    """Whole steps of one utterance and of three ragged ones, guided and not, 256 and 1024 wide."""
    steps = [row for row in interpreted["steps"] if row[0].startswith(form)]
    assert len(steps) == (4 if form == "int8" else 5)
    for name, from_the_same, from_exact in steps:
        assert from_the_same < 2e-3, name
        assert 2e-3 < from_exact < most, name


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_speaking_models_mel_is_within_a_twentieth_of_float32s(form: str, interpreted: dict[str, Any]) -> None:
    found = interpreted["pocket"][form]
    assert 1e-4 < found["error"] < 5e-2
    proof = found["proof"]
    assert proof["quantized_linears"] == 4 * 6
    (counted,) = proof["counters"]
    assert (counted["rows"], counted["masked"]) == (2, False)
    assert sum(counted["launched"].values()) == 7 * 6 + 5
    assert set(proof["chosen_kernels"]) == {"1 rows, up to 128 frames", "2 rows, up to 128 frames"}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_pytorch_runs_nothing_beside_its_products_and_the_proof_says_so(form: str, interpreted: dict[str, Any]) -> None:
    found = interpreted["traffic"][form]
    assert found["seen"] == {}
    assert sum(found["counted"]["launched"].values()) == 7 + 5
    assert set(found["counted"]["eager"]) <= {"set_", "copy_"}, "the interpreter's own copies"


@pytest.mark.slow
def test_cublaslt_is_asked_where_its_epilogue_fits_and_named_where_not(interpreted: dict[str, Any]) -> None:
    int8, fp8 = (interpreted["choices"][form] for form in FORMS)
    assert "no epilogue" in int8["qkv"]["refused"]["cublaslt"]
    assert "cublaslt" in fp8["qkv"]["ms"]
    for found in (int8, fp8):
        assert "no GELU that quantises" in found["ff_in"]["refused"]["cublaslt"]
        for part in ("qkv", "out", "ff_in", "ff_out"):
            assert found[part]["chosen"] == min(found[part]["ms"], key=found[part]["ms"].get)


def launches(monkeypatch: pytest.MonkeyPatch, form: Form, dtype: torch.dtype) -> list[tuple[Any, dict[str, Any]]]:
    """What a full-width model launches in eight bits beside what it shares with the half types, with every tile."""
    kept: list[tuple[Any, dict[str, Any]]] = []
    for name in ("norm_modulate", "product"):
        kernel = getattr(launch.kernels, f"{name}_kernel")
        monkeypatch.setattr(launch.kernels, f"{name}_kernel", Recorder(kernel, kept))
    kernels, a = launch.Kernels(), torch.zeros(2, 70, 1024, dtype=dtype)
    into, qkv, out, back = (
        QuantisedLinear(torch.zeros(outputs, inputs), torch.zeros(outputs, dtype=dtype), form)
        for inputs, outputs in ((1024, 2048), (1024, 3072), (1024, 1024), (2048, 1024))
    )
    normed, table = kernels.norm_modulate(a, a[0, 0], a[0, 0], form), torch.zeros(70, 1, 64, dtype=dtype)
    for tile in launch.TILES_8_BITS:
        kernels.rope_product(normed, qkv, launch.Rope(table, table, 16), tile)
        kernels.gated_product(a, out, a[0, 0], a, tile)
        kernels.gated_product(kernels.gelu_product(normed, into, tile), back, a[0, 0], a, tile)
    return kept


@pytest.mark.slow
@pytest.mark.parametrize(("target", "form"), TARGETS)
def test_every_kernel_compiles_to_tensor_cores_without_spills_and_within_memory(
    target: int, form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = launches(monkeypatch, FORMS[form], torch.float16 if form == "int8" else torch.bfloat16)
    assert len(found) == 1 + 4 * len(launch.TILES_8_BITS)
    for kernel, given in found:
        made = check_compiled(kernel, given, target, tmp_path)
        if kernel.__name__ == "product_kernel":
            kinds = {"int8": ".s32.s8.s8", "fp8": ".f32.e4m3.e4m3"}
            assert kinds[form] in made.asm["ptx"], "it multiplies in another type"


def test_a_tile_that_a_device_cannot_hold_is_not_offered() -> None:
    assert launch.fitting_tiles(99 << 10, eight_bits=True) == launch.TILES_8_BITS
    assert launch.fitting_tiles(90 << 10, eight_bits=True) == launch.TILES_8_BITS[1:]


@pytest.mark.parametrize("name", ["fused_int8", "fused_fp8"])
def test_without_cuda_it_is_refused_before_weights_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.backends.fused.build.materials", lambda context: pytest.fail("weights were read"))
    with pytest.raises(UnsupportedEngine, match=f"{name} is made of CUDA kernels and device.kind is cpu") as refusal:
        build_engine(config(f"engine={name}"), HostClock())
    assert refusal.value.remedy == "use device=cuda, or engine=compiled_bf16 here"


def test_fp8_is_refused_where_no_tensor_core_has_it_and_int8_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 7))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Orin")
    with pytest.raises(UnsupportedEngine, match=r"capability 8\.9, and Orin has 8\.7; use engine=fused_int8"):
        refuse_here("cuda:0", "fused_fp8", "fp8_bf16")
    refuse_here("cuda:0", "fused_int8", "int8_fp16")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 9))
    refuse_here("cuda:0", "fused_fp8", "fp8_bf16")


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"ff_mult": 0.75}, "dim x ff_mult in multiples of 128, not 192"),
     ({"heads": 3}, "heads x dim_head in multiples of 128, not 192")],
)  # fmt: skip
def test_a_model_that_groups_do_not_divide_is_refused(changes: dict[str, Any], says: str) -> None:
    arch = Arch(**{"dim": 256, "depth": 1, "heads": 4, **changes})
    refuse_arch(arch)
    with pytest.raises(UnsupportedEngine, match=says):
        refuse_arch(arch, eight_bits=True)


@pytest.mark.parametrize(("form", "dtype"), [("int8", "int8"), ("fp8", "float8_e4m3fn")])
def test_the_blocks_weights_take_a_byte_each_and_scales_beside_them(form: str, dtype: str) -> None:
    model = config("engine=fused_int8", *WIDE)["model"]
    arch = Arch.of({**model["arch"], "depth": 1})
    step = DiTStep(arch, 100)
    before = sum(weight.numel() for weight in step.parameters())
    fused = FusedStep(step, lambda *_: pytest.fail("nothing is evaluated"), torch.float16, FORMS[form])
    held = weight_histogram(fused)
    inner, hidden = arch.heads * 64, int(arch.dim * arch.ff_mult)
    products = arch.dim * (4 * inner + 2 * hidden)
    scales = 3 * inner + 2 * arch.dim + hidden
    assert held == {dtype: products, "float16": before - products, "float32": scales}
    assert weight_bytes(held) == products + 2 * (before - products) + 4 * scales
