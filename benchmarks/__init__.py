"""Timings: ``python -m benchmarks``. Compare numbers of one run only; machines differ and are shared."""
