"""One variant, measured and scored: `python -m experiments.run engine=int8 solver=euler_7`.

What measures is imported once it is known that something is to be measured: --help is answered at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.presets import with_presets
from experiments.settings.front import MULTIRUN, answered, without_multirun

HELP = """Measure one variant: build it in a fresh process, time it over the workload, score the very audio it made.

examples:
  python -m experiments.run engine=int8 solver=euler_7
  python -m experiments.run engine=bf16 workload=smoke measure.rounds=1 out=outputs/try
  python -m experiments.run model.checkpoint=my.safetensors workload.texts=my.yaml
  python -m experiments.run solver=midpoint_7 solver.sway=0 --cfg job
  python -m experiments.run -m engine=fp32,bf16                 several: the same as experiments.sweep
"""


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP, taken=MULTIRUN):
        return EXIT_OK
    if any(arg in MULTIRUN for arg in argv):
        from experiments.sweep import running as sweeping

        return sweeping.run_cells(without_multirun(argv), preset=None)
    from experiments.sweep.single import run_one

    return run_one(argv)


if __name__ == "__main__":
    sys.exit(run_verb(main))
