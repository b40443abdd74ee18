"""The verbs of f5bench by what a person wants to do: for its overview, its completion and every printed command."""

from __future__ import annotations

from collections.abc import Mapping

HARNESS = "check the harness"  # for who doubts its figures: names alone in the overview
# purpose -> verb -> (module, what it is for)
VERBS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "measure": {
        "run": ("experiments.run", "one variant: timed, and the very audio it made scored"),
        "sweep": ("experiments.sweep", "many variants in one table; goes on after an interruption"),
        "optimize": ("experiments.optimize", "a search instead of a grid"),
        "stream": ("experiments.stream", "first audible sample and gaps of a stream"),
        "load": ("experiments.load", "an engine under load, as a service would have it"),
        "profile": ("experiments.profile", "where the time of a call goes: stages, operations, share of the peak"),
        "predict": ("experiments.predict", "a bound on each engine's RTF on a device that is not here"),
        "floor": ("experiments.scoring.floor", "how far two seeds of one model lie apart: the scale of every score"),
    },
    "judge": {
        "compare": ("experiments.compare", "two variants, weights or revisions in one run, with a verdict"),
        "compare-functions": ("experiments.functions", "two functions, or one at two revisions, of any repository"),
        "bisect": ("experiments.bisection", "the commit that made it slower, by walking between two revisions"),
        "selftest": ("experiments.selftest", "how often that verdict is wrong here"),
        "baseline": ("experiments.baseline", "keep a run as baseline; list, show, page, approve, diff"),
        "gate": ("experiments.gate", "a new run against a stored baseline"),
        "gate-selftest": ("experiments.selftest.stored", "how often that gate is wrong here"),
        "quality-gate": ("experiments.quality_gate", "is run B as good as run A? from stored scores"),
        "quality-selftest": ("experiments.selftest.quality", "what the metrics see of planted faults"),
        "decide": ("experiments.decide", "take the cheaper variant or not, by a rule fixed beforehand"),
        "plan-samples": ("experiments.plan_samples", "how many sentences, clips or votes a question needs"),
        "history": ("experiments.history", "runs of many days as courses: what changed, when, and the suspects"),
        "comment": ("reports.comment", "a verdict as one sentence, for a pull request"),
    },
    "listen": {
        "listening": ("reports.listening", "a blind listening set: build, serve, collect"),
    },
    "serve": {
        "serve": ("experiments.serve", "a small service that keeps a model loaded; /metrics for Prometheus"),
        "watch": ("experiments.watch", "a gate every night or hour, its history, and what alerts stand on"),
    },
    "look after": {
        "fleet": ("experiments.fleet", "machines that measure for one sweep: head, join, status"),
        "doctor": ("experiments.doctor", "what is here, what is missing, what that disables"),
        "setup-jetson": ("experiments.setup_jetson", "set up a Jetson: what make jetson runs"),
        "telemetry": ("experiments.telemetry", "power and temperature: what this machine tells; a log of tegrastats"),
        "reports": ("reports", "render a run or a sweep again"),
        "score": ("experiments.scoring.score", "score a finished run again"),
        "tracking": ("experiments.tracking", "fill MLflow from what lies on disk"),
        "trim-reference": ("experiments.trim_reference", "cut a reference clip in a pause"),
        "fit-solver": ("experiments.solvers.fit", "fit a solver of few evaluations to a model"),
        "calibrate-reuse": ("experiments.solvers.calibrate_reuse", "what step caching is calibrated from"),
        "export": ("experiments.export", "a TensorRT engine's step as files: ONNX, plan, trtexec's command"),
        "gpu-check": ("experiments.checks.gpu", "prove the CUDA engines on this machine"),
        "distill": ("experiments.students", "teach a student: its teacher's answer with less work"),
        "train-pocket": ("experiments.pocket.train", "train the pocket model again"),
        "pocket-eval": ("experiments.pocket.evaluate", "how well the pocket model speaks"),
    },
    HARNESS: {
        "gpu-correct": ("experiments.checks.gpu_correct", "its part that compares every engine's mel"),
        "step-error": ("experiments.checks.step_error", "where an engine's error comes from"),
        "overhead": ("experiments.checks.overhead", "what the harness costs"),
        "onnx-profile": ("experiments.checks.onnx_profile", "where an ONNX engine's evaluation spends its time"),
        "roofline": ("experiments.checks.roofline", "the denoiser's share of the device's products"),
        "chaos": ("experiments.checks.chaos", "kill -9 at random moments: is anything lost?"),
        "fleet-chaos": ("experiments.checks.fleet.chaos", "the same on a fleet: workers, nodes, the head, the sweep"),
        "fleet-scaling": ("experiments.checks.fleet.scaling", "whether several machines do cells side by side"),
        "sweep-cost": ("experiments.checks.sweep_cost", "what a sweep costs beyond its workers"),
        "score-cost": ("experiments.checks.score_cost", "what scoring costs once the audio exists"),
        "enhance-check": (
            "experiments.checks.enhancement",
            "what post-processing does to planted faults, and its cost",
        ),
        "ears-check": ("experiments.checks.ears", "how far the ears agree, on planted faults and variants"),
    },
}
MODULES = {verb: module for verbs in VERBS.values() for verb, (module, _) in verbs.items()}
