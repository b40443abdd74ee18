"""The step compiled by torch.compile: what is compiled is what the solver calls, with no graph break.

region=step is one graph with the weights as inputs: frozen into it they would keep the compiled graph out of inductor's
cache on disk. On a CPU they are packed for oneDNN (engine.step.packed), as freezing would. region=block compiles one
block with its weights as inputs and calls it for every block, so a model of 22 blocks costs no more to compile than
one of 6; the convolutions before the blocks stay eager.

Dynamic shapes compile once per kind of batch (one utterance or several, guided or not, padded or not) and then take any
length, but that bfloat16 attention on a CPU without tiles (`small_gemm`) compiles once more beyond the length at which
its scores leave SCORES_MAX_BYTES: for a guided utterance 512 frames, reference included, at full size and 1024 on
pocket. Static ones compile per bucket of lengths, the padding behind each utterance masked. The compiler sits behind a
counter, so that a compilation inside a timed region shows, and every evaluation is known to have run in a compiled
graph: torch.compile gives back the plain function where it is switched off.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from engine.backends.eager.denoiser import EagerDenoiser
from engine.contract import ConfigError, Proof
from engine.runtimes.inductor import CountingInductor, ready_compiler
from engine.solver.guidance import Rows
from engine.step.conditioner import Conditioning
from engine.step.placed import Placed
from engine.step.unett import Step

STEPS_KEPT = 2
EAGER = "engine=bf16"  # what needs no compiler


@dataclass(frozen=True, kw_only=True, slots=True)
class CompileOptions:
    """region: `step` or `block`. shapes: `dynamic` or `bucketed`. bucket_frames: lengths are padded to a multiple of it
    and the padding masked; with dynamic shapes this serves kernels that like multiples, None leaves lengths alone.
    inductor: settings of torch._inductor.config, as written there."""

    region: str
    shapes: str
    bucket_frames: int | None
    inductor: Mapping[str, object]

    @staticmethod
    def of(
        region: str, shapes: str, bucket_frames: int | None, inductor: Mapping[str, object] | None
    ) -> CompileOptions:
        """Raises ConfigError for settings that cannot be meant."""
        if region not in ("step", "block"):
            raise ConfigError("engine.region", region, "must be step or block", "use engine.region=step")
        if shapes not in ("dynamic", "bucketed"):
            raise ConfigError("engine.shapes", shapes, "must be dynamic or bucketed", "use engine.shapes=dynamic")
        whole = isinstance(bucket_frames, int) and not isinstance(bucket_frames, bool) and bucket_frames > 0
        if (shapes == "bucketed" and bucket_frames is None) or not (bucket_frames is None or whole):
            raise ConfigError(
                "engine.bucket_frames", bucket_frames, f"with engine.shapes={shapes} must be "
                + ("a positive whole number" if shapes == "bucketed" else "a positive whole number or null"),
                "use engine.shapes=bucketed engine.bucket_frames=64",
            )  # fmt: skip
        return CompileOptions(region=region, shapes=shapes, bucket_frames=bucket_frames, inductor=dict(inductor or {}))


_COUNTERS: dict[str, CountingInductor] = {}
_STEPS: OrderedDict[str, Any] = OrderedDict()


def counting_inductor(options: CompileOptions) -> CountingInductor:
    """One per setting and process: Dynamo takes a block that it has compiled for one engine for the next one's too, if
    the backend is the same object. An engine reads what was added since it was built."""
    return _COUNTERS.setdefault(repr(sorted(options.inductor.items())), CountingInductor(options.inductor))


def compile_step(step: Step, options: CompileOptions, device: str, identity: str) -> tuple[Any, CountingInductor]:
    """step -> (what to call instead, its counter). Nothing is compiled before the first call. The last steps of a
    process are kept by `identity` (weights, precision), so that the same engine on another grid is not compiled again.

    Raises UnsupportedEngine where the compiler's own needs are not met, ConfigError for settings it does not know."""
    ready_compiler(options.inductor, device, "engine", EAGER)
    counter = counting_inductor(options)
    dynamic = options.shapes == "dynamic"
    if options.region == "step":
        key = f"{identity} {options} {device} {torch.get_num_threads()}"
        if key not in _STEPS:
            _STEPS[key] = torch.compile(step, fullgraph=True, dynamic=dynamic, backend=counter)
        _STEPS.move_to_end(key)
        while len(_STEPS) > STEPS_KEPT:
            _STEPS.popitem(last=False)
        return _STEPS[key], counter
    for block in step.blocks:
        block.compile(fullgraph=True, dynamic=dynamic, backend=counter)
    return step, counter


def padded_to(conditioning: Conditioning, num_frames: int) -> Conditioning:
    """The same utterances with room behind them; their own lengths stay, so the padding is masked."""
    room = num_frames - conditioning.num_frames
    return replace(
        conditioning,
        projected=F.pad(conditioning.projected, (0, 0, 0, room)),
        convolved=F.pad(conditioning.convolved, (0, room)),
    )


class CompiledDenoiser:
    """Implements engine.solver.sampler.Denoiser around an EagerDenoiser whose step is compiled."""

    def __init__(self, inner: EagerDenoiser, counter: CountingInductor, options: CompileOptions):
        self._inner, self._counter, self._options = inner, counter, options
        self._before = counter.compilations, counter.compile_s
        self._compiled_evals = 0

    @property
    def num_evals(self) -> int:
        return self._inner.num_evals

    def bind(self, conditioning: Conditioning) -> Rows:
        return self.rows(self.place(conditioning))

    def place(self, conditioning: Conditioning) -> Placed:
        bucket = self._options.bucket_frames
        if bucket is None:
            return self._inner.place(conditioning)
        padded = padded_to(conditioning, -(-conditioning.num_frames // bucket) * bucket)
        return self._inner.place(padded, masked=True)  # also where nothing is padded: one graph for all

    def rope(self, num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._inner.rope(num_frames)

    def rows(self, placed: Placed) -> Rows:
        inner, num_frames, counter = self._inner.rows(placed), placed.projected.shape[1], self._counter

        def rows(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            own, before = x.shape[1], counter.runs
            room = num_frames - own  # of a bucket
            velocity = inner(F.pad(x, (0, 0, 0, room)) if room else x, index, guided)
            counter.refuse_eager(before, EAGER)
            self._compiled_evals += 1
            return velocity[:, :own] if room else velocity

        return rows

    def proof(self) -> Proof:
        return {
            **self._inner.proof(),
            "compiled_evals": self._compiled_evals,
            "steady_counters": {"compilations": self._counter.compilations - self._before[0]},
            "compile_s": round(self._counter.compile_s - self._before[1], 3),
            "compiled_region": self._options.region,
            "shapes": self._options.shapes,
            "bucket_frames": self._options.bucket_frames,
            "inductor": dict(self._options.inductor),
        }
