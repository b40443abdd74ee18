# Two commands that are enough by themselves from a clean clone: `make bench` (the main job) and `make test`.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= quality,speaker,ears,mlflow,onnx,optimize,serve,watch,torchao,docs,dev
TEGRA ?= /etc/nv_tegra_release
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
# uv resolves and unpacks in parallel; it must find the index that pip finds (UV_INDEX_URL and the like), or UV= leaves it out
UV ?= $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),$(UV) pip install --python $(RUN),$(RUN) -m pip install) --quiet --constraint constraints.txt

.PHONY: install bench test lint format doctor students dashboard gpu-check gpu-check-here jetson published-audio results docs clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 12) else \
	  "error: Python 3.10 to 3.12 is needed, and $(PYTHON) is %d.%d; name another: make PYTHON=python3.11" % v)'
	@! grep -qs '^# R36 ' $(TEGRA) || [ -n '$(PLAIN)' ] || { echo 'error: this is JetPack 6: no torch of the default index' \
	  'finds its GPU; make jetson, then . .venv-jetson/bin/activate (PLAIN=1 for an environment of the processor alone)' >&2; \
	  exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'error: $(PYTHON) cannot make a virtual environment;' \
	  'on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(if $(UV),,$(RUN) -m pip install --quiet --upgrade pip)
	$(INSTALL) --editable ".[$(EXTRAS)]"
	touch $(READY)

install: $(READY)  ## the virtual environment alone

bench: $(READY)  ## the default sweep: table, audio, MLflow runs, report
	$(RUN) -m experiments.sweep $(ARGS)

# Two processes, one file each at a time, each with one core of its own (tests/conftest.py).
# NVIDIA's builder makes real plans without a card; nobody else needs its 95 MB on a machine that has none. Kokoro's
# weights and voices are 84 MB of wheels; Ray is 80 MB, and a fleet's own choice
define TESTED
from importlib.util import find_spec as found; import sys; \
extras = {"tensorrt-rtx": "tensorrt_rtx_bindings", "ray": "ray", **({} if sys.version_info < (3, 11) else {"kokoro": "kokoro_onnx"})}; \
print(",".join(name for name, module in extras.items() if not found(module)))
endef
test: $(READY)
	@missing=$$($(RUN) -c '$(TESTED)') && { test -z "$$missing" || $(INSTALL) --editable ".[$$missing]"; }
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(RUN) -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(READY)
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

# pocket_guided is shipped (recipe=guidance out=outputs/pocket_guided teaches it again); pocket_small is made from it
students: $(READY)  ## teach pocket's small student, model=pocket_small; it goes on where it was stopped
	$(RUN) -m experiments.students recipe=depth recipe.name=pocket_small recipe.init=engine/pocket/guided.safetensors out=outputs/pocket_small $(ARGS)

dashboard: $(READY)  ## Grafana's dashboard again, from its panels
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[monitoring]"
	$(RUN) -c 'from experiments.monitoring.dashboard import write; write()'

doctor: $(READY)  ## what is here, what is missing, what that disables
	$(RUN) -m experiments.doctor

# An environment of its own: onnxruntime-gpu (extra gpu) stands in the place of onnxruntime (extra onnx). TensorRT's
# libraries come from NVIDIA's own index alone: where that is out of reach, TensorRT-RTX is the one that is checked
gpu-check:  ## prove the CUDA engines on this machine
	$(MAKE) install VENV=.venv-gpu EXTRAS=gpu,tensorrt-rtx,torchao,quality,mlflow,dev
	@.venv-gpu/bin/python -c 'import tensorrt' 2>/dev/null \
	  || .venv-gpu/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[tensorrt]" \
	  || echo "TensorRT is not to be had here: its engines will be skipped" >&2
	$(MAKE) gpu-check-here VENV=.venv-gpu EXTRAS=gpu,tensorrt-rtx,torchao,quality,mlflow,dev

gpu-check-here: $(READY)
	$(RUN) -m experiments.checks.gpu $(ARGS)

# Beside JetPack's own packages, so not the environment of the other targets: docs/jetson.md
jetson:  ## set up a Jetson: ARGS=--dry-run prints the commands
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else \
	  "error: JetPack 6.1 or newer is needed: its Python is 3.10, and $(PYTHON) is older")'
	$(PYTHON) -m experiments.setup_jetson $(ARGS)

# About an hour on two cores; of this machine, and of today's code
published-audio: $(READY)  ## the audio, spectrograms and pages behind the published reports, made again on this machine
	for each in bench waterfall fastest; do if [ -f outputs/published/$$each/sweep.json ]; \
	  then $(RUN) -m experiments.sweep resume=outputs/published/$$each; \
	  else $(RUN) -m experiments.sweep experiment=$$each tracking=none out=outputs/published/$$each; fi || exit $$?; done

results: $(READY)  ## docs/results.md again, from what lies in reports/published
	$(RUN) -m reports.site

docs: $(READY)  ## the documentation as a site in outputs/site; needs no network
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --config-file reports/site/mkdocs.yml

clean:
	rm -rf outputs .pytest_cache .ruff_cache .mypy_cache
