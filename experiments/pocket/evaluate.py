"""How well the pocket model speaks: `python -m experiments.pocket.evaluate`.

Word error rates of original flite speech, of its copy through the pocket vocoder, and of generated speech, on en_core
and on 50 sentences of its vocabulary that were never trained on. The recogniser (pocketsphinx) is closed over the words
of en_core. Its bigrams come from both sets ("both") or from en_core alone ("core": what a held-out sentence says is
then unexpected, so even original speech loses words). Rates compare with one another, not with open-vocabulary rates.

The ears (extra `ears`) hear both sets together (en_all): Whisper tiny.en, whose vocabulary is open, with what was
repeated and what was lost at the end, and DNSMOS. What original speech gets is what the ears themselves mishear.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import Engine, SynthesisRequest
from engine.paths import find_file
from engine.settings import VoiceSettings
from engine.vocoders.load import load_vocoder
from engine.voice.recording import load_reference
from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.presets import with_presets
from experiments.pocket.data import make_clip
from experiments.pocket.speech import SAMPLE_RATE_HZ, FliteVoice
from experiments.settings.compose import compose_config
from experiments.settings.front import answered
from experiments.workload.texts import select_lines
from metrics.isolation import Limits
from metrics.models.intelligibility import ClosedVocabularyRecogniser, Recogniser, Spoken, transcripts_of, wer_scores
from metrics.models.packaged import PREDICTORS
from metrics.models.predicted_mos import predictions
from metrics.models.words import corpus_wer, word_error
from metrics.outcome import Outcome
from metrics.record import RecordError, write_atomically

log = logging.getLogger("pocket_eval")
SETS = ("en_core", "en_heldout")
LIMITS = Limits(timeout_s=120.0, at_once=2)
HELP = f"""{__doc__}
examples:
  python -m experiments.pocket.evaluate
  python -m experiments.pocket.evaluate device.threads=2 out=outputs/words
  python -m experiments.pocket.evaluate workload.limit=12    # the first twelve sentences of each set
"""
Speak = Callable[[dict[str, str], str], np.ndarray]


def sentences(name: str) -> list[dict[str, str]]:
    lines = select_lines({"texts": name, "select": None, "limit": None})
    return [{"id": line.utterance_id, "category": line.category, "text": line.text} for line in lines]


def generated_by(engine: Engine, voices: Sequence[VoiceSettings], seed: int) -> Speak:
    references = {voice["id"]: (*load_reference(find_file(voice["audio"])), voice["text"]) for voice in voices}

    def speak(utterance: dict[str, str], voice: str) -> np.ndarray:
        audio_S, rate_hz, text = references[voice]
        request = SynthesisRequest(
            utterance_id=utterance["id"], text=utterance["text"], ref_audio_S=audio_S, ref_sample_rate_hz=rate_hz,
            ref_text=text, seed=seed,
        )  # fmt: skip
        return engine.synthesize([request])[0].audio_S

    return speak


def speakers(cfg: DictConfig, argv: Sequence[str]) -> Iterator[tuple[str, Speak]]:
    """original, copy through the vocoder with the trained timing, and generated at two solvers."""
    flite = {voice: FliteVoice(voice) for voice in ("slt", "rms")}
    vocoder = load_vocoder(OmegaConf.to_container(cfg.vocoder, resolve=True), "cpu").decoder

    def copy(utterance: dict[str, str], voice: str) -> np.ndarray:
        clip = make_clip(utterance["text"], voice, flite[voice].speak(utterance["text"]))
        mel = torch.from_numpy(np.ascontiguousarray(clip.warped(7).T))[None]
        return vocoder.decode(mel)[0].numpy()

    yield "original", lambda utterance, voice: flite[voice].speak(utterance["text"]).audio_S
    yield "copy", copy
    for solver in ("euler_32", "euler_7"):
        config = compose_config([*argv, f"solver={solver}"])
        with build_engine(config, HostClock()) as engine:
            yield solver, generated_by(engine, config["reference"]["voices"], cfg.seed)


def by_closed_vocabulary(kind: str, heard: Mapping[str, Sequence[Spoken]]) -> dict[str, float]:
    """Set/bigrams/kind -> word error rate by pocketsphinx."""
    texts = {name: [utterance["text"] for utterance in sentences(name)] for name in SETS}
    recognisers = {
        "both": ClosedVocabularyRecogniser(texts["en_core"] + texts["en_heldout"]),
        "core": ClosedVocabularyRecogniser(texts["en_core"]),
    }
    rates = {}
    for name, spoken in heard.items():
        for bigrams, recogniser in recognisers.items():
            errors = []
            for one in spoken:
                words = recogniser.transcribe(one.audio_S, SAMPLE_RATE_HZ)
                errors.append(word_error(one.text, words))
                log.info("%s %s %s: %r heard as %r", kind, bigrams, one.utterance_id, one.text, words)
            rates[f"{name}/{bigrams}/{kind}"] = corpus_wer(errors).wer_frac
    return rates


def by_ears(kind: str, spoken: Sequence[Spoken]) -> dict[str, float]:
    """en_all/score/kind -> its number: rates and counts of Whisper over all sentences, means of DNSMOS.

    Raises RecordError where one has none, with the reason.
    """
    recogniser: Recogniser = {"kind": "whisper", "folder": None, "language": "en"}
    transcripts = transcripts_of(spoken, [], recogniser, LIMITS)
    for one in transcripts:
        log.info("%s whisper %s: %r heard as %r", kind, one.utterance_id, one.text, one.hypothesis)
    found = {
        score.metric: Outcome(value=score.value, status=score.status, reason=score.reason)
        for score in wer_scores(transcripts)
        if score.utterance_id is None
    }
    audios = [(one.audio_S, one.sample_rate_hz) for one in spoken]
    for model in PREDICTORS:
        answers = predictions(audios, model, None, LIMITS)
        found |= {f"{model}_{name}": _mean([answer[name] for answer in answers]) for name in answers[0]}
    missing = [f"{name}: {outcome.reason}" for name, outcome in found.items() if outcome.value is None]
    if missing:
        raise RecordError(missing[0])
    return {f"en_all/{name}/{kind}": float(outcome.value or 0.0) for name, outcome in found.items()}


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    values = [outcome.value for outcome in outcomes if outcome.value is not None]
    missing = next((outcome for outcome in outcomes if outcome.value is None), None)
    return missing if missing is not None else Outcome.ok(sum(values) / len(values))


def _spoken(speak: Speak, name: str, most: int | None) -> list[Spoken]:
    return [
        Spoken(
            utterance_id=one["id"], text=one["text"], audio_S=speak(one, ("slt", "rms")[i % 2]),
            sample_rate_hz=SAMPLE_RATE_HZ,
        )
        for i, one in enumerate(sentences(name)[:most])
    ]  # fmt: skip


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    cfg = OmegaConf.create(compose_config(argv))
    torch.set_num_threads(cfg.device.threads or torch.get_num_threads())
    rates: dict[str, float] = {}
    for kind, speak in speakers(cfg, argv):
        heard = {name: _spoken(speak, name, cfg.workload.limit) for name in SETS}
        found = by_closed_vocabulary(kind, heard) | by_ears(kind, [one for spoken in heard.values() for one in spoken])
        rates |= found
        for name, value in found.items():
            print(f"{name}: {value:.3f}", flush=True)
    if cfg.out:
        write_atomically(Path(cfg.out) / "pocket_wer.json", json.dumps(rates, indent=1) + "\n")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
