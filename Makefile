# make lander     trains a lunar lander for a few minutes: learning curve and film of an episode
# make demo       trains the example network and writes its picture
# make test       lint, types, tests
# make coverage   the share of lines that the tests run, 95 % at least
# make test-slow  the tests that `make test` leaves out: more places for faults of processes
# make test-torch the EvoTorch searcher, here and over Ray actors, policies, and the pages that use them
# make test-hosts the examples of docs/nevergrad.md inside Ray Tune, Hydra, optimagic and Dask
# make lint       the first two of `make test` alone
# make bench      the benchmarks, with the figures that are due
# make hashes     writes requirements-test.txt anew, after a change of constraints.txt
# make audit      looks the pinned versions up among the known vulnerabilities
# make clean      removes everything these made
#
# Each sets up what it needs in the virtual environment .venv; only Python >= 3.10 and make are needed.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 3
PYTEST_ARGS ?=

WITH_TORCH := tests/adapters/test_evotorch*.py tests/adapters/test_torch*.py tests/adapters/test_gymnasium.py \
    tests/adapters/test_policy*.py tests/adapters/test_upstream.py tests/test_docs.py tests/test_doctests.py \
    tests/test_selection.py tests/test_extras.py tests/reliability/test_faults.py
NO_TORCH := $(patsubst %,--deselect='tests/test_docs.py::test_the_code_of_a_page_runs[%]',usage nevergrad)
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1

BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check
SETUP := $(VENV)/.made pyproject.toml constraints.txt requirements-test.txt
HASHED := requirements-test.txt

export MPLBACKEND ?= Agg
export PRE_COMMIT_HOME ?= $(abspath $(VENV))/pre-commit

.DEFAULT_GOAL := test
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo lander test coverage test-slow test-torch test-hosts lint bench hashes audit clean

demo: $(VENV)/.demo
	$(PY) docs/examples/digits_binary_network.py

lander: $(VENV)/.lander
	$(BIN)/bgs-opt train LunarLander-v3 --env-option continuous=True --episodes 600 --evaluate-every 2 --workers 2 \
	    --max-steps 500 --seed 0 --progress --output lander.pt --plot lander.png --video lander.gif
	$(BIN)/bgs-opt play lander.pt --max-steps 500

test: lint
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

coverage: $(VENV)/.torch
	$(BIN)/coverage erase
	$(ONE_THREAD) $(BIN)/coverage run -m pytest -n $(WORKERS) -m "not (slow or hosts or untraced)" $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-slow: $(VENV)/.torch
	$(ONE_THREAD) $(BIN)/python -m pytest -m slow -n $(WORKERS) $(PYTEST_ARGS)

test-torch: $(VENV)/.torch
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 $(WITH_TORCH) $(NO_TORCH) $(PYTEST_ARGS)

test-hosts: $(VENV)/.hosts
	$(ONE_THREAD) $(BIN)/python -m pytest -m hosts $(PYTEST_ARGS)

# In a git checkout the hooks run too, so that .pre-commit-config.yaml is known to work.
lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if test -e .git && git rev-parse --git-dir > /dev/null 2>&1; then \
	    PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pre-commit run --all-files; \
	else echo "pre-commit: not a git checkout, its hooks ran above"; fi

bench: $(VENV)/.bench
	$(PY) -m tests.benchmarks.core --check
	$(PY) -m tests.benchmarks.functions --check
	$(PY) -m tests.benchmarks.nevergrad_overhead --check
	$(PY) -m tests.benchmarks.evotorch --check
	$(PY) -m tests.benchmarks.policy --check
	$(PY) -m tests.benchmarks.genes --check
	$(PY) -m tests.benchmarks.scoreboard --check

hashes: $(VENV)/.made
	$(PIP) install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --quiet --extra test --universal --python-version 3.10 --generate-hashes \
	    --constraints constraints.txt --no-header --no-annotate --output-file $(VENV)/hashes.txt
	(sed '/^#/!d' $(HASHED); cat $(VENV)/hashes.txt) > $(VENV)/$(HASHED)
	mv $(VENV)/$(HASHED) $(HASHED)

audit: $(VENV)/.made
	$(PIP) install --quiet pip-audit
	$(BIN)/pip-audit --require-hashes --disable-pip -r $(HASHED)

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov \
	    .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find bgs_opt adapters tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: a second call installs nothing unless the requirements have changed.
$(VENV)/.demo: $(SETUP)
	$(PIP) install --quiet -c constraints.txt -e '.[plots,demo]'
	@touch $@

$(VENV)/.lander: $(SETUP)
	$(PIP) install --quiet -c constraints.txt -e '.[lander]'
	@touch $@

# Nothing is built or fetched but what has one of the hashes; the package itself needs nothing more.
$(VENV)/.test: $(SETUP)
	$(PIP) install --quiet --require-hashes --only-binary :all: -r $(HASHED)
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	$(PIP) check
	@touch $@

# torch has other files with each index, so here versions are pinned and hashes are not.
$(VENV)/.torch: $(SETUP) $(VENV)/.test
	$(PIP) install --quiet -c constraints.txt -e '.[evotorch,lander,scale,test]'
	@touch $@

$(VENV)/.hosts: $(SETUP)
	$(PIP) install --quiet -c constraints.txt -e '.[nevergrad,hosts,test]'
	@touch $@

$(VENV)/.bench: $(SETUP)
	$(PIP) install --quiet -c constraints.txt -e '.[bench,test]'
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null || { \
	    echo "make: '$(PYTHON)' is missing or older than Python 3.10;" \
	         "name another: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	    echo "make: '$(PYTHON)' cannot make virtual environments (no ensurepip);" \
	         "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@
