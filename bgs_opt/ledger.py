"""What may be told: ids and values are checked as a whole, then recorded as a whole."""

from __future__ import annotations

import sys
import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bgs_opt.candidates import SLOT_BITS, Candidates
from bgs_opt.config import Config
from bgs_opt.errors import (
    DuplicateTellError,
    NonFiniteValueError,
    NonFiniteValueWarning,
    StaleCandidateError,
    UnknownCandidateError,
)
from bgs_opt.pairs import source_of
from bgs_opt.protocols import Directions, FloatArray, IntArray
from bgs_opt.state import ASKED, DISCARDED, RETURNED, TOLD, Generation, State
from bgs_opt.update import Event
from bgs_opt.validation import as_array, wrong_type, wrong_value

__all__ = ["Ledger", "TellReport", "Warner", "ids_of", "values_of"]


def ids_of(candidates: Candidates | npt.ArrayLike, entropy: int) -> IntArray:
    """Ids of what was evaluated, shape (n,); Candidates must be of the run with this entropy."""
    if isinstance(candidates, Candidates):
        if candidates.entropy != entropy:
            raise UnknownCandidateError("candidates: they were asked of another run")
        return candidates.ids
    expected = "Candidates or a 1-D array of their ids (int64)"
    if isinstance(candidates, (int, np.integer)) and not isinstance(candidates, bool):
        candidates = [int(candidates)]
    ids = as_array("candidates", expected, candidates)
    if ids.size == 0 and ids.ndim == 1:
        return ids.astype(np.int64)
    if ids.dtype.kind not in "iu":
        wrong_type("candidates", expected, candidates)
    if ids.ndim != 1:
        wrong_value("candidates", expected, ids)
    return ids.astype(np.int64)


def values_of(values: npt.ArrayLike, count: int, on_failure: str) -> FloatArray:
    """Checked copy of the told values, float64, shape (n,)."""
    expected = f"{count} real numbers, one for each candidate"
    array = as_array("values", expected, values)
    if array.ndim == 0 and array.dtype.kind in "fiu" and count == 1:
        array = array.reshape(1)
    if array.size and array.dtype.kind not in "fiu":
        wrong_type("values", expected, values if not isinstance(values, np.ndarray) else array)
    if array.shape != (count,):
        wrong_value("values", f"{expected}, shape ({count},)", array)
    out = array.astype(np.float64)
    if on_failure == "raise" and not np.isfinite(out).all():
        at = int(np.flatnonzero(~np.isfinite(out))[0])
        raise NonFiniteValueError(
            f"values: expected finite numbers (on_failure='raise'); got {out[at]} at position {at}"
        )
    return out


class TellReport(NamedTuple):
    """What one call of ``tell`` or ``discard`` did.

    ``accepted`` evaluations were new, ``late`` of them came after their generation had closed,
    ``repeated`` ones were known already and changed nothing; ``updated`` says whether the
    center was updated and a new generation is open.
    """

    accepted: int
    late: int
    repeated: int
    updated: bool


