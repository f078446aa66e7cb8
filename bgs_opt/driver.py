"""The loop of minimize(): jobs out, values in, until something says stop.

BGS.ask -> queue -> Evaluator -> buffer -> BGS.tell -> checkpoint, callback, progress
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from bgs_opt.bgs import BGS
from bgs_opt.candidates import SLOT_BITS, Candidates
from bgs_opt.errors import BGSWarning, NonFiniteValueError, WorkerLostWarning
from bgs_opt.evaluation import LAST_SECONDS, Evaluator, Failure, Job, Outcome, Stuck, noted
from bgs_opt.interrupts import Interrupts
from bgs_opt.ledger import Warner
from bgs_opt.protocols import FloatArray
from bgs_opt.start import Keeper
from bgs_opt.update import LATE_WINDOW

__all__ = ["MESSAGES", "Driver", "Limits"]

_FLUSH_SECONDS = 0.05  # how long values may lie before they are told
_LOOK_SECONDS = 1.0  # how long to wait at most, to look at the clock
_FINAL = -1  # id of the first evaluation of the returned point; the next is -2
_LOST_IN_A_ROW = 20
MESSAGES = {
    "budget": (0, True, "the budget of evaluations is spent"),
    "max_time": (1, True, "the time is up"),
    "target": (2, True, "the target value was reached"),
    "tol": (3, True, "sigma and the last step are below tol"),
    "maxiter": (4, True, "the number of generations is reached"),
    "sigma": (5, True, "sigma no longer changes the center"),
    "stalled": (6, False, "no generation of late had a usable pair of finite values"),
    "interrupted": (7, False, "interrupted by the user"),
    "lost": (8, False, "of late every evaluation lost its worker or took longer than timeout"),
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
    reserve: int = 0  # evaluations kept for the returned point, unless it is free of noise


@dataclass
class Driver:
    """Runs an optimizer over an evaluator."""

    opt: BGS
    make: Callable[[], Evaluator]
    limits: Limits
    on_generation: Callable[[], bool]  # True: stop
    on_values: Callable[[int], object]
    keeper: Keeper
    asynchronous: bool = False
    pass_seed: bool = False
    jobs: Iterator[Job] = field(default_factory=lambda: iter(()))  # rows are made when taken
    queued: int = 0
    flying: int = 0
    buffer: list[Outcome] = field(default_factory=list)
    stale: int = 0  # outcomes that came too late to be told
    lost: int = 0  # of the returned point's evaluations
    lost_in_a_row: int = 0
    warned: list[str] = field(default_factory=list)

    def run(self) -> tuple[str, FloatArray]:
        """Go on until one of the MESSAGES applies.

        Returns
        -------
        reason, values
            Its name, and values of the point to be returned (under noise, else none).
        """
        self.begun = self.flushed = time.monotonic()
        with Interrupts() as self.interrupts:
            self.evaluator = self.make()
            try:
                self.keeper.start(self.opt.save)
                reason = self._search()
                values: FloatArray = np.empty(0)
                if MESSAGES[reason][1] and reason != "max_time":
                    values, whole = self._final()
                    reason = reason if whole else "interrupted"
                if MESSAGES[reason][1] and self._found_nothing(values):
                    reason = "stalled"
            finally:
                self.evaluator.close()
            return "interrupted" if self.interrupts.presses else reason, values

    def _search(self) -> str:
        """Run the loop; whatever ends it, tell and save what is there."""
        reason, error = "", None
        try:
            reason = self._loop()
        except KeyboardInterrupt:
            reason = "interrupted"
        except Stuck:
            reason = "lost"
        except Failure as failure:
            error = failure.error
            noted(error, f"bgs_opt: raised by fun for candidate id {failure.id}")
        except BaseException as caught:
            error = caught
        if isinstance(error, KeyboardInterrupt):  # from a worker
            reason, error = "interrupted", None
        planned = reason and MESSAGES[reason][1]
        error = self._keep(error, 0.0 if planned else LAST_SECONDS)
        if error is None:
            return reason
        if not self.opt.num_evaluations:
            self.keeper.forget()
        raise error

    def _keep(self, error: BaseException | None, seconds: float) -> BaseException | None:
        """Tell what finishes within so many seconds, and save; return what is to be raised."""
        try:
            with contextlib.suppress(Exception):
                self.buffer += self.evaluator.drain(seconds)
            self._tell()
        except Exception as other:
            error = error or other
        self._save()
        return error

    def _found_nothing(self, values: FloatArray) -> bool:
        """Whether every evaluation failed or was given up."""
        tried = self.opt.num_evaluations + self.opt.counts["discarded"] + self.lost + len(values)
        return tried > 0 and not np.isfinite([self.opt.best.value, *values]).any()

    def _loop(self) -> str:
        self._enqueue(self.opt.pending)
        reason = self._reason()
        while not reason:
            self._fill()
            if not (self.flying or self.queued or self.buffer):
                return "budget"  # nothing is left that may be asked
            most = _FLUSH_SECONDS if self.buffer else _LOOK_SECONDS
            with self.interrupts.allowed():
                self.evaluator.wait(min(most, self._time_left()))
            outcomes = self.evaluator.collect()
            self.flying -= len(outcomes)
            self.buffer += outcomes
            idle = not self.flying and not self.queued
            if idle or time.monotonic() - self.flushed > _FLUSH_SECONDS:
                if self._tell():
                    with self.interrupts.allowed():
                        stop = self.on_generation()
                    if stop:
                        return "callback"
                if self.keeper.due():
                    self._save()
                reason = self._reason()
            if self._time_left() == 0:
                reason = reason or "max_time"
        return reason

    def _time_left(self) -> float:
        if self.limits.max_time is None:
            return math.inf
        return max(0.0, self.begun + self.limits.max_time - time.monotonic())

    def _reason(self) -> str:
        limits, opt = self.limits, self.opt
        stops = opt.stop()
        for name in ("budget", "stalled", "sigma"):
            if name in stops:
                return name
        if self.lost_in_a_row >= max(_LOST_IN_A_ROW, 4 * self.evaluator.size):
            return "lost"
        if limits.maxiter is not None and opt.generation >= limits.maxiter:
            return "maxiter"
        if limits.target is not None and opt.reached(limits.target):
            return "target"
        if limits.tol is not None and opt.settled(limits.tol):
            return "tol"
        return ""

    @property
    def _reserve(self) -> int:
        """Evaluations that the returned point is due."""
        return 0 if self.opt.noisy is False else self.limits.reserve

    def _room(self) -> int:
        """Evaluations that the budget allows beyond those under way."""
        if self.opt.budget is None:
            return sys.maxsize
        out = self.flying + len(self.buffer) + self.stale
        return max(0, self.opt.budget - self._reserve - self.opt.num_evaluations - out)

    def _fill(self) -> None:
        """Ask for what may still be asked and hand it to the evaluator."""
        free, room = self.evaluator.free(), self._room()
        if not self.queued:
            more = min(free, 2 * self.evaluator.size) if self.asynchronous else 0
            count = min(self.opt.needed or more, room)
            if count > 0:
                self._enqueue(self.opt.ask(count))
        self.queued = min(self.queued, room)  # a resumed run may have more out than its budget
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
        outcomes, self.buffer = self.buffer, []
        self.keeper.changed |= bool(outcomes)
        known = [o for o in outcomes if o.id >> SLOT_BITS >= self.opt.generation - LATE_WINDOW]
        self.stale += len(outcomes) - len(known)
        told = [(o.id, o.value) for o in known if o.value is not None]
        lost = [o for o in known if o.value is None]
        updated = False
        if told:
            updated = self._tell_values(told)
            self.on_values(len(told))
        if lost:
            updated |= self.opt.discard([o.id for o in lost]).updated
            self._warn_of_loss(lost[0])
        self.lost_in_a_row = 0 if told else self.lost_in_a_row + len(lost)
        return updated

    def _tell_values(self, told: list[tuple[int, float]]) -> bool:
        try:
            return self.opt.tell([i for i, _ in told], [v for _, v in told]).updated
        except NonFiniteValueError:  # on_failure="raise": keep the others
            finite = [(i, v) for i, v in told if math.isfinite(v)]
            self.opt.tell([i for i, _ in finite], [v for _, v in finite])
            raise

    def _warn_of_loss(self, lost: Outcome) -> None:
        text = f"an evaluation was given up: {lost.lost} (`nlost` of the result counts them)"
        self._warn(WorkerLostWarning, text)

    def _warn(self, category: type[BGSWarning], message: str) -> None:
        Warner(self).issue([(category, message)])  # type: ignore[arg-type]  # of it, only `warned`

    def _save(self) -> None:
        if trouble := self.keeper.save(self.opt.save):
            self._warn(BGSWarning, trouble)

    def _final(self) -> tuple[FloatArray, bool]:
        """Values of the point to be returned, but for lost ones; False if interrupted."""
        x = np.array(self.opt.recommendation)
        x.setflags(write=False)
        jobs = deque(Job(_FINAL - i, x, i) for i in range(self._reserve))
        values: dict[int, float] = {}
        flying, whole = 0, True
        try:
            while (jobs or flying) and self._time_left() != 0:
                fresh = [jobs.popleft() for _ in range(min(self.evaluator.free(), len(jobs)))]
                self.evaluator.submit(fresh)
                flying += len(fresh)
                with self.interrupts.allowed():
                    self.evaluator.wait(min(_LOOK_SECONDS, self._time_left()))
                outcomes = self._finals()
                flying -= len(outcomes)
                values |= {o.id: o.value for o in outcomes if o.value is not None}
                if lost := [o for o in outcomes if o.value is None]:
                    self.lost += len(lost)
                    self._warn_of_loss(lost[0])
                self.on_values(len(outcomes) - len(lost))
        except KeyboardInterrupt:
            whole = False
        except Stuck:
            pass
        return np.array([values[id] for id in sorted(values, reverse=True)]), whole

    def _finals(self) -> list[Outcome]:
        """What has come of the returned point; others that were under way no longer count."""
        try:
            return [o for o in self.evaluator.collect() if o.id <= _FINAL]
        except Failure as failure:
            if failure.id > _FINAL:
                return []
            error = failure.error
        noted(error, "bgs_opt: raised by fun at the point to be returned; the run is kept")
        raise error
