"""The sentence lists that baselines refer to: an edit is noticed, each has a licence, who can speak it is known."""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.contract import ConfigError
from experiments.measuring.validate import validate_texts
from experiments.workload.requests import load_workload
from tests.engines import ROOT, config

TEXTS = sorted(path.stem for path in (ROOT / "conf" / "texts").glob("*.yaml"))
# What was said under an id stays what was said: baselines and published figures refer to it. A changed hash needs a
# new list with a new name.
CONTENT_SHA256 = {
    "en_core": "a603cf7bceb728d2",
    "en_heldout": "8c4137956beeffb3",
    "en_long": "c211becf67f085ab",
    "es_core": "1946975a32ae8f05",
    "es_long": "9046fbdcb5f84810",
    "ladder": "60aaa96f6473311b",
    "seeds_en": "aa76707c5870fb8b",
}


def content(name: str) -> dict[str, Any]:
    return yaml.safe_load(Path(ROOT, "conf", "texts", f"{name}.yaml").read_text(encoding="utf-8"))


def sha256_of(name: str) -> str:
    rows = [[u["id"], u["category"], u["text"]] for u in content(name)["utterances"]]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()[:16]


def test_every_list_is_pinned() -> None:
    assert set(CONTENT_SHA256) == set(TEXTS)


@pytest.mark.parametrize("name", TEXTS)
def test_no_sentence_was_changed(name: str) -> None:
    assert sha256_of(name) == CONTENT_SHA256[name]


@pytest.mark.parametrize("name", TEXTS)
def test_every_list_says_its_licence_and_language(name: str) -> None:
    found = content(name)
    assert found["name"] == name
    assert found["licence"].startswith("CC0-1.0; written for this project")
    assert found["language"] in ("en", "es")


def test_the_seeds_categories() -> None:
    counts = Counter(u["category"] for u in content("seeds_en")["utterances"])
    assert counts == {"short": 5, "medium": 5, "long": 3, "technical": 3, "emotional": 5, "livestream": 5}


def test_spanish_has_questions_exclamations_regions_and_paragraphs() -> None:
    sentences = content("es_core")["utterances"]
    counts = Counter(u["category"] for u in sentences)
    assert counts == {key: 4 for key in ("neutral", "question", "emphasis", "rioplatense", "colombian", "mexican")}
    assert all(u["text"].startswith("¿") for u in sentences if u["category"] == "question")
    assert all(u["text"].startswith("¡") for u in sentences if u["category"] == "emphasis")
    assert all(len(u["text"]) > 250 for u in content("es_long")["utterances"])


def test_rungs_have_their_lengths_and_are_whole_sentences_of_the_other_lists() -> None:
    known = " ".join(u["text"] for name in ("en_core", "en_long") for u in content(name)["utterances"])
    rungs = {int(u["category"].removeprefix("chars_")): u["text"] for u in content("ladder")["utterances"]}
    assert sorted(rungs) == [25, 50, 100, 200, 400, 800]
    for length, text in rungs.items():
        assert len(text) == pytest.approx(length, rel=0.07)
        assert all(sentence in known for sentence in re.findall(r"\S[^.]*\.", text))


def test_thirty_pairs_are_five_of_each_category() -> None:
    lines = load_workload(config("workload=nfe6")).lines
    assert Counter(line.category for line in lines) == {
        key: 5 for key in ("short", "medium", "long", "technical", "emotional", "livestream")
    }


@pytest.mark.parametrize("name", ["nfe6", "ladder", "en_long", "short", "medium", "long"])
def test_pocket_can_speak_them(name: str) -> None:
    composed = config(f"workload={name}")
    validate_texts(load_workload(composed), composed["model"])


@pytest.mark.parametrize(
    ("name", "letters", "sentence"),
    [("es_core", "'í'", "es01"), ("es_long", "'ñ'", "esp1"), ("seeds_en", "'%'", "sd15")],
)
def test_what_pocket_has_no_letters_for_is_refused_by_name(name: str, letters: str, sentence: str) -> None:
    composed = config(f"workload={name}")
    with pytest.raises(ConfigError, match=f"text of {sentence}=.* the model's vocabulary lacks .*{letters}"):
        validate_texts(load_workload(composed), composed["model"])


@pytest.mark.parametrize("name", ["es_core", "es_long", "seeds_en"])
def test_a_vocabulary_with_their_letters_speaks_them(name: str, tmp_path: Path) -> None:
    """As a Spanish checkpoint brings it: every letter on a line of its own."""
    letters = {" ", *"".join(u["text"] for u in content(name)["utterances"]), *"We walk to the sea."}
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("".join(f"{letter}\n" for letter in sorted(letters)), encoding="utf-8")
    composed = config(f"workload={name}", f"model.vocab={vocab}")
    validate_texts(load_workload(composed), composed["model"])
