"""The one HTML file: texts, orders, masked audio, style and script. No name of a system is in it; that is checked.

Samples are masked by a stream of numbers drawn from each clip's own nonce, so that two clips with the same audio do not
look the same to somebody who reads the source, and so that no name can stand in the encoded audio by accident.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.listening.study.settings import ListeningError

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("audio.js", "wave.js", "session.js", "answers.js", "screens.js", "app.js")
GOLDEN = np.uint32(0x9E3779B9)
# A name that short turns up in any long text by chance (clAMP); it counts as a word only
SHORT_NAME = 3
MASK_TRIES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedClip:
    """What the page has of one clip: an opaque id, the mask's nonce, base64 of the masked little-endian int16."""

    clip_id: str
    nonce: int
    data: str


class Names:
    """The words that must not be in a page: found whatever their case; short ones as whole words only."""

    def __init__(self, names: Iterable[str]):
        wanted = sorted({name.lower() for name in names if name})
        self._long = [name for name in wanted if len(name) > SHORT_NAME]
        self._short = [name for name in wanted if len(name) <= SHORT_NAME]

    def found_in(self, text: str) -> str | None:
        """The first name that is in the text; a search for each, since one pattern for all takes ten times as long."""
        lower = text.lower()
        for name in self._long:
            if name in lower:
                return name
        for name in self._short:
            if name in lower and re.search(rf"\b{re.escape(name)}\b", lower):
                return name
        return None


def mask(pcm_S: np.ndarray, nonce: int) -> np.ndarray:
    """XOR with the upper halves of a mixed counter (murmur3's finaliser); its own inverse. (S,) int16 in and out."""
    with np.errstate(over="ignore"):
        word_S = np.uint32(nonce) + np.arange(pcm_S.size, dtype=np.uint32) * GOLDEN
        word_S ^= word_S >> np.uint32(16)
        word_S *= np.uint32(0x85EBCA6B)
        word_S ^= word_S >> np.uint32(13)
        word_S *= np.uint32(0xC2B2AE35)
    return pcm_S.astype("<i2") ^ (word_S >> np.uint32(16)).astype("<u2").view("<i2")


def masked_clip(clip_id: str, pcm_S: np.ndarray, names: Names, rng: np.random.Generator) -> MaskedClip:
    for _ in range(MASK_TRIES):
        nonce = int(rng.integers(2**32))
        data = base64.b64encode(mask(pcm_S, nonce).tobytes()).decode("ascii")
        if names.found_in(f'"{data}"') is None:
            return MaskedClip(clip_id=clip_id, nonce=nonce, data=data)
    raise ListeningError("a run's name is so short that encoded audio always contains it; give the run a longer label")


def render_page(payload: Mapping[str, object], clips: Iterable[MaskedClip], names: Names) -> str:
    """Raises ListeningError where a name would be in the page, which only a title or a sentence can bring in."""
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html.j2").render(
        title=payload["title"],
        style=Markup((PAGE / "style.css").read_text(encoding="utf-8")),
        script=Markup("\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)),
        payload=Markup(json.dumps(payload, allow_nan=False).replace("<", "\\u003c")),
        clips=list(clips),
    )
    found = names.found_in(page)
    if found is not None:
        raise ListeningError(f"the page would contain the name {found!r}; use another title=, or text=hide")
    return page
