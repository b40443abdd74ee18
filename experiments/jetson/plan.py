"""What sets up a Jetson, as a list of commands: a pure function of release, Python and board. Nothing is run here.

JetPack 6 (CUDA 12.6): no wheel of torch on the default index finds its GPU. Those of an index for Jetsons are taken,
whose address is the user's to give. It is the only index of that one command: beside the default one pip may take a
build for the CPU of the same version. From JetPack 7 on (CUDA 13) the default index has them.
f5-tts is installed without its dependencies: it asks for torchcodec, gradio and bitsandbytes, which it does not import
where we use it, and whose wheels replace torch or do not load.
"""

from __future__ import annotations

from dataclasses import dataclass

VENV = ".venv-jetson"
PYTHON = f"{VENV}/bin/python"
CONSTRAINTS = f"{VENV}/constraints.txt"
INDEX = "JETSON_INDEX"
INDEX_WORD = f"${INDEX}"

APT = (
    "python3-venv", "python3-dev", "build-essential", "cmake", "libsndfile1", "ffmpeg", "python3-libnvinfer",
)  # fmt: skip
F5_TTS = "f5-tts==1.1.22"
# What torch, torchaudio and ONNX Runtime need, for an index that has nothing else
BENEATH = (
    "filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec", "coloredlogs", "flatbuffers", "protobuf",
)  # fmt: skip
# What f5-tts 1.1.22 imports on the way to its model and its inference
OF_F5_TTS = (
    "accelerate", "datasets", "ema-pytorch", "huggingface-hub", "librosa", "pydub", "torchdiffeq", "tqdm",
    "transformers", "wandb", "x-transformers",
)  # fmt: skip
# pyproject.toml: dependencies, and the extras quality, mlflow, serve and gpu; a test holds this list against it
OF_OURS = (
    "vocos", "scipy", "soundfile", "soxr", "safetensors", "rjieba", "pypinyin", "hydra-core>=1.3.8,<1.4", "rich",
    "psutil", "pydantic>=2.7", "annotated-types>=0.6", "typing-extensions>=4.8", "pandas", "pyarrow", "matplotlib",
    "jinja2", "jiwer", "pyyaml", "junitparser", "markdown-it-py", "pesq", "pystoi", "pocketsphinx", "pyworld",
    "pyloudnorm", "mlflow>=3.7,<4", "fastapi", "uvicorn", "httpx", "prometheus-client", "onnx",
    "onnxscript",
)  # fmt: skip
KEPT = ("torch", "torchaudio", "triton", "numpy", "onnxruntime-gpu")  # nothing that comes later may replace these


class Refused(Exception):
    """No plan for this machine: why, and what to do. One line."""


@dataclass(frozen=True)
class Stack:
    """Wheels that belong together. python: the version that the release brings and the wheels are for."""

    name: str
    python: tuple[int, int]
    wheels: tuple[str, ...]
    numpy: str
    by_index: bool
    apt: tuple[str, ...] = ()


JETPACK_6 = Stack(
    name="JetPack 6 (CUDA 12.6)", python=(3, 10), numpy="numpy==1.26.4", by_index=True, apt=("libcusparselt0",),
    wheels=("torch==2.8.0", "torchaudio==2.8.0", "triton==3.4.0", "onnxruntime-gpu==1.23.0"),
)  # fmt: skip
JETPACK_7 = Stack(
    name="JetPack 7 (CUDA 13)", python=(3, 12), numpy="numpy==2.4.6", by_index=False,
    wheels=("torch==2.11.0", "torchaudio==2.11.0", "onnxruntime-gpu==1.31.1"),
)  # fmt: skip
ORIN, THOR = ("agx-orin", "orin-nx", "orin-nano"), ("thor",)
# L4T -> (wheels, boards that the release is for)
RELEASES = {
    "36.4": (JETPACK_6, ORIN), "36.5": (JETPACK_6, ORIN), "38.2": (JETPACK_7, THOR), "38.4": (JETPACK_7, THOR),
    "39.2": (JETPACK_7, (*ORIN, *THOR)),
}  # fmt: skip
TOO_OLD = {"32": "JetPack 4", "35": "JetPack 5", "36.3": "JetPack 6.0"}
NOTES = {
    "36.4.7": "L4T 36.4.7 refuses memory that is free (NvMap error 12): 36.5.0 is newer",
    "38": "torch.compile on Thor: the ptxas of triton may not know sm_110a (pytorch issue 170117)",
    "39.2": "torch may warn that it has no kernels of its own for sm_87: those for sm_80 run there",
}


