# The two commands: `make book` and `make test`. `make help` lists the others.
PYTHON ?= python3
PROFILE ?= quick
ARCHIVE ?=
PARAMS ?=
PIP_ARGS ?=
BENCH ?=
JOBS ?= logical

BIN := .venv/bin
OVERRIDES := $(foreach param,$(PARAMS),-p '$(param)')

.PHONY: help book zip run test lint format bench lab clean venv

help:
	@echo "make book   train, explain, measure, build _build/html/index.html"
	@echo "            PROFILE=ucsd ARCHIVE=path PARAMS=\"epochs=1 n_clips=2\""
	@echo "make zip    the book in one file, to hand on: _build/book.zip"
	@echo "make test   every test, every notebook, the book, with coverage"
	@echo "make lint   ruff, codespell, notebooks without outputs"
	@echo "make bench  every method beside plain Captum: benchmarks/results/"
	@echo "make lab    JupyterLab on the notebooks"
	@echo "make clean  remove what was built (.venv and data/ stay)"

venv: .venv/.installed

# The stamp is written last: an interrupted installation is repeated.
.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4) and "Python 3.11.4 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile $(PIP_ARGS) -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	# Once, on all cores: where Python may write no bytecode, every process would compile all it loads.
	# Some packages hold templates that do not compile, which nothing imports.
	$(BIN)/python -m compileall -qq -j 0 .venv > /dev/null 2>&1 || true
	touch $@

book: run
	$(BIN)/vad book --profile $(PROFILE) $(OVERRIDES)

zip: book
	$(BIN)/vad book --verify --zip

run: venv
ifneq ($(ARCHIVE),)
	$(BIN)/vad data fetch --archive '$(ARCHIVE)' --dest data
endif
	$(BIN)/vad run --profile $(PROFILE) $(OVERRIDES)

# A process a core with one thread each: the tests are many small computations, which more threads
# only slow down. Some hold a network at full size, so that there are four processes at most.
# JOBS=0: one process.
test: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 \
	    --dist loadfile --no-loadscope-reorder --cov --cov-report=term --cov-fail-under=90

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/nbstripout --verify --extra-keys "metadata.papermill cell.metadata.papermill" notebooks/*.ipynb

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout --extra-keys "metadata.papermill cell.metadata.papermill" notebooks/*.ipynb

# BENCH="--profile ucsd" takes network and clip from a run; see `python -m benchmarks --help`.
bench: venv
	$(BIN)/python -m benchmarks $(BENCH)

lab: venv
	$(BIN)/jupyter lab --notebook-dir=.

clean:
	rm -rf _build runs .pytest_cache .ruff_cache .hypothesis .coverage
