# SPDX-License-Identifier: MIT
# "make demo" and "make test" need only make, Python 3.11 or newer with venv, and PyPI.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# One more than the two processors it is measured on: tests with real daemons wait a lot.
WORKERS ?= 3
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
PACKAGING = setup.cfg setup.py pyproject.toml
NEEDED = gmesh needs Python 3.11 or newer with venv; on Debian and Ubuntu: apt install make python3-venv

.PHONY: demo test test-postgres lint docs news soak bench deb deb-full clean

demo: $(VENV)/installed
	@$(BIN)/gmesh demo

test: $(VENV)/installed-test
	@$(BIN)/python -m pytest -m "not soak" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# The authority's tests with its database in a PostgreSQL server; needs initdb and pg_ctl on the PATH.
test-postgres: $(VENV)/installed-test
	@$(BIN)/python -m pytest tests/authority --engine postgres -m "not soak" --numprocesses $(WORKERS) --dist loadfile

lint: $(VENV)/installed-test $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-docs
	$(BIN)/sphinx-build -q -W --keep-going -t reference docs docs/_build/html
	$(BIN)/pydoctor -q --config docs/pydoctor.toml

# What the next section of NEWS.rst would say; fails for a fragment of an unknown kind.
news: $(VENV)/installed-docs
	@$(BIN)/towncrier build --draft

soak: $(VENV)/installed-test
	$(BIN)/python -m pytest -m soak
	$(BIN)/python -m pytest -m "not soak and not live" --hypothesis-profile=fresh
	$(MAKE) test-postgres

bench: $(VENV)/installed-test
	for bench in floor links relay streams local authority replicas convergence node; do $(BIN)/python -m bench.$$bench || exit 1; done

# Debian packages into dist/, built in a clean root and judged; needs root, makes what else it needs.
deb:
	GMESH_PACKAGING_OUTPUT=$(CURDIR)/dist tests/packaging/run build

deb-full:
	tests/packaging/run full

clean:
	rm -rf .venv* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name dropin.cache -delete

# An editable install: what is in the tree is what runs, and setup.cfg alone makes it stale.
$(VENV)/created:
	@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    || { echo '$(NEEDED)' >&2; exit 1; }
	@echo 'creating $(VENV)'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/created $(PACKAGING)
	@echo 'installing gmesh into $(VENV)'
	@$(PIP) --editable .
	@touch $@

$(VENV)/installed-%: $(VENV)/installed $(PACKAGING)
	@echo 'installing what "$*" needs into $(VENV)'
	@$(PIP) --editable '.[$*]'
	@touch $@
