# Two commands matter: `make demo` and `make test`. Both install what they need into .venv first.
VENV ?= .venv
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
SOURCES := setup.py setup.cfg pyproject.toml $(CONSTRAINTS)

.PHONY: help venv demo test parity check format types bench clean

help:
	@echo "make demo    install and run the whole chain on a bundled scene; prints where report.html is"
	@echo "make test    install and run the test suite"
	@echo "make venv    only install, with what tests and checks need"
	@echo "make parity  only the tests against numbers of the published code (needs EVSIM_PARITY)"
	@echo "make check   ruff and mypy"
	@echo "make test CONSTRAINTS=constraints-min.txt VENV=.venv-min   with the oldest versions that are declared"
	@echo "make bench   print the benchmark tables"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("evsim needs Python 3.11 or newer, found " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(SOURCES) | $(VENV)/bin/python
	@echo "Installing evsim into $(VENV) ..."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "Installing what the tests need ..."
	@$(INSTALL) --editable '.[test,check]'
	@touch $@

venv: $(VENV)/installed-test

demo: $(VENV)/installed
	$(BIN)/evsim demo --output demo-output --overwrite

# Files of tests are spread over the cores; a file stays together, and with it what its tests share.
test: $(VENV)/installed-test
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=loadfile

parity: $(VENV)/installed-test
	@test -n "$$EVSIM_PARITY" || { echo "set EVSIM_PARITY to the folder of fixtures"; exit 2; }
	$(BIN)/python -m pytest -m needs_parity

check: $(VENV)/installed-test types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy cannot follow the folder mapping of an editable install: show it the package as links.
types: $(VENV)/installed-test
	@rm -rf build/types && mkdir -p build/types/evsim
	@for entry in evsim/*; do ln -s "$(CURDIR)/$$entry" build/types/evsim/; done
	@for folder in pipelines models cli; do ln -s "$(CURDIR)/$$folder" build/types/evsim/; done
	cd build/types && MYPYPATH=. $(abspath $(BIN))/python -m mypy --config-file ../../pyproject.toml -p evsim

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed-test
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf build dist demo-output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
