"""The step as files for people who build elsewhere than they run: `f5bench export engine=tensorrt_fp16 out=DIR`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from engine.clock import HostClock
from engine.families import f5tts
from experiments.common.cli import EXIT_OK, note, run_verb
from experiments.common.presets import with_presets
from experiments.measuring.running import default_out
from experiments.measuring.validate import one_cell, validate_out
from experiments.settings.front import answered

HELP = """Leaves the step of a TensorRT engine in out=DIR:

  step.onnx        the very graph that the engine builds its plan from (large weights in step.onnx.data beside it)
  step.plan        the plan, with step.plan.json, where it can be built here: TensorRT-RTX needs no GPU for it,
                   TensorRT the card that is to run it
  trtexec.sh       the command that builds the same plan on another machine, for TensorRT's engines
  step.plan.json   lets engine.plan=DIR/step.plan take what that command built; it is checked before it is used

examples:
  python -m experiments.export engine=tensorrt_fp16 out=outputs/fp16
  python -m experiments.export engine=tensorrt_rtx_int8 model=pocket out=outputs/int8
  python -m experiments.run device=cuda engine=tensorrt_fp16 engine.plan=outputs/fp16/step.plan

exit codes: 0 written, 2 usage or configuration, 14 this engine cannot be exported here, 130 interrupted
"""


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    from engine.backends.tensorrt.export import export_plan  # these bring torch, which --help does without
    from engine.solver.methods import solver_spec

    config = one_cell(argv).config
    folder = Path(config["out"] or default_out("export"))
    validate_out(folder, 1, 0)
    solver_spec(config["solver"])  # refuses a model without one
    context = f5tts.context(config, HostClock())
    made = export_plan(context, folder)
    print(f"graph  {made.onnx}")
    if made.plan is not None:
        print(f"plan   {made.plan}")
    if made.command is not None:
        print(f"build  {made.command}")
    if made.reason is not None:
        note(f"no plan: {made.reason}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
