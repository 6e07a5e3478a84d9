"""Sounds that are not ours, each set by one command: python -m benchmarks.sets NAME --out DIR."""
