# Run `make help` for the targets. Each does its own set-up; VENV=path uses another environment.
VENV ?= .venv
PYTHON ?= python3
ARGS ?=
WHAT ?=
SEEDS ?= 5
DEVICE ?= cuda
PY := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
BENCH := $(VENV)/.bench-installed
DOCS := $(VENV)/.docs-installed
GALLERY := build/gallery/.made
TRACKERS := $(VENV)/.trackers-installed
ENGINES := $(VENV)/.engines-installed
DIST := $(VENV)/.dist-installed
RAY_VENV ?= .venv-ray
RAY := $(RAY_VENV)/.installed
LOWEST_VENV ?= .venv-lowest
LOWEST := $(LOWEST_VENV)/.installed
AIHWKIT_VENV ?= .venv-aihwkit
AIHWKIT := $(AIHWKIT_VENV)/.installed
KERNELS := $(wildcard mnist_exp/cpu/kernels/csrc/*.[ch])

.DEFAULT_GOAL := help
.PHONY: help setup env-check env-update train test test-fast test-model test-engines test-ray \
	test-other-device test-gpu \
	test-lowest test-pages test-trackers test-training check-model check-params view-results lint bench dist \
	docs docs-serve reproduce torture sanitize notebooks clean clean-checkpoints

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(PY):
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): $(PY) pyproject.toml setup.py $(KERNELS)
	$(PY) -m pip install --quiet --editable .
	@touch $@

$(DEV): $(RUNTIME)
	$(PY) -m pip install --quiet --editable ".[dev]"
	@touch $@

$(BENCH): $(RUNTIME)
	$(PY) -m pip install --quiet --editable ".[bench]"
	@touch $@

$(DOCS): $(RUNTIME)
	$(PY) -m pip install --quiet --editable ".[docs]"
	@touch $@

# runs whose pictures the site shows: again when the program or its settings have changed
$(GALLERY): $(DOCS) docs/site/gallery.py $(shell find mnist_exp conf -name '*.py' -o -name '*.yaml')
	$(PY) docs/site/gallery.py
	@touch $@

$(TRACKERS): $(DEV)
	$(PY) -m pip install --quiet --editable ".[tensorboard,mlflow,wandb,trackio]"
	@touch $@

$(ENGINES): $(DEV)
	$(PY) -m pip install --quiet --editable ".[joblib,slurm,optuna]" "psycopg[binary]>=3.2"
	@touch $@

$(DIST): $(DEV)
	$(PY) -m pip install --quiet --editable ".[dist]"
	@touch $@

# every "name>=version" of pyproject.toml, as name==version
$(LOWEST): pyproject.toml setup.py $(KERNELS)
	$(PYTHON) -m venv $(LOWEST_VENV)
	grep -oE '"[A-Za-z0-9_-]+(\[[a-z]+\])?>=[0-9.]+' pyproject.toml \
	  | sed 's/"//; s/\[.*\]//; s/>=/==/' > $(LOWEST_VENV)/lowest.txt
	$(LOWEST_VENV)/bin/python -m pip install --quiet -c $(LOWEST_VENV)/lowest.txt --editable ".[dev]"
	@touch $@

$(RAY): pyproject.toml setup.py $(KERNELS)
	$(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/python -m pip install --quiet --editable ".[dev,ray]"
	@touch $@

# the one set of versions that works together; torch is the build with CUDA: 7 GB
$(AIHWKIT):
	$(PYTHON) -m venv $(AIHWKIT_VENV)
	$(AIHWKIT_VENV)/bin/python -m pip install --quiet torch==2.10.0 torchvision==0.25.0 scipy tqdm
	$(AIHWKIT_VENV)/bin/python -m pip install --quiet --only-binary :all: --no-deps aihwkit==1.1.0
	@touch $@

setup: $(DEV) ## create the virtual environment and install everything into it

env-check: $(RUNTIME) ## table of Python, torch, CPU features, threads and data
	@$(PY) -m mnist_exp env-check

env-update: env-check ## same as env-check

train: $(RUNTIME) ## train; make train ARGS="model=cnn20k training.epochs=5"
	$(PY) -m mnist_exp $(ARGS)

test: $(DEV) ## the tests; those of engines, pages and wheels have targets of their own
	$(PY) -m pytest -n auto --dist worksteal $(ARGS)

test-fast: $(DEV) ## the tests without subprocesses or whole trainings, in under two minutes
	$(PY) -m pytest -n auto --dist worksteal -m "not slow" $(ARGS)

test-pages: $(DEV) ## the blocks of the pages in docs/, and the notebooks
	$(PY) -m pytest -n auto --dist worksteal -m pages $(ARGS)

test-trackers: $(TRACKERS) ## the trackers against the real programs, and their page
	$(PY) -m pytest tests/trackers tests/test_docs.py -m "not engines and not wheel" -k "trackers" $(ARGS)

test-engines: $(ENGINES) ## sweeps on joblib, submitit and Slurm; searches with Optuna, on PostgreSQL
	$(PY) -m pytest -m engines $(ARGS)

test-other-device: $(DEV) ## runs on a device that only torch takes for another than the CPU
	$(PY) -m pytest tests/other_device -m other_device $(ARGS)

test-gpu: $(DEV) ## the same runs on this machine's GPU; DEVICE=mps: Apple's
	$(PY) -m pytest -n auto tests/other_device -m other_device --device $(DEVICE) $(ARGS)

test-lowest: $(LOWEST) ## all tests, with the lowest versions that pyproject.toml names
	$(LOWEST_VENV)/bin/python -m pytest -n auto --dist worksteal $(ARGS)

test-ray: $(RAY) ## sweeps on Ray, in an environment of its own: RAY_VENV=path
	$(RAY_VENV)/bin/python -m pytest -m engines tests/app/sweep/engines/test_ray.py $(ARGS)

test-model: $(DEV) ## the tests of the networks
	$(PY) -m pytest tests/models $(ARGS)

test-training: $(DEV) ## the tests of the training loop and of whole runs
	$(PY) -m pytest tests/train tests/experiment $(ARGS)

check-model: $(RUNTIME) ## output shape of every layer, and required properties of each network
	@$(PY) -m mnist_exp check-models shapes

check-params: $(RUNTIME) ## the parameter counts against the published ones
	@$(PY) -m mnist_exp check-models parameters

view-results: $(RUNTIME) ## list runs; ARGS="--where constraint=memristor --sort accuracy"
	@$(PY) -m mnist_exp view-results $(ARGS)

reproduce: $(RUNTIME) ## accuracy over seeds; WHAT="cnn21k mlp300" SEEDS=10
	$(PY) -m mnist_exp seeds $(WHAT) --seeds $(SEEDS) $(ARGS)

docs: $(GALLERY) ## the documentation site, in build/site
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

docs-serve: $(GALLERY) ## the site on a local port, rebuilt as pages change
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs serve

# PLW1514: Windows reads text in another encoding, unless it is named
lint: $(DEV) ## ruff and mypy, also as on Windows and macOS
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check --preview --select PLW1514 mnist_exp hydra_plugins
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy --platform win32 --cache-dir .mypy_cache/windows -p mnist_exp
	$(VENV)/bin/mypy --platform darwin --cache-dir .mypy_cache/macos -p mnist_exp

dist: $(DIST) ## sdist and wheels, with and without kernels, each installed and run without a compiler
	rm -rf dist
	$(PY) -m build --sdist
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist dist/*.tar.gz
	MNIST_EXP_KERNELS=torch $(PY) -m pip wheel --quiet --no-deps --wheel-dir dist dist/*.tar.gz
	$(PY) -m twine check --strict dist/*
	$(PY) -m pytest -m wheel $(ARGS)

bench: $(BENCH) ## time our epochs against the baselines; WHAT=mlp100; AIHWKIT_VENV=path
	@$(if $(filter aihwkit,$(WHAT)),$(MAKE) --no-print-directory $(AIHWKIT) || true)
	AIHWKIT_VENV=$(AIHWKIT_VENV) $(PY) -m tests.benchmarks $(WHAT) $(ARGS)

notebooks: $(DEV) ## execute docs/notebooks and store the outputs; WHAT="sweep_with_pandas"
	$(PY) -m tests.helpers.notebooks $(WHAT)

torture: $(DEV) ## kill, damage and starve runs for half an hour; no result may be lost
	$(PY) -m tests.torture $(WHAT) $(ARGS)

sanitize: $(DEV) ## run the C kernels under the address, undefined-behaviour and thread sanitizers
	$(PY) -m tests.cpu.kernels.run_harness

clean: ## remove caches and build files
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

clean-checkpoints: ## remove checkpoints under outputs/; keep results and plots
	find outputs -type d -name checkpoints -prune -exec rm -rf {} +
