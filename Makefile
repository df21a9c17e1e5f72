# `make demo` shows what Octet does; `make check`, `make test` and `make test-all` test it, each more than the one before.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check

# `make test EXTRAS=test,qat` tests training too, which takes torch.
EXTRAS := test

.PHONY: demo check test test-all lint bench bench-methods bench-serving bench-loading fuzz soak protocol vendor screenshots clean

demo: $(VENV)/installed
	$(BIN)/octet demo $(ARGS)

# Tests of one file share what they started, so one process runs them all. In the order of the folders, for which the
# long end-to-end tests are not the last.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Before each commit: lint, types, layers and unit tests.
check: lint
	$(PYTEST) -m "not e2e and not slow" $(ARGS)

# Before a change lands: end-to-end tests too.
test: lint
	$(PYTEST) -m "not slow" $(ARGS)

# Exhaustive tables of operators, every example of /docs pressed, every fault and a short fuzz run too. CI runs it.
test-all: lint
	$(PYTEST) $(ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: bench-methods
	$(BIN)/python bench/quantization.py

# Every method, by whole jobs: qat too, where torch is installed.
bench-methods: $(VENV)/installed-test
	$(BIN)/python bench/methods.py $(ARGS)

# Octet beside other model servers, which are installed on demand, each in an environment of its own.
bench-serving: $(VENV)/installed-test
	$(BIN)/python bench/serving.py $(ARGS)

# Half an hour of mixed work with a random fault each minute: nothing is lost, nothing done twice, and nothing grows.
soak: $(VENV)/installed-test
	$(BIN)/python -m tests.e2e.faults.soak $(ARGS)

# What loading, unloading and ten minutes of requests do to the gateway.
bench-loading: $(VENV)/installed-test
	$(BIN)/python bench/loading.py $(ARGS)

# SECONDS of each target, or of those that ARGS names; what is found is kept under .fuzz. The tests have a short one.
SECONDS := 600
fuzz: $(VENV)/installed-fuzz
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

# After a change of the .proto file: what is served is read from what this makes of it.
PROTOCOL := app/inference/grpc
protocol: $(VENV)/installed-test
	$(BIN)/python -m grpc_tools.protoc --proto_path=$(PROTOCOL) \
		--descriptor_set_out=$(PROTOCOL)/open_inference.binpb open_inference.proto

# After a change of package.json: what browsers are sent, and its licences. Installing Octet needs no npm.
VENDOR := app/web/vendor
VENDORED := app/web/static/vendor
vendor:
	npm ci --prefix $(VENDOR) --ignore-scripts --no-audit --no-fund
	rm -rf $(VENDORED) && cd $(dir $(VENDORED)) && mkdir -p $(addprefix vendor/,htmx htmx-ext-sse swagger-ui uplot)
	cd $(VENDOR)/node_modules && cp htmx.org/dist/htmx.min.js htmx.org/LICENSE $(CURDIR)/$(VENDORED)/htmx
	cd $(VENDOR)/node_modules && cp htmx-ext-sse/dist/sse.min.js htmx-ext-sse/LICENSE $(CURDIR)/$(VENDORED)/htmx-ext-sse
	cd $(VENDOR)/node_modules/swagger-ui-dist && cp swagger-ui-bundle.js swagger-ui.css LICENSE NOTICE $(CURDIR)/$(VENDORED)/swagger-ui
	cd $(VENDOR)/node_modules && cp uplot/dist/uPlot.iife.min.js uplot/dist/uPlot.min.css uplot/LICENSE $(CURDIR)/$(VENDORED)/uplot
	rm -rf $(VENDOR)/node_modules

# The pictures of the README; takes Chromium.
screenshots: $(VENV)/installed-test
	$(BIN)/python docs/screenshots.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Octet needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml
	$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) install --quiet --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/installed-fuzz: $(VENV)/installed-test
	$(PIP) install --quiet --editable '.[fuzz]'
	@touch $@

clean:
	rm -rf $(VENV) .octet .fuzz build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
