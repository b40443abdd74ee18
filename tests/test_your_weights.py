"""What docs/your-weights.md tells a newcomer to type makes weights that load."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from engine.weights.checkpoint import load_model
from tests.engines import ROOT, config

PAGE = (ROOT / "docs/your-weights.md").read_text("utf-8")


def test_the_small_file_of_the_docs_is_one_of_upstreams_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    (command,) = [block for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if "tiny.safetensors" in block]
    monkeypatch.chdir(tmp_path)
    model = load_model(config(*shlex.split(command.replace("\\\n", " "))[2:])["model"])
    assert not model.random
    assert len(model.vocabulary) == 2545
    assert model.state["proj_out.weight"].shape == (100, 256)
