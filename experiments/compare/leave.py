"""What a comparison leaves behind: its files, and the lines on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.contract import ConfigError
from engine.settings import DeviceSettings
from experiments.common.cli import EXIT_JOB_FAILED, EXIT_USAGE, complain
from experiments.common.environment import fingerprint, now_iso
from experiments.compare.processes import SideFailed
from experiments.compare.session import LOG, PAIRS
from metrics.record import to_json, write_atomically
from reports.verdicts.coloured import print_verdict
from reports.verdicts.paired import (
    Comparison,
    comparison_content,
    comparison_junit,
    comparison_lines,
    comparison_summary,
    failed_content,
    failed_junit,
)


def refuse_used(out: Path) -> None:
    """A verdict of an earlier comparison, left beside the calls of an interrupted one, would be taken for its own."""
    for name in ("verdict.json", PAIRS):
        if (out / name).exists():
            raise ConfigError(
                "out", out, f"already holds {name}, and nothing measured is overwritten", "choose another folder"
            )


def publish(comparison: Comparison, out: Path, values: Mapping[str, object], **more: Any) -> None:
    """The files first: what is printed is on the disk already. values: the settings; more: kept in verdict.json."""
    content = comparison_content(comparison, now_iso(), values) | more
    write_atomically(out / "verdict.json", to_json(content) + "\n")
    write_atomically(out / "summary.md", comparison_summary(comparison))
    write_atomically(out / "junit.xml", comparison_junit(comparison))
    print_verdict(comparison_lines(comparison))
    print(f"verdict {out / 'verdict.json'}")


def report_failure(
    failure: SideFailed, out: Path, asked: Mapping[str, object], device: DeviceSettings, **more: Any
) -> int:
    """A side that failed leaves a verdict without any figure. asked: per side what was typed."""
    environment = fingerprint(device)
    content = failed_content(failure.side, failure.reason, failure.remedy, now_iso(), asked, environment) | more
    write_atomically(out / "verdict.json", to_json(content) + "\n")
    write_atomically(out / "summary.md", f"## FAILED: {failure.side}\n\n{failure.reason}; {failure.remedy}.\n")
    write_atomically(out / "junit.xml", failed_junit(failure.side, failure.reason))
    complain(f"{failure} ({out / LOG})")
    return EXIT_USAGE if failure.kind in ("ConfigError", "InvalidRequest") else EXIT_JOB_FAILED
