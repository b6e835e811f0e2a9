# The verbs of this repository. `make` alone prints them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMPS := .venv/.stamps
# The tests start some hundred Pythons: without compiled files each of them compiles the whole product first.
unexport PYTHONDONTWRITEBYTECODE
COMPILE := $(BIN)/uv pip compile --universal --generate-hashes --no-header --no-annotate -q

.PHONY: help setup setup-test servers demo test unit integration journey bench check format lock clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMPS)/run ## create .venv with `mailvet` in it; safe to repeat

setup-test: $(STAMPS)/test ## setup, and what the tests need: packages, RabbitMQ, a MongoDB wire server
	@bash deploy/bootstrap/servers.sh || [ "$$CI" != true ]

$(STAMPS)/venv: deploy/bootstrap/python.sh
	@PYTHON=$(PYTHON) bash deploy/bootstrap/python.sh
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: $(STAMPS)/venv requirements/run.txt pyproject.toml
	@echo "setup: installing the locked packages"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(STAMPS)/test: $(STAMPS)/run requirements/test.txt
	@echo "setup: installing the locked test packages"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/test.txt
	@touch $@

servers: ## install the servers the tests run against (RabbitMQ, FerretDB, Chromium, Postfix, Exim)
	@bash deploy/bootstrap/servers.sh

demo: setup ## verify the sample list against the built-in mail lab, end to end
	@$(BIN)/mailvet demo

test: setup-test check ## the whole test suite: style, types, unit, integration, journeys
	@$(BIN)/python -m pytest -q tests/unit tests/integration tests/journey

unit: $(STAMPS)/test ## only the tests without a network
	@$(BIN)/python -m pytest -q tests/unit

integration: setup-test ## only the tests against real servers
	@$(BIN)/python -m pytest -q tests/integration

journey: setup-test ## only the tests with real processes
	@$(BIN)/python -m pytest -q tests/journey

bench: setup-test ## every benchmark, as ratios within one run
	@$(BIN)/python -m tests.bench

check: $(STAMPS)/test ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy

format: $(STAMPS)/test ## let ruff rewrite what it can
	@$(BIN)/ruff check -q --fix .
	@$(BIN)/ruff format -q .

lock: $(STAMPS)/venv ## resolve pyproject.toml anew into requirements/
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@$(COMPILE) --extra build pyproject.toml -o requirements/run.txt
	@$(COMPILE) --extra build --extra test pyproject.toml -o requirements/test.txt

clean: ## remove .venv, caches and var/
	@rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache var
