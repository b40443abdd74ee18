"""What step caching is calibrated from: `python -m experiments.solvers.calibrate_reuse [OVERRIDES] [alphas=0.1,0.2]`.

Every evaluation is made, and the mean relative change between velocities is kept (engine.solver.reuse, kind probe).
Printed are the static schedule of each alpha, to be written into a solver's `reuse.evaluated`, and the polynomial that
maps the state's change to the velocity's, to be written into `reuse.rescale`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypedDict, cast

import numpy as np

from engine.clock import make_clock
from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.presets import with_presets
from experiments.measuring.engines import build_by_name
from experiments.measuring.validate import one_cell
from experiments.settings.front import answered
from experiments.settings.keys import refuse_misspelt
from experiments.workload.requests import load_workload

HELP = """Calibrate step caching on a workload: schedules for several alphas, and a rescaling polynomial.

example: python -m experiments.solvers.calibrate_reuse solver=euler_32 workload=bench alphas=0.1,0.2,0.3
The solver is euler_32 unless another is given.
"""
ALPHAS = (0.05, 0.1, 0.15, 0.2, 0.3)
DEGREE = 2


def rescale_of(state_change: Sequence[float], velocity_change: Sequence[float]) -> list[float]:
    """Least squares from the change of the state to that of the velocity, without a constant, highest power first."""
    change, target = np.asarray(state_change[1:]), np.asarray(velocity_change[1:])
    powers = np.stack([change**p for p in range(DEGREE, 0, -1)], axis=1)
    return [float(value) for value in np.linalg.lstsq(powers, target, rcond=None)[0]] + [0.0]


class Changes(TypedDict):
    """What the probe adds to a proof: of the velocity per utterance, of the state; each to the evaluation before."""

    velocity_change: list[list[float]]
    state_change: list[float]


def report(proof: Changes, alphas: Sequence[float]) -> str:
    from engine.solver.reuse import schedule_of

    changes = proof["velocity_change"]
    lines = [f"velocity change to the evaluation before: {_numbers(changes[0][1:])}"]
    lines.append(f"state change to the evaluation before:    {_numbers(proof['state_change'][1:])}")
    for alpha in alphas:
        evaluated = schedule_of(changes, alpha)
        lines.append(f"alpha {alpha:g}: {len(evaluated)} of {len(changes[0])} evaluations, evaluated: {evaluated}")
    rescale = [float(f"{value:.6g}") for value in rescale_of(proof["state_change"], changes[0])]
    return "\n".join([*lines, f"rescale: {rescale}"])


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def split_alphas(argv: Sequence[str]) -> tuple[list[str], tuple[float, ...]]:
    """Overrides with the probe and the default solver, and the alphas."""
    given = [text.partition("=")[2] for text in argv if text.startswith("alphas=")]
    overrides = [text for text in argv if not text.startswith("alphas=")]
    for text in overrides:
        refuse_misspelt(*text.partition("=")[::2], ["alphas"])
    if not any(text.startswith("solver=") for text in overrides):
        overrides.append("solver=euler_32")
    overrides.append("solver.reuse={kind: probe}")
    if not given:
        return overrides, ALPHAS
    try:
        alphas = tuple(float(part) for part in given[-1].split(","))
    except ValueError:
        alphas = ()
    if not alphas or not all(0 < alpha < 10 for alpha in alphas):
        raise ConfigError("alphas", given[-1], "must be numbers above 0 with commas between", "use alphas=0.1,0.2")
    return overrides, alphas


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    overrides, alphas = split_alphas(argv)
    cell = one_cell(overrides)
    with build_by_name(cell.config, make_clock(str(cell.config["device"]["kind"]))) as engine:
        for request in load_workload(cell.config).requests:
            engine.synthesize([request])
            print(request.utterance_id, file=sys.stderr, flush=True)
        print(report(cast(Changes, engine.facts.proof), alphas))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
