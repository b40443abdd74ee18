"""Scores by models: intelligibility, speaker similarity, predicted MOS; what `quality` says of each model is used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.paths import find_file
from experiments.common.plain import QualitySettings, as_config
from experiments.measuring.job import RESULT
from experiments.scoring.audio import Audio, heard_of, read_all
from experiments.scoring.reference import model_names
from experiments.workload.requests import select_lines
from experiments.workload.texts import languages_of
from experiments.workload.voices import Voice, load_voices_of_record
from metrics.fidelity.catalog import MODELS, Metric
from metrics.fidelity.pairing import Heard, certificate
from metrics.fidelity.scores import score_of
from metrics.isolation import Limits
from metrics.models.intelligibility import (
    CLOSED,
    SECOND,
    Recogniser,
    Spoken,
    Transcript,
    transcripts_of,
    wer_scores,
)
from metrics.models.packaged import PREDICTORS as PACKAGED
from metrics.models.packaged import SILERO, WHISPER, identity_of
from metrics.models.predicted_mos import MODELS as PREDICTORS
from metrics.models.predicted_mos import predictions
from metrics.models.speaker import Encoder, Voices, similarities
from metrics.record import RunRecord, Score, load_record
from metrics.tasks import version_of


def model_recipes(quality: QualitySettings) -> dict[str, str]:
    """Family -> which model, from which file: the part of a recipe that only the configuration knows."""
    recogniser, speaker_file = quality["recogniser"], quality["speaker"]["file"]
    kind, folder, language = recogniser["kind"], recogniser["folder"], recogniser["language"]
    closed = f"{version_of(CLOSED)}, en-us, bigrams of the workload's texts (a closed vocabulary)"
    predictors: Mapping[str, object] = quality["predicted_mos"]
    files = [f"{name} {_hash_of(str(path))}" for name, path in predictors.items() if path is not None]
    packaged = [identity_of(model) for name, model in PACKAGED.items() if predictors.get(name) is None]
    return {
        "wer": closed if kind == CLOSED else _whisper_recipe(folder, language),
        "wer_closed": closed,
        "speaker": f"weights {_hash_of(speaker_file)}" if speaker_file else "the package's own weights",
        "predicted_mos": ", ".join([*files, *packaged]),
    }


def _whisper_recipe(folder: str | None, language: str) -> str:
    """With everything that changes a word: the model, how it is asked, and the normaliser."""
    model = identity_of(WHISPER) if folder is None else f"model {_hash_of(find_file(folder) / 'model.bin')}"
    packages = ", ".join(map(version_of, ("ctranslate2", "tokenizers", "whisper-normalizer")))
    return f"{model}; {packages}, {language}, int8, beam 5, temperature 0; first {identity_of(SILERO)}"


def _hash_of(path: str | Path | None) -> str:
    if path is None or not find_file(path).is_file():
        return "no file"
    with find_file(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return f"sha256 {digest.hexdigest()[:16]}"


def _from_anywhere(path: str | None) -> str | None:
    """A path that means the same in a process that works elsewhere."""
    return None if path is None else str(find_file(path).absolute())


def intelligibility(record: RunRecord, heard: Mapping[str, Audio], limits: Limits) -> list[Score]:
    """Word and character errors on the text that was asked for, by the recogniser of `quality`."""
    asked = as_config(record.config)["quality"]["recogniser"]
    recogniser: Recogniser = {
        "kind": asked["kind"], "folder": _from_anywhere(asked["folder"]), "language": asked["language"],
    }  # fmt: skip
    return wer_scores(_transcripts(record, heard, recogniser, limits))


def second_opinion(record: RunRecord, heard: Mapping[str, Audio], limits: Limits) -> list[Score]:
    """The same by the recogniser that knows only the workload's words."""
    recogniser: Recogniser = {"kind": CLOSED, "folder": None, "language": "en"}
    return wer_scores(_transcripts(record, heard, recogniser, limits), SECOND)


