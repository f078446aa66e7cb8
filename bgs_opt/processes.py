"""One worker process, by a ProcessPoolExecutor of one process that can be killed and replaced.

``multiprocessing.Pool`` hangs when a worker dies (python/cpython#96062); an executor says so.
The process starts by spawn, so that no lock or thread of the parent is copied into it, and
leads a process group, so that what the objective starts is killed with it.

    starting --> idle <--> busy        each may die or be killed, and is then started anew
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from bgs_opt.errors import BGSError
from bgs_opt.protocols import FloatArray
from bgs_opt.raised import Guarded, Raised

__all__ = ["Died", "Worker", "WorkerStartError"]

START_SECONDS = 120.0
"""A worker that is not ready after this time will never be."""
LEAVE_SECONDS = 2.0
"""What an idle worker has to end by itself, with its ``atexit`` functions, before it is killed."""
ATTEMPTS = 3
"""So many processes in a row that die before they evaluate anything are a failure."""
LEFT_UNREAD = sys.version_info < (3, 11, 5) and sys.platform != "win32"
"""Whether an executor leaves it to us to read what a dead process did not."""


class WorkerStartError(BGSError, RuntimeError):
    """A worker process could not start."""


@dataclass(frozen=True)
class Died:
    """A worker process is gone, and how."""

    how: str


# ---- in the worker


_objective: Guarded


def _prepare() -> None:
    """Runs first: leave Ctrl-C to the parent, lead a process group, end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    if hasattr(os, "getpgrp") and os.getpgrp() == os.getpid():
        os.kill(0, signal.SIGKILL)  # the whole group
    os._exit(1)


def _load(pickled: bytes) -> Raised | None:
    """The first task; its result says that the process is ready."""
    global _objective  # noqa: PLW0603
    try:
        _objective = pickle.loads(pickled)
    except BaseException as error:
        return Raised.of(error)
    return None


def _evaluate(x: FloatArray, seed: int) -> float | Raised:
    return _objective(x, seed)


# ---- in the parent


@contextlib.contextmanager
def _shielded() -> Iterator[None]:
    """A process started within gets no Ctrl-C before it can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _second_end(executor: ProcessPoolExecutor) -> multiprocessing.connection.Connection:
    """Where its process reads, as a descriptor of our own: two threads must not close one."""
    reader = executor._call_queue._reader  # type: ignore[attr-defined]
    return multiprocessing.connection.Connection(os.dup(reader.fileno()), writable=False)


class Worker:
    """A process that evaluates one job at a time."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled
        self._unused = 0  # processes in a row that died before they evaluated anything
        self._launch()

    @property
    def idle(self) -> bool:
        """Whether a job can be started."""
        return self.future is None

    def _launch(self) -> None:
        self.job: Any = None
        self._thread: Any = None  # of an executor that was told to end
        self._ready = False
        self._started = time.monotonic()
        try:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(1, context, initializer=_prepare)
            if LEFT_UNREAD:
                self._unread = _second_end(self._executor)
            with _shielded():
                self.future: Future[Any] | None = self._executor.submit(_load, self._pickled)
        except OSError as error:
            raise WorkerStartError(f"no worker process could be started: {error}") from error
        self._process: BaseProcess = next(iter(self._executor._processes.values()))

    def start(self, job: Any) -> bool:
        """Start a job in an idle worker; False if its process has died, and starts anew."""
        if self._process.exitcode is None:
            with contextlib.suppress(BrokenExecutor):
                self.future = self._executor.submit(_evaluate, job.x, job.seed)
                self.job, self._started = job, time.monotonic()
                return True
        self._start_again()
        return False

    def deadline(self, timeout: float | None) -> float | None:
        """When what it does now is overdue, by time.monotonic()."""
        if self.future is None:
            return None
        if not self._ready:
            return self._started + START_SECONDS
        return None if timeout is None else self._started + timeout

    def finish(self) -> tuple[Any, float | Raised | Died] | None:
        """What came of the job, of a worker whose future is done; None if it had just started.

        Raises
        ------
        WorkerStartError
            If the process cannot start.
        """
        future, job = self.future, self.job
        if future is None:
            return None
        died = isinstance(future.exception(), BrokenExecutor)
        if died and not self._ready:
            self._start_again()
            return None
        if died:
            how = self._end()
            self._unused = 0
            self.replace()
            return job, Died(how)
        result = future.result()
        self.future = self.job = None
        if self._ready:
            self._unused = 0
            return job, result
        if isinstance(result, Raised):
            error = result.error()
            raise WorkerStartError(
                "fun: expected a function that worker processes can import (defined at the top "
                f"level of a module); loading it there raised {type(error).__name__}: {error}"
            ) from error
        self._ready = True
        return None

    def _end(self) -> str:
        """How a process ended that is dead or about to be."""
        until = time.monotonic() + LEAVE_SECONDS
        while (code := self._process.exitcode) is None and time.monotonic() < until:
            time.sleep(0.005)  # its pipes close before it counts as dead
        if code is None or code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"

    def _start_again(self) -> None:
        """Replace a process that died before it evaluated anything, within reason."""
        how = self._end()
        self._unused += 1
        if not self._ready and (self._process.exitcode or 0) >= 0:
            self.close()
            raise WorkerStartError(
                f"a worker process could not start ({how}): the script needs "
                '`if __name__ == "__main__":` around the call that starts workers, or importing '
                "it fails there, as it does if it came by stdin (its own message stands above)"
            )
        if self._unused >= ATTEMPTS:
            self.close()
            raise WorkerStartError(
                f"{ATTEMPTS} worker processes in a row died before they evaluated anything ({how})"
            )
        self.replace()

    def overdue(self) -> Any:
        """Kill and replace a process that exceeded its deadline; return its job."""
        if not self._ready:
            self.close()
            raise WorkerStartError(f"a worker process was not ready after {START_SECONDS:g} s")
        job = self.job
        self.replace()
        return job

    def replace(self) -> None:
        """Kill the process, if it is not dead, and start another one."""
        self.close()
        self._launch()

    def sweep(self) -> None:
        """Kill what a dead process has left running: it would hide the death from us."""
        if self._process.exitcode is not None:
            self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg") and self._process.pid is not None:
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError, ValueError):
            self._process.kill()

    def _drain(self) -> None:
        """Read what a dead process left unread, or who writes it waits (python/cpython#94777)."""
        manager = self._thread or getattr(self._executor, "_executor_manager_thread", None)
        with self._unread:
            while manager is not None and manager.is_alive():  # it joins the thread that writes
                if self._unread.poll(0.005) and not os.read(self._unread.fileno(), 1 << 16):
                    break  # its end is closed, nothing waits

    def leave(self) -> None:
        """Tell an idle process that it may end; :meth:`close` is still to come."""
        if self.idle and self._thread is None:
            self._thread = getattr(self._executor, "_executor_manager_thread", None)
            self._executor.shutdown(wait=False)

    def close(self) -> None:
        """End the process: an idle one by itself if it wants to, a busy one by force."""
        if self.idle:
            self.leave()
            self._process.join(LEAVE_SECONDS)
        self._kill()
        if LEFT_UNREAD:
            self._drain()
        self._executor.shutdown(wait=True, cancel_futures=True)
        if self._thread is not None:  # it closes the pipes; who said wait=False has to join it
            self._thread.join(LEAVE_SECONDS)
        self._process.join(LEAVE_SECONDS)
        self.future = None
