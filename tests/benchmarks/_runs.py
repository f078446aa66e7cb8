"""What the benchmarks of quality share: many runs over processes, a cache, quartiles, ranks."""

import json
import multiprocessing
import os
import sys
import warnings

import numpy as np

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"


def answers(solve, tasks, jobs, cache, ours):
    """Answers of all tasks, by task; those of peers are looked up in and added to the cache.

    Parameters
    ----------
    solve : callable
        ``solve(task) -> (task, answer)``; a task is a tuple whose first item names the method.
    tasks : list of tuple
    jobs : int
        Processes.
    cache : Path or None
        File that keeps answers from run to run.
    ours : set of str
        Methods whose answers are never kept.
    """
    kept = json.loads(cache.read_text()) if cache is not None and cache.exists() else {}
    out = {task: kept[str(task)] for task in tasks if str(task) in kept and task[0] not in ours}
    todo = [task for task in tasks if task not in out]
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=quiet) as pool:
        for done, (task, values) in enumerate(pool.imap_unordered(solve, todo), 1):
            out[task] = values
            if task[0] not in ours:
                kept[str(task)] = values
            if done % 20 == 0 or done == len(todo):
                print(f"\r{done} of {len(todo)} runs", end="", file=sys.stderr, flush=True)
                if cache is not None:
                    cache.write_text(json.dumps(kept))
    print(file=sys.stderr)
    return out


def quiet():
    """Peers warn about noise; their warnings say nothing here."""
    warnings.simplefilter("ignore")


def mean_ranks(medians, cells, methods):
    """Mean rank of each method over the cells, ties sharing their ranks."""
    from scipy.stats import rankdata

    ranks = [rankdata([medians[cell, method] for method in methods]) for cell in cells]
    return dict(zip(methods, np.mean(ranks, axis=0), strict=True))
