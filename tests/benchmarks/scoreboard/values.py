"""Checks 1 to 4: values that are no numbers, values that do not differ."""

import math

import numpy as np

from tests.benchmarks.scoreboard.base import SIGMA, Recorder, finite, same
from tests.benchmarks.scoreboard.faults import START, sphere
from tests.benchmarks.scoreboard.said import attempt, heard, named
from tests.benchmarks.scoreboard.scene import check

NAN, INF = math.nan, math.inf
HUGE = 1e6  # worse than all values of these runs
GENERATIONS = 4
LONG = 60  # generations after which a search has found something
WINDOW = 20  # generations over which the mean of the points is taken where no center is shown


def played(subject, variant, rule, generations=GENERATIONS, seed=3):
    """A run with values by rule: (recorder, run, error)."""
    seen = Recorder(rule=rule, size=subject.size)
    run = subject.make(seed=seed, variant=variant)
    error = attempt(lambda: subject.play(run, seen, generations))
    return seen, run, error


def instead(place, value):
    """The sphere, but for one evaluation."""
    return lambda number, x: value if number == place else sphere(x)


def best_of(subject, run):
    """Value of the point that would be returned; NaN where that is refused."""
    found = []
    error = attempt(lambda: found.append(float(subject.best(run))))
    return found[0] if error is None else NAN


# ---- 1


@check(1, "NaN never beats a number, user told")
def nan_never_beats(scene):
    """Each of the first two generations' values in turn is NaN.

    Main: the later points are, bit for bit, those of the run in which that value is as bad as the
    worst of its generation, or worse than all, or in which the point is given up by the
    package's own way of saying so (or, if the generation has the same point again, in which that
    one's value counts), or on the mean they are no nearer to it than with the worst value; and
    what would be returned then has a finite value. Second: a warning or a logged message says so.
    """
    subject = scene.subject
    for variant in scene.variants():
        clean, _, _ = played(subject, variant, lambda number, x: sphere(x))
        places = range(min(2 * subject.size, len(clean.points)))
        if scene.quick:
            places = (0, 1, subject.size)
        wrong, silent = [], 0
        for place in places:
            with heard() as said:
                seen, run, error = played(subject, variant, instead(place, NAN))
            silent += not said
            if error is not None:
                wrong.append(f"evaluation {place + 1}: {named(error)}")
            elif not finite(seen.points):
                wrong.append(f"evaluation {place + 1}: later points are NaN")
            elif not math.isfinite(best := best_of(subject, run)):
                wrong.append(f"evaluation {place + 1}: the best value is {best}")
            elif not is_worst(subject, variant, place, clean, seen):
                wrong.append(
                    f"evaluation {place + 1}: {rank(subject, variant, place, clean, seen)}"
                )
        what = f"each of {len(places)} counts as the worst of its generation or as given up"
        if wrong:
            what = f"{len(wrong)} of {len(places)} NaN are not the worst; {wrong[0]}"
        scene.part("worst", not wrong, what, main=True, way=variant)
        told = f"{len(places) - silent} of {len(places)} are told of"
        scene.part("told", not silent, told, way=variant)


def is_worst(subject, variant, place, clean, seen):
    others = [n for n in clean.generation(place) if n != place]
    limits = HUGE, max((clean.values[n] for n in others), default=HUGE)
    worst = [played(subject, variant, instead(place, value))[0].points for value in limits]
    if any(same(seen.points, points) for points in worst):
        return True
    if subject.asks:
        given_up = played_without(subject, variant, place)
        if given_up is not None and same(seen.points, given_up):
            return True
    point = clean.points[place]
    if any(np.allclose(clean.points[n], point, rtol=0, atol=1e-9) for n in others):
        return same(seen.points, clean.points)
    after = max([place, *others]) + 1
    return nearness(seen.points[after:], point) >= nearness(worst[0][after:], point)


def nearness(points, point):
    return float(np.linalg.norm(np.array(points) - point, axis=1).mean()) if points else math.inf


def played_without(subject, variant, place):
    """Points of the run in which one point is given up; None if there is no way to say so."""
    seen, run = Recorder(sphere), subject.make(seed=3, variant=variant)
    if not subject.singly:
        return None
    for _ in range(GENERATIONS):
        for handle, x in subject.ask(run):
            number = len(seen.points)
            value = seen(x)
            if number != place:
                subject.tell(run, [handle], [value])
            elif subject.discard(run, handle) is None:
                return None
    return seen.points


def rank(subject, variant, place, clean, seen):
    """Which of its generation's values the NaN passes for."""
    others = sorted(clean.values[n] for n in clean.generation(place) if n != place)
    between = [others[0] - 1, *np.convolve(others, [0.5, 0.5], "valid")] if others else []
    for number, value in enumerate(between, 1):
        points = played(subject, variant, instead(place, float(value)))[0].points
        if same(points, seen.points):
            return f"NaN passes for value {number} of {len(others) + 1}, 1 being the best"
    return "later points are those of no rank among the others, nor of a point given up"


# ---- 2


