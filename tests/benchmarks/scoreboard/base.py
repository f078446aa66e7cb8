"""What a subject of the scoreboard is: one way of using one package, as its own pages show it.

The checks know a package by these methods only. Points and values are those of a problem to be
minimised; a subject that maximises turns the sign of the values and back. ``f`` is always called
with the points that are evaluated, in their order.
"""

import importlib.metadata
import itertools
from pathlib import Path

import numpy as np

from tests.benchmarks.scoreboard.faults import numbers, sphere

SIGMA, SIZE = 0.5, 8
BUDGET = 48
"""Start width, points of a generation, and evaluations of a whole run with workers."""


class Subject:
    """One way of using one package."""

    name = ""
    words = ""  # what is used of it, for the page
    packages = ()  # distributions that it needs
    ours = False
    lacks = {}  # number of a check -> why the interface has no such thing
    beyond = {}  # (number, part) -> why that part is the host's, not the adapter's
    variants = ("",)  # settings that the checks of values go through; the first is the default
    start_seconds = 0.0  # that its processes need to load, added to each deadline
    size = SIZE  # points of a generation
    asks = False  # whether points are asked for and values told
    plays_on = True  # whether ``play`` goes on where it ended
    takes_start = False  # an array of the caller's
    grows = False  # whether its file is added to, not written anew
    records_errors = False  # whether an error of the objective is kept as that of a failed trial
    seedings = ("",)  # documented ways to seed a run with workers
    key = ""

    def installed(self):
        """Whether all packages are there."""
        for package in self.packages:
            try:
                importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                return False
        return True

    # ---- searching

    def make(self, seed=1, variant="", start=None):
        """A search from ``start`` (ones) with width SIGMA and SIZE points a generation."""
        raise NotImplementedError

    def play(self, run, f, generations):
        """So many further generations, with ``f`` as the objective."""
        raise NotImplementedError

    def center(self, run):
        """Where the search stands, if it shows that: the mean that it draws points around."""

    def best(self, run):
        """Value of the point that the package would return now."""
        raise NotImplementedError

    # ---- bad calls

    def miscounts(self, run):
        """Calls that hand over a wrong number of values: (words, call)."""
        return []

    def bad(self):
        """Constructors with a bad argument: (words, call without arguments)."""
        return []

    # ---- whole runs over workers; ``run`` is what ``make_run`` made

    ways = ("serial", "2 workers")

    def make_run(self, way, folder, *, deadline=None):
        """A run of BUDGET evaluations; ``deadline`` in seconds where the package takes one."""
        raise NotImplementedError

    def minimize(self, run, f):
        """Begin a run or go on with it; return (x, value) at its end."""
        raise NotImplementedError

    def settle(self, run):
        """End the processes of a run."""

    # ---- keeping: in a process that then ends, and in a new one

    def keep(self, path, middle):
        """Make a search of three generations and write it to ``path``.

        With ``middle`` half of a fourth is told and the other half is out. This process is killed
        when the method returns.
        """
        raise NotImplementedError

    def resume(self, path, middle):
        """The points of the generations after the third, from the file."""
        raise NotImplementedError

    def whole(self, middle):
        """The same points of a run that was never interrupted."""
        raise NotImplementedError

    def write(self, path, generations):
        """Search on (from the file, if there is one) and write to the same file again."""
        raise NotImplementedError

    def count(self, path):
        """Evaluations that the file has; raises where it cannot be read."""
        raise NotImplementedError


class AskTell(Subject):
    """Points are asked for and values told.

    ``ask`` gives the points of a generation as (handle, point), ``tell`` takes any of them.
    """

    asks = True
    takes_start = True  # an array of the caller's
    singly = True  # values may be told one by one

    def ask(self, run):
        raise NotImplementedError

    def tell(self, run, handles, values):
        """Tell values of some points; ``values`` is the list that the package is given."""
        raise NotImplementedError

    def discard(self, run, handle):
        """Say by the documented way that a point failed; None if there is none."""
        return

    def held(self, run):
        """Arrays that the search shows: (words, array)."""
        return []

    def play(self, run, f, generations):
        for _ in range(generations):
            asked = self.ask(run)
            mark(f)
            values = [f(x) for _, x in asked]
            self.tell(run, [handle for handle, _ in asked], values)

    # ---- keeping

    def save(self, run, asked, path):
        raise NotImplementedError

    def load(self, path):
        """The run and what was asked, as handles and points."""
        raise NotImplementedError

    def _begin(self, middle):
        run, asked = self.make(seed=5), []
        self.play(run, sphere, 3)
        if middle:
            asked = self.ask(run)
            early, asked = asked[: SIZE // 2], asked[SIZE // 2 :]
            self.tell_some(run, early)
        return run, asked

    def tell_some(self, run, asked):
        """Values of the sphere for half a generation, where that can be told already."""
        self.tell(run, [handle for handle, _ in asked], [sphere(x) for _, x in asked])

    def _go_on(self, run, asked):
        seen = Recorder(sphere)
        if asked:
            self.tell_rest(run, asked, seen)
        self.play(run, seen, 3)
        return seen.points

    def tell_rest(self, run, asked, f):
        self.tell(run, [handle for handle, _ in asked], [f(x) for _, x in asked])

    def keep(self, path, middle):
        run, asked = self._begin(middle)
        self.save(run, asked, path)

    def resume(self, path, middle):
        return self._go_on(*self.load(path))

    def whole(self, middle):
        return self._go_on(*self._begin(middle))

    def write(self, path, generations):
        run = self.load(path)[0] if Path(path).exists() else self.make(seed=5)
        self.play(run, sphere, generations)
        self.save(run, [], path)


# ---- what the checks look at


def mark(f):
    """Tell a recorder that a generation begins."""
    if isinstance(f, Recorder):
        f.starts.append(len(f.points))


class Recorder:
    """An objective that keeps its points; ``rule(number, x)`` gives the values."""

    def __init__(self, f=None, rule=None, size=SIZE):
        self.rule, self.size = rule or (lambda number, x: f(x)), size
        self.points, self.values, self.starts = [], [], []

    def __call__(self, x):
        point, number = numbers(x), len(self.points)
        if getattr(self.rule, "by_generation", False):
            number = max(len(self.starts) - 1, 0) if self.starts else number // self.size
        value = self.rule(number, point)
        self.points.append(point)
        self.values.append(value)
        return value

    def generation(self, place):
        """The places of the generation that a place belongs to."""
        starts = [*self.starts, len(self.points)] if self.starts else None
        if starts is None:
            first = place // self.size * self.size
            return range(first, min(first + self.size, len(self.points)))
        for first, last in itertools.pairwise(starts):
            if first <= place < last:
                return range(first, last)
        return range(0)


def same(first, second):
    """Whether two lists of points have the same bits."""
    if len(first) != len(second):
        return False
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))


def finite(points):
    return bool(np.isfinite(np.array(points)).all())
