"""A voice in a preset of one's own: what is spoken is what was written, or refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import ConfigError
from experiments.common.presets import split_config_dir

VOICE = """name: mine
voices:
  - id: me
    audio: engine/pocket/slt.wav
    text: {text}
"""


def preset(folder: Path, text: str) -> Path:
    path = folder / "reference" / "mine.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(VOICE.format(text=text), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("We are#1 in the world.", None),  # nothing before the # but a letter: YAML keeps it
        ("We are #1", "line 5: text is cut at #, which YAML takes for a comment; put it in double quotes"),
        ("We are # 1", "line 5: text is cut at #, which YAML takes for a comment"),
        ("[a]", "line 5: text is no text but a list"),
        ("!yes we can", "the tag !yes is not known|begins with !"),
    ],
)
def test_a_transcript_that_yaml_would_change(text: str, reason: str | None, tmp_path: Path) -> None:
    folder = preset(tmp_path, text)
    if reason is None:
        assert split_config_dir(["--config-dir", str(folder)])[1] == folder
        return
    with pytest.raises(ConfigError, match=rf"(?s)^--config-dir=.*mine\.yaml: .*(?:{reason})"):
        split_config_dir(["--config-dir", str(folder)])


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=30))
def test_a_quoted_sentence_is_always_taken(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = preset(tmp_path_factory.mktemp("own"), '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
    assert split_config_dir(["--config-dir", str(folder)])[1] == folder
