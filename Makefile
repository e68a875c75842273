# Each target installs its own dependencies: `make run` only those that run the service, `make test` also the tools.
# PYTHON names the interpreter, which must be 3.10 or newer.
PYTHON ?= python3
BIN := .venv/bin

SCHEDULES ?= 1000000
PLAYER ?= 1
STAGE ?= dev
SCENARIO ?= pairs

# Recipes use these variables as "$$NAME", from the environment, so that neither make nor the shell expands their values.
# make would expand a $ at each use of a variable; `value` returns the text unexpanded. OPTIONS isn't in the list, because
# the shell must split it into words.
EXPORTED := PLAYER TO URL STAGE SCENARIO SCHEDULES
$(foreach name,$(EXPORTED),$(eval override $(name) := $$(value $(name))))
export $(EXPORTED)

# Two workers per core of a small machine, because the tests mostly wait for other processes. `loadscope` runs the tests of
# a module in the same worker, so that the module's `chalice local` starts only once.
WORKERS := -n 4 --dist loadscope

ASYNCAPI_PARSER := 3.6.6
ASYNCAPI := build/asyncapi-parser-$(ASYNCAPI_PARSER)

NODE_20 := 20.20.2
NODE_22 := 22.23.1
WS := 8.21.3
JAVASCRIPT := build/javascript-$(NODE_20)-$(NODE_22)-$(WS)

TYPESCRIPT := 5.9.3
TSC := build/typescript-$(TYPESCRIPT)

UV := 0.13.9

DYNOXIDE := 1.2.1
DYNAMODB_ENGINE := build/dynamodb-engine-$(DYNOXIDE)

.PHONY: help run test test-slow test-javascript test-typescript test-moto test-dynamodb chat token deploy destroy notes policies package rehearse accept simulate prove load bench \
	scale specification validate-specification asyncapi-parser dynamodb-engine setup lock wheels clean

## help: list the targets
help:
	@awk -F': ' '/^## /{printf "make %-24s%s\n", substr($$1, 4), $$2}' Makefile

## setup: install the dependencies of tests and checks
setup: .venv/ready

.venv/runs: requirements-local.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is required: choose one with PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-local.lock
	@touch $@

.venv/ready: .venv/runs requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# Write the lock files from the requirements, for every Python from 3.10 on and every platform. Locked versions that still
# fit are kept. `make lock OPTIONS=--upgrade` upgrades the indirect packages, which no requirement pins.
LOCK = build/uv-$(UV)/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(OPTIONS)

## lock: write the lock files; OPTIONS=--upgrade upgrades indirect packages
lock: build/uv-$(UV)/ready
	$(LOCK) requirements-dev.txt -o requirements-dev.lock
	$(LOCK) requirements-local.txt -c requirements-dev.lock -o requirements-local.lock
	$(LOCK) requirements.txt -c requirements-dev.lock -o requirements.lock
	$(LOCK) requirements-rehearsal.txt -o requirements-rehearsal.lock

build/uv-$(UV)/ready:
	$(PYTHON) -m venv build/uv-$(UV)
	build/uv-$(UV)/bin/pip install --quiet --disable-pip-version-check uv==$(UV)
	@touch $@

## run: start the service and the playground on this machine
run: .venv/runs
	$(BIN)/chalice local

## test: lint, check types, run the fast tests
test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(WORKERS) -m 'not slow'

## test-slow: run the slow tests (mutants, cut connections, schedules, packaging)
test-slow: setup
	$(BIN)/pytest $(WORKERS) -m slow

## chat: chat as PLAYER, optionally with player TO, at URL
chat: .venv/runs
	@$(BIN)/python -m clients.chat $${TO:+--to="$$TO"} $${URL:+--url="$$URL"} -- "$$PLAYER"

## token: print a token for PLAYER, signed with JWT_SECRET
token: .venv/runs
	@$(BIN)/python -m localdev.token -- "$$PLAYER"

# The workflow runs this before it holds AWS credentials.
## wheels: download the packages of STAGE, checked against requirements.lock
wheels: .venv/runs
	$(BIN)/python -m deployment wheels -- "$$STAGE"

## deploy: deploy or update STAGE on AWS
deploy: .venv/runs
	$(BIN)/python -m deployment deploy -- "$$STAGE"

## destroy: delete STAGE from AWS
destroy: .venv/runs
	$(BIN)/python -m deployment destroy -- "$$STAGE"

## notes: write Chalice's notes of STAGE from its resources on AWS
notes: .venv/runs
	$(BIN)/python -m deployment notes -- "$$STAGE"

## policies: write the functions' IAM policies to .chalice/
policies: .venv/runs
	$(BIN)/python -m deployment.policies

## package: write a CloudFormation template of STAGE to build/
package: .venv/runs
	mkdir -p build
	$(BIN)/python -m deployment template -- "$$STAGE" > "build/$$STAGE.json"
	$(BIN)/chalice package --stage="$$STAGE" --merge-template="build/$$STAGE.json" "build/$$STAGE"

## rehearse: test the deployment on an emulator, with failures at each step
rehearse: setup .venv-rehearsal/ready
	$(BIN)/python -m tests.deployment.rehearse .venv-rehearsal/bin/python

