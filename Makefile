# Every habit of this project. `make help` lists them; the same commands run locally and in continuous integration.
#   PYTHON=python3.12 names the Python to build .venv on, JOBS=4 the number of test processes (as many as there are cores).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

JOBS ?= $(shell nproc)
# Of the pages of documentation, where other suites run beside them.
DOCS_JOBS ?= $(JOBS)
PYTHON ?= python3
export PYTHON TORCH_INDEX
# Some images set it; then every process that tests start would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
# Named by what the installation depends on: it runs again when one of these changes, and only then.
STAMP := .venv/.installed-$(shell cat pyproject.toml server/pyproject.toml scripts/install.sh scripts/repair_torchaudio.py | cksum | cut -d' ' -f1)
# Suites that take long: targets of their own, whose tests `make test` leaves out.
APART := integration jobs security families faults docs ui containers
INTEGRATION_TESTS := tests/integration tests/unit/containers
JOBS_TESTS := tests/e2e $(addprefix tests/unit/engine/,jobs recovery report exports) tests/unit/worker/stopping tests/integration/jobs
FAMILIES_TESTS := tests/families $(addprefix tests/unit/engine/,families devices)
SUITES := $(JOBS_TESTS) $(FAMILIES_TESTS) $(INTEGRATION_TESTS) tests/security tests/faults tests/docs tests/ui tests/containers
# A process that has nothing left takes over a half of what another has: tests of a file mostly stay together, with what they share.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
# Whole matrices and numbers instead of the gate's (tests/support/gate.py).
TEST_WHOLE ?=

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml server/pyproject.toml scripts/install.sh
	@scripts/install.sh
	@rm -f .venv/.installed-*
	@touch $@

.PHONY: install
install: $(STAMP) ## Make .venv and install everything into it; at once where it is up to date

.PHONY: demo
demo: install ## The whole service on a real job: train, upload, prune, download, load, compare (about 5 minutes)
	@$(BIN)/python -m demo.run

.PHONY: up
up: install ## Run the service on this machine, http://127.0.0.1:8000
	@$(BIN)/secateur up

.PHONY: test
test: install ## Lint, types, import contracts, unit tests
	@$(MAKE) --no-print-directory --jobs=$(JOBS) --output-sync=target lint contracts
	@$(MAKE) --no-print-directory --jobs=2 types tests-beside-types

# mypy is one process for more than a minute: it takes its share of the cores while tests run.
.PHONY: tests-beside-types
tests-beside-types: install
	$(PYTEST) tests $(addprefix --ignore=,$(SUITES))

.PHONY: test-all
test-all: export TEST_WHOLE := 1
test-all: test $(addprefix test-,$(APART)) ## Every suite, and whole what the gate covers in part (CONTRIBUTING.md)

.PHONY: lint
lint: install ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: install ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: install ## mypy, strict
	$(BIN)/mypy

.PHONY: contracts
contracts: install ## import-linter: which package may import which
	$(BIN)/lint-imports

.PHONY: unit
unit: install ## Unit tests
	$(PYTEST) tests/unit $(addprefix --ignore=,$(SUITES))

.PHONY: test-long
test-long: install ## test-integration, test-jobs, test-security and test-families in one run: the libraries are imported once
	$(PYTEST) $(INTEGRATION_TESTS) $(filter-out tests/integration/%,$(JOBS_TESTS)) tests/security $(FAMILIES_TESTS)

.PHONY: test-integration
test-integration: install ## The API over SQLite, PostgreSQL and Valkey; the command line and the Python client against real services; the images' scripts
	$(PYTEST) $(INTEGRATION_TESTS) --ignore=tests/integration/jobs

.PHONY: test-jobs
test-jobs: install ## Whole jobs, an engine's, a worker's, and over the real stack; recovery, reports and exports
	$(PYTEST) $(JOBS_TESTS)

.PHONY: test-security
test-security: install ## What strangers may send: malformed requests and files by the hundred, every route as another tenant
	$(PYTEST) tests/security

.PHONY: test-faults
test-faults: install ## The stack broken on purpose: killed, frozen, restarted, out of disk
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:xdist tests/faults

.PHONY: test-families
test-families: install ## Every model family with any two things that can be asked of it, and a whole job of each class
	$(PYTEST) $(FAMILIES_TESTS)

.PHONY: test-docs
test-docs: test-docs-pages test-docs-notebook ## The demo, every snippet of README and docs, and the notebook, run against real services

# Apart, so that with --jobs one begins where another suite has ended.
.PHONY: test-docs-pages
test-docs-pages: install
	$(PYTEST) -n $(DOCS_JOBS) --dist loadfile tests/docs --ignore=tests/docs/test_notebook.py

.PHONY: test-docs-notebook
test-docs-notebook: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:xdist tests/docs/test_notebook.py

.PHONY: test-ui
test-ui: install ## The page in Chromium over the real stack: the whole story, by keyboard alone, 200 jobs, axe-core
	@scripts/install_chromium.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:xdist tests/ui

.PHONY: test-containers
test-containers: install ## The images and Compose: a job while every container is killed, an upgrade, a backup; skipped without an engine
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:xdist -s tests/containers

.PHONY: screenshots
screenshots: export WRITE_SCREENSHOTS = 1
screenshots: test-ui ## The same, and docs/images anew

.PHONY: coverage
coverage: install ## Lines and branches that unit and integration tests run, in their subprocesses too: .coverage-html
	@rm -rf .coverage .coverage.* .coverage-html
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -n $(JOBS) --dist worksteal tests/unit tests/integration
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage html --quiet
	$(BIN)/python -m coverage report

.PHONY: bench
bench: install ## Benchmarks on the demo's model and data, or DEMO_MODEL and DEMO_DATA: methods, several labels a clip
	@read -r model data < <($(BIN)/python -m demo.inputs) && for name in methods mixtures; do \
		$(BIN)/python -m benchmarks.$$name --model "$$model" --data "$$data"; done

# Tools of a release, apart from what is installed with them.
RELEASE := .venv/release
$(RELEASE)/.installed: pyproject.toml | install
	@$(BIN)/python -m venv $(RELEASE)
	@$(RELEASE)/bin/pip install --quiet $$(grep -oE '(uv|cyclonedx-bom)==[0-9.]+' pyproject.toml)
	@touch $@

.PHONY: locks
locks: $(RELEASE)/.installed ## docker/locks anew: versions and hashes of all that the images install
	@$(BIN)/python scripts/write_locks.py $(RELEASE)/bin/uv

.PHONY: sbom
sbom: $(RELEASE)/.installed ## What is in the images, from their locks: .sbom/*.cdx.json, CycloneDX
	@mkdir -p .sbom
	@for image in api worker-cpu worker-cuda; do $(RELEASE)/bin/cyclonedx-py requirements --pyproject pyproject.toml \
		--output-reproducible --output-file .sbom/$$image.cdx.json docker/locks/$$image.txt 2>/dev/null; done
	@ls .sbom

.PHONY: docs
docs: install ## The documentation as a site, in .site; every link in it leads somewhere
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open .site/index.html"

.PHONY: release
release: install ## Build the committed version into dist/ and tag it (CONTRIBUTING.md)
	$(BIN)/python -m scripts.release

.PHONY: clean
clean: ## Remove what was made here: .venv, .demo, caches (not .secateur, which is your data)
	rm -rf .venv .demo .site .sbom .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* *.egg-info build server/build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
