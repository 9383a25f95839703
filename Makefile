# Every target starts from nothing: python3.11, git, make and a package registry are enough.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
export UV_COMPILE_BYTECODE := 1
# Ray would otherwise package the whole folder when started through `uv run`.
export RAY_ENABLE_UV_RUN_RUNTIME_ENV := 0

.PHONY: install demo check test bench chaos lint types quick quick-core quick-rest unit unit-processes unit-core unit-sweeps \
	docs release lock clean

install: .venv/.installed

# uv installs torch and torchvision as a matching pair; a small venv of its own brings it where missing.
.venv/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

demo: install
	$(BIN)/luceloop demo

# While you work: lint, types and the tests that start no process, in two or three minutes.
check: install lint types quick

test: install lint types unit

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

quick:
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target quick-core quick-rest

quick-core:
	$(BIN)/pytest -m "not external" tests/core

quick-rest:
	$(BIN)/pytest -m "not external" --ignore=tests/core

# Most tests wait for processes of Ray's to start, so two groups run at a time.
unit:
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target unit-processes unit-core unit-sweeps

unit-processes:
	$(BIN)/pytest -m processes

unit-core:
	$(BIN)/pytest tests/core tests/benchmarks tests/workers

unit-sweeps:
	$(BIN)/pytest -m "not processes" --ignore=tests/core --ignore=tests/benchmarks --ignore=tests/workers

bench: install
	$(BIN)/python -m benchmarks

# Twenty processes of sweeps killed or stopped at random moments, about ten minutes; needs PostgreSQL.
chaos: install
	$(BIN)/python -m tests.chaos

# The documentation as a site in site/, which needs no network; a broken link is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# The source archive and the wheel of a clean checkout into dist/, once a wheel has been installed in
# a new environment and has run there.
release: install
	@test -z "$$(git status --porcelain)" || { git status --short; echo "commit this first"; exit 1; }
	$(BIN)/pytest tests/sweeps/cluster/test_wheel.py
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist

lock: install
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 pyproject.toml --extra dev -o requirements.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
