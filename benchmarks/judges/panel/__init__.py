"""The judges, one per file; `benchmarks.judges.judge.Judge` says what a file must have."""
