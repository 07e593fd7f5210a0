# Everything a newcomer needs: `make run` and `make test`. Both make their own virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test lint types walls unit bench clean format

run: $(STAMP) ## start the controller on a scratch copy of the examples
	@$(BIN)/python examples/try.py

test: lint types walls unit ## lint, types, architecture contracts, tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

walls: $(STAMP)
	$(BIN)/lint-imports --no-cache

unit: $(STAMP) ## a worker for each core; a file's tests stay together
	$(BIN)/pytest -n auto --dist loadfile

bench: $(STAMP) ## every operation with its ratio to a floor measured in the same run
	$(BIN)/python -m tests.bench

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) scratch .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
