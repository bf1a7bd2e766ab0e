# The only door. `make demo` and `make test` do their own set-up; everything is quick when run again.
.DEFAULT_GOAL := help
.PHONY: help setup up down status demo test test-heavy test-real test-journeys test-console mutants fuzz soak check format proto proto-baseline console console-api bench sbom clean

VENV := .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
ARGS ?=
SECONDS ?= 1800
NPM := $(PY) tools/npm.py
CONSOLE_SOURCES := $(shell find console/src console/public -type f ! -name schema.d.ts) console/index.html \
	console/vite.config.ts console/compress.mjs

help: ## Say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## Virtual environment, pinned packages, and the system's programs that are needed
	@$(PY) tools/system_packages.py
	@$(MAKE) --no-print-directory console || echo "The console was not built; everything else works. See above, then: make console"

# Compiled at once: a pod that compiles torch and transformers while it imports them takes 19 s for it instead of 7.
$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (the first time takes minutes: PyTorch is large)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which with PYTHON=...")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@test -x $(VENV)/bin/uv || $(VENV)/bin/pip install --quiet -c constraints.txt uv
	@UV_FIND_LINKS="$$($(VENV)/bin/pip config get global.find-links 2>/dev/null)" $(VENV)/bin/uv pip install --compile-bytecode --python $(PY) -e '.[all,dev]' -c constraints.txt
	@touch $(STAMP)

console: $(STAMP) console/dist/index.html ## Build the web console into console/dist

console/node_modules/.package-lock.json: console/package-lock.json console/package.json
	@$(NPM) ci --silent
	@touch $@

console/dist/index.html: console/node_modules/.package-lock.json $(CONSOLE_SOURCES)
	@$(NPM) run --silent build -- --logLevel warn
	@touch $@

console-api: $(STAMP) console/node_modules/.package-lock.json ## After a change of the API or of events: what the console is typed by
	@$(PY) tools/export_openapi.py
	@$(NPM) run --silent api

up: setup ## Start the embedded stack
	@$(VENV)/bin/sskai up

down: ## Stop it
	@$(VENV)/bin/sskai down

status: ## What runs
	@$(VENV)/bin/sskai status

demo: setup ## The main job end to end on the embedded stack (ARGS=--json for one JSON object)
	@$(PY) -m sskai.demo $(ARGS)

# Three workers on two cores: tests wait for processes of their own a third of the time. Files go to them as they lie: by
# size, those of few but long tests would come last, and one worker would be waited for.
test: setup ## All tests: first the quick ones side by side, then the journeys of the whole system
	@$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not journey and not heavy and not real" -q --durations=15
	@$(PY) -m pytest -m "journey and not heavy and not real" -v --durations=15

test-heavy: setup ## What takes minutes more: gangs, models in parts, most services killed, the closed loop
	@$(PY) -m pytest -m "heavy and not real" -v $(ARGS)

# Built with Go once, then cached: see tools/goparts.
test-real: setup ## Against the real parts: Kubernetes' own API, AWS's mocks, the collector, Helm, Terraform
	@$(PY) tools/system_packages.py --real
	@$(PY) -m tools.goparts
	@$(PY) -m pytest -m real -v $(ARGS)

test-journeys: setup ## Only the journeys of the whole system
	@$(PY) -m pytest -m "journey and not real" -v $(ARGS)

test-console: setup ## The console in a headless browser, which is installed where that may be done
	@$(PY) tools/system_packages.py --browser
	@$(PY) -m pytest -v tests/console $(ARGS)

mutants: setup ## Seeded bugs in the safety code: does a test catch each (ARGS=a part of a name; --json, --list)
	@$(PY) -m tools.mutants $(ARGS)

fuzz: setup ## Look for inputs that break a promise: ARGS="event --seconds 60", or ARGS=all
	@$(PY) -m tests.fuzz $(ARGS)

soak: setup ## Half an hour of chaos on the real processes (SECONDS=300 ARGS="--seed 7 --json"): docs/guides/chaos.md
	@$(PY) -m tests.chaos --seconds $(SECONDS) $(ARGS)

check: setup ## Lint, format, types, import rules, fresh generated code, contract, failpoints
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy sskai services simulation tests benchmarks tools
	@PYTHONPATH=. $(VENV)/bin/lint-imports --no-cache
	@$(PY) -m pytest -q tests/contract
	@cd proto && ../$(VENV)/bin/buf lint && ../$(VENV)/bin/buf breaking --against baseline-v1.binpb
	@$(PY) -m tools.check_compose
	@$(PY) -m tools.check_failpoints
	@$(PY) tools/export_openapi.py --check
	@$(NPM) run --silent check

format: setup ## Put every file into the one format
	@$(VENV)/bin/ruff check --fix -q . ; $(VENV)/bin/ruff format -q .

proto: setup ## Generate sskai/events/v1 from proto/
	@$(PY) -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. proto/sskai/events/v1/*.proto

proto-baseline: setup ## At a release: what is published now must not change any more
	@$(PY) -m grpc_tools.protoc -I proto --include_imports --descriptor_set_out=proto/baseline-v1.binpb proto/sskai/events/v1/*.proto

bench: setup ## make bench NAME=x runs benchmarks/x.py and prints one JSON object
	@test -n "$(NAME)" || { echo "say which: make bench NAME=<$$(ls benchmarks | grep -v -e __pycache__ -e figures | sed 's/\.py$$//' | paste -sd'|')>"; exit 2; }
	@$(PY) -m benchmarks.$(NAME) $(ARGS)

sbom: setup ## What is installed, with versions and licences: build/sbom.json (CycloneDX)
	@mkdir -p build
	@$(PY) -m cyclonedx_py environment --pyproject pyproject.toml --output-reproducible -o build/sbom.json $(PY)
	@echo build/sbom.json

clean: ## Remove what was built (not the stack's data: sskai down --purge)
	@rm -rf $(VENV) .cache build *.egg-info console/dist console/node_modules
