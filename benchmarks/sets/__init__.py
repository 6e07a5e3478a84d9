"""Sets of third-party sounds, each written by one command: python -m benchmarks.sets NAME --out DIR."""
