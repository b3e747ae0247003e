# The commands that deploy and look after an environment.

.PHONY: deploy destroy verify diff migration restore adoption certificates logs invoke alarms sql

ENV ?= dev

# What stands for a flag that is given, as in $(call flag,MOVED,yes,moved). MOVED=no must not be taken for it.
flag = $(if $(filter-out $(2),$($(1))),$(error $(1)=$($(1)): expected $(1)=$(2) or nothing),$(if $($(1)),$(3)))

deploy: install ## Deploy one environment to the account of your credentials: make deploy ENV=dev
	@python -m operations.deploy $(ENV) $(APPROVAL) $(call flag,MOVED,yes,moved)

verify: install ## Check every promise on a deployed environment: make verify ENV=dev OPTIONS=--rotate
	@python -W ignore -m operations.verify $(ENV) $(OPTIONS)

destroy: install ## Destroy one environment, protected or not: make destroy ENV=dev NAME=orders-dev
	@python -W ignore -m operations.destroy $(ENV) "$(NAME)"

diff: install ## What a deploy would change, against another revision: make diff BASE=origin/main
	@python -m operations.diff $(BASE)

migration: ## Make the next file of migrations/: make migration NAME=add_priority_to_note
	@python3 -m operations.migration "$(NAME)"

restore: install ## Restore a copy, and copy a table back: make restore ENV=dev FROM=latest TABLE=note DELETE=yes
	@python -W ignore -m operations.restore $(ENV) $(if $(FROM),--from "$(FROM)") $(if $(TABLE),--table "$(TABLE)") \
	  $(call flag,DELETE,yes,--delete) $(if $(TUNNELS),--tunnels "$(TUNNELS)") $(if $(AUTHORITIES),--authorities "$(AUTHORITIES)")

adoption: install ## Say what keeps a database from becoming an environment's: make adoption ENV=prod INSTANCE=shop
	@python -W ignore -m operations.adoption $(ENV) $(INSTANCE) $(if $(TUNNEL),--tunnel $(TUNNEL)) \
	  $(if $(AUTHORITIES),--authorities "$(AUTHORITIES)")

certificates: development ## Write RDS's root certificates anew, from AWS's trust stores
	@python -m operations.root_certificates

# With ENV= they ask the account of the shell's credentials, without it the local cloud. What is given on the command
# line reaches them as it is, through their environment.
override export EVENT := $(value EVENT)
override export STATEMENT := $(value STATEMENT)
override export FUNCTION := $(value FUNCTION)
override export SINCE := $(value SINCE)
override export MASTER := $(value MASTER)
override export FOLLOW := $(value FOLLOW)
GIVEN = $(filter command,$(firstword $(origin ENV)))

logs: install ## What the functions logged: make logs FUNCTION=Migration SINCE=2h FOLLOW=1 ENV=dev
	@$(call flag,FOLLOW,1)$(if $(GIVEN),,$(LOCALLY)) python -W ignore -m operations.logs $(ENV)

invoke: install ## Invoke the function: make invoke EVENT='{"note": "hello"}' ENV=dev
	@$(if $(GIVEN),,$(LOCALLY)) python -W ignore -m operations.invocation $(ENV)

alarms: install ## The state of each alarm, and why: make alarms ENV=dev
	@$(if $(GIVEN),,$(LOCALLY)) python -W ignore -m operations.alarms $(ENV)

sql: install ## Ask the database: make sql STATEMENT='SELECT ...' MASTER=1; with ENV=, the ways to it
	@$(call flag,MASTER,1)$(if $(GIVEN),,$(LOCALLY)) python -W ignore -m $(if $(GIVEN),operations.sql $(ENV),$(if $(LOCALLY),local sql,operations.sql $(ENV)))
