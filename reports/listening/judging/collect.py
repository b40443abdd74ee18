"""`python -m reports.listening collect DIR`: results and key in, verdict out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metrics.record import write_atomically
from reports.listening.judging import plots
from reports.listening.judging.analysis import analyse
from reports.listening.judging.beside import write_beside_runs
from reports.listening.judging.results import load_key, load_listeners
from reports.listening.judging.screening import screen
from reports.listening.judging.verdict import (
    VERDICT,
    Findings,
    sentences_of,
    verdict_data,
    verdict_markdown,
    votes_csv,
)
from reports.listening.making.build import KEY_FILE
from reports.listening.study.settings import ListeningError, split_words

ANSWERS = "answers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """paths: what was written; sentences: the verdict; beside: the files in the runs' own folders."""

    findings: Findings
    paths: tuple[Path, ...]
    sentences: tuple[str, ...]
    beside: tuple[Path, ...]


def collect(words: Sequence[str]) -> Collected:
    """Raises ListeningError, one line, for a key or a result that does not fit."""
    paths, values = split_words(words, ("key", "out"))
    if not paths or not paths[0].is_dir():
        raise ListeningError("collect: give the folder that build left, then the results (default: DIR/answers)")
    folder, given = paths[0], paths[1:]
    key = load_key(Path(values["key"]) if values.get("key") else folder / KEY_FILE)
    files = [file for path in given or [folder / ANSWERS] for file in _results_in(path)]
    if not files:
        raise ListeningError(f"{given[0] if given else folder / ANSWERS}: no results in it; give the downloaded files")
    loaded = load_listeners(files, key)
    screened = tuple(screen(listener, key.rules, key.method, key.reference) for listener in loaded.listeners)
    findings = Findings(
        key=key,
        screened=screened,
        counted=analyse(key, [s.listener for s in screened if not s.reasons]),
        everybody=analyse(key, loaded.listeners),
        notes=loaded.notes,
    )
    return _written(findings, Path(values.get("out") or folder))


def _results_in(path: Path) -> list[Path]:
    return sorted(path.glob("*.json*")) if path.is_dir() else [path]


def _written(findings: Findings, out: Path) -> Collected:
    out.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(findings.counted, out) if findings.counted else ()
    data = verdict_data(findings)
    write_atomically(out / VERDICT, json.dumps(data, allow_nan=False, indent=1, ensure_ascii=False) + "\n")
    write_atomically(out / "verdict.md", verdict_markdown(findings, drawn))
    write_atomically(out / "votes.csv", votes_csv(findings))
    return Collected(
        findings=findings,
        paths=(out / VERDICT, out / "verdict.md", out / "votes.csv", *(out / path for path in drawn)),
        sentences=sentences_of(findings),
        beside=tuple(write_beside_runs(findings, data)),
    )
