r"""Structured orthogonal directions H D1 H D2 H D3 at the price of one permuted copy a row.

Choromanski et al. 2018 (arXiv 1804.02395), sec. 3.2, and Yu et al. 2016 ("Orthogonal random
features"): with H the Walsh-Hadamard matrix H[i, m] = (-1)^popcount(i & m) of size P = 2^p and
D1, D2, D3 random signs, the rows of M = H D1 H D2 H D3 / P are orthogonal with norm sqrt(P) and
look Gaussian. Written out, with b = H D1 1 and i ^ k the bitwise exclusive or,

    M[i, m] = (1/P) sum_k b[i ^ k] D2[k] H[k, m] D3[m] .

Two transforms a row would cost 2 p passes. They are shared by all rows when the signs D2 are a
random *quadratic* function of the high bits of k, D2[k] = (-1)^(q(k_hi) + w(k_lo)), w any random
function: then D2[i ^ k] = s_i D2[k] H[A i, k] for i in the high bits, where A is the alternating
form of q and s_i a sign, and substituting k -> i ^ k gives

    M[i, m] = s_i H[i, m] D3[m] c[m ^ A i],     c = H (D2 b) / P .               (1)

So c is made once a generation and a row is c with its contiguous runs permuted and signed:
O(d) a row after O(d log d) a generation. D3 = D3_hi x D3_lo (Kronecker) keeps rows uncorrelated,
E[e e^T] = I, and costs no further pass. s_i is a global sign of an antithetic pair; dropped.

The vector is cut into tiles that are powers of two (32,768 at most; each has its own signs), so
that every d is served with rows orthogonal over all full tiles:

    d = 100,000:  | 32768 | 32768 | 32768 | 1024 | 512 | 128 | 128 (32 used) |
                                            {   written out: the tail      }

Only the remainder below 128 numbers is a padded tile; its rows are scaled to their norm. b and
P c are integers below 2^24, exact in float32 in any order of summation. The tail, whose tiles
would cost more calls than numbers, is written out once for all rows, as far as they are used.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgs_opt.protocols import BLOCK_NUMBERS, Block, Directions, FloatArray, IntArray, Layout
from bgs_opt.streams import generator_at
from bgs_opt.walsh import hadamard_transform, signed_columns, walsh

__all__ = ["Hadamard", "ensemble_size", "quadratic_form", "tiles_of"]

_MAX_BITS = 15  # tile of 32,768: P^1.5 < 2^24, exact in float32
_ROW_BITS = 7  # 128 orthogonal rows an ensemble
_TAIL_BITS = 10  # smaller tiles than this are written out
_SCRATCH = 2 * BLOCK_NUMBERS  # four rows of a large tile: fewer calls outweigh the cache
_PURPOSE = 6


@dataclass(frozen=True)
class _Tile:
    start: int  # first column
    used: int  # columns that belong to the vector
    bits: int  # padded size is 2**bits


def tiles_of(dim: int) -> tuple[_Tile, ...]:
    """Cut [0, dim) into powers of two and at most one padded remainder."""
    out, start = [], 0
    while start < dim:
        left = dim - start
        bits = min(_MAX_BITS, left.bit_length() - 1)
        if left < 1 << _ROW_BITS:  # remainder: a padded tile, unless all of d is a power of two
            exact = start == 0 and left & (left - 1) == 0
            bits = left.bit_length() - 1 if exact else _ROW_BITS
        used = min(left, 1 << bits)
        out.append(_Tile(start, used, bits))
        start += used
    return tuple(out)


def ensemble_size(tiles: tuple[_Tile, ...]) -> int:
    """Rows that are orthogonal to each other."""
    return 1 << min(_ROW_BITS, tiles[0].bits)


def _signs(
    generator: np.random.Generator, tiles: tuple[_Tile, ...], high: int, dtype: str
) -> Iterator[list[FloatArray]]:
    """D1, linear part, D2_lo, D3_lo, D3_hi of every tile; each takes whole words of 32 bits."""
    large = sum(tile.bits >= _TAIL_BITS for tile in tiles)
    for group in [*((tile,) for tile in tiles[:large]), tiles[large:]]:  # small ones at once
        sizes = [1 << tile.bits for tile in group]
        counts = [n for size in sizes for n in (size, high, size // high, size // high, high)]
        ends = [0, *itertools.accumulate(-(-count // 32) * 32 for count in counts)]
        drawn = np.unpackbits(np.frombuffer(generator.bytes(ends[-1] // 8), np.uint8))
        signs = 1 - 2 * drawn.astype(dtype)
        pieces = [signs[i : i + n] for i, n in zip(ends, counts, strict=False)]
        yield from (pieces[5 * t : 5 * t + 5] for t in range(len(group)))


class _Tail:
    """The small tiles of the first rows of an ensemble, written out as far as they were used."""

    def __init__(self, rows: int, columns: int, dtype: str) -> None:
        self.rows = np.empty((rows, columns), dtype)
        self.written = 0


@dataclass(frozen=True)
class _Ensemble:
    """Everything of eq. 1 that the rows of one ensemble share."""

    shared: tuple[FloatArray, ...]  # c of each tile with D3_lo folded in, (2**row_bits, low)
    form: IntArray  # A i for every row number i, shape (2**row_bits,)
    base: int  # row numbers are taken relative to it, so that no row is special
    column_signs: tuple[FloatArray, ...]  # D3_hi of each tile, shape (2**row_bits,)
    tail: _Tail


@functools.lru_cache(maxsize=8)
def _binary(bits: int) -> tuple[FloatArray, FloatArray]:
    """The binary digits of 0 ... 2**bits - 1, a row each, lowest first; and where a < b."""
    digits = (np.arange(1 << bits)[:, None] >> np.arange(bits) & 1).astype(np.float64)
    return digits, np.triu(np.ones((bits, bits)), 1)


def quadratic_form(generator: np.random.Generator, bits: int) -> tuple[IntArray, IntArray]:
    """Random q(k) = sum_{a < b} u_ab k_a k_b mod 2 and A i of every number, both (2**bits,)."""
    digits, above = _binary(bits)
    form = generator.integers(0, 2, (bits, bits)) * above
    half = digits @ form
    values = (half * digits).sum(axis=1).astype(np.int64) & 1
    image = ((half + digits @ form.T).astype(np.int64) & 1) @ (1 << np.arange(bits))
    return values, image  # A = U + U^T


def _make_ensemble(
    generator: np.random.Generator, tiles: tuple[_Tile, ...], dtype: str, rows: int
) -> _Ensemble:
    """Draw an ensemble, with place for the tail of its first ``rows`` rows."""
    high = ensemble_size(tiles)
    bits = high.bit_length() - 1
    quadratic, form = quadratic_form(generator, bits)
    base = int(generator.integers(0, high))
    signs_of_q = (1 - 2 * quadratic).astype(dtype)
    whole = np.empty(sum(1 << tile.bits for tile in tiles), dtype)  # at once: few, large pages
    shared, columns = [], []
    for tile, drawn in zip(tiles, _signs(generator, tiles, high, dtype), strict=True):
        size, (d1, linear, d2_low, d3_low, d3_high) = 1 << tile.bits, drawn
        # a random linear part of q is a Walsh function, whose number is read off ``bits`` signs
        number = sum(1 << a for a, sign in enumerate(linear[:bits].tolist()) if sign < 0)
        d2 = np.multiply.outer(signs_of_q * walsh(high, dtype)[number], d2_low)
        d2 = d2.reshape(size) * hadamard_transform(d1)
        c = whole[tile.start : tile.start + size].reshape(high, -1)
        np.multiply(hadamard_transform(d2).reshape(high, -1), d3_low / size, out=c)
        shared.append(c)
        columns.append(d3_high.copy())
    tail = _Tail(rows, sum(tile.used for tile in tiles if tile.bits < _TAIL_BITS), dtype)
    return _Ensemble(tuple(shared), form, base, tuple(columns), tail)


def _write_tail(
    ensemble: _Ensemble, tiles: tuple[_Tile, ...], within: IntArray, out: FloatArray
) -> None:
    """Write M[i] of eq. 1 over the small tiles, for the rows ``within``: shape (n, columns)."""
    small = [t for t, tile in enumerate(tiles) if tile.bits < _TAIL_BITS]
    start = tiles[small[0]].start if small else 0
    # signs as a choice between c and -c: the upper half of the index
    index = signed_columns(len(ensemble.form))[within] ^ ensemble.form[within][:, None]
    for t in small:
        tile, c = tiles[t], ensemble.shared[t]
        rows = np.concatenate([c, -c]).take(index, axis=0, mode="clip")
        rows = rows.reshape(len(within), -1)[:, : tile.used]
        if tile.used < 1 << tile.bits:
            _rescale(rows)
        columns = slice(tile.start - start, tile.start - start + tile.used)
        signs = np.repeat(ensemble.column_signs[t], c.shape[1])[: tile.used]
        np.multiply(rows, signs, out=out[:, columns])


def _rescale(rows: FloatArray) -> None:
    """Give the used part of a padded tile the norm sqrt(columns)."""
    squares = np.sum(np.square(rows, dtype=np.float64), axis=1)
    rows[squares == 0] = 1  # a few columns may all have come out zero
    squares[squares == 0] = rows.shape[1]
    rows *= (math.sqrt(rows.shape[1]) / np.sqrt(squares))[:, None].astype(rows.dtype)


class _HadamardDirections:
    """Rows of eq. 1; the shared part of the last ensemble is kept for the next call."""

    def __init__(self, dim: int, num_directions: int, dtype: np.dtype[Any], entropy: int) -> None:
        self.dim, self.dtype, self.entropy = dim, dtype, entropy
        self.tiles = tiles_of(dim)
        self.ensemble_size = ensemble_size(self.tiles)
        self.tail_rows = min(num_directions, self.ensemble_size)
        self._cache: tuple[tuple[int, int], _Ensemble] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    def _ensemble(self, generation: int, number: int) -> _Ensemble:
        cache = self._cache  # read once: another thread may replace it
        if cache is not None and cache[0] == (generation, number):
            return cache[1]
        self._cache = cache = None  # the old one's memory goes first
        stream = generator_at(self.entropy, _PURPOSE, generation, number)
        made = _make_ensemble(stream, self.tiles, self.dtype.str, self.tail_rows)
        self._cache = ((generation, number), made)
        return made

    def blocks(self, generation: int, indices: IntArray, gains: FloatArray) -> Iterator[Block]:
        """See :class:`bgs_opt.protocols.Directions`."""
        size = self.ensemble_size
        gains = gains.astype(self.dtype, copy=False)
        start = 0
        while start < len(indices):
            number = int(indices[start]) // size
            rows = indices[start : start + size] - number * size
            same = (rows >= 0) & (rows < size)
            rows = rows if same.all() else rows[: int(same.argmin())]
            ensemble, stop = self._ensemble(generation, number), start + len(rows)
            yield from self._large(ensemble, start, rows ^ ensemble.base, gains[start:stop])
            yield from self._small(ensemble, start, rows, gains[start:stop])
            start = stop

    def _large(
        self, ensemble: _Ensemble, first: int, within: IntArray, gains: FloatArray
    ) -> Iterator[Block]:
        """Write M[i] of eq. 1 for the rows ``within``, tile by tile."""
        high = self.ensemble_size  # every tile numbers its rows by as many bits
        large = [tile for tile in self.tiles if tile.bits >= _TAIL_BITS]
        if not large:
            return
        source = np.arange(high, dtype=np.int64) ^ ensemble.form[within][:, None]
        gained = walsh(high, self.dtype.str)[within] * gains[:, None]
        scratch = np.empty(min(_SCRATCH, len(within) << self.tiles[0].bits), self.dtype)
        for tile, c, signs in zip(large, ensemble.shared, ensemble.column_signs, strict=False):
            size = 1 << tile.bits
            signed = (gained * signs)[:, :, None]
            step = max(1, _SCRATCH // size)
            for top in range(0, len(within), step):
                part = signed[top : top + step]
                block = scratch[: len(part) * size].reshape(len(part), high, size // high)
                c.take(source[top : top + step], axis=0, out=block, mode="clip")
                block *= part
                place = slice(first + top, first + top + len(part))
                yield place, slice(tile.start, tile.start + size), block.reshape(-1, size)

    def _small(
        self, ensemble: _Ensemble, first: int, rows: IntArray, gains: FloatArray
    ) -> Iterator[Block]:
        """Copy the tail's rows."""
        count = ensemble.tail.rows.shape[1]
        if not count:
            return
        tail = ensemble.tail.rows
        begun, end = ensemble.tail.written, int(rows.max()) + 1
        if end > len(tail):  # a generation that was grown
            tail = np.empty((len(rows), count), self.dtype)
            _write_tail(ensemble, self.tiles, rows ^ ensemble.base, tail)
            rows = np.arange(len(rows))
        elif end > begun:  # another thread may write them, too: the same numbers
            within = np.arange(begun, end) ^ ensemble.base
            _write_tail(ensemble, self.tiles, within, tail[begun:end])
            ensemble.tail.written = end
        step = max(1, BLOCK_NUMBERS // count)
        for top in range(0, len(rows), step):
            chosen = rows[top : top + step]
            block = tail[chosen[0] : chosen[-1] + 1]  # the usual case: successive rows
            if len(block) != len(chosen) or (chosen[1:] <= chosen[:-1]).any():
                block = tail.take(chosen, axis=0, mode="clip")
            block = block * gains[top : top + step, None]
            place = slice(first + top, first + top + len(block))
            yield place, slice(self.dim - count, self.dim), block


@dataclass(frozen=True)
class Hadamard:
    """Structured orthogonal rows H D1 H D2 H D3 of norm sqrt(d); see the module's docstring."""

    def bind(
        self, dim: int, num_directions: int, dtype: np.dtype[Any], entropy: int, layout: Layout
    ) -> Directions:
        """See :class:`bgs_opt.protocols.Sampler`."""
        return _HadamardDirections(dim, num_directions, dtype, entropy)
