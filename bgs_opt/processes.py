"""One worker process, by a ProcessPoolExecutor of one process that can be killed and replaced.

``multiprocessing.Pool`` hangs when a worker dies (python/cpython#96062); an executor says so.
The process starts by spawn, so that no lock or thread of the parent is copied into it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import Any

from bgs_opt.errors import ArgumentTypeError, BGSError
from bgs_opt.protocols import FloatArray

__all__ = ["Worker", "WorkerStartError"]

START_SECONDS = 120.0
"""A worker that is not ready after this time will never be."""

_objective: Callable[[FloatArray, int], float] | None = None  # in the worker


class WorkerStartError(BGSError, RuntimeError):
    """A worker process could not start."""


def _prepare(pickled: bytes) -> None:
    """Runs first in the worker: unpickle the objective, ignore Ctrl-C, end with the parent."""
    global _objective  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _objective = pickle.loads(pickled)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _ready() -> None:
    """The first task: its result says that the process runs."""


def _evaluate(x: FloatArray, seed: int) -> float:
    if _objective is None:
        raise WorkerStartError("the worker has no objective")
    return _objective(x, seed)


class Worker:
    """A process that evaluates one job at a time."""

    def __init__(self, objective: Callable[[FloatArray, int], float]) -> None:
        try:
            self._pickled = pickle.dumps(objective)
        except Exception as error:
            raise ArgumentTypeError(
                "fun: expected a function that worker processes can import (defined at the top "
                f"level of a module); got one that does not pickle ({error}). Use workers=1, or "
                "pass a concurrent.futures.ThreadPoolExecutor as workers"
            ) from error
        self.job: Any = None
        self.future: Future[Any] | None = None
        self._launch()

    @property
    def idle(self) -> bool:
        """Whether a job can be started."""
        return self.future is None

    def _launch(self) -> None:
        self._ready = False
        self._executor = ProcessPoolExecutor(
            1,
            multiprocessing.get_context("spawn"),
            initializer=_prepare,
            initargs=(self._pickled,),
        )
        self.future = self._executor.submit(_ready)
        self._started = time.monotonic()

    def start(self, job: Any) -> None:
        """Start a job; the worker must be idle."""
        self.job, self._started = job, time.monotonic()
        try:
            self.future = self._executor.submit(_evaluate, job.x, job.seed)
        except BrokenExecutor as error:  # it died while idle: report it as this job's death
            self.future = Future()
            self.future.set_exception(error)

    def deadline(self, timeout: float | None) -> float | None:
        """When what it does now is overdue, by time.monotonic()."""
        if self.future is None:
            return None
        if not self._ready:
            return self._started + START_SECONDS
        return None if timeout is None else self._started + timeout

    def finish(self) -> tuple[Any, float | None]:
        """Take the job and its value from a worker whose future is done; a dead one is replaced.

        Raises
        ------
        WorkerStartError
            If the process could not start.
        """
        future, job = self.future, self.job
        self.future = self.job = None
        error = None if future is None else future.exception()
        if not self._ready:
            if error is not None:
                self.close()
                raise WorkerStartError(
                    "a worker process could not start; it could not import the objective, or the "
                    'script has no `if __name__ == "__main__":` around the call that starts '
                    "workers (its own message stands above)"
                ) from error
            self._ready = True
            return None, None
        if isinstance(error, BrokenExecutor):
            self.replace()
        return job, None if error is not None or future is None else future.result()

    def replace(self) -> Any:
        """Kill the process, start another one, return the job that was lost."""
        if not self._ready and self.future is not None:
            self.close()
            raise WorkerStartError(f"a worker process was not ready after {START_SECONDS:g} s")
        job, self.job = self.job, None
        self.close()
        self._launch()
        return job

    def close(self) -> None:
        """Kill the process and wait for its end."""
        processes = list((getattr(self._executor, "_processes", None) or {}).values())
        for process in processes:
            with contextlib.suppress(OSError, ValueError):
                process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)
        for process in processes:
            with contextlib.suppress(ValueError, AssertionError):
                process.join(5)
        self.future = None
