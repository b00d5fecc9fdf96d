# One command per check, the same by hand and in continuous integration. Each makes the virtual environment it needs.
#
#   make demo     train a translator, a classifier and a storyteller from nothing, reload them, show them at work
#   make test     lint + types + the quick tests
#   make slow     the tests that take minutes
#   make plain    the quick tests with the plain operations, as where the package is not installed
#   make floor    the quick tests with the oldest versions that pyproject.toml allows, in .venv-floor
#   make newest   the quick tests with the newest ones, in .venv-newest
#   make bench    the benchmarks
#   make docs     the documentation as pages for a browser, in build/docs
#   make release  the wheel and the source distribution, installed from nothing, with the demo from the wheel
#
# PYTHON=python3.11 chooses the interpreter, VENV=path the virtual environment; PIP_ARGS='...' goes to every pip install.
# TORCH_BACKEND=cpu, cu130 or another that uv knows chooses the build of torch; empty, it is the one that pip finds.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
DEMO ?= runs/demo
PIP_ARGS ?=
PACKAGE := -e .
BIN := $(VENV)/bin
CONSTRAINTS := -c constraints.txt
UPGRADE :=
PIP_INSTALL = $(BIN)/python -m pip install --quiet --no-warn-script-location $(UPGRADE) $(CONSTRAINTS) $(PIP_ARGS)

# The constraints name the version of torch, not its build, and on Linux the one that pip finds brings gigabytes of CUDA
# libraries. Where there is no driver for them, the build for CPUs is asked for, unless PIP_ARGS or pip's own settings
# name a further source: whoever chose one goes on with it.
NVIDIA_DRIVER ?= $(wildcard /proc/driver/nvidia)$(shell command -v nvidia-smi)
PIP_SOURCES = $(shell $(BIN)/python -m pip config list 2>/dev/null | grep -oE 'extra-index-url|find-links|no-index')
TORCH_BACKEND ?= $(if $(strip $(NVIDIA_DRIVER) $(PIP_ARGS) $(PIP_SOURCES) $(filter-out Linux,$(shell uname -s))),,cpu)
TORCH = $(shell sed -n 's/^ *"\(torch[<>=].*\)",$$/\1/p' pyproject.toml)
INSTALL_TORCH = @.ci/install_torch $(BIN) '$(TORCH_BACKEND)' '$(TORCH)' $(UPGRADE) $(CONSTRAINTS)

# Whoever changes one of these installs again.
INSTALL_INPUTS := pyproject.toml constraints.txt

.PHONY: help demo test plain lint types slow floor newest versions-floor versions-newest bench docs release clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# A virtual environment that is already there is completed, never cleared: it may be the user's own.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is missing or older than 3.11: name another one, e.g. make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.made $(INSTALL_INPUTS)
	$(INSTALL_TORCH)
	$(PIP_INSTALL) $(PACKAGE)
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

# The demonstration starts from nothing each time: the runs of the last one are replaced on purpose, but nothing else is.
# An older version called one of them sentiment.
DEMO_TASKS := translation classification generation
demo: $(VENV)/.runtime
	@others=$$(ls -A '$(DEMO)' 2>/dev/null | grep -vxE "$$(tr ' ' '|' <<<'$(DEMO_TASKS) sentiment')" || true); \
	if [ -f '$(DEMO)' ] || [ -n "$$others" ]; then \
	  echo '$(DEMO) is there, and holds other things than a demonstration: name another folder, e.g. make demo DEMO=runs/mine' >&2; \
	  exit 1; \
	fi
	@if [ -e '$(DEMO)' ]; then echo 'Replacing the last demonstration in $(DEMO).'; rm -rf '$(DEMO)'; fi
	@for task in $(DEMO_TASKS); do \
	  echo "vanilla train $$task/toy output_dir=$(DEMO)/$$task"; \
	  $(BIN)/vanilla train $$task/toy output_dir='$(DEMO)'/$$task; \
	done
	@$(BIN)/python -m vanilla_recipes.cli.showcase '$(DEMO)'

