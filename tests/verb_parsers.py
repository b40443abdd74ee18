"""How each command of ours reads its words, without doing anything: what a printed command must get through."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments import baseline, gate, plan_samples, predict, profile, stream
from experiments.bisection import comparing
from experiments.bisection import settings as bisect_settings
from experiments.compare import __main__ as compare
from experiments.compare.settings import read_command
from experiments.functions.settings import read_command as read_function_command
from experiments.measuring import limits
from experiments.optimize import request
from experiments.selftest import __main__ as selftest
from experiments.selftest import stored as gate_selftest
from experiments.serve import settings as load_settings
from experiments.settings import compose, overrides, words
from experiments.settings.compose import compose_config, compose_run
from experiments.settings.front import composed_file, is_help, is_information, refuse_flags, without_multirun
from experiments.settings.words import split_words
from experiments.solvers import calibrate_reuse
from experiments.solvers import fit as fit_solver
from experiments.students.settings import RECIPE
from experiments.sweep import running as sweeping
from experiments.watch import __main__ as watch
from experiments.watch import settings as watch_settings
from reports.listening.study import settings as listening

Parser = Callable[[Sequence[str]], object]


class Parsed(Exception):
    """The words were accepted; what comes next would be work."""


def read_words(module: str, argv: Sequence[str]) -> None:
    """Raises what the module raises for words that it refuses: ConfigError, RecordError, ListeningError, SystemExit."""
    PARSERS[module](argv)


def _hydra(split: Parser | None = None) -> Parser:
    """Overrides, and what Hydra shows. split: what the verb takes out first, leaving overrides."""

    def parse(argv: Sequence[str]) -> None:
        if is_help(argv) or is_information(argv):
            return
        refuse_flags(argv)
        compose_run(list(split(argv) if split else argv))  # type: ignore[call-overload]

    return parse


def _first_cell(argv: Sequence[str]) -> None:
    """The overrides of a sweep and one of its cells: that all of them compose is tested elsewhere."""
    parsed = overrides.parse(argv)
    preset, given = compose._split_preset(parsed, compose.DEFAULT_PRESET)
    head = (f"experiment={preset}", *compose._preset_cells(preset)[0]) if preset else ()
    compose.compose_cell((*head, *(overrides.alternatives(override)[0] for override in given)), ())


def _run(argv: Sequence[str]) -> None:
    (_first_cell if "-m" in argv else _hydra())(without_multirun(argv))


def _sweep(argv: Sequence[str]) -> None:
    if sweeping.resume_folder(argv) is None:
        _first_cell(argv)


def _optimize(argv: Sequence[str]) -> None:
    more = [text for text in argv if not text.startswith("sweep.num_trials=")]
    if sweeping.resume_folder(more) is None:
        request.asked(argv)


def _compare(argv: Sequence[str]) -> None:
    if is_help(argv) or is_information(argv):
        return
    refuse_flags(argv)
    command = read_command(argv)
    compare._own_settings(command)
    for side in command.sides.values():
        compose_run(list(side.overrides))


def _functions(argv: Sequence[str]) -> None:
    if not argv or is_help(argv):  # a mention of it, or its help
        return
    refuse_flags(argv)
    read_function_command([text for text in argv if not text.startswith("texts=")])  # a file of the reader's own


def _bisect(argv: Sequence[str]) -> None:
    if not argv or is_help(argv) or is_information(argv) or bisect_settings.resume_folder(argv) is not None:
        return
    refuse_flags(argv)
    command = bisect_settings.read_command(argv)
    sides = comparing.words_of(command, "HEAD", "HEAD~1")
    (_functions if command.of_functions else _compare)(sides)


def _selftest(argv: Sequence[str]) -> None:
    refuse_flags(argv)
    compose_config(selftest.read_asked(argv).overrides)


def _gate_selftest(argv: Sequence[str]) -> None:
    refuse_flags(argv)
    compose_run(list(gate_selftest.read_asked(argv).rest))


def _load(argv: Sequence[str]) -> None:
    if is_help(argv) or is_information(argv):
        return
    refuse_flags(argv)
    settings, overrides = load_settings.split_command(argv)
    load_settings.refuse_unread(argv, settings)
    compose_run(overrides)


def _serve(argv: Sequence[str]) -> None:
    if is_help(argv) or is_information(argv):
        return
    refuse_flags(argv)
    load_settings.refuse_unserved(argv)
    mine, rest = load_settings.SERVE.split(argv)
    load_settings.SERVE.made(mine)
    compose_run(rest)


def _watch(argv: Sequence[str]) -> None:
    if is_help(argv) or is_information(argv):
        return
    refuse_flags(argv)
    mine, rest = watch_settings.WATCH.split(argv)
    if mine:  # not a mention of it
        watch_settings.WATCH.made(mine)
    watch.check(rest)


def _distill(argv: Sequence[str]) -> None:
    if is_help(argv) or is_information(argv):
        return
    refuse_flags(argv)
    mine, rest = RECIPE.split(argv)
    RECIPE.made(mine)
    compose_run(rest)


def _gate(argv: Sequence[str]) -> None:
    overrides = gate.read_asked(argv)[1]
    refuse_flags(overrides)
    limits.read_limits(overrides)
    compose_run(overrides)


def _baseline(argv: Sequence[str]) -> None:
    overrides = baseline._parser().parse_known_args(argv)[1]
    refuse_flags(overrides)
    compose_run(overrides)


def _listening(argv: Sequence[str]) -> None:
    if is_help(argv):
        return
    verb, words = argv[0], argv[1:]
    if verb == "build":
        listening.build_settings(words, Path("out"))
    else:
        paths, _ = listening.split_words(words, {"serve": ("port",), "collect": ("key", "out")}[verb])
        assert paths, f"{verb} needs a folder"


def _gpu(argv: Sequence[str]) -> None:
    if len(argv) == 2 and argv[0] == "--wheels":
        return
    _first_cell(["experiment=gpu_check", *[text for text in argv if not text.startswith("gpu_check.")]])


def flags_of(module: str, argv: Sequence[str]) -> argparse.Namespace:
    """What the argparse parser that the module's main makes says to the words."""
    found: list[argparse.Namespace] = []
    real = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        found.append(real(self, argv))
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        patch.setattr(sys, "argv", [module, *argv])
        main = importlib.import_module(module).main
        with pytest.raises(Parsed):
            main(list(argv)) if main.__code__.co_argcount else main()
    return found[0]


