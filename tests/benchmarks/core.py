"""Time and memory of one generation's ask + tell, beside EvoTorch's PGPE.

    python -m tests.benchmarks.core [--quick] [--json FILE] [--check]

128 antithetic pairs in float32 on one thread, ClipUp on both sides, 38 directions kept (30 %),
and an objective that reads eight numbers of a point. Candidates are streamed by blocks. All
contestants take turns, so that a busy machine slows them all; times are CPU times. Memory is
the peak above the state after import and a first small run, measured in a process of its own:
by tracemalloc (NumPy's arrays) and by the resident set (everything). A vector is d numbers.
"""

import json
import os
import resource
import subprocess
import sys
import time
import tracemalloc

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np

from bgs_opt import BGS
from tests.benchmarks import _table

PAIRS, TOP_K = 128, 38
SAMPLERS = ("hadamard", "rademacher", "gaussian_table", "gaussian")
PEER = "PGPE"
# rows of a block: the fastest of those tried at 1e3 (all) and 1e5 (16 to 32 are alike); at 1e6 a
# pair at a time for the memory, though four rows were up to a quarter faster in some runs
ROWS = {1_000: 2 * PAIRS, 100_000: 16, 1_000_000: 2}
TURN = {1_000: 10, 100_000: 1, 1_000_000: 1}  # generations a turn; short ones need warm caches
REPEATS = {1_000: 60, 100_000: 15, 1_000_000: 5}  # turns
QUICK = {1_000: 8, 100_000: 3}
FASTER = {
    (1_000, "hadamard"): 4,
    (100_000, "hadamard"): 25,
    (1_000_000, "hadamard"): 25,
    (1_000_000, "gaussian"): 3,
    (1_000_000, "gaussian_table"): 8,
}
"""How many times faster than PGPE is due."""
VECTORS = {(1_000_000, "hadamard"): 8}
IMPORT_SECONDS = 0.3


def squares(x):
    """The objective: the first eight numbers, squared."""
    return (x[:, :8] ** 2).sum(-1)


def evaluate(candidates, rows):
    """Values of all candidates, streamed through one buffer."""
    return np.concatenate([squares(x) for _, x in candidates.blocks(rows)])


def ours(sampler, dim):
    """One generation of BGS, as a function."""
    opt = BGS(np.full(dim, 0.1, np.float32), 0.1, num_directions=PAIRS, top_k=TOP_K,
              sampler=sampler, optimizer="clipup", seed=1)  # fmt: skip

    def generation():
        candidates = opt.ask()
        opt.tell(candidates, evaluate(candidates, ROWS.get(dim, 2 * PAIRS)))

    return generation


def pgpe(dim):
    """One generation of EvoTorch's PGPE, as a function."""
    import logging

    logging.disable(logging.INFO)
    import torch
    from evotorch import Problem
    from evotorch.algorithms import PGPE

    torch.set_num_threads(1)
    problem = Problem("min", squares, solution_length=dim, initial_bounds=(0.1, 0.1),
                      vectorized=True, dtype=torch.float32, seed=1)  # fmt: skip
    searcher = PGPE(problem, popsize=2 * PAIRS, center_learning_rate=0.1,
                    stdev_learning_rate=0.1, stdev_init=0.1, optimizer="clipup",
                    optimizer_config={"max_speed": 0.2})  # fmt: skip
    return searcher.step


def contestant(name, dim):
    """Make one by its name."""
    return pgpe(dim) if name == PEER else ours(name, dim)


# ---- time


def times(dim, repeats):
    """CPU seconds of a generation of every contestant, one figure a turn, taking turns."""
    contestants = {name: contestant(name, dim) for name in (*SAMPLERS, PEER)}
    for generation in contestants.values():  # the first one allocates
        generation()
    out = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, generation in contestants.items():
            start = time.process_time()
            for _ in range(TURN[dim]):
                generation()
            out[name].append((time.process_time() - start) / TURN[dim])
    return out


