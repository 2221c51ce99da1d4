# Each target sets up what it needs in $(VENV). ARGS is handed on: make test ARGS="-k identity"
VENV   ?= .venv
PYTHON ?= python3
ARGS   ?=
BIN    := $(VENV)/bin

.PHONY: serve test lint bench docs
serve: $(VENV)/.ready
	$(BIN)/oneself serve --demo $(ARGS)

test: lint
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.ready
	$(BIN)/oneself bench identity $(ARGS)

docs: $(VENV)/.ready
	$(BIN)/python -m pytest tests/test_docs.py $(ARGS)

$(VENV)/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench,dev]'
	touch $@
