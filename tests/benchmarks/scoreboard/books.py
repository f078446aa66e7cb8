"""Checks 6 to 8, 11 and 12: tells twice or late, whose random state, whose arrays."""

import math
import random

import numpy as np

from tests.benchmarks.scoreboard.base import Recorder, same
from tests.benchmarks.scoreboard.faults import START, sphere
from tests.benchmarks.scoreboard.said import attempt, named
from tests.benchmarks.scoreboard.scene import check

AFTER = 3  # generations that show whether something was changed


def split(asked):
    return [handle for handle, _ in asked], [x for _, x in asked]


def undisturbed(subject):
    seen = Recorder(sphere)
    subject.play(subject.make(seed=3), seen, 1 + AFTER)
    return seen.points


def goes_on(subject, run, seen):
    """The later points, or what is raised."""
    error = attempt(lambda: subject.play(run, seen, AFTER))
    return seen.points if error is None else named(error)


def compare(scene, name, due, found, good, **options):
    if isinstance(found, str):
        scene.part(name, False, f"the search cannot go on: {found}", **options)
        return
    held = same(due, found)
    scene.part(name, held, good if held else f"{name}: other points are asked later", **options)


@check(6, "double tell refused")
def double_tell(scene):
    """A candidate, then a whole generation, is told a second time with other values.

    Main: each second tell raises. Second: the later points are those of a run without it.
    """
    subject = scene.subject
    due = undisturbed(subject)
    for what in ("one of an open generation", "a whole generation"):
        if what.startswith("one") and not subject.singly:
            continue
        seen, run = Recorder(sphere), subject.make(seed=3)
        handles, points = split(subject.ask(run))
        values = [seen(x) for x in points]
        if what.startswith("one"):
            subject.tell(run, handles[:1], values[:1])
            error = attempt(lambda: subject.tell(run, handles[:1], [values[0] - 100.0]))  # noqa: B023
            subject.tell(run, handles[1:], values[1:])
        else:
            subject.tell(run, handles, list(values))
            error = attempt(lambda: subject.tell(run, handles, [-v for v in values]))  # noqa: B023
        words = f"{what}: {'accepted' if error is None else named(error)}"
        scene.part(what, error is not None, words, main=True)
        compare(scene, f"after {what}", due, goes_on(subject, run, seen), "nothing is changed")


@check(7, "order of tells irrelevant")
def any_order(scene):
    """Ten times, each of six generations is told in another order, one by one where that is
    possible.

    Main: the points are always, bit for bit, those of the run in order.
    """
    subject = scene.subject
    for variant in scene.variants():
        seen = Recorder(sphere)
        subject.play(subject.make(seed=3, variant=variant), seen, 6)
        wrong, runs = 0, 3 if scene.quick else 10
        for number in range(runs):
            found = []
            error = attempt(lambda: found.extend(permuted(subject, variant, number)))  # noqa: B023
            wrong += error is not None or not same(seen.points, found)
        words = f"{wrong} of {runs} runs have other points" if wrong else "the same points"
        scene.part("order", not wrong, words, main=True, way=variant)


def permuted(subject, variant, number):
    """Points of a run of six generations, each told in an order of its own."""
    source = np.random.default_rng(number)
    seen, run = Recorder(sphere), subject.make(seed=3, variant=variant)
    for _ in range(6):
        handles, points = split(subject.ask(run))
        values = [seen(x) for x in points]
        places = source.permutation(len(handles)).tolist()
        for some in [[n] for n in places] if subject.singly else [places]:
            subject.tell(run, [handles[n] for n in some], [values[n] for n in some])
    return seen.points


@check(8, "partial tells kept")
def partial_tells(scene):
    """Half a generation is told, then the other half.

    Main: both are accepted, and the later points are those of a run told as a whole.
    """
    subject = scene.subject
    due = undisturbed(subject)
    seen, run = Recorder(sphere), subject.make(seed=3)
    handles, points = split(subject.ask(run))
    values = [seen(x) for x in points]
    for which, half in (("first", slice(0, 4)), ("second", slice(4, None))):
        error = attempt(lambda: subject.tell(run, handles[half], values[half]))  # noqa: B023
        if error is not None:
            scene.part("halves", False, f"the {which} half: {named(error)}", main=True)
            return
    compare(scene, "halves", due, goes_on(subject, run, seen), "both halves count", main=True)


# ---- 11


