# `make run` and `make test` set up what they need, the one less than the other. PYTHON chooses the interpreter: 3.10 or newer.
PYTHON ?= python3
BIN := .venv/bin

SCHEDULES ?= 1000000
PLAYER ?= 1
STAGE ?= dev
SCENARIO ?= pairs

# Twice as many as the cores of a small machine: the tests wait for other processes more than they compute. `loadscope`
# keeps the tests of a module in one worker, so its `chalice local` is started once.
WORKERS := -n 4 --dist loadscope

ASYNCAPI_PARSER := 3.6.6
ASYNCAPI := build/asyncapi-parser-$(ASYNCAPI_PARSER)

NODE_20 := 20.20.2
NODE_22 := 22.23.1
WS := 8.21.3
JAVASCRIPT := build/javascript-$(NODE_20)-$(NODE_22)-$(WS)

DYNOXIDE := 1.2.1
DYNAMODB_ENGINE := build/dynamodb-engine-$(DYNOXIDE)

.PHONY: run test test-slow test-javascript test-moto test-dynamodb chat token deploy destroy notes package rehearse accept prove load bench \
	scale specification validate-specification asyncapi-parser dynamodb-engine setup clean

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
	$(BIN)/pytest $(WORKERS) -m 'not slow'

test-slow: setup
	$(BIN)/pytest $(WORKERS) -m slow

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

# The stores and the calls of DynamoDB on two other engines than the embedded one: moto, and Dynoxide, where the whole path
# and 20,000 random calls run, too.
test-moto: setup
	DYNAMODB_ENGINE=moto $(BIN)/pytest tests/test_stores.py tests/test_dynamodb_contract.py

test-dynamodb: setup dynamodb-engine
	$(BIN)/python -m tests.dynamodb_engine $(DYNAMODB_ENGINE)/node_modules/@dynoxide/*/dynoxide $(BIN)/pytest \
		tests/test_stores.py tests/test_dynamodb_contract.py tests/test_dynamodb_fuzz.py tests/test_acceptance.py

dynamodb-engine: $(DYNAMODB_ENGINE)/ready

$(DYNAMODB_ENGINE)/ready:
	@npm install --prefix $(DYNAMODB_ENGINE) --ignore-scripts --no-audit --no-fund --silent --fetch-retries=1 \
		@dynoxide/$$(node -p 'process.platform + "-" + process.arch')@$(DYNOXIDE) || \
	{ echo "The DynamoDB engine cannot be fetched: it needs npm, and Dynoxide $(DYNOXIDE) for this platform." >&2; exit 1; }
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

# The JavaScript client's tests and conversations in both versions of Node, and with npm's `ws` as the WebSocket.
TEST_JAVASCRIPT = export PATH="$$modules/node-$$node/bin:$$PATH" && node --version && \
	$(BIN)/pytest tests/test_clients.py -k javascript

test-javascript: setup $(JAVASCRIPT)/ready
	modules="$(CURDIR)/$(JAVASCRIPT)/node_modules" node=20 && $(TEST_JAVASCRIPT)
	modules="$(CURDIR)/$(JAVASCRIPT)/node_modules" node=22 && $(TEST_JAVASCRIPT)
	modules="$(CURDIR)/$(JAVASCRIPT)/node_modules" node=20 && export NODE_PATH="$$modules" \
		NODE_OPTIONS="--require=$(CURDIR)/tests/ws_as_websocket.cjs" && $(TEST_JAVASCRIPT)

$(JAVASCRIPT)/ready:
	@command -v npm >/dev/null || { echo "npm is needed: it downloads Node $(NODE_20), Node $(NODE_22) and ws."; exit 1; }
	platform=$$(node -p 'process.platform + "-" + process.arch') && npm install --prefix $(JAVASCRIPT) --ignore-scripts \
		--no-audit --no-fund --silent --fetch-retries=1 node-20@npm:node-$$platform@$(NODE_20) \
		node-22@npm:node-$$platform@$(NODE_22) ws@$(WS)
	@touch $@

clean:
	rm -rf .venv .venv-rehearsal build .mypy_cache .pytest_cache .ruff_cache .hypothesis
