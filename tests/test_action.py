"""The action in a made-up repository: every step's script as GitHub starts it, the real program where it takes seconds.

And the pages to copy from: what they ask of a workflow is what that workflow has.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics.record import to_json
from tests.engines import ROOT
from tests.test_comment import CASES
from tests.test_functions import git, theirs

ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
COMMENT = yaml.safe_load((ROOT / ".github/actions/comment/action.yml").read_text("utf-8"))
WORKFLOWS = ROOT / ".github" / "workflows"
PAGE = (ROOT / "docs" / "ci.md").read_text("utf-8")
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "name" in step}


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def real_f5bench(folder: Path) -> Path:
    return program(folder / "f5bench", f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m experiments "$@"')


def recorded_f5bench(folder: Path, verdicts: dict[str, tuple[int, str | None]]) -> Path:
    """Notes what it was asked; each verb ends with its code and leaves the verdict of that case of test_comment."""
    lines = [
        f'printf "%s\\n" "$*" >> {folder}/asked.txt',
        'for word in "$@"; do case "$word" in out=*) out="${word#out=}";; esac; done',
    ]
    for verb, (code, case) in verdicts.items():
        leave = ""
        if case is not None:
            kept = folder / f"{verb}-{case}.json"
            kept.write_text(to_json(CASES[case][1]()[1 if verb == "quality-gate" else 0]))
            leave = f'mkdir -p "$out"; cp {kept} "$out/verdict.json"; '
        lines.append(f'if [ "$1" = {verb} ]; then {leave}exit {code}; fi')
    return program(folder / "f5bench", "\n".join(lines))


class Job:
    """A job of theirs: inputs of the action, and the steps of it that are run, outputs going from one to the next."""

    def __init__(self, folder: Path, workspace: Path, f5bench: Path, **event: str):
        self.folder, self.workspace, self.f5bench, self.event = folder, workspace, f5bench, event
        self.outputs: dict[str, dict[str, str]] = {
            "place": {"command": str(f5bench)},
            "keep": {"artifact-url": "https://x/1"},
        }
        self.said: dict[str, str] = {}
        (folder / "temp").mkdir(exist_ok=True)

    def value(self, expression: str, inputs: dict[str, str]) -> str:
        """`${{ ... }}` as far as this action uses it."""
        found = re.fullmatch(r"\$\{\{ (\S+)(?: \|\| '(.*)')? \}\}", expression)
        assert found, expression
        where, _, name = found[1].partition(".")
        value = ""
        if where == "inputs":
            value = inputs[name]
        elif where == "steps":
            step, _, output = name.partition(".outputs.")
            value = self.outputs.get(step, {}).get(output, "")
        elif where == "github":
            value = self.event.get(name.removeprefix("event."), "")
        return value or found[2] or ""

    def run(self, name: str, /, path: str = "", **given: str) -> int:
        declared = {key: str(content["default"]) for key, content in ACTION["inputs"].items()}
        unknown = {key.replace("_", "-") for key in given} - declared.keys()
        assert not unknown
        inputs = declared | {key.replace("_", "-"): value for key, value in given.items()}
        step = STEPS[name]
        output = self.folder / f"{name}.output"
        output.write_text("")
        environment = {
            "PATH": f"{path}{os.environ['PATH']}", "HOME": str(self.folder), "RUNNER_TEMP": str(self.folder / "temp"),
            "RUNNER_OS": "Linux", "RUNNER_ARCH": "X64", "GITHUB_ACTION_PATH": str(ROOT), "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"), "GITHUB_WORKSPACE": str(self.workspace),
            **{key: os.environ[key] for key in ("F5BENCH_STATE_DIR", "F5BENCH_CACHE") if key in os.environ},
            **{key: self.value(value, inputs) for key, value in step["env"].items()},
        }  # fmt: skip
        bash = shutil.which("bash")
        assert bash is not None
        done = subprocess.run(
            [bash, "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]], cwd=self.workspace,
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        self.said[name] = done.stdout + done.stderr
        pairs = [line.partition("=") for line in output.read_text("utf-8").splitlines()]
        self.outputs[step.get("id", name)] = {key: value for key, _, value in pairs}
        return done.returncode

    def measured(self, **given: str) -> int:
        """measure, say, end: the exit code of the last."""
        assert self.run("measure", **given) == 0, self.said["measure"]
        assert self.run("say", **given) == 0, self.said["say"]
        return self.run("end", **given)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return theirs(tmp_path_factory.mktemp("theirs") / "speech")


def asked(folder: Path) -> list[str]:
    return (folder / "asked.txt").read_text().splitlines()


def test_a_pull_request_that_makes_a_function_slower_is_red_from_the_real_program(
    repository: Path, tmp_path: Path
) -> None:
    base, head = git(repository, "rev-parse", "HEAD~1"), git(repository, "rev-parse", "HEAD")
    event = {"pull_request.number": "7", "pull_request.base.sha": base, "pull_request.head.sha": head}
    job = Job(tmp_path, repository, real_f5bench(tmp_path), **event)
    settings = f"python={sys.executable}\n  path=src  \n# a comment\n\n"
    code = job.measured(function="app.speech:say", settings=settings, limits="pairs_per_block=4\nlooks=[4,8]")
    assert code == 10, job.said
    outputs = job.outputs["say"]
    assert (outputs["verdict"], outputs["conclusion"], outputs["exit-code"]) == ("FAIL", "failure", "10")
    assert 1 < float(outputs["ratio-low"]) < float(outputs["ratio"]) < float(outputs["ratio-high"])
    assert 1.2 < float(outputs["ratio"]) < 1.9
    assert re.match(r"\d+ % slower \(\d+ to \d+ %\), quality not judged, memory ", outputs["sentence"])
    assert job.said["end"].startswith("::error title=f5bench speed::")
    summary = (tmp_path / "summary.md").read_text("utf-8")
    assert ("### 🔴 " in summary, "(https://x/1)" in summary, base[:12] in summary) == (True, True, True)
    folder = Path(job.outputs["measure"]["folder"])
    assert (folder.name, (folder / "pull_request.txt").read_text()) == ("f5bench-speed", "7\n")
    assert (folder / "exit_code.txt").read_text() == "10\n"


def test_a_push_compares_the_last_commit_with_the_one_before(repository: Path, tmp_path: Path) -> None:
    job = Job(
        tmp_path, repository, recorded_f5bench(tmp_path, {"compare-functions": (0, "equal"), "comment": (0, None)})
    )
    assert job.run("measure", function="app.speech:say") == 0
    (words,) = asked(tmp_path)
    base, head = git(repository, "rev-parse", "HEAD~1"), git(repository, "rev-parse", "HEAD")
    assert f"reference.revision={base} candidate.revision={head}" in words


def test_two_checkpoints_are_compared_run_and_judged(repository: Path, tmp_path: Path) -> None:
    verbs = {"compare": (0, "faster"), "run": (0, None), "quality-gate": (0, "faster"), "comment": (0, None)}
    job = Job(tmp_path, repository, recorded_f5bench(tmp_path, verbs))
    given = {
        "before": "model.checkpoint=a b.safetensors", "after": "model.checkpoint=new.safetensors", "quality": "true",
        "settings": "model=f5tts_v1_base\nworkload=en_core", "limits": "catch_ratio=1.10",
    }  # fmt: skip
    assert job.run("measure", **given) == 0
    compare, first, second, judged = asked(tmp_path)
    assert compare.startswith("compare model=f5tts_v1_base workload=en_core reference.model.checkpoint=a b.safetensors")
    assert "candidate.model.checkpoint=new.safetensors catch_ratio=1.10 tracking=none out=" in compare
    assert first.startswith("run model=f5tts_v1_base workload=en_core model.checkpoint=a b.safetensors measure=quick")
    assert ("quality=full" in second, "catch_ratio" in first + second) == (True, False)
    folder = job.outputs["measure"]["folder"]
    assert judged == f"quality-gate {folder}/runs/before {folder}/runs/after preset=standard out={folder}/quality"
    job.f5bench = real_f5bench(tmp_path)
    job.outputs["place"]["command"] = str(job.f5bench)
    assert (job.run("say", **given), job.run("end", **given)) == (0, 0)
    sentence = "12 % faster (8 to 15 %), quality not worse (30 sentences), memory +0.4 %"
    assert (job.outputs["say"]["sentence"], job.said["end"]) == (
        sentence, f"::notice title=f5bench speed::{sentence.replace('%', '%25')}\n",
    )  # fmt: skip


def test_a_stored_baseline_is_gated_from_a_folder_of_theirs(repository: Path, tmp_path: Path) -> None:
    job = Job(tmp_path, repository, recorded_f5bench(tmp_path, {"gate": (10, "stored_slower")}))
    assert job.run("measure", baseline="nightly", name="nightly") == 0
    folder = job.outputs["measure"]["folder"]
    assert asked(tmp_path) == [f"gate nightly --records f5bench-baselines tracking=none out={folder}/gate"]
    job.outputs["place"]["command"] = str(real_f5bench(tmp_path))
    assert (job.run("say", name="nightly"), job.run("end", name="nightly")) == (0, 10)


ENDINGS = [(0, "equal", "notice", 0), (10, "slower", "error", 10), (11, "cannot_tell", "warning", 0),
           (12, "invalid_machine", "warning", 0), (14, "did_not_run", "error", 14), (2, None, "error", 14),
           (13, None, "error", 13), (1, None, "error", 14), (130, None, "error", 14)]  # fmt: skip


@pytest.mark.parametrize(("code", "case", "said", "ended"), ENDINGS)
def test_every_ending_is_said_and_only_what_is_known_is_red(
    code: int, case: str | None, said: str, ended: int, repository: Path, tmp_path: Path
) -> None:
    job = Job(tmp_path, repository, recorded_f5bench(tmp_path, {"compare": (code, case)}))
    assert job.run("measure", after="engine=bf16") == 0
    job.outputs["place"]["command"] = str(real_f5bench(tmp_path))
    assert job.run("say") == 0, job.said["say"]
    assert job.run("end") == ended
    assert job.said["end"].startswith(f"::{said} title=f5bench speed::")
    if said == "warning":
        assert job.run("end", cannot_tell="fail") == code
        assert job.outputs["say"]["conclusion"] == "neutral"


@pytest.mark.parametrize(
    ("codes", "kept"),
    [((11, 10), 10), ((10, 11), 10), ((0, 11), 11), ((12, 11), 12), ((11, 12), 12), ((14, 10), 14), ((12, 10), 10)],
)  # fmt: skip
def test_what_went_wrong_outlives_what_is_not_known(
    codes: tuple[int, int], kept: int, repository: Path, tmp_path: Path
) -> None:
    verbs = {"compare": (codes[0], None), "run": (0, None), "quality-gate": (codes[1], None)}
    job = Job(tmp_path, repository, recorded_f5bench(tmp_path, verbs))
    assert job.run("measure", after="engine=bf16", quality="true") == 0
    assert job.outputs["measure"]["code"] == str(kept)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "A b", "after": "engine=bf16"}, "name=A b:"), ({}, "before, after: say what is compared"),
        ({"quality": "true", "function": "a:b"}, "quality=true: is for engines"),
        ({"baseline": "x", "function": "a:b"}, "baseline=x: a function has none"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit_are_refused(given: dict[str, str], said: str, repository: Path, tmp_path: Path) -> None:
    job = Job(tmp_path, repository, recorded_f5bench(tmp_path, {}))
    assert job.run("measure", **given) == 2
    assert f"::error title=f5bench::{said}" in job.said["measure"]


def test_nothing_that_stands_in_an_input_is_run(repository: Path, tmp_path: Path) -> None:
    evil = "$(touch evil)`touch evil`; touch evil #"
    job = Job(tmp_path, repository, recorded_f5bench(tmp_path, {"compare": (0, "equal")}))
    assert job.run("measure", before=f"seed={evil}", settings=f"a={evil}", limits=f"b={evil}") == 0
    assert not (repository / "evil").exists()
    assert asked(tmp_path)[0].count(evil) == 3


def test_the_environment_is_made_once_and_has_a_key_of_its_own(repository: Path, tmp_path: Path) -> None:
    job = Job(tmp_path, repository, tmp_path / "none")
    assert job.run("place") == 0
    place = job.outputs["place"]
    assert re.fullmatch(r"f5bench-Linux-X64-3\.\d+\.\d+-quality-[0-9a-f]{16}-[0-9a-f]{8}", place["key"])
    assert place["command"] == f"{place['venv']}/bin/f5bench"
    program(tmp_path / "programs" / "make", f'printf "%s\\n" "$*" > {tmp_path}/made.txt')
    assert job.run("install", path=f"{tmp_path}/programs:", extras="quality,onnx") == 0
    made = (tmp_path / "made.txt").read_text()
    assert made == f"-C {ROOT} install PYTHON=python3 VENV={place['venv']} EXTRAS=quality,onnx\n"
    (tmp_path / "made.txt").unlink()
    program(Path(place["venv"]) / ".ready", "")
    assert job.run("install", path=f"{tmp_path}/programs:") == 0
    assert not (tmp_path / "made.txt").exists(), "the cache had it"
    other = Job(tmp_path, repository, tmp_path / "none")
    assert other.run("place", pip_extra_index_url="https://elsewhere.example") == 0
    assert other.outputs["place"]["key"] != place["key"]


@pytest.mark.parametrize("has_one", [False, True])
def test_a_night_that_records_adds_to_what_is_there(has_one: bool, tmp_path: Path) -> None:
    steps = yaml.safe_load((WORKFLOWS / "nightly.yml").read_text("utf-8"))["jobs"]["nightly"]["steps"]
    script = next(step["run"] for step in steps if step.get("name") == "record")
    if has_one:
        program(tmp_path / "kept" / "some-host" / "nightly.json", "")
    f5bench = recorded_f5bench(tmp_path, {"baseline": (0, None)})
    environment = {
        "PATH": os.environ["PATH"], "F5BENCH": str(f5bench), "BASELINE": "nightly", "RECORDS": "kept", "WHO": "ann",
        "SETTINGS": "engine=bf16\n\nsolver=euler_7\n",
    }  # fmt: skip
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=tmp_path, env=environment, check=True)
    add = "--add " if has_one else ""
    assert asked(tmp_path) == [
        f"baseline record nightly {add}--records kept --by ann engine=bf16 solver=euler_7 tracking=none"
    ]


@pytest.mark.parametrize("steps", [ACTION["runs"]["steps"], COMMENT["runs"]["steps"]], ids=["measure", "comment"])
def test_no_expression_is_pasted_into_a_script_of_an_action(steps: list[dict[str, Any]]) -> None:
    for step in steps:
        assert "${{" not in step.get("run", "")
        assert "run" not in step or step["shell"] == "bash"


def test_every_input_and_output_of_the_action_is_documented_and_read() -> None:
    text = (ROOT / "action.yml").read_text("utf-8")
    for name, content in ACTION["inputs"].items():
        assert content["description"]
        assert f"inputs.{name}" in text, "nothing reads it"
    for name in ACTION["outputs"]:
        assert f"`{name}`" in PAGE
    wanted = re.findall(r"steps\.say\.outputs\.([a-z-]+)", text)
    assert set(wanted) <= {"verdict", "conclusion", "exit-code", "ratio", "ratio-low", "ratio-high", "sentence"}


def inputs_of(name: str) -> set[str]:
    return set(yaml.safe_load((WORKFLOWS / name).read_text("utf-8"))[True]["workflow_call"]["inputs"])


@pytest.mark.parametrize("name", ["compare.yml", "nightly.yml", "board.yml", "bisect.yml"])
def test_a_reusable_workflow_hands_on_what_the_action_takes(name: str) -> None:
    job = next(iter(yaml.safe_load((WORKFLOWS / name).read_text("utf-8"))["jobs"].values()))
    steps = [step for step in job["steps"] if step.get("uses") == "./.f5bench"]
    assert steps
    for step in steps:
        assert set(step["with"]) <= set(ACTION["inputs"])
    read = set(re.findall(r"inputs\.([a-z0-9-]+)", json.dumps(job)))
    assert read == inputs_of(name)


BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.sub(r"\W+", "-", block[:40]))
def test_a_page_to_copy_asks_for_what_there_is(block: str) -> None:
    content = yaml.safe_load(block)
    if isinstance(content, list):  # steps of a job
        given = [(set(ACTION["inputs"]), step.get("with", {})) for step in content]
    elif "jobs" in content:
        (job,) = content["jobs"].values()
        used = re.fullmatch(r"OWNER/f5bench/\.github/workflows/(\w+\.yml)@v0\.1\.0", job["uses"])
        assert used
        given = [(inputs_of(used[1]), job["with"])]
        assert {"f5bench", "f5bench-ref"} <= set(job["with"])
        assert set(content["permissions"].values()) <= ({"read"} if used[1] != "comment.yml" else {"read", "write"})
    else:
        given = [(inputs_of("compare.yml"), content["with"])]
    for known, asked_for in given:
        assert set(asked_for) <= known
        if "runner" in asked_for:
            assert json.loads(asked_for["runner"])


def test_the_two_workflows_to_copy_belong_together() -> None:
    whole = [yaml.safe_load(block) for block in BLOCKS if block.startswith("name:")]
    measure, comment = whole[0], whole[1]
    assert comment[True]["workflow_run"]["workflows"] == [measure["name"]]
    called = yaml.safe_load((WORKFLOWS / "comment.yml").read_text("utf-8"))
    assert comment["permissions"] == called["permissions"]
    (job,) = called["jobs"].values()
    assert [step.get("with", {}).get("repository") for step in job["steps"]] == ["${{ inputs.f5bench }}", None]
    assert not any("run" in step for step in job["steps"]), "nothing of the pull request is run"
