# Everything that a user or contributor runs from a checkout. `make help` lists it. Nothing here needs root.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
UV := uv==0.13.9
MANIFESTS := deploy hack src/carbon_scheduler examples

.PHONY: demo test test-fast lint control-plane bench-core parity e2e docs lock help

demo: .venv/.run-stamp ## The scheduler at work, from nothing (ARGS="--real --keep" are passed on)
	@exec $(BIN)/carbon-scheduler demo $(ARGS)

test: lint .venv/.dev-stamp ## Everything that checks the project (builds the control plane first where there is Go)
	@if [ -n "$${KUBEBUILDER_ASSETS:-}" ]; then echo "control plane: using $$KUBEBUILDER_ASSETS"; \
	elif [ "$${REQUIRE_CONTROL_PLANE:-}" = 1 ] || hack/control-plane/build.sh --check; then hack/control-plane/build.sh; \
	else echo "control plane: not built, the tests on a real API server will be skipped"; fi
	@$(BIN)/python -m pytest $(ARGS)

test-fast: .venv/.dev-stamp ## Unit and property tests only: no control plane, nothing above ten seconds
	@$(BIN)/python -m pytest -m "not control_plane and not slow" $(ARGS)

lint: .venv/.dev-stamp ## Format, lint, types, import contracts, manifests
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/yamllint --strict $(wildcard $(MANIFESTS))
	@$(BIN)/hadolint deploy/Dockerfile
	@for script in $$(git ls-files -- '*.sh' .ci/run); do bash -n $$script; done

control-plane: ## Build etcd, kube-apiserver and the rest for the integration tests (Go 1.26+, 6 minutes, cached)
	@hack/control-plane/build.sh

bench-core: .venv/.run-stamp ## What a decision of the core costs beside fixed numpy work, and its memory (ARGS="--format json")
	@$(BIN)/python bench/core.py $(ARGS)
	@[ -n "$(ARGS)" ] || $(BIN)/python bench/memory.py

parity: .venv/.dev-stamp ## Random clusters judged by us and by kube-scheduler's own plugins (CASES=20000, ARGS="--seed 7")
	@hack/control-plane/build.sh >/dev/null
	@PYTHONPATH=tests $(BIN)/python -m parity --cases $(or $(CASES),20000) $(ARGS)

e2e: .venv/.dev-stamp ## Kubernetes' own end-to-end tests of the scheduler under kube-scheduler and under ours (ARGS="--fast")
	@hack/control-plane/build.sh --e2e >/dev/null
	@PYTHONPATH=tests $(BIN)/python -m e2e $(ARGS)

docs: .venv/.run-stamp ## Write docs/reference and the pictures anew from the code (a test fails when they differ)
	@$(BIN)/python hack/reference.py
	@$(BIN)/python hack/pictures.py

lock: ## Resolve the dependencies anew into requirements/*.lock (ARGS=--upgrade takes newer versions)
	@test -x .cache/lock/bin/uv || $$(hack/find-python.sh) -m venv .cache/lock
	@.cache/lock/bin/python -m pip --disable-pip-version-check install --quiet $(UV)
	@compile() { .cache/lock/bin/uv pip compile "$$@" --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(ARGS); }; \
	compile pyproject.toml -o requirements/run.lock; \
	compile --group build -o requirements/build.lock; \
	compile pyproject.toml --group dev -o requirements/dev.lock

help: ## This list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	|| sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1: \2/p' $(MAKEFILE_LIST)

# The virtual environment. Stamps make a second run instant; they are made again when a lock or pyproject.toml changes.
$(BIN)/python:
	@$$(hack/find-python.sh) -m venv --clear .venv

.venv/.run-stamp: requirements/run.lock requirements/build.lock pyproject.toml | $(BIN)/python
	@echo "Installing $$(grep -c == requirements/run.lock) pinned packages into .venv (once) ..."
	@$(PIP) --require-hashes -r requirements/run.lock -r requirements/build.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev-stamp: .venv/.run-stamp requirements/dev.lock
	@echo "Installing $$(grep -c == requirements/dev.lock) pinned packages for development into .venv (once) ..."
	@$(PIP) --require-hashes -r requirements/dev.lock
	@touch $@
