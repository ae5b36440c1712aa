# `make` alone lists the targets.
PYTHON ?= python3
bin := .venv/bin

.PHONY: help demo test lint bench bench-client bench-encoded bench-export bench-gateway bench-local bench-switches bench-weights figures lock clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | column -t -s '|'

# The stamp is made last, so an interrupted installation is taken up again.
.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed; this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	@echo "setup   installing the locked dependencies into .venv; a minute or two, once"
	@$(PYTHON) -m venv .venv
	@$(bin)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

demo: .venv/installed  ## train and publish a model if there is none, serve it, classify real digits
	@ls -d models/mnist/[0-9]* >/dev/null 2>&1 || $(bin)/python -m export
	@$(bin)/python -m deploy.demo

test: .venv/installed  ## run the whole test suite; what needs an engine or a GPU is skipped with the reason
	@$(bin)/pytest --numprocesses=$$(($$(nproc) + 1)) --maxprocesses=6 --dist=loadfile  # many a test waits

lint: .venv/installed  ## formatting, lint and types
	@$(bin)/ruff format --check
	@$(bin)/ruff check
	@$(bin)/mypy

bench-% figures: export TF_CPP_MIN_LOG_LEVEL = 3

bench: bench-weights bench-encoded bench-gateway bench-local bench-switches bench-client bench-export  ## all benchmarks, on the genuine MNIST

bench-client: .venv/installed  ## the client against its peers; five minutes
	@ls -d models/mnist/[0-9]* >/dev/null 2>&1 || $(bin)/python -m export
	@$(bin)/python -m tests.bench.client

bench-export: .venv/installed  ## the recipes against one another; a quarter of an hour
	@$(bin)/python -m tests.bench.recipes

bench-gateway: .venv/installed  ## the gateway's door against the server's own port; a minute (needs nginx)
	@ls -d models/mnist/[0-9]* >/dev/null 2>&1 || $(bin)/python -m export
	@$(bin)/python -m tests.bench.gateway

bench-encoded: .venv/installed  ## pictures of digits, distorted and hostile, through the newest version
	@$(bin)/python -m tests.bench.encoded

bench-local: .venv/installed  ## the local server against Flask and the bare session; a minute
	@ls -d models/mnist/[0-9]* >/dev/null 2>&1 || $(bin)/python -m export
	@$(bin)/python -m tests.bench.local_server

bench-switches: .venv/installed  ## a thousand version switches of the local server under load; ten minutes
	@ls -d models/mnist/[0-9]* >/dev/null 2>&1 || $(bin)/python -m export
	@$(bin)/python -m tests.bench.switches

bench-weights: .venv/installed  ## weights as constants against variables
	@$(bin)/python -m tests.bench.weights

figures: .venv/installed  ## draw the figures of export/README.md anew
	@$(bin)/python -m export.figures.draw

lock:  ## pin all dependencies anew, with hashes, for every supported Python (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --upgrade --extra dev pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --extra exporter --constraint requirements.lock pyproject.toml \
	  --output-file deploy/exporter/requirements.lock

clean:  ## remove the environment, caches and the demo's pictures; models stay
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache
