"""Checks 13 to 16: processes that share the work, and die, fail or hang."""

import math
import time

import numpy as np

from tests.benchmarks.scoreboard.base import BUDGET
from tests.benchmarks.scoreboard.faults import DownError, Faulty, UnfitError, unevenly
from tests.benchmarks.scoreboard.said import attempt, named
from tests.benchmarks.scoreboard.scene import check

AT = 13  # the evaluation that meets the fault: in the second generation
DEADLINE = 2.0  # seconds that an evaluation may take, where the package takes one
PARALLEL = "2 workers"


def answer(subject, way, f, folder, **options):
    """(x, value) of a run, or the error it raises; and the run."""
    run, found = subject.make_run(way, folder, **options), []
    error = attempt(lambda: found.append(subject.minimize(run, f)))
    return (found[0] if error is None else error), run


def bits(x):
    return np.asarray(x, float).tobytes()


@check(13, "seeded parallel run equals serial")
def parallel_is_serial(scene):
    """A seeded run of 48 evaluations in this process and twice with two workers; how long an
    evaluation takes depends on its point.

    Main: the answers have the same bits.
    """
    for seeding in scene.subject.seedings:
        held, words = compared(scene, {"seeding": seeding} if seeding else {})
        scene.part("equal", held, words, main=True, way=seeding)


def compared(scene, options):
    """Whether three runs have one answer."""
    subject, found = scene.subject, []
    for way in (subject.ways[0], PARALLEL, PARALLEL):
        scene.now(way)
        result, run = answer(subject, way, unevenly, scene.folder(), **options)
        subject.settle(run)
        if isinstance(result, Exception):
            return False, f"{way}: {named(result)}"
        found.append(np.asarray(result[0], float))
    largest = max(float(np.abs(x - found[0]).max()) for x in found[1:])
    held = all(bits(x) == bits(found[0]) for x in found[1:])
    return held, "the same bits" if held else f"answers differ by up to {largest:.2g}"


@check(14, "survives SIGKILL of a worker", seconds=45)
def killed_worker(scene):
    """With two workers, one is killed by SIGKILL in evaluation 13 of 48.

    Main: the call comes back with an answer, after at least 47 evaluations. Second: another run
    of the same kind works afterwards.
    """
    subject, folder = scene.subject, scene.folder()
    f = Faulty(folder, "die", AT)
    scene.now("one of two workers was killed by SIGKILL")
    result, run = answer(subject, PARALLEL, f, scene.folder())
    if isinstance(result, Exception):
        scene.part("answer", False, f"{named(result)} after {f.count()} evaluations", main=True)
        scene.now("after a worker was killed, minimize is called again")
        found = []
        error = attempt(lambda: found.append(subject.minimize(run, f)))
        words = f"the next call: {named(error)}" if error else "the next call works"
        scene.part("again", error is None, words)
    else:
        value, done = float(result[1]), f.count()
        held = math.isfinite(value) and done >= BUDGET - 1
        scene.part("answer", held, f"comes back after {done} evaluations", main=True)
    subject.settle(run)


@check(15, "objective error: same type, nothing finished is lost, resumable")
def failing_objective(scene):
    """Evaluation 13 of 48 raises an error of the user's own (an OSError, in another run a
    ValueError), once; then the same run is continued.

    Main: the error has its own type (or is recorded by the package as that of a failed trial, and
    the run goes on). Second: continued, the run ends with the answer of a run without the error.
    Third: no more evaluations were finished than that one needs, so none was made twice.
    """
    subject = scene.subject
    for way in subject.ways:
        clean = Faulty(scene.folder(), "none")
        due, run = answer(subject, way, clean, scene.folder())
        subject.settle(run)
        if isinstance(due, Exception):
            scene.part("type", False, f"without any error: {named(due)}", main=True, way=way)
            continue
        f = Faulty(scene.folder(), "raise", AT)
        scene.now(f"{way}: the objective raised")
        result, run = answer(subject, way, f, scene.folder())
        raised = isinstance(result, Exception)
        held = isinstance(result, DownError) or (not raised and subject.records_errors)
        words = named(result) if raised else "recorded as a failed evaluation"
        scene.part("type", held, words, main=True, way=way)
        other = Faulty(scene.folder(), "refuse", AT)
        error, second = answer(subject, way, other, scene.folder())
        subject.settle(second)
        right = isinstance(error, UnfitError) or (
            not isinstance(error, Exception) and subject.records_errors)  # fmt: skip
        words = f"UnfitError(ValueError) becomes {named(error)}" if not right else "UnfitError"
        scene.part("other type", right, words, main=True, way=way)
        if raised:
            scene.now(f"{way}: continued after the objective raised")
            found = []
            error = attempt(lambda: found.append(subject.minimize(run, f)))  # noqa: B023
            result = error or found[0]
        subject.settle(run)
        equal = not isinstance(result, Exception) and bits(result[0]) == bits(due[0])
        recorded = not raised and held and math.isfinite(float(result[1]))
        words = "goes on" if equal or recorded else "continued: another answer"
        if isinstance(result, Exception):
            words = f"continued: {named(result)}"
        scene.part("resumable", equal or recorded, words, way=way)
        lost = f.count() - clean.count()
        scene.part("kept", lost <= 0, f"{max(lost, 0)} finished evaluations lost", way=way)


@check(16, "hanging evaluation is cut", seconds=40)
def hanging_evaluation(scene):
    """With two workers, evaluation 13 of 48 never returns; a package that takes a deadline for
    evaluations is given two seconds.

    Main: the call comes back. Second: with an answer, after at least 47 evaluations. Third: the
    process that hung is gone.
    """
    subject = scene.subject
    f = Faulty(scene.folder(), "hang", AT)
    scene.now("an evaluation never returned")
    result, run = answer(subject, PARALLEL, f, scene.folder(), deadline=DEADLINE)
    raised = isinstance(result, Exception)
    scene.part("back", True, "comes back", main=True)
    done = f.count()
    words = named(result) if raised else f"comes back after {done} evaluations"
    scene.part("answer", not raised and done >= BUDGET - 1, words)
    subject.settle(run)
    for _ in range(30):
        if not f.victims():
            break
        time.sleep(0.1)
    gone = not f.victims()
    scene.part("gone", gone, "its process is gone" if gone else "its process is there still")
