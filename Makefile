SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test check golden clean

help:  ## Lists the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## Makes .venv with everything for CPU

$(STAMP): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sdbench needs Python 3.11 or newer; found $$($(PYTHON) --version). Set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints-cpu.txt torch
	$(BIN)/python -m pip install --quiet -c constraints-cpu.txt -e '.[dev]'
	@touch $(STAMP)

quickstart: setup  ## Trains, evaluates and compares all conditions on the tiny suite
	$(BIN)/sdbench bench tiny --seeds 2

test: setup  ## Runs the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q

check: setup  ## Lints, checks the format and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

golden:  ## Writes golden files anew; say why in the commit
	SDBENCH_GOLDEN=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests

clean:  ## Removes the environment and caches, but no runs
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
