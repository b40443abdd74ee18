"""Plans, cached graphs, models of scores, settings: what a file says beyond what is known is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.backends.tensorrt.plan_file import PlanIdentity, described, read_plan, write_plan
from engine.cache import MANIFEST, cached_folder
from engine.contract import ConfigError, UnsupportedEngine
from engine.families.family import family_of
from engine.runtimes.profiles import profiles_of
from engine.solver.methods import solver_spec
from engine.weights.checkpoint import check_backbone
from metrics.isolation import Item, Refused
from metrics.models.tasks import dnsmos_p808_task, dnsmos_task, speaker_file_task, utmos_task
from tests.engines import ROOT, config

HERE = PlanIdentity(
    onnx_sha256="a" * 64, precision="bf16", profiles=profiles_of([[64, 563, 750]]), groups=2, max_batch=1,
    workspace_bytes=1 << 32, tensorrt_version="10.16.1", compute_capability="9.0",
)  # fmt: skip


def changed(path: Path, change: Any) -> None:
    meta = json.loads(described(path).read_text("utf-8"))
    change(meta)
    described(path).write_text(json.dumps(meta), "utf-8")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda meta: meta["identity"].update(sparsity=True), r"identity\.sparsity"),
        (lambda meta: meta.update(refit="x"), "refit"),
        (lambda meta: meta.update(identity=[1]), "describes no plan"),
        (lambda meta: meta["identity"].pop("groups"), "groups None, here 2"),
    ],
)
def test_a_plan_that_says_more_or_less_than_is_known_is_refused(change: Any, says: str, tmp_path: Path) -> None:
    write_plan(tmp_path / "p.plan", b"plan", HERE, {"lengths": {}})
    assert read_plan(tmp_path / "p.plan", HERE)[0] == b"plan"
    changed(tmp_path / "p.plan", change)
    with pytest.raises(UnsupportedEngine, match=says):
        read_plan(tmp_path / "p.plan", HERE)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_plans_description_is_refused(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "p.plan"
    write_plan(path, b"plan", HERE, {})
    json_values = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
    key, value = data.draw(st.sampled_from([*HERE.__dataclass_fields__, "other"])), data.draw(json_values)
    before = json.loads(described(path).read_text("utf-8"))["identity"]
    if key in before and before[key] == value:
        return
    changed(path, lambda meta: meta["identity"].update({key: value}))
    with pytest.raises(UnsupportedEngine):
        read_plan(path, HERE)


def test_a_cached_folder_is_what_it_was_made_from_and_nothing_besides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path))
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "step.onnx").write_text("graph")

    def again() -> Path:
        return cached_folder("kind", {"weights": "a", "sizes": (1, 2)}, make)

    place = again()
    assert (again(), len(made)) == (place, 1)
    (place / "step.onnx.data").write_text("weights of another graph")
    assert (again(), len(made)) == (place, 2)
    assert not (place / "step.onnx.data").exists()
    manifest = json.loads((place / MANIFEST).read_text("utf-8"))
    (place / MANIFEST).write_text(json.dumps({**manifest, "made_from": {"weights": "b"}}), "utf-8")
    assert (again(), len(made)) == (place, 3)


def onnx_file(path: Path, inputs: dict[str, list[int]], outputs: dict[str, int], kind: int = 1) -> str:
    """Each output: the sum of the first input, so many times."""
    from onnx import TensorProto, helper, numpy_helper, save

    first = next(iter(inputs))
    nodes, constants = [], []
    for name, size in outputs.items():
        constants.append(numpy_helper.from_array(np.array([size], np.int64), f"{name}_size"))
        nodes.append(helper.make_node("ReduceSum", [first], [f"{name}_sum"], keepdims=0))
        nodes.append(helper.make_node("Expand", [f"{name}_sum", f"{name}_size"], [name]))
    graph = helper.make_graph(
        nodes, "scores", [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name, size in outputs.items()], constants,
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return str(path)


WAVE = {"wave": [1, 32000]}


@pytest.mark.parametrize(
    ("task", "inputs", "outputs", "says"),
    [
        (speaker_file_task, {**WAVE, "lengths": [1]}, {"e": 4}, "has the inputs wave, lengths, and one is needed"),
        (speaker_file_task, WAVE, {"logits": 4, "embeddings": 4}, "has the outputs logits, embeddings, and one"),
        (speaker_file_task, {"fbank": [1, 200, 80]}, {"e": 4}, "of 3 axes, not float32 of 2"),
        (dnsmos_task, {"mel": [1, 900, 120]}, {"p808": 1}, "of 3 axes, not float32 of 2"),
        (dnsmos_p808_task, {"wave": [1, 144160]}, {"sig": 3}, "of 2 axes, not float32 of 3"),
        (dnsmos_task, {"wave": [1, 144160]}, {"mos": 1}, "answers 1 numbers, 3 are needed"),
        (utmos_task, WAVE, {"e": 192}, "answers 192 numbers, 1 are needed"),
    ],
)
def test_a_model_of_scores_that_is_another_one_is_refused(
    task: Any, inputs: dict[str, list[int]], outputs: dict[str, int], says: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    setup = {"file": onnx_file(tmp_path / "model.onnx", inputs, outputs), "min_s": 1.0}
    with pytest.raises(Refused, match=says):
        task(setup)(Item((np.full(32000, 0.1, np.float32),)))


def test_a_torchscript_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def forward(self, wave: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return wave + lengths

    class Pair(torch.nn.Module):
        def forward(self, wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return wave, wave

    for module, says in ((Two(), "takes wave, lengths, and one input"), (Pair(), "answers a tuple, and one tensor")):
        torch.jit.script(module).save(str(tmp_path / "encoder.pt"))
        with pytest.raises(Refused, match=says):
            speaker_file_task({"file": str(tmp_path / "encoder.pt"), "min_s": 1.0})(Item((np.ones(32000, np.float32),)))


def test_keys_that_no_model_and_no_solver_has_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model\.relase=v1: is not a key of a model"):
        check_backbone({**config()["model"], "relase": "v1"})
    with pytest.raises(ConfigError, match=r"solver\.swya=0: is not a key of a solver"):
        solver_spec({**config()["solver"], "swya": 0})


@pytest.mark.parametrize("group", ["model", "solver"])
def test_every_preset_has_known_keys_only(group: str) -> None:
    for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
        composed = config(f"{group}={path.stem}")
        if group == "solver":
            solver_spec(composed[group])
        elif "backbone" in composed[group]:
            check_backbone(composed[group])
        else:
            family_of(composed[group]).validate(composed)
