# Each target sets up what it needs in $(VENV). ARGS is handed on: make test ARGS="-k identity"; tests wait
# for disks and processes most of their time, so JOBS run side by side. What failed so runs once more, alone, with the
# same SEED: real browsers and databases share a machine with the rest, and may have been too late. What is wrong
# fails again.
VENV   ?= .venv
PYTHON ?= python3
ARGS   ?=
JOBS   ?= 4
SEED   ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
BIN    := $(VENV)/bin
override SEED := $(SEED)
PYTEST := PYTHONHASHSEED=0 $(BIN)/python -m pytest --hypothesis-seed=$(SEED)

.PHONY: serve test lint bench docs
serve: $(VENV)/.ready
	$(BIN)/oneself serve --demo $(ARGS)

test: lint
	$(PYTEST) -n $(JOBS) --dist loadfile $(ARGS) || $(PYTEST) --last-failed --last-failed-no-failures none $(ARGS)

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
