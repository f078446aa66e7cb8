"""Objectives that processes can import; some break at one of their evaluations, once."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import numpy as np

FOREVER = 600.0
START = np.ones(4)


def numbers(x):
    """A point as an array, whatever a package hands to its objective."""
    return np.array([float(number) for number in x])


def sphere(x):
    """Sum of squares, 4 at the start, exactly rounded."""
    return float(sum(number * number for number in numbers(x)))


def unevenly(x):
    """The sphere; how long it takes follows from the point, so that values come out of order."""
    value = sphere(x)
    time.sleep(0.01 * (int(value * 1e6) % 4))
    return value


class DownError(OSError):
    """What a simulator of the user's own raises."""


class UnfitError(ValueError):
    """Another error of the user's own, of a kind that packages raise too."""


@dataclasses.dataclass(frozen=True)
class Faulty:
    """The sphere; evaluation number ``at``, counted over all processes, meets a fault.

    "die" kills the process that evaluates, "raise" and "refuse" raise DownError and UnfitError,
    "hang" does not return, "none" counts alone.
    """

    folder: str
    fault: str
    at: int = -1

    def __call__(self, x):
        if self.number("started") == self.at:
            (Path(self.folder) / f"victim-{os.getpid()}").touch()
            self.meet()
        value = sphere(x)
        self.number("finished")
        return value

    def meet(self):
        if self.fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "raise":
            raise DownError("the simulator is down")
        if self.fault == "refuse":
            raise UnfitError("no such design")
        if self.fault == "hang":
            time.sleep(FOREVER)

    def number(self, what):
        """Take the next number, from 1."""
        number = 1
        while True:
            try:
                (Path(self.folder) / f"{what}-{number}").touch(exist_ok=False)
            except FileExistsError:
                number += 1
            else:
                return number

    def count(self, what="finished"):
        """How many evaluations were started or finished so far."""
        return len(list(Path(self.folder).glob(f"{what}-*")))

    def victims(self):
        """Processes that met the fault and are there still."""
        found = [int(path.name[7:]) for path in Path(self.folder).glob("victim-*")]
        return [process for process in found if lives(process)]


def lives(process):
    """Whether a process is there and not only waited for."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
