# One command per task; `make` lists them. Needs make and Python 3.11 or later.
# Everything is installed into .venv, with the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell grep '^torch==' constraints.txt)

# Two worker processes with one thread each are faster than one with two threads.
TEST_WORKERS ?= 2
export OMP_NUM_THREADS ?= 1
# Pictures are written to files, so no window system is needed.
export MPLBACKEND ?= Agg

.DEFAULT_GOAL := help
.PHONY: help quickstart install test test-extras test-lowest lint format types unit \
    coverage mutants docs picture benchmarks pages fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' \
	    $(MAKEFILE_LIST)

# ---- set-up: one stamp file per set of extras, renewed when the pins change ----

PINS := pyproject.toml constraints.txt

$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	    sys.exit(0 if v >= (3, 11) else "skvae needs Python 3.11 or later; this is " \
	    + sys.version.split()[0] + ". Set it by: make PYTHON=/path/to/python")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing torch into $(VENV) (once; this can take some minutes)"
	@$(PIP) install --quiet $(TORCH) -c constraints.txt
	@$(PIP) install --quiet setuptools -c constraints.txt
	@touch $@

# setuptools is already there with its pinned version, hence no build isolation.
$(VENV)/.installed-%: $(VENV)/.torch $(PINS)
	@echo "Installing skvae[$*] into $(VENV)"
	@$(PIP) install --quiet --no-build-isolation -e '.[$*]' -c constraints.txt
	@touch $@

install: $(VENV)/.installed-test ## install the package for development

# The lowest supported versions have an environment of their own.
LOWEST := .venv-lowest
$(LOWEST)/.installed: pyproject.toml constraints-lowest.txt
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@echo "Installing the lowest supported versions into $(LOWEST) (once)"
	@$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet $(TORCH)
	@$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet \
	    -e '.[test]' -c constraints-lowest.txt
	@touch $@

# ---- what there is to run ----

quickstart: $(VENV)/.installed-plot,pandas ## train on two real data sets, write pictures to quickstart/
	@$(BIN)/python examples/quickstart.py quickstart

test: lint types unit ## lint, types, doctests and tests, with their own set-up

lint: $(VENV)/.installed-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	@$(BIN)/mypy

unit: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -n $(TEST_WORKERS)

test-extras: test-lowest ## what takes longer: the lowest supported versions

test-lowest: $(LOWEST)/.installed ## the tests, with the lowest supported versions
	@$(LOWEST)/bin/python -m pytest -n $(TEST_WORKERS)

coverage: $(VENV)/.installed-test,quality ## branch coverage of skvae/ by its tests
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --cov=skvae --cov-branch \
	    --cov-report=term-missing:skip-covered --cov-fail-under=95

mutants: $(VENV)/.installed-test,quality ## how many small changes do the tests notice?
	@$(BIN)/python tests/mutants.py --record benchmarks/results/mutants.json

format: $(VENV)/.installed-test ## format the code and repair what ruff can repair
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.installed-docs ## build the documentation into docs/_build/html, warnings are errors
	@# a gallery page is renewed only if its script changed: the package may have, too
	@rm -rf docs/_build docs/auto_examples docs/generated docs/_static/mathematics
	@$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

picture: $(VENV)/.installed-docs ## redraw the picture of the README
	@$(BIN)/python docs/readme_picture.py docs/_static/overview.png

benchmarks: ## say how the figures of the README are made
	@echo "One script per table; each prints its options with --help; most need --data DIR."
	@echo "benchmarks/README.md says where figures land and how caches work."
	@ls benchmarks/[a-z]*.py | grep -v /pages.py | sed 's|^|  $(BIN)/python |'

pages: $(VENV)/.installed-test ## renew the pages of figures from their raw figures
	@$(BIN)/python benchmarks/pages.py
	@$(BIN)/python tests/fuzz/page.py

FUZZ_MINUTES ?= 10

fuzz: $(VENV)/.installed-test ## look for failures with hostile input (FUZZ_MINUTES=10)
	@$(BIN)/python tests/fuzz/run.py --minutes $(FUZZ_MINUTES)

clean: ## remove what the other targets made, except .venv
	rm -rf quickstart mutants docs/_build docs/auto_examples docs/generated \
	    docs/_static/mathematics \
	    docs/sg_execution_times.rst .pytest_cache .hypothesis .mypy_cache .ruff_cache build dist *.egg-info
	find skvae tests benchmarks examples docs -name __pycache__ -type d -prune \
	    -exec rm -rf {} +
