"""The page of a verdict or a load test: what its summary says in the report's own form, and its JSON behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from metrics.record import RecordError, write_atomically
from metrics.typed import load_json
from reports.render.html import as_script, render_page
from reports.words import plain_json

# What the verbs leave for people, and beside it for machines
SUMMARIES: Mapping[str, str] = {"summary.md": "verdict.json", "load.md": "load.json"}
PAGE = "report.html"
BADGES: Mapping[str, str] = {"PASS": "kept", "WARN": "undecided", "FAIL": "lost", "INCONCLUSIVE": "undecided"}
_COMMENT = re.compile(r"^<!--.*?-->\n?", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """first: the sentence that a verdict's page begins with; rest: the Markdown below it."""

    title: str
    first: str
    rest: str


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
    text = path.read_text(encoding="utf-8")
    summary = split_summary(text, path)
    outcome = content.get("outcome") if isinstance(content, dict) else None
    page = render_page(
        "verdict.html.j2",
        title=f"f5bench: {summary.title}" if outcome else "f5bench",
        verdict=summary.first if outcome else summary.title,
        outcome=outcome,
        kind=BADGES.get(str(outcome), "unjudged"),
        warnings=(),
        is_void=False,
        body=as_html(summary.rest if outcome else f"{summary.first}\n\n{summary.rest}"),
        sections=[("json", f"All of {content_path.name}")],
        json=plain_json(content),
        markdown=as_script(_COMMENT.sub("", text).strip() + "\n"),
        files=sorted({path.name, content_path.name}),
    )
    write_atomically(out / PAGE, page)
    return out / PAGE


def split_summary(text: str, path: Path) -> Summary:
    """Heading, first sentence, the rest. Raises RecordError where it does not begin with a heading and words."""
    heading, _, rest = _COMMENT.sub("", text).strip().partition("\n\n")
    if not heading.startswith("#") or not rest:
        raise RecordError(f"{path}: does not begin with a heading and a sentence; measure again")
    paragraph, _, below = rest.partition("\n\n")
    first, *more = _SENTENCE_END.split(" ".join(paragraph.split()), maxsplit=1)
    return Summary(title=heading.lstrip("# "), first=first, rest="\n\n".join([*more, below]))


def as_html(markdown: str) -> Markup:
    """Tags in the text stay text; a table scrolls by itself, by keyboard too."""
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    html = html.replace("<table>", '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>')
    html = html.replace("</table>", "</table></div>").replace("<th>", '<th scope="col">')
    return Markup(html.replace("<th style", '<th scope="col" style').replace("<code>", '<code class="small">'))
