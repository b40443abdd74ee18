"""The step as a TensorRT plan: one execution context for the whole loop, addresses and shapes set, nothing copied but
the state. Run on the engine's own stream; the caller's stream waits for it on the device, not on the host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from engine.backends.tensorrt.plan_file import PlanIdentity
from engine.conditioner import Conditioning
from engine.contract import UnsupportedEngine
from engine.runtimes.profiles import choose_profile
from engine.settings import Proof
from engine.solver.guidance import Rows
from engine.step.dit import Arch, rope_table
from engine.step.inputs import Feeds
from engine.step.placed import Placed
from engine.step.tables import Tables

if TYPE_CHECKING:
    import tensorrt as trt

OUTPUT = "velocity"


class PlanRunner:
    """A deserialised plan with its context: inputs by name in, velocity out."""

    def __init__(self, plan: bytes, device: str):
        import tensorrt as trt

        self._device = torch.device(device)
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._runtime = trt.Runtime(self._logger)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise UnsupportedEngine(
                "TensorRT cannot read this plan (its log is on stderr)", "use engine.plan=null to build one here"
            )
        self._engine = engine
        self._context = engine.create_execution_context()
        self._stream = torch.cuda.Stream(self._device)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._profile = 0
        self.enqueues = 0
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self.dtypes = {name: torch_dtype(engine.get_tensor_dtype(name)) for name in names}

    def information(self) -> str:
        """The engine inspector's text, JSON."""
        import tensorrt as trt

        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

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
        for name, tensor in feeds.items():
            shape = tuple(tensor.shape)
            if self._shapes.get(name) != shape:
                if not self._context.set_input_shape(name, shape):
                    raise RuntimeError(f"TensorRT refuses shape {shape} for {name}")
                self._shapes[name] = shape
            self._context.set_tensor_address(name, tensor.data_ptr())
        dims = self._context.get_tensor_shape(OUTPUT)
        shape = tuple(dims[i] for i in range(len(dims)))
        velocity = torch.empty(shape, dtype=self.dtypes[OUTPUT], device=self._device)
        self._context.set_tensor_address(OUTPUT, velocity.data_ptr())
        caller = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(caller)
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise RuntimeError("TensorRT could not enqueue the step (its log is on stderr)")
        caller.wait_stream(self._stream)
        self.enqueues += 1
        return velocity


def torch_dtype(dtype: trt.DataType) -> torch.dtype:
    import tensorrt as trt

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
