"""Objectives at the top level of a module, as worker processes import them; some of them break."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RUN: dict[str, Any] = {
    "x0": np.linspace(-1, 1, 3), "sigma": 0.3, "seed": 5, "optimizer": "clipup",
    "num_directions": 4, "noisy": False, "budget": 24,
}  # fmt: skip
"""A run of three generations of eight different points."""

FOREVER = 600.0
"""Seconds that a hanging evaluation would take if nobody ended it."""


def sphere(x: np.ndarray) -> float:
    """Sum of squares around 1/2, exactly rounded, so that every machine agrees."""
    return float(sum((float(v) - 0.5) ** 2 for v in x))


def shifted(x: np.ndarray, center: float, scale: float) -> float:
    return scale * float(sum((float(v) - center) ** 2 for v in x))


def noisy(x: np.ndarray, seed: int) -> float:
    """The sphere with noise that follows from the seed."""
    return sphere(x) + float(np.random.default_rng(seed).normal())


def unevenly(x: np.ndarray) -> float:
    """The sphere; how long it takes depends on the point, so that values come out of order."""
    time.sleep(0.002 * (hash(x.tobytes()) % 5))
    return sphere(x)


def never(x: np.ndarray) -> float:
    time.sleep(FOREVER)
    return sphere(x)


def rows(x: np.ndarray) -> np.ndarray:
    return np.array([sphere(row) for row in x])


def noisy_rows(x: np.ndarray, seed: np.ndarray) -> np.ndarray:
    return np.array([noisy(row, int(s)) for row, s in zip(x, seed, strict=True)])


# ---- errors that do not travel well


class PlainError(ValueError):
    """An error of the user's own."""


class TwoArgumentsError(Exception):
    """Unpickling calls it with one argument, and fails."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} in {where}")
        self.where = where


class DoubledError(ValueError):
    """Unpickling changes its message."""

    def __init__(self, what: str) -> None:
        super().__init__(f"doubled: {what}")


class HoldsLockError(OSError):
    """Does not pickle."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class NoTextError(RuntimeError):
    """Fails even when it is printed."""

    def __str__(self) -> str:
        raise ValueError("no text")


def raise_local_class() -> None:
    class LocalError(KeyError):
        pass

    raise LocalError("local")


@dataclass(frozen=True)
class Beside:
    """The first of two evaluations raises when the other has begun; that takes ``seconds``."""

    folder: Path
    seconds: float

    def __call__(self, x: np.ndarray) -> float:
        with contextlib.suppress(FileExistsError):
            (self.folder / "first").touch(exist_ok=False)
            while not (self.folder / "second").exists():
                time.sleep(0.01)
            raise PlainError("broken")
        (self.folder / "second").touch()
        time.sleep(self.seconds)
        return sphere(x)


# ---- an objective that breaks at some points


@dataclass(frozen=True)
class Faulty:
    """The sphere; the first ``times`` evaluations of each victim meet a fault.

    The folder counts what was tried, across processes, and knows who works.
    """

    folder: Path
    fault: str
    victims: tuple[bytes, ...]
    times: int = 1
    released: Any = field(default=None, compare=False)  # an Event that ends a hang in a thread

    def __call__(self, x: np.ndarray) -> float:
        (self.folder / f"worker-{os.getpid()}").touch()
        point = x.tobytes()
        if point in self.victims:
            tries = self.folder / f"tried-{self.victims.index(point)}"
            with tries.open("ab") as file:
                file.write(b".")
            if tries.stat().st_size <= self.times:
                result = FAULTS[self.fault](self)
                if result is not None:
                    return result
        value = sphere(x)
        (self.folder / f"finished-{point.hex()}").touch()
        return value

    def tried(self, victim: int = 0) -> int:
        """How often the victim was evaluated."""
        path = self.folder / f"tried-{victim}"
        return path.stat().st_size if path.exists() else 0

    def workers(self) -> list[int]:
        """Processes that have evaluated something."""
        return [int(path.name.partition("-")[2]) for path in self.folder.glob("worker-*")]

    def hang(self) -> None:
        (self.folder / "hangs").touch()
        if self.released is not None:
            self.released.wait(FOREVER)
        else:
            time.sleep(FOREVER)


