"""Time and memory of a step in EvoTorch, ours beside PGPE, SNES and CEM.

    python -m tests.benchmarks.evotorch [--device DEVICE] [--quick] [--json FILE] [--check]
    python -m tests.benchmarks.evotorch --task rl [...]

200 solutions in float32, ClipUp, 50 of the 100 directions kept, an objective that reads eight
numbers of a solution. The searchers take turns of several steps in one process, so that a busy
machine slows them all while short steps find their caches warm; one thread. Memory is the peak of
one step above what is held before the first, in populations (200 d numbers): of the resident set
on a CPU, in a process of its own for each, of the allocator on a GPU. "2 actors" is the wall time
of a step with ``distributed=True`` and two Ray actors.

``--task rl`` trains policies instead: see tests/benchmarks/evotorch_rl.py.
"""

import functools
import logging
import os
import subprocess
import sys

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")

import numpy as np
import torch

from tests.benchmarks import _device, _runs, _table

POPSIZE = 200
OURS, PEER = "BGS", "PGPE"
SEARCHERS = (OURS, PEER, "SNES", "CEM")
TURN = {1_000: 20, 10_000: 4, 100_000: 1, 1_000_000: 1}  # steps a turn
TURNS = {1_000: 40, 10_000: 25, 100_000: 12, 1_000_000: 4}
FASTER = {1_000: 2.5, 10_000: 6, 100_000: 9, 1_000_000: 10}  # times than PGPE, due
MEMORY = 1.15  # populations, due
ACTORS = {1_000: 20, 100_000: 6, 1_000_000: 2}  # steps with two actors
FASTER_BY_ACTORS = {1_000_000: 2.5}


def squares(x):
    """The objective."""
    return (x[:, :8] ** 2).sum(-1)


def made(name, dim, device="cpu", *, num_actors=0):
    """A searcher that has taken no step."""
    from evotorch import Problem, algorithms

    from bgs_opt.adapters.evotorch import BGS

    torch.manual_seed(0)
    problem = Problem("min", squares, solution_length=dim, initial_bounds=(-1, 1), vectorized=True,
                      device=device, num_actors=num_actors)  # fmt: skip
    options = {"popsize": POPSIZE, "stdev_init": 0.1, "distributed": num_actors > 0}
    if name in (OURS, PEER):
        options["center_learning_rate"] = 0.1
    if name == PEER:
        options["stdev_learning_rate"] = 0.1
    if name == "CEM":
        options["parenthood_ratio"] = 0.5
    return (BGS if name == OURS else getattr(algorithms, name))(problem, **options)


def by_turns(contestants, steps, turns, device):
    """Times of all contestants by name, one number a turn."""
    times = {name: [] for name in contestants}
    for searcher in contestants.values():
        searcher.run(2)
    for _ in range(turns):
        for name, searcher in contestants.items():
            spent = _device.seconds(functools.partial(searcher.run, steps), device)
            times[name].append(spent / steps)
    return times


def peak(name, dim, device):
    """Peak of three steps in populations."""
    size = 4 * POPSIZE * dim
    if _device.is_cuda(device):
        return _device.growth(functools.partial(made(name, dim, device).run, 3), device) / size
    command = [sys.executable, "-m", "tests.benchmarks.evotorch", "--peak", name, str(dim)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]) / size


def print_peak(name, dim):
    """Bytes of the resident set at its peak above what is held before the first step."""
    made(name, 5_000).run(3)  # what is loaded late, and the buffers of matrix products
    searcher = made(name, dim)
    print(_device.growth(functools.partial(searcher.run, 3), "cpu"))


def main(argv=None):
    """Run the benchmark."""
    arguments = sys.argv[1:] if argv is None else argv
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    if arguments[:1] == ["--peak"]:
        print_peak(arguments[1], int(arguments[2]))
        return 0
    parser = _runs.parser(__doc__, 10)
    _device.add(parser)
    parser.add_argument("--task", choices=("speed", "rl"), default="speed")
    parser.add_argument("--picture", default=None, help="learning curves, with --task rl")
    options = parser.parse_args(arguments)
    _device.check(options.device)
    if options.task == "rl":
        from tests.benchmarks import evotorch_rl

        return evotorch_rl.run(options)
    rows, checks = [], []
    for dim in TURN:
        speed(dim, options, rows, checks)
    if not _device.is_cuda(options.device):
        for dim, steps in ACTORS.items():
            with_actors(dim, steps, options, rows, checks)
    header = ["searcher", "ms a step", "quartiles", f"{PEER} / this", "peak, populations"]
    return _table.finish(
        options, header, rows, checks, device=options.device,
        packages=("bgs_opt", "evotorch", "torch", "ray"),
    )  # fmt: skip


def added(rows, where, times, memory):
    """Rows of a table from times; the ratio of the medians of ours to PGPE's."""
    medians = {name: np.median(spent) for name, spent in times.items()}
    for name, spent in times.items():
        low, middle, high = (1e3 * q for q in _table.quartiles(spent))
        rows.append([f"{name}, {where}", f"{middle:,.2f}", f"{low:,.2f} to {high:,.2f}",
                     f"{medians[PEER] / medians[name]:.1f} x", memory.get(name, "-")])  # fmt: skip
    return float(medians[PEER] / medians[OURS])


def speed(dim, options, rows, checks):
    """Time and memory at one dimension."""
    contestants = {name: made(name, dim, options.device) for name in SEARCHERS}
    turns = max(2, TURNS[dim] // 4) if options.quick else TURNS[dim]
    times = by_turns(contestants, TURN[dim], turns, options.device)
    del contestants
    peaks = {}
    if dim >= 100_000:
        peaks = {name: peak(name, dim, options.device) for name in SEARCHERS}
    memory = {name: f"{value:.2f}" for name, value in peaks.items()}
    ratio = added(rows, f"d = {dim:,}", times, memory)
    if options.device == "cpu":
        checks.append((f"d = {dim:,}: {ratio:.1f} times faster than {PEER}, due {FASTER[dim]}",
                       ratio >= FASTER[dim]))  # fmt: skip
    if peaks:
        checks.append((f"d = {dim:,}: peak {peaks[OURS]:.2f} populations, due {MEMORY}",
                       peaks[OURS] <= MEMORY))  # fmt: skip


def with_actors(dim, steps, options, rows, checks):
    """Wall time of a step with two actors."""
    contestants = {name: made(name, dim, num_actors=2) for name in (OURS, PEER)}
    times = by_turns(contestants, 1, max(2, steps // 2) if options.quick else steps, "cpu")
    for searcher in contestants.values():
        searcher.problem.kill_actors()
    ratio = added(rows, f"2 actors, d = {dim:,}", times, {})
    if (due := FASTER_BY_ACTORS.get(dim)) is not None:
        checks.append((f"2 actors, d = {dim:,}: {ratio:.1f} times faster than {PEER}, due {due}",
                       ratio >= due))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
