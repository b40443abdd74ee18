"""A vocabulary is read as upstream reads it, or refused naming the file and the line or the encoding."""

import codecs
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract import ConfigError
from engine.weights.vocabulary import read_vocabulary

TOKENS = [" ", "a", "é", "zhong1", "中", "'", "\t", "\u2028", "\x0c", "  ", "-"]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("last", [True, False])
def test_lines_are_tokens_as_they_are(end: str, mark: bytes, last: bool, tmp_path: Path) -> None:
    text = end.join(TOKENS) + (end if last else "")
    path = written(tmp_path / "vocab.txt", mark + text.encode())
    assert read_vocabulary(path) == {token: index for index, token in enumerate(TOKENS)}


def test_upstreams_own_vocabulary_is_read_as_its_own_code_does() -> None:
    from importlib.resources import files

    from f5_tts.model.utils import get_tokenizer

    path = Path(str(files("f5_tts") / "infer" / "examples" / "vocab.txt"))
    assert read_vocabulary(path) == get_tokenizer(str(path), "custom")[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b" \na\n\xe9\n", "line 3 is not UTF-8 (byte 0xe9) but perhaps Latin-1"),
        (codecs.BOM_UTF8 + b" \n\xff\n", "line 2 is not UTF-8 (byte 0xff)"),
        (" \na\n".encode("utf-16"), "is UTF-16"),
        (" \na\n".encode("utf-32"), "is UTF-32"),
        (" \na\n".encode("utf-16-le"), "line 1 has a NUL"),
        (b"", "is empty"),
        (codecs.BOM_UTF8, "is empty"),
        (b" \na\nb\na\n", "line 4 has the token 'a' of line 2 again"),
        (b" \na\n\n\n", "line 4 has the token '' of line 3 again"),
        (b"\na\nb\n", "line 1 is empty and no line is a space"),
    ],
)
def test_what_is_no_vocabulary_is_said_in_one_line(content: bytes, says: str, tmp_path: Path) -> None:
    path = written(tmp_path / "vocab.txt", content)
    with pytest.raises(ConfigError) as refused:
        read_vocabulary(path)
    assert says in refused.value.allowed
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-32"])
def test_the_printed_command_converts(encoding: str, tmp_path: Path) -> None:
    path = written(tmp_path / "it's a vocab.txt", " \na\né\n".encode(encoding))
    with pytest.raises(ConfigError) as refused:
        read_vocabulary(path)
    command = refused.value.remedy.partition("convert it: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert read_vocabulary(Path(shlex.split(command)[-1])) == {" ": 0, "a": 1, "é": 2}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_any_bytes_are_a_vocabulary_or_a_line(content: bytes, tmp_path: Path) -> None:
    path = written(tmp_path / "vocab.txt", content)
    try:
        vocabulary = read_vocabulary(path)
    except ConfigError as error:
        refused = str(error)
    else:
        refused = None
    if refused is not None:
        assert "\n" not in refused
        return
    assert list(vocabulary.values()) == list(range(len(vocabulary)))
    text = content.removeprefix(codecs.BOM_UTF8).decode().replace("\r\n", "\n").replace("\r", "\n")
    assert "\n".join(vocabulary) == text.removesuffix("\n")
