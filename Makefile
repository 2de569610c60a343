# `make demo` and `make test` do all their own set-up in .venv: Python 3.11+, a C++ compiler and CMake are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.ready-demo
EXTRAS ?= dev,serve,tensorboard,exchange,notify,sweep,ray,mlflow
# One thread a process: the tests run in parallel processes, and BLAS threads on top of them only fight. A demo has all
# cores, or what the user says.
unit long fuzz soak screenshots: export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo demo-times test unit long lint types fuzz soak docs screenshots llama-server wheel wheel-check clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## install candletune and its tools into .venv

# Of its own: a demo needs none of the development tools. What has them has all that a demo needs.
$(DEMO_READY): pyproject.toml constraints.txt
	@if [ $(READY) -nt pyproject.toml ] && [ $(READY) -nt constraints.txt ]; then :; \
	  else $(PYTHON) tools/install.py $(VENV) ""; fi
	@touch $@

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) tools/install.py $(VENV) "$(EXTRAS)"
	@touch $@

DEMO ?=
demo: $(DEMO_READY)  ## the whole pipeline on a simulated market and a tiny model (DEMO: more of its options)
	$(BIN)/candletune demo $(DEMO)

demo-times:  ## how long make demo takes here, and a second demo with a new seed
	@$(PYTHON) tools/demo_times.py

test: lint types unit  ## everything CI checks

# A file's tests go to one process, so that what they share (a minute of converting in some) is made once.
unit: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=30 --cov --cov-report=term:skip-covered --cov-report=json:.coverage.json
	$(BIN)/python tests/check_coverage.py .coverage.json

long: $(READY)  ## variants of tests that would cost CI minutes
	$(BIN)/python -m pytest -m long

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python tools/check_words.py

types: $(READY)
	$(BIN)/mypy

FUZZ_SECONDS ?= 600
SOAK_FOLDER ?= /tmp/candletune-soak
fuzz: $(READY)  ## hostile input from everywhere, ten minutes each (FUZZ_SECONDS); seeds are printed
	PYTHONPATH=tests:tests/live $(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS)

soak: $(READY)  ## a simulated year of the shadow loop with faults throughout (SOAK_FOLDER)
	$(BIN)/python bench/soak.py --out $(SOAK_FOLDER)

llama-server: $(READY)  ## build llama.cpp's server for the tests of engine.url, once
	$(BIN)/python tests/build_llama_server.py

wheel: $(READY)  ## build wheel and source archive into dist/
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m twine check --strict dist/*

wheel-check: $(READY)  ## build a wheel, install it alone, run the demo from it
	@scratch=$$(mktemp -d) && $(BIN)/python tests/wheel/check_wheel.py $$scratch/check && rm -rf $$scratch

docs: $(READY)  ## build the documentation site into site/
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --strict

screenshots: $(READY)  ## pictures of every page at three widths, light and dark, into screenshots/
	$(BIN)/python tools/screenshots.py screenshots

clean:  ## remove the environment and every cache (run folders stay)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist .coverage .coverage.json site