def _raise(error: Callable[[], BaseException]) -> Callable[[Faulty], None]:
    def fault(_: Faulty) -> None:
        raise error()

    return fault


def _signal(number: int) -> Callable[[Faulty], None]:
    return lambda _: os.kill(os.getpid(), number)


def _interrupt_parent(faulty: Faulty) -> None:
    """What the terminal does at Ctrl-C, from a worker process."""
    os.kill(os.getppid(), signal.SIGINT)
    faulty.hang()


def _kill_idle(faulty: Faulty) -> None:
    """Kill every other worker process when it is idle; wait until the parent has buried it."""
    while len(list(faulty.folder.glob("finished-*"))) < 7:
        time.sleep(0.01)
    time.sleep(0.5)  # for the way of the last value to the parent
    for pid in set(faulty.workers()) - {os.getpid()}:
        os.kill(pid, signal.SIGKILL)
        (faulty.folder / f"killed-{pid}").touch()
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                time.sleep(0.01)


def _start_child(faulty: Faulty, *, fork: bool) -> None:
    """Start a process that outlives this one, and note who it is."""
    if fork:  # it inherits every pipe of ours
        pid = os.fork()
        if not pid:
            time.sleep(FOREVER)
            os._exit(0)
    else:
        command = [sys.executable, "-c", f"import time; time.sleep({FOREVER})"]
        pid = subprocess.Popen(command).pid
    (faulty.folder / f"child-{pid}").touch()


def _fork_and_die(faulty: Faulty) -> None:
    _start_child(faulty, fork=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _start_and_hang(faulty: Faulty) -> None:
    _start_child(faulty, fork=False)
    faulty.hang()


FAULTS: dict[str, Callable[[Faulty], Any]] = {
    "raise": _raise(lambda: PlainError("broken")),
    "two arguments": _raise(lambda: TwoArgumentsError("broken", "two places")),
    "local class": lambda _: raise_local_class(),
    "long error": _raise(lambda: PlainError("x" * 1_000_000)),
    "MemoryError": lambda _: np.empty(1 << 56),
    "SystemExit": _raise(lambda: SystemExit(3)),
    "KeyboardInterrupt": _raise(KeyboardInterrupt),
    "non-float": lambda _: "not a number",
    "unpicklable result": lambda _: threading.Lock(),
    "SIGKILL": _signal(signal.SIGKILL),
    "SIGSEGV": _signal(signal.SIGSEGV),
    "SIGSTOP": _signal(signal.SIGSTOP),
    "SIGINT": _signal(signal.SIGINT),
    "SIGINT to the parent": _interrupt_parent,
    "os._exit": lambda _: os._exit(5),
    "hang": Faulty.hang,
    "straggler": lambda _: time.sleep(0.3),
    "kill idle workers": _kill_idle,
    "fork and die": _fork_and_die,
    "start a program and hang": _start_and_hang,
}


@dataclass
class Unloadable:
    """The sphere; the first ``times`` processes that load it meet a fault."""

    folder: Path
    fault: str
    times: int

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        loads = self.folder / "loads"
        with loads.open("ab") as file:
            file.write(b".")
        if loads.stat().st_size <= self.times:
            self.break_()

    def break_(self) -> None:
        if self.fault == "sleep":
            time.sleep(1.5)
        elif self.fault == "raise":
            raise ImportError("a library is missing")
        elif self.fault == "os._exit":
            os._exit(5)
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, x: np.ndarray) -> float:
        return sphere(x)


def moves_its_point(x):
    x += 1.0
    return sphere(x)