def _transcripts(
    record: RunRecord, heard: Mapping[str, Audio], recogniser: Recogniser, limits: Limits
) -> list[Transcript]:
    """One per utterance. The closed vocabulary is that of the whole text list, so that a subset is not easier to
    recognise. A sentence without audio has no transcript, and the corpus then has no number."""
    refusal = _other_language(record, recogniser["language"])
    if refusal is not None:
        return [
            Transcript(
                utterance_id=one.utterance_id, text=one.text, hypothesis=None, status="not_applicable", reason=refusal
            )
            for one in record.utterances
        ]
    lines = select_lines({"texts": as_config(record.config)["workload"]["texts"], "select": None, "limit": None})
    spoken = [
        Spoken(
            utterance_id=utterance.utterance_id,
            text=utterance.text,
            audio_S=heard[utterance.utterance_id].audio_S,
            sample_rate_hz=heard[utterance.utterance_id].rate_hz,
        )
        for utterance in record.utterances
        if utterance.utterance_id in heard
    ]
    transcripts = transcripts_of(spoken, [line.text for line in lines], recogniser, limits)
    unheard = [
        Transcript(utterance_id=u.utterance_id, text=u.text, hypothesis=None, status="error", reason="no audio")
        for u in record.utterances
        if u.utterance_id not in heard
    ]
    return [*transcripts, *unheard]


def _other_language(record: RunRecord, language: str) -> str | None:
    """Why a recogniser of one language cannot judge texts of another; texts that state none are taken as they are."""
    others = [found for found in languages_of(as_config(record.config)["workload"]["texts"]) if found != language]
    if not others:
        return None
    return (
        f"the texts are in {', '.join(others)} and the recogniser hears {language}: set "
        f"quality.recogniser.language={others[0]}, and quality.recogniser.folder to a multilingual Whisper"
    )


def speaker(record: RunRecord, heard: Mapping[str, Audio], reference: Path | None, limits: Limits) -> list[Score]:
    """Likeness to the prompt, and to the reference where there is a certified one."""
    asked = as_config(record.config)["quality"]["speaker"]
    encoder: Encoder = {"kind": asked["kind"], "file": _from_anywhere(asked["file"])}
    against = load_record(reference / RESULT) if reference is not None else None
    theirs = read_all(reference, against)[0] if reference is not None and against is not None else {}
    ours_is, theirs_is = model_names(record, against) if against is not None else (None, None)
    prompts = _prompts(record)
    metrics = [m for m in MODELS if m.family == "speaker" and f"_{encoder['kind']}" in m.name]
    chosen, voices = [], []
    for utterance in record.utterances:
        name = utterance.utterance_id
        if name not in heard:
            continue
        ours = heard_of(record, utterance, heard[name], "reference", ours_is)
        other = _other(against, theirs, name, theirs_is)
        refusal = "no reference was given" if other is None else certificate(ours, other)
        side = (other.audio_S, other.sample_rate_hz) if other is not None and refusal is None else None
        prompt = prompts[name]
        chosen.append(name)
        voices.append(
            Voices(
                prompt=(prompt.audio_S, prompt.rate_hz),
                variant=(ours.audio_S, ours.sample_rate_hz),
                against=side,
                refusal=refusal,
            )
        )
    found = similarities(voices, encoder, limits)
    return [
        _score(metric, name, outcome)
        for name, outcomes in zip(chosen, found, strict=True)
        for metric, outcome in zip(metrics, outcomes, strict=True)
    ]


def _score(metric: Metric, name: str, outcome: Any) -> Score:
    return score_of(metric, "reference" if metric.towards else None, name, outcome)


def _other(against: RunRecord | None, theirs: Mapping[str, Audio], name: str, model: str | None) -> Heard | None:
    if against is None or name not in theirs:
        return None
    utterance = next(u for u in against.utterances if u.utterance_id == name)
    return heard_of(against, utterance, theirs[name], "reference", model)


def _prompts(record: RunRecord) -> dict[str, Voice]:
    """Utterance id -> the voice that it was asked to clone, read from the configured clip again."""
    clips = {voice.voice_id: voice for voice in load_voices_of_record(as_config(record.config))}
    return {str(entry["id"]): clips[str(entry["voice"])] for entry in record.workload["utterances"]}


def predicted_mos(record: RunRecord, heard: Mapping[str, Audio], limits: Limits) -> list[Score]:
    """Numbers of every predictor that is packaged or has a file."""
    asked: Mapping[str, object] = as_config(record.config)["quality"]["predicted_mos"]
    files = {name: None if path is None else _from_anywhere(str(path)) for name, path in asked.items()}
    given = [name for name in PREDICTORS if name in PACKAGED or files.get(name) is not None]
    names = [utterance.utterance_id for utterance in record.utterances if utterance.utterance_id in heard]
    audios = [(heard[name].audio_S, heard[name].rate_hz) for name in names]
    scores = []
    for model in given:
        for name, found in zip(names, predictions(audios, model, files.get(model), limits), strict=True):
            scores += [
                score_of(metric, None, name, found[metric.key.partition("/")[2]])
                for metric in MODELS
                if metric.key.partition("/")[0] == model and metric.family == "predicted_mos"
            ]
    return scores