def _flags(module: str, keys: Sequence[str] = (), folders: int = 0, *, composes: bool = False) -> Parser:
    def parse(argv: Sequence[str]) -> None:
        given = flags_of(module, argv)
        if keys:
            paths, _ = split_words(given.words, keys)
            assert len(paths) in (0, folders) if module.endswith("plan_samples") else len(paths) == folders
        if composes:
            compose_run(given.overrides)

    return parse


PARSERS: dict[str, Parser] = {
    "experiments.run": _run,
    "experiments.sweep": _sweep,
    "experiments.optimize": _optimize,
    "experiments.compare": _compare,
    "experiments.functions": _functions,
    "experiments.bisection": _bisect,
    "experiments.selftest": _selftest,
    "experiments.selftest.stored": _gate_selftest,
    "experiments.load": _load,
    "experiments.serve": _serve,
    "experiments.watch": _watch,
    "experiments.students": _distill,
    "experiments.gate": _gate,
    "experiments.baseline": _baseline,
    "experiments.stream": _hydra(lambda argv: stream.split_arguments(argv)[0]),
    "experiments.solvers.calibrate_reuse": _hydra(lambda argv: calibrate_reuse.split_alphas(argv)[0]),
    "experiments.solvers.fit": _hydra(lambda argv: fit_solver.read_asked(argv).rest),
    "experiments.profile": _hydra(lambda argv: profile.read_asked(argv).overrides),
    "experiments.predict": _hydra(lambda argv: predict.read_asked(argv).overrides),
    "experiments.scoring.floor": _hydra(),
    "experiments.checks.step_error": _hydra(), "experiments.checks.enhancement": _hydra(),
    "experiments.export": _hydra(),
    "experiments.checks.gpu": _gpu,
    "experiments.checks.gpu_correct": _gpu,
    "experiments.pocket.evaluate": _hydra(),
    "experiments.pocket.train": lambda argv: composed_file("train_pocket", argv),
    "experiments.quality_gate": _flags("experiments.quality_gate", words.KEYS, 2),
    "experiments.decide": _flags("experiments.decide", ("rule", "out"), 1),
    "experiments.plan_samples": _flags("experiments.plan_samples", plan_samples.KEYS, 2),
    **{f"experiments.{name}": _flags(f"experiments.{name}") for name in (
        "scoring.score", "trim_reference", "setup_jetson", "selftest.quality", "history", "checks.chaos",
        "checks.sweep_cost", "checks.score_cost", "checks.fleet.chaos", "checks.fleet.scaling", "checks.ears",
    )},
    **{f"experiments.{name}": _flags(f"experiments.{name}.__main__") for name in (
        "tracking", "doctor", "telemetry", "fleet",
    )},
    **{f"experiments.checks.{name}": _flags(f"experiments.checks.{name}", composes=True) for name in (
        "onnx_profile", "roofline",
    )},
    "experiments.checks.overhead": _flags("experiments.checks.overhead", composes=True),
    "experiments": lambda argv: None,
    "reports": _flags("reports.__main__"),
    "reports.listening": _listening,
    "reports.site": _flags("reports.site.__main__"),
    "reports.comment": _flags("reports.comment.__main__"),
}  # fmt: skip
