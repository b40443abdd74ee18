"""The check within its budget, from the first step to the exit code."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.checks.card.steps import FEWEST_S, RESULT, Budget, Found, plan, take
from experiments.common.cli import EXIT_JOB_FAILED, EXIT_OK, EXIT_REGRESSION, EXIT_UNSURE, complain
from experiments.common.processes import FLOAT32, module_environment
from experiments.compare.settings import is_read
from experiments.settings.compose import compose_cells

PRESET = "experiment=gpu_check"
PROFILE_S = 60.0
OWN_RUNTIME = ("tensorrt", "onnx")  # no kernel of theirs has PyTorch's name
EXIT_TIMEOUT = 124


def check(folder: Path, overrides: Sequence[str], max_rtf: float | None, budget_s: float | None) -> int:
    """One build an engine, within the budget."""
    cells = compose_cells([PRESET, *overrides])
    engines = {str(cell.config["engine"]["name"]): own_overrides(cell.overrides, overrides) for cell in cells}
    budget, found = Budget(budget_s), Found(budget_s=budget_s, max_rtf=max_rtf)
    found.write(folder)
    take(folder, overrides, plan(engines), budget, found)
    profile_fastest(folder, overrides, engines, budget, found)
    found.exit_code, found.spent_s = quick_verdict(found), budget.spent_s
    found.write(folder)
    for engine, reason in found.unproven().items():
        print(f"not proven  {engine}: {reason}")
    if found.exit_code == EXIT_UNSURE:
        complain(f"cannot tell: what ran is proven, but not {', '.join(found.unproven()) or 'that loops are equal'}")
    print(f"records  {folder / RESULT}")
    return found.exit_code


def own_overrides(of_cell: Sequence[str], shared: Sequence[str]) -> tuple[str, ...]:
    """What a cell sets beside its engine and its solver, which the check chooses itself."""
    return tuple(one for one in of_cell if one not in shared and not one.startswith(("engine=", "solver=", "exper")))


def quick_verdict(found: Found) -> int:
    """10 before 14 before 11, as `verdict`."""
    graphs = [row.rtf_ratio for row in found.rows if row.engine.startswith("cuda_") and row.rtf_ratio is not None]
    states = {row.status for row in found.rows}
    slow = found.max_rtf is not None and bool(graphs) and min(graphs) > found.max_rtf
    if "wrong" in states or slow or not all(one["equal"] for one in found.equality):
        return EXIT_REGRESSION
    if "failed" in states:
        return EXIT_JOB_FAILED
    return EXIT_UNSURE if found.unproven() or not found.equality else EXIT_OK


def profile_fastest(
    folder: Path, overrides: Sequence[str], engines: Mapping[str, tuple[str, ...]], budget: Budget, found: Found
) -> None:
    """Kernels by their share, and how far from the card's own peak: of the fastest engine that runs by PyTorch."""
    timed = [row for row in found.rows if row.rtf_ratio is not None and not row.engine.startswith(OWN_RUNTIME)]
    limit_s = budget.allows(PROFILE_S)
    if not timed or limit_s < FEWEST_S:
        found.profile = "not reached"
        return
    name = min(timed, key=lambda row: row.rtf_ratio or math.inf).engine
    kept = [one for one in (*overrides, *engines.get(name, ())) if is_read(one) and not one.startswith("quality.")]
    command = [f"engine={name}", "solver=euler_7", *kept, f"out={folder / 'profile'}"]
    code = verb("profile", *command, limit_s=limit_s)
    found.profile = name if code == EXIT_OK else f"{name}: ended with {code}"


def verb(name: str, *arguments: str, limit_s: float | None = None) -> int:
    """Its exit code; 124 where it was ended by its limit."""
    print(f"\n== {name} {' '.join(arguments[:3])}", flush=True)
    command = [sys.executable, "-m", f"experiments.{name}", *arguments]
    environment = {**module_environment(), **FLOAT32}
    try:
        return subprocess.run(command, env=environment, check=False, timeout=limit_s).returncode
    except subprocess.TimeoutExpired:
        return EXIT_TIMEOUT
