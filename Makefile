# `make demo`, `make test` and `make check` do all their own set-up, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Tests run in two processes; more threads than one each only make them wait for each other.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test check format clean study study-status study-pause study-resume study-stop \
  study-collect

demo: $(VENV)/.train
	$(BIN)/harope demo --out demo

test: $(VENV)/.dev
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal --durations 10

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The study of docs/results/study.md, in a work tree of its own beside this one.
study:
	scripts/study/study.sh start

study-status study-pause study-resume study-stop study-collect:
	scripts/study/study.sh $(@:study-%=%)

clean:
	rm -rf $(VENV) demo

$(VENV)/.base:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.train: $(VENV)/.base pyproject.toml constraints.txt
	$(PIP) --editable '.[train]'
	touch $@

$(VENV)/.dev: $(VENV)/.base pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	touch $@
