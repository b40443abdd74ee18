"""Hydra's grammar on our command lines: every form is right or one line, and a line that advises quotes works."""

import os
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import ConfigError
from experiments import gate, run, stream
from experiments.common.cli import run_verb
from experiments.common.presets import OWN, own_folder, split_config_dir, with_presets
from experiments.common.presets import presets as options
from experiments.common.processes import module_environment
from experiments.common.quoting import argument
from experiments.optimize import __main__ as optimize
from experiments.optimize.space import read_space
from experiments.settings.compose import compose_cells, compose_config, compose_run
from experiments.settings.overrides import alternatives, parse
from experiments.sweep import __main__ as sweep
from experiments.workload.texts import select_lines
from tests.engines import ROOT

FORMS = [
    "glob(*)", "glob([b*,f*],exclude=bf*)", "glob(zz)", "range(1,4)", "range(3,1)", "range(0,1,0)", "range(1,3,-1)",
    "range(3,1,-1)", "range(0,1,1e-9)", "range(-3)", "range(1.5)", "range(a,b)", "sort(3,1,2)", "sort(b,a)",
    "sort(range(3,1))", "sort(a,1)", "sort([1],[2])", "shuffle(range(1,5))", "shuffle(a,b)", "tag(t,choice(a,b))",
    "tag(a)", "interval(0,1)", "interval(1,0)", "interval(,)", "tag(log,interval(0,1))", "int(interval(0,3))",
    "choice(a,b)", "choice()", "choice(null,1)", "str(choice(1,2))", "float(range(1,3))", "[a],[b]", "{a:1},{b:2}",
    "'a,b',c", "1,,2", ",", "extend_list(1)", "glob(", "$(x)", "a,", "(a)",
]  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_a_text_is_taken_as_typed_or_the_line_that_is_advised_works(text: str) -> None:
    """Also with spaces, commas, apostrophes, = and letters of any script."""
    assert parse([shlex.split(argument("out", text))[0]])[0].value() == text
    try:
        parse([f"out={text}"])
    except ConfigError as error:
        line = str(error)
    else:
        return
    assert len(line.splitlines()) == 1
    if "; type " in line:
        advised = parse(shlex.split(line.rpartition("; type ")[2]))[0].value()
        assert advised == text or (text[0] == text[-1] and text[0] in "'\"")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", ["engine", "seed", "+a.new", "~seed", "solver@x"])
def test_every_sweep_is_a_list_of_overrides_or_one_line(key: str, form: str) -> None:
    for read in (
        lambda text: [alternatives(o) for o in parse([text])],
        lambda text: read_space([text], {"seed": "1,2"}),
    ):
        try:
            found = read(f"{key}={form}")
        except ConfigError as error:
            line = str(error)
        else:
            line = ""
            assert found
        assert len(line.splitlines()) <= 1


def test_what_the_sweeps_mean() -> None:
    def values(text: str) -> list[str]:
        return alternatives(parse([text])[0])

    assert values("engine=glob(*)") == [f"engine={name}" for name in options("engine")]
    assert values("engine=glob(onnx*,exclude=*_*)") == ["engine=onnx"]
    assert values("seed=range(3,0,-1)") == ["seed=3", "seed=2", "seed=1"]
    assert values("seed=sort(3,1,2)") == ["seed=1", "seed=2", "seed=3"]
    assert sorted(values("seed=shuffle(range(0,3))")) == ["seed=0", "seed=1", "seed=2"]
    assert values("seed=tag(x,choice(4,5))") == ["seed=4", "seed=5"]
    with pytest.raises(ConfigError, match=r"engine=glob\(zz\): none of amp, .* is named so; write "):
        values("engine=glob(zz)")
    with pytest.raises(ConfigError, match=r"seed=glob\(\*\): is no group"):
        values("seed=glob(*)")
    with pytest.raises(ConfigError, match=r"seed=range\(3,1\): is an empty range"):
        values("seed=range(3,1)")
    dimensions = read_space(["seed=range(9,3,-2)", "engine=glob(fp*)", "solver.sway=interval(-1,0)"], {}).dimensions
    assert (dimensions[0].low, dimensions[0].high, dimensions[0].step) == (5, 9, 2)
    assert dimensions[1].choices == ("fp16", "fp32")


def test_a_glob_is_a_sweep_and_no_run() -> None:
    cells = compose_cells(["engine=glob(fp*)", "workload=smoke"])
    assert [cell.label for cell in cells] == ["fp16-euler_7", "fp32-euler_7"]
    with pytest.raises(ConfigError, match=r"engine=glob\(fp\*\): a run takes one value"):
        compose_run(["engine=glob(fp*)"])


