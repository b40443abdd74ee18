"""The fused step's kernels as they would be launched, compiled to machine code for devices that are not here."""

import subprocess
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# Most shared memory a block can ask for, in bytes, and registers a multiprocessor: the CUDA C++ Programming Guide's
# table of technical specifications, by compute capability
SHARED_BYTES = {87: 163 << 10, 89: 99 << 10, 90: 227 << 10, 120: 99 << 10}
REGISTERS = 65536
TYPES = {
    torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32", torch.int8: "*i8",
    torch.float8_e4m3fn: "*fp8e4nv",
}  # fmt: skip


class Recorder:
    """Takes a kernel's place and keeps what it would have been launched with."""

    def __init__(self, kernel: Any, launches: list[tuple[Any, dict[str, Any]]]):
        self._kernel, self._launches = kernel, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launched(*args: Any, **named: Any) -> None:
            given = dict(zip(self._kernel.arg_names, args, strict=False)) | named
            self._launches.append((self._kernel, given))

        return launched


def compiled(kernel: Any, given: dict[str, Any], target: int) -> Any:
    """As Triton compiles it at its first launch: pointers aligned to 16 bytes, lengths not specialised."""
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = given[parameter.name]
        if isinstance(value, torch.Tensor):
            signature[parameter.name] = TYPES[value.dtype]
            attributes[(place,)] = [["tt.divisibility", 16]]
        elif parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        else:
            assert parameter.do_not_specialize, "a length that would compile again"
            signature[parameter.name] = "i32"
    options = {name: given[name] for name in ("num_warps", "num_stages") if name in given}
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)


def usage(made: Any, folder: Path) -> dict[str, int]:
    """Registers a thread and bytes of stack and local memory, where spilled registers go, as cuobjdump says it."""
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(made.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    said = subprocess.run([tool, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True).stdout
    fields = (field.split(":") for field in said.splitlines()[-1].split() if field.count(":") == 1)
    return {name: int(value) for name, value in fields if name in ("REG", "STACK", "LOCAL")}


def check_compiled(kernel: Any, given: dict[str, Any], target: int, folder: Path) -> Any:
    """What is made for the target, which spills nothing and fits into its registers and shared memory."""
    made = compiled(kernel, given, target)
    used = usage(made, folder)
    named = f"{kernel.__name__} {given.get('EPILOGUE', '')} {given.get('INPUTS', '')} on {target}: {used}"
    assert used["STACK"] == used["LOCAL"] == 0, f"spills: {named}"
    assert used["REG"] * 32 * made.metadata.num_warps <= REGISTERS, named
    assert made.metadata.shared <= SHARED_BYTES[target], named
    return made
