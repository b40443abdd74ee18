"""Tensors that an ONNX Runtime session reads and writes where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def bind(binding: Any, name: str, tensor: Any) -> None:
    """Input `name` read from the tensor's own memory: contiguous, and alive as long as the binding is used."""
    binding.bind_input(name, *_where(tensor))


def bind_result(binding: Any, name: str, tensor: Any) -> None:
    binding.bind_output(name, *_where(tensor))


def run_bound(session: Any, binding: Any, device: torch.device) -> None:
    """One run on the bound tensors, which are whole when it starts and when it returns.

    ONNX Runtime works on a stream of its own: it reads torch's default stream, number 0, as none given, and
    `IOBinding.synchronize_inputs` waits for nothing with some providers. So the device is drained at both ends; ONNX
    Runtime waits for its stream at the end of a run as it is.
    """
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    session.run_with_iobinding(binding)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _where(tensor: Any) -> tuple[Any, ...]:
    element = np.dtype(str(tensor.dtype).removeprefix("torch.")).type
    return tensor.device.type, tensor.device.index or 0, element, tuple(tensor.shape), tensor.data_ptr()
