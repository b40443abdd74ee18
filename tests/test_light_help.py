"""What the verbs import before they know what is asked of them. Nothing is timed: what takes a second is named instead.

One child imports every verb one after another, as `f5bench VERB --help` does before it says anything.
"""

from __future__ import annotations

import json
import subprocess
import sys

from reports.verbs import MODULES
from tests.engines import ROOT

# Each takes from a third of a second to several on two cores; `python -X importtime` shows which
HEAVY = (
    "torch", "torchaudio", "onnxruntime", "mlflow", "pandas", "pyarrow", "matplotlib", "librosa", "numba", "optuna",
    "sklearn", "transformers", "f5_tts", "scipy.stats", "scipy.optimize", "scipy.special", "uvicorn",
)  # fmt: skip
# How the pocket model was made: run by hand, once, on top of upstream's trainer
LIGHT = {verb: module for verb, module in MODULES.items() if not module.startswith("experiments.pocket")}
IMPORTED = """
import importlib, json, sys
from importlib.util import find_spec
modules, heavy = json.loads(sys.argv[1])
found = {}
for verb, module in modules.items():
    is_package = find_spec(module).submodule_search_locations is not None
    importlib.import_module(f"{module}.__main__" if is_package else module)
    for name in heavy:
        if name in sys.modules:
            found.setdefault(name, verb)
print(json.dumps(found))
"""


def test_a_verb_imports_nothing_that_takes_a_second_before_it_is_told_what_to_do() -> None:
    """Heavy package -> the first verb that imports it: none."""
    command = [sys.executable, "-c", IMPORTED, json.dumps([LIGHT, HEAVY])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}