class Ledger:
    """Checks and records one call of tell or discard on a State."""

    def __init__(self, config: Config, state: State, directions: Directions) -> None:
        self.config, self.state, self.directions = config, state, directions
        self.events: list[Event] = []

    def settle(self, ids: IntArray, values: FloatArray | None) -> tuple[int, int, int]:
        """Record ``values`` (losses where None); return how many were new, late, known already.

        Nothing is changed before every id and value was checked.
        """
        work = []
        numbers = ids >> SLOT_BITS
        for number in sorted(set(numbers.tolist())):
            where = np.flatnonzero(numbers == number)
            generation = self._generation(number, int(ids[where[0]]))
            slots = ids[where] & ((1 << SLOT_BITS) - 1)
            told = None if values is None else values[where]
            work.append((generation, *self._check(generation, slots, told)))
        late, known, new = 0, len(ids), 0
        for generation, slots, told, lost in work:
            known -= len(slots) + len(lost)
            new += len(slots) + len(lost)
            late += self._record(generation, slots, told, lost)
        return new, late, known

    def _generation(self, number: int, example: int) -> Generation:
        state = self.state
        for generation in (state.open, *state.closed):
            if generation.number == number:
                return generation
        if 0 <= number < state.open.number:
            raise StaleCandidateError(
                f"candidates: id {example} belongs to generation {number}, which closed too long "
                f"ago; expected one of the last {len(state.closed)} or the open one, "
                f"{state.open.number}"
            )
        raise UnknownCandidateError(f"candidates: id {example} was never asked")

    def _check(
        self, generation: Generation, slots: IntArray, values: FloatArray | None
    ) -> tuple[IntArray, FloatArray | None, IntArray]:
        """New slots and values in slot order, and lost ones that were told after all."""
        unknown = slots >= generation.asked
        if unknown.any():
            bad = int(slots[unknown][0]) + (generation.number << SLOT_BITS)
            raise UnknownCandidateError(
                f"candidates: id {bad} was never asked; generation {generation.number} has "
                f"{generation.asked} candidates so far"
            )
        if (slots[1:] > slots[:-1]).all():  # the usual case: sorted, each once
            unique, first = slots, np.arange(len(slots))
            inverse = first
        else:
            unique, first, inverse = np.unique(slots, return_index=True, return_inverse=True)
        status = generation.status[unique]
        if values is None:
            return unique[status == ASKED], None, np.empty(0, np.int64)
        picked = values[first]
        told = (status == TOLD) | (status == RETURNED)
        known = np.where(told, generation.values[unique], picked)
        clash = ~_same(values, known[inverse])
        if clash.any():
            at = int(np.flatnonzero(clash)[0])
            raise DuplicateTellError(
                f"candidates: id {int(slots[at]) + (generation.number << SLOT_BITS)} has the "
                f"value {float(known[inverse[at]])!r} already; got {float(values[at])!r}"
            )
        fresh = status == ASKED
        lost = status == DISCARDED
        order = np.concatenate([picked[fresh], picked[lost]])
        return unique[fresh], order, unique[lost]

    def _record(
        self, generation: Generation, slots: IntArray, values: FloatArray | None, lost: IntArray
    ) -> int:
        state = self.state
        late = 0 if generation is state.open else len(slots)
        if values is None:
            generation.settle(slots, None)
            state.num_discarded += len(slots)
            self._release(generation)
            return late
        fresh = values[: len(slots)]
        self._improve(generation, np.concatenate([slots, lost]), values)
        generation.settle(slots, fresh)
        if len(lost):  # given up before: known from now on, but its pair stays dropped
            generation.values[lost] = values[len(slots) :]
            generation.status[lost] = RETURNED
        late += 0 if generation is state.open else len(lost)
        state.num_evaluations += len(slots) + len(lost)
        state.num_late += late
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            state.num_failed += bad
            self.events.append((NonFiniteValueWarning, (
                f"{bad} of {len(values)} values are NaN or infinite; they count as the worst "
                "finite value of their generation and never as the best"
                if self.config.options.on_failure == "worst"
                else f"{bad} of {len(values)} values are NaN or infinite; their pairs are dropped"
            )))  # fmt: skip
        self._release(generation)
        return late

    def _improve(self, generation: Generation, slots: IntArray, values: FloatArray) -> None:
        """Keep the best finite value; of equal ones the lowest id."""
        losses = -values if self.config.maximize else values
        finite = np.isfinite(losses)
        state = self.state
        if not finite.any() or generation.center is None:
            return
        losses = np.where(finite, losses, np.inf)
        lowest = float(losses.min())
        at = np.flatnonzero(losses == lowest)
        at = at[np.argmin(slots[at])]
        slot, lowest = int(slots[at]), float(losses[at])  # -0.0 equals 0.0: its own sign
        name = slot + (generation.number << SLOT_BITS)
        if (lowest, name) >= (state.best_value, state.best_id if state.best_id >= 0 else name + 1):
            return
        source = source_of(self.config, generation, generation.center, self.directions)
        x = Candidates(source, np.array([slot])).x[0]
        state.best_x, state.best_value, state.best_id = x, lowest, name
        state.jump = False

    def _release(self, generation: Generation) -> None:
        """Let go of a closed generation's center when nothing can come any more."""
        if generation is self.state.open or self.config.options.late == "use":
            return
        if generation.settled:
            generation.center = generation.probe = None


def _same(left: FloatArray, right: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    same: np.ndarray[Any, np.dtype[np.bool_]] = left == right
    same |= np.isnan(left) & np.isnan(right)
    return same


class Warner:
    """Issues each category of warning once a run, at the line outside of this package."""

    def __init__(self, state: State) -> None:
        self.state = state

    def issue(self, events: list[Event]) -> None:
        """Issue what was not issued before."""
        for category, message in events:
            if category.__name__ in self.state.warned:
                continue
            self.state.warned.append(category.__name__)
            warnings.warn(message, category, stacklevel=_outside())


def _outside() -> int:
    """Stack level of the first frame that is not of this package, as seen by ``issue``."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith(
        "bgs_opt."
    ):
        frame = frame.f_back
        level += 1
    return level
