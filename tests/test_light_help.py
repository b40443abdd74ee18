"""What `VERB --help` does not import. Nothing is timed here: a module that takes a second is named instead."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from reports.verbs import MODULES
from tests.engines import ROOT

# Each takes from a third of a second to several on two cores; `python -X importtime` shows which
HEAVY = (
    "torch", "torchaudio", "onnxruntime", "mlflow", "pandas", "pyarrow", "matplotlib", "librosa", "numba", "optuna",
    "sklearn", "transformers", "f5_tts", "scipy.stats", "scipy.optimize", "uvicorn",
)  # fmt: skip
SHOWN = """
import contextlib, io, json, runpy, sys
verb, module, *heavy = sys.argv[1:]
sys.argv = [verb, "--help"]
said = io.StringIO()
with contextlib.redirect_stdout(said):
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
print(json.dumps([code, said.getvalue(), [name for name in heavy if name in sys.modules]]))
"""


@pytest.mark.parametrize("verb", MODULES)
def test_help_imports_nothing_that_takes_a_second(verb: str) -> None:
    command = [sys.executable, "-c", SHOWN, verb, MODULES[verb], *HEAVY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    code, said, heavy = json.loads(done.stdout)
    assert (code, heavy) == (0, [])
    assert "examples:" in said or "usage" in said
