# Every target sets up what it needs, under this folder and nowhere else.

.DEFAULT_GOAL := help
.PHONY: help demo test synth check soak interruptions changes findings mutants package cost diff deploy verify migration bench commands docs format up watch debug down clean lock certificates install development checkov

# make 3.81, which macOS ships, starts a simple command itself and looks it up on its own path, not on the exported one.
# With another shell than its default it leaves every command to the shell.
SHELL := /bin/bash

export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/node_modules/.bin:$(PATH)
export PIP_CACHE_DIR := $(CURDIR)/.local/cache/pip
export npm_config_cache := $(CURDIR)/.local/cache/npm
export JSII_RUNTIME_PACKAGE_CACHE_ROOT := $(CURDIR)/.local/cache/jsii
export CDK_HOME := $(CURDIR)/.local/cache/cdk
export NODE_COMPILE_CACHE := $(CURDIR)/.local/cache/node
export TMPDIR := $(CURDIR)/.local/tmp
# The CDK library is large: without compiled modules each synth takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: install ## Deploy, invoke, rotate, break and destroy on a laptop, step by step
	@python -m local.demo

test: checkov ## Run all the tests, or those of TESTS=path
	@python -m pytest --numprocesses auto --dist loadfile $(TESTS)

synth: install ## Synthesise the templates of dev into cdk.out/
	@cdk synth --quiet

check: checkov ## What CI runs: format, lint, types, tests
	@ruff format --check .
	@ruff check .
	@mypy
	@python -m pytest --numprocesses auto --dist loadfile --cov

soak: development ## 20,000 invocations with faults at random
	@python -m pytest -m soak -s

interruptions: development ## End make demo and make up with every signal at every step
	@python -m pytest -m "interruptions or not interruptions" tests/local/test_commands.py -k however

changes: development ## Change every setting on a live environment, and fail every deploy once
	@python -m pytest -m "changes or not changes" tests/local/test_changes.py tests/local/test_failures.py

mutants: development ## Weaken the hardening one way at a time, and see each noticed
	@python -m tests.mutations

findings: checkov ## Scan the templates; print what is found and why it stays
	@python -W ignore -m tools.findings

package: install ## Make the function's package; list what is in it and from where
	@python -m tools.package

cost: install ## What a month costs, item by item
	@python -W ignore -m tools.cost

diff: install ## What a deploy would change, against another revision: make diff BASE=origin/main
	@python -m tools.diff $(BASE)

ENV ?= dev

deploy: install ## Deploy one environment to the account of your credentials: make deploy ENV=dev
	@python -m tools.deploy $(ENV) $(APPROVAL)

verify: install ## Check every promise on a deployed environment: make verify ENV=dev OPTIONS=--rotate
	@python -W ignore -m tools.verify $(ENV) $(OPTIONS)

migration: ## Make the next file of migrations/: make migration NAME=add_priority_to_note
	@python3 -m tools.migration $(NAME)

format: development ## Put the code in its format
	@ruff format .
	@ruff check --fix .

up: development ## Leave the application running in a local cloud; writes .local/env
	@python -m local up

watch: development ## As make up; then apply each edit, and print the functions' logs
	@python -m local watch

debug: development ## As make watch, with a port where a debugger attaches to the serving function
	@python -m local debug

down: ## End what `make up` started
	@test ! -x .venv/bin/python || python -m local down

clean: down ## Remove all that was installed or made
	@rm -rf .venv .local node_modules cdk.out .mypy_cache .ruff_cache .pytest_cache .coverage

lock: development ## Choose the newest versions that pyproject.toml allows, and pin them by hash
	@uv pip compile -q --universal --generate-hashes --upgrade --custom-compile-command "make lock" \
	  --python-version 3.11 pyproject.toml -o requirements.txt
	@uv pip compile -q --universal --generate-hashes --upgrade --custom-compile-command "make lock" \
	  --python-version 3.11 pyproject.toml lambda_src/requirements.in --group dev -o requirements-dev.txt
	@uv pip compile -q --universal --generate-hashes --custom-compile-command "make lock" --constraints requirements-dev.txt \
	  --python-version 3.11 pyproject.toml lambda_src/requirements.in --group tools -o tools/requirements.txt
	@uv pip compile -q --universal --generate-hashes --upgrade --custom-compile-command "make lock" \
	  --python-version 3.11 --group node -o tools/requirements-node.txt
	@uv pip compile -q --universal --generate-hashes --upgrade --custom-compile-command "make lock" \
	  --python-version 3.11 --group cloud -o local/requirements.txt
	@uv pip compile -q --universal --generate-hashes --upgrade --custom-compile-command "make lock" \
	  --python-version 3.11 --group bench -o benchmarks/requirements.txt
	@uv pip compile -q --universal --generate-hashes --upgrade --custom-compile-command "make lock" \
	  --python-version 3.11 --group checkov -o tests/requirements-checkov.txt
	@uv pip compile -q --universal --generate-hashes --upgrade --custom-compile-command "make lock" \
	  --python-version 3.11 lambda_src/requirements.in -o lambda_src/requirements.txt

certificates: development ## Write RDS's root certificates anew, from AWS's trust stores
	@python -m tools.root_certificates

install:
	@python3 -m tools.install

development:
	@python3 -m tools.install development

docs: checkov ## Write the generated tables and pictures of README and docs/
	@PYTHONPATH=lambda_src python -W ignore -m tests.documents

bench: ## Measure everything; writes docs/performance.md
	@python3 -m tools.install development bench
	@PYTHONPATH=lambda_src python -W ignore -m benchmarks

commands: install ## Measure make demo, test and check in a fresh clone
	@python -m benchmarks.commands

checkov:
	@python3 -m tools.install development checkov
