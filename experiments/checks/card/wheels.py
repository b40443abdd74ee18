"""What a bare machine with CUDA lacks, as a folder of wheels: `f5bench gpu-check --wheels DIR`.

Such a machine has Python 3.12 with torch 2.11 and the usual packages around it (numpy, scipy, pandas, matplotlib,
transformers), and often no index. Engines of other runtimes (ONNX Runtime, TensorRT) are left to machines with one.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.contract import ConfigError
from engine.paths import ROOT

LACKING = (
    "hydra-core", "omegaconf", "antlr4-python3-runtime", "soundfile", "cffi", "pycparser", "soxr", "rjieba", "pypinyin",
    "jiwer", "rapidfuzz", "f5-tts", "vocos", "encodec", "librosa", "audioread", "pooch", "decorator", "platformdirs",
    "lazy-loader", "pydub", "unidecode", "loguru", "ema-pytorch", "x-transformers", "einx", "frozendict", "einops",
    "torchdiffeq", "junitparser", "pydantic", "pydantic-core", "annotated-types", "typing-inspection",
    "typing-extensions",
)  # fmt: skip
WITHOUT_WHEEL = ("antlr4-python3-runtime", "encodec")  # of the index: built here, they are Python alone
PYTHON, PLATFORM = "3.12", "manylinux_2_28_x86_64"
NAMES = "wheels.txt"
MOST_BYTES = 25 * 10**6

Run = Callable[[Sequence[str]], int]


def pip(arguments: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pip", *arguments], check=False).returncode


def gather(folder: Path, run: Run = pip) -> list[Path]:
    """Fills the folder. Raises ConfigError where pip cannot, or where it is more than such a machine is sent."""
    folder.mkdir(parents=True, exist_ok=True)
    common = ["--quiet", "--no-deps", "--constraint", str(ROOT / "constraints.txt")]
    elsewhere = ["--only-binary=:all:", "--python-version", PYTHON, *_platforms()]
    names = [name for name in LACKING if name not in WITHOUT_WHEEL]
    for arguments in (
        ["download", *common, *elsewhere, "--dest", str(folder), *names],
        ["wheel", *common, "--wheel-dir", str(folder), *WITHOUT_WHEEL],
    ):
        if code := run(arguments):
            raise ConfigError(
                "--wheels", folder, f"pip {arguments[0]} ended with {code}, its own words are above",
                "gather them where an index can be reached",
            )  # fmt: skip
    wheels = sorted(folder.glob("*.whl"))
    num_bytes = sum(path.stat().st_size for path in wheels)
    if num_bytes > MOST_BYTES:
        largest = max(wheels, key=lambda path: path.stat().st_size)
        raise ConfigError(
            "--wheels", folder, f"holds {num_bytes / 1e6:.1f} MB of wheels, at most {MOST_BYTES / 1e6:.0f} are meant "
            f"to travel (the largest is {largest.name})", "begin with an empty folder",
        )  # fmt: skip
    (folder / NAMES).write_text("".join(f"{name}\n" for name in LACKING), "utf-8")
    return wheels


def _platforms() -> list[str]:
    """Older names of the same platform: pip takes each literally."""
    names = (PLATFORM, "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_12_x86_64", "manylinux2010_x86_64",
             "manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64")  # fmt: skip
    return [word for name in names for word in ("--platform", name)]


def told(folder: Path, wheels: Sequence[Path]) -> str:
    """How the folder is used."""
    num_bytes = sum(path.stat().st_size for path in wheels)
    where = ["--find-links", folder.name, "--requirement", f"{folder.name}/{NAMES}"]
    return "\n".join([
        f"{len(wheels)} wheels, {num_bytes / 1e6:.1f} MB, for Python {PYTHON} on x86-64 beside torch: {folder}",
        "Copy that folder and this repository to the machine; there, in the repository:",
        "  " + shlex.join(["python", "-m", "pip", "install", "--no-index", "--no-deps", *where]),
        "  python -m experiments.checks.gpu",
    ])  # fmt: skip