def test_names_in_another_script_are_different_cells(tmp_path: Path) -> None:
    for name in ("朝", "夜"):
        (tmp_path / f"{name}.txt").write_text("Yes.\n", encoding="utf-8")
    texts = ",".join(f"'{tmp_path}/{name}.txt'" for name in ("朝", "夜"))
    cells = compose_cells(["engine=fp32", f"workload.texts={texts}"])
    assert [cell.config["workload"]["name"] for cell in cells] == ["朝", "夜"]
    assert len({cell.label for cell in cells}) == 2


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("hydra.run.dir=a", "name the folder by out=a"),
        ("hydra.sweep.dir=a b", "name the folder by 'out=\"a b\"'"),
        ("hydra/launcher=basic", "leave it out"),
        ("+hydra.verbose=true", "leave it out"),
        ("hydra.job.chdir=true", "leave it out"),
    ],
)
@pytest.mark.parametrize("verb", [run.main, sweep.main, stream.main, optimize.main])
def test_settings_of_hydras_own_are_refused(
    override: str, remedy: str, verb: object, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(verb, [override]) == 2  # type: ignore[arg-type]
    line = capfd.readouterr().err
    assert f"Hydra's own settings are not read here; {remedy}" in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(("value", "typed"), [("10", "10"), ("1e3", "1e3"), ("true", "true")])
def test_a_folder_whose_name_is_a_number_needs_quotes(
    value: str, typed: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_verb(run.main, [f"out={value}", "workload=smoke"]) == 2
    line = capfd.readouterr().err.strip()
    assert "out=" in line
    assert isinstance(parse(shlex.split(line.rpartition("; type ")[2]))[0].value(), str)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Presets beside the clone."""
    for name, content in {
        "engine/mine.yaml": "defaults: [fp32, _self_]\nname: mine\n",
        "solver/slow.yaml": "defaults: [euler_32, _self_]\nname: slow\n",
        "experiment/night.yaml": "# @package _global_\ncells:\n  - [engine=mine]\n  - [engine=bf16]\n",
        "texts/stories.yaml": "utterances: [{id: a1, category: c, text: Yes}]\n",
    }.items():
        path = tmp_path / "my presets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return tmp_path / "my presets"


def test_own_presets_are_choices_of_every_composing_verb(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @with_presets
    def verb(argv: list[str]) -> int:
        assert module_environment()[OWN] == str(own), "for the processes that it starts"
        assert "mine" in options("engine")
        assert options("solver").count("euler_7") == 1
        config = compose_config(argv)
        assert (config["engine"]["name"], config["solver"]["name"]) == ("mine", "slow")
        assert [cell.label for cell in compose_cells(["experiment=night"])] == ["mine-euler_7", "bf16-euler_7"]
        texts = compose_config(["workload.texts=stories"])["workload"]
        assert texts["texts"] == str(own / "texts" / "stories.yaml"), "readable later without the option"
        assert [line.text for line in select_lines(texts)] == ["Yes"]
        return 7

    before = os.environ.get(OWN)
    for words in (["--config-dir", str(own)], [f"--config-dir={own}"], ["-cd", str(own)]):
        assert verb([*words, "engine=mine", "solver=slow"]) == 7
    assert os.environ.get(OWN) == before
    assert own_folder() is None
    with pytest.raises(ConfigError, match=r"engine=mine: choose one of .*--config-dir DIR"):
        compose_config(["engine=mine"])
    assert run.main(["--config-dir", str(own), "engine=mine", "workload.texts=stories", "--cfg", "job"]) == 0
    shown = capsys.readouterr().out
    assert "name: mine" in shown
    assert "select: null" in shown
    assert sweep.main(["--config-dir", str(own), "experiment=night", "--cfg", "job"]) == 0
    assert "--- # mine-euler_7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config-dir"], "--config-dir: needs a folder"),
        (["--config-dir", "nowhere"], "--config-dir=.*nowhere: no such folder"),
        (["--config-dir", "a", "--config-dir", "b"], "is one folder"),
        (["--config-path", "a"], "option=--config-path: .*give --config-dir DIR"),
        (["-cn=other"], "option=-cn=other: .*give --config-dir DIR"),
    ],
)
@pytest.mark.parametrize("verb", [run.main, gate.main])
def test_a_folder_of_presets_that_cannot_be_is_one_line(
    words: list[str], message: str, verb: object, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(verb, ["engine=fp32", *words]) == 2  # type: ignore[arg-type]
    line = capfd.readouterr().err
    assert len(line.splitlines()) == 1
    assert re.search(message, line), line


def test_own_presets_hide_none_of_the_bundled(own: Path) -> None:
    (own / "engine" / "fp32.yaml").write_text("name: fp32\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"engine/fp32.yaml is the name of a preset of this program"):
        split_config_dir(["--config-dir", str(own)])


def test_the_verbs_that_compose_all_take_own_presets() -> None:
    """Whoever adds a verb that composes wraps it."""
    for path in sorted((ROOT / "experiments").glob("*.py")):
        text = path.read_text("utf-8")
        if "run_verb(main)" in text and ("refuse_flags" in text or "answered(" in text):
            assert "@with_presets\ndef main" in text, path.name
