# Everything here makes its own virtual environment (.venv) and installs what it needs.
# PYTHON=python3.12 names the interpreter; PYTEST='-x -k layer' and BENCH='build torch-digits' are
# arguments for scripts/test and scripts/bench.

.DEFAULT_GOAL := help
PYTEST ?=
BENCH ?=

.PHONY: help
help:  ## Show this list.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo:  ## Build an image of a digit reader, run it, ask it; needs neither Docker nor root.
	@scripts/venv
	@.venv/bin/python scripts/demo

.PHONY: test
test:  ## Run the tests, with a container engine where there can be one.
	@scripts/venv dev
	@scripts/with-docker scripts/test $(PYTEST)

.PHONY: check
check:  ## Check style, formatting and types.
	@scripts/venv dev
	@scripts/check

.PHONY: bench
bench:  ## Measure Dockyard against Dockerfiles; takes long, and 40 GB of disk.
	@scripts/venv dev
	@scripts/bench $(BENCH)

.PHONY: clean
clean:  ## Remove what the others made here (not the cache of wheels and layers).
	rm -rf .venv .work dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +
