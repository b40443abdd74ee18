"""The files of a finished run, read back for scoring: audio, mel, and the identity that pairing asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from engine.contract import SynthesisRequest
from engine.mel import chunk_samples
from experiments.common.plain import Config, as_config
from experiments.measuring.job import RESULT
from metrics.fidelity.artefacts import METRIC as AUDIO_VALID
from metrics.fidelity.artefacts import Expectation, audio_valid, offset_of, replayed
from metrics.fidelity.pairing import AgainstName, Heard, sha256_of
from metrics.parts.spoken import SentenceEntry
from metrics.record import RecordError, RunRecord, Score, Utterance, load_record, to_json

RANDOM_WEIGHTS = "random weights: a speed workload"


class NoAudio(Exception):
    """A file of the run is missing or cannot be read; the message is the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """What was read back: mono float32 (S,), its rate, mel (N, D)."""

    audio_S: np.ndarray
    rate_hz: int
    mel_ND: np.ndarray


def read_all(folder: Path, record: RunRecord) -> tuple[dict[str, Audio], dict[str, str]]:
    """(what could be read, why the rest could not), both by utterance id."""
    heard, unreadable = {}, {}
    for utterance in record.utterances:
        try:
            heard[utterance.utterance_id] = _read(folder, utterance)
        except NoAudio as error:
            unreadable[utterance.utterance_id] = str(error)
    return heard, unreadable


def unchanged(
    record: RunRecord, heard: Mapping[str, Audio], unreadable: Mapping[str, str]
) -> tuple[dict[str, Audio], dict[str, str]]:
    """What `read_all` gave, without audio that is not that of its record."""
    altered = {
        utterance.utterance_id: f"{utterance.audio_path} is not the audio of its record (audio_sha256 differs)"
        for utterance in record.utterances
        if utterance.utterance_id in heard
        and sha256_of(heard[utterance.utterance_id].audio_S) != utterance.audio_sha256
    }
    return {name: audio for name, audio in heard.items() if name not in altered}, {**unreadable, **altered}


def _read(folder: Path, utterance: Utterance) -> Audio:
    try:
        audio_S, rate_hz = soundfile.read(folder / utterance.audio_path, dtype="float32")
        mel_ND = np.load(folder / utterance.mel_path, allow_pickle=False)
    except (soundfile.LibsndfileError, OSError, ValueError, EOFError) as error:
        raise NoAudio(f"its files cannot be read: {' '.join(str(error).split())}") from error
    return Audio(audio_S, rate_hz, mel_ND)


def heard_of(
    record: RunRecord, utterance: Utterance, audio: Audio, towards: AgainstName, model: str | None = None
) -> Heard:
    """What the certificate looks at. Towards an oracle the time grid must be equal as well; towards the reference the
    vocoder's weights, not its runtime; a student's guidance is the one that it was taught. model: where the reference
    is to be of another model than the one that speaks, what names that model, in place of the weights."""
    facts, vocoder = record.facts or {}, str((record.facts or {}).get("vocoder"))
    taught = (facts.get("student") or {}).get("taught_cfg_strength")
    identity = {
        "prompt": _prompt(record, utterance.utterance_id),
        "cfg_strength": str(float(taught or facts.get("cfg_strength") or 0.0)),
        "vocoder": vocoder if towards == "oracle" else vocoder.rpartition(":")[2],
        **({"weights_sha256": str(facts.get("weights_sha256"))} if model is None else {"reference_model": model}),
    }
    if towards == "oracle":
        identity["grid"] = to_json(
            [facts.get("evals_per_step"), list(facts.get("time_grid") or ()), facts.get("solver_options") or {}]
        )
        identity["enhance"] = to_json(dict(facts.get("enhance") or {}))
    return Heard(
        utterance=utterance,
        audio_S=audio.audio_S,
        sample_rate_hz=audio.rate_hz,
        mel_ND=audio.mel_ND,
        identity=identity,
    )


def _prompt(record: RunRecord, utterance_id: str) -> str:
    """Hash of the voice's clip and transcript; records without it are paired by their whole workload's identity."""
    known = _entry(record, utterance_id).get("prompt_sha256")
    return str(known or f"workload {record.workload.get('identity_sha256')}")


def voice_dc(record: RunRecord, utterance_id: str) -> float:
    """Mean of the clip that spoke it; 0.0 in records that do not say it."""
    return float(_entry(record, utterance_id).get("voice_dc", 0.0))


