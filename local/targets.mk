# The application on a laptop.

.PHONY: demo up watch debug down

demo: install ## Deploy, invoke, rotate, break and destroy on a laptop, step by step
	@python -m local.demo

up: development ## Leave the application running in a local cloud; writes .local/env
	@python -m local up

watch: development ## As make up; then apply each edit, and print the functions' logs
	@python -m local watch

debug: development ## As make watch, with a port where a debugger attaches to the serving function
	@python -m local debug

down: ## End what `make up` started
	@test ! -x .venv/bin/python || python -m local down

# Before a command of operations/ that asks the local cloud.
LOCALLY = test -f .local/env || { echo 'nothing is running on this laptop: make up' >&2; exit 2; }; . .local/env;

clean: down