@dataclass(frozen=True)
class Step:
    """words: of a command, none where the constraints file is written. ends_with_its_code: its exit code is the answer
    of the whole, not a fault of the set-up. needs_board: its GPU, which no image has while it is built."""

    said: str
    words: tuple[str, ...]
    ends_with_its_code: bool = False
    needs_board: bool = False


@dataclass(frozen=True)
class Plan:
    """apt: what the user installs first, with root. index_needed: the variable INDEX must hold an address."""

    title: str
    apt: tuple[str, ...]
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    index_needed: bool


def plan(l4t: str | None, python: tuple[int, int], family: str | None, program: str = "python3") -> Plan:
    """l4t: 36.4.4; family: as Jetson.family, None where this is no Jetson; program: that makes the environment.

    Raises Refused.
    """
    if family is None:
        raise Refused("this is no Jetson; `make install` makes the environment of any other machine")
    stack = _stack(l4t, family)
    if python != stack.python:
        needed, here = (f"{version[0]}.{version[1]}" for version in (stack.python, python))
        raise Refused(f"{stack.name} brings Python {needed} and its wheels are for that, this is {here}; "
                      f"make jetson PYTHON=python{needed}")  # fmt: skip
    assert l4t is not None
    notes = [said for release, said in NOTES.items() if l4t == release or l4t.startswith(f"{release}.")]
    return Plan(
        title=f"{stack.name}, L4T {l4t}, {family}", apt=(*APT, *stack.apt), steps=tuple(_steps(stack, program)),
        notes=tuple(notes), index_needed=stack.by_index,
    )  # fmt: skip


def _stack(l4t: str | None, family: str) -> Stack:
    known = ", ".join(RELEASES)
    if l4t is None:
        raise Refused("the L4T release is not known; /etc/nv_tegra_release must be readable (f5bench doctor says more)")
    old = next((name for release, name in TOO_OLD.items() if l4t == release or l4t.startswith(f"{release}.")), None)
    if old is not None:
        raise Refused(f"L4T {l4t} is {old}, which has no torch of 2.5 or newer; flash JetPack 6.2 or newer")
    found = RELEASES.get(".".join(l4t.split(".")[:2]))
    if found is None:
        raise Refused(f"L4T {l4t} is none of those whose wheels are known here ({known}); see docs/jetson.md, by hand")
    stack, families = found
    if family not in families:
        raise Refused(f"L4T {l4t} is for {', '.join(families)}, and this is {family}; look at /proc/device-tree/model")
    return stack


def _steps(stack: Stack, program: str) -> list[Step]:
    pip = (PYTHON, "-m", "pip", "install")
    steps = [
        Step("the environment, which sees the system's TensorRT",
             (program, "-m", "venv", "--system-site-packages", VENV)),
        Step("a pip that knows today's wheels", (*pip, "--quiet", "--upgrade", "pip")),
    ]  # fmt: skip
    if stack.by_index:
        steps += [
            Step("torch, torchaudio and ONNX Runtime of this JetPack",
                 (*pip, "--no-deps", "--index-url", INDEX_WORD, *stack.wheels)),
            Step("the numpy that they were built with, and what is beneath them", (*pip, stack.numpy, *BENEATH)),
        ]  # fmt: skip
    else:
        steps.append(Step("torch, torchaudio and ONNX Runtime, a pair", (*pip, *stack.wheels, stack.numpy)))
    return [
        *steps,
        Step(f"{CONSTRAINTS}: what was installed, so that nothing replaces it", ()),
        Step("f5-tts and this repository, without dependencies", (*pip, "--no-deps", F5_TTS, "--editable", ".")),
        Step("what both import", (*pip, "--constraint", CONSTRAINTS, *dict.fromkeys((*OF_F5_TTS, *OF_OURS)))),
        Step("what is here and what is not", (PYTHON, "-m", "experiments.doctor"), needs_board=True),
        Step("the CUDA engines proven, with no bound on their speed",
             (PYTHON, "-m", "experiments.checks.gpu", "gpu_check.max_rtf=null"), ends_with_its_code=True,
             needs_board=True),
    ]  # fmt: skip


def constraints_of(installed: dict[str, str]) -> str:
    """installed: package -> version, of those that are there. The text of the file.

    Without `==` on a local version's spelling: pip writes nv24.08 as nv24.8, and `==` holds for both.
    """
    return "".join(f"{name}=={installed[name]}\n" for name in KEPT if name in installed)
