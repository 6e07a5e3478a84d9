"""Writes the results of the judges as a table and as JSON."""

import math

import numpy as np

from benchmarks.judges.judge import Column

Verdict = dict[str, Column]


def summary(column: Column) -> dict[str, float]:
    """Returns the mean, the median, the limit of the worst tenth, and the number of clips that could be judged."""
    values = column.values[~np.isnan(column.values)]
    if not len(values):
        return {"n": 0}
    worst = np.quantile(values, 0.1 if column.higher else 0.9)
    mean, median = float(values.mean()), float(np.median(values))
    return {"mean": mean, "median": median, "worst tenth": float(worst), "n": len(values)}


def text(verdict: Verdict) -> str:
    """Returns the table as text: a line for each column of a judge."""
    width = max(map(len, verdict), default=0)
    lines = [f"{'':{width}}  {'mean':>9} {'median':>9} {'worst 10%':>9} {'n':>5}  better"]
    for name, column in verdict.items():
        numbers = summary(column)
        cells = " ".join(f"{numbers.get(key, math.nan):9.3f}" for key in ("mean", "median", "worst tenth"))
        lines.append(f"{name:{width}}  {cells} {numbers['n']:5d}  {'higher' if column.higher else 'lower'}")
    return "\n".join(lines)


def as_json(verdict: Verdict, names: list[str]) -> dict:
    """Returns a summary of each column, and the values of each clip, or null if the clip could not be judged."""
    clips = {
        name: {
            key: None if math.isnan(column.values[i]) else float(column.values[i])
            for key, column in verdict.items()
            if len(column.values) == len(names)
        }
        for i, name in enumerate(names)
    }
    summaries = {key: {**summary(column), "higher is better": column.higher} for key, column in verdict.items()}
    return {"summary": summaries, "clips": clips}
