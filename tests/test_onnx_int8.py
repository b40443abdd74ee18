"""ONNX Runtime in INT8: what runs in int8 and how exactly, how it is calibrated, and when a kept graph is made anew."""

import importlib.metadata
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from engine.backends.onnx import build, quantization
from engine.context import materials
from engine.contract import ConfigError
from engine.solver.methods import solver_spec
from engine.step.inputs import Feeds
from tests.engines import ROOT, config, engine, request
from tests.test_onnx import made

onnxruntime = pytest.importorskip("onnxruntime")
TINY = ("model.checkpoint=random:0", "model.arch.depth=1", "solver=uniform_4", "solver.steps=1")
BRIEF = (
    "engine.calibration.sentences=[a,b,c,d]",
    "reference.voices=[{id: slt, audio: engine/pocket/slt.wav, text: We walk to the sea.}]",
)


@pytest.mark.parametrize("name", ["onnx_int8", "onnx_int8_dynamic"])
def test_int8_layers_run_in_int8_from_a_small_file(name: str) -> None:
    with engine(f"engine={name}") as small, engine("engine=onnx") as full:
        batch = [request("That was close.", utterance_id="a"), request("Turn left now.", utterance_id="b")]
        assert all(np.isfinite(result.mel_ND).all() for result in small.synthesize(batch))
        proof, whole = small.facts.proof, full.facts.proof
    assert proof["quantized_linears"] == 24, "four linear layers in each of six blocks"
    assert proof["weight_elements_by_dtype"]["qint8"] > 3_000_000
    assert proof["graph_bytes"] <= 0.30 * whole["graph_bytes"]


@pytest.mark.parametrize("name", ["onnx_int8", "onnx_int8_dynamic"])
def test_the_proof_says_whether_int8_products_saturate_and_a_setting_makes_them_exact(name: str) -> None:
    ask = request("Turn left at the bridge.")
    with engine(f"engine={name}") as plain, engine(f"engine={name}", "engine.session.exact_int8=true") as exact:
        assert plain.facts.proof["int8_products"] in ("exact", "saturating")
        assert np.isfinite(exact.synthesize([ask])[0].mel_ND).all()
        assert exact.facts.proof["int8_products"] == "exact"
        assert exact.facts.proof["quantized_linears"] == 24


def test_a_graph_with_masks_is_calibrated_from_the_same_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an empty cache, where both forms are made."""
    made: list[Path] = []
    spoken: list[object] = []

    def anew(kind: str, parts: object, make: Callable[[Path], object]) -> Path:
        made.append(tmp_path / f"{kind}{len(made)}")
        made[-1].mkdir()
        make(made[-1])
        return made[-1]

    monkeypatch.setattr(quantization, "cached_folder", anew)
    recording = build.record_feeds

    def record(*given: Any) -> list[Feeds]:
        spoken.append(given)
        return recording(*given)

    monkeypatch.setattr(build, "record_feeds", record)
    floats = "engine.float_layers=[proj_out,blocks.0.qkv]"
    with engine("engine=onnx_int8", "engine.max_padding_frac=0.1", floats, *TINY, *BRIEF) as ours:
        short = request("Now.", utterance_id="a", ref_text="We walk to the sea again.")
        both = ours.synthesize([short, request("Now.", utterance_id="b")])
        assert ours.facts.proof["steady_counters"]["sessions_created"] == 2, "the two lengths shared a padded solve"
        assert ours.facts.proof["quantized_linears"] == 3
    assert all(np.isfinite(result.mel_ND).all() for result in both)
    assert (len(made), len(spoken)) == (2, 1)


@pytest.mark.parametrize(("kept", "count"), [("[proj_out,blocks.0.*]", 4), ("[blocks.*.ff_out]", 7)])
def test_layers_that_stay_float_are_not_asked_for_in_int8(kept: str, count: int) -> None:
    with engine("engine=onnx_int8_dynamic", f"engine.float_layers={kept}", *TINY, "model.arch.depth=2") as ours:
        assert ours.facts.proof["quantized_linears"] == count
    with pytest.raises(ConfigError, match=r"leaves no layer in int8; use engine=onnx"):
        engine("engine=onnx_int8_dynamic", "engine.float_layers=['*']", *TINY)


def test_all_code_that_a_recording_runs_through_is_part_of_its_cache_key() -> None:
    """engine.vocoders.vocos and the rest below come after the solve, or only measure and check."""
    context, _ = made(*TINY, BRIEF[1])
    ran: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        ran.add(frame.f_globals.get("__name__", ""))

    sys.setprofile(note)
    try:
        assert build.record_feeds(context, materials(context), ["One."])
    finally:
        sys.setprofile(None)
    after = {"engine.clock", "engine.contract", "engine.postprocess", "engine.text.streaming", "engine.vocoders.vocos",
             "engine.vocoders.load"}  # fmt: skip
    assert {name for name in ran if name.startswith("engine.")} - after <= set(quantization.RECORDING)


def test_an_int8_graph_is_made_anew_for_other_code_versions_words_and_mel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = config("engine=onnx_int8")
    plan = quantization.checked_calibration(plain["engine"]["calibration"])
    other_vocabulary, other_mel = tmp_path / "vocab.txt", config("model.mel_spec_type=bigvgan")
    other_vocabulary.write_bytes((ROOT / plain["model"]["vocab"]).read_bytes() + b"@\n")
    (tmp_path / "step.onnx").write_bytes(b"graph")

    def key(composed: dict[str, Any]) -> str:
        found: list[str] = []
        monkeypatch.setattr(
            quantization, "cached_folder", lambda kind, parts, make: found.append(repr(parts)) or Path()
        )
        identity = plan.identity(composed, solver_spec(composed["solver"]))
        quantization.quantized(tmp_path / "step.onnx", identity, (), list, "minmax")
        return found[0]

    known = quantization.versions("torch", "torchaudio", "onnx")
    before = key(plain)
    assert key(plain) == before
    assert key(config(f"model.vocab={other_vocabulary}")) != before
    assert key(other_mel) != before
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "__version__", "9")
        assert key(plain) != before
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", {**known, "torch": "9"}.__getitem__)
        assert key(plain) != before
    monkeypatch.setattr(quantization, "RECORDING", quantization.RECORDING[1:])
    assert key(plain) != before


def test_bad_calibrations_are_settings() -> None:
    for override, says in (
        ("engine.calibration.sentences=[one,two]", "2 sentences: at least 4 are needed"),
        ("engine.calibration.method=best", "engine.calibration.method=best: must be one of minmax"),
        ("engine.float_layers=[blocks.*.conv]", "names no linear layer"),
    ):
        with pytest.raises(ConfigError, match=re.escape(says)):
            engine("engine=onnx_int8", override)