# Each process computes with one thread: tiny tensors gain nothing from more.
JOBS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest
QUICK_TESTS = $(PYTEST) -n $(JOBS) --dist loadfile --no-loadscope-reorder
test: lint types
	$(QUICK_TESTS)

plain: $(VENV)/.dev
	VANILLA_TRANSFORMERS_FAST=0 $(QUICK_TESTS) -m 'not slow and not fast'

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# DeepSpeed is built here, against the torch that is installed; its kernels, which need a compiler, are left out.
$(VENV)/.slow: $(VENV)/.dev
	DS_BUILD_OPS=0 $(PIP_INSTALL) --no-build-isolation deepspeed
	@touch $@

slow: $(VENV)/.slow
	$(BIN)/python -m pytest -m slow

# What pyproject.toml does not name is as new as the rest lets it be, on both ends. An environment that is already there
# is brought up to date. The row in docs/compatibility.md is written whether the tests pass or not.
END_VENV = $(if $(filter command%,$(origin VENV)),$(VENV),.venv-$@)
floor: PINS = -c $(END_VENV)/floor.txt
floor newest:
	@$(MAKE) --no-print-directory versions-$@ VENV='$(END_VENV)' CONSTRAINTS='$(PINS)' UPGRADE='--upgrade'

$(VENV)/floor.txt: $(VENV)/.made pyproject.toml .ci/versions.py
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) packaging
	$(BIN)/python .ci/versions.py constraints >$@

versions-floor: $(VENV)/floor.txt
versions-floor versions-newest: $(VENV)/.made
	@rm -f $(VENV)/tests.xml
	$(INSTALL_TORCH)
	$(PIP_INSTALL) --upgrade-strategy eager -e '.[dev]'
	@status=0; $(QUICK_TESTS) --junitxml=$(VENV)/tests.xml || status=$$?; \
	$(BIN)/python .ci/versions.py row $(@:versions-%=%) $(VENV)/tests.xml && exit $$status

# Each of the two files is installed into an empty environment, away from the checkout's own.
RELEASE := build/release
$(VENV)/.release: $(VENV)/.dev
	$(PIP_INSTALL) twine
	@touch $@

release: $(VENV)/.release
	rm -rf dist $(RELEASE)
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	@for kind in tar.gz whl; do \
	  $(MAKE) --no-print-directory $(RELEASE)/$$kind/.runtime VENV=$(RELEASE)/$$kind PACKAGE="$$(ls dist/*.$$kind)"; \
	  $(RELEASE)/$$kind/bin/python -m pip check; \
	  (cd $(RELEASE) && $$kind/bin/vanilla --version && $$kind/bin/vanilla configs); \
	done
	@$(MAKE) --no-print-directory demo VENV=$(RELEASE)/whl DEMO=$(RELEASE)/demo PACKAGE=dist/*.whl
	@echo 'dist/ holds what was checked:'; ls dist

bench: $(VENV)/.runtime
	$(BIN)/python -m benchmarks

$(VENV)/.docs: $(VENV)/.runtime
	$(PIP_INSTALL) -e '.[docs]'
	@touch $@

# The pages, and what they link to, as they lie in the checkout: mkdocs.yml says why.
DOCS_SOURCE := build/docs-source
DOCS_INPUTS := README.md CONTRIBUTING.md CHANGELOG.md SECURITY.md CITATION.cff LICENSE Makefile constraints.txt \
  pyproject.toml docs findings configs modeling recipes benchmarks
docs: $(VENV)/.docs
	@rm -rf $(DOCS_SOURCE) && mkdir -p $(DOCS_SOURCE) && cp -R $(DOCS_INPUTS) $(DOCS_SOURCE)
	$(BIN)/zensical build --clean --strict
	@echo 'The documentation is in build/docs/index.html.'

clean:
	rm -rf .cache build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
