PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin

.PHONY: setup demo test quick test-slow lint bench evidence lower torture clean

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m demo --out runs/demo

test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

# What depends on the versions of Python and JAX.
quick: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow" tests/test_golden.py tests/test_invariants.py \
		tests/test_compiler.py tests/test_parts.py tests/test_train_step.py tests/test_mesh.py tests/test_checkpoints.py

test-slow: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

PEERS = .venv-peers

$(PEERS)/ready: benchmarks/speed/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	# It wants CUDA; what is used of torchaudio works without.
	find $(PEERS) -name _torchaudio.abi3.so -delete
	touch $@

bench: setup $(PEERS)/ready
	$(BIN)/python -m benchmarks.speed --peer $(PEERS)/bin/python $(BENCH)
	$(BIN)/python -m benchmarks.data

evidence: setup
	$(BIN)/python -m benchmarks.evidence

lower: setup
	$(BIN)/python -m benchmarks.lower

torture: setup
	$(BIN)/python -m benchmarks.torture

clean:
	rm -rf .venv .venv-newest $(PEERS) runs build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
