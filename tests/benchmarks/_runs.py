"""What the benchmarks of quality share: many runs, answers that are kept, quartiles, ranks."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from tests.benchmarks import _table

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"


ROOT = Path(__file__).parents[2]
WRITE_EVERY = 20.0  # seconds


def parser(doc, count, cache=None):
    """Parser of the options of a benchmark over seeds, ``count`` of them in a whole run."""
    made = _table.parser(doc)
    made.add_argument("--jobs", type=int, default=1, help="processes; figures do not depend")
    made.add_argument(
        "--cache", type=Path, default=cache, metavar="FILE",
        help="keeps the peers' answers, for the versions that gave them"
        + (f" (default: {cache.relative_to(ROOT)})" if cache else ""),
    )  # fmt: skip
    made.add_argument(
        "--continue", type=Path, dest="ours", metavar="FILE",
        help="keeps our own answers while the source is the same: a broken-off run goes on",
    )  # fmt: skip
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


class Kept:
    """Answers in a file, with what they were made by; each line has those of a method and cell.

    Parameters
    ----------
    path : Path or None
        None: nothing is kept.
    made_by : dict of str
        What an answer depends on, versions of packages for instance.
    forget : bool
        Whether answers made by something else are forgotten; else they are an error.
    """

    def __init__(self, path, made_by, *, forget=False):
        self.path, self.made_by, self.lines = path, made_by, {}
        self.written, self.changed = time.monotonic(), False
        if path is None or not path.exists():
            return
        found = json.loads(path.read_text())
        if found["made by"] == made_by:
            self.lines = found["answers"]
        elif not forget:
            other = [f"{name} {version}" for name, version in found["made by"].items()
                     if made_by.get(name) != version]  # fmt: skip
            here = [f"{name} {made_by.get(name, 'missing')}" for name in found["made by"]]
            raise SystemExit(
                f"--cache: {path} has answers made by {', '.join(other)}; here is "
                f"{', '.join(here)}. Give a file of your own, which may be new"
            )

    @staticmethod
    def _place(task):
        *cell, seed = task
        return ", ".join(map(str, cell)), str(seed)

    def __contains__(self, task):
        line, seed = self._place(task)
        return seed in self.lines.get(line, ())

    def __getitem__(self, task):
        line, seed = self._place(task)
        return self.lines[line][seed]

    def add(self, task, answer):
        """Keep an answer, numbers to six digits; write the file now and then."""
        if self.path is None:
            return
        line, seed = self._place(task)
        self.lines.setdefault(line, {})[seed] = _short(answer)
        self.changed = True
        if time.monotonic() - self.written > WRITE_EVERY:
            self.write()

    def write(self):
        """Replace the file, if there is anything new."""
        if not self.changed:
            return
        lines = ",\n".join(
            f"{json.dumps(name)}: {json.dumps(dict(sorted(row.items(), key=lambda i: int(i[0]))))}"
            for name, row in sorted(self.lines.items())
        )
        made_by = json.dumps(self.made_by)
        new = self.path.with_name(self.path.name + ".new")
        new.write_text(f'{{"made by": {made_by},\n"answers": {{\n{lines}\n}}}}\n')
        new.replace(self.path)
        self.written, self.changed = time.monotonic(), False


def _short(answer):
    """A number to six digits, also in lists."""
    if isinstance(answer, (list, tuple)):
        return [_short(part) for part in answer]
    return float(f"{answer:.6g}") if isinstance(answer, float) else answer


def source():
    """A digest of this package and its adapters: what our own answers depend on."""
    files = sorted([*ROOT.glob("bgs_opt/*.py"), *ROOT.glob("adapters/*.py")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def answers(solve, tasks, options, ours, packages):
    """Answers of all tasks, by task; those that are kept are not asked for again.

    Parameters
    ----------
    solve : callable
        ``solve(task) -> (task, answer)``; the first item of a task, a tuple, names the method,
        the last one is the seed.
    tasks : list of tuple
    options : argparse.Namespace
        As :func:`parser` gives it.
    ours : set of str
        Methods of this package.
    packages : tuple of str
        Distributions that answers depend on; the peers' among them.
    """
    versions = _table.versions(packages)
    del versions["python"]
    peers = Kept(options.cache, versions)
    own = Kept(options.ours, {**versions, "source": source()}, forget=True)
    out = {}
    for task in tasks:
        kept = own if task[0] in ours else peers
        if task in kept:
            out[task] = kept[task]
    todo = [task for task in tasks if task not in out]
    with processes(options.jobs, quiet) as pool:
        try:
            for done, (task, values) in enumerate(pool.imap_unordered(solve, todo), 1):
                out[task] = values
                (own if task[0] in ours else peers).add(task, values)
                if done % 20 == 0 or done == len(todo):
                    print(f"\r{done} of {len(todo)} runs", end="", file=sys.stderr, flush=True)
        finally:
            own.write()
            peers.write()
    print(file=sys.stderr)
    return out


@contextlib.contextmanager
def processes(jobs, initializer=None):
    """A pool of new processes that end by themselves; terminated, they may leave a semaphore."""
    with multiprocessing.get_context("spawn").Pool(jobs, initializer) as pool:
        yield pool
        pool.close()
        pool.join()


def quiet():
    """Peers warn about noise; their warnings say nothing here."""
    warnings.simplefilter("ignore")


def mean_ranks(medians, cells, methods):
    """Mean rank of each method over the cells, ties sharing their ranks."""
    from scipy.stats import rankdata

    ranks = [rankdata([medians[cell, method] for method in methods]) for cell in cells]
    return dict(zip(methods, np.mean(ranks, axis=0), strict=True))
