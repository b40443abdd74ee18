"""What scoring costs once the audio exists: `python -m experiments.checks.score_cost SWEEP_DIR --variants 10`.

The cells of a finished sweep are copied (again and again until there are as many as asked for) and scored with
quality=standard as a sweep scores them: as many processes at a time as there are cores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.contract import ConfigError
from experiments.common.cli import run_verb
from experiments.measuring.job import RESULT
from experiments.measuring.running import finish_scoring, scorers_at_once, start_scoring
from experiments.settings.compose import compose_config
from metrics.record import load_record, save_record
from reports.commands import VerbParser


def copies(sweep: Path, variants: int, folder: Path) -> list[Path]:
    """Run folders below `folder`, none of them the sweep's own, all to be scored with the standard set."""
    cells = sorted(path.parent for path in sweep.glob(f"cells/*/{RESULT}"))
    quality = compose_config(["quality=standard"])["quality"]
    made = []
    for i in range(variants):
        target = folder / f"{i:02d}"
        shutil.copytree(cells[i % len(cells)], target)
        record = load_record(target / RESULT)
        save_record(replace(record, config={**record.config, "quality": quality}), target / RESULT)
        made.append(target)
    return made


def score_all(folders: list[Path], reference: Path) -> int:
    """Number that failed."""
    failed = 0
    running: list[tuple[Path, subprocess.Popen[str]]] = []
    for folder in folders:
        if len(running) >= scorers_at_once():
            failed += not finish_scoring(*running.pop(0))
        running.append((folder, start_scoring(folder, reference, None, ())))
    return failed + sum(not finish_scoring(folder, process) for folder, process in running)


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.checks.score_cost", description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--variants", type=int, default=10)
    asked = parser.parse_args(argv)
    if asked.variants < 1:
        raise ConfigError("--variants", asked.variants, "must be a whole number from 1", "use --variants 10")
    if not (asked.sweep / "cells").is_dir():
        raise ConfigError("sweep", asked.sweep, "is no folder of a sweep", "give the folder that a sweep left")
    with tempfile.TemporaryDirectory() as scratch:
        folders = copies(asked.sweep, asked.variants, Path(scratch))
        started_s = time.monotonic()
        failed = score_all(folders, asked.sweep / "reference")
        spent_s = time.monotonic() - started_s
        sentences = len(load_record(folders[0] / RESULT).utterances)
    print(f"{asked.variants} variants x {sentences} sentences: {spent_s:.1f} s, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(run_verb(main))
