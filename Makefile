SHELL := /bin/bash
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(or $(shell for name in python3.11 python3; do \
	$$name $(IS_NEW_ENOUGH) 2>/dev/null && echo $$name && break; done),python3)
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test check golden clean

help:  ## Lists the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## Makes .venv with everything for CPU

$(STAMP): pyproject.toml constraints-cpu.txt
	@$(PYTHON) $(IS_NEW_ENOUGH) 2>/dev/null || { echo "sdbench needs Python 3.11 or newer;" \
		"found: $$($(PYTHON) --version 2>&1 | tail -1). Name one with PYTHON=..." >&2; exit 1; }
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

golden: setup  ## Writes golden files anew; say why in the commit
	SDBENCH_GOLDEN=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q \
		$$(grep -rl --include='*.py' SDBENCH_GOLDEN tests)

clean:  ## Removes the environment and caches, but no runs
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
