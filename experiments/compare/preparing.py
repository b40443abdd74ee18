"""Both sides of a comparison, ready to be measured: their trees, their configurations, what they are asked to speak."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from baselines.paired.data import CANDIDATE, DEVICE_TIME, SENTINEL
from engine.contract import ConfigError
from engine.paths import ROOT, find_file
from engine.settings import DeviceSettings
from engine.text.chunks import chunk_bound
from experiments.common.environment import num_threads
from experiments.common.plain import Config, as_plain
from experiments.common.repository import commit_of, git_state
from experiments.compare.processes import SideSpec
from experiments.compare.revision import refuse_uncommitted, worktree
from experiments.compare.settings import SIDES, Command, Settings, SideRequest
from experiments.measuring.validate import check_allocator, refuse_cuts, validate, validate_out
from experiments.settings.compose import VARIANT_KEYS, compose_config, names_of
from experiments.workload.requests import Workload, load_workload

PATH_KEYS = ("checkpoint", "vocab", "audio", "plan")
SHARED = ("workload", "reference", "seed")
VARIANT_PREFIXES = (*(f"{key}." for key in (*VARIANT_KEYS, "device")), "model=", "vocoder=")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Both sides, checked as far as that is possible without building anything."""

    specs: tuple[SideSpec, ...]
    labels: Mapping[str, str]
    commits: Mapping[str, str | None]
    workload: Workload
    settings: Settings

    @property
    def device(self) -> DeviceSettings:
        return self.specs[0].config["device"]

    @property
    def named(self) -> Mapping[str, object]:
        """Name and identity of what is spoken."""
        described = self.workload.describe()
        return {key: described[key] for key in ("name", "identity_sha256")}


def prepare(command: Command, out: Path, stack: ExitStack) -> Prepared:
    """Worktrees of revisions live as long as `stack`. Raises ConfigError."""
    trees = {side: _tree(side, command.sides, stack) for side in SIDES}
    composed = {side: compose_config(command.sides[side].overrides, conf=trees[side] / "conf") for side in SIDES}
    configs = {side: paths_from_here(composed[side], trees[side]) for side in SIDES}
    for side in SIDES:
        if command.sides[side].revision is None:
            validate(configs[side])
        else:  # its settings are those of its own time; what this machine cannot have is not
            check_allocator(str(configs[side]["device"]["kind"]))
    _refuse_different(configs)
    for config in configs.values():
        refuse_cuts(config, "a comparison")
    _refuse_device_time(command.settings, configs[CANDIDATE]["device"])
    workload = load_workload(configs[CANDIDATE])
    validate_out(out, 1, len(workload.requests))
    requests = write_requests(workload, out.resolve() / "requests")  # sides may run in another tree
    specs = [
        SideSpec(
            side=side, tree=trees[side], config=configs[side], requests=requests,
            threads=num_threads(configs[side]["device"]),
        )
        for side in SIDES
    ]  # fmt: skip
    if command.settings.asked.sentinel:
        specs.append(replace(specs[0], side=SENTINEL))
    commits = {side: _commit(side, command.sides[side]) for side in SIDES}
    labels = {side: _label(command.sides[side], configs[side], commits[side]) for side in SIDES}
    return Prepared(specs=tuple(specs), labels=labels, commits=commits, workload=workload, settings=command.settings)


def paths_from_here(value: Any, tree: Path, key: str = "") -> Any:
    """For a process that works in `tree`: own files by their whole path, bundled ones are the tree's."""
    if isinstance(value, Mapping):
        return {name: paths_from_here(item, tree, name) for name, item in value.items()}
    if isinstance(value, list):
        return [paths_from_here(item, tree) for item in value]
    if key not in PATH_KEYS or not isinstance(value, str) or not find_file(value).is_file():
        return value
    is_own = find_file(value).absolute() != ROOT / value or not (tree / value).is_file()
    return str(find_file(value).absolute()) if is_own else value


def _tree(side: str, sides: Mapping[str, SideRequest], stack: ExitStack) -> Path:
    revision = sides[side].revision
    if revision is not None:
        return stack.enter_context(worktree(f"{side}.revision", revision))
    if any(request.revision is not None for request in sides.values()):
        refuse_uncommitted(f"{side}.revision")
    return ROOT


def _commit(side: str, request: SideRequest) -> str | None:
    if request.revision is not None:
        return commit_of(f"{side}.revision", request.revision, ROOT)
    return git_state(ROOT)["git_commit"]


def _label(request: SideRequest, config: Config, commit: str | None) -> str:
    """ENGINE-SOLVER, what else makes this side a variant, and the revision."""
    parts = names_of(config)
    parts += [text for text in request.overrides if text.startswith(VARIANT_PREFIXES)]
    label = "-".join(parts)
    return label if request.revision is None else f"{label}@{request.revision}({str(commit)[:9]})"


def _refuse_different(configs: Mapping[str, Config]) -> None:
    reference, candidate = (configs[side] for side in SIDES)
    for key in SHARED:
        if as_plain(reference)[key] != as_plain(candidate)[key]:
            raise ConfigError(
                key, "(differs)", "both sides must speak the same sentences with the same voice and noise",
                f"set {key} without reference. or candidate. before it",
            )  # fmt: skip
    if chunk_bound(reference) != chunk_bound(candidate):
        raise ConfigError(
            "text.max_chunk_s",
            "(differs)",
            "both sides must cut texts alike",
            "set it without a side before it",
        )
    if reference["device"]["kind"] != candidate["device"]["kind"]:
        raise ConfigError("device.kind", candidate["device"]["kind"], "must be that of the other side", "set device=..")


def _refuse_device_time(settings: Settings, device: DeviceSettings) -> None:
    if DEVICE_TIME in settings.limits.metrics and device["kind"] == "cpu":
        raise ConfigError(
            "compare.metrics", DEVICE_TIME, "a CPU has no clock of its own; wall_time and cpu_time are measured on it",
            "use metrics=[wall_time], or device=cuda",
        )  # fmt: skip


def write_requests(workload: Workload, folder: Path) -> Path:
    """What the children read: the requests' fields as JSON, their reference audio as .npy beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for i, request in enumerate(workload.requests):
        np.save(folder / f"{i}.npy", request.ref_audio_S, allow_pickle=False)
        entries.append(
            {
                "utterance_id": request.utterance_id, "text": request.text, "ref_audio": f"{i}.npy",
                "ref_sample_rate_hz": request.ref_sample_rate_hz, "ref_text": request.ref_text,
                "speed_ratio": request.speed_ratio, "num_frames": request.num_frames,
                **({"style": request.style} if request.style else {}),  # revisions of before know no such field
            }
        )  # fmt: skip
    path = folder / "requests.json"
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return path
