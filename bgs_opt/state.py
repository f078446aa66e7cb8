"""All that changes during a run: one dataclass of arrays, numbers and the open generation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bgs_opt.automatic import AutomaticState
from bgs_opt.protocols import FloatArray, IntArray

__all__ = [
    "ASKED",
    "DISCARDED",
    "HISTORY",
    "RETURNED",
    "TOLD",
    "Best",
    "Generation",
    "State",
    "record_history",
]

ASKED, TOLD, DISCARDED, RETURNED = 0, 1, 2, 3  # RETURNED: told after it was discarded
HISTORY = (
    "generation",
    "evaluations",
    "best_value",
    "mean_value",
    "center_value",
    "sigma",
    "step_norm",
    "kept_difference",
)
"""Columns of ``BGS.history``; a row is written when a generation closes."""
_HISTORY_ROWS = 4096


class Best(NamedTuple):
    """The best point told so far and its value."""

    x: FloatArray
    value: float


@dataclass(eq=False)
class Generation:
    """What was asked and told of one generation."""

    number: int
    sigma: float
    num_center: int
    target: int  # pairs that the update waits for
    repeats: int
    center: FloatArray | None  # None when nothing can come any more
    probe: FloatArray | None
    required: int = 0  # pairs from number 0 on that the update waits for by name
    basis: int = 0  # the update waits for a whole block of so many pairs
    patience: int | None = None  # after so many pairs more single ones are given up
    start: bool = False  # evaluations of the start, to find noise
    hair: int = -1  # see Source
    asked: int = 0
    spent: int = 0  # values told
    resolved: int = 0  # pairs of which nothing is out
    center_left: int = 0  # center evaluations still out
    values: FloatArray = field(default_factory=lambda: np.empty(0))
    status: np.ndarray[Any, np.dtype[np.int8]] = field(
        default_factory=lambda: np.empty(0, np.int8)
    )
    left: np.ndarray[Any, np.dtype[np.int32]] = field(
        default_factory=lambda: np.empty(0, np.int32)
    )  # evaluations still out, by pair; -1: in an update

    def __post_init__(self) -> None:
        if not self.asked and not self.spent:
            self.center_left = self.num_center

    @property
    def needed(self) -> int:
        """Slots that the update waits for and that were not asked yet."""
        return max(0, self.num_center + 2 * self.repeats * self.target - self.asked)

    @property
    def complete(self) -> bool:
        """Whether the update can run."""
        if self.patience is not None and self.resolved - self.target >= self.patience:
            return True
        if self.center_left or self.resolved < self.target:
            return False
        if self.required and (self.left[: self.required] > 0).any():
            return False
        blocks = len(self.left) // self.basis if self.basis else 0
        open_ = self.left[: blocks * self.basis].reshape(blocks, -1) > 0 if blocks else None
        return open_ is None or not bool(open_.any(axis=1).all())

    @property
    def awaited(self) -> int:
        """Fewest values or losses after which the update can run."""
        fewest = self.center_left + self._fewest(self.target - self.resolved)
        if self.patience is not None:
            fewest = min(fewest, self._fewest(self.target + self.patience - self.resolved))
        return max(1, fewest)

    def _fewest(self, missing: int) -> int:
        """Fewest values after which ``missing`` more pairs are complete."""
        begun = -(-max(0, self.asked - self.num_center) // (2 * self.repeats))
        left = self.left[:begun]
        left = np.sort(left[left > 0])[: max(0, missing)]
        return int(left.sum()) + max(0, missing - len(left)) * 2 * self.repeats

    @property
    def settled(self) -> bool:
        """Whether no value can come any more, not even of a discarded candidate."""
        status = self.status[: self.asked]
        return not bool(((status == ASKED) | (status == DISCARDED)).any())

    def hand_out(self, count: int) -> IntArray:
        """Next ``count`` slots."""
        first, self.asked = self.asked, self.asked + count
        pairs = -(-max(0, self.asked - self.num_center) // (2 * self.repeats))
        if self.asked > len(self.values):
            size = max(self.asked, 2 * len(self.values), self.asked + self.needed)
            self.values = np.concatenate([self.values, np.zeros(size - len(self.values))])
            more = np.full(size - len(self.status), ASKED, np.int8)
            self.status = np.concatenate([self.status, more])
        if pairs > len(self.left):
            size = max(pairs, self.target, 2 * len(self.left))
            more_left = np.full(size - len(self.left), 2 * self.repeats, np.int32)
            self.left = np.concatenate([self.left, more_left])
        return np.arange(first, self.asked, dtype=np.int64)

    def settle(self, slots: IntArray, values: FloatArray | None) -> None:
        """Record values, or losses where ``values`` is None, of slots that are still out."""
        self.status[slots] = DISCARDED if values is None else TOLD
        if values is not None:
            self.values[slots] = values
            self.spent += len(slots)
        of_pairs = slots[slots >= self.num_center] - self.num_center
        self.center_left -= len(slots) - len(of_pairs)
        if not len(of_pairs):
            return
        of_pairs //= 2 * self.repeats
        first = int(of_pairs.min())
        counts = np.bincount(of_pairs - first)
        left = self.left[first : first + len(counts)]
        left -= counts.astype(np.int32)
        self.resolved += int(np.count_nonzero((left == 0) & (counts > 0)))

    def outstanding(self) -> IntArray:
        """Slots asked and neither told nor discarded."""
        return np.flatnonzero(self.status[: self.asked] == ASKED)


@dataclass(eq=False)
class State:
    """All mutable state of a BGS."""

    center: FloatArray
    sigma: float
    open: Generation
    closed: list[Generation] = field(default_factory=list)
    num_evaluations: int = 0
    num_late: int = 0
    num_failed: int = 0
    num_discarded: int = 0
    skipped: int = 0  # generations without a step, in a row
    num_skipped: int = 0
    num_clamped: int = 0
    averaged: int = 0
    average: FloatArray | None = None
    best_x: FloatArray | None = None
    best_value: float = np.inf  # as a loss: lower is better
    best_id: int = -1  # of a point that was told without being asked, too
    jump: bool = False  # the center goes to the best point when the generation closes
    alive: bool = False  # whether the center, or half of a generation, had finite values
    noisy: bool | None = None
    optimizer: dict[str, Any] = field(default_factory=dict)
    path: FloatArray | None = None  # of cumulative step-size adaptation
    automatic: AutomaticState | None = None
    warned: list[str] = field(default_factory=list)
    history: FloatArray = field(default_factory=lambda: np.empty((0, len(HISTORY))))
    last_step: float = np.inf  # norm
    recent_value: float = np.nan  # mean of the last generation
    recent_center: float = np.nan  # ... and of its evaluations of the center
    history_rows: int = 0
    history_stride: int = 1


def record_history(state: State, row: tuple[float, ...]) -> None:
    """Append a row; a full table keeps every second row, so that memory stays bounded."""
    if int(row[0]) % state.history_stride:
        return
    if state.history_rows == len(state.history):
        if state.history_rows >= _HISTORY_ROWS:
            state.history_stride *= 2
            kept = state.history[state.history[:, 0] % state.history_stride == 0]
            state.history[: len(kept)] = kept
            state.history_rows = len(kept)
        else:
            more = np.zeros((max(16, len(state.history)), len(HISTORY)))
            state.history = np.concatenate([state.history, more])
    if int(row[0]) % state.history_stride == 0:
        state.history[state.history_rows] = row
        state.history_rows += 1
