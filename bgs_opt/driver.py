"""The loop of minimize(): jobs out, values in, until something says stop.

BGS.ask -> queue -> Evaluator -> buffer -> BGS.tell -> checkpoint, callback, progress
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from bgs_opt.bgs import BGS
from bgs_opt.candidates import Candidates
from bgs_opt.errors import WorkerLostWarning
from bgs_opt.evaluation import Evaluator, Failure, Job, Outcome
from bgs_opt.protocols import FloatArray

__all__ = ["MESSAGES", "Driver", "Limits"]

_FLUSH_SECONDS = 0.05
_FINAL = -1  # id of an evaluation of the returned point
MESSAGES = {
    "budget": (0, True, "the budget of evaluations is spent"),
    "max_time": (1, True, "the time is up"),
    "target": (2, True, "the target value was reached"),
    "tol": (3, True, "sigma and the last step are below tol"),
    "maxiter": (4, True, "the number of generations is reached"),
    "sigma": (5, True, "sigma no longer changes the center"),
    "stalled": (6, False, "no generation of late had a usable pair of finite values"),
    "interrupted": (7, False, "interrupted by the user"),
    "callback": (99, False, "`callback` raised StopIteration or returned True"),
}
"""Status, success and message of each way to end."""


@dataclass(frozen=True)
class Limits:
    """When to stop."""

    max_time: float | None = None
    target: float | None = None
    tol: float | None = None
    maxiter: int | None = None
    reserve: int = 0  # evaluations kept for the returned point


class Interrupts:
    """Holds Ctrl-C back while the state changes, and only then."""

    def __init__(self) -> None:
        self.held = self.came = False
        self.previous: Any = None

    def __enter__(self) -> Interrupts:
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self.previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if not self.held:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Ctrl-C within is raised at the end."""
        self.held, self.came = True, False
        try:
            yield
        finally:
            self.held = False
        if self.came:
            raise KeyboardInterrupt


@dataclass
class Driver:
    """Runs an optimizer over an evaluator."""

    opt: BGS
    evaluator: Evaluator
    limits: Limits
    on_generation: Callable[[], bool]  # True: stop
    on_values: Callable[[int], object]
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_seconds: float = 30.0
    asynchronous: bool = False
    pass_seed: bool = False
    jobs: Iterator[Job] = field(default_factory=lambda: iter(()))  # rows are made when taken
    queued: int = 0
    buffer: list[Outcome] = field(default_factory=list)
    flying: int = 0
    warned: bool = False

    def run(self) -> str:
        """Go on until one of the MESSAGES applies, and return its name."""
        self.begun = self.flushed = self.saved = time.monotonic()
        self._enqueue(self.opt.pending)
        with Interrupts() as interrupts:
            try:
                reason = self._loop(interrupts)
            except KeyboardInterrupt:
                reason = "interrupted"
            except Failure as failure:
                with interrupts.hold():
                    self._tell()
                    self.save()
                _note(failure.error, f"bgs_opt: raised by fun for candidate id {failure.id}; "
                      f"{self.opt.num_evaluations} values told before are kept")  # fmt: skip
                raise failure.error from None
            with interrupts.hold():
                self._tell()
                self.save()
            return reason

    def _loop(self, interrupts: Interrupts) -> str:
        while True:
            reason = self._reason()
            if reason:
                return reason
            self._fill()
            if not (self.flying or self.queued or self.buffer):
                return "budget"  # nothing is left that may be asked
            wait = None
            if self.limits.max_time is not None:
                wait = max(0.0, self.begun + self.limits.max_time - time.monotonic())
            outcomes = self.evaluator.collect(wait)
            self.flying -= len(outcomes)
            self.buffer += outcomes
            idle = not self.flying and not self.queued
            if idle or time.monotonic() - self.flushed > _FLUSH_SECONDS:
                with interrupts.hold():
                    updated = self._tell()
                if updated and self.on_generation():
                    return "callback"
                if self.checkpoint and time.monotonic() - self.saved > self.checkpoint_seconds:
                    with interrupts.hold():
                        self.save()

    def _reason(self) -> str:
        limits, opt = self.limits, self.opt
        stops = opt.stop()
        for name in ("budget", "stalled", "sigma"):
            if name in stops:
                return name
        if limits.max_time is not None and time.monotonic() - self.begun >= limits.max_time:
            return "max_time"
        if limits.maxiter is not None and opt.generation >= limits.maxiter:
            return "maxiter"
        if limits.target is not None and opt.reached(limits.target):
            return "target"
        if limits.tol is not None and opt.settled(limits.tol):
            return "tol"
        return ""

    def _fill(self) -> None:
        """Ask for what may still be asked and hand it to the evaluator."""
        free = self.evaluator.free()
        if not self.queued:
            count = self.opt.needed
            if not count and self.asynchronous:
                count = free
            budget = self.opt.budget
            if budget is not None:
                out = self.flying + len(self.buffer)
                told = self.opt.num_evaluations
                count = min(count, budget - self.limits.reserve - told - out)
            if count > 0:
                self._enqueue(self.opt.ask(count))
        jobs = list(itertools.islice(self.jobs, min(free, self.queued)))
        if jobs:
            self.evaluator.submit(jobs)
            self.queued -= len(jobs)
            self.flying += len(jobs)

    def _enqueue(self, candidates: Candidates) -> None:
        ids = candidates.ids.tolist()
        seeds = candidates.seeds.tolist() if self.pass_seed else [0] * len(ids)
        self.jobs, self.queued = map(Job, ids, candidates, seeds), len(ids)

    def _tell(self) -> bool:
        """Tell what is in the buffer; whether the center was updated."""
        self.flushed = time.monotonic()
        told = [(o.id, o.value) for o in self.buffer if o.value is not None]
        lost = [o for o in self.buffer if o.value is None]
        self.buffer.clear()
        updated = False
        if told:
            updated = self.opt.tell([i for i, _ in told], [v for _, v in told]).updated
            self.on_values(len(told))
        if lost:
            updated |= self.opt.discard([o.id for o in lost]).updated
            if not self.warned:
                self.warned = True
                warnings.warn(
                    f"{len(lost)} evaluations were given up: {lost[0].lost}; their pairs are "
                    "dropped (minimize's result counts them in `nlost`)",
                    WorkerLostWarning,
                    stacklevel=5,
                )
        return updated

    def save(self) -> None:
        """Write the checkpoint, if one is wanted."""
        self.saved = time.monotonic()
        if self.checkpoint is not None:
            self.opt.save(self.checkpoint)

    def final(self, x: FloatArray, count: int) -> FloatArray:
        """Values of ``count`` more evaluations of one point; lost ones are left out."""
        values: list[float] = []
        jobs = deque(Job(_FINAL - i, x, i) for i in range(count))
        flying = 0
        while jobs or flying:
            free = min(self.evaluator.free(), len(jobs))
            self.evaluator.submit([jobs.popleft() for _ in range(free)])
            flying += free
            outcomes = self.evaluator.collect(None)
            fresh = [o for o in outcomes if o.id < 0]
            flying -= len(fresh)
            values += [o.value for o in fresh if o.value is not None]
            self.on_values(len(fresh))
        return np.array(values)


def _note(error: BaseException, text: str) -> None:
    """``add_note``, which Python 3.10 does not have."""
    if hasattr(error, "add_note"):
        error.add_note(text)
    else:
        error.__notes__ = [*getattr(error, "__notes__", []), text]
