"""Time of ask and tell a candidate in Nevergrad, relative to an optimizer that does nothing.

    python -m tests.benchmarks.nevergrad_overhead [--quick] [--json FILE] [--check]

All take turns, a slice of candidates each, on one thread. The optimizer that does nothing hands
out one vector, with one coordinate changed each time, since Nevergrad itself keeps every point
that was told in its archive. CMA is left out at d = 100,000, where its covariance matrix would
have 1e10 numbers.
"""

import os
import sys
import time
import warnings

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import nevergrad as ng
import numpy as np
from nevergrad.optimization import base

import bgs_opt.adapters.nevergrad  # noqa: F401  (registers)
from tests.benchmarks import _table

DUE = 1.3
DIMS = {1_000: (100, 60), 100_000: (20, 12)}  # candidates in a slice, slices
PEERS = ("OnePlusOne", "DE", "DiagonalCMA", "CMA")
SLOW = {100_000: ("CMA",)}
FEW = {100_000: ("DE", "DiagonalCMA")}  # a fifth of the candidates


class Nothing(base.Optimizer):
    """Hands out the same vector but for one number."""

    def __init__(self, parametrization, budget=None, num_workers=1):
        super().__init__(parametrization, budget=budget, num_workers=num_workers)
        self._point = np.zeros(self.dimension)

    def _internal_ask_candidate(self):
        self._point[self.num_ask % self.dimension] += 1e-3
        return self.parametrization.spawn_child().set_standardized_data(self._point)

    def _internal_tell_candidate(self, candidate, loss):
        pass


def made(name, dim):
    """An optimizer with a budget that it will not reach."""
    space = ng.p.Array(shape=(dim,))
    space.random_state = np.random.RandomState(0)
    kind = Nothing if name == "nothing" else ng.optimizers.registry[name]
    return kind(space, budget=10**6)


def seconds(optimizer, count, rng):
    """Time of one ask and one tell, over ``count`` of them."""
    begun = time.perf_counter()
    for loss in rng.standard_normal(count).tolist():
        optimizer.tell(optimizer.ask(), loss)
    return (time.perf_counter() - begun) / count


def measured(dim, slices):
    """Times of all contestants by name, one number a slice."""
    size = DIMS[dim][0]
    names = ["nothing", "BGS", *(p for p in PEERS if p not in SLOW.get(dim, ()))]
    contestants = {name: made(name, dim) for name in names}
    rng = np.random.default_rng(0)
    times = {name: [] for name in names}
    for round_ in range(slices + 2):
        for name, optimizer in contestants.items():
            count = max(2, size // 5) if name in FEW.get(dim, ()) else size
            spent = seconds(optimizer, count, rng)
            if round_ >= 2:  # the first two warm up
                times[name].append(spent)
    return times


def main(argv=None):
    """Run the benchmark."""
    options = _table.parse(argv, __doc__)
    warnings.simplefilter("ignore")
    rows, checks = [], []
    for dim, (_, slices) in DIMS.items():
        times = measured(dim, slices // 4 if options.quick else slices)
        base_times = np.array(times["nothing"])
        ratio = {}
        for name, spent in times.items():
            low, middle, high = (1e6 * q for q in _table.quartiles(spent))
            ratio[name] = float(np.median(np.array(spent) / base_times))
            rows.append([f"{name}, d = {dim:,}", f"{middle:,.0f}", f"{low:,.0f} to {high:,.0f}",
                         f"{ratio[name]:.2f} x"])  # fmt: skip
        checks.append((f"d = {dim:,}: {ratio['BGS']:.2f} times nothing, due {DUE}",
                       ratio["BGS"] <= DUE))  # fmt: skip
        for name in list(ratio)[2:]:
            checks.append((f"d = {dim:,}: less than {name}, {ratio[name]:.2f}",
                           ratio["BGS"] < ratio[name]))  # fmt: skip
    header = ["optimizer", "us a candidate", "quartiles", "relative to nothing"]
    return _table.finish(options, header, rows, checks, packages=("bgs_opt", "numpy", "nevergrad"))


if __name__ == "__main__":
    sys.exit(main())
