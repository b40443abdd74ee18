"""How well the pocket model speaks: `python -m experiments.pocket.evaluate`.

Word error rates of original flite speech, of its copy through the pocket vocoder, and of generated speech, on en_core
and on 50 sentences of its vocabulary that were never trained on. The recogniser (pocketsphinx) is closed over the words
of en_core. Its bigrams come from both sets ("both") or from en_core alone ("core": what a held-out sentence says is
then unexpected, so even original speech loses words). Rates compare with one another, not with open-vocabulary rates.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import Engine, SynthesisRequest
from engine.paths import find_file
from engine.vocoders.load import load_vocoder
from engine.voice.recording import load_reference
from engine.weights.checkpoint import ROOT
from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.presets import with_presets
from experiments.pocket.data import make_clip
from experiments.pocket.speech import SAMPLE_RATE_HZ, FliteVoice
from experiments.settings.compose import compose_config
from experiments.settings.front import answered
from experiments.workload.texts import select_lines
from metrics.models.intelligibility import ClosedVocabularyRecogniser, WordErrors, corpus_wer, word_error
from metrics.record import write_atomically

log = logging.getLogger("pocket_eval")
SETS = ("en_core", "en_heldout")
HELP = f"""{__doc__}
examples:
  python -m experiments.pocket.evaluate
  python -m experiments.pocket.evaluate device.threads=2 out=outputs/words
"""
Speak = Callable[[dict[str, str], str], np.ndarray]


def sentences(name: str) -> list[dict[str, str]]:
    lines = select_lines({"texts": name, "select": None, "limit": None})
    return [{"id": line.utterance_id, "category": line.category, "text": line.text} for line in lines]


def generated_by(engine: Engine, voices: list[dict[str, Any]], seed: int) -> Speak:
    references = {voice["id"]: (*load_reference(find_file(voice["audio"])), voice["text"]) for voice in voices}

    def speak(utterance: dict[str, str], voice: str) -> np.ndarray:
        audio_S, rate_hz, text = references[voice]
        request = SynthesisRequest(
            utterance_id=utterance["id"], text=utterance["text"], ref_audio_S=audio_S, ref_sample_rate_hz=rate_hz,
            ref_text=text, seed=seed,
        )  # fmt: skip
        return engine.synthesize([request])[0].audio_S

    return speak


def speakers(cfg: DictConfig) -> Iterator[tuple[str, Speak]]:
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
        group = OmegaConf.load(ROOT / "conf" / "solver" / f"{solver}.yaml")
        config = OmegaConf.to_container(OmegaConf.merge(cfg, {"solver": group}), resolve=True)
        with build_engine(config, HostClock()) as engine:
            yield solver, generated_by(engine, config["reference"]["voices"], cfg.seed)


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    cfg = OmegaConf.create(compose_config(argv))
    torch.set_num_threads(cfg.device.threads or torch.get_num_threads())
    texts = {name: [utterance["text"] for utterance in sentences(name)] for name in SETS}
    recognisers = {
        "both": ClosedVocabularyRecogniser(texts["en_core"] + texts["en_heldout"]),
        "core": ClosedVocabularyRecogniser(texts["en_core"]),
    }
    rates: dict[str, float] = {}
    for kind, speak in speakers(cfg):
        for name in SETS:
            errors: dict[str, list[WordErrors]] = {bigrams: [] for bigrams in recognisers}
            for i, utterance in enumerate(sentences(name)):
                audio_S = speak(utterance, ("slt", "rms")[i % 2])
                for bigrams, recogniser in recognisers.items():
                    heard = recogniser.transcribe(audio_S, SAMPLE_RATE_HZ)
                    errors[bigrams].append(word_error(utterance["text"], heard))
                    log.info("%s %s %s: %r heard as %r", kind, bigrams, utterance["id"], utterance["text"], heard)
            for bigrams in recognisers:
                rates[f"{name}/{bigrams}/{kind}"] = corpus_wer(errors[bigrams]).wer_frac
                print(f"{name} {kind} ({bigrams}): {rates[f'{name}/{bigrams}/{kind}']:.3f}", flush=True)
    if cfg.out:
        write_atomically(Path(cfg.out) / "pocket_wer.json", json.dumps(rates, indent=1) + "\n")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
