# One command for each check, the same by hand and in continuous integration. Each command creates the virtual
# environment that it needs.
#
#   make demo     train a translator, a classifier and a story writer from scratch, reload them, show what they do
#   make test     lint + types + the quick tests
#   make slow     the tests that take minutes
#   make plain    the quick tests without the fast operations, as if the package were not installed
#   make floor    the quick tests with the oldest versions that pyproject.toml allows, in .venv-floor
#   make newest   the quick tests with the newest versions, in .venv-newest
#   make bench    the benchmarks
#   make docs     the documentation as web pages, in build/docs
#   make release  build the wheel and the source distribution, install both into empty environments, run the demo
#
# PYTHON=python3.11 selects the interpreter, VENV=path the virtual environment. PIP_ARGS='...' is passed to every pip
# install. TORCH_BACKEND=cpu (or cu130, or another backend of uv) selects the build of torch; if empty, pip selects it.

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

# The constraints name the version of torch, not its build. On Linux, pip's default build brings gigabytes of CUDA
# libraries. So on Linux without an NVIDIA driver the default is the CPU build. It is not if PIP_ARGS or pip's settings
# name a package source: then pip uses that source.
NVIDIA_DRIVER ?= $(wildcard /proc/driver/nvidia)$(shell command -v nvidia-smi)
PIP_SOURCES = $(shell $(BIN)/python -m pip config list 2>/dev/null | grep -oE 'extra-index-url|find-links|no-index')
TORCH_BACKEND ?= $(if $(strip $(NVIDIA_DRIVER) $(PIP_ARGS) $(PIP_SOURCES) $(filter-out Linux,$(shell uname -s))),,cpu)
TORCH = $(shell sed -n 's/^ *"\(torch[<>=].*\)",$$/\1/p' pyproject.toml)
INSTALL_TORCH = @.ci/install_torch $(BIN) '$(TORCH_BACKEND)' '$(TORCH)' $(UPGRADE) $(CONSTRAINTS)

# If one of these files changes, the environment is installed again.
INSTALL_INPUTS := pyproject.toml constraints.txt

.PHONY: help demo test plain lint types slow floor newest versions-floor versions-newest bench docs release clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# An existing virtual environment is completed, never cleared: it may belong to the user.
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

# The demonstration starts from scratch each time. It removes the runs of the last demonstration on purpose, but nothing
# else. In older versions the run folder of classification was named sentiment.
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

# Each process uses one thread: more threads do not speed up tiny tensors.
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

# DeepSpeed is built here, with the installed torch. Its kernels are left out, because they need a compiler.
$(VENV)/.slow: $(VENV)/.dev
	DS_BUILD_OPS=0 $(PIP_INSTALL) --no-build-isolation deepspeed
	@touch $@

slow: $(VENV)/.slow
	$(BIN)/python -m pytest -m slow

# In both environments (floor and newest), packages that pyproject.toml does not name get their newest compatible
# version. An existing environment is updated. The row in docs/compatibility.md is written even if tests fail.
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

# The wheel and the source distribution are each installed into an empty environment, not into that of the checkout.
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

# Copies the pages and the files that they link to, in the layout of the checkout. mkdocs.yml states the reason.
DOCS_SOURCE := build/docs-source
DOCS_INPUTS := README.md CONTRIBUTING.md CHANGELOG.md SECURITY.md CITATION.cff LICENSE Makefile constraints.txt \
  pyproject.toml docs findings configs modeling recipes benchmarks
docs: $(VENV)/.docs
	@rm -rf $(DOCS_SOURCE) && mkdir -p $(DOCS_SOURCE) && cp -R $(DOCS_INPUTS) $(DOCS_SOURCE)
	$(BIN)/zensical build --clean --strict
	@echo 'The documentation is in build/docs/index.html.'

clean:
	rm -rf .cache build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
