"""ONNX Runtime under its other distribution's name, and engines where a package of it is missing."""

import importlib.metadata
import sys

import pytest

from engine.contract import UnsupportedEngine
from engine.runtimes.onnx_package import required, versions
from experiments.common import environment
from tests.engines import engine, request

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
TINY = ("model.checkpoint=random:0", "model.arch.depth=1", "solver=uniform_4")


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is there, and its distribution is called onnxruntime-gpu."""
    version = importlib.metadata.version

    def found(name: str) -> str:
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return str(onnxruntime.__version__) if name == "onnxruntime-gpu" else version(name)

    monkeypatch.setattr(importlib.metadata, "version", found)


def test_todays_version_is_the_distributions_so_that_kept_graphs_stay() -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            expected = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        assert versions("torch", "onnxruntime") == {
            "torch": importlib.metadata.version("torch"), "onnxruntime": expected,
        }  # fmt: skip
        return
    pytest.skip("another distribution than the two of pyproject.toml")


@pytest.mark.usefixtures("gpu_build")
@pytest.mark.parametrize("overrides", [("engine=onnx",), ("engine=onnx_int8_dynamic",), ("vocoder=vocos_onnx",)])
def test_the_gpu_build_runs_every_engine(overrides: tuple[str, ...]) -> None:
    with engine(*overrides, *TINY) as ours:
        assert len(ours.synthesize([request("Now.")])[0].audio_S) > 0


@pytest.mark.usefixtures("gpu_build")
def test_a_record_names_the_gpu_builds_version() -> None:
    environment._installed.cache_clear()
    try:
        assert environment.versions()["onnxruntime"] == onnxruntime.__version__
    finally:
        environment._installed.cache_clear()


@pytest.mark.parametrize("missing", ["onnxruntime", "onnx"])
@pytest.mark.parametrize(
    "overrides", [("engine=onnx",), ("engine=onnx_int8",), ("engine=onnx_int8_dynamic",), ("vocoder=vocos_onnx",)]
)
def test_without_a_package_the_engine_refuses_with_the_extra(
    missing: str, overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UnsupportedEngine, match=f"{missing} is not installed") as refusal:
        engine(*overrides, *TINY)
    assert "pip install '.[onnx]'" in refusal.value.remedy
    with pytest.raises(UnsupportedEngine, match=f"{missing} is not installed"):
        required(missing)
