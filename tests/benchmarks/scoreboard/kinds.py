"""Checks 5 and 18: values of a wrong kind, and bad arguments."""

from tests.benchmarks.scoreboard.base import Recorder, same
from tests.benchmarks.scoreboard.faults import sphere
from tests.benchmarks.scoreboard.said import attempt, heard, is_clear, named
from tests.benchmarks.scoreboard.scene import check
from tests.benchmarks.scoreboard.values import instead, played, played_without


@check(5, "wrong shapes and types: clear typed error")
def wrong_kinds(scene):
    """One of a generation's values is a text, None, complex, two numbers or an object, or all are
    two numbers, or one value is missing or too much.

    Each call is refused by a TypeError or ValueError with a text; each is a part. No single
    one is taken for a number: if it is not refused it is told of, and its point counts as given
    up. Where
    values are told, the right ones are taken afterwards and the later points are those of the run
    without the mistake.
    """
    subject = scene.subject
    kinds = {"a text": "abc", "None": None, "a complex number": 1 + 2j, "two numbers": [1.0, 2.0],
             "an object": object()}  # fmt: skip
    cases = [(words, instead(3, value)) for words, value in kinds.items()]
    cases.append(("two numbers for each", lambda number, x: [1.0, 2.0]))
    everything = True
    for words, rule in cases:
        with heard() as said:
            seen, run, error = played(subject, "", rule)
        judge(scene, words, error)
        unused = error is not None or bool(said and subject.asks and given_up(subject, seen))
        everything = everything and (unused or words.endswith("each"))
    scene.part("unused", everything, "no single one is used as a number" if everything else
               "some are used as numbers")  # fmt: skip
    run = subject.make(seed=3)
    for words, call in subject.miscounts(run):
        with heard():
            judge(scene, words, attempt(call))
    if subject.asks:
        aftermath(scene, subject)


def given_up(subject, seen):
    due = played_without(subject, "", 3)
    return due is not None and same(due, seen.points)


def judge(scene, words, error):
    outcome = "accepted" if error is None else named(error)
    if is_clear(error):
        outcome = type(error).__name__
    scene.part(words, is_clear(error), f"{words}: {outcome}")


def aftermath(scene, subject):
    """Whether a refused value leaves the search as it was."""
    clean, seen = Recorder(sphere), Recorder(sphere)
    subject.play(subject.make(seed=3), clean, 3)
    run = subject.make(seed=3)
    asked = subject.ask(run)
    handles, values = [handle for handle, _ in asked], [seen(x) for _, x in asked]
    with heard():
        refused = attempt(lambda: subject.tell(run, handles[:], ["abc", *values[1:]]))
    error = attempt(lambda: (subject.tell(run, handles, values), subject.play(run, seen, 2)))
    if refused is None:
        return
    words = f"afterwards {named(error)}" if error else "afterwards other points are asked"
    held = error is None and same(seen.points, clean.points)
    scene.part("afterwards", held, "afterwards all is as before" if held else words)


@check(18, "bad constructor arguments refused at once, clearly")
def bad_arguments(scene):
    """Widths of 0, -1, NaN and inf, a start of NaN, no points or -4 a generation, swapped bounds
    and bounds of NaN, wherever there is such an argument.

    Each is refused by a TypeError or ValueError with a text, before anything is evaluated; each
    is a part.
    """
    for words, call in scene.subject.bad():
        judge(scene, words, attempt(call))
