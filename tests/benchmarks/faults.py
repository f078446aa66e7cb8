"""Random kills of long runs: each ends with the bits of the run that nothing happened to.

    python -m tests.benchmarks.faults [--kills 200] [--seed 1] [--quick] [--json FILE] [--check]

`minimize` and `train`, alone and with two worker processes, keep their run in a file all the
time. They are struck until so many faults have hit: SIGKILL to the parent or to a worker at a
random moment, or at a point of a random save; a disk that is full, a folder that may not be
written. After each of them the same call is made again, with ``resume=True``. See
``tests/reliability/faults.py``.
"""

import os
import sys
import tempfile

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # fork wants no others

from tests.benchmarks import _table
from tests.reliability import faults


def main(argv=None):
    made = _table.parser(__doc__)
    made.add_argument("--kills", type=int, default=None, help="200, or 10 with --quick")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--verbose", action="store_true", help="a line for each fault")
    options = made.parse_args(argv)
    kills = options.kills or (10 if options.quick else 200)
    if "train" in faults.TURNS:
        import torch

        torch.set_num_threads(1)
    log = (lambda text: print(text, file=sys.stderr, flush=True)) if options.verbose else None
    with tempfile.TemporaryDirectory() as root:
        counts, runs, wrong, swept = faults.campaign(
            kills, options.seed, root, *([log] if log else [])
        )
    rows = []
    for what in (*faults.OUTSIDE, *faults.WITHIN):
        of_runs = [counts[run, what] for run in faults.TURNS]
        rows.append([what, *of_runs, sum(of_runs)])
    rows.append(["struck in all", *(sum(c for (r, _), c in counts.items() if r == run)
                                    for run in faults.TURNS), sum(counts.values())])  # fmt: skip
    rows.append(["runs that ended", *(runs[run] for run in faults.TURNS), sum(runs.values())])
    for fault, words in wrong:
        print(fault, words, file=sys.stderr)
    checks = [
        (f"every run ended with the bits of the undisturbed one, left no process and no file "
         f"behind, and none hung: {len(wrong)} times it did not", not wrong),
        (f"kills left a temporary file {swept} times, which the next save removed", swept > 0),
    ]  # fmt: skip
    return _table.finish(options, ["", *faults.TURNS, "in all"], rows, checks,
                         packages=("numpy", "torch", "gymnasium"), seed=options.seed)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
