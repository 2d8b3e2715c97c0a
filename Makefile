# SPDX-License-Identifier: Apache-2.0
# Each target sets up what it needs in .venv, or in .venv-hosts where it needs the
# frameworks that brainopt attaches to; a machine with Python >= 3.11, git and make is
# enough. PYTHON=... picks the interpreter, ARGS=... reaches the command.

.DEFAULT_GOAL := help
.PHONY: help demo results test test-more test-hosts test-long test-gpu check lint types format hooks
.PHONY: package docs test-site bench bench-gpu clean

VENV := .venv
HOSTS := .venv-hosts
PY := $(VENV)/bin/python
QUICK := not long and not gpu and not hosts and not site and not types
ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c '$(ENOUGH)' 2>/dev/null && { echo "$$p"; break; }; done)
endif

help:
	@echo "make demo       train examples/yinyang_snn.py (ARGS=--resume, ...)"
	@echo "make results    all examples at full length, into docs/results.md (ARGS=randman)"
	@echo "make test       the quick suite"
	@echo "make test-more  what the quick suite leaves out: rows of tables, pages, examples"
	@echo "make test-hosts the tests with brainpy, brainstate, flax, ... (.venv-hosts)"
	@echo "make test-long  the slow tests alone"
	@echo "make test-gpu   the tests that need a GPU"
	@echo "make check      ruff, ruff format, pyright (make lint and make types)"
	@echo "make format     let ruff mend and format the code"
	@echo "make hooks      run the checks before each commit (pre-commit)"
	@echo "make package    build the sdist and the wheel, and test both elsewhere"
	@echo "make docs       the documentation, into docs/_build/html"
	@echo "make test-site  the built documentation in a real browser (chromium)"
	@echo "make bench      the benchmarks, as ratios within one run"
	@echo "make bench-gpu  the benchmarks of an accelerator (on the CPU too), within 10 minutes"
	@echo "make clean      remove .venv, .venv-hosts and everything built"

demo: $(VENV)/.with-examples
	@$(PY) examples/yinyang_snn.py $(ARGS)

results: $(VENV)/.with-examples
	@$(PY) examples/results.py $(ARGS)

test: $(VENV)/.with-test
	@$(PY) -m pytest -q -n 2 -m "not more and $(QUICK)" $(ARGS)

test-more: $(VENV)/.with-test
	@$(PY) -m pytest -q -n 2 -m "more and $(QUICK)" $(ARGS)

test-hosts: $(HOSTS)/.with-test-hosts
	@$(HOSTS)/bin/python -m pytest -q -n 2 -m "hosts and not long and not gpu" $(ARGS)

test-long: $(VENV)/.with-test
	@$(PY) -m pytest -q -m "long and not gpu and not hosts and not site" $(ARGS)

test-gpu: $(VENV)/.with-test
	@BRAINOPT_TEST_GPU=1 $(PY) -m pytest -q -m gpu $(ARGS)

check: lint types

lint: $(VENV)/.with-check
	@echo "ruff check" && $(PY) -m ruff check .
	@echo "ruff format" && $(PY) -m ruff format --check .

types: $(VENV)/.with-check
	@echo "pyright" && $(PY) -m pyright --pythonpath $(PY)
	@echo "pyright and mypy in user code" && $(PY) -m pytest -q tests/typing

hooks: $(VENV)/.with-check $(VENV)/.with-test
	@$(PY) -m pre_commit install

package: $(VENV)/.with-check $(VENV)/.with-test
	@.ci/package $(PY)

format: $(VENV)/.with-check
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: $(VENV)/.with-docs
	@$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

test-site: $(VENV)/.with-test docs
	@$(PY) -m pytest -q -m site $(ARGS)

bench: $(VENV)/.with-bench
	@$(PY) -m tests.benchmarks $(ARGS)

bench-gpu: $(VENV)/.with-bench
	@$(PY) -m tests.benchmarks.gpu

clean:
	rm -rf $(VENV) $(HOSTS) build dist *.egg-info docs/_build
	rm -rf .pytest_cache .ruff_cache .hypothesis

# A stamp for each extra that is installed in an environment. The compatible mode puts
# this folder on the path of the environment, where editors and type checkers look; the
# default one installs an import hook, which they cannot follow.
$(VENV)/.with-%: setup.cfg pyproject.toml | $(VENV)/.made
	$(install)

$(HOSTS)/.with-%: setup.cfg pyproject.toml | $(HOSTS)/.made
	$(install)

define install
@echo "installing brainopt[$*] into $(@D); the first time takes a minute or two"
@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install \
	--config-settings editable_mode=compat -e '.[$*]'
@touch $@
endef

$(VENV)/.made $(HOSTS)/.made:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c '$(ENOUGH)' || { \
		echo "brainopt needs Python >= 3.11, and $(if $(PYTHON),$(PYTHON) is not one,none was found)." >&2; \
		echo "help: install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@echo "making $(@D) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear $(@D)
	@touch $@
