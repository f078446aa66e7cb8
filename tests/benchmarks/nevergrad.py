"""BGS in Nevergrad's registry beside ten of Nevergrad's own optimizers.

    python -m tests.benchmarks.nevergrad [--quick] [--jobs 2] [--cache FILE] [--continue FILE]
        [--dims 10 50] [--seeds N] [--most N] [--json FILE] [--check]

Scores the noise-free loss at the recommendation relative to the start: medians over 15 seeds of
sphere, cigar, rotated ellipsoids (condition 1e2 and 1e4), rosenbrock and rastrigin at d = 10, 50
and 200, budgets 20 d and 100 d, Gaussian noise of 0, 10 %, 100 % and 1000 % of the loss at the
start. No optimizer gets an option; all are told whether the function is noisy. The names of
bgs_opt beside "BGS" are shown, but do not take part in the ranks.

All runs of the peers take many hours of one core. Their answers do not depend on bgs_opt: they
stand in nevergrad_peers.json with the versions that gave them, and what is missing there is added.
Other versions need a file of their own, ``--cache FILE``; a new one runs every peer anew.
"""

import itertools
import sys
from collections import Counter
from pathlib import Path

from tests.benchmarks import _runs, _table
from tests.benchmarks.nevergrad_problems import FUNCTIONS, NOISES, solve

OURS = ("BGS", "BGSWide")
PEERS = ("CMA", "DiagonalCMA", "TBPSA", "OnePlusOne", "DE", "TwoPointsDE", "NGOpt", "NgIohTuned",
         "SPSA", "RandomSearch")  # fmt: skip
PACKAGES = ("numpy", "nevergrad", "cma")
KEPT = Path(__file__).with_name("nevergrad_peers.json")
RANKED = ("BGS", *PEERS)
DIMS = (10, 50, 200)
RATIOS = (20, 100)
SEEDS = 15
PROTOTYPE = {("rastrigin", 10, 100, 0.1): 1.0, ("rastrigin", 50, 20, 0.1): 0.98}
"""What the first prototype of the automatic rule reached (on draws of its own)."""


def worst_three(medians, cells):
    """Cells of smooth, unimodal functions where BGS is among the worst three."""
    found = []
    for cell in cells:
        better = sum(medians[cell, peer] <= medians[cell, "BGS"] for peer in PEERS)
        if cell[0] in ("sphere", "cigar") or cell[0].startswith("ellipsoid"):
            found += [cell] if better >= len(RANKED) - 3 else []
    return found


def due(medians, cells):
    """The figures that the project asks for: in words with what was measured, whether it holds."""
    checks = []
    for title, last, chosen in (
        ("the noisy cells", 1, [c for c in cells if c[3]]),
        ("the cells with d >= 50", 1, [c for c in cells if c[1] >= 50]),
        ("all cells", 2, cells),
    ):
        if not chosen:
            continue
        ranks = _runs.mean_ranks(medians, chosen, RANKED)
        place = 1 + sum(ranks[peer] < ranks["BGS"] for peer in PEERS)
        best = min(PEERS, key=ranks.get)
        checks.append((f"mean rank over {title}: place {place} (due {last}), "
                       f"{ranks['BGS']:.2f}; {best} {ranks[best]:.2f}",
                       place <= last))  # fmt: skip
    bad = worst_three(medians, cells)
    checks.append(
        (f"sphere, cigar, ellipsoids: among the worst three in {bad or 'no cell'}", not bad)
    )
    for cell, prototype in PROTOTYPE.items():
        if cell in cells:
            value = medians[cell, "BGS"]
            checks.append((f"{words(cell)}: {value:.2g} < {prototype:.2g} of the prototype",
                           value < prototype))  # fmt: skip
    for name in OURS[1:]:
        wins = [c for c in cells if medians[c, name] < min(medians[c, m] for m in RANKED)]
        checks.append(
            (f"{name} is better than BGS and all peers in {len(wins)} cells", bool(wins))
        )
    return checks


def words(cell):
    """Name of a cell."""
    return f"{cell[0]}, {cell[1]}, {cell[2]}, {cell[3]:.0%}"


def main(argv=None):
    """Run the benchmark."""
    parser = _runs.parser(__doc__, SEEDS, KEPT)
    parser.add_argument("--dims", type=int, nargs="+", default=None, help="10 50 200")
    parser.add_argument("--ratios", type=int, nargs="+", default=RATIOS, help="budget / d")
    parser.add_argument("--most", type=int, default=max(DIMS) * max(RATIOS), metavar="N",
                        help="leave out cells of more evaluations")  # fmt: skip
    options = parser.parse_args(argv)
    seeds = _runs.seeds(options, SEEDS)
    dims = options.dims or (DIMS[:1] if options.quick else DIMS)
    cells = [
        (f, d, r, z)
        for d, r, f, z in itertools.product(dims, options.ratios, FUNCTIONS, NOISES)
        if d * r <= options.most
    ]
    methods = (*OURS, *PEERS)
    tasks = [(m, *cell, seed) for seed in seeds for cell in cells for m in methods]
    out = _runs.answers(solve, tasks, options, set(OURS), PACKAGES)
    broken = Counter(task[0] for task, score in out.items() if score is None)
    scores = {task: 1.0 if score is None else score for task, score in out.items()}
    found = {
        (c, m): _table.quartiles([scores[(m, *c, seed)] for seed in seeds])
        for c in cells for m in methods
    }  # fmt: skip
    medians = {key: middle for key, (_, middle, _) in found.items()}
    rows = _runs.rows(found, {cell: words(cell) for cell in cells}, methods, "BGS")
    for title, chosen in (
        ("mean rank, noise-free cells", [c for c in cells if not c[3]]),
        ("mean rank, noisy cells", [c for c in cells if c[3]]),
        ("mean rank, d >= 50", [c for c in cells if c[1] >= 50]),
        ("mean rank, all cells", cells),
    ):
        if chosen:
            ranks = _runs.mean_ranks(medians, chosen, RANKED)
            rows.append([title, *(f"{ranks[m]:.2f}" if m in ranks else "" for m in methods)])
    return _table.finish(
        options, ["function, d, budget / d, noise", *methods], rows, due(medians, cells),
        packages=("bgs_opt", *PACKAGES), seeds=len(seeds),
        broken=dict(broken) or "no run",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