def import_seconds(repeats):
    """CPU seconds that the two main names take after numpy, in fresh processes; the median."""
    code = ("import numpy, time; start = time.process_time(); import bgs_opt; "
            "bgs_opt.BGS, bgs_opt.minimize; print(time.process_time() - start)")  # fmt: skip
    return float(np.median([float(child("-c", code)) for _ in range(repeats)]))


# ---- memory


def peaks(name, dim):
    """Peak of a few generations in this process, bytes above: resident set, tracemalloc."""
    small = contestant(name, 1_000)
    small()
    small()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    generation = contestant(name, dim)
    generations = 2 if name == PEER else 3
    for _ in range(generations):
        generation()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if name == PEER:
        return resident * 1024, None  # torch's memory is not traced
    del generation
    tracemalloc.start()
    generation = contestant(name, dim)
    for _ in range(generations):
        generation()
    return resident * 1024, tracemalloc.get_traced_memory()[1]


def child(*arguments):
    """Output of a fresh interpreter without coverage."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("COV", "COVERAGE"))}
    done = subprocess.run(
        [sys.executable, *arguments], env=clean, check=True, capture_output=True, text=True
    )
    return done.stdout


def memory(dim):
    """Peaks of every contestant in vectors of length d, each in a process of its own.

    To be called while this process is small: a child starts with its parent's maximum.
    """
    out = {}
    for name in (*SAMPLERS, PEER):
        found = json.loads(child("-m", "tests.benchmarks.core", "--peaks", name, str(dim)))
        out[name] = [None if value is None else value / (4 * dim) for value in found]
    return out


# ---- the table


def cells(dim, name, seconds, reference, found):
    """One row: times in ms, ratio to PGPE, peaks in vectors."""
    low, middle, high = (1e3 * q for q in _table.quartiles(seconds))
    resident, traced = found
    rows = ROWS[dim] if name != PEER else "-"
    return [f"{name}, d = {dim:,}", f"{middle:,.2f}", f"{low:,.2f} to {high:,.2f}",
            f"{1e3 * reference / middle:,.1f} x", rows, f"{resident:,.1f}",
            "-" if traced is None else f"{traced:,.1f}"]  # fmt: skip


def main(argv=None):
    """Run the benchmark."""
    parser = _table.parser(__doc__)
    parser.add_argument("--peaks", nargs=2, metavar=("NAME", "D"), help="for its own children")
    options = parser.parse_args(argv)
    if options.peaks:
        print(json.dumps(peaks(options.peaks[0], int(options.peaks[1]))))
        return 0
    repeats = QUICK if options.quick else REPEATS
    needed = import_seconds(3 if options.quick else 9)
    used = {dim: memory(dim) for dim in repeats}
    rows, checks = [], [(f"import {needed:.2f} s < {IMPORT_SECONDS} s", needed < IMPORT_SECONDS)]
    for dim, count in repeats.items():
        seconds = times(dim, count)
        reference = float(np.median(seconds[PEER]))
        for name in seconds:
            rows.append(cells(dim, name, seconds[name], reference, used[dim][name]))
            ratio, wanted = reference / np.median(seconds[name]), FASTER.get((dim, name))
            if wanted is not None:
                words = f"{name}, d = {dim:,}: {ratio:.1f} times faster than PGPE, due {wanted}"
                checks.append((words, ratio >= wanted))
            limit = VECTORS.get((dim, name))
            if limit is not None:
                peak = max(used[dim][name])
                words = f"{name}, d = {dim:,}: peak {peak:.1f} vectors, due below {limit}"
                checks.append((words, peak < limit))
    header = ["sampler", "ms", "quartiles", "PGPE / this", "rows a block",
              "peak: resident", "traced"]  # fmt: skip
    return _table.finish(
        options, header, rows, checks, packages=("bgs_opt", "numpy", "torch", "evotorch"),
        pairs=PAIRS, kept=TOP_K, turns=list(repeats.values()), import_seconds=round(needed, 3),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
