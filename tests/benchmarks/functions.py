"""Quality of ``minimize`` without any tuning, beside four peers at the same budget.

    python -m tests.benchmarks.functions [--quick] [--jobs 2] [--cache FILE] [--continue FILE]

Scores the noise-free loss at the returned point relative to the start: median and quartiles
over 20 seeds of sphere, ellipsoid (condition 1e4, rotated), rosenbrock and rastrigin at d = 10
and 50, budget 400 d, with Gaussian noise of 0, 10 % and 100 % of the loss at the start. CMA and
SepCMA count with the better of their two answers in each cell (best seen, final mean). The peers'
answers, which do not depend on bgs_opt, stand in functions_peers.json with the versions that gave
them; what is missing is added. ``--cache FILE`` with a new FILE runs all anew.
"""

import itertools
import sys
from pathlib import Path

import numpy as np

from tests.benchmarks import _runs, _table
from tests.benchmarks.problems import FUNCTIONS, METHODS, NOISES, solve

DIMS = (10, 50)
SEEDS = 20
PACKAGES = ("numpy", "scipy", "cmaes")
KEPT = Path(__file__).with_name("functions_peers.json")
PEERS = tuple(name for name in METHODS if name != "bgs_opt")


def quartiles(out, method, cell, seeds):
    """Lower quartile, median and upper quartile; for several answers those of the best median."""
    table = np.array([out[(method, *cell, seed)] for seed in seeds])
    best = table[:, int(np.argmin(np.median(table, axis=0)))]
    return np.quantile(best, [0.25, 0.5, 0.75])


def due(medians, cells):
    """The figures that the project asks for: name, measured, whether it holds."""
    checks = []
    for cell, limit in {
        ("sphere", 10, 0.0): 1e-6,
        ("sphere", 50, 0.0): 1e-5,
        ("sphere", 10, 0.1): 0.02,
        ("sphere", 50, 0.1): 0.02,
    }.items():
        value = medians[cell, "bgs_opt"]
        name = f"{cell[0]} d={cell[1]} noise {cell[2]:.0%}: {value:.1e} < {limit:g}"
        checks.append((name, value < limit))
    for cell in cells:
        if cell[1] == 50 and cell[0] != "rastrigin":
            ours, theirs = medians[cell, "bgs_opt"], medians[cell, "DE"]
            name = f"{cell[0]} d=50 noise {cell[2]:.0%}: {ours:.1e} < {theirs:.1e} of DE"
            checks.append((name, ours < theirs))
    ranks = _runs.mean_ranks(medians, [cell for cell in cells if cell[2]], METHODS)
    best_peer = min(ranks[name] for name in PEERS)
    name = f"mean rank over the noisy cells {ranks['bgs_opt']:.2f} < {best_peer:.2f}"
    checks.append((name, ranks["bgs_opt"] < best_peer))
    return checks


def main(argv=None):
    """Run the benchmark."""
    options = _runs.parser(__doc__, SEEDS, KEPT).parse_args(argv)
    seeds = _runs.seeds(options, SEEDS)
    cells = [(f, d, z) for z, d, f in itertools.product(NOISES, DIMS, FUNCTIONS)]
    tasks = [(m, *cell, seed) for seed in seeds for cell in cells for m in METHODS]
    out = _runs.answers(solve, tasks, options, {"bgs_opt"}, PACKAGES)
    found = {(c, m): quartiles(out, m, c, seeds) for c in cells for m in METHODS}
    medians = {key: middle for key, (_, middle, _) in found.items()}
    names = {cell: f"{cell[0]}, {cell[1]}, {cell[2]:.0%}" for cell in cells}
    rows = _runs.rows(found, names, METHODS, "bgs_opt")
    for title, chosen in (
        ("mean rank, noise-free cells", [c for c in cells if not c[2]]),
        ("mean rank, noisy cells", [c for c in cells if c[2]]),
        ("mean rank, all cells", cells),
    ):
        ranks = _runs.mean_ranks(medians, chosen, METHODS)
        rows.append([title, *(f"{ranks[method]:.2f}" for method in METHODS)])
    header = ["function, d, noise", *METHODS]
    return _table.finish(
        options, header, rows, due(medians, cells),
        packages=("bgs_opt", *PACKAGES), seeds=len(seeds),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
