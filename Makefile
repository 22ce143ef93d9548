# Every target works on a fresh clone: it makes .venv itself and installs what it needs.
# `make help` lists them.

MAKEFLAGS += --no-print-directory
PORT ?= 8000
STORE ?= sqlite
CACHE ?= sqlite
PYTEST_ARGS ?=
BENCH ?= tasks
# One test process more than cores, for tests wait: for leases, for ends of lifetimes, for what they started. Each file is
# in one of them; a server that tests share is started once for each.
CORES = $(shell getconf _NPROCESSORS_ONLN)
PARALLEL ?= --numprocesses $(shell expr $(CORES) + 1) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
PY := .venv/bin/python
ENVIRONMENT := pyproject.toml scripts/venv.sh

.PHONY: help demo test lint format types docs bench soak coverage lock clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/.$(if $(filter pymemcache pylibmc,$(CACHE)),dev,demo)-stamp  ## Start the example site and its worker (PORT=8000, STORE=sqlite, redis or celery, CACHE=sqlite, redis, file, …)
	@PORT=$(PORT) STORE=$(STORE) CACHE=$(CACHE) exec $(PY) examples/frontdesk/manage.py demo

test: .venv/.dev-stamp  ## Run the tests, with real servers, processes and a browser
	@scripts/system-packages.sh postgresql pgbouncer redis memcached rabbitmq chromium
	@$(PY) -m pytest $(PARALLEL) $(PYTEST_ARGS)

lint: .venv/.dev-stamp  ## Check style, formatting and the direction of imports
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/lint-imports --no-cache

format: .venv/.dev-stamp  ## Format the code and apply the fixes that are safe
	@.venv/bin/ruff check --fix --exit-zero
	@.venv/bin/ruff format

types: .venv/.dev-stamp  ## Check types: mypy on everything, basedpyright on the public API
	@.venv/bin/mypy
	@.venv/bin/basedpyright

docs: .venv/.dev-stamp  ## Check the docs' links and run their commands and snippets
	@$(PY) -m pytest tests/test_docs.py $(PYTEST_ARGS)

bench: .venv-bench/.bench-stamp .venv-bench/.arq-stamp  ## Measure, side by side with peers, and print the table (BENCH=tasks, sessions or cache)
	@scripts/system-packages.sh postgresql redis memcached
	@.venv-bench/bin/python -m benchmarks.$(BENCH) $(BENCH_ARGS)

soak: .venv/.dev-stamp  ## Run the tests that take many minutes on purpose
	@scripts/system-packages.sh postgresql pgbouncer redis memcached rabbitmq
	@$(PY) -m pytest -m soak --timeout=7200 $(PYTEST_ARGS)

coverage: .venv/.dev-stamp  ## Run the tests and say which lines none of them reached
	@scripts/system-packages.sh postgresql pgbouncer redis memcached rabbitmq chromium
	@.venv/bin/coverage erase
	@.venv/bin/coverage run -m pytest $(PYTEST_ARGS); status=$$?; \
	.venv/bin/coverage combine --quiet && .venv/bin/coverage report && exit $$status

lock: .venv/.dev-stamp  ## Write requirements/*.txt anew from pyproject.toml
	@scripts/lock.sh

clean:  ## Remove the environments and caches
	rm -rf .venv .venv-bench .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*

# One of the clients of memcached comes without wheels and is built here.
.venv/.dev-stamp: requirements/dev.txt $(ENVIRONMENT)
	@scripts/system-packages.sh libmemcached
	@PYTHON="$(PYTHON)" scripts/venv.sh dev

# The dev environment holds all that the demo needs, so one that is up to date will do; the clients of memcached it has alone.
.venv/.demo-stamp: requirements/demo.txt $(ENVIRONMENT)
	@PYTHON="$(PYTHON)" scripts/venv.sh demo

# One peer needs an older client than all the others, so it has a folder of its own.
.venv-bench/.arq-stamp: benchmarks/requirements-arq.txt | .venv-bench/.bench-stamp
	@rm -rf .venv-bench/arq
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
		--target .venv-bench/arq -r $<
	@touch $@

.venv-bench/.bench-stamp: benchmarks/requirements.txt $(ENVIRONMENT)
	@scripts/system-packages.sh libmemcached
	@PYTHON="$(PYTHON)" scripts/venv.sh bench
