# `make run` and `make test` set up whatever they need. PYTHON chooses the interpreter: 3.10 or newer.
PYTHON ?= python3
BIN := .venv/bin

SCHEDULES ?= 1000000
PLAYER ?= 1

.PHONY: run test token prove setup clean

setup: .venv/ready

.venv/ready: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one with PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

run: setup
	$(BIN)/chalice local

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

token: setup
	@$(BIN)/python -m localdev.token $(PLAYER)

prove: setup
	$(BIN)/python -m tests.prove --schedules $(SCHEDULES)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