def random_states():
    """The global random states of Python, NumPy, and torch where it is loaded."""
    import sys

    state = [random.getstate(), np.random.get_state()[1:]]  # noqa: NPY002
    if "torch" in sys.modules:
        state.append(sys.modules["torch"].get_rng_state().tolist())
    return repr([[np.asarray(part).tolist() if isinstance(part, np.ndarray) else part
                  for part in item] for item in state])  # fmt: skip


def disturb(number):
    """Seed and draw from every global generator."""
    import sys

    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    np.random.rand(number % 5)  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(number)


@check(11, "global RNG neither read nor written")
def global_random_state(scene):
    """A seeded search of four generations, whose objective seeds and draws from the global
    generators of Python, NumPy and torch, and one whose objective leaves them alone.

    Main: both ask the same points. Second: the second one leaves the global states as they were.
    """
    subject = scene.subject

    def drawing(number, x):
        disturb(number + 17)
        return sphere(x)

    runs = []
    subject.play(subject.make(seed=3), Recorder(sphere), 1)  # what is loaded late
    for rule in (None, drawing):
        seen = Recorder(sphere, rule)
        disturb(1 if rule is None else 2)
        before = random_states()
        subject.play(subject.make(seed=3), seen, 1 + AFTER)
        runs.append((seen.points, before == random_states()))
    held = same(runs[0][0], runs[1][0])
    words = "the same points" if held else "an objective that draws changes the points"
    scene.part("read", held, words, main=True)
    untouched = runs[0][1]
    words = "global states untouched" if untouched else "global states are changed"
    scene.part("written", untouched, words)


# ---- 12


def scribble(array):
    """Overwrite an array, if it can be."""
    if attempt(lambda: np.asarray(array)[...].__class__) is None and hasattr(array, "__setitem__"):
        attempt(lambda: array.__setitem__(slice(None), 1e6))


@check(12, "no aliasing in or out")
def no_aliasing(scene):
    """The caller overwrites what it gave and what it got: the start, the list of values and the
    points after they were told, the center and other arrays shown; where the package evaluates,
    the objective overwrites its point and the start.

    Each is a part: the later points and the value of what would be returned are those of a run
    without it, and a list that was given is as it was. To refuse the writing is as good.
    """
    subject = scene.subject
    cases = ["start", "values", "points", "shown"] if subject.asks else [
        "start", "argument", "shown"]  # fmt: skip
    due, answer, _ = meddled(subject, None)
    for case in cases:
        if case == "start" and not subject.takes_start:
            continue
        found, value, wrong = meddled(subject, case)
        held = not wrong and same(due, found) and value == answer
        words = wrong or ("other points are asked" if not same(due, found) else
                          f"the answer's value {answer:.3g} becomes {value:.3g}")  # fmt: skip
        names = {"start": "the start", "values": "the list of values", "points": "points",
                 "shown": "the center", "argument": "the objective's argument"}  # fmt: skip
        scene.part(case, held, f"{names[case]}: {'safe' if held else words}")


def once_nan(number, x):
    """The sphere, but for one evaluation in the second generation."""
    return math.nan if number == 9 else sphere(x)


def meddled(subject, case):
    """Points and answer of a run in which the caller writes: (points, value, what went wrong)."""
    start, seen, wrong = START.copy(), Recorder(rule=once_nan), ""
    given = start if subject.takes_start else None
    if not subject.asks:
        run = subject.make(seed=3, start=given)

        def f(x):
            value = seen(x)
            if case in ("argument", "start"):
                scribble(x if case == "argument" else start)
            return value

        if not subject.plays_on:
            if case == "shown":
                run["shown"] = scribble
            error = attempt(lambda: subject.play(run, f, 1 + AFTER))
            return seen.points, float(subject.best(run)), named(error) if error else ""
        for _ in range(1 + AFTER):
            error = attempt(lambda: subject.play(run, f, 1))
            if case == "shown":
                for array in subject.held(run):
                    scribble(array)
        return seen.points, float(subject.best(run)), named(error) if error else ""
    run = subject.make(seed=3, start=given)
    if case == "start":
        scribble(start)
    for _ in range(1 + AFTER):
        handles, points = split(subject.ask(run))
        values = [seen(x) for x in points]
        told, before = subject.tell(run, handles, list(values))
        if case == "values":
            wrong = wrong or ("changed by tell" if told != before else "")
            told[:] = [1e9] * len(told)
        if case == "points":
            for x in points:
                scribble(x)
        if case == "shown":
            for array in subject.held(run):
                scribble(array)
    return seen.points, float(subject.best(run)), wrong
