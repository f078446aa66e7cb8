"""What the benchmarks of quality share: many runs over processes, a cache, quartiles, ranks."""

import json
import multiprocessing
import os
import sys
import warnings
from pathlib import Path

import numpy as np

from tests.benchmarks import _table

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"


def parser(doc, count):
    """Parser of the options of a benchmark over seeds, ``count`` of them in a whole run."""
    made = _table.parser(doc)
    made.add_argument("--jobs", type=int, default=1, help="processes; figures do not depend")
    made.add_argument("--cache", type=Path, help="file that keeps the peers' answers")
    made.add_argument("--seeds", type=int, default=None, help=f"{count}, or 3 with --quick")
    return made


def seeds(options, count):
    """The seeds that the options ask for."""
    return range(options.seeds or (3 if options.quick else count))


def counts(values):
    """Quartiles and median of counts, some of which may be infinite: never."""
    low, high = (np.quantile(values, q, method=m) for q, m in ((0.25, "lower"), (0.75, "higher")))
    return float(low), float(np.median(values)), float(high)


def rows(found, names, methods, ours):
    """Medians as rows of a table, one for each cell; with quartiles for ``ours``.

    ``found`` has lower quartile, median and upper quartile by (cell, method); ``names`` the words
    for each cell, in order.
    """
    table = []
    for cell, words in names.items():
        row = [words]
        for method in methods:
            low, middle, high = found[cell, method]
            row.append(f"{middle:.1e}" + f" ({low:.1e} to {high:.1e})" * (method == ours))
        table.append(row)
    return table


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
