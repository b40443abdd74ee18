"""docs/results.md, made from reports/published alone. `make results` writes it; a test holds it against this code."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from reports.commands import ROOT
from reports.site.published import TIME, Place, Table, Verdict, places, tables_of, verdicts_of

PUBLISHED = ROOT / "reports" / "published"
PAGE = ROOT / "docs" / "results.md"
UPSTREAM = "upstream-euler_32"
TIMES = f"x {UPSTREAM}"
SHOWN = (
    "variant", "steps", "evals", "RTF", "p50 ms (95 % interval)", "p95 ms", TIMES, "x fp32-euler_32", "log-mel error",
    "PESQ-WB", "STOI", "WER %", "peak MiB",
)  # fmt: skip
RULES = ("wer_frac (difference)", "speaker_similarity_resemblyzer (difference)", "artifact_vs_reference (share)")
LEVELS = ("level", "requests", "errors", "requests/s", "p50 ms", "p95 ms", "wait ms", "batch")
# What is a page of figures by itself: copied table by table
WHOLE = ("reference_length",)
HEAD = """# Results

Every figure here is copied from a file in `reports/published/`, which each section links; `make results` makes the
page again. What the figures mean, and how far to believe them, is on [the page beside it](measured.md); GPU figures are
[there](gpu.md), and each technique has a row on [every idea](ideas.md). How to read a row: [concepts](concepts.md).

Host classes name processor, instruction set and cores. `amd-epyc-2c-cpu` is called `amd-epyc-avx512bf16-2c-cpu` today.
What was published before 2026-11-27 is of voices that were not prepared as upstream prepares them
([LOG](../reports/published/LOG.md)).
"""


def results_page(folder: Path = PUBLISHED) -> str:
    """The page's text. Links are relative to docs/."""
    found = places(folder)
    parts = [HEAD, *_best(found), *_pairs(found), *_quality(found), *_sweeps(found), *_decisions(found),
             *_others(found), *_loads(found)]  # fmt: skip
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _best(found: Sequence[Place]) -> Iterator[str]:
    """Per host class, of the newest run of experiment=fastest that was judged: the fastest that passed the gate."""
    runs = [place for place in found if place.kind == "fastest"]  # in the order of their dates
    newest = {place.host_class: row for place in runs if (row := _fastest(place, found)) is not None}
    yield "## The fastest that lost nothing\n"
    yield (
        f"Of the variants that pass `f5bench quality-gate RUN_A RUN_B preset=retention` against {UPSTREAM} on 86 "
        "sentences (`f5bench sweep experiment=fastest`), the fastest. Times as fast: rows of one sweep, one after "
        "another. Share of upstream's time: interleaved pairs, the bounds in brackets."
    )
    yield _markdown(("host class", "variant", "times as fast", "share of upstream's time", "from"), newest.values())


def _fastest(place: Place, found: Sequence[Place]) -> tuple[str, ...] | None:
    verdicts, report = place.path / "verdicts.md", place.path / "report.md"
    if not (verdicts.is_file() and report.is_file()):
        return None
    rows = _results(report).by_first()
    passed = [v.candidate for v in verdicts_of(verdicts) if v.outcome == "PASS" and v.base == UPSTREAM]
    measured = [name for name in passed if rows.get(name, {}).get(TIMES, "-") != "-"]
    if not measured:
        return None
    best = max(measured, key=lambda name: float(rows[name][TIMES]))
    pairs = [v for v in _all_pairs(found, place.host_class) if (v.candidate, v.base) == (best, UPSTREAM)]
    shares = ", ".join(f"[{_ratio(v)}]({_link(v.path)})" for v in pairs) or "-"
    from_ = f"[verdicts]({_link(verdicts)}), [report]({_link(report)})"
    return place.host_class, f"`{best}`", rows[best][TIMES], shares, from_


def _pairs(found: Sequence[Place]) -> Iterator[str]:
    yield "## In turns: interleaved pairs\n"
    yield (
        "`f5bench compare`: the candidate's time over that of what it is compared with; under 1 is faster. PASS means "
        "not slower by what must be caught, so a much faster candidate passes, too; INCONCLUSIVE with one block is a "
        "ratio from one set of processes, which gives no verdict."
    )
    header = ("candidate", "against", "ratio (bounds)", "median ms", "pairs in blocks", "verdict", "from")
    for host_class in sorted({place.host_class for place in found}):
        rows = [
            (f"`{v.candidate}`", f"`{v.base}`", _ratio(v), _medians(v), v.pairs, v.outcome, f"[file]({_link(v.path)})")
            for v in _all_pairs(found, host_class)
        ]
        if rows:
            yield f"### {host_class}\n"
            yield _markdown(header, rows)


def _all_pairs(found: Iterable[Place], host_class: str) -> list[Verdict]:
    files = [path for place in found if place.host_class == host_class for path in _files(place)]
    return [v for path in files for v in verdicts_of(path) if not v.is_quality and TIME in v.table.by_first()]


