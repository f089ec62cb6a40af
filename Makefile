# Every target sets itself up, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Tests run in two processes; more threads than one each only make them wait for each other.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest
PARALLEL := -n 2 --dist worksteal --durations 10
# What exercises the library, which is all that coverage is measured of.
LIBRARY_TESTS := tests/unit/rope tests/unit/diffusion tests/unit/integrations tests/unit/models \
  tests/properties tests/contracts tests/parity

.PHONY: demo test test-fast soak coverage check docs format clean study study-status study-pause \
  study-resume study-stop study-collect study-report

# Threads that wait for each other yield their core: spinning makes training several times slower when
# anything else runs beside it.
demo: $(VENV)/.train
	OMP_WAIT_POLICY=PASSIVE $(BIN)/harope demo --out demo

test: $(VENV)/.dev
	$(PYTEST) $(PARALLEL)

test-fast: $(VENV)/.dev
	$(PYTEST) $(PARALLEL) -m "not slow and not gpu"

# Injects faults into commands for about 20 minutes; writes the table of docs/results/reliability.md.
soak: $(VENV)/.dev
	PYTHONPATH=tests $(TEST_ENV) $(BIN)/python -m soak --page docs/results/reliability.md

# Not part of `make test`: before Python 3.12 it makes tests slower by nearly half.
coverage: $(VENV)/.dev
	if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; \
	  then export COVERAGE_CORE=sysmon; fi; \
	$(PYTEST) $(PARALLEL) --cov --cov-report=term $(LIBRARY_TESTS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/python -m pip check
	rm -rf $(VENV)/dist
	$(BIN)/python -m build --no-isolation --outdir $(VENV)/dist . > $(VENV)/build.log
	$(BIN)/twine check --strict $(VENV)/dist/*
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs: $(VENV)/.dev
	$(BIN)/mkdocs serve

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The study of docs/results/study.md, in a work tree of its own beside this one.
study:
	scripts/study/study.sh start

study-status study-pause study-resume study-stop study-collect:
	scripts/study/study.sh $(@:study-%=%)

study-report: $(VENV)/.train
	$(BIN)/python -m scripts.results study

clean:
	rm -rf $(VENV) demo site

$(VENV)/.base:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.train: $(VENV)/.base pyproject.toml constraints.txt
	$(PIP) --editable '.[train]'
	touch $@

$(VENV)/.dev: $(VENV)/.base pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	touch $@
