# Everything that a person or CI runs; `make` alone lists it.
# It needs Python 3.11, 3.12 or 3.13 with its venv module, and keeps to this folder.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# make demo PYTHON=python3.12: the interpreter of a new environment; by default the first that fits.
PYTHON ?=
# make ui PORT=3001
PORT ?= 3000
# make test TESTS=etl_ml_tests/lake PYTEST_FLAGS=-x
TESTS ?=
PYTEST_FLAGS ?= --numprocesses=auto --dist=loadfile --no-loadscope-reorder --durations=25
# make lock LOCK_FLAGS=--upgrade
LOCK_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
HOME_OF_DAGSTER := .etl_ml/dagster

# Three warnings are Dagster's about itself and its own commands; nobody here can act on them.
QUIET := ignore:Function `asset_materialize_command` is superseded,$\
ignore:Function `dev_command` is superseded,$\
ignore:Parameter `include_sources` of function `AssetSelection.groups` is currently in beta
DAGSTER = DAGSTER_HOME="$(CURDIR)/$(HOME_OF_DAGSTER)" PYTHONWARNINGS='$(QUIET)' $(BIN)/dagster

.PHONY: help
help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

## Running

.PHONY: demo
demo: $(VENV)/.base $(HOME_OF_DAGSTER)/dagster.yaml ## install, run the phishing pipeline end to end, show what came out
	@echo "Running the phishing pipeline: 1,250 web pages in, a verified model out. Half a minute."
	@$(DAGSTER) asset materialize -m etl_ml.definitions --select 'group:phishing'
	@echo
	@$(BIN)/etl-ml show phishing
	@touch .etl_ml/.demo
	@echo
	@echo "Next: make ui   the run, its assets, checks and reports, on http://localhost:$(PORT)"

.PHONY: ui
ui: $(VENV)/.base $(HOME_OF_DAGSTER)/dagster.yaml .etl_ml/.demo ## Dagster's UI on port 3000 with the demo's run in it
	@$(DAGSTER) dev -w workspace.yaml -p $(PORT)

## Developing

.PHONY: test
test: $(VENV)/.dev ## install what the tests need and run them all; with CI set, a skipped test is a failure
	$(BIN)/python -m pytest $(PYTEST_FLAGS) $(if $(CI),--junitxml=build/tests.xml) $(TESTS)
	$(if $(CI),$(BIN)/python .ci/nothing_skipped.py build/tests.xml)

.PHONY: check
check: $(VENV)/.dev ## lint, formatting, types, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict etl_ml
	$(BIN)/lint-imports

.PHONY: docs
docs: $(VENV)/.dev ## build the documentation into build/site; make docs SERVE=1 shows it and follows changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(if $(SERVE),serve,build --strict --quiet)

.PHONY: format
format: $(VENV)/.dev ## format, and mend what can be mended without thinking
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: schema
schema: $(VENV)/.dev ## make the JSON schema of a pipeline anew, after a change of its models
	$(BIN)/python -m etl_ml.spec.json_schema

.PHONY: lock
lock: ## resolve the dependencies of pyproject.toml anew; LOCK_FLAGS=--upgrade takes newer versions
	@test -x $(BIN)/uv || $(MAKE) $(VENV)/.dev
	$(COMPILE) -o requirements.lock
	$(COMPILE) -o requirements-image.lock --extra all -c requirements.lock
	$(COMPILE) -o requirements-dev.lock --extra dev -c requirements-image.lock

COMPILE = UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile pyproject.toml --quiet \
	--universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-strip-extras \
	--no-emit-package etl-ml --no-emit-index-url --no-emit-find-links $(LOCK_FLAGS)

.PHONY: clean
clean: ## remove the environment, caches and build output; data and models (.etl_ml) stay
	rm -rf $(VENV) node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find etl_ml etl_ml_tests -name __pycache__ -type d -prune -exec rm -rf {} +

## What the targets above stand on

# Prints the Python version and succeeds if etl_ml runs on it.
FITS := import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

$(VENV)/pyvenv.cfg:
	@for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do \
	  if version=$$("$$python" -c '$(FITS)' 2>/dev/null); then \
	    echo "Creating $(VENV) with Python $$version"; \
	    "$$python" -m venv --clear $(VENV) && exit 0; \
	    rm -rf $(VENV); \
	    exit 1; \
	  fi; \
	  seen="$$seen $$python ($${version:-not found})"; \
	done; \
	echo "etl_ml needs Python 3.11, 3.12 or 3.13. Tried:$$seen." >&2; \
	echo "Install one of these, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
	exit 1

# An environment is never changed to another Python silently.
.PHONY: same-python
same-python: $(VENV)/pyvenv.cfg
	@version=$$($(BIN)/python -c '$(FITS)') || { \
	  echo "$(VENV) holds Python $$version; etl_ml needs 3.11, 3.12 or 3.13. Run: make clean" >&2; exit 1; }; \
	if [ -n "$(PYTHON)" ]; then \
	  asked=$$("$(PYTHON)" -c '$(FITS)'); \
	  if [ "$$asked" != "$$version" ]; then \
	    echo "$(VENV) holds Python $$version, not $(PYTHON) ($${asked:-not found}). Run: make clean" >&2; exit 1; \
	  fi; \
	fi

# $(call install,LOCK): exactly the locked packages, each checked against its hash, then this one.
define install
	@echo "Installing $$(grep -c == $(1)) packages from $(1); the first time takes some minutes."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(1)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endef

$(VENV)/.base: requirements.lock pyproject.toml | same-python
	$(call install,requirements.lock)
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | same-python
	$(call install,requirements-dev.lock)
	@touch $(VENV)/.base $@

$(HOME_OF_DAGSTER)/dagster.yaml: ops/dagster.yaml
	@mkdir -p $(@D)
	@cp $< $@

.etl_ml/.demo:
	@$(MAKE) demo
