"""Whose voices and which texts a student is taught with.

A folder of upstream's training form (metadata.csv of `audio_file|text` lines, clips beside it) gives both; else voices
are those of the `reference` group, and texts a file's lines or the grammar of the pocket model's own training. What a
workload says is never among them, nor a part of it.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from engine.contract import ConfigError, SynthesisRequest
from engine.paths import find_file
from engine.settings import VoiceSettings
from experiments.common.plain import Config
from experiments.pocket.data import workload_texts
from experiments.pocket.text import SentenceSource
from experiments.students.settings import Recipe
from experiments.workload.texts import select_lines
from experiments.workload.voices import Voice, load_voices

METADATA = "metadata.csv"
HEADER = "audio_file|text"
MOST_VOICES = 64  # of a folder; they stay in memory
FOLDER_REMEDY = f"lay {METADATA} (a line {HEADER}, then one CLIP|TRANSCRIPT a clip) and the clips there"


def entries_of(folder: Path) -> list[VoiceSettings]:
    """The clips of a folder, in its order. Raises ConfigError for one that has none."""
    listed = folder / METADATA
    if not listed.is_file():
        raise ConfigError("recipe.data", folder, f"holds no {METADATA}", FOLDER_REMEDY)
    found: list[VoiceSettings] = []
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
        audio, bar, text = line.partition("|")
        if not line.strip() or line.strip() == HEADER:
            continue
        if not bar or not text.strip():
            raise ConfigError("recipe.data", listed, f"line {number} has no transcript", FOLDER_REMEDY)
        found.append({"id": f"c{number}", "audio": str(folder / audio.strip()), "text": text.strip()})
    if not found:
        raise ConfigError("recipe.data", folder, f"has no clips: {METADATA} lists none", FOLDER_REMEDY)
    return found


def requests_of(voices: Sequence[Voice], config: Config) -> list[SynthesisRequest]:
    """One request a voice, to be given other texts."""
    return [
        SynthesisRequest(
            utterance_id=voice.voice_id, text=voice.text, ref_audio_S=voice.audio_S, ref_text=voice.text,
            ref_sample_rate_hz=voice.rate_hz, seed=config["seed"],
            speed_ratio=float(config["reference"]["speed_ratio"]),
        )
        for voice in voices
    ]  # fmt: skip


def voices_of(config: Config, recipe: Recipe) -> list[SynthesisRequest]:
    """Raises ConfigError."""
    reference = config["reference"]
    if recipe.data is not None:
        entries = entries_of(find_file(recipe.data))
        chosen = random.Random(config["seed"]).sample(entries, min(len(entries), MOST_VOICES))
        reference = {**reference, "voices": chosen}
    return requests_of(load_voices(reference), config)


def texts_of(recipe: Recipe, kept_out: Collection[str], rng: random.Random) -> Iterator[str]:
    """Endless; drawn with `rng` alone, so that its state is all that a checkpoint needs. Raises ConfigError."""
    if recipe.data is None and recipe.texts is None:
        words = workload_texts("en_core") + workload_texts("en_long")
        return SentenceSource(words, [*words, *kept_out], rng).unheard()
    if recipe.texts is not None:
        key, listed = (
            "recipe.texts",
            [line.text for line in select_lines({"texts": recipe.texts, "select": None, "limit": None})],
        )
    else:
        key, listed = "recipe.data", [entry["text"] for entry in entries_of(find_file(str(recipe.data)))]
    refused = [_bare(text) for text in kept_out]
    usable = [text for text in listed if _bare(text) and not any(_bare(text) in held for held in refused)]
    if not usable:
        raise ConfigError(
            key, recipe.texts or recipe.data, "has no sentence that the workload does not have", "give other sentences"
        )
    return _drawn(usable, rng)


def _bare(text: str) -> str:
    """Letters and digits of any script, so that a part of a sentence is found in it."""
    return "".join(char for char in text.lower() if char.isalnum())


def _drawn(texts: Sequence[str], rng: random.Random) -> Iterator[str]:
    while True:
        yield rng.choice(texts)
