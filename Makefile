# Everything runs in .venv, which the first target to need it makes; later runs need no network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTO := $(wildcard proto/qkt/v1/*.proto)
PB := qkt_p2p/pb/__init__.py
# The protocol as last released: `make check-protocol` fails on a change that old nodes would not understand.
RELEASED_PROTOCOL := proto/released.binpb

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
# protoc looks its plugins up in PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: install ## Start five nodes on this machine and teach one of them a class it never saw
	@$(BIN)/qkt-node cluster demo

.PHONY: test
test: check netns-tools ## Run every check, then every test, in two processes
	@$(BIN)/pytest --numprocesses 2 --no-loadscope-reorder --durations=20 --durations-min=5

FUZZ_SECONDS ?= 30
FUZZ_TARGET ?= *
.PHONY: fuzz
fuzz: install ## Fuzz every decoder and a served node, FUZZ_SECONDS each; FUZZ_TARGET='wire.*' chooses
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) --target '$(FUZZ_TARGET)'

.PHONY: soak
soak: install ## Run 1,000 random schedules of faults in one process, some ten minutes: docs/faults.md
	@GRPC_VERBOSITY=NONE $(BIN)/python -m tests.faults.soak --schedules 1000 --out soak.json

.PHONY: netns-tools
netns-tools: ## Install what the tests between hosts need, where root can
	@tests/netns/setup

.PHONY: check
check: check-format check-lint check-types check-protocol check-spelling check-imports ## Run every check

.PHONY: check-format
check-format: install
	@$(BIN)/ruff format --check .

.PHONY: check-lint
check-lint: install
	@$(BIN)/ruff check .

.PHONY: check-types
check-types: install
	@$(BIN)/mypy

.PHONY: check-protocol
check-protocol: install
	@cd proto && buf lint && buf format --diff --exit-code
	@cd proto && buf breaking --against $(notdir $(RELEASED_PROTOCOL))

.PHONY: check-spelling
check-spelling: install
	@$(BIN)/codespell

.PHONY: check-imports
check-imports: install
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: install ## Format the code and the protocol, and fix what the linter can
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .
	@cd proto && buf format --write

.PHONY: proto
proto: $(STAMP) ## Generate the protocol's Python modules anew
	@$(BIN)/python hatch_build.py

.PHONY: release-protocol
release-protocol: $(STAMP) ## Take today's protocol as what later changes are compared with
	@cd proto && buf build --exclude-source-info --output $(notdir $(RELEASED_PROTOCOL))

.PHONY: install
install: $(STAMP) $(PB) ## Install everything into .venv, once

.PHONY: clean
clean: ## Remove everything that the other targets made
	@rm -rf $(VENV) qkt_p2p/pb build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp holds digests, so a checkout that only touches the files installs nothing. The build's own tools
# come first and the build is not isolated: where they are installed, pip needs no network.
INPUTS := pyproject.toml constraints.txt hatch_build.py
$(STAMP): $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "qkt-node needs Python 3.11 or newer: make PYTHON=python3.11")'
	@if ! sha256sum --check --status $@ 2>/dev/null; then \
		set -e; \
		echo "Installing into $(VENV): some minutes the first time"; \
		test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
		$(PIP) install -c constraints.txt editables grpcio-tools hatchling mypy-protobuf; \
		$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]'; \
		sha256sum $(INPUTS) > $@; \
	fi
	@touch $@

$(PB): $(PROTO) hatch_build.py | $(STAMP)
	@$(BIN)/python hatch_build.py
