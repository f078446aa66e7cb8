"""Points to evaluate: ids, seeds and lazy rows of one generation.

Equation 3 of Abeyruwan et al. 2022 (arXiv 2207.06572): theta + sigma e_i and theta - sigma e_i.
A generation's evaluations are numbered by slots:

    slot  0 .. c-1              the center, c times
          c + 2 (m p + r) + s   pair p, repeat r of m, s = 0 for +, 1 for -
    id    generation * 2^32 + slot

A Candidates holds slots and one reference to the center; rows are made when they are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from bgs_opt.bounds import clip, reflect
from bgs_opt.gradient import accumulate
from bgs_opt.protocols import BLOCK_NUMBERS, Directions, FloatArray, IntArray
from bgs_opt.streams import evaluation_seeds
from bgs_opt.validation import integer, wrong_type

__all__ = ["SLOT_BITS", "Candidates", "Source"]

SLOT_BITS = 32
_HAIR = 1e-13  # of sigma, between repeated evaluations of the center where they must differ


@dataclass(frozen=True, eq=False)
class Source:
    """What all candidates of one generation share."""

    generation: int
    center: FloatArray
    sigma: float
    scale: FloatArray | None
    probe: FloatArray | None  # a direction that stands in for number 0
    directions: Directions
    entropy: int
    low: FloatArray | None
    high: FloatArray | None
    bound_mode: str
    num_center: int
    repeats: int
    common_seeds: str | None
    scenarios: int = 1
    hair: int = -1  # of the first evaluation of the center, where all are apart; -1: exact

    def pairs_of(self, slots: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Pair number, sign (+1, -1; 0 for the center) and repeat index of each slot."""
        offset = slots - self.num_center
        signs = np.where(offset < 0, 0, 1 - 2 * (offset & 1))
        repeat = np.where(offset < 0, slots, offset // 2 % self.repeats)
        return offset // (2 * self.repeats), signs, repeat

    def weighted_sum(self, pairs: IntArray, weights: FloatArray, out: FloatArray) -> FloatArray:
        """Add ``sum_p w_p e_p`` to ``out``, in the order given; zero weights cost nothing."""
        from_sampler = weights != 0
        if self.probe is not None:
            for weight in weights[(pairs == 0) & from_sampler]:
                out += self.probe * out.dtype.type(weight)
            from_sampler &= pairs != 0
        gains = weights[from_sampler].astype(out.dtype)
        blocks = self.directions.blocks(self.generation, pairs[from_sampler], gains)
        return np.asarray(accumulate(blocks, out))

    def write(self, slots: IntArray, out: FloatArray) -> None:
        """Write the points of ``slots`` into the rows of ``out``."""
        head = self.num_center + 2 * self.repeats * (self.probe is not None)
        cut = min(max(head - int(slots[0]), 0), len(slots)) if len(slots) else 0
        first = self._successive(slots[cut:])
        if first < 0:
            cut = len(slots)
        self._write_any(slots[:cut], out[:cut])
        if cut < len(slots):
            self._write_both_ends(first, out[cut:])
        if self.low is not None and self.high is not None:
            fold = reflect if self.bound_mode == "reflect" else clip
            out[...] = fold(out, self.low, self.high)

    def _successive(self, slots: IntArray) -> int:
        """First pair number if ``slots`` are both ends of successive pairs in order, else -1."""
        count = len(slots)
        start = int(slots[0]) - self.num_center if count else -1
        lowest = 0 if self.probe is None else 2
        if self.repeats > 1 or start < lowest or (start | count) & 1:
            return -1
        in_order = int(slots[-1] - slots[0]) == count - 1 and bool((slots[1:] > slots[:-1]).all())
        return start // 2 if in_order else -1

    def _write_both_ends(self, first: int, out: FloatArray) -> None:
        """The usual case: +, -, +, -, ... of successive pairs, both ends from one tile."""
        count = len(out) // 2
        numbers = np.arange(first, first + count, dtype=np.int64)
        gains = np.full(count, self.sigma, self.center.dtype)
        plus, minus = out[::2], out[1::2]
        for place, cols, block in self.directions.blocks(self.generation, numbers, gains):
            self._scaled(block, cols)
            center = self.center[cols]
            np.add(center, block, out=plus[place, cols])
            np.subtract(center, block, out=minus[place, cols])

    def _write_any(self, slots: IntArray, out: FloatArray) -> None:
        """Any slots in any order: each row by itself."""
        if not len(slots):
            return
        pairs, signs, _ = self.pairs_of(slots)
        for row in np.flatnonzero(signs == 0).tolist():
            out[row] = self._center(int(slots[row]))
        active = np.flatnonzero(signs)
        if self.probe is not None and (first := active[pairs[active] == 0]).size:
            move = self._scaled(self.probe * self.center.dtype.type(self.sigma), slice(None))
            for row in first.tolist():
                np.add(self.center, move if signs[row] > 0 else -move, out=out[row])
            active = active[pairs[active] != 0]
        if not active.size:
            return
        unique, which = np.unique(pairs[active], return_inverse=True)
        gains = np.full(len(unique), self.sigma, self.center.dtype)
        order = np.argsort(which, kind="stable")
        edges = np.searchsorted(which[order], np.arange(len(unique) + 1)).tolist()
        rows = active[order].tolist()
        ends = signs[active[order]].tolist()
        for place, cols, block in self.directions.blocks(self.generation, unique, gains):
            self._scaled(block, cols)
            for number, move in enumerate(block, place.start):
                for position in range(edges[number], edges[number + 1]):
                    ufunc = np.add if ends[position] > 0 else np.subtract
                    ufunc(self.center[cols], move, out=out[rows[position], cols])

    def _center(self, slot: int) -> FloatArray:
        """The center, some hairs off it where no two evaluations may be of the same point."""
        number = self.hair + slot
        if self.hair < 0 or number == 0:
            return self.center
        rounding = 4 * float(np.finfo(self.center.dtype).eps)
        hair = np.full(len(self.center), _HAIR * self.sigma, self.center.dtype)
        hair = number * (self._scaled(hair, slice(None)) + rounding * np.abs(self.center))
        return np.asarray(self.center + hair, self.center.dtype)

    def _scaled(self, move: FloatArray, cols: slice) -> FloatArray:
        if self.scale is not None:
            move *= self.scale[cols]
        return move

    def seeds(self, slots: IntArray) -> IntArray:
        """Seed of each evaluation; see ``Options.common_seeds``."""
        pairs, signs, repeat = self.pairs_of(slots)
        pairs = np.where(signs == 0, 0, pairs + 1)  # group 0: the center
        if self.common_seeds == "generation":
            pairs = np.zeros_like(pairs)
        elif self.common_seeds == "none":
            pairs = slots + 1
        return evaluation_seeds(self.entropy, self.generation, pairs, repeat // self.scenarios)


class Candidates:
    """Points that :meth:`BGS.ask` hands out.

    A sequence of rows: ``len``, iteration and ``candidates[i]`` give read-only points of shape
    (d,); slices, integer arrays and boolean masks give Candidates again.

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
        Name of each evaluation, for :meth:`BGS.tell`.
    seeds : ndarray of int64, shape (n,)
        Seed for each evaluation, in [0, 2**32); see ``Options.common_seeds``.
    x : ndarray of float, shape (n, d)
        All points at once, read-only; made anew at each use.
    """

    __slots__ = ("_slots", "_source")

    def __init__(self, source: Source, slots: IntArray) -> None:
        self._source = source
        self._slots = slots

    @property
    def generation(self) -> int:
        """Number of the generation."""
        return self._source.generation

    @property
    def entropy(self) -> int:
        """Name of the run that they were asked of."""
        return self._source.entropy

    @property
    def dim(self) -> int:
        """Length d of a point."""
        return len(self._source.center)

    @property
    def ids(self) -> IntArray:
        """Ids, ndarray of int64, shape (n,)."""
        return self._slots + (self._source.generation << SLOT_BITS)

    @property
    def seeds(self) -> IntArray:
        """Seeds of the evaluations, ndarray of int64, shape (n,)."""
        return self._source.seeds(self._slots)

    @property
    def signs(self) -> IntArray:
        """Which end of its pair each row is: +1, -1, or 0 for the center; shape (n,)."""
        return self._source.pairs_of(self._slots)[1]

    @property
    def pairs(self) -> IntArray:
        """Number of each row's pair in its generation; -1 for the center; shape (n,)."""
        return np.maximum(self._source.pairs_of(self._slots)[0], -1)

    @property
    def scenarios(self) -> IntArray:
        """Which of ``Options.scenarios`` each row is to be evaluated under; shape (n,)."""
        return self._source.pairs_of(self._slots)[2] % self._source.scenarios

    @property
    def x(self) -> FloatArray:
        """All points, read-only, shape (n, d)."""
        out = np.empty((len(self), self.dim), self._source.center.dtype)
        for start, stop in self._chunks(self._rows):
            self._source.write(self._slots[start:stop], out[start:stop])
        out.setflags(write=False)
        return out

    @property
    def _rows(self) -> int:
        """Rows that are made at once: both ends of about a block of directions."""
        return 2 * -(-BLOCK_NUMBERS // self.dim)

    def __len__(self) -> int:
        return len(self._slots)

    def __repr__(self) -> str:
        return f"Candidates(n={len(self)}, dim={self.dim}, generation={self.generation})"

    def __iter__(self) -> Iterator[FloatArray]:
        for start, stop in self._chunks(self._rows):
            yield from Candidates(self._source, self._slots[start:stop]).x

    @overload
    def __getitem__(self, item: int) -> FloatArray: ...
    @overload
    def __getitem__(self, item: slice | npt.ArrayLike) -> Candidates: ...
    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            slot = np.array([self._slots[item]])
            return Candidates(self._source, slot).x[0]
        if not isinstance(item, slice):
            item = np.asarray(item)
            if item.size == 0:
                item = item.astype(np.int64)
            if item.ndim != 1 or item.dtype.kind not in "iub":
                wrong_type("index", "an int, a slice, or a 1-D array of ints or bools", item)
        return Candidates(self._source, self._slots[item])

    def blocks(self, rows: int) -> Iterator[tuple[IntArray, FloatArray]]:
        """Stream the points through one reused buffer.

        Parameters
        ----------
        rows : int
            Points in a block, >= 1; both ends of a pair are made together, so even is faster.

        Yields
        ------
        ids, x : ndarray of int64 (r,), ndarray of float (r, d), r <= rows
            ``x`` is overwritten by the next block.
        """
        rows = integer("rows", rows, 1)
        buffer = np.empty((min(rows, max(len(self), 1)), self.dim), self._source.center.dtype)
        ids = self.ids
        for start, stop in self._chunks(rows):
            x = buffer[: stop - start]
            self._source.write(self._slots[start:stop], x)
            yield ids[start:stop], x

    def _chunks(self, rows: int) -> Iterator[tuple[int, int]]:
        """Cut into runs of at most ``rows``, so that pairs stay together where they can."""
        start, total = 0, len(self)
        while start < total:
            stop = min(total, start + rows)
            if rows > 1 and stop < total and (self._slots[stop] - self._source.num_center) & 1:
                stop -= stop - start > 1
            yield start, stop
            start = stop
