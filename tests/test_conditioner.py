"""The constants of a solve are made on the engine's device, whichever that is."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.step.conditioner import Conditioner, stack
from engine.step.dit import Arch
from engine.weights.checkpoint import load_model
from tests.engines import config


@pytest.mark.parametrize("repeated", [False, True])
def test_on_a_gpu_nothing_is_computed_on_the_cpu(repeated: bool) -> None:
    """Shapes and devices only, so that no GPU is needed: tensors of two devices in one product are an error."""
    model = config("model=pocket")["model"]
    arch = Arch.of({**model["arch"], "text_embedding_average_upsampling": repeated})
    state = load_model(model).state
    with torch.no_grad(), FakeTensorMode() as fake:
        on_cpu = {name: fake.from_tensor(value) for name, value in state.items()}
        conditioner = Conditioner(arch, model["mel_bins"], on_cpu, "cuda:0")
        pair = [conditioner.constants([5, 6, 7], torch.zeros(40, model["mel_bins"]), 100, True) for _ in range(2)]
        made = stack(pair)
    assert conditioner.dropped_text_hits == 1
    for tensor, shape in ((made.projected, (4, 100, arch.dim)), (made.convolved, (4, arch.dim, 100))):
        assert (tuple(tensor.shape), tensor.device) == (shape, torch.device("cuda:0"))
