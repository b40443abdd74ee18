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
from reports.verdicts.paired import Comparison, comparison_content, comparison_sheet, failed_content, failed_sheet
from reports.verdicts.sheet import show_verdict, write_verdict


def refuse_used(out: Path) -> None:
    """A verdict of an earlier comparison, left beside the calls of an interrupted one, would be taken for its own."""
    for name in ("verdict.json", PAIRS):
        if (out / name).exists():
            raise ConfigError(
                "out", out, f"already holds {name}, and nothing measured is overwritten", "choose another folder"
            )


def publish(comparison: Comparison, out: Path, values: Mapping[str, object], **more: Any) -> None:
    """The files first: what is printed is on the disk already. values: the settings; more: kept in verdict.json."""
    keep(comparison, out, values, **more)
    show_verdict(comparison_sheet(comparison), out)


def keep(comparison: Comparison, out: Path, values: Mapping[str, object], **more: Any) -> None:
    """The files alone: of a comparison that is one of several."""
    content = comparison_content(comparison, now_iso(), values) | more
    write_verdict(comparison_sheet(comparison), content, out)


def report_failure(
    failure: SideFailed, out: Path, asked: Mapping[str, object], device: DeviceSettings, **more: Any
) -> int:
    """A side that failed leaves a verdict without any figure. asked: per side what was typed."""
    environment = fingerprint(device)
    code = EXIT_USAGE if failure.kind in ("ConfigError", "InvalidRequest") else EXIT_JOB_FAILED
    content = failed_content(failure.side, failure.reason, failure.remedy, now_iso(), asked, environment) | more
    content["exit_code"] = code
    write_verdict(failed_sheet(failure.side, failure.reason, failure.remedy), content, out)
    complain(f"{failure} ({out / LOG})")
    return code
