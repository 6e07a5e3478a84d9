"""All judges that suit a case, the clips shared out to processes."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from benchmarks.judges import table
from benchmarks.judges.judge import Case, Column, panel, suits

CHUNK = 10  # clips that a process judges at a time


def judged(case: Case, names: list[str] | None = None, processes: int = 2) -> table.Verdict:
    """What the judges say, in the order of their names.

    Args:
        case: the sounds.
        names: of the judges; all that suit by default.
        processes: among which the clips are shared out.
    """
    judges = {name: judge for name, judge in panel().items() if suits(judge, case) and (not names or name in names)}
    tasks = [(name, part) for name, judge in judges.items() for part in _parts(case, judge.NEEDS)]
    # One thread each: threads that wait for each other cost more than they do.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # Not forked: the runtimes of the networks do not survive it.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        answers = list(pool.map(_judge, *zip(*tasks, strict=True))) if tasks else []
    verdict: table.Verdict = {}
    for columns in answers:
        for key, column in columns.items():
            before = verdict[key].values if key in verdict else np.zeros(0)
            verdict[key] = Column(np.concatenate([before, column.values]), column.higher)
    return {key: column for key, column in verdict.items() if not np.isnan(column.values).all()}


def _parts(case: Case, needs: str) -> list[Case]:
    """A case in chunks of clips, for judges that look at each alone."""
    if needs == "references":
        return [case]
    starts = range(0, len(case.made), CHUNK)
    reference = case.reference if case.paired else ()
    return [Case(case.made[i : i + CHUNK], reference[i : i + CHUNK], case.paired) for i in starts]


def _judge(name: str, case: Case) -> dict[str, Column]:
    return panel()[name].judge(case)
