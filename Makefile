# The front door. `make` lists what can be done; every target installs what it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
.DEFAULT_GOAL := help
.PHONY: help install demo test lint types check coverage ci dist verify simulate mutants venue bench bench-quick bench-page bench-venue docs clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## ?(.*)/\1|\2/' | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'

$(INSTALLED): setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

install: $(INSTALLED)  ## Create .venv and install qkt with everything the other targets need

demo: $(INSTALLED)  ## Watch a bot lose its connection, miss a fill, and be healed: half a minute, no account
	@$(BIN)/qkt demo

test: $(INSTALLED)  ## The fast suite: under two minutes, loopback only
	@$(BIN)/python -m pytest -q -m "not verify" -n 2 --dist loadfile

lint: $(INSTALLED)  ## ruff: style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED)  ## mypy --strict, and pyright: the type of every public symbol is known
	@$(BIN)/mypy
	@$(BIN)/python tests/support/public_types.py

check: lint types  ## ruff, mypy --strict and the architecture test
	@$(BIN)/python -m pytest -q tests/test_architecture.py

coverage: $(INSTALLED)  ## The fast suite with coverage and its floors: all of qkt, and branches of orders/ and reconcile/
	@$(BIN)/python -m pytest -q -m "not verify" -n 2 --dist loadfile --cov=qkt --cov-branch --cov-report=json:.coverage.json
	@$(BIN)/python tests/support/coverage_floors.py .coverage.json

ci: check coverage  ## Exactly what CI runs

dist: $(INSTALLED)  ## Build sdist and wheel, and install the wheel into an empty environment
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	@$(BIN)/python -m build --quiet
	@rm -rf build/empty && $(PYTHON) -m venv build/empty && build/empty/bin/pip install --quiet dist/*.whl
	@build/empty/bin/qkt version

verify: $(INSTALLED)  ## What is longer than the fast suite: at most fifteen minutes
	@$(BIN)/python -m pytest -q -m verify

mutants: $(INSTALLED)  ## Mutate the heart one change at a time and list what no test notices; ARGS="--quick qkt.orders.machine"
	@$(BIN)/python -m tests.mutation $(ARGS)

simulate: $(INSTALLED)  ## Search for broken promises in simulated schedules; ARGS="--seconds 3600 --workers 2 --seeds N --first N"
	@$(BIN)/python -m tests.simulation $(ARGS)

$(VENV)/.docs: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

venue: $(INSTALLED)  ## Run the simulated Bybit on this machine until Ctrl-C
	@$(BIN)/qkt venue

bench: $(INSTALLED)  ## Measure qkt beside pybit, ccxt and its bare dependencies: the whole table
	@$(BIN)/python -m tests.benchmarks

bench-quick: $(INSTALLED)  ## The same from shorter runs, two minutes; fails if a row became worse by a factor of two
	@$(BIN)/python -m tests.benchmarks quick

bench-page: $(INSTALLED)  ## Measure, and write table and curves into docs/explanation/performance.md
	@$(BIN)/python -m tests.benchmarks page
	@$(BIN)/python docs/performance_plot.py

bench-venue: $(INSTALLED)  ## Measure what the simulated venue bears on one core: requests and frames per second
	@$(BIN)/python tests/benchmarks/venue.py

docs: $(VENV)/.docs  ## Build the documentation without a warning into docs/_build
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

clean:  ## Remove the virtual environment and every build product
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis docs/_build
