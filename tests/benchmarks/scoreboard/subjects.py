"""Who is on the scoreboard; each is imported when it is looked at."""

import functools
import importlib

_FOLDER = "tests.benchmarks.scoreboard."
_PLACES = {
    "core": ("ours", "Core"),
    "scipy": ("ours", "SciPy"),
    "in-nevergrad": ("nevergrad", "InNevergrad"),
    "in-evotorch": ("evotorch", "InEvoTorch"),
    "train": ("ours", "Train"),
    "pycma": ("peers", "PyCMA"),
    "cmaes": ("peers", "CMAES"),
    "optuna": ("optuna", "Optuna"),
    "scipy-de": ("peers", "Differential"),
    "nevergrad": ("nevergrad", "Nevergrad"),
    "evotorch": ("evotorch", "EvoTorch"),
    "hangs": ("planted", "Hangs"),
    "crashes": ("planted", "Crashes"),
    "lies": ("planted", "Lies"),
    "breaks": ("planted", "Breaks"),
}


def _made(key):
    module, name = _PLACES[key]
    subject = getattr(importlib.import_module(_FOLDER + module), name)()
    subject.key = key
    return subject


SUBJECTS = {key: functools.partial(_made, key) for key in _PLACES}
"""Key -> a function that makes the subject; the planted ones are for the tests alone."""

NAMES = tuple(key for key, (module, _) in _PLACES.items() if module != "planted")