.venv-rehearsal/ready: requirements-rehearsal.lock
	$(PYTHON) -m venv .venv-rehearsal
	.venv-rehearsal/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-rehearsal.lock
	@touch $@

## accept: test the deployed stage at URL
accept: setup
	ACCEPT_URL="$$URL" $(BIN)/pytest tests/integration/test_acceptance.py

## test-moto: run the stores' tests and the DynamoDB contract on moto
test-moto: setup
	DYNAMODB_ENGINE=moto $(BIN)/pytest tests/integration/test_stores.py tests/integration/test_room_stores.py tests/integration/test_dynamodb_contract.py

## test-dynamodb: run the stores' tests, acceptance tests and 20,000 random calls on Dynoxide
test-dynamodb: setup dynamodb-engine
	$(BIN)/python -m tests.support.dynamodb_engine $(DYNAMODB_ENGINE)/node_modules/@dynoxide/*/dynoxide $(BIN)/pytest \
		tests/integration/test_stores.py tests/integration/test_room_stores.py tests/integration/test_dynamodb_contract.py tests/integration/test_dynamodb_fuzz.py tests/integration/test_acceptance.py

## dynamodb-engine: download Dynoxide
dynamodb-engine: $(DYNAMODB_ENGINE)/ready

$(DYNAMODB_ENGINE)/ready:
	@npm install --prefix $(DYNAMODB_ENGINE) --ignore-scripts --no-audit --no-fund --silent --fetch-retries=1 \
		@dynoxide/$$(node -p 'process.platform + "-" + process.arch')@$(DYNOXIDE) || \
	{ echo "Cannot download Dynoxide $(DYNOXIDE): it needs npm, and must exist for this platform." >&2; exit 1; }
	@touch $@

## prove: the earlier name of simulate
prove: simulate

## simulate: run SCHEDULES simulated schedules
simulate: setup
	$(BIN)/python -m tests.simulation.prove --schedules="$$SCHEDULES"

## load: run the load test SCENARIO on this machine or at URL
load: setup
	$(BIN)/python -m measure.load "$$SCENARIO" $${URL:+--url="$$URL"} $(OPTIONS)

## bench: check calls and times against the budgets
bench: setup
	$(BIN)/python -m measure.bench

## scale: model latency and cost
scale: setup
	$(BIN)/python -m measure.scale $(OPTIONS)

## specification: write docs/asyncapi.yaml
specification: setup
	$(BIN)/python -m specification.asyncapi > docs/asyncapi.yaml

## validate-specification: validate docs/asyncapi.yaml with AsyncAPI's parser
validate-specification: $(ASYNCAPI)/ready
	NODE_PATH=$(ASYNCAPI)/node_modules node specification/validate.js docs/asyncapi.yaml

## asyncapi-parser: download AsyncAPI's parser
asyncapi-parser: $(ASYNCAPI)/ready

$(ASYNCAPI)/ready:
	npm install --prefix $(ASYNCAPI) --ignore-scripts --no-audit --no-fund --silent --fetch-retries=1 @asyncapi/parser@$(ASYNCAPI_PARSER)
	@touch $@

# Run the JavaScript client's tests in both versions of Node, and with npm's `ws` as the WebSocket.
TEST_JAVASCRIPT = export PATH="$$modules/node-$$node/bin:$$PATH" && node --version && \
	$(BIN)/pytest tests/clients/test_clients.py -k javascript

## test-javascript: test the JavaScript client in Node 20, Node 22 and with npm's ws
test-javascript: setup $(JAVASCRIPT)/ready
	modules="$(CURDIR)/$(JAVASCRIPT)/node_modules" node=20 && $(TEST_JAVASCRIPT)
	modules="$(CURDIR)/$(JAVASCRIPT)/node_modules" node=22 && $(TEST_JAVASCRIPT)
	modules="$(CURDIR)/$(JAVASCRIPT)/node_modules" node=20 && export NODE_PATH="$$modules" \
		NODE_OPTIONS="--require=$(CURDIR)/tests/clients/ws_as_websocket.cjs" && $(TEST_JAVASCRIPT)

$(JAVASCRIPT)/ready:
	@command -v npm >/dev/null || { echo "npm is required to download Node $(NODE_20), Node $(NODE_22) and ws."; exit 1; }
	platform=$$(node -p 'process.platform + "-" + process.arch') && npm install --prefix $(JAVASCRIPT) --ignore-scripts \
		--no-audit --no-fund --silent --fetch-retries=1 node-20@npm:node-$$platform@$(NODE_20) \
		node-22@npm:node-$$platform@$(NODE_22) ws@$(WS)
	@touch $@

## test-typescript: check the JavaScript client's types with a sample program
test-typescript: $(TSC)/ready
	$(TSC)/node_modules/.bin/tsc --project tests/clients/typescript

$(TSC)/ready:
	@command -v npm >/dev/null || { echo "npm is required to download TypeScript $(TYPESCRIPT)."; exit 1; }
	npm install --prefix $(TSC) --ignore-scripts --no-audit --no-fund --silent --fetch-retries=1 typescript@$(TYPESCRIPT)
	@touch $@

## clean: delete environments, downloads and caches
clean:
	rm -rf .venv .venv-rehearsal build .mypy_cache .pytest_cache .ruff_cache .hypothesis