@check(2, "all-NaN generation leaves the search alone, told")
def all_nan(scene):
    """The first generation, or the third, has no value but NaN.

    Main: the center stays where it was, bit for bit (where the package shows none: the mean of
    the points of generations 1 to 20 and 21 to 40, all NaN, does not move by four standard
    errors, for each of three seeds); and a run whose first generation was NaN has found a value
    below a quarter of the start's after 60 generations, and no point is NaN. Second: the user is
    told, as in check 1.
    """
    subject = scene.subject
    for variant in scene.variants():
        with heard() as said:
            held, words = unmoved(subject, variant, NAN)
        scene.part("center", held, words, main=True, way=variant)
        scene.part("told", said, "told" if said else "nothing is said", way=variant)
        held, words = recovers(subject, variant, range(subject.size), NAN)
        scene.part("recovers", held, words, main=True, way=variant)


def unmoved(subject, variant, value, *, flat=False):
    """Whether generations of one value leave the center where it was."""
    drifts = []
    for before in (0,) if flat else (0, 2):
        after = 60 if flat else 1
        drift = moved(subject, variant, before, after, value)
        if drift is None:
            return by_windows(subject, variant, value)
        if isinstance(drift, str):
            return False, drift
        drifts.append(drift)
    largest = max(drifts)
    words = f"the center moves by {largest:.2g} sigma" if largest else "the center stays"
    if flat:
        words += " in 60 generations"
    return largest == 0, words


def moved(subject, variant, before, after, value):
    """Length of the center's way in sigma; None if no center is shown, or what went wrong."""
    centers = []
    for generations in (before, before + after):
        rule = Until(before, value)
        seen, run, error = played(subject, variant, rule, generations)
        if error is not None and generations > before:
            return named(error)
        if not finite(seen.points):
            return "later points are NaN"
        center = subject.center(run)
        if center is None and generations == 0:
            center = subject.center(subject.make(seed=3, variant=variant))
        if center is None:
            return None
        centers.append(np.array(center, float))
    way = float(np.linalg.norm(centers[1] - centers[0])) / SIGMA
    return way if math.isfinite(way) else "the center is NaN"


class Until:
    """The sphere in the first generations, one value in all others."""

    by_generation = True

    def __init__(self, generations, value):
        self.generations, self.value = generations, value

    def __call__(self, generation, x):
        return sphere(x) if generation < self.generations else self.value


def by_windows(subject, variant, value):
    """The same from the points alone, for three seeds."""
    found = [by_window(subject, variant, value, seed) for seed in (3, 4, 5)]
    return min(found, key=lambda pair: pair[0])


def by_window(subject, variant, value, seed):
    seen, run, error = played(subject, variant, lambda number, x: value, 2 * WINDOW, seed)
    if error is not None:
        return False, named(error)
    points = np.array(seen.points)
    if not finite(points):
        return False, "later points are NaN"
    if len(points) < WINDOW * subject.size:
        return True, f"stops by itself after {len(points)} evaluations"
    first, last = points[: WINDOW * subject.size], points[-WINDOW * subject.size :]
    error = np.hypot(first.std(0), last.std(0)) / math.sqrt(len(first))
    way = np.abs(last.mean(0) - first.mean(0))
    worst = float((way / np.maximum(error, 1e-300)).max())
    words = (f"the mean of the points moves by {float(np.linalg.norm(way)) / SIGMA:.2g} sigma, "
             f"{worst:.1f} standard errors")  # fmt: skip
    return worst < 4, words


def recovers(subject, variant, places, value):
    """Whether a search finds its way after bad values."""
    seen, run, error = played(
        subject, variant, lambda number, x: value if number in places else sphere(x), LONG
    )
    if error is not None:
        return False, f"afterwards {named(error)}"
    if not finite(seen.points):
        return False, "afterwards points are NaN"
    best, start = best_of(subject, run), sphere(START)
    held = best < 0.25 * start
    return held, f"{LONG} generations later the best value is {best:.2g}"


# ---- 3


@check(3, "+inf survived")
def infinity(scene):
    """One value of the first two generations, or all of the first, is +inf.

    Main: each such run goes on: no point is NaN or infinite, the value of what would be returned
    is finite, and after 60 generations in all it is below a quarter of the start's.
    """
    subject = scene.subject
    for variant in scene.variants():
        size = subject.size
        places = (0, size) if scene.quick else (0, size // 2, size, 3 * size // 2)
        cases = [range(n, n + 1) for n in places]
        cases.append(range(size))
        wrong = []
        for places in cases:
            held, words = recovers(subject, variant, places, INF)
            if not held:
                wrong.append(f"inf {len(places)} times from evaluation {places[0] + 1}: {words}")
        words = f"{len(wrong)} of {len(cases)} runs are lost; {wrong[0]}" if wrong else (
            f"all of {len(cases)} runs go on")  # fmt: skip
        scene.part("goes on", not wrong, words, main=True, way=variant)


# ---- 4


@check(4, "flat generation: no drift, no NaN")
def flat(scene):
    """Every value is 1, for 60 generations or until the package stops by itself.

    Main: the center stays where it was, bit for bit (measured as in check 2), and no point is NaN.
    """
    for variant in scene.variants():
        held, words = unmoved(scene.subject, variant, 1.0, flat=True)
        scene.part("center", held, words, main=True, way=variant)
