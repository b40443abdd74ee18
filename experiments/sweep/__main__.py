"""Many variants, each in its own process: `python -m experiments.sweep engine=fp32,bf16 solver=euler_6,euler_7`.

Everything is validated before the first worker starts. A variant that fails is a row, not the end. Each is scored as
it ends, before the next one is timed. sweep.json says at every moment what is done, so an interrupted sweep shows what
it has and goes on with resume=DIR. What measures is imported once --help is answered.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.presets import with_presets
from experiments.settings.front import MULTIRUN, answered, is_config, is_help, without_multirun

HELP = """Measure many variants, each in a fresh process, score their audio, print one table.

examples:
  python -m experiments.sweep                                   the default: experiment=bench
  python -m experiments.sweep engine=fp32,bf16 solver=euler_6,euler_7
  python -m experiments.sweep experiment=bench workload=smoke measure.rounds=1 out=outputs/try
  python -m experiments.sweep engine=fp32 solver.sway=-1,-0.5,0
  python -m experiments.sweep resume=outputs/20260101-120000-bench
  python -m experiments.sweep launcher=ray 'sweep.hosts=[jetson-*]'    on the machines of a fleet, see docs/fleet.md
"""


@with_presets
def main(argv: Sequence[str]) -> int:
    if is_config(argv) and not is_help(argv):
        return _show_cells([arg for arg in argv if "=" in arg and not arg.startswith("-")])
    if answered(argv, HELP, taken=MULTIRUN):
        return EXIT_OK
    from experiments.sweep.fleet import resume_fleet, run_fleet
    from experiments.sweep.hosts import is_fleet, is_fleet_folder
    from experiments.sweep.running import resume_folder, resumed_sweep, run_cells, run_sweep

    argv = without_multirun(argv)
    folder = resume_folder(argv)
    if folder is None:
        return run_fleet(argv) if is_fleet(argv) else run_cells(argv)
    if is_fleet_folder(folder):
        return resume_fleet(folder)
    if is_fleet_folder(folder.parent):
        raise ConfigError("resume", folder, "is one host class of a sweep on a fleet", f"use resume={folder.parent}")
    return run_sweep(resumed_sweep(folder))


def _show_cells(overrides: Sequence[str]) -> int:
    """--cfg job: the composed configuration of every cell; with resume=DIR, those that the sweep was started with."""
    from omegaconf import OmegaConf

    from experiments.settings.compose import compose_cells
    from experiments.settings.suited import suited
    from experiments.sweep.cells import read_cells
    from experiments.sweep.ledger import load_ledger
    from experiments.sweep.running import resume_folder

    folder = resume_folder(overrides)
    for cell in suited(compose_cells(overrides))[0] if folder is None else read_cells(load_ledger(folder)):
        print(f"--- # {cell.label}\n{OmegaConf.to_yaml(dict(cell.config))}", end="")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
