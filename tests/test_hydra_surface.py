"""The command line stays Hydra's: -m, --cfg job, --help, shell completion, and what is composed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from engine.contract import ConfigError
from experiments import run
from experiments.common import cli
from experiments.common.presets import CONF
from experiments.optimize import __main__ as optimize
from experiments.settings.compose import compose_cells, compose_config
from experiments.settings.front import BASH
from experiments.sweep import __main__ as sweep
from experiments.sweep import running as sweeping
from tests.engines import ROOT

VALUES = st.one_of(st.integers(-5, 50), st.floats(0, 2).map(lambda x: round(x, 3)), st.booleans(), st.none())
KEYS = ("seed", "solver.sway", "measure.rounds", "device.threads", "out", "reference.voices", "model.arch", "no.such")


@settings(max_examples=12, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), st.sampled_from(["fp32", "int8"]))
def test_numbers_set_after_the_groups_are_what_hydra_composes(overrides: dict[str, object], engine: str) -> None:
    texts = [f"engine={engine}", *(f"{key}={'null' if v is None else v}" for key, v in overrides.items())]
    wanted: object = None
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            wanted = OmegaConf.to_container(hydra_compose("config", texts), resolve=True)
        except HydraException:
            pass  # then ours has to refuse it as well
    if wanted is None:
        with pytest.raises(ConfigError):
            compose_config(texts)
    else:
        assert {"enhance": {"name": "none"}, **compose_config(texts)} == wanted, "none is left out of records"


def test_one_cell_does_not_see_another_ones_values() -> None:
    first, second = compose_cells(["engine=fp32", "seed=1,2"])
    assert (first.config["seed"], second.config["seed"], compose_config(["engine=fp32"])["seed"]) == (1, 2, 0)


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_multirun_is_a_sweep(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(sweeping, "new_sweep", lambda cells: [cell.label for cell in cells])
    monkeypatch.setattr(sweeping, "run_sweep", lambda labels: started.append(labels) or 0)
    assert run.main([flag, "engine=fp32,bf16"]) == 0
    assert sweep.main(["engine=fp32,bf16", flag]) == 0
    assert run.main([flag, "seed=3"]) == 0
    assert started == [["fp32-euler_7", "bf16-euler_7"], ["fp32-euler_7", "bf16-euler_7"], ["fp32-euler_7"]]


@pytest.mark.parametrize("verb", [run, sweep, optimize])
def test_help_has_examples_choices_and_exit_codes(verb: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb.main(["--help"]) == 0  # type: ignore[attr-defined]
    text = capsys.readouterr().out
    name = verb.__name__.removesuffix(".__main__")  # type: ignore[attr-defined]
    assert f"python -m {name} " in text
    assert "engine      amp, bf16" in text
    for words in ("exit codes: 0 done, 1 unexpected", "2 usage", "14 an engine", "130 interrupted"):
        assert words in text


def test_completion_in_bash_offers_what_hydra_offers() -> None:
    """The script that is installed, in a real bash, as a TAB would call it."""
    line = "python -m experiments.run solver=euler_7 engine=b"
    script = f"""{BASH}
python() {{ {sys.executable} "$@"; }}
COMP_LINE="{line}"; COMP_WORDS=(python -m experiments.run solver=euler_7 engine=b); COMP_CWORD=4
_f5bench_complete; echo "${{COMPREPLY[@]}}"
COMP_LINE="python setup.py x"; COMP_WORDS=(python setup.py x); COMPREPLY=()
_f5bench_complete; echo "other: ${{COMPREPLY[@]}}" """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["engine=bf16", "other:" + " "], done.stderr


def test_the_script_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["-sc", "install=bash"]) == 0
    assert capsys.readouterr().out.strip() == BASH


def test_every_exit_code_is_documented_where_people_look() -> None:
    codes = {value for name, value in vars(cli).items() if name.startswith("EXIT_")}
    assert codes == {0, 1, 2, 10, 11, 12, 13, 14, 130}
    sentence = next(line for line in _paragraphs(ROOT / "README.md") if "Every verb ends with 0" in line)
    for code in codes:
        assert f" {code} (" in sentence, f"the README does not say what {code} means"


def _paragraphs(path: Path) -> list[str]:
    return [" ".join(block.split()) for block in path.read_text("utf-8").split("\n\n")]
