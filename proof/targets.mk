# What shows the promises: minutes where `make test` takes seconds.

.PHONY: prove soak interruptions changes data mutants explore network findings cost docs reading bench commands checkov

PROVE = `make prove` adds proof/: faults, interrupted commands, deploys that fail, scanners, recipes, documents.
check: PYTEST += --cov
check: checkov

prove: checkov ## Run the tests of every promise: proof/
	@$(PYTEST) proof

soak: development ## 20,000 invocations and 5,000 writes with faults at random
	@python -m pytest -m soak -s proof/functions

interruptions: development ## End make demo and make up with every signal at every step
	@python -m pytest -m "interruptions or not interruptions" proof/cloud/test_commands.py -k however

changes: development ## Change every setting on a live environment, and fail every deploy once
	@python -m pytest -m "changes or not changes" proof/cloud/test_changes.py proof/cloud/test_failures.py

data: development ## Move an environment's data, restore it, and adopt a database; prints what it compares
	@python -m pytest -m data -s -q proof/cloud/test_data.py

mutants: development ## Weaken the hardening one way at a time, and see each noticed
	@python -m proof.weakenings

explore: development ## Try every schedule of concurrent deploys and rotations, up to a bound, on a real MySQL
	@PYTHONPATH=lambda_src python -m proof.exploration --whole

network: development ## Take each rule, endpoint statement and key statement away once; writes proof/network.md
	@python -W ignore -m proof.network

findings: checkov ## Scan the templates; print what is found and why it stays
	@python -W ignore -m proof.findings

cost: install ## What a month costs, item by item
	@python -W ignore -m proof.cost

docs: checkov ## Write the generated tables and pictures of README and docs/
	@PYTHONPATH=lambda_src python -W ignore -m proof.documents

reading: install ## How long the first pages take to read
	@python -m proof.reading

bench: ## Measure everything; writes proof/performance.md
	@python3 -m proof.install bench
	@PYTHONPATH=lambda_src python -W ignore -m proof.benchmarks

commands: install ## Measure make demo and make test in a fresh clone
	@python -m proof.benchmarks.commands

checkov:
	@python3 -m proof.install checkov
