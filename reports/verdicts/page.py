"""The page of a verdict or a load test: one sentence, a table and a plot; what the verb printed and its JSON behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from metrics.record import RecordError, write_atomically
from metrics.typed import load_json
from reports.render.html import as_script, data_uri, render_page
from reports.render.plots import Picture
from reports.verdicts.comment import VERDICT, Measurement, body_lines, detail_lines, read_spoken
from reports.verdicts.pictures import draw_load, draw_ratios
from reports.verdicts.spoken.load import spoken_load
from reports.words import plain_json

# What the verbs leave for people, and beside it for machines
SUMMARIES: Mapping[str, str] = {"summary.md": "verdict.json", "load.md": "load.json"}
PAGE = "report.html"
BADGES: Mapping[str, str] = {"PASS": "kept", "WARN": "undecided", "FAIL": "lost", "INCONCLUSIVE": "undecided"}
_COMMENT = re.compile(r"^<!--.*?-->\n?", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class First:
    """The first screen. sentence: the verdict in words, with its full stop; body, details: Markdown below it and folded
    away."""

    sentence: str
    body: str = ""
    details: str = ""


def summary_in(folder: Path) -> Path | None:
    """The summary that the folder holds beside its JSON; None for a folder of another kind."""
    found = (folder / name for name, content in SUMMARIES.items() if (folder / content).is_file())
    return next((path for path in found if path.is_file()), None)


def render_verdict(folder: Path, out: Path) -> Path:
    """Writes report.html and returns its path. Raises RecordError where the folder has no summary or a damaged one."""
    path = summary_in(folder)
    if path is None:
        raise RecordError(f"{folder}: no {' and no '.join(SUMMARIES)} in it; give the folder that a verb left")
    content_path = folder / SUMMARIES[path.name]
    try:
        content = load_json(content_path)
    except ValueError as error:
        raise RecordError(f"{content_path}: damaged ({error}); measure again") from error
    text = _COMMENT.sub("", path.read_text(encoding="utf-8")).strip()
    title, rest = split_summary(text, path)
    outcome = content.get("outcome") if isinstance(content, dict) else None
    first, picture = _first_screen(content_path, content, out)
    sections = [("measured", "How this was measured")] if first.details else []
    page = render_page(
        "verdict.html.j2",
        title=f"f5bench: {title}",
        verdict=first.sentence,
        outcome=outcome,
        kind=BADGES.get(str(outcome), "unjudged"),
        warnings=(),
        is_void=False,
        body=as_html(first.body),
        picture=picture,
        uri=picture and data_uri(picture, out),
        details=as_html(first.details),
        summary=as_html(rest),
        sections=[*sections, ("summary", "What the verb left, in full"), ("json", f"All of {content_path.name}")],
        json=plain_json(content),
        markdown=as_script(f"{text}\n"),
        files=sorted({path.name, content_path.name}),
    )
    write_atomically(out / PAGE, page)
    return out / PAGE


def _first_screen(path: Path, content: Any, out: Path) -> tuple[First, Picture | None]:
    """The words, and the plot drawn into `out`. Raises RecordError for what is no verdict and no load test of ours."""
    if path.name == VERDICT:
        one = Measurement(name="", spoken=(read_spoken(path),))
        said = one.sentence.replace("**", "")
        first = First(
            sentence=f"{said[:1].upper()}{said[1:]}.", body="\n".join(body_lines(one)),
            details="\n".join(detail_lines(one)),
        )  # fmt: skip
        return first, draw_ratios(content, out)
    try:
        said = spoken_load(content)
        return First(sentence=f"{said[:1].upper()}{said[1:]}."), draw_load(content, out)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path}: is no load test that can be shown ({error}); measure again") from error


def split_summary(text: str, path: Path) -> tuple[str, str]:
    """Heading and the rest. Raises RecordError where it does not begin with a heading and words."""
    heading, _, rest = text.partition("\n\n")
    if not heading.startswith("#") or not rest:
        raise RecordError(f"{path}: does not begin with a heading and a sentence; measure again")
    return heading.lstrip("# "), rest


def as_html(markdown: str) -> Markup:
    """Tags in the text stay text; a table scrolls by itself, by keyboard too."""
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    html = html.replace("<table>", '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>')
    html = html.replace("</table>", "</table></div>").replace("<th>", '<th scope="col">')
    return Markup(html.replace("<th style", '<th scope="col" style').replace("<code>", '<code class="small">'))
