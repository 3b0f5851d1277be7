# make install   .venv with everything; seconds when run again
# make demo      draw pictures, train, predict, score (needs no download of weights or data)
# make test      the test suite; make test-slow: the tests that take minutes or need FEWSHOT_DATA
# make test-browser   the report and the app in Chromium (apt-get install chromium chromium-driver; else they skip)
# make coverage  the suite with branch coverage of episodes and fewshot; fails below 90 %
# make mutants   faults put in one by one: a sample of 400, about half an hour on two quiet cores
# make lint      ruff and mypy; make format: let ruff rewrite the code
# make docs      the site, API pages from the docstrings, into site/; fails on any warning
# make benchmarks   measure against other libraries (minutes)
# make clean     remove .venv and every build output
#
# PYTHON=python3.12 make install   picks the interpreter (`make clean` first to change it). CI=true insists that learn2learn builds.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/installed
CODE   := $(wildcard episodes fewshot experiments)

.PHONY: install demo test test-browser test-slow lint format docs benchmarks clean
.DELETE_ON_ERROR:

install: $(STAMP)

# The stamp is removed first and written last, so an interrupted install is never taken for a finished one.
# A virtual environment without a working pip is what an interrupted `venv` leaves: it is made anew.
$(STAMP): setup.cfg pyproject.toml .ci/install_learn2learn
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "make install: needs Python 3.10 or newer, found $$($(PYTHON) --version 2>&1);" \
	           "name another one: make install PYTHON=python3.12" >&2; exit 1; }
	@rm -f $@
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	    { echo "make install: could not make a virtual environment (on Debian and Ubuntu:" \
	           "apt-get install python3-venv)" >&2; exit 1; }
	$(PY) -m pip install --disable-pip-version-check -e '.[dev]'
	.ci/install_learn2learn $(PY)
	@touch $@

demo: install
	$(PY) -m fewshot demo

test: install
	$(PY) -m pytest -n logical --maxprocesses 4 --dist worksteal

test-browser: install
	$(PY) -m pytest -m browser

test-slow: install
	$(PY) -m pytest -m 'slow or data'

coverage: install
	$(PY) -m pytest -q -n logical --maxprocesses 4 --dist worksteal --cov --cov-report=term-missing:skip-covered

mutants: install
	$(PY) -m experiments.faults.mutants build/mutants

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy $(CODE)

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: install
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

benchmarks: install
	$(PY) -m experiments.benchmarks

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find episodes fewshot experiments tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
