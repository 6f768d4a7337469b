# One command each: make demo, make test, make check. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := $(VENV)/bench

.DEFAULT_GOAL := help
.PHONY: help venv demo serve test test-all check kubernetes bench clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

venv: $(STAMP) ## the virtual environment .venv, from requirements.lock

# uv, where it is there, does the same in seconds. Hashes are checked either way.
$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@if command -v uv >/dev/null; then \
		set -ex; uv venv --quiet --allow-existing --python $(PYTHON) $(VENV); \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock; \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
		set -ex; $(PYTHON) -m venv $(VENV); \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi
	@touch $@

demo: $(STAMP) ## the whole job on three nodes of this machine; ends by itself
	$(BIN)/reconciler demo
	@echo "Next: docs/tutorial shows each step with your own repository; make serve keeps a fleet in sync."

serve: $(STAMP) ## the service, with the settings of ./reconciler.toml
	$(BIN)/reconciler serve

# Two at a time, each file in one process: tests of a file share their nodes and their PostgreSQL.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

test: $(STAMP) ## all tests but the long ones
	$(PYTEST) -m "not slow"

test-all: $(STAMP) ## all tests
	$(PYTEST)

check: $(STAMP) ## formatting, lint, types, layers, the lock, the docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! grep -n '://' requirements.lock benchmarks/requirements.lock || { echo "a lock must hold no address" >&2; exit 1; }
	$(BIN)/pytest -q -m docs

kubernetes: ## builds what tests run as a Kubernetes cluster, from Go modules; once
	@tests/kubernetes/assets/build

# What the benchmarks measure against has packages of its own, in an environment of its own.
$(BENCH)/.installed: $(STAMP) benchmarks/requirements.lock
	@if command -v uv >/dev/null; then \
		set -ex; uv venv --quiet --allow-existing --python $(PYTHON) $(BENCH); \
		uv pip install --quiet --python $(BENCH)/bin/python --require-hashes -r benchmarks/requirements.lock; \
	else \
		set -ex; $(PYTHON) -m venv $(BENCH); \
		$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.lock; \
	fi
	@touch $@

bench: $(BENCH)/.installed ## benchmarks; those on nodes need root and sshd
	@set -e; for file in benchmarks/bench_*.py; do $(BIN)/python -m benchmarks.$$(basename $$file .py); done

clean: ## remove what make made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
