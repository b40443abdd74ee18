"""From what was asked to two sides that can be measured: checkouts of revisions, the interpreter, what is proven."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from baselines.paired.data import CANDIDATE, REFERENCE, SENTINEL, Answers
from engine.settings import DeviceSettings
from experiments.common.environment import num_threads
from experiments.common.journal import JournalWriter
from experiments.common.plain import as_config
from experiments.common.repository import commit_of, git_state
from experiments.compare.answers import Built, Called
from experiments.compare.bench import Bench
from experiments.compare.processes import Program, SideSpec
from experiments.compare.revision import worktree
from experiments.compare.session import LOG, PAIRS
from experiments.compare.settings import SIDES, Settings
from experiments.functions.settings import FunctionCommand, FunctionSide

CHILD = Path(__file__).resolve().parent / "child.py"
# What belongs to the Python and the run of this process, and would lead another one astray
DROPPED = (
    "PYTHON",
    "VIRTUAL_ENV",
    "MLFLOW_",
    "HYDRA_",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "GOMP_",
    "KMP_",
    "GITHUB_",
    "ACTIONS_",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedFunctions:
    """Both sides with their checkouts. named: name and identity of what the calls get."""

    specs: tuple[SideSpec, ...]
    labels: Mapping[str, str]
    commits: Mapping[str, str | None]
    settings: Settings
    device: DeviceSettings
    named: Mapping[str, object]
    sentences: tuple[str, ...]


class FunctionProof:
    """What a function returns is not judged; whether both sides return the same is remembered."""

    def __init__(self) -> None:
        self.checked: dict[str, int] = {}
        self._said: dict[tuple[int, int], dict[str, str]] = {}

    def facts(self, side: str, facts: Built) -> None:
        """The child has refused what is not the function that was asked for."""

    def call(self, side: str, facts: Built, order: tuple[int, int], answer: Called) -> None:
        if answer["answer_sha256"] is not None:
            self._said.setdefault(order, {})[side] = answer["answer_sha256"]

    def audio(self, side: str, facts: Built, sentence: int, answer: Called, path: Path) -> None:
        """None is kept."""

    def steady(self, side: str, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Nothing is counted."""

    def answers(self) -> Answers:
        pairs = [said for said in self._said.values() if {CANDIDATE, REFERENCE} <= said.keys()]
        equal = sum(said[CANDIDATE] == said[REFERENCE] for said in pairs)
        return Answers(num_evals={}, num_pairs=len(pairs), num_equal=equal, what="answer")


def prepare_functions(command: FunctionCommand, out: Path, stack: ExitStack) -> PreparedFunctions:
    """Checkouts of revisions live as long as `stack`. Raises ConfigError."""
    out.mkdir(parents=True, exist_ok=True)
    requests = out.resolve() / "texts.json"
    requests.write_text(json.dumps(command.texts, ensure_ascii=False), encoding="utf-8")
    device: DeviceSettings = {"name": command.device, "kind": command.device, "threads": command.threads}
    specs = [_spec(side, command, device, requests, stack) for side in SIDES]
    if command.settings.asked.sentinel:
        specs.append(replace(specs[0], side=SENTINEL))
    commits = {side: _commit(side, command.sides[side]) for side in SIDES}
    identity = hashlib.sha256(json.dumps([command.texts, command.calls]).encode()).hexdigest()
    return PreparedFunctions(
        specs=tuple(specs), labels={side: _label(command.sides[side], commits[side]) for side in SIDES},
        commits=commits, settings=command.settings, device=device,
        named={"name": "functions", "identity_sha256": identity},
        sentences=tuple("call" if text is None else f"line{i + 1}" for i, text in enumerate(command.texts)),
    )  # fmt: skip


def open_bench(prepared: PreparedFunctions, out: Path, lock: int | None, stack: ExitStack) -> Bench:
    """Journal, log and processes end with `stack`."""
    bench = Bench(
        specs=prepared.specs, sentences=prepared.sentences, plan=prepared.settings.plan,
        journal=stack.enter_context(JournalWriter(out / PAIRS)), log=stack.enter_context((out / LOG).open("ab")),
        proof=FunctionProof(), keep=out, lock=lock,
    )  # fmt: skip
    return stack.enter_context(bench)


def _spec(side: str, command: FunctionCommand, device: DeviceSettings, requests: Path, stack: ExitStack) -> SideSpec:
    asked = command.sides[side]
    tree = asked.repository
    if asked.revision is not None:
        tree = stack.enter_context(worktree(f"{side}.revision", asked.revision, asked.repository, holds=None))
    config = {
        "function": asked.function, "calls": command.calls, "below": asked.revision is not None, "device": device,
    }  # fmt: skip
    return SideSpec(
        side=side, tree=tree, config=as_config(config), requests=requests, threads=num_threads(device),
        program=Program(python=asked.python, file=CHILD, imports=asked.path, package=""),
        environment=environment(num_threads(device)),
    )  # fmt: skip


def environment(threads: int) -> dict[str, str]:
    """The caller's, without what belongs to this process, and without a runner's tokens: their code needs none."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    return {**kept, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONDONTWRITEBYTECODE": "1"}


def _commit(side: str, asked: FunctionSide) -> str | None:
    if asked.revision is not None:
        return commit_of(f"{side}.revision", asked.revision, asked.repository)
    return git_state(asked.repository)["git_commit"]


def _label(asked: FunctionSide, commit: str | None) -> str:
    """module:function, and where it was taken from."""
    if asked.revision is not None:
        return f"{asked.function}@{asked.revision}({str(commit)[:9]})"
    changed = " with uncommitted changes" if git_state(asked.repository)["git_dirty"] else ""
    return f"{asked.function} in {asked.repository.name}{changed}"