def _entry(record: RunRecord, utterance_id: str) -> SentenceEntry:
    nothing: SentenceEntry = {}
    return next((entry for entry in record.workload.get("utterances", ()) if entry["id"] == utterance_id), nothing)


def expected_samples(utterance: Utterance, config: Config) -> int:
    """Exact length from the generated frames: the vocoder's rule for each chunk, less the overlaps of the joins, less
    the silence that `enhance` says it took out."""
    hop, joins = int(config["model"]["hop_samples"]), utterance.num_chunks - 1
    fade = int(config["reference"].get("cross_fade_s", 0.0) * utterance.sample_rate_hz)
    lost = utterance.num_frames * hop - chunk_samples(utterance.num_frames, config["vocoder"], hop)
    return utterance.num_frames * hop - utterance.num_chunks * lost - joins * fade - utterance.num_cut_samples


def validity_scores(record: RunRecord, heard: Mapping[str, Audio], unreadable: Mapping[str, str]) -> list[Score]:
    """audio_valid of every utterance."""
    copies = replayed({name: audio.audio_S for name, audio in heard.items()}, _texts(record))
    return [_validity(record, utterance, heard, unreadable, copies) for utterance in record.utterances]


def _texts(record: RunRecord) -> dict[str, str]:
    return {utterance.utterance_id: utterance.text for utterance in record.utterances}


def _validity(
    record: RunRecord,
    utterance: Utterance,
    heard: Mapping[str, Audio],
    unreadable: Mapping[str, str],
    copies: Mapping[str, str],
) -> Score:
    name = utterance.utterance_id
    if name in unreadable:
        return _invalid(name, [unreadable[name]])
    audio = heard[name]
    config = as_config(record.config)
    num_samples = expected_samples(utterance, config)
    if record.facts and record.facts.get("random_weights"):
        # Noise is what random weights say; what can still be wrong is the length and the arithmetic
        if len(audio.audio_S) == num_samples and np.isfinite(audio.audio_S).all():
            return Score(
                metric=AUDIO_VALID, utterance_id=name, value=None, status="not_applicable", reason=RANDOM_WEIGHTS,
                better="higher",
            )  # fmt: skip
    expected = Expectation(
        utterance_id=name,
        text=utterance.text,
        sample_rate_hz=int(config["model"]["sample_rate_hz"]),
        num_samples=num_samples,
        voice_dc=voice_dc(record, name),
    )
    score = audio_valid(audio.audio_S, audio.rate_hz, expected=expected)
    others = [copies[name]] if name in copies else []
    if sha256_of(audio.audio_S) != utterance.audio_sha256:
        others.append(f"{utterance.audio_path} is not the audio of its record (audio_sha256 differs)")
    return _invalid(name, [*([score.reason] if score.reason else []), *others]) if others else score


def _invalid(utterance_id: str, reasons: Sequence[str]) -> Score:
    return Score(
        metric=AUDIO_VALID, utterance_id=utterance_id, value=None, status="error", reason="; ".join(reasons),
        better="higher",
    )  # fmt: skip


def invalid_reason(request: SynthesisRequest, audio_S: np.ndarray, rate_hz: int) -> str | None:
    """Why the audio of a request cannot be believed, None where it can; of any length, as a stream's may be."""
    expected = Expectation(
        utterance_id=request.utterance_id, text=request.text, sample_rate_hz=rate_hz, num_samples=len(audio_S),
        voice_dc=offset_of(request.ref_audio_S),
    )  # fmt: skip
    score = audio_valid(audio_S, rate_hz, expected=expected)
    return None if score.status == "ok" else f"{request.utterance_id}: {score.reason}"


def heard_in(folder: Path) -> dict[str, Heard]:
    """Every utterance of a run, as the certificate looks at it. Raises RecordError where one has no audio."""
    record = load_record(folder / RESULT)
    audio, _ = read_all(folder, record)
    for utterance in record.utterances:
        if utterance.utterance_id not in audio:
            raise RecordError(f"{folder / utterance.audio_path}: no audio that can be read; give a run with its audio")
    return {u.utterance_id: heard_of(record, u, audio[u.utterance_id], "oracle") for u in record.utterances}


def with_audio(one: Heard, audio_S: np.ndarray) -> Heard:
    """The same utterance, as if the engine had said this."""
    audio_S = audio_S.astype(np.float32)
    return replace(one, audio_S=audio_S, utterance=replace(one.utterance, audio_sha256=sha256_of(audio_S)))
