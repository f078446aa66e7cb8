"""Values of points: in this process, vectorised, in worker processes, or by any Executor.

An evaluator takes jobs, ``(id, x, seed)``, and gives back outcomes as they finish. Worker
processes are executors of one process each, so that when one dies or hangs we know whose
evaluation it was: that process alone is replaced and that evaluation alone is tried again.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import numbers
import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from bgs_opt.errors import ArgumentTypeError
from bgs_opt.processes import Worker
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import describe

__all__ = ["Evaluator", "Failure", "Job", "Objective", "Outcome", "evaluator_for"]


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
        extra = {"seed": seed} if self.pass_seed else {}
        return as_value(self.fun(x, *self.args, **extra))

    def many(self, x: FloatArray, seeds: np.ndarray[Any, Any]) -> FloatArray:
        """Evaluate points (n, d) in one call; values of shape (n,)."""
        extra = {"seed": seeds} if self.pass_seed else {}
        values = np.asarray(self.fun(x, *self.args, **extra))
        if values.dtype.kind not in "fiu" or values.shape != (len(x),):
            raise ArgumentTypeError(
                f"fun: expected {len(x)} real numbers, shape ({len(x)},), for an array of points "
                f"of shape {x.shape} (vectorized=True); got {describe(values)}"
            )
        return values.astype(np.float64)


def as_value(result: object) -> float:
    """Return what the objective returned as a float, if it is one real number."""
    if isinstance(result, np.ndarray) and result.size == 1:
        result = result.reshape(-1)[0].item()
    elif isinstance(result, numbers.Real) or not hasattr(result, "item"):
        pass
    else:
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            result = result.item()  # a 0-d array of another library
    if isinstance(result, (bool, np.bool_)) or not isinstance(result, numbers.Real):
        raise ArgumentTypeError(
            f"fun: expected it to return a real number; got {describe(result)}"
        )
    return float(result)


class Evaluator(Protocol):
    """Something that evaluates jobs."""

    def free(self) -> int:
        """How many more jobs it would take now."""
        ...

    def submit(self, jobs: list[Job]) -> None:
        """Take jobs."""
        ...

    def collect(self, wait: float | None) -> list[Outcome]:
        """Outcomes that are there, after waiting for one for up to ``wait`` seconds.

        Raises
        ------
        Failure
            When the objective raised; outcomes that were there too come with the next call.
        """
        ...

    def close(self) -> None:
        """Give up what is running and free everything."""
        ...


class _Local:
    """In this process, one point a call, or all of them in one (vectorised)."""

    def __init__(self, objective: Objective, *, vectorized: bool) -> None:
        self.objective, self.vectorized = objective, vectorized
        self.queue: collections.deque[Job] = collections.deque()
        self.capacity = 1 << 20 if vectorized else 1

    def free(self) -> int:
        return max(0, self.capacity - len(self.queue))

    def submit(self, jobs: list[Job]) -> None:
        self.queue.extend(jobs)

    def collect(self, wait: float | None) -> list[Outcome]:
        jobs = [self.queue.popleft() for _ in range(len(self.queue))]
        if not jobs:
            return []
        try:
            if self.vectorized:
                points = np.stack([job.x for job in jobs])
                seeds = np.array([job.seed for job in jobs])
                values = self.objective.many(points, seeds).tolist()
            else:
                values = [self.objective(job.x, job.seed) for job in jobs]
        except Exception as error:
            raise Failure(jobs[0].id, error) from error
        return [Outcome(job.id, value) for job, value in zip(jobs, values, strict=True)]

    def close(self) -> None:
        self.queue.clear()


class _Pooled:
    """An Executor of the caller's: it is used, never restarted and never shut down."""

    def __init__(
        self, objective: Objective, executor: Executor, capacity: int, timeout: float | None
    ) -> None:
        self.objective, self.executor = objective, executor
        self.capacity, self.timeout = capacity, timeout
        self.running: dict[Future[float], tuple[Job, float]] = {}

    def free(self) -> int:
        return max(0, self.capacity - len(self.running))

    def submit(self, jobs: list[Job]) -> None:
        for job in jobs:
            future = self.executor.submit(self.objective, job.x, job.seed)
            self.running[future] = (job, time.monotonic())

    def collect(self, wait: float | None) -> list[Outcome]:
        wait_for(list(self.running), wait, self._next_deadline())
        outcomes, failure = [], None
        for future in [f for f in self.running if f.done()]:
            error = future.exception()
            if error is None:
                outcomes.append(Outcome(self.running.pop(future)[0].id, future.result()))
            elif not outcomes:  # what finished well is told first
                failure = Failure(self.running.pop(future)[0].id, error)
                break
        if failure is not None:
            raise failure
        return outcomes + self._overdue()

    def _next_deadline(self) -> float | None:
        if self.timeout is None or not self.running:
            return None
        return min(start for _, start in self.running.values()) + self.timeout

    def _overdue(self) -> list[Outcome]:
        """Give up what takes too long; whether it can be stopped is the executor's business."""
        late = []
        for future, (job, start) in list(self.running.items()):
            if self.timeout is None or time.monotonic() - start < self.timeout or future.done():
                continue
            future.cancel()
            del self.running[future]
            late.append(Outcome(job.id, None, f"no value within {self.timeout:g} s"))
        return late

    def close(self) -> None:
        for future in self.running:
            future.cancel()
        self.running.clear()


