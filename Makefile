# Evident: `make demo` shows it at work, `make test` runs every test, `make check` the fast part.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Model wheels travel through pip; from 24.1 it can say how far it is.
PIP := pip==26.2
# Two files at a time; one thread each, or torch's threads would fight for the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: demo test check lint serve clean lock

demo: $(STAMP)
	$(BIN)/rag demo

serve: $(STAMP)
	$(BIN)/rag serve

test: $(DEV_STAMP)
	$(BIN)/rag models pull --all-defaults
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

check: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m "not slow" --hypothesis-profile fast

$(BIN)/python:
	@echo "Making $(VENV) and installing pinned dependencies: about two minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP)

$(STAMP): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(DEV_STAMP): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP) $@

# Pins everything that is installed now; run it after a change of dependencies.
lock: $(DEV_STAMP)
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' > constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