def _ratio(verdict: Verdict) -> str:
    return verdict.table.by_first()[TIME]["ratio (bounds)"]


def _medians(verdict: Verdict) -> str:
    row = verdict.table.by_first()[TIME]
    return f"{row['candidate']} / {row['reference']}".replace(" ms", "")


def _quality(found: Sequence[Place]) -> Iterator[str]:
    yield "## Verdicts of quality\n"
    yield (
        "Differences from what it is compared with, their bounds, and what each rule says. A mean may be small and the "
        "verdict *worse*: then one sentence lost more than a sentence may."
    )
    header = ("variant", "against", "word errors", "speaker likeness", "clips with an event", "verdict", "from")
    for place in found:
        for path in _files(place):
            rows = [_quality_row(v) for v in verdicts_of(path) if v.is_quality]
            if rows:
                yield f"### {place.kind}, {place.host_class}, {place.date}\n"
                yield _markdown(header, rows)


def _quality_row(verdict: Verdict) -> tuple[str, ...]:
    rules = verdict.table.by_first()
    said = (f"{rules[r]['effect (bounds)']}, {rules[r]['verdict']}" if r in rules else "-" for r in RULES)
    return f"`{verdict.candidate}`", f"`{verdict.base}`", *said, verdict.outcome, f"[file]({_link(verdict.path)})"


def _sweeps(found: Sequence[Place]) -> Iterator[str]:
    yield "## Sweeps\n"
    yield (
        "Rows of a sweep run one after another, so a machine that moves is in their ratios; each report says by how "
        "much it did. Quality is against 32 float32 steps with the same noise."
    )
    for place in found:
        report = place.path / "report.md"
        if not report.is_file():
            continue
        table, picture = _results(report), place.path / "plots" / "rtf_quality.png"
        yield f"### {place.kind}, {place.host_class}, {place.date}\n"
        yield f"{_caption(report)} [The whole report]({_link(report)})."
        if picture.is_file():
            yield f"![Speed against quality: {place.kind}, {place.host_class}]({_link(picture)})"
        yield _chosen(table, SHOWN)


def _caption(report: Path) -> str:
    """Model, workload and seconds, as the report's own table has them."""
    facts = next(table for table in tables_of(report.read_text("utf-8")) if table.header[0] == "measured on")
    said = {row[0]: row[1] for row in facts.rows}
    wanted = ("model", "workload", "audio", "torch", "commit")
    return "; ".join(f"{key} {said[key]}" for key in wanted if key in said) + "."


def _results(report: Path) -> Table:
    """The first table of variants."""
    return next(table for table in tables_of(report.read_text("utf-8")) if table.header[0] == "variant")


def _decisions(found: Sequence[Place]) -> Iterator[str]:
    for place in found:
        path = place.path / "decision.md"
        if path.is_file():
            yield f"## Decided by a rule that was fixed before: {place.kind}\n"
            yield f"`f5bench decide SWEEP_DIR` on {place.host_class}, {place.date}: [the reasons]({_link(path)})."
            yield _chosen(tables_of(path.read_text("utf-8"))[0])


def _others(found: Sequence[Place]) -> Iterator[str]:
    for place in found:
        if place.kind in WHOLE:
            yield f"## {place.kind.replace('_', ' ').capitalize()}\n"
            yield f"{place.host_class}, {place.date}: [the command and what it does not say]({_link(place.path)})."
            yield from (_chosen(table) for table in tables_of(place.path.read_text("utf-8")))


def _loads(found: Sequence[Place]) -> Iterator[str]:
    for place in found:
        if place.kind != "load":
            continue
        yield f"## Under load, {place.host_class}, {place.date}\n"
        yield f"`f5bench load` with the settings in each heading; [the file]({_link(place.path)}) says the rest."
        tables = [t for t in tables_of(place.path.read_text("utf-8")) if t.header[:2] == LEVELS[:2]]
        for heading, own in groupby(tables, key=lambda table: table.heading):
            yield f"### {heading}\n"
            yield from (_chosen(table, LEVELS) for table in own)


def _files(place: Place) -> list[Path]:
    """The Markdown of a place but its report, which holds no verdicts."""
    if place.path.is_file():
        return [place.path]
    return [path for path in sorted(place.path.glob("*.md")) if path.name != "report.md"]


def _chosen(table: Table, wanted: Sequence[str] = ()) -> str:
    """The wanted columns that the table has; all of them where none is named."""
    header = [name for name in wanted if name in table.header] or list(table.header)
    at = [table.header.index(name) for name in header]
    return _markdown(header, [[row[i] for i in at] for row in table.rows])


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _link(path: Path) -> str:
    return Path(os.path.relpath(path, PAGE.parent)).as_posix()
