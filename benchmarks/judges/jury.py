"""Runs all judges that suit a case, in several processes."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from benchmarks.judges import table
from benchmarks.judges.judge import Case, Column, panel, suits

CHUNK = 10  # the number of clips that a process judges at a time


def judged(case: Case, names: list[str] | None = None, processes: int = 2) -> table.Verdict:
    """Returns the columns of all judges, in the order of the judges' names.

    Args:
        case: the sounds to judge.
        names: the names of the judges. The default is all judges that suit the case.
        processes: the number of processes, each of which judges a part of the clips.
    """
    judges = {name: judge for name, judge in panel().items() if suits(judge, case) and (not names or name in names)}
    tasks = [(name, part) for name, judge in judges.items() for part in _parts(case, judge.NEEDS)]
    # Each process uses one thread, because synchronizing threads would cost more than they gain.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # Processes are spawned, because the runtimes of the networks do not survive a fork.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        answers = list(pool.map(_judge, *zip(*tasks, strict=True))) if tasks else []
    verdict: table.Verdict = {}
    for columns in answers:
        for key, column in columns.items():
            before = verdict[key].values if key in verdict else np.zeros(0)
            verdict[key] = Column(np.concatenate([before, column.values]), column.higher)
    return {key: column for key, column in verdict.items() if not np.isnan(column.values).all()}


def _parts(case: Case, needs: str) -> list[Case]:
    """Splits a case into chunks of clips, unless the judge needs the whole set."""
    if needs == "references":
        return [case]
    starts = range(0, len(case.made), CHUNK)
    reference = case.reference if case.paired else ()
    return [Case(case.made[i : i + CHUNK], reference[i : i + CHUNK], case.paired) for i in starts]


def _judge(name: str, case: Case) -> dict[str, Column]:
    return panel()[name].judge(case)
