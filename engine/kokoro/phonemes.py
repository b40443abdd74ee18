"""Text -> phonemes -> tokens, with a cache on disk: a text is spelt once for all processes.

The phonemes are kokoro-onnx's own (espeak-ng through phonemizer). That package, and with it espeak-ng's library, is
imported at the first text that no cache knows.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engine.cache import cache_root
from engine.contract import ConfigError, InvalidRequest, UnsupportedEngine
from engine.kokoro.weights import EXTRA

TEXTS_KEPT = 512
MOST_PHONEMES = 510
CACHES = ("disk", "memory", "none")
SPELT_BY = ("kokoro-onnx", "phonemizer", "espeakng-loader")
SENTENCE_PAUSE_S, CLAUSE_PAUSE_S = 0.25, 0.1  # kokoro-onnx's own defaults

Spell = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one run of the model speaks: token indices (T,), and the seconds of silence after it."""

    tokens: tuple[int, ...]
    pause_s: float


def vocabulary(metadata: Mapping[str, str]) -> dict[str, int]:
    """Phoneme -> token: the model's own where its file carries one, else that of kokoro-onnx."""
    carried = metadata.get("kokoro_config")
    text = carried or (package_folder() / "config.json").read_text("utf-8")
    return {str(phoneme): int(token) for phoneme, token in json.loads(text)["vocab"].items()}


def package_folder() -> Path:
    """Of kokoro-onnx, which is not imported for it. Raises UnsupportedEngine where it is not installed."""
    spec = importlib.util.find_spec("kokoro_onnx")
    if spec is None or not spec.submodule_search_locations:
        raise UnsupportedEngine("kokoro-onnx is not installed", EXTRA)
    return Path(next(iter(spec.submodule_search_locations)))


def package_speller(known: Mapping[str, int], language: str) -> Spell:
    """kokoro-onnx's G2P, imported when it is first needed."""

    @cache
    def tokenizer() -> Any:
        from kokoro_onnx.tokenizer import Tokenizer

        return Tokenizer(vocab=dict(known))

    return lambda text: str(tokenizer().phonemize(text, language))


class Phonemes:
    """A context-free speller with its caches: of this process, and on disk by the versions of what spells.

    kind: disk, memory (of this process alone) or none.
    """

    def __init__(self, spell: Spell, known: Mapping[str, int], language: str, kind: str):
        self._spell, self._known, self._kind = spell, known, kind
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._disk = _Disk(language, known) if kind == "disk" else None
        self._counts: Counter[str] = Counter()

    def batches(self, text: str, name: str) -> list[Batch]:
        """What the model is given, cut as kokoro-onnx cuts beyond 510 phonemes. Raises InvalidRequest naming `name`."""
        if not text.strip():
            raise InvalidRequest(f"text of {name}", repr(text), "is empty", "write a sentence")
        phonemes = self.of(text)
        parts = [phonemes] if len(phonemes) <= MOST_PHONEMES else _cut(phonemes)
        tokens = [tuple(self._known[one] for one in part if one in self._known) for part in parts]
        if not phonemes or not all(tokens):
            raise InvalidRequest(f"text of {name}", repr(text), "has no phonemes", "write words of the language")
        pauses = [*(_pause_s(part) for part in parts[:-1]), 0.0]
        return [Batch(*pair) for pair in zip(tokens, pauses, strict=True)]

    def of(self, text: str) -> str:
        self._counts["text_cache_lookups"] += 1
        found = self._kept.get(text) if self._kind != "none" else None
        if found is None and self._disk is not None:
            found = self._disk.get(text)
            self._counts["text_cache_disk_hits"] += found is not None
        if found is not None:
            self._counts["text_cache_hits"] += 1
            return self._keep(text, found)
        found = " ".join(self._spell(text).split())
        if self._disk is not None:
            self._disk.put(text, found)
        return found if self._kind == "none" else self._keep(text, found)

    def _keep(self, text: str, phonemes: str) -> str:
        self._kept[text] = phonemes
        self._kept.move_to_end(text)
        if len(self._kept) > TEXTS_KEPT:
            self._kept.popitem(last=False)
        return phonemes

    def proof(self) -> dict[str, int]:
        """Look-ups and hits; those that the disk answered are among the hits."""
        return {key: self._counts[key] for key in ("text_cache_lookups", "text_cache_hits", "text_cache_disk_hits")}

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()


class _Disk:
    """Text -> phonemes in SQLite, which several processes may write at once. What is lost in a crash is spelt again."""

    def __init__(self, language: str, known: Mapping[str, int]):
        made_by = [f"{name} {importlib.metadata.version(name)}" for name in SPELT_BY]
        key = hashlib.sha256(json.dumps([language, made_by, dict(known)], sort_keys=True).encode()).hexdigest()[:24]
        self._path = cache_root() / "kokoro_phonemes" / f"{key}.sqlite"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA synchronous=OFF")
            self._base.execute("CREATE TABLE IF NOT EXISTS spelt (text TEXT PRIMARY KEY, phonemes TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def get(self, text: str) -> str | None:
        try:
            row = self._base.execute("SELECT phonemes FROM spelt WHERE text = ?", (text,)).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return None if row is None else str(row[0])

    def put(self, text: str, phonemes: str) -> None:
        try:
            self._base.execute("INSERT OR REPLACE INTO spelt VALUES (?, ?)", (text, phonemes))
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        self._base.close()

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(
            "F5BENCH_CACHE", self._path, f"cannot be used ({error})",
            "delete that file, name another folder, or use engine.phoneme_cache=memory",
        )  # fmt: skip


def _cut(phonemes: str) -> Sequence[str]:
    from kokoro_onnx.chunker import split_phonemes

    return [str(part) for part in split_phonemes(phonemes, MOST_PHONEMES)]


def _pause_s(phonemes: str) -> float:
    from kokoro_onnx.chunker import pause_after

    return float(pause_after(phonemes, SENTENCE_PAUSE_S, CLAUSE_PAUSE_S))
