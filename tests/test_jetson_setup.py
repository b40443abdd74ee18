"""`make jetson`: the plan for each release, what is refused, and that nothing is run that was only to be shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from experiments import setup_jetson
from experiments.checks import gpu
from experiments.common.cli import EXIT_ENVIRONMENT, run_verb
from experiments.jetson.board import COMPATIBLE, RELEASE
from experiments.jetson.mode import CATALOGUE, STATUS
from experiments.jetson.plan import (
    BENEATH,
    F5_TTS,
    INDEX,
    OF_F5_TTS,
    OF_OURS,
    PYTHON,
    Refused,
    Step,
    constraints_of,
    plan,
)
from reports.commands import ROOT
from tests.jetson_trees import AGX_JP6, THOR_JP71, plant, release

APT = "python3-venv python3-dev build-essential cmake libsndfile1 ffmpeg python3-libnvinfer"
PIP = ".venv-jetson/bin/python -m pip install"
REST = f"""\
# .venv-jetson/constraints.txt: what was installed, so that nothing replaces it
# f5-tts and this repository, without dependencies
{PIP} --no-deps f5-tts==1.1.22 --editable .
# what both import
{PIP} --constraint .venv-jetson/constraints.txt accelerate datasets ema-pytorch huggingface-hub librosa pydub \
torchdiffeq tqdm transformers wandb x-transformers vocos scipy soundfile soxr safetensors rjieba pypinyin \
'hydra-core>=1.3.8,<1.4' rich psutil 'pydantic>=2.7' 'annotated-types>=0.6' 'typing-extensions>=4.8' pandas pyarrow \
matplotlib jinja2 jiwer pyyaml junitparser markdown-it-py pesq pystoi pocketsphinx pyworld \
pyloudnorm 'mlflow>=3.7,<4' fastapi uvicorn httpx prometheus-client onnx onnxscript
# what is here and what is not
.venv-jetson/bin/python -m experiments.doctor
# the CUDA engines proven, with no bound on their speed
.venv-jetson/bin/python -m experiments.checks.gpu gpu_check.max_rtf=null"""
VENV = f"""\
# the environment, which sees the system's TensorRT
python3 -m venv --system-site-packages .venv-jetson
# a pip that knows today's wheels
{PIP} --quiet --upgrade pip
"""
JETPACK_6 = f"""\
# JetPack 6 (CUDA 12.6), L4T {{l4t}}, agx-orin
# First, by hand:
#   sudo apt install {APT} libcusparselt0
# JETSON_INDEX: the address of an index with wheels for jp6/cu126
{{notes}}{VENV}\
# torch, torchaudio and ONNX Runtime of this JetPack
{PIP} --no-deps --index-url $JETSON_INDEX torch==2.8.0 torchaudio==2.8.0 triton==3.4.0 onnxruntime-gpu==1.23.0
# the numpy that they were built with, and what is beneath them
{PIP} numpy==1.26.4 filelock typing-extensions sympy networkx jinja2 fsspec coloredlogs flatbuffers protobuf
{REST}"""
JETPACK_7 = f"""\
# JetPack 7 (CUDA 13), L4T {{l4t}}, {{board}}
# First, by hand:
#   sudo apt install {APT}
# {{note}}
{VENV}\
# torch, torchaudio and ONNX Runtime, a pair
{PIP} torch==2.11.0 torchaudio==2.11.0 onnxruntime-gpu==1.31.1 numpy==2.4.6
{REST}"""
NVMAP = "# L4T 36.4.7 refuses memory that is free (NvMap error 12): 36.5.0 is newer\n"
PTXAS = "torch.compile on Thor: the ptxas of triton may not know sm_110a (pytorch issue 170117)"
SM_87 = "torch may warn that it has no kernels of its own for sm_87: those for sm_80 run there"


@pytest.mark.parametrize(
    ("l4t", "python", "family", "golden"),
    [
        ("36.4.4", (3, 10), "agx-orin", JETPACK_6.format(l4t="36.4.4", notes="")),
        ("36.4.7", (3, 10), "agx-orin", JETPACK_6.format(l4t="36.4.7", notes=NVMAP)),
        ("36.5.0", (3, 10), "agx-orin", JETPACK_6.format(l4t="36.5.0", notes="")),
        ("38.4", (3, 12), "thor", JETPACK_7.format(l4t="38.4", board="thor", note=PTXAS)),
        ("39.2.0", (3, 12), "orin-nano", JETPACK_7.format(l4t="39.2.0", board="orin-nano", note=SM_87)),
    ],
)
def test_the_plan_of_each_release(l4t: str, python: tuple[int, int], family: str, golden: str) -> None:
    assert setup_jetson.shown(plan(l4t, python, family)) == golden


@pytest.mark.parametrize(
    ("l4t", "python", "family", "said"),
    [
        (None, (3, 10), None, "this is no Jetson; `make install` makes the environment of any other machine"),
        ("36.9.1", (3, 10), "agx-orin", "L4T 36.9.1 is none of those whose wheels are known here (36.4, 36.5, 38.2"),
        ("40.1.0", (3, 12), "agx-orin", "L4T 40.1.0 is none of those whose wheels are known here"),
        ("36.3.0", (3, 10), "agx-orin", "L4T 36.3.0 is JetPack 6.0, which has no torch of 2.5 or newer; flash"),
        ("35.4.1", (3, 8), "agx-orin", "L4T 35.4.1 is JetPack 5, which has no torch"),
        (
            "36.4.4",
            (3, 12),
            "agx-orin",
            "JetPack 6 (CUDA 12.6) brings Python 3.10 and its wheels are for that, this is",
        ),
        ("39.2.0", (3, 10), "thor", "make jetson PYTHON=python3.12"),
        ("38.4", (3, 12), "agx-orin", "L4T 38.4 is for thor, and this is agx-orin"),
        ("36.4.4", (3, 10), "agx-xavier", "L4T 36.4.4 is for agx-orin, orin-nx, orin-nano, and this is agx-xavier"),
        (None, (3, 10), "agx-orin", "the L4T release is not known; /etc/nv_tegra_release must be readable"),
    ],
)
def test_what_is_not_known_is_refused_with_the_remedy(
    l4t: str | None, python: tuple[int, int], family: str | None, said: str
) -> None:
    with pytest.raises(Refused) as refused:
        plan(l4t, python, family)
    assert said in str(refused.value)


def test_what_is_installed_is_what_the_project_asks_for() -> None:
    """A package that is added to the project is one for a Jetson as well."""
    tomllib = pytest.importorskip("tomllib", reason="from Python 3.11 on")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    wanted += [Requirement(text) for name in ("quality", "mlflow", "serve", "gpu") for text in extras[name]]
    for l4t, python in (("36.4.4", (3, 10)), ("39.2.0", (3, 12))):
        words = {word for step in plan(l4t, python, "agx-orin").steps for word in step.words}
        named = {canonicalize_name(match.group()) for word in words if (match := re.match(r"[A-Za-z][\w.-]*", word))}
        assert {canonicalize_name(one.name) for one in wanted} - named == set()
    assert set(OF_OURS).isdisjoint(OF_F5_TTS)
    assert not {"torchcodec", "gradio", "bitsandbytes"} & {*OF_OURS, *OF_F5_TTS, *BENEATH}


def test_what_is_pinned_is_what_was_tested() -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    seven = " ".join(word for step in plan("39.2.0", (3, 12), "thor").steps for word in step.words)
    for pin in (F5_TTS, "torch==2.11.0", "torchaudio==2.11.0", "numpy==2.4.6", "onnxruntime-gpu==1.31.1"):
        assert pin in [line.partition(";")[0] for line in pins]
        assert pin in seven


def test_nvidias_own_wheel_is_what_the_project_asks_for() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    asked = next(Requirement(one) for one in re.findall(r'"(torch>=[^"]+)"', text))
    assert asked.specifier.contains("2.5.0a0+872d972e41.nv24.08", prereleases=True)
    assert not SpecifierSet(">=2.5").contains("2.5.0a0+872d972e41.nv24.08", prereleases=True)


MARKS = ("**[tree]**", "**[not run]**")


def test_every_line_of_the_page_is_tested_or_said_not_to_have_run() -> None:
    """Commands and tables by what stands right before or behind them, lists also by the line that opens them."""
    text = re.sub(r"```.*?```", lambda code: code.group().replace("\n\n", "\n"), _page(), flags=re.DOTALL)
    blocks = [block for block in text.split("\n\n") if block.strip()]
    assert blocks[0].startswith("# ")
    for before, block, behind in zip(blocks, blocks[1:], [*blocks[2:], ""], strict=False):
        if block.startswith("#"):
            continue
        around = block
        if block.startswith(("```", "|")):
            around = "".join((before, block, behind))
        elif block.startswith("- ") and before.endswith(":"):
            around = before + block
        assert any(mark in around for mark in MARKS), block


def _page() -> str:
    return (ROOT / "docs" / "jetson.md").read_text("utf-8").strip()


def test_no_address_of_an_index_is_in_the_plan() -> None:
    for path in ("experiments/jetson/plan.py", "experiments/setup_jetson.py", "docs/jetson.md", "Makefile"):
        assert "://" not in (ROOT / path).read_text("utf-8"), path


def test_the_constraints_keep_what_was_installed() -> None:
    found = {"numpy": "1.26.4", "torch": "2.5.0a0+872d972e41.nv24.8", "rich": "13"}
    assert constraints_of(found) == "torch==2.5.0a0+872d972e41.nv24.8\nnumpy==1.26.4\n"


def test_nothing_but_the_standard_library_is_needed() -> None:
    """Before there is an environment: without site-packages, so that every package is missing."""
    words = ["-m", "experiments.setup_jetson", "--dry-run", "--l4t", "36.9", "--family", "agx-orin"]
    done = subprocess.run(
        [sys.executable, "-S", *words], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr.partition(";")[0]) == (
        2, "error: L4T 36.9 is none of those whose wheels are known here (36.4, 36.5, 38.2, 38.4, 39.2)",
    )  # fmt: skip


def test_the_last_step_is_read_as_the_gpu_check_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    last = plan("36.4.4", (3, 10), "agx-orin").steps[-1]
    _, _, module, *words = last.words
    monkeypatch.setattr(gpu, "why_not_here", lambda: "there is no card")
    assert module == gpu.__name__
    assert run_verb(gpu.main, words) == EXIT_ENVIRONMENT, "its words are good, this machine is not"
    assert gpu.asked_rtf(words) is None
    assert last.ends_with_its_code


def test_a_machine_that_is_no_jetson_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup_jetson.main([], tmp_path) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: this is no Jetson; ")


def on_python(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]) -> None:
    monkeypatch.setattr(setup_jetson.sys, "version_info", version)


def test_a_dry_run_prints_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_python(monkeypatch, (3, 12, 3))
    monkeypatch.setattr(setup_jetson.subprocess, "run", lambda *_, **__: pytest.fail("it ran something"))
    plant(tmp_path, THOR_JP71)
    assert setup_jetson.main(["--dry-run"], tmp_path) == 0
    assert "sudo apt install python3-venv" in capsys.readouterr().out


def test_without_the_address_nothing_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_python(monkeypatch, (3, 10, 12))
    monkeypatch.delenv(INDEX, raising=False)
    monkeypatch.setattr(setup_jetson.subprocess, "run", lambda *_, **__: pytest.fail("it ran something"))
    plant(tmp_path, AGX_JP6)
    assert setup_jetson.main([], tmp_path) == 2
    assert "JETSON_INDEX is not set" in capsys.readouterr().err
    assert setup_jetson.main(["--dry-run"], tmp_path) == 0


def ends(code: int, *, with_its_code: bool = False) -> Step:
    return Step("a step", (sys.executable, "-c", f"import sys; sys.exit({code})"), ends_with_its_code=with_its_code)


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([ends(0), ends(0, with_its_code=True)], 0),
        ([ends(0), ends(11, with_its_code=True)], 11),
        ([ends(1), ends(11, with_its_code=True)], 14),
    ],
)
def test_the_answer_is_the_checks_and_a_step_that_fails_ends_it(steps: list[Step], code: int) -> None:
    assert setup_jetson.run(steps, {}) == code


def test_the_address_is_put_in_and_the_constraints_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_jetson, "REPOSITORY", tmp_path)
    (tmp_path / PYTHON).parent.mkdir(parents=True)
    (tmp_path / PYTHON).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / PYTHON).chmod(0o755)
    asked = Step("asks", (sys.executable, "-c", "import sys; sys.exit(sys.argv[1] != 'there')", f"${INDEX}"))
    assert setup_jetson.run([asked, Step("constraints", ())], {INDEX: "there"}) == 0
    assert re.search(r"^numpy==\d", (tmp_path / ".venv-jetson/constraints.txt").read_text(), re.MULTILINE)


def test_make_says_what_it_needs() -> None:
    done = subprocess.run(
        ["make", "-n", "jetson", "ARGS=--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "-m experiments.setup_jetson --dry-run" in done.stdout


@pytest.mark.parametrize(
    ("l4t", "plain", "is_refused"),
    [("36.4.4", "", True), ("36.4.4", "1", False), ("39.2.0", "", False), (None, "", False)],
)
def test_no_target_makes_an_environment_that_finds_no_gpu(
    l4t: str | None, plain: str, is_refused: bool, tmp_path: Path
) -> None:
    """python3 is a program of the test's own: it notes that an environment was to be made."""
    asked = tmp_path / "asked"
    (tmp_path / "python").write_text(f'#!/bin/sh\ncase "$*" in *"-m venv"*) touch {asked}; exit 1;; esac\n')
    (tmp_path / "python").chmod(0o755)
    tegra = tmp_path / "nv_tegra_release"
    if l4t is not None:
        tegra.write_text(release(int(l4t.partition(".")[0]), l4t.partition(".")[2]))
    words = [f"PYTHON={tmp_path / 'python'}", f"VENV={tmp_path / 'venv'}", f"TEGRA={tegra}", f"PLAIN={plain}"]
    done = subprocess.run(["make", "install", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ("this is JetPack 6: no torch of the default index finds its GPU; make jetson" in done.stderr) is is_refused
    assert asked.exists() is not is_refused


def test_an_image_is_built_for_a_board_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan is that of the board, without the two steps that need its GPU; half a board is refused."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    words = ["--dry-run", "--wheels-only", "--l4t", "36.4.4", "--family", "agx-orin"]
    code = setup_jetson.main(words, tmp_path)
    said = capsys.readouterr()
    if here == "3.10":
        assert code == 0
        assert "torch==2.8.0" in said.out
        assert "experiments.doctor" not in said.out
    else:
        assert (code, "brings Python 3.10" in said.err) == (2, True), "the release decides, not this machine"
    assert [step.needs_board for step in plan("36.4.4", (3, 10), "agx-orin").steps][-3:] == [False, True, True]
    with pytest.raises(SystemExit):
        setup_jetson.main(["--l4t", "36.4.4"], tmp_path)


def test_the_image_takes_its_base_by_argument_and_mounts_what_telemetry_reads() -> None:
    text = (ROOT / "experiments" / "jetson" / "Dockerfile").read_text(encoding="utf-8")
    assert "FROM ${BASE_IMAGE}" in text
    assert "://" not in text, "no address of a registry"
    for name in ("sys", COMPATIBLE.rpartition("/")[0], RELEASE, STATUS.rpartition("/")[0], CATALOGUE):
        assert f"--volume /{name}:/{name}:ro" in text
    options = text.split("setup_jetson ")[1].split("\n")[0].split()
    assert [word for word in options if word.startswith("--")] == ["--l4t", "--family", "--wheels-only"]
    assert "Not run on a board" in text
