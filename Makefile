# Everything runs in .venv, which `setup` makes. Needs python3 (3.11 or newer), make and git; no root.
PYTHON ?= python3
# How many tests run at once.
WORKERS ?= auto
BIN := .venv/bin
UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements-uv.lock)
STAMP := .venv/.installed-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
# What is in uv's cache needs no network: --require-hashes says exactly what each file must be.
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python
# Files of tests side by side, in the order of their folders: the long ones of the pipeline come first. (Groups of tests
# are no choice: pytest-xdist 3.8 does not find them under pytest 9.)
PYTEST := pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Python finds this folder's code, and no other, and its files by their names, whatever the user's own settings are.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONWARNINGS
export PYTHONUTF8 := 1
# The places of packages are read in the encoding of the locale, whatever UTF-8 mode says (until Python 3.13).
export LC_ALL := C.UTF-8
export OMP_WAIT_POLICY := PASSIVE
export OMP_DYNAMIC := false
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1

.PHONY: help setup repro full variants compare experiments changes comment test test-fast lint ui explore screenshots docs bench check lock audit bom

help:  ## these lines
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with the pinned packages

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found: run make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11: run make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "error: $(PYTHON) has no venv module: install it (Debian: python3-venv)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/uv --version 2>/dev/null | grep -qw '^uv $(UV_VERSION)' \
	  || { uv --version 2>/dev/null | grep -qw '^uv $(UV_VERSION)' && ln -sf "$$(command -v uv)" $(BIN)/uv; } \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock \
	  || { echo "error: uv $(UV_VERSION), which installs the packages, is not on this machine and could not be fetched: connect to the network once, with the settings that it asks for (UV_DEFAULT_INDEX, HTTPS_PROXY, SSL_CERT_FILE)"; exit 1; }
	@$(INSTALL) --offline --require-hashes -r requirements.lock 2>/dev/null \
	  || $(INSTALL) --require-hashes -r requirements.lock \
	  || { echo "error: the packages of requirements.lock are not all in uv's cache and could not be fetched: connect to the network once, with the settings that it asks for (UV_DEFAULT_INDEX, HTTPS_PROXY, SSL_CERT_FILE)"; exit 1; }
	$(INSTALL) --offline --no-build-isolation --no-deps --editable .
	@rm -f .venv/.installed-* && touch $@

repro: setup  ## the whole pipeline, MLflow backfill, report
	@python -m study.commands.repro
	@echo "The report: reports/index.html    The runs: make ui"

full: setup  ## the whole data set, beside the default results: see configs/full.yaml
	@python -m study.commands.full

variants: setup  ## the claims in other settings: see configs/variants.yaml
	@python -m study.commands.variants

compare: setup  ## versions side by side: make compare A=main B=an-experiment (default: the last commit, and this folder)
	@python -m study.commands.compare '$(or $(A),HEAD)' '$(or $(B),workspace)'

# Dropped are paths of dependencies, and numbers that would not fit beside the changed settings: `make compare` has them.
experiments: setup  ## DVC's experiments of this commit, and what they change, in 120 columns
	@COLUMNS=120 dvc exp show --no-pager --only-changed --hide-workspace --precision 3 --drop \
	  '.*(/|State|Executor|Created|effect_|epochs_|claims_|_points|validation_|label|random|_loss|_placebo|_minus_|runs$$|scores$$)'

changes: setup  ## what a pull request shows, into build/changes: make changes A=origin/main
	@python -m study.commands.compare '$(or $(A),origin/main)' '$(or $(B),HEAD)' --folder build/changes

comment:  ## put it on a pull request, in place of the last such comment: make comment NUMBER=12
	@gh pr comment '$(NUMBER)' --body-file build/changes/comment.md --edit-last --create-if-none

test: setup  ## all tests
	@$(PYTEST)

test-fast: setup  ## the tests of the units without the slow ones: for work in between
	@$(PYTEST) -m "not slow and not network" tests/unit tests/stages

check: setup  ## does the pipeline give the committed results again? (runs it in a fresh clone)
	@python -m study.commands.reproduction

lint: setup  ## style and types
	@ruff check . && ruff format --check . && mypy

ui: setup  ## the runs in MLflow's UI; its address is printed, and opened where there is a screen
	@python -m study.commands.ui

explore: setup  ## reports/explorer.html as a page that answers for new images, which are dropped on it
	@python -m study.commands.explore

screenshots: setup  ## the pictures of README, of these results in a browser
	@python -m tests.browser.screenshots

docs: setup  ## the documents as a site, into build/site; to read it with its search: mkdocs serve
	@NO_MKDOCS_2_WARNING=1 mkdocs build --quiet && echo "The site: build/site/index.html"

bench: setup  ## what the claims about speed, accuracy and limits rest on
	@for name in masks training influence limits accuracy retraining agreement; do python benchmarks/$$name.py || exit 1; done

audit: build/audit/.installed  ## known vulnerabilities of the pinned packages (asks PyPI)
	@build/audit/bin/pip-audit --require-hashes --disable-pip -r requirements.lock

bom: build/audit/.installed  ## what .venv consists of, with licences: build/bom.json (CycloneDX)
	@build/audit/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o build/bom.json $(BIN)/python \
	  && echo "The bill of materials: build/bom.json"

# Apart from .venv, which holds what the results depend on.
build/audit/.installed: requirements-audit.lock $(STAMP)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/audit
	@$(BIN)/uv pip install --quiet --python build/audit/bin/python --require-hashes -r requirements-audit.lock
	@touch $@

COMPILE := uv pip compile --quiet --generate-hashes --no-header --no-annotate
lock: setup  ## resolve the locks again
	@$(COMPILE) --universal --all-extras pyproject.toml -o requirements.lock
	@echo "pip-audit cyclonedx-bom" | tr ' ' '\n' | $(COMPILE) --universal - -o requirements-audit.lock
