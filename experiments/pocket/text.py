"""Sentences for the pocket model's training: a small grammar over common words, and the workload's own vocabulary."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.common.written import read_document, value_of

GRAMMAR_PATH = Path(__file__).with_name("grammar.yaml")
VOWELS = "aeiou"


def third_person(verb: str) -> str:
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ies"
    return verb + "s"


def past(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ied"
    return verb + "ed"


def words_of(text: str) -> list[str]:
    """Lower-case words of a text, apostrophes kept: the vocabulary that the recogniser is closed over."""
    return re.findall(r"[a-z']+", text.lower())


class SentenceSource:
    """Endless training sentences. `core` texts give half of the words; `held_out` sentences are never produced."""

    def __init__(self, core_texts: list[str], held_out: list[str], rng: random.Random):
        grammar: dict[str, Any] = value_of(read_document(GRAMMAR_PATH).root)
        self.rng = rng
        self.core_texts = core_texts
        self.core_words = sorted({w for text in core_texts for w in words_of(text)})
        self.held_out = {" ".join(words_of(text)) for text in held_out}
        self.frames: list[str] = grammar["frames"]
        self.slots = self._slots(grammar)

    @staticmethod
    def _slots(grammar: dict[str, Any]) -> dict[str, list[str]]:
        verbs = grammar["verbs"]
        regular = [verb for verb in verbs if verb not in grammar["irregular"]]
        return {
            "n": grammar["nouns"],
            "ns": [third_person(noun) for noun in grammar["nouns"]],
            "v": verbs,
            "vd": [past(verb) for verb in regular] + list(grammar["irregular"].values()),
            "a": grammar["adjectives"],
            "r": grammar["adverbs"],
            "p": grammar["prepositions"],
            "d": grammar["determiners"],
            "pr": grammar["pronouns"],
            "num": grammar["numbers"],
            "name": grammar["names"],
        }

    def general(self) -> str:
        frame = self.rng.choice(self.frames)
        text = re.sub(r"\{(\w+)\}", lambda m: self.rng.choice(self.slots[m.group(1)]), frame)
        return text[0].upper() + text[1:]

    def core_random(self) -> str:
        """Random words of the core vocabulary with punctuation: every word in many contexts."""
        words = [self.rng.choice(self.core_words) for _ in range(self.rng.randint(2, 14))]
        for i in range(2, len(words) - 2):
            if self.rng.random() < 0.08:
                words[i] += ","
        return (" ".join(words)).capitalize() + self.rng.choice("....!?")

    def core_span(self) -> str:
        """A whole workload sentence, or the end or the beginning of one."""
        text = self.rng.choice(self.core_texts)
        words = text.split()
        if self.rng.random() < 0.5 or len(words) < 4:
            return text
        cut = self.rng.randint(2, len(words) - 2)
        part = words[:cut] if self.rng.random() < 0.5 else words[cut:]
        return " ".join(part)

    def unheard(self) -> Iterator[str]:
        """Endless sentences without any of the workload's own, or parts of them."""
        while True:
            text = self.rng.choice((self.general, self.core_random))()
            if " ".join(words_of(text)) not in self.held_out:
                yield text

    def __iter__(self) -> Iterator[str]:
        kinds = (self.general, self.core_random, self.core_span)
        while True:
            text = self.rng.choices(kinds, weights=(0.35, 0.4, 0.25))[0]()
            if " ".join(words_of(text)) not in self.held_out:
                yield text
