# The commands that deploy and look after an environment.

.PHONY: deploy verify diff migration certificates

ENV ?= dev

deploy: install ## Deploy one environment to the account of your credentials: make deploy ENV=dev
	@python -m operations.deploy $(ENV) $(APPROVAL)

verify: install ## Check every promise on a deployed environment: make verify ENV=dev OPTIONS=--rotate
	@python -W ignore -m operations.verify $(ENV) $(OPTIONS)

diff: install ## What a deploy would change, against another revision: make diff BASE=origin/main
	@python -m operations.diff $(BASE)

migration: ## Make the next file of migrations/: make migration NAME=add_priority_to_note
	@python3 -m operations.migration $(NAME)

certificates: development ## Write RDS's root certificates anew, from AWS's trust stores
	@python -m operations.root_certificates
