"""One command for every verb: `f5bench` lists them by what a person wants to do, `f5bench VERB ...` runs one.

`python -m experiments` is the same where the console script is not installed. A verb is a module that can also be run
by `python -m`; nothing is imported here before it is known which one is wanted.
"""

from __future__ import annotations

import difflib
import runpy
import sys
from collections.abc import Mapping, Sequence

from experiments.completion import SHELLS, candidates, script
from reports.commands import ROOT

HELP = ("-h", "--help", "help")
INTERNAL = (
    "measuring.worker",
    "compare.child",
    "functions.child",
    "load.cold",
    "doctor.probe",
)  # programs that verbs start

# purpose -> verb -> (module, what it is for)
VERBS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "measure": {
        "run": ("experiments.run", "one variant: timed, and the very audio it made scored"),
        "sweep": ("experiments.sweep", "many variants in one table; goes on after an interruption"),
        "optimize": ("experiments.optimize", "a search instead of a grid"),
        "stream": ("experiments.stream", "first audible sample and gaps of a stream"),
        "load": ("experiments.load", "an engine under load, as a service would have it"),
        "floor": ("experiments.scoring.floor", "how far two seeds of one model lie apart: the scale of every score"),
    },
    "judge": {
        "compare": ("experiments.compare", "two variants, weights or revisions in one run, with a verdict"),
        "compare-functions": ("experiments.functions", "two functions, or one at two revisions, of any repository"),
        "selftest": ("experiments.selftest", "how often that verdict is wrong here"),
        "baseline": ("experiments.baseline", "keep a run as baseline; list, show, approve, diff"),
        "gate": ("experiments.gate", "a new run against a stored baseline"),
        "gate-selftest": ("experiments.selftest.stored", "how often that gate is wrong here"),
        "quality-gate": ("experiments.quality_gate", "is run B as good as run A? from stored scores"),
        "quality-selftest": ("experiments.selftest.quality", "what the metrics see of planted faults"),
        "decide": ("experiments.decide", "take the cheaper variant or not, by a rule fixed beforehand"),
        "plan-samples": ("experiments.plan_samples", "how many sentences, clips or votes a question needs"),
        "comment": ("reports.comment", "a verdict as one sentence, for a pull request"),
    },
    "listen": {
        "listening": ("reports.listening", "a blind listening set: build, serve, collect"),
    },
    "serve": {
        "serve": ("experiments.serve", "a small service that keeps a model loaded"),
    },
    "look after": {
        "doctor": ("experiments.doctor", "what is here, what is missing, what that disables"),
        "setup-jetson": ("experiments.setup_jetson", "set up a Jetson: what make jetson runs"),
        "telemetry": ("experiments.telemetry", "power and temperature: what this machine tells; a log of tegrastats"),
        "reports": ("reports", "render a run or a sweep again"),
        "score": ("experiments.scoring.score", "score a finished run again"),
        "tracking": ("experiments.tracking", "fill MLflow from what lies on disk"),
        "trim-reference": ("experiments.trim_reference", "cut a reference clip in a pause"),
        "fit-solver": ("experiments.solvers.fit", "fit a solver of few evaluations to a model"),
        "calibrate-reuse": ("experiments.solvers.calibrate_reuse", "what step caching is calibrated from"),
        "gpu-check": ("experiments.checks.gpu", "prove the CUDA engines on this machine"),
        "gpu-correct": ("experiments.checks.gpu_correct", "its part that compares every engine's mel"),
        "step-error": ("experiments.checks.step_error", "where an engine's error comes from"),
        "overhead": ("experiments.checks.overhead", "what the harness costs"),
        "onnx-profile": ("experiments.checks.onnx_profile", "where an ONNX engine's evaluation spends its time"),
        "roofline": ("experiments.checks.roofline", "the denoiser's share of the device's products"),
        "chaos": ("experiments.checks.chaos", "kill -9 at random moments: is anything lost?"),
        "sweep-cost": ("experiments.checks.sweep_cost", "what a sweep costs beyond its workers"),
        "score-cost": ("experiments.checks.score_cost", "what scoring costs once the audio exists"),
        "train-pocket": ("experiments.pocket.train", "train the pocket model again"),
        "pocket-eval": ("experiments.pocket.evaluate", "how well the pocket model speaks"),
    },
}
MODULES = {verb: module for verbs in VERBS.values() for verb, (module, _) in verbs.items()}


def overview() -> str:
    """One screen: the verbs by purpose."""
    lines = ["f5bench VERB [...]: speed of F5-TTS with the quality of the very audio that was timed.", ""]
    for purpose, verbs in VERBS.items():
        lines.append(purpose)
        lines += [f"  {verb:<19}{said}" for verb, (_, said) in verbs.items()]
    return "\n".join([
        *lines, "", "f5bench VERB --help shows its settings and examples; start with: f5bench doctor, f5bench run",
        f'completion: eval "$(f5bench completion bash)" ({", ".join(SHELLS)})',
    ])  # fmt: skip


def _show(argv: Sequence[str]) -> int:
    print(overview())
    return 0


def unknown(verb: str) -> str:
    """One line for a verb that there is not."""
    near = difflib.get_close_matches(verb.replace("_", "-"), MODULES, n=1)
    hint = f"did you mean {near[0]}?" if near else "`f5bench` lists them"
    return f"error: {verb}: there is no such verb; {hint}"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of overview, completion or a mistake; a verb that runs ends the process with its own."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in HELP:
        from experiments.common.cli import run_verb  # which knows a reader that leaves early

        return run_verb(_show, [])
    verb, rest = given[0], given[1:]
    if verb == "completion":
        if rest[:1] and rest[0] in SHELLS:
            print(script(rest[0]))
            return 0
        print(f"error: completion: give one of {', '.join(SHELLS)}", file=sys.stderr)
        return 2
    if verb == "complete":  # asked by the scripts above
        print("\n".join(candidates(rest, MODULES)))
        return 0
    if verb not in MODULES:
        print(unknown(verb), file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT))
    sys.argv = [verb, *rest]
    runpy.run_module(MODULES[verb], run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
