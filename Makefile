# The commands of this repository. `make health` and `make test` work on a fresh machine with Python 3.11+.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# katax and the embedded Redis alone: what develops and tests it is three times as large.
USABLE := $(VENV)/.usable
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
# Tests wait more than they compute: five workers keep two processors busy.
WORKERS ?= 5
# Each worker would compile pytest's plugins anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: health test test-pure test-lowest test-highest test-engine lint lint-deploy check format package bench soak completions docs site types pictures clean

health: $(firstword $(wildcard $(STAMP)) $(USABLE))  ## Install into .venv and show the health of the embedded default
	$(BIN)/katax -p local health

test: $(STAMP)  ## Get the servers and run the whole suite
	$(BIN)/python -m tests.servers fetch
	$(BIN)/python -m tests.compiled
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-pure: $(STAMP)  ## What needs no server
	$(BIN)/python -m pytest -n $(WORKERS) tests/core tests/profiles tests/test_import_hygiene.py tests/test_docs.py $(ARGS)

test-lowest test-highest: test-%: $(STAMP)  ## With the oldest, or newest, dependencies that pyproject.toml allows
	$(BIN)/python -m tests.versions $* $(ARGS)

test-engine: $(STAMP)  ## What touches one engine: ENGINE=redis, on KATAX_TEST_REDIS_URL where that is set
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/engines tests/services -k $(ENGINE) $(ARGS)

lint: $(STAMP)  ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy examples
	$(BIN)/lint-imports

lint-deploy:  ## What tools from packages say of deploy/ and .github/
	deploy/lint.sh

check: lint test  ## All that a change must pass

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

package: $(STAMP)  ## Build dist/, install the wheel with pipx on every Python here and use it: ARGS='3.12 3.13'
	$(BIN)/python -m tests.package $(ARGS)

bench: $(STAMP) $(PEERS_STAMP)  ## Side by side with peers, in one run; writes docs/performance.md: ARGS='cache pool'
	KATAX_BENCH_NODE=$(abspath $(PEERS))/node $(PEERS)/bin/python benchmarks/run.py $(ARGS)

soak: $(STAMP)  ## 30 minutes of chaos, with a report in .soak/; or one soak: ARGS='cron --seconds 60 sqlite'
	$(BIN)/python -m tests.soak$(if $(ARGS),.$(ARGS))

completions: $(STAMP)  ## Write completions/ from the command tree
	$(BIN)/python -m katax_cli.cli.completion.commands completions

docs: $(STAMP)  ## Write docs/commands.md and the manual pages from --help
	$(BIN)/python -m tests.cli.reference docs/commands.md
	$(BIN)/python -m katax_cli.cli.manual.pages man

site: $(STAMP)  ## Build the site of the documentation into .site/
	$(BIN)/python -m pip install --quiet --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

types: $(STAMP)  ## mypy and pyright, both strict, on all examples; pyright comes from npm at its first run
	$(BIN)/python -m pip install --quiet pyright
	rm -rf .types && mkdir .types && $(BIN)/python -m tests.reference .types
	$(BIN)/mypy examples
	cd .types && ../$(BIN)/mypy --strict --python-version 3.11 .
	$(BIN)/pyright --pythonpath $(BIN)/python examples .types/*.py

pictures: $(STAMP)  ## Draw docs/tour.svg from the real output of its commands
	$(BIN)/python -m tests.pictures

clean:
	rm -rf $(VENV) .venv-3.* .venv-lowest .venv-highest .venv-lint $(PEERS) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .site .soak .types

$(USABLE): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[embedded]'
	touch $@

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev
	touch $@

$(PEERS_STAMP): pyproject.toml benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(PEERS)/bin/python -m pip install --quiet --editable . --group dev -r benchmarks/requirements.txt
	if command -v npm >/dev/null; then npm install --silent --no-save --prefix $(PEERS)/node socket.io; fi
	touch $@
