# Everything below works from a fresh clone; .venv/ is made on the way.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-again test-engines check format pictures clean

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# pip on a machine with wheels on local disk knows where they are; uv has to be told
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

help:
	@echo "make run           the environment, the default model and the quick preset: a table in a few minutes"
	@echo "make test          the tests, with the real default model in the environment \`torch\`"
	@echo "make test-again    those that failed, one after another"
	@echo "make test-engines  the tests of each engine at work, in all their environments, which are made on the way"
	@echo "make check         ruff, mypy --strict, the import contracts, dead code"
	@echo "make format        ruff format"
	@echo "make pictures      the pictures of the screens and docs/pictures/run.cast, from the recording of kasoku --demo"

.venv/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "kasoku needs Python 3.11 or later: install one, or make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[serve]" --group dev
	@touch $@

setup: .venv/.installed

run: setup
	$(BIN)/kasoku env create torch
	$(BIN)/kasoku models fetch smollm2-135m
	$(BIN)/kasoku run --preset quick

test: setup
	$(BIN)/python -m pytest -m "not engines" -n 4 --dist loadfile --no-loadscope-reorder --durations=10

# those that failed, one after another on a machine that has nothing else to do
test-again: setup
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --durations=10

test-engines: setup
	$(BIN)/python -m pytest -m engines -n 2 --dist loadfile --no-loadscope-reorder --durations=10 -rs

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pictures: setup
	$(BIN)/python benchmarks/pictures.py
	$(BIN)/python benchmarks/recording.py

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
