"""What MkDocs gets: README, CONTRIBUTING, CHANGELOG and docs/, at their places in the repository, and every file of the
repository that one of them links to, and so on. A file that is not there stays a broken link, which --strict refuses.

Read by MkDocs as a file of its own, so nothing of ours is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
STYLE = "reports/site/wide.css"
INLINE = re.compile(r"\]\(([^)\s]+)\)")
DEFINED = re.compile(r"^\[[^\]]+\]: +(\S+)$", re.MULTILINE)
SOURCES = re.compile(r"\bsrc=\"([^\"]+)\"")  # of sounds and pictures in HTML


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """The theme's own files stay; MkDocs' view of docs/ alone is replaced."""
    docs = Path(config.docs_dir).resolve()
    for file in list(files):
        if file.abs_src_path and Path(file.abs_src_path).resolve().is_relative_to(docs):
            files.remove(file)
    root = docs.parent
    pages = {*(root / name for name in TOP), *docs.glob("*.md")}
    for path in sorted(reached(root, pages)):
        # Pages must have a place in the navigation; what they link to is reached from them
        level = InclusionLevel.INCLUDED if path in pages else InclusionLevel.NOT_IN_NAV
        uri = path.relative_to(root).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path), inclusion=level))
    style = File.generated(config, STYLE, abs_src_path=str(root / STYLE), inclusion=InclusionLevel.INCLUDED)
    files.append(style)
    return files


def reached(root: Path, first: Iterable[Path]) -> set[Path]:
    """The files that a reader of `first` can come to by links, within the repository."""
    found, waiting = set[Path](), list(first)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".md":
            waiting += [other for other in linked(path) if other.is_file() and other.is_relative_to(root)]
    return found


def linked(page: Path) -> Iterator[Path]:
    text = page.read_text("utf-8")
    for pattern in (INLINE, DEFINED, SOURCES):
        for link in pattern.findall(text):
            target = link.partition("#")[0]
            if target and "://" not in target:
                yield Path(os.path.normpath(page.parent / target))
