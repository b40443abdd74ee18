"""The step run by ONNX Runtime: one session per form of the graph, inputs and outputs bound to torch's memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from engine.backends.onnx.export import OUTPUT
from engine.contract import Proof
from engine.runtimes.onnx_binding import bind, bind_result, run_bound
from engine.runtimes.onnx_profiles import Planned
from engine.runtimes.onnx_session import Opened, SessionSettings, constants_by_dtype, open_session
from engine.solver.guidance import Rows
from engine.step.conditioner import Conditioning
from engine.step.dit import Arch, rope_table
from engine.step.inputs import CHANGING, Feeds, mask_feeds
from engine.step.kept import KeptTables
from engine.step.placed import Placed
from engine.step.tables import Tables

INT8_OPS = ("QGemm", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QLinearMatMul")
Graphs = Mapping[bool, Path]
"""The step's ONNX file without (False) and with masks (True)."""


def run_once(session: Any, feeds: Feeds, shape: tuple[int, ...]) -> torch.Tensor:
    """One run with everything bound; shape: of the velocity."""
    binding, velocity = session.io_binding(), torch.empty(shape, device=feeds["x"].device)
    for name, tensor in feeds.items():
        bind(binding, name, tensor)
    bind_result(binding, OUTPUT, velocity)
    run_bound(session, binding, velocity.device)
    return velocity


class OnnxDenoiser:
    """Implements engine.solver.sampler.Denoiser. The session for padded batches is opened when the first one comes."""

    def __init__(
        self, graphs: Graphs, settings: SessionSettings, arch: Arch, tables: Tables, example: Feeds,
        planned: Planned | None = None,
    ):  # fmt: skip
        self._graphs, self._settings, self._arch, self._example = graphs, settings, arch, example
        self._planned = planned
        device = settings.device
        self._modulation, self._final = tables.modulation.to(device), tables.final.to(device)
        self._opened: dict[bool, Opened] = {}
        self._rope = KeptTables(self._rope_table)
        self._elements = constants_by_dtype(graphs[False])
        self._products: str | None = None
        self.num_evals = 0
        self._session(masked=False)

    def _session(self, masked: bool) -> Any:
        if masked not in self._opened:
            feeds = {name: tensor.to(self._settings.device) for name, tensor in self._example.items()}
            if masked:
                feeds |= {name: mask.to(self._settings.device) for name, mask in no_padding(feeds).items()}
            shape = (*feeds["projected"].shape[:3], feeds["x"].shape[-1])
            planned = self._planned.shapes(feeds) if self._planned else None
            self._opened[masked] = open_session(
                self._graphs[masked], self._settings, lambda session: run_once(session, feeds, shape), planned
            )
        return self._opened[masked].session

    def _int8_products(self) -> str:
        from engine.backends.onnx.quantization import int8_products

        if self._products is None:
            self._products = int8_products(self._settings)
        return self._products

    def _rope_table(self, num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = rope_table(num_frames, self._arch)
        return cos.to(self._settings.device), sin.to(self._settings.device)

    def bind(self, conditioning: Conditioning) -> Rows:
        if self._planned:
            self._planned.check(conditioning.num_frames, len(conditioning.lengths))
        placed = Placed.of(conditioning, self._rope.of(conditioning.num_frames), torch.float32)
        session = self._session(conditioning.padded)
        bindings: dict[bool, Any] = {}

        def rows(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            self.num_evals += 1
            inputs = placed.at(x.contiguous(), self._modulation[index], self._final[index], guided).grouped()
            feeds, is_first = inputs.feeds(), guided not in bindings
            if is_first:
                bindings[guided] = session.io_binding()
            binding = bindings[guided]
            for name in feeds if is_first else CHANGING:
                bind(binding, name, feeds[name])
            velocity = torch.empty(len(inputs.projected), *x.shape, device=x.device)
            bind_result(binding, OUTPUT, velocity)
            run_bound(session, binding, x.device)
            return velocity.flatten(0, 1)

        return rows

    def proof(self) -> Proof:
        plain = self._opened[False]
        num_int8 = sum(plain.nodes_by_op.get(op, 0) for op in INT8_OPS)
        return {
            "num_evals": self.num_evals,
            "provider": self._settings.provider,
            "nodes_by_provider": plain.nodes_by_provider,
            "nodes_by_op": plain.nodes_by_op,
            "graph_bytes": plain.file_bytes,
            "quantized_linears": num_int8,
            **({"int8_products": self._int8_products()} if num_int8 else {}),
            "weight_elements_by_dtype": self._elements,
            "steady_counters": {"sessions_created": len(self._opened)},
        }


def no_padding(feeds: Feeds) -> Feeds:
    """The masks of a batch in which every utterance is as long as the longest."""
    groups, batch, frames = feeds["projected"].shape[:3]
    return mask_feeds([frames] * batch, groups, frames)
