"""Fuzz: texts, voices, weights and vocabularies that users supply, spoilt; each ends with 2 and one line that names the
file or the key, or was read as it is meant. Fixed seeds, nothing is measured."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from engine.build import build_engine
from engine.clock import HostClock
from engine.weights.checkpoint import ROOT
from experiments import run, trim_reference
from experiments.measuring.validate import one_cell
from tests.fuzzing import Case, check, params, spoilt_texts, spoilt_yaml, stop_before_measuring

POCKET = ROOT / "engine" / "pocket"
Spoilt = tuple[str, bytes]
Make = Callable[[Path], Sequence[str]]
READ = frozenset({0, 2})
WEIGHTS = "what a file holds beside, or instead of, the model's float tensors: weights"
KNOWN: dict[str, str] = {}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stop_before_measuring(monkeypatch, tmp_path)


TEXTS = """name: mine
utterances:
  - {id: a1, category: short, text: Good morning to you!}
  - {id: a2, category: short, text: Is it seven?}
"""


def text_cases() -> Iterator[Case]:
    spoilt = itertools.chain(
        spoilt_texts(TEXTS, seed=9), spoilt_yaml(TEXTS, seed=10, num=10),
        (
            ("no id", b"utterances: [{category: a, text: Good morning.}]"),
            ("two alike", TEXTS.replace("a2", "a1").encode()), ("id a path", TEXTS.replace("a1", "../a1").encode()),
            ("text a list", TEXTS.replace("Is it seven?", "[a, b]").encode()),
            ("text empty", TEXTS.replace("Is it seven?", "''").encode()),
            ("text yes", TEXTS.replace("Is it seven?", "Yes").encode()),
            ("text null", TEXTS.replace("Is it seven?", "null").encode()),
            ("text a date", TEXTS.replace("Is it seven?", "2024-01-01").encode()),
            ("id a number", TEXTS.replace("a1", "0x10").encode()),
            ("category null", TEXTS.replace("short", "~").encode()),
            ("text foreign", TEXTS.replace("Is it seven?", "\u6f22\u5b57 \u05e9").encode()),
            ("id long", TEXTS.replace("a1", "a" * 5000).encode()),
            ("utterances a map", b"utterances: {a1: Good morning.}"), ("utterances null", b"utterances: null"),
            ("an entry null", b"utterances: [null]"), ("an entry a text", b"utterances: [Good morning.]"),
        ),
    )  # fmt: skip
    for how, content in spoilt:
        yield Case(name=f"texts {how}", verb=run.main, make=_with_texts(content), codes=READ)


def _with_texts(content: bytes) -> Make:
    def make(folder: Path) -> Sequence[str]:
        (folder / "mine.yaml").write_bytes(content)
        return [f"workload.texts={folder / 'mine.yaml'}", "workload.select=null"]

    return make


def audio_cases() -> Iterator[Case]:
    chance, whole = random.Random(11), (POCKET / "slt.wav").read_bytes()
    spoilt: list[Spoilt] = [(f"cut at {n}", whole[:n]) for n in (0, 1, 12, 40, 44, 60, 1000, len(whole) // 2)]
    for place in chance.sample(range(44), 12):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(8)
        spoilt.append((f"bit of byte {place}", bytes(flipped)))
    spoilt += [
        ("a text", b"hello"), ("a PNG", b"\x89PNG\r\n\x1a\n" + bytes(100)), ("an MP3 header", b"ID3\x04" + bytes(200)),
        ("zeros", bytes(5000)), ("noise", chance.randbytes(5000)), ("a huge rate", _rate(whole, 2**32 - 1)),
        ("no rate", _rate(whole, 0)), ("a rate of 1", _rate(whole, 1)),
    ]  # fmt: skip
    for number, (how, content) in enumerate(spoilt):
        verb, arguments = (
            (run.main, lambda path: [f"reference.voices.0.audio={path}"]),
            (trim_reference.main, lambda path: [path, "--max-s", "1", "--text", "We walk.", "--out", "short.wav"]),
        )[number % 4 == 3]
        yield Case(name=f"{verb.__module__} audio {how}", verb=verb, make=_with_audio(content, arguments), codes=READ)
    made: tuple[tuple[str, Callable[[Path], object]], ...] = (
        ("a folder", lambda path: path.mkdir()), ("missing", lambda path: None), ("many channels", _channels),
        ("infinite", _infinite),
    )  # fmt: skip
    for how, make in made:
        yield Case(name=f"audio {how}", verb=run.main, make=_made_audio(make), codes=READ)


def _rate(whole: bytes, rate_hz: int) -> bytes:
    return whole[:24] + rate_hz.to_bytes(4, "little") + whole[28:]


def _channels(path: Path) -> None:
    soundfile.write(path, np.zeros((24000, 40), np.float32), 24000)


def _infinite(path: Path) -> None:
    soundfile.write(path, np.full(24000, np.inf, np.float32), 24000, subtype="FLOAT")


def _with_audio(content: bytes, arguments: Callable[[str], Sequence[str]]) -> Make:
    def make(folder: Path) -> Sequence[str]:
        (folder / "voice.wav").write_bytes(content)
        return arguments(str(folder / "voice.wav"))

    return make


def _made_audio(write: Callable[[Path], object]) -> Make:
    def make(folder: Path) -> Sequence[str]:
        write(folder / "voice.wav")
        return [f"reference.voices.0.audio={folder / 'voice.wav'}"]

    return make


def build(overrides: Sequence[str]) -> int:
    """What a worker does with a validated configuration before its first call."""
    with build_engine(one_cell(overrides).config, HostClock()):
        return 0


@lru_cache(maxsize=1)
def pocket_state() -> dict[str, torch.Tensor]:
    return load_file(POCKET / "dit.safetensors")


def checkpoint_cases() -> Iterator[Case]:
    chance, whole = random.Random(12), (POCKET / "vocos.safetensors").read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + size]
    spoilt: list[Spoilt] = [(f"cut at {n}", whole[:n]) for n in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1)]
    spoilt += [
        ("a header beyond the end", (2**40).to_bytes(8, "little") + whole[8:]), ("no JSON", whole[:8] + b"x" * size),
        ("zeros", bytes(1000)), ("noise", chance.randbytes(1000)), ("a text", b"hello"),
        ("an odd type", whole[:8] + re.sub(rb'"F(16|32)"', rb'"Q\1"', header, count=1) + whole[8 + size :]),
        ("a renamed tensor", whole[:8] + header.replace(b"backbone.embed", b"backbone.ember", 1) + whole[8 + size :]),
    ]  # fmt: skip
    for how, content in spoilt:
        yield Case(name=f"vocoder.safetensors {how}", verb=build, named=("vocoder.checkpoint",),
                   make=_with_file("v.safetensors", _written(content), "vocoder.checkpoint"))  # fmt: skip
    for how, write in pickles():
        yield Case(name=f"model.pt {how}", verb=build, named=("model.",),
                   make=_with_file("m.pt", write, "model.checkpoint"))  # fmt: skip
    for how, change in tensors():
        yield Case(name=f"model.safetensors {how}", verb=build, named=("model.",),
                   make=_with_file("m.safetensors", _changed(change), "model.checkpoint"))  # fmt: skip


def pickles() -> Iterator[tuple[str, Callable[[Path], object]]]:
    for how, content in (
        ("a list", [1, 2]), ("a number", 5), ("a tensor", torch.zeros(3)), ("nothing", {}), ("text", {"a": "b"}),
        ("nested lists", {"model_state_dict": [1]}), ("numbers as names", {1: torch.zeros(2)}),
        ("ema alone", {"ema_model_state_dict": {"initted": torch.tensor(True)}}), ("none", None),
    ):  # fmt: skip
        yield how, lambda path, content=content: torch.save(content, path)
    yield "code", lambda path: path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    yield "a zip", lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100))
    yield "empty", lambda path: path.write_bytes(b"")
    yield "a whole module", lambda path: torch.save(torch.nn.Linear(2, 2), path)


Change = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


def tensors() -> Iterator[tuple[str, Change]]:
    names = ("transformer.proj_out.weight", "transformer.transformer_blocks.0.attn.to_q.weight")
    yield "NaN", lambda state: {**state, names[0]: state[names[0]] * float("nan")}
    yield "infinite", lambda state: {**state, names[1]: state[names[1]] + float("inf")}
    yield "transposed", lambda state: {**state, names[0]: state[names[0]].T.contiguous()}
    yield "whole numbers", lambda state: {**state, names[1]: state[names[1]].to(torch.int32)}
    yield "one missing", lambda state: {name: value for name, value in state.items() if name != names[1]}
    yield "one too many", lambda state: {**state, "transformer.more": torch.zeros(2)}
    yield "none", lambda state: {}
    yield "scalars", lambda state: {name: torch.tensor(0.0) for name in state}


def _changed(change: Change) -> Callable[[Path], object]:
    return lambda path: save_file(change(pocket_state()), path)


def _written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _with_file(name: str, write: Callable[[Path], object], key: str) -> Make:
    def make(folder: Path) -> Sequence[str]:
        write(folder / name)
        return [f"{key}={folder / name}"]

    return make


def vocabulary_cases() -> Iterator[Case]:
    text = (POCKET / "vocab.txt").read_text(encoding="utf-8")
    lines = text.splitlines()
    spoilt = [
        *spoilt_texts(text, seed=13), ("doubled", "\n".join([*lines, lines[5]]).encode()),
        ("shuffled", "\n".join(lines[::-1]).encode()),
        ("a line fewer", "\n".join(lines[:-1]).encode()), ("a line more", "\n".join([*lines, "zz"]).encode()),
        ("with a mark", b"\xef\xbb\xbf" + text.encode()), ("by Windows", text.replace("\n", "\r\n").encode()),
        ("in Latin-1", text.encode() + "\u00e9".encode("latin-1")),
    ]  # fmt: skip
    for how, content in spoilt:
        yield Case(name=f"vocabulary {how}", verb=build, codes=READ,
                   make=_with_file("v.txt", _written(content), "model.vocab"))  # fmt: skip


@pytest.mark.parametrize("case", params(itertools.chain(text_cases(), audio_cases()), KNOWN))
def test_texts_and_voices(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", params(itertools.chain(checkpoint_cases(), vocabulary_cases()), KNOWN))
def test_weights(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
