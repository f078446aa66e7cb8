"""Values of points: what is evaluated, by what, and what comes back.

An evaluator takes jobs, ``(id, x, seed)``, and gives back outcomes as they finish. Here is the one
that works in this process; those that use others are in :mod:`bgs_opt.executors`.
"""

from __future__ import annotations

import collections
import contextlib
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from bgs_opt.errors import ArgumentTypeError
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import describe

__all__ = [
    "LAST_SECONDS", "Evaluator", "Failure", "Job", "Local", "Objective", "Outcome", "Stuck",
    "noted",
]  # fmt: skip

LAST_SECONDS = 0.5
"""What evaluations under way have to finish when an error ends a run."""


class Job(NamedTuple):
    """A point to evaluate."""

    id: int
    x: FloatArray
    seed: int


class Failure(Exception):  # noqa: N818  (carries the objective's own error)
    """The objective raised; ``error`` is what it raised and ``id`` whose evaluation it was."""

    def __init__(self, id: int, error: BaseException) -> None:
        super().__init__(id, error)
        self.id, self.error = id, error


class Stuck(Exception):  # noqa: N818
    """Nothing is evaluated any more and nothing will be."""


class Outcome(NamedTuple):
    """A finished job: its value, or None with the reason why it was given up."""

    id: int
    value: float | None
    lost: str = ""


@dataclass(frozen=True)
class Objective:
    """``fun(x, *args)``, with ``seed=`` if wanted, made to return a float."""

    fun: Callable[..., Any]
    args: tuple[Any, ...] = ()
    pass_seed: bool = False

    def __call__(self, x: FloatArray, seed: int) -> float:
        """Evaluate one point."""
        x.setflags(write=False)  # what came by a pickle could be written
        extra = {"seed": seed} if self.pass_seed else {}
        return as_value(self.fun(x, *self.args, **extra))

    def many(self, x: FloatArray, seeds: np.ndarray[Any, Any]) -> FloatArray:
        """Evaluate points (n, d) in one call; values of shape (n,)."""
        extra = {"seed": seeds} if self.pass_seed else {}
        result = self.fun(x, *self.args, **extra)
        masked = np.ma.is_masked(result)
        values = np.asarray(result)
        if masked or values.dtype.kind not in "fiu" or values.shape != (len(x),):
            raise ArgumentTypeError(
                f"fun: expected {len(x)} real numbers, shape ({len(x)},), for an array of points "
                f"of shape {x.shape} (vectorized=True); got "
                f"{describe(result if masked else values)}"
            )
        return values.astype(np.float64)


def as_value(result: object) -> float:
    """Return what the objective returned as a float, if it is one real number."""
    value = result
    if not np.ma.is_masked(value):
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(-1)[0]
        if not isinstance(value, (numbers.Real, np.datetime64)) and hasattr(value, "item"):
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                value = value.item()  # a 0-d array of another library
    if not isinstance(value, (bool, np.bool_, np.timedelta64)) and isinstance(value, numbers.Real):
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # an int beyond float64
            return float(value)
    raise ArgumentTypeError(f"fun: expected it to return a real number; got {describe(value)}")


def noted(error: BaseException, text: str) -> None:
    """``error.add_note``, which Python 3.10 does not have."""
    if hasattr(error, "add_note"):
        error.add_note(text)
    else:
        vars(error)["__notes__"] = [*getattr(error, "__notes__", []), text]


class Evaluator(Protocol):
    """Something that evaluates jobs."""

    size: int
    """How many it evaluates at a time."""

    def free(self) -> int:
        """How many more jobs it would take now."""
        ...

    def submit(self, jobs: list[Job]) -> None:
        """Take jobs."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until something has finished, for up to ``seconds``; or evaluate, here.

        Where KeyboardInterrupt may come: it loses at most the evaluation that it hits.
        """
        ...

    def collect(self) -> list[Outcome]:
        """Outcomes that are there, at once.

        Raises
        ------
        Failure
            When the objective raised; outcomes that are there too come with :meth:`drain`.
        Stuck
            When nothing goes on and nothing will.
        """
        ...

    def drain(self, seconds: float) -> list[Outcome]:
        """Values that are there or come within ``seconds``; jobs that have not begun never will.

        Errors and evaluations that were given up are left out.
        """
        ...

    def close(self) -> None:
        """Give up what is running and free everything."""
        ...


class Local:
    """In this process, one point a call, or all of them in one (vectorised)."""

    size = 1

    def __init__(self, objective: Objective, *, vectorized: bool) -> None:
        self.objective, self.vectorized = objective, vectorized
        self.queue: collections.deque[Job] = collections.deque()
        self.done: list[Outcome] = []
        self.failure: Failure | None = None
        self.capacity = 1 << 20 if vectorized else 1

    def free(self) -> int:
        """How many more jobs it would take now."""
        return max(0, self.capacity - len(self.queue))

    def submit(self, jobs: list[Job]) -> None:
        """Take jobs."""
        self.queue.extend(jobs)

    def wait(self, seconds: float) -> None:
        """Evaluate what was submitted."""
        jobs = [self.queue.popleft() for _ in range(len(self.queue))]
        if not jobs:
            return
        try:
            if self.vectorized:
                points = np.stack([job.x for job in jobs])
                seeds = np.array([job.seed for job in jobs])
                values = self.objective.many(points, seeds).tolist()
            else:
                values = [self.objective(job.x, job.seed) for job in jobs]
        except Exception as error:
            self.failure = Failure(jobs[0].id, error)
        else:
            self.done += map(Outcome, (job.id for job in jobs), values)

    def collect(self) -> list[Outcome]:
        """Outcomes that are there."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return self.drain(0.0)

    def drain(self, seconds: float) -> list[Outcome]:
        """Values that are there: nothing goes on by itself."""
        done, self.done = self.done, []
        return done

    def close(self) -> None:
        """Forget what was submitted."""
        self.queue.clear()
