"""Evaluators that work elsewhere: worker processes of our own, or any Executor of the caller's.

Our worker processes are executors of one process each, so that when one dies or hangs we know
whose evaluation it was: that process alone is replaced, that evaluation alone is tried again.
"""

from __future__ import annotations

import collections
import concurrent.futures
import time
from collections.abc import Callable, Iterable
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from dataclasses import dataclass
from typing import Any

from bgs_opt.evaluation import Evaluator, Failure, Job, Local, Objective, Outcome, Stuck, noted
from bgs_opt.processes import Died, Worker
from bgs_opt.raised import Guarded, Raised, pickled_objective

__all__ = ["evaluator_for"]

_LOOK_SECONDS = 0.5
"""How often to look for what nobody tells: that a queued job has started, say."""
_START_SECONDS = 5.0
"""What the first values of a ProcessPoolExecutor may take longer; its processes start then."""
_UNUSABLE = (
    "bgs_opt: the executor given as workers was shut down or broke, as it does when one of its "
    "processes dies; values told before are kept. With an int as workers, a process that dies is "
    "replaced"
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
        return _Pooled(objective, workers, timeout)
    if workers > 1 or timeout is not None:
        return _Processes(objective, workers, timeout, retries)
    return Local(objective, vectorized=vectorized)


def _wait_for(futures: Iterable[Future[Any]], limits: Iterable[float]) -> None:
    """Wait until one future is done or the least of the limits, in seconds, is over."""
    if pending := list(futures):
        least = max(0.0, min(limits))
        concurrent.futures.wait(pending, least, concurrent.futures.FIRST_COMPLETED)


@dataclass
class _Task:
    """A job in an executor of the caller's."""

    job: Job
    since: float | None  # when its evaluation began, as far as that is known


class _Pooled:
    """An Executor of the caller's: it is used, never restarted and never shut down.

    With a timeout only as many jobs are in it as it has workers, and the clock of a job starts
    when it runs: what waits behind jobs of others is not late. An executor that never says that
    a job is running is taken to start jobs at once.
    """

    def __init__(self, objective: Objective, executor: Executor, timeout: float | None) -> None:
        self.executor, self.timeout = executor, timeout
        size = getattr(executor, "_max_workers", None)
        self.size = size if isinstance(size, int) and size > 0 else 32
        self.capacity = self.size if timeout is not None else 2 * self.size
        self.tells = isinstance(executor, (ThreadPoolExecutor, ProcessPoolExecutor))
        self.task: Callable[..., float | Raised] = objective
        self.grace = 0.0  # until the first value has come
        if isinstance(executor, ProcessPoolExecutor):
            pickled_objective(objective)
            self.task = Guarded(objective)
            self.grace = _START_SECONDS
        self.running: dict[Future[Any], _Task] = {}
        self.given_up: list[Future[Any]] = []  # and running still
        self.done: list[Outcome] = []
        self.heard = time.monotonic()  # when something last began or ended

    def free(self) -> int:
        return max(0, self.capacity - len(self.running) - len(self.given_up))

    def submit(self, jobs: list[Job]) -> None:
        for job in jobs:
            try:
                future = self.executor.submit(self.task, job.x, job.seed)
            except Exception as error:
                noted(error, _UNUSABLE)
                raise
            self.running[future] = _Task(job, None if self.tells else time.monotonic())

    def wait(self, seconds: float) -> None:
        limits = [seconds]
        if self.timeout is not None:
            now = time.monotonic()
            starts = [task.since for task in self.running.values() if task.since is not None]
            limits += [start + self.timeout + self.grace - now for start in starts]
            if len(starts) < len(self.running) or self.given_up:
                limits.append(min(_LOOK_SECONDS, self.timeout / 4))
        _wait_for([*self.running, *self.given_up], limits)

    def collect(self) -> list[Outcome]:
        failures: list[Failure] = []
        broken: BaseException | None = None
        for future in [f for f in self.running if f.done()]:
            self.heard = time.monotonic()
            id = self.running.pop(future).job.id
            error = _error_of(future)
            if error is None:
                self.grace = 0.0
                self.done.append(Outcome(id, future.result()))
            elif self._is_broken(error):
                broken = error
            else:
                failures.append(Failure(id, error))
        if failures:
            raise min(failures, key=lambda failure: failure.id)
        if broken is not None:
            noted(broken, _UNUSABLE)
            raise broken
        if self.timeout is not None:
            self._look(self.timeout, time.monotonic())
        done, self.done = self.done, []
        return done

    def _is_broken(self, error: BaseException) -> bool:
        """Whether the executor failed, and not the objective."""
        if isinstance(error, BrokenExecutor):
            return bool(getattr(self.executor, "_broken", True))
        return isinstance(error, CancelledError)

    def _look(self, timeout: float, now: float) -> None:
        """See what has started; give up what takes too long, as it cannot be stopped."""
        before = len(self.given_up)
        self.given_up = [future for future in self.given_up if not future.done()]
        started = [future for future in self.running if future.running()]
        if started and not self.tells:
            self.tells = True
            for future, task in self.running.items():
                task.since = task.since if future in started else None
        for future in started:
            if self.running[future].since is None:
                self.running[future].since = self.heard = now
        for future, task in list(self.running.items()):
            late = task.since is not None and now - task.since >= timeout + self.grace
            if late and not future.done():
                del self.running[future]
                if not future.cancel():
                    self.given_up.append(future)
                self.done.append(Outcome(task.job.id, None, f"no value within {timeout:g} s"))
        if len(self.given_up) != before:
            self.heard = now
        waiting = all(task.since is None for task in self.running.values())
        blocked = self.given_up and (self.running or not self.free())
        if waiting and blocked and now - self.heard >= timeout:
            raise Stuck

    def drain(self, seconds: float) -> list[Outcome]:
        begun = {future: task for future, task in self.running.items() if not future.cancel()}
        finished = concurrent.futures.wait(begun, seconds).done
        self.running = {future: begun[future] for future in begun.keys() - finished}
        fine = [future for future in finished if _error_of(future) is None]
        done, self.done = self.done + [Outcome(begun[f].job.id, f.result()) for f in fine], []
        return done

    def close(self) -> None:
        for future in self.running:
            future.cancel()
        self.running.clear()


def _error_of(future: Future[Any]) -> BaseException | None:
    """What a future that is done has failed with."""
    if future.cancelled():
        return CancelledError()
    error = future.exception()
    if error is None and isinstance(result := future.result(), Raised):
        error = result.error()
    return error


class _Processes:
    """Worker processes of our own, each replaced when it dies or exceeds its deadline."""

    def __init__(
        self, objective: Objective, workers: int, timeout: float | None, retries: int
    ) -> None:
        self.size, self.timeout, self.retries = workers, timeout, retries
        self.waiting: collections.deque[Job] = collections.deque()
        self.tries: collections.Counter[int] = collections.Counter()
        self.done: list[Outcome] = []
        self.workers: list[Worker] = []
        pickled = pickled_objective(objective)
        try:
            for _ in range(workers):
                self.workers.append(Worker(pickled))
        except BaseException:
            self.close()
            raise

    def free(self) -> int:
        idle = sum(worker.idle for worker in self.workers)
        return max(0, idle - len(self.waiting))

    def submit(self, jobs: list[Job]) -> None:
        self.waiting.extend(jobs)
        for worker in self.workers:
            if worker.idle and self.waiting and worker.start(self.waiting[0]):
                self.waiting.popleft()

    def wait(self, seconds: float) -> None:
        now = time.monotonic()
        deadlines = [worker.deadline(self.timeout) for worker in self.workers]
        limits = [d - now for d in deadlines if d is not None]
        futures = [worker.future for worker in self.workers if worker.future is not None]
        _wait_for(futures, [seconds, _LOOK_SECONDS, *limits])

    def collect(self) -> list[Outcome]:
        failures: list[Failure] = []
        for worker in self.workers:
            if worker.future is None:
                continue
            deadline = worker.deadline(self.timeout)
            if worker.future.done():
                if (report := worker.finish()) is None:
                    continue
                job, result = report
                if isinstance(result, Raised):
                    failures.append(Failure(job.id, result.error()))
                elif isinstance(result, Died):
                    self._again(job, f"its worker process died ({result.how})")
                else:
                    self.done.append(Outcome(job.id, result))
            elif deadline is not None and time.monotonic() >= deadline:
                self._again(worker.overdue(), f"no value within {self.timeout:g} s")
            elif not self.done:
                worker.sweep()
        if failures:
            raise min(failures, key=lambda failure: failure.id)
        self.submit([])
        done, self.done = self.done, []
        return done

    def _again(self, job: Job, reason: str) -> None:
        self.tries[job.id] += 1
        if self.tries[job.id] > self.retries:
            self.done.append(Outcome(job.id, None, reason))
        else:
            self.waiting.append(job)

    def drain(self, seconds: float) -> list[Outcome]:
        self.waiting.clear()
        busy = [(w, w.future) for w in self.workers if w.future is not None and w.job is not None]
        concurrent.futures.wait([future for _, future in busy], seconds)
        for worker, future in busy:
            if future.done() and future.exception() is None and (report := worker.finish()):
                job, value = report
                if not isinstance(value, (Raised, Died)):
                    self.done.append(Outcome(job.id, value))
        done, self.done = self.done, []
        return done

    def close(self) -> None:
        for worker in self.workers:
            worker.leave()
        for worker in self.workers:
            worker.close()
