"""Which of a preset's variants this machine can run well: number formats that its CPU has no instructions for are slow.

A variant that somebody names is run whatever the machine is; only what a preset lists for everybody is chosen from.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.cpu import CPUINFO
from experiments.common.environment import BF16_FLAGS, read_cpu
from experiments.common.plain import Config
from experiments.settings.compose import Cell

IN_BFLOAT16 = ("amp", "bf16")  # engine.precision; amp is autocast to bfloat16 on a CPU


def is_from_preset(cells: Sequence[Cell]) -> bool:
    return all(cell.overrides[:1] and cell.overrides[0].startswith("experiment=") for cell in cells)


def unsuited(config: Config, cpu_flags: Sequence[str]) -> str | None:
    """Why a CPU with these flags is the wrong place for a variant, None where it is not."""
    in_bfloat16 = config["engine"].get("precision") in IN_BFLOAT16 and config["device"]["kind"] == "cpu"
    if in_bfloat16 and not set(BF16_FLAGS) & set(cpu_flags):
        return "bfloat16 is slower than float32 on a CPU without instructions for it"
    return None


def suited(cells: Sequence[Cell], cpu_flags: Sequence[str] | None = None) -> tuple[list[Cell], list[str]]:
    """(the cells to run, a line for every reason to leave some out). All of them where none would be left.

    cpu_flags: of the machine that measures; None: this one's.
    """
    if cells[0].config["sweep"]["all"] or not is_from_preset(cells):
        return list(cells), []
    flags = read_cpu(CPUINFO)[1] if cpu_flags is None else cpu_flags
    reasons = [unsuited(cell.config, flags) for cell in cells]
    kept = [cell for cell, reason in zip(cells, reasons, strict=True) if reason is None]
    lines = []
    for said in dict.fromkeys(reason for reason in reasons if reason is not None):
        labels = [cell.label for cell, reason in zip(cells, reasons, strict=True) if reason == said]
        lines.append(f"left out here: {', '.join(labels)} ({said}; sweep.all=true runs them)")
    if not kept:  # a question about just these variants
        return list(cells), []
    return kept, lines
