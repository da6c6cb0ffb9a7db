# Two commands: `make run` (the daemon on the example configuration) and `make test` (everything CI checks).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test check browser clean

run: $(BIN)/rrqd
	$(BIN)/rrqd --config config/rrq.example.toml

$(BIN)/rrqd: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/.dev check
	@# tests start hundreds of processes: what they import is compiled once
	$(BIN)/python -m compileall -q rrqd tests
	@# most of them wait for processes: three at a time on two processors
	$(BIN)/python -m pytest -n 3 --dist worksteal

# The dashboard in a real browser (Debian's chromium); RRQD_SCREENSHOTS=folder keeps pictures of every page.
browser: $(VENV)/.browser
	$(BIN)/python -m pytest tests/browser

$(VENV)/.browser: $(VENV)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[browser]'
	touch $@

clean:
	rm -rf $(VENV)
