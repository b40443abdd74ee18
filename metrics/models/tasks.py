"""Models inside the child of metrics.isolation: recognisers, speaker encoders, MOS predictors. All from local files.

Nothing is ever downloaded. A model whose package is missing (packaged.py) is `unavailable` with the line that installs
it; one that needs a file which the user must supply, with the name of the file and the setting it belongs in.

| model | code | weights | where from |
|---|---|---|---|
| pocketsphinx en-us | BSD-like | BSD-like | bundled in the package |
| CTranslate2 | MIT | MIT (OpenAI Whisper) | tiny.en in a package, or a local CTranslate2 folder (whisper.py) |
| Silero VAD | - | MIT | in a package (whisper.py) |
| Resemblyzer | Apache-2.0 | Apache-2.0 | bundled in the package |
| WavLM-large + ECAPA (as in seed-tts-eval) | - | CC BY-SA 3.0 (UniSpeech) | a local TorchScript or ONNX export |
| ECAPA-TDNN (SpeechBrain) | Apache-2.0 | Apache-2.0 | a local TorchScript or ONNX export |
| DNSMOS P.835, P.808 | MIT | CC BY 4.0 (microsoft/DNS-Challenge) | in a package, or local .onnx files |
| UTMOS22 strong | MIT | MIT (sarulab-speech) | a local TorchScript export |
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np

from metrics.isolation import Item, Refused, Work
from metrics.models.mel import RATE_HZ, mel_power
from metrics.models.packaged import PREDICTORS, weights_of
from metrics.tasks import import_or_refuse

DNSMOS_S = 9.01
# microsoft/DNS-Challenge, DNSMOS/dnsmos_local.py, not personalised: raw outputs -> MOS scale, highest power first
DNSMOS_FITS: Mapping[str, tuple[float, float, float]] = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


class RecogniserSetup(TypedDict):
    """texts: what a closed vocabulary is made of. folder: of a local model."""

    texts: list[str]
    folder: str | None
    language: str


class EncoderSetup(TypedDict):
    """file: of a local model. min_s: seconds of speech that an embedding takes."""

    file: str | None
    min_s: float


class PredictorSetup(TypedDict):
    """file: of a local model; None: the packaged one, where there is one."""

    file: str | None


def pocketsphinx_task(setup: RecogniserSetup) -> Work:
    """Set-up texts; item (audio_S,), info sample_rate_hz and text -> {asked, heard}: lower-case words."""
    from metrics.models.intelligibility import REMEDY, ClosedVocabularyRecogniser, VocabularyError
    from metrics.models.words import words_of

    try:
        recogniser = ClosedVocabularyRecogniser(setup["texts"])
    except ImportError as error:
        raise Refused("unavailable", f"package pocketsphinx is missing ({error}); {REMEDY}") from None
    except VocabularyError as error:
        raise Refused("not_applicable", str(error)) from None

    def work(item: Item) -> dict[str, str]:
        try:
            heard = recogniser.transcribe(item.arrays[0], item.sample_rate_hz)
        except ValueError as error:
            raise Refused("error", str(error)) from None
        return {"asked": " ".join(words_of(str(item.info["text"]))), "heard": heard}

    return work


def resemblyzer_task(setup: EncoderSetup) -> Work:
    """Item (audio_S,) at 16 kHz -> Resemblyzer's embedding; its own loudness rule and silence trimming come first."""
    resemblyzer = import_or_refuse("resemblyzer", RESEMBLYZER_REMEDY)
    import torch

    torch.set_num_threads(1)
    encoder = resemblyzer.VoiceEncoder("cpu", verbose=False)

    def work(item: Item) -> list[float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            speech_S = resemblyzer.preprocess_wav(np.clip(item.arrays[0], -1.0, 1.0))
        if speech_S.size < setup["min_s"] * RATE_HZ:
            found_s = speech_S.size / RATE_HZ
            raise Refused("too_few", f"{found_s:.2f} s of speech, {setup['min_s']:g} s needed for a speaker")
        return _embedding(encoder.embed_utterance(speech_S))

    return work


RESEMBLYZER_REMEDY = 'pip install Resemblyzer "setuptools<81" (extra `speaker`)'


def speaker_file_task(setup: EncoderSetup) -> Work:
    """Set-up file: (1, S) float32 at 16 kHz -> (1, E), a TorchScript (.pt, .ts) or ONNX (.onnx) export."""
    path = present(setup["file"], "quality.speaker.file", "a TorchScript or ONNX export of a speaker encoder")
    run = _runner(path, axes=2, numbers=None)

    def work(item: Item) -> list[float]:
        if item.arrays[0].size < setup["min_s"] * RATE_HZ:
            raise Refused(
                "too_few", f"{item.arrays[0].size / RATE_HZ:.2f} s, {setup['min_s']:g} s needed for a speaker"
            )
        return _embedding(run(item.arrays[0][None]).reshape(-1))

    return work


def dnsmos_task(setup: PredictorSetup) -> Work:
    """Set-up file sig_bak_ovr.onnx; item (audio_S,) at 16 kHz -> {sig, bak, ovrl}.

    As Microsoft's script: the clip is looped to 9.01 s (a click at every join), windows of 9.01 s each second.
    """
    path = _predictor(setup["file"], "dnsmos", "sig_bak_ovr.onnx of microsoft/DNS-Challenge")
    run = _runner(path, axes=2, numbers=len(DNSMOS_FITS))

    def work(item: Item) -> dict[str, float]:
        looped_S, num = _looped(item.arrays[0])
        outputs = []
        for start in range(0, max(1, math.floor(looped_S.size / RATE_HZ - DNSMOS_S) + 1) * RATE_HZ, RATE_HZ):
            window_S = looped_S[start : start + num]
            if window_S.size == num:
                outputs.append(run(window_S[None]).reshape(-1))
        values = {
            name: float(np.mean([np.polyval(fit, output[i]) for output in outputs]))
            for i, (name, fit) in enumerate(DNSMOS_FITS.items())
        }
        return _finite_all(values)

    return work


def dnsmos_p808_task(setup: PredictorSetup) -> Work:
    """Set-up file model_v8.onnx; item (audio_S,) at 16 kHz -> {p808}, on the log-mel of the looped 9.01 s."""
    path = _predictor(setup["file"], "dnsmos_p808", "model_v8.onnx of microsoft/DNS-Challenge")
    run = _runner(path, axes=3, numbers=1)

    def work(item: Item) -> dict[str, float]:
        looped_S, num = _looped(item.arrays[0])
        power_DN = mel_power(looped_S[: num - 160], n_fft=321, hop=160, num_mels=120)
        db_DN = 10 * np.log10(np.maximum(power_DN, 1e-10))
        mel_ND = (np.maximum(db_DN - db_DN.max(), -80) + 40).T / 40
        return _finite_all({"p808": float(run(mel_ND[None].astype(np.float32)).reshape(-1)[0])})

    return work


def utmos_task(setup: PredictorSetup) -> Work:
    """Set-up file: TorchScript or ONNX, (1, S) float32 at 16 kHz -> one score; item (audio_S,) at 16 kHz -> {utmos}."""
    path = present(setup["file"], "quality.predicted_mos.utmos", "a TorchScript or ONNX export of UTMOS22 strong")
    run = _runner(path, axes=2, numbers=1)

    def work(item: Item) -> dict[str, float]:
        _looped(item.arrays[0])  # the same refusal of too little audio
        return _finite_all({"utmos": float(run(item.arrays[0][None]).reshape(-1)[0])})

    return work


def _predictor(file: str | None, model: str, what: str) -> Path:
    """The file that the setting names, else the packaged one."""
    return weights_of(PREDICTORS[model]) if file is None else present(file, f"quality.predicted_mos.{model}", what)


def present(value: str | None, key: str, what: str) -> Path:
    """The file or folder that a setting names. Raises Refused, with the setting, where there is none."""
    if value is None:
        raise Refused("unavailable", f"no model file: set {key} to {what}; nothing is downloaded")
    path = Path(value).expanduser()
    if not path.exists():
        raise Refused("unavailable", f"{key}: {path.name} is not there; it must be {what}; nothing is downloaded")
    return path


Run = Callable[[np.ndarray], np.ndarray]


def _runner(path: Path, axes: int, numbers: int | None) -> Run:
    """The one output for the one float32 input of so many axes, by the kind of file.

    Refused for a file of another model: with more inputs or outputs (which of them would be a guess), another rank, or
    an answer that is not `numbers` long (None: any length).
    """
    run = _file_runner(path, axes)

    def checked(array: np.ndarray) -> np.ndarray:
        found = run(array)
        if numbers is not None and found.size != numbers:
            raise Refused("error", f"{path.name} answers {found.size} numbers, {numbers} are needed: another model?")
        return found

    return checked


def _file_runner(path: Path, axes: int) -> Run:
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs, outputs = session.get_inputs(), session.get_outputs()
        for kind, found in (("input", inputs), ("output", outputs)):
            if len(found) != 1:
                named = ", ".join(part.name for part in found)
                raise Refused("error", f"{path.name} has the {kind}s {named}, and one is needed: export it alone")
        name, kind, shape = inputs[0].name, inputs[0].type, inputs[0].shape
        if kind != "tensor(float)" or len(shape or ()) not in (0, axes):
            raise Refused(
                "error", f"{path.name} takes {kind} of {len(shape)} axes, not float32 of {axes}: another model?"
            )
        return lambda array: np.asarray(session.run(None, {name: np.ascontiguousarray(array, dtype=np.float32)})[0])
    import torch

    torch.set_num_threads(1)
    module = torch.jit.load(str(path), map_location="cpu").eval()
    given = [argument.name for argument in module.forward.schema.arguments if not argument.has_default_value()]
    if len(given) != 2:
        raise Refused("error", f"{path.name} takes {', '.join(given[1:]) or 'nothing'}, and one input is needed")

    def run(array: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = module(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)))
        if not isinstance(found, torch.Tensor):
            kind = type(found).__name__
            raise Refused("error", f"{path.name} answers a {kind}, and one tensor is needed: export that alone")
        return np.asarray(found)

    return run


def _looped(audio_S: np.ndarray) -> tuple[np.ndarray, int]:
    """(at least 9.01 s by doubling, samples of 9.01 s). An empty clip would loop for ever in the original."""
    num = int(DNSMOS_S * RATE_HZ)
    if audio_S.size < RATE_HZ // 4:
        raise Refused("too_few", f"{audio_S.size / RATE_HZ:.2f} s, 0.25 s needed for a predicted MOS")
    while audio_S.size < num:
        audio_S = np.append(audio_S, audio_S)
    return audio_S, num


def _embedding(values: np.ndarray) -> list[float]:
    found = [float(value) for value in values]
    if not found or not all(map(math.isfinite, found)):
        raise Refused("error", "the embedding is not finite")
    return found


def _finite_all(values: dict[str, float]) -> dict[str, float]:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise Refused("error", f"{bad[0]} is not finite")
    return values
