# Every target that a person or CI calls. `make` alone prints them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := libs/common_core/src libs/huleedu_service_libs/src examples/essay_pipeline/src

.PHONY: help
help: ## print this help
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv/installed: requirements/dev.txt requirements/uv.txt $(wildcard libs/*/pyproject.toml) examples/essay_pipeline/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setup: installing the locked packages into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt requirements/uv.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
		-e libs/common_core -e libs/huleedu_service_libs -e examples/essay_pipeline
	@touch $@

.PHONY: setup
setup: .venv/installed ## create .venv and install everything into it, from the lock

.PHONY: lock
lock: .venv/installed ## resolve the dependencies anew into requirements/
	@$(BIN)/python scripts/lock.py

.PHONY: services
services: setup ## start PostgreSQL, Redis and Kafka, print their addresses, stop them on Ctrl-C
	@$(BIN)/python -m huleedu_service_libs.testing.devstack

.PHONY: demo
demo: setup ## send 200 essays through three services on real servers and verify what arrived
	@$(BIN)/python -m essay_pipeline.demo

.PHONY: demo-web
demo-web: setup ## the same, then keep the page open until Ctrl-C
	@$(BIN)/python -m essay_pipeline.demo --web

.PHONY: lint
lint: setup ## format check, lint rules and import contracts
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-logo

.PHONY: type
type: setup ## mypy, strict
	@$(BIN)/mypy $(PACKAGES) libs/*/tests examples/essay_pipeline/tests tests scripts benchmarks conftest.py

.PHONY: format
format: setup ## rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: generate
generate: setup ## write error factories, the pages of the reference, Grafana's dashboards from their descriptions
	@$(BIN)/python scripts/generate_errors.py
	@$(BIN)/python scripts/generate_dashboards.py
	@$(BIN)/python scripts/generate_reference.py

# Two at a time, since tests wait more than they work. Each worker has servers of its own and takes file after file.
WORKERS ?= 2
SPREAD = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
.PHONY: test
test: lint type ## everything: lint, types, import contracts, unit, property, conformance, integration, examples (WORKERS=0: one after the other)
	@$(BIN)/python -m pytest $(SPREAD)

.PHONY: contract
contract: setup ## what the services rely on: names, signatures, formats, the defects that must not return
	@$(BIN)/python -m pytest tests/contract -q

.PHONY: house
house: setup ## figures of the house: long modules and functions, exports that nobody needs, unused code
	@$(BIN)/python scripts/house.py

.venv-lowest/installed: pyproject.toml requirements/uv.txt $(wildcard libs/*/pyproject.toml) .venv/installed
	@echo "lowest: resolving the lowest direct versions into .venv-lowest"
	@$(BIN)/uv venv --quiet --clear --no-python-downloads --python 3.11 .venv-lowest \
		|| { echo "lowest: there is no Python 3.11 here, so with that of .venv"; $(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest; }
	@$(BIN)/uv pip compile --quiet --python=.venv-lowest/bin/python --resolution=lowest-direct --no-annotate --no-header \
		--no-emit-index-url --no-emit-package=huleedu-common-core --no-emit-package=huleedu-service-libs \
		pyproject.toml libs/common_core/pyproject.toml libs/huleedu_service_libs/pyproject.toml \
		--all-extras --group=test --group=build --output-file=.venv-lowest/lowest.txt >/dev/null
	@$(BIN)/uv pip sync --quiet --python .venv-lowest/bin/python .venv-lowest/lowest.txt
	@$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --no-deps --no-build-isolation \
		-e libs/common_core -e libs/huleedu_service_libs
	@touch $@

LOWEST := architecture/test_imports.py moving_in foundation http_client/test_hostile_upstreams.py health/test_servers.py \
	errors/test_handlers.py
TESTS ?= $(addprefix libs/huleedu_service_libs/tests/,$(LOWEST))
.PHONY: lowest
lowest: .venv-lowest/installed ## the lowest versions that we say we work with, resolved anew: every import, the core flows (TESTS=... for others)
	@.venv-lowest/bin/python -m pytest -q -p no:cacheprovider $(TESTS)

PYTHONS ?= 3.11 3.12 3.13
.PHONY: pythons
pythons: setup ## every Python of PYTHONS that is here, with the locked packages: every import, the core flows (TESTS=... for others)
	@$(BIN)/python scripts/pythons.py --versions $(PYTHONS) -- $(TESTS)

DEFECTS ?=
.PHONY: defects
defects: setup ## bring defects of the earlier library back one by one: a test must find each (DEFECTS="12 23" only these)
	@$(BIN)/python scripts/return_defects.py $(DEFECTS)

.venv-bench/installed: requirements/dev.txt requirements/bench.txt requirements/uv.txt .venv/installed
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@echo "bench: installing the peers into .venv-bench"
	@$(BIN)/uv pip sync --quiet --python .venv-bench/bin/python --require-hashes requirements/dev.txt requirements/bench.txt
	@$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --no-deps --no-build-isolation \
		-e libs/common_core -e libs/huleedu_service_libs
	@touch $@

SUBJECT ?=
.PHONY: bench
bench: .venv-bench/installed ## side by side with peers: all (ARGS=--short only tries them), or SUBJECT=breaker; benchmarks/results/*.json
	@test -z "$(SUBJECT)" || test -f "benchmarks/bench_$(SUBJECT).py" || { \
		echo "bench: no subject '$(SUBJECT)'; there are: $(patsubst benchmarks/bench_%.py,%,$(wildcard benchmarks/bench_*.py))" >&2; exit 2; }
	@.venv-bench/bin/python benchmarks/$(if $(SUBJECT),bench_$(SUBJECT),every_subject).py $(ARGS)

.PHONY: bench-docs
bench-docs: setup ## put the results of make bench into docs/benchmarks.md
	@$(BIN)/python benchmarks/in_docs.py

.PHONY: drills
drills: .venv-bench/installed ## outages on real servers, drawn into docs/concepts/drills.svg
	@PYTHONPATH=benchmarks .venv-bench/bin/python -m drills

KILLS ?= 1000
ONLY ?=
.PHONY: chaos
chaos: setup ## kill processes and servers a thousand times and judge what is left (KILLS=200 ONLY=relay)
	@PYTHONPATH=benchmarks $(BIN)/python -m chaos --kills $(KILLS) --only "$(ONLY)" --sabotage

.PHONY: chaos-docs
chaos-docs: setup ## put the results of make chaos into docs/concepts/chaos.md
	@PYTHONPATH=benchmarks $(BIN)/python -m chaos.document

.PHONY: clean
clean: ## remove what these targets made
	@rm -rf .venv .venv-bench .venv-lowest .venv-python* .cache artifacts dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
