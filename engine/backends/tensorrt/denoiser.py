"""The step as a TensorRT plan: one execution context for the whole loop, addresses and shapes set, nothing copied but
the state. Run on the engine's own stream; the caller's stream waits for it on the device, not on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from engine.backends.tensorrt.plan_file import PlanIdentity
from engine.backends.tensorrt.rtx import (
    REBUILD,
    KernelCache,
    RtxSettings,
    Slots,
    execution_context,
    most_elements,
    refuse_invalid,
)
from engine.contract import Proof, UnsupportedEngine
from engine.runtimes.profiles import choose_profile
from engine.solver.guidance import Rows
from engine.step.conditioner import Conditioning
from engine.step.dit import Arch, rope_table
from engine.step.inputs import Feeds
from engine.step.placed import Placed
from engine.step.tables import Tables

OUTPUT = "velocity"


class PlanRunner:
    """A deserialised plan with its context: inputs by name in, velocity out. trt: the module of the plan's runtime;
    rtx: of TensorRT-RTX, None for TensorRT."""

    def __init__(self, plan: bytes, device: str, trt: Any, rtx: RtxSettings | None = None):
        self._device, self._trt = torch.device(device), trt
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._runtime = trt.Runtime(self._logger)
        if rtx is not None:
            refuse_invalid(trt, self._runtime, plan)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise UnsupportedEngine("TensorRT cannot read this plan (its log is on stderr)", REBUILD)
        self._engine = engine
        self._kernels: KernelCache | None = None
        if rtx is None:
            self._context = engine.create_execution_context()
        else:
            self._context, self._kernels = execution_context(trt, engine, rtx)
        self._stream = torch.cuda.Stream(self._device)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._profile = 0
        self.enqueues = 0
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self.dtypes = {name: torch_dtype(trt, engine.get_tensor_dtype(name)) for name in names}
        self._slots = self._made_slots(names) if rtx is not None and rtx.cuda_graph else None

    def _made_slots(self, names: list[str]) -> Slots:
        sizes = most_elements(self._engine, {name: name != OUTPUT for name in names})
        rows = sizes["projected"] // self._engine.get_tensor_shape("projected")[3]  # guidance rows, batch, frames
        return Slots({**sizes, OUTPUT: rows * self._engine.get_tensor_shape("x")[2]}, self.dtypes, self._device)

    def information(self) -> str:
        """The engine inspector's text, JSON."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def context_bytes(self) -> int:
        """Device memory of the one context (the largest profile's)."""
        # Removed in TensorRT 11, where only the newer name is left; before 10.1 only the older one exists
        name = "device_memory_size_v2" if "device_memory_size_v2" in dir(self._engine) else "device_memory_size"
        return int(getattr(self._engine, name))

    def use_profile(self, index: int) -> None:
        if index != self._profile:
            self._context.set_optimization_profile_async(index, self._stream.cuda_stream)
            self._profile = index
            self._shapes.clear()  # TensorRT forgets them with the profile

    def place(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """As the plan reads it: its dtype, contiguous, on the device."""
        return tensor.to(self._device, self.dtypes[name]).contiguous()

    def __call__(self, feeds: Feeds) -> torch.Tensor:
        """Placed inputs -> velocity (G, B, N, D) in the plan's dtype. Valid on the caller's stream."""
        is_new = self._set(feeds)
        dims = self._context.get_tensor_shape(OUTPUT)
        shape = tuple(dims[i] for i in range(len(dims)))
        if self._slots is None:
            velocity = torch.empty(shape, dtype=self.dtypes[OUTPUT], device=self._device)
        else:
            velocity = self._slots.of(OUTPUT, shape)
        self._context.set_tensor_address(OUTPUT, velocity.data_ptr())
        caller = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(caller)
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise RuntimeError("TensorRT could not enqueue the step (its log is on stderr)")
        caller.wait_stream(self._stream)
        self.enqueues += 1
        if is_new and self._kernels is not None:
            self._kernels.keep()  # in the call that waited for them anyway
        return velocity if self._slots is None else velocity.clone()

    def _set(self, feeds: Mapping[str, torch.Tensor]) -> bool:
        """Shapes and addresses of the inputs; whether a shape is another one than before."""
        is_new = False
        for name, tensor in feeds.items():
            shape = tuple(tensor.shape)
            if self._shapes.get(name) != shape:
                if not self._context.set_input_shape(name, shape):
                    raise RuntimeError(f"TensorRT refuses shape {shape} for {name}")
                self._shapes[name], is_new = shape, True
            lying = tensor if self._slots is None else self._slots.put(name, tensor)
            self._context.set_tensor_address(name, lying.data_ptr())
        return is_new


def torch_dtype(trt: Any, dtype: Any) -> torch.dtype:
    known = {
        trt.DataType.FLOAT: torch.float32, trt.DataType.HALF: torch.float16, trt.DataType.BF16: torch.bfloat16,
    }  # fmt: skip
    if dtype not in known:
        raise UnsupportedEngine(f"the plan reads or writes {dtype}", "export the step in fp32, fp16 or bf16")
    return known[dtype]


class TensorRTDenoiser:
    """Implements engine.solver.sampler.Denoiser."""

    def __init__(self, runner: PlanRunner, identity: PlanIdentity, arch: Arch, tables: Tables, proof: Proof):
        self._runner, self._identity, self._arch, self._proof = runner, identity, arch, dict(proof)
        self._modulation = runner.place("modulation", tables.modulation)
        self._final = runner.place("final", tables.final)
        self.num_evals = 0

    def bind(self, conditioning: Conditioning) -> Rows:
        runner, identity = self._runner, self._identity
        batch, num_frames = len(conditioning.lengths), conditioning.num_frames
        runner.use_profile(choose_profile(identity.profiles, num_frames, batch, identity.max_batch))
        placed = self._placed(conditioning)

        def rows(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            self.num_evals += 1
            inputs = placed.at(runner.place("x", x), self._modulation[index], self._final[index], guided)
            return runner(inputs.grouped().feeds()).flatten(0, 1).float()

        return rows

    def _placed(self, conditioning: Conditioning) -> Placed:
        """Each constant in the dtype in which the plan reads it."""
        cos, sin = rope_table(conditioning.num_frames, self._arch)
        rope = self._runner.place("cos", cos), self._runner.place("sin", sin)
        placed = Placed.of(conditioning, rope, torch.float32, masked=self._identity.max_batch > 1)
        return replace(placed, **{name: self._runner.place(name, value) for name, value in placed.own().items()})

    def proof(self) -> Proof:
        return {**self._proof, "num_evals": self.num_evals, "tensorrt_enqueues": self._runner.enqueues}
