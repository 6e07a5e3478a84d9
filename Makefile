PYTHON ?= python3
BIN = .venv/bin

.PHONY: setup demo test lint bench evidence lower torture clean

setup: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m demo --out runs/demo

test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: setup
	$(BIN)/python -m benchmarks

evidence: setup
	$(BIN)/python -m benchmarks.evidence

lower: setup
	$(BIN)/python -m benchmarks.lower

torture: setup
	$(BIN)/python -m benchmarks.torture

clean:
	rm -rf .venv runs build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
