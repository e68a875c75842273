# `make run` and `make test` set up what they need, the one less than the other. PYTHON chooses the interpreter: 3.10 or newer.
PYTHON ?= python3
BIN := .venv/bin

SCHEDULES ?= 1000000
PLAYER ?= 1
STAGE ?= dev
SCENARIO ?= pairs

ASYNCAPI_PARSER := 3.6.6
ASYNCAPI := build/asyncapi-parser-$(ASYNCAPI_PARSER)

.PHONY: run test chat token deploy destroy notes package rehearse accept test-dynamodb-local prove load bench scale \
	specification validate-specification asyncapi-parser setup clean

setup: .venv/ready

.venv/runs: requirements.txt requirements-local.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one with PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-local.txt
	@touch $@

.venv/ready: .venv/runs requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

run: .venv/runs
	$(BIN)/chalice local

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

chat: .venv/runs
	@$(BIN)/python -m clients.chat '$(PLAYER)' $(if $(TO),--to '$(TO)') $(if $(URL),--url '$(URL)')

token: .venv/runs
	@$(BIN)/python -m localdev.token '$(PLAYER)'

deploy: .venv/runs
	$(BIN)/python -m deployment deploy $(STAGE)

destroy: .venv/runs
	$(BIN)/python -m deployment destroy $(STAGE)

notes: .venv/runs
	$(BIN)/python -m deployment notes $(STAGE)

package: .venv/runs
	mkdir -p build
	$(BIN)/python -m deployment template $(STAGE) > build/$(STAGE).json
	$(BIN)/chalice package --stage $(STAGE) --merge-template build/$(STAGE).json build/$(STAGE)

rehearse: setup .venv-rehearsal/ready
	$(BIN)/python -m tests.rehearse .venv-rehearsal/bin/python

.venv-rehearsal/ready: requirements-rehearsal.txt
	$(PYTHON) -m venv .venv-rehearsal
	.venv-rehearsal/bin/pip install --quiet --disable-pip-version-check -r requirements-rehearsal.txt
	@touch $@

accept: setup
	ACCEPT_URL='$(URL)' $(BIN)/pytest tests/test_acceptance.py

test-dynamodb-local: setup build/dynamodb-local/ready
	$(BIN)/python -m tests.dynamodb_local build/dynamodb-local $(BIN)/pytest tests/test_stores.py tests/test_acceptance.py

build/dynamodb-local/ready: tests/dynamodb_local/pom.xml
	mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/build/dynamodb-local
	@touch $@

prove: setup
	$(BIN)/python -m tests.prove --schedules $(SCHEDULES)

load: setup
	$(BIN)/python -m measure.load $(SCENARIO) $(if $(URL),--url $(URL)) $(OPTIONS)

bench: setup
	$(BIN)/python -m measure.bench

scale: setup
	$(BIN)/python -m measure.scale $(OPTIONS)

specification: setup
	$(BIN)/python -m specification.asyncapi > docs/asyncapi.yaml

validate-specification: $(ASYNCAPI)/ready
	NODE_PATH=$(ASYNCAPI)/node_modules node specification/validate.js docs/asyncapi.yaml

asyncapi-parser: $(ASYNCAPI)/ready

$(ASYNCAPI)/ready:
	npm install --prefix $(ASYNCAPI) --ignore-scripts --no-audit --no-fund --silent --fetch-retries=1 @asyncapi/parser@$(ASYNCAPI_PARSER)
	@touch $@

clean:
	rm -rf .venv .venv-rehearsal build .mypy_cache .pytest_cache .ruff_cache .hypothesis
