# One command per check, the same by hand and in continuous integration. Each makes the virtual environment it needs.
#
#   make demo     train a translator, a classifier and a storyteller from nothing, reload them, show them at work
#   make test     lint + types + the quick tests
#   make slow     the tests that take minutes
#   make bench    the benchmarks
#
# PYTHON=python3.11 chooses the interpreter, VENV=path the virtual environment; PIP_ARGS='...' goes to every pip install.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
DEMO ?= runs/demo
PIP_ARGS ?=
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --no-warn-script-location -c constraints.txt $(PIP_ARGS)

# Whoever changes one of these installs again. The constraints name the version of torch, not its build: on Linux the
# default one brings gigabytes of CUDA libraries, unless PIP_ARGS names an index with another.
INSTALL_INPUTS := pyproject.toml constraints.txt

.PHONY: help demo test lint types slow bench clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# A virtual environment that is already there is completed, never cleared: it may be the user's own.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is missing or older than 3.11: name another one, e.g. make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# `build/` may hold modules that have since been deleted, and setuptools would put them into the new wheel.
$(VENV)/.runtime: $(VENV)/.made $(INSTALL_INPUTS)
	@rm -rf build
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

# The demonstration starts from nothing each time: the runs of the last one are replaced on purpose, but nothing else is.
DEMO_TASKS := translation sentiment generation
demo: $(VENV)/.runtime
	@others=$$(ls -A '$(DEMO)' 2>/dev/null | grep -vxE "$$(tr ' ' '|' <<<'$(DEMO_TASKS)')" || true); \
	if [ -f '$(DEMO)' ] || [ -n "$$others" ]; then \
	  echo '$(DEMO) is there, and holds other things than a demonstration: name another folder, e.g. make demo DEMO=runs/mine' >&2; \
	  exit 1; \
	fi
	@if [ -e '$(DEMO)' ]; then echo 'Replacing the last demonstration in $(DEMO).'; rm -rf '$(DEMO)'; fi
	@for task in $(DEMO_TASKS); do \
	  echo "vanilla train $$task/toy output_dir=$(DEMO)/$$task"; \
	  $(BIN)/vanilla train $$task/toy output_dir='$(DEMO)'/$$task; \
	done
	@$(BIN)/python -m vanilla_cli.showcase '$(DEMO)'

test: lint types
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy cannot follow the folder mapping of an editable install, so setuptools lays the packages out for it first; the
# paths that it reports are mapped back to the source.
TYPED := $(VENV)/typed
types: $(VENV)/.dev
	@rm -rf $(TYPED)
	@$(BIN)/python -c 'import setuptools; setuptools.setup()' --quiet build_py --build-lib $(TYPED)
	MYPYPATH=$(TYPED) $(BIN)/mypy -p vanilla_transformers -p vanilla_cli | sed -e 's#^$(TYPED)/vanilla_cli/#recipes/cli/#' \
	  -e 's#^$(TYPED)/vanilla_transformers/\(recipes\|configs\)/#\1/#' -e 's#^$(TYPED)/vanilla_transformers/#modeling/#'

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.runtime
	$(BIN)/python -m benchmarks

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
