"""f5bench doctor --resolve aarch64: pip's recorded answers, read and shown. No index is asked here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from experiments.doctor import __main__ as doctor
from experiments.doctor.resolve import (
    WITHOUT,
    CannotResolve,
    Wheel,
    command_of,
    requirements,
    resolve,
    table_of,
    wheels_in,
)
from reports.commands import ROOT

URL = "https://files.example/packages"
FILES = {
    "soxr": ("soxr", "1.1.0", "soxr-1.1.0-cp310-cp310-manylinux_2_26_aarch64.manylinux_2_28_aarch64.whl"),
    "jiwer": ("jiwer", "4.0.0", "jiwer-4.0.0-py3-none-any.whl"),
    "onnxruntime-gpu": ("onnxruntime-gpu", "1.31.1", "onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_34_aarch64.whl"),
}


def report_of(names: Sequence[str]) -> str:
    """As pip 26.3 writes it, without the fields that are not read."""
    install = [
        {
            "download_info": {"url": f"{URL}/{FILES[name][2]}", "archive_info": {}}, "is_direct": False,
            "is_yanked": False, "requested": True,
            "metadata": {"metadata_version": "2.1", "name": FILES[name][0], "version": FILES[name][1]},
        }
        for name in names
    ]  # fmt: skip
    return json.dumps({"version": "1", "pip_version": "26.3", "install": install, "environment": {}})


class Pip:
    """Answers as pip does: one that it does not find ends it."""

    def __init__(self, *known: str):
        self.known = known
        self.asked: list[list[str]] = []

    def __call__(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        asked = list(words)[list(words).index("manylinux2014_aarch64") + 1 :]
        self.asked.append(asked)
        unknown = [name for name in asked if name.partition(">")[0].lower() not in self.known]
        if not unknown:
            return subprocess.CompletedProcess(words, 0, report_of([n.partition(">")[0].lower() for n in asked]), "")
        said = (
            f"ERROR: Could not find a version that satisfies the requirement {unknown[0]} (from versions: none)\n"
            f"ERROR: No matching distribution found for {unknown[0]}\n"
        )
        return subprocess.CompletedProcess(words, 1, "", said)


def test_what_has_no_wheel_does_not_hide_the_rest() -> None:
    pip = Pip("soxr", "jiwer")
    found = resolve("3.10", "aarch64", ["pesq", "soxr", "tensorrt>=10", "jiwer>=3.0"], pip)
    assert found == [
        Wheel("soxr", "1.1.0", "manylinux_2_28_aarch64"), Wheel("jiwer", "4.0.0", "any"), Wheel("pesq", None, None),
        Wheel("tensorrt", None, None),
    ]  # fmt: skip
    assert [len(asked) for asked in pip.asked] == [4, 3, 2]
    assert resolve("3.10", "aarch64", ["pesq"], pip) == [Wheel("pesq", None, None)]


def test_only_wheels_that_the_systems_glibc_takes_are_asked_for_and_nothing_is_installed() -> None:
    words = command_of("3.10", "aarch64", ["soxr"])
    assert {"--dry-run", "--no-deps", "--only-binary=:all:"} <= set(words)
    assert words[words.index("--python-version") + 1] == "3.10"
    assert "manylinux_2_35_aarch64" in words
    assert "manylinux_2_36_aarch64" not in words, "JetPack 6 is of glibc 2.35"
    assert "manylinux_2_39_aarch64" in command_of("3.12", "aarch64", ["soxr"])


@pytest.mark.parametrize(
    "said", ["ERROR: Could not install packages due to an OSError: no route to host\n", "", "no matching: x\n"]
)
def test_another_answer_of_pip_is_its_last_line_and_no_missing_wheel(said: str) -> None:
    def offline(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 1, "", said)

    with pytest.raises(CannotResolve, match=said.strip() or "no word"):
        resolve("3.10", "aarch64", ["soxr"], offline)
    with pytest.raises(CannotResolve, match="cannot be read"):
        wheels_in('{"install": [{}]}')


def test_the_table_says_what_is_missing_what_is_done_and_what_that_disables() -> None:
    found = {
        "3.10": [*wheels_in(report_of(["soxr"])), Wheel("onnxruntime-gpu", None, None), Wheel("odd", None, None)],
        "3.12": wheels_in(report_of(["soxr", "onnxruntime-gpu"])),
    }
    assert table_of(found) == [
        "| no wheel | 3.10 (JetPack 6) | 3.12 (JetPack 7.2) | here | without it |",
        "|---|---|---|---|---|",
        "| odd | none | none | not looked into | not known: report it |",
        "| onnxruntime-gpu | none | 1.31.1 (manylinux_2_34_aarch64) | on JetPack 6 from the index for Jetsons alone | "
        "onnx_cuda, onnx_tensorrt |",
        "",
        "| wheel | 3.10 (JetPack 6) | 3.12 (JetPack 7.2) |",
        "|---|---|---|",
        "| soxr | 1.1.0 (manylinux_2_28_aarch64) | 1.1.0 (manylinux_2_28_aarch64) |",
    ]


def test_everything_that_the_set_up_installs_is_asked_for_and_every_extra() -> None:
    names = requirements()
    tomllib = pytest.importorskip("tomllib", reason="from Python 3.11 on")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    # Not for those who use it, nor for a machine that measures; and TensorRT-RTX is asked for on x86-64 alone
    extras = {key: texts for key, texts in project["optional-dependencies"].items()
              if key not in ("dev", "docs", "monitoring", "tensorrt-rtx")}  # fmt: skip
    wanted = [Requirement(text) for texts in (project["dependencies"], *extras.values()) for text in texts]
    asked = {canonicalize_name(Requirement(name).name) for name in names}
    assert {canonicalize_name(one.name) for one in wanted} - asked == set()
    assert {"torch", "f5-tts", "vocos", "soundfile", "accelerate"} <= {name.partition(">")[0] for name in names}
    assert set(WITHOUT) <= asked
    assert len(names) == len(asked), "a package once"
    assert "antlr4-python3-runtime==4.9.3" in names, "the version that hydra-core needs has no wheel, newer ones have"


def test_an_index_that_cannot_be_asked_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> list[Wheel]:
        raise CannotResolve("pip for Python 3.10 on aarch64: no route to host")

    monkeypatch.setattr(doctor, "resolve", fails)
    assert doctor.main(["--resolve", "aarch64"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: --resolve aarch64: pip for Python 3.10")
