# `make` lists what there is. `make demo` and `make test` set up everything by themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up
BENCH := .venv-bench/.set-up
TESTS ?=
# Files in the order of their names: many short ones, of tests/unit, come last, so that no
# worker is alone with a long one. A worker that died is not replaced: xdist would repeat its
# file, and die of it, again and again.
AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help setup demo secrets servers test compose-test faults promises load simulate fuzz check bench bench-quick bench-profile format clean

help:  ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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
	$(BIN)/python -m tests.engine

# Hundreds of tests start processes. Where Python is told to write no bytecode, as in many
# images, each of them would compile rolekit again.
test: servers  ## Run every test (TESTS='tests/unit -k retry': only those)
	@$(BIN)/python -m compileall -q rolekit examples
	$(BIN)/python -m pytest $(or $(TESTS),$(AT_ONCE))

secrets:  ## Make the passwords of docker-compose.yml, in deploy/secrets
	@$(PYTHON) deploy/make_secrets.py

compose-test: $(SETUP)  ## Run docker-compose.yml on a real engine: mail, kills, a restart of the broker (COPIES=)
	$(BIN)/python -m tests.compose $(if $(COPIES),--copies $(COPIES))

faults: export ROLEKIT_PATIENCE ?= 1
faults: servers  ## Break network and servers for longer than `test` does (ROLEKIT_FLAT_S, ROLEKIT_STEADY_S: how long)
	$(BIN)/python -m pytest -s -m 'faults or load' $(or $(TESTS),tests/faults)

promises: export ROLEKIT_PATIENCE ?= 1
promises: servers  ## Measure what is promised of rolls, dashboards, stalls, longer kills and stopped instances; wants a quiet machine
	$(BIN)/python -m pytest -s -m load $(or $(TESTS),tests/process tests/examples)

load: servers  ## Put mailflow under load, five minutes each on Postgres alone and on RabbitMQ; reports in build/load (FOR=, RATE=)
	@status=0; \
	for broker in '' '--broker private'; do \
		$(BIN)/python -m examples.mailflow.load $(if $(FOR),--for $(FOR)) $(if $(RATE),--rate $(RATE)) $$broker || status=1; \
	done; \
	exit $$status

simulate: $(SETUP)  ## Let 20,000 seeds of a simulated fleet live under faults (SEEDS=, FIRST=, APP=: those)
	$(BIN)/python -m tests.property.simulate --seeds $(or $(SEEDS),20000) --first $(or $(FIRST),0) $(if $(APP),--app $(APP))

fuzz: $(SETUP)  ## Feed a million frames with faults to the demultiplexer (SEED=2: others)
	$(BIN)/python -m tests.fuzz.fuzz_demux --frames 1000000 --seed $(or $(SEED),1)

check: $(SETUP)  ## Lint, formatting, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports

bench: $(BENCH)  ## Measure rolekit and its peers side by side, judge the bars (ONLY=consume,publish ROUNDS=5)
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-quick: $(BENCH)  ## See that every benchmark runs: tiny sizes, no bars
	$(BIN)/python -m benchmarks --quick $(if $(ONLY),--only $(ONLY))

bench-profile: $(BENCH)  ## Profile rolekit's side of the benchmarks into build/bench
	$(BIN)/python -m benchmarks --profile --rounds 1 $(if $(ONLY),--only $(ONLY))

# The peers have an environment of their own. The C client is built where gcc and
# librabbitmq's headers are (Debian: gcc, librabbitmq-dev), and is left out elsewhere.
$(BENCH): $(SETUP) benchmarks/requirements-peers.lock benchmarks/peers/c_client.c
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements-peers.lock
	@mkdir -p build/bench
	@gcc -O2 -o build/bench/c_client benchmarks/peers/c_client.c -lrabbitmq 2>build/bench/c_client.log || echo 'No C client: see build/bench/c_client.log'
	@touch $@

format: $(SETUP)  ## Format the code
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

clean:  ## Remove what was built: .venv, .venv-bench, caches, and the data of the demo (.rolekit)
	rm -rf $(VENV) .venv-bench .rolekit build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
