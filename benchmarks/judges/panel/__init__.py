"""The judges, one per file. `benchmarks.judges.judge.Judge` is their interface."""
