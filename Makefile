# `make` lists what there is. `make demo` and `make test` set up everything by themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up
TESTS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo servers test fuzz check bench format clean

help:  ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP)  ## Make .venv and install rolekit with everything that demo and tests need

$(SETUP): pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and f"rolekit needs Python 3.11 or newer, but $(PYTHON) is {v}. Name another: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements-dev.lock -e '.[embedded,mail,dev]'
	@touch $@

demo: $(SETUP)  ## Run mailflow and send it mail (ONCE=1: check and end; DATABASE=postgresql://…: on your server)
	$(if $(DATABASE),ROLEKIT_DATABASE='$(DATABASE)') $(if $(BROKER),ROLEKIT_BROKER='$(BROKER)') $(BIN)/python -m examples.mailflow.demo $(if $(ONCE),--once)

servers: $(SETUP)
	$(BIN)/python -m tests.servers

test: servers  ## Run every test (TESTS='tests/unit -k retry': only those)
	$(BIN)/python -m pytest $(TESTS)

fuzz: $(SETUP)  ## Feed a million frames with faults to the demultiplexer (SEED=2: others)
	$(BIN)/python -m tests.fuzz.fuzz_demux --frames 1000000 --seed $(or $(SEED),1)

check: $(SETUP)  ## Lint, formatting, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports

bench: $(SETUP)  ## Measure the Postgres transport (docs/why/performance.md says what)
	$(BIN)/python -m benchmarks.postgres_transport

format: $(SETUP)  ## Format the code
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

clean:  ## Remove what was built: .venv, caches, and the data of the demo (.rolekit)
	rm -rf $(VENV) .rolekit build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
