# Every target sets up what it needs, under this folder and nowhere else. A folder that is deleted takes its targets along.

.DEFAULT_GOAL := help
.PHONY: help test synth check format clean lock install development

# make 3.81, which macOS ships, starts a simple command itself and looks it up on its own path, not on the exported one.
# With another shell than its default it leaves every command to the shell.
SHELL := /bin/bash

export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/node_modules/.bin:$(PATH)
export PIP_CACHE_DIR := $(CURDIR)/.local/cache/pip
export npm_config_cache := $(CURDIR)/.local/cache/npm
export JSII_RUNTIME_PACKAGE_CACHE_ROOT := $(CURDIR)/.local/cache/jsii
export CDK_HOME := $(CURDIR)/.local/cache/cdk
export TMPDIR := $(CURDIR)/.local/tmp
# The CDK library is large: without compiled modules each synth takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

# The local runs install what the other commands need too.
INSTALL = python3 -m $(if $(wildcard local),local,operations).install
# One worker more than processors, because some tests wait for deadlines.
PYTEST = python -m pytest --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: development ## Run the tests of the application and of the local cloud, or those of TESTS=path
	@$(PYTEST) $(or $(TESTS),tests $(wildcard local/tests)); status=$$?; \
	  echo 'Ran: $(or $(TESTS),tests $(wildcard local/tests)). $(PROVE)'; exit $$status

synth: install ## Synthesise the templates of dev into cdk.out/
	@cdk synth --quiet

check: development ## What CI runs: format, lint, types, and every test
	@status=0; for each in "ruff format --check ." "ruff check ." mypy; do $$each || status=1; done; \
	  $(PYTEST) || status=1; exit $$status # The tests' closing line comes last, whatever failed.

format: development ## Put the code in its format
	@ruff format .
	@ruff check --fix .

clean: ## Remove all that was installed or made
	@rm -rf .venv .local node_modules cdk.out .mypy_cache .ruff_cache .pytest_cache .coverage

COMPILE = .local/installer/bin/uv pip compile -q --cache-dir .local/cache/uv --universal --no-strip-extras --generate-hashes --custom-compile-command "make lock" --python-version 3.11
lock: development ## Choose the newest versions that pyproject.toml allows, and pin them by hash
	@$(COMPILE) --upgrade lambda_src/requirements.in -o lambda_src/requirements.txt
	@$(COMPILE) --upgrade pyproject.toml lambda_src/requirements.in --group dev -o requirements/development.txt
	@$(COMPILE) --constraints requirements/development.txt pyproject.toml -o requirements.txt # What tests run on.
	@$(COMPILE) --constraints requirements/development.txt pyproject.toml lambda_src/requirements.in --group tools \
	  -o requirements/tools.txt
	@for group in uv node cloud bench checkov; do $(COMPILE) --upgrade --group $$group -o requirements/$$group.txt; done

install:
	@$(INSTALL)

development:
	@$(INSTALL) development

include $(wildcard operations/targets.mk local/targets.mk proof/targets.mk)

# README names commands of folders that a copy may have deleted.
ABSENT = echo 'make $@: no such command here. `make` lists those that this copy has; local/ and proof/ bring more.' >&2; exit 2
.DEFAULT:
	@$(ABSENT)

ifeq ($(wildcard proof/targets.mk),)
.PHONY: docs
docs: # There is a folder of that name.
	@$(ABSENT)
endif