class _Processes:
    """Worker processes of our own, each replaced when it dies or exceeds its deadline."""

    def __init__(
        self, objective: Objective, workers: int, timeout: float | None, retries: int
    ) -> None:
        self.timeout, self.retries = timeout, retries
        self.workers = [Worker(objective) for _ in range(workers)]
        self.waiting: collections.deque[Job] = collections.deque()  # to be tried again
        self.tries: collections.Counter[int] = collections.Counter()

    def free(self) -> int:
        idle = sum(worker.idle for worker in self.workers)
        return max(0, idle - len(self.waiting))

    def submit(self, jobs: list[Job]) -> None:
        self.waiting.extend(jobs)
        for worker in self.workers:
            if worker.idle and self.waiting:
                worker.start(self.waiting.popleft())

    def collect(self, wait: float | None) -> list[Outcome]:
        busy = [worker for worker in self.workers if worker.future is not None]
        deadlines = [d for worker in busy if (d := worker.deadline(self.timeout)) is not None]
        futures = [worker.future for worker in busy if worker.future is not None]
        wait_for(futures, wait, min(deadlines, default=None))
        outcomes: list[Outcome] = []
        for worker in busy:
            deadline = worker.deadline(self.timeout)
            if worker.future is not None and worker.future.done():
                error = worker.future.exception()
                died = isinstance(error, BrokenExecutor)
                if error is not None and not died and outcomes:
                    continue  # what finished well is told first
                job, value = worker.finish()
                if died:
                    outcomes += self._again(job, "its worker process died")
                elif error is not None and job is not None:
                    raise Failure(job.id, error)
                elif job is not None and value is not None:
                    outcomes.append(Outcome(job.id, value))
            elif deadline is not None and time.monotonic() >= deadline:
                job = worker.replace()
                outcomes += self._again(job, f"no value within {self.timeout:g} s")
        self.submit([])
        return outcomes

    def _again(self, job: Job | None, reason: str) -> list[Outcome]:
        if job is None:
            return []
        self.tries[job.id] += 1
        if self.tries[job.id] > self.retries:
            return [Outcome(job.id, None, reason)]
        self.waiting.append(job)
        return []

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


def wait_for(futures: Iterable[Future[Any]], wait: float | None, deadline: float | None) -> None:
    """Wait until one future is done, ``wait`` seconds are over, or the deadline is reached."""
    limits = [] if wait is None else [wait]
    if deadline is not None:
        limits.append(max(0.0, deadline - time.monotonic()))
    pending = list(futures)
    if pending:
        concurrent.futures.wait(
            pending, min(limits, default=None), concurrent.futures.FIRST_COMPLETED
        )


def evaluator_for(
    objective: Objective,
    workers: int | Executor,
    *,
    vectorized: bool,
    timeout: float | None,
    retries: int,
) -> Evaluator:
    """The evaluator that fits ``workers``; see :func:`bgs_opt.minimize`."""
    if isinstance(workers, Executor):
        size = getattr(workers, "_max_workers", None)
        return _Pooled(objective, workers, 2 * size if isinstance(size, int) else 64, timeout)
    if workers > 1 or (timeout is not None and not vectorized):
        return _Processes(objective, workers, timeout, retries)
    return _Local(objective, vectorized=vectorized)
