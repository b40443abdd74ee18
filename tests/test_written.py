"""Texts, ids and settings that people write are what is spoken and used, or are refused with line and quotes."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.contract import ConfigError
from experiments.common.written import NotWritten, read_document, value_of
from experiments.serve.settings import read_settings
from experiments.settings.compose import compose_config
from experiments.settings.words import KEYS, read_yaml, split_words
from experiments.workload.requests import load_workload, written_voices
from experiments.workload.texts import select_lines
from tests.engines import ROOT

ONE_LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=40)
PLAIN = st.none() | st.booleans() | st.integers(-1000000, 1000000) | st.floats(-1e9, 1e9) | ONE_LINE
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ONE_LINE, inner, max_size=3), max_leaves=6
)
TRAPS = [
    "Yes",
    "no",
    "On",
    "off",
    "10",
    "010",
    "0x10",
    "1:30",
    "1e3",
    ".5",
    "2026-11-27",
    "1_000",
    "y",
    "=",
    "<<",
    "+1",
]


def lines_of(path: Path) -> list[tuple[str, str]]:
    return [
        (line.utterance_id, line.text) for line in select_lines({"texts": str(path), "select": None, "limit": None})
    ]


def outcome(read: Callable[[], object]) -> tuple[object, str | None]:
    """(what it gave, None) or (None, the one line that refuses it)."""
    try:
        return read(), None
    except ConfigError as error:
        line = str(error)
    assert len(line.splitlines()) == 1
    return None, line


def spoken(folder: Path, content: str, name: str = "mine.yaml") -> list[tuple[str, str]]:
    """What a list of these characters says; the file is new for each, since lists are read once."""
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_text(content, encoding="utf-8")
    return lines_of(path)


@pytest.mark.parametrize("word", TRAPS)
def test_a_word_that_yaml_takes_for_something_else_is_spoken_as_written(word: str, tmp_path: Path) -> None:
    assert spoken(tmp_path, f"utterances:\n  - {{id: a1, category: {word}, text: {word}}}\n") == [("a1", word)]
    assert spoken(tmp_path, f"utterances:\n- id: a1\n  category: c\n  text: {word}\n") == [("a1", word)]
    if word not in ("1:30", "=", "<<", "+1", ".5"):
        assert spoken(tmp_path, f"utterances: [{{id: {word}, category: c, text: d}}]") == [(word, "d")]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{id: a, category: c, text: }", r"mine.yaml: .*\(line 3: text of entry 2 is empty .*double quotes"),
        ("{id: a, category: c, text: null}", r"line 3: text of entry 2 is empty \(null\)"),
        ("{id: ~, category: c, text: b}", r"line 3: id of entry 2 is empty \(~\)"),
        ("{id: a, category: c, text: We went, and came}", r"line 3: entry 2 has a key 'and came'.*double quotes"),
        ("{id: a, category: c, text: [laughs]}", r"line 3: text of entry 2 is no text but a list.*double quotes"),
        ("{id: a, category: c, text: !loud word}", r"line 3: text of entry 2 begins with !.*double quotes"),
        ("{id: a, category: c, text: &more words}", r"line 3: text of entry 2 begins with &.*double quotes"),
        ("{id: a, id: b, category: c, text: d}", r"line 3: id stands twice"),
        ("{id: a, category: c, text: \"\\ud800\"}", r"line 3: text of entry 2 .* half a character"),
        ("{id: a, category: c, text: *x}", r"line 3: found undefined alias"),
        ("just words", r"line 3: entry 2 is no set of keys"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_refused_by_line_and_entry(entry: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        spoken(tmp_path, f"utterances:\n  - {{id: b1, category: c, text: Yes}}\n  - {entry}\n")


def test_a_sentence_cut_at_a_hash_is_refused_and_a_comment_elsewhere_is_none(tmp_path: Path) -> None:
    head = "utterances:  # mine\n- id: a\n  category: c  # ours\n  text: "
    with pytest.raises(ConfigError, match=r"line 4: text of entry 1 is cut at #.*double quotes"):
        spoken(tmp_path, head + "We are #1 here\n")
    assert spoken(tmp_path, head.replace("  # ours", "") + '"We are #1 here"  # said loudly\n') == [
        ("a", "We are #1 here")
    ]


@settings(max_examples=60, deadline=None)
@given(text=ONE_LINE)
@example(text="0,")
def test_any_text_comes_back_or_is_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("texts")
    entry = {"id": "a", "category": "c", "text": text}
    for content in (
        yaml.safe_dump({"utterances": [entry]}), yaml.safe_dump({"utterances": [entry]}, allow_unicode=True),
        json.dumps({"utterances": [entry]}), json.dumps({"utterances": [entry]}, ensure_ascii=False, indent=1),
    ):  # fmt: skip
        assert spoken(folder, content) == [("a", text)]
    if text[0] not in "'\"|>":  # those begin a quoted text
        plain = text.strip(" ")
        for content, words in (
            (f"utterances:\n- id: a\n  category: c\n  text: {text}\n", plain),
            # A comma before a brace ends the entry, in any YAML
            (f"utterances: [{{id: a, category: c, text: {text}}}]", plain.removesuffix(",").strip(" ")),
        ):
            said, refused = outcome(lambda content=content: spoken(folder, content))
            assert refused or said == [("a", words)]
    said, refused = outcome(lambda: spoken(folder, f"\n{text}\r\n", "mine.txt"))
    assert said == ([("l002", text.strip())] if text.strip() else None)


@settings(max_examples=50, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=60), st.text(alphabet="utterances:{}[]-&*!|>'\"#%@ \n\tidcatexgory,.", max_size=80)
    )
)
def test_no_file_whatever_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes | str) -> None:
    folder = tmp_path_factory.mktemp("texts")
    for name in ("mine.yaml", "mine.txt"):
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        for read in (lines_of, lambda path: read_yaml("preset", str(path), ROOT / "conf" / "gate" / "quality")):
            _, refused = outcome(lambda read=read, path=path: read(path))
            assert refused is None or name in refused


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_rules_keep_their_types(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(json.dumps({"value": value}), encoding="utf-8")
    assert value_of(read_document(path).root) == {"value": value}


def test_rules_do_not_turn_words_into_other_things(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("a: Yes\nb: 010\nc: 1:30\nd: 0.05\ne: [1, x]\nf: true\ng:\n", encoding="utf-8")
    found = {"a": "Yes", "b": "010", "c": "1:30", "d": 0.05, "e": [1, "x"], "f": True, "g": None}
    assert value_of(read_document(path).root) == found
    path.write_text("a: 1\na: 2\n", encoding="utf-8")
    with pytest.raises(NotWritten, match="line 2: a stands twice"):
        value_of(read_document(path).root)


def test_own_texts_are_all_of_them_under_their_own_name(tmp_path: Path) -> None:
    path = tmp_path / "my stories.txt"
    path.write_text("﻿The first one.\n\n  Yes \r\nAnd # three.", encoding="utf-8")
    workload = load_workload(compose_config([f'workload.texts="{path}"']))
    assert workload.name == "my stories"
    assert [line.text for line in workload.lines] == ["The first one.", "Yes", "And # three."]
    assert [line.utterance_id for line in workload.lines] == ["l001", "l003", "l004"]
    config = compose_config([f'workload.texts="{path}"', "workload.select=[l003]", "workload.name=other"])
    assert (load_workload(config).name, len(load_workload(config).lines)) == ("other", 1)
    assert load_workload(compose_config(["workload=smoke", f'workload.texts="{path}"'])).name == "my stories"
    assert load_workload(compose_config(["workload.texts=[en_long,ladder]"])).name == "en_long+ladder"


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_plain_file_without_a_sentence_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine.txt: holds no utterances"):
        spoken(tmp_path, content, "mine.txt")


def test_a_file_in_another_encoding_is_refused_by_line(tmp_path: Path) -> None:
    for name in ("mine.txt", "mine.yaml"):
        (tmp_path / name).write_bytes("utterances:\n- id: schön".encode("latin-1"))
        with pytest.raises(ConfigError, match=rf"{name}: not a text list \(line 2: is not UTF-8"):
            lines_of(tmp_path / name)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.lists(st.integers(), max_size=2),
        ONE_LINE,
    )
)
def test_a_transcript_that_hydra_took_for_something_else_is_refused(value: object) -> None:
    entry = {"id": "a", "audio": "a.wav", "text": value}
    if isinstance(value, str):
        assert written_voices({"voices": [entry]})[0].text == value
    else:
        with pytest.raises(ConfigError, match=r"reference.voices\[0\].text=.*double quotes"):
            written_voices({"voices": [entry]})


@pytest.mark.parametrize("typed", ["10", "true", "null", "1e3"])
def test_a_transcript_on_the_command_line_too(typed: str) -> None:
    config = compose_config([f"reference.voices=[{{id: a, audio: engine/pocket/slt.wav, text: {typed}}}]"])
    with pytest.raises(ConfigError, match=r"reference.voices\[0\].text=.*double quotes"):
        load_workload(config)
    config = compose_config([f'reference.voices=[{{id: a, audio: engine/pocket/slt.wav, text: "{typed}"}}]'])
    assert load_workload(config).voices[0].text == f"{typed}. "  # with the full stop that upstream adds


def test_an_id_of_digits_is_selected_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("utterances: [{id: 007, category: c, text: a}, {id: 7, category: c, text: b}]", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"workload.select=7: .*type|write 'workload.select") as refused:
        select_lines({"texts": str(path), "select": [7], "limit": None})
    line = str(refused.value).split("write ")[1].split(" with the id")[0]
    select = compose_config(shlex.split(line))["workload"]["select"]
    assert [line.text for line in select_lines({"texts": str(path), "select": select, "limit": None})] == ["b"]


def test_settings_of_the_command_line_that_are_texts_stay_what_was_typed() -> None:
    assert split_words(["out=010", "alpha=0.1", "only=[a,b]"], KEYS)[1] == {
        "out": "010",
        "alpha": 0.1,
        "only": ["a", "b"],
    }
    assert split_words(["preset=Yes"], KEYS)[1] == {"preset": "Yes"}
    assert read_settings(["transport=http", "url=http://localhost:8000/#a b"]).url == "http://localhost:8000/#a b"
