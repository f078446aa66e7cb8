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

    d = 100,000:  | 32768 | 32768 | 32768 | 1024 | 512 | 128 (32 used) |

Only the remainder below 128 numbers is a padded tile; its rows are scaled to their norm. The
numbers of b and P c are integers below 2^24, hence exact in float32 in any order of summation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgs_opt.protocols import BLOCK_NUMBERS, Block, Directions, FloatArray, IntArray, Layout
from bgs_opt.streams import Stream

__all__ = ["Hadamard", "hadamard_transform"]

_MAX_BITS = 15  # tile of 32,768: P^1.5 < 2^24, exact in float32
_ROW_BITS = 7  # 128 orthogonal rows an ensemble
_PURPOSE = 6


def hadamard_transform(x: FloatArray) -> FloatArray:
    """Unnormalised fast Walsh-Hadamard transform along the last axis, whose length is 2^p.

    Parameters
    ----------
    x : ndarray of float, shape (..., 2**p)

    Returns
    -------
    ndarray of float, shape (..., 2**p)
        ``y[..., i] = sum_m (-1)**popcount(i & m) x[..., m]``; a new array.

    Examples
    --------
    >>> hadamard_transform(np.array([1.0, 2.0, 3.0, 4.0]))
    array([10., -2., -4.,  0.])
    """
    size = x.shape[-1]
    half = min(size, 32)
    # the low five bits by one thin matrix product: exact for integers, in any order
    y = np.ascontiguousarray(x).reshape(-1, half) @ _matrix(half).astype(x.dtype)
    while half < size:
        pair = y.reshape(-1, 2, half)
        low = pair[:, 0] + pair[:, 1]
        np.subtract(pair[:, 0], pair[:, 1], out=pair[:, 1])
        pair[:, 0] = low
        half *= 2
    out: FloatArray = y.reshape(x.shape)
    return out


def _matrix(size: int) -> FloatArray:
    """H itself, (size, size), for sizes up to 32."""
    numbers = np.arange(size)
    return np.asarray(1.0 - 2.0 * _parity(numbers[:, None] & numbers))


@dataclass(frozen=True)
class _Tile:
    start: int  # first column
    used: int  # columns that belong to the vector
    bits: int  # padded size is 2**bits


def _tiles(dim: int) -> tuple[_Tile, ...]:
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


def _signs(generator: np.random.Generator, count: int, dtype: np.dtype[Any]) -> FloatArray:
    bits = np.unpackbits(np.frombuffer(generator.bytes(-(-count // 8)), np.uint8), count=count)
    out = bits.astype(dtype)
    out *= -2
    out += 1
    return out


def _parity(x: IntArray) -> IntArray:
    """Parity of the set bits of integers below 2^16."""
    for shift in (8, 4, 2, 1):
        x = x ^ (x >> shift)
    return x & 1


@dataclass(frozen=True)
class _Ensemble:
    """Everything of eq. 1 that the rows of one ensemble share."""

    shared: FloatArray  # c with D3_lo folded in, shape (d padded to whole tiles,)
    form: IntArray  # A i for every row number i, shape (2**row_bits,)
    base: int  # row numbers are taken relative to it, so that no row is special
    column_signs: tuple[FloatArray, ...]  # D3_hi of each tile, shape (2**row_bits,)


def _quadratic_form(generator: np.random.Generator, bits: int) -> tuple[IntArray, IntArray]:
    """Random q on ``bits`` bits: its values mod 2 and A i for every i, both (2**bits,)."""
    upper = np.triu(generator.integers(0, 2, (bits, bits)), 1)
    numbers = np.arange(1 << bits, dtype=np.int64)
    digits = numbers[:, None] >> np.arange(bits) & 1
    values = np.einsum("ia,ab,ib->i", digits, upper, digits) % 2
    image = digits @ (upper + upper.T) % 2
    return values.astype(np.int64), (image << np.arange(bits)).sum(axis=1, dtype=np.int64)


def _make_ensemble(
    stream: Stream, tiles: tuple[_Tile, ...], dtype: np.dtype[Any], generation: int, number: int
) -> _Ensemble:
    generator = stream.jump(generation, number)
    bits = min(_ROW_BITS, tiles[0].bits)
    high = 1 << bits
    quadratic, form = _quadratic_form(generator, bits)
    base = int(generator.integers(0, high))
    shared = np.empty(sum(1 << t.bits for t in tiles), dtype)
    columns, start = [], 0
    for tile in tiles:
        size = 1 << tile.bits
        low = size // high
        d1 = _signs(generator, size, dtype)
        linear = _signs(generator, high, dtype)  # a random linear part of q, as signs of any kind
        d2 = (1 - 2 * quadratic).astype(dtype) * _walsh(linear, bits)
        d2 = np.multiply.outer(d2, _signs(generator, low, dtype)).reshape(size)
        c = hadamard_transform(d2 * hadamard_transform(d1))
        c /= size
        c = c.reshape(high, low) * _signs(generator, low, dtype)
        shared[start : start + size] = c.reshape(size)
        columns.append(_signs(generator, high, dtype))
        start += size
    return _Ensemble(shared, form, base, tuple(columns))


def _walsh(signs: FloatArray, bits: int) -> FloatArray:
    """The Walsh function whose number is read off the first ``bits`` random signs."""
    number = sum(1 << a for a in range(bits) if signs[a] < 0)
    walsh: FloatArray = (1 - 2 * _parity(np.arange(1 << bits) & number)).astype(signs.dtype)
    return walsh


class _HadamardDirections:
    """Rows of eq. 1; the shared part of the last ensemble is kept for the next call."""

    def __init__(self, dim: int, dtype: np.dtype[Any], entropy: int) -> None:
        self.dim, self.dtype, self.entropy = dim, dtype, entropy
        self.tiles = _tiles(dim)
        self.ensemble_size = 1 << min(_ROW_BITS, self.tiles[0].bits)
        self._cache: tuple[tuple[int, int], _Ensemble] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    def _ensemble(self, generation: int, number: int) -> _Ensemble:
        cache = self._cache  # read once: another thread may replace it
        if cache is not None and cache[0] == (generation, number):
            return cache[1]
        self._cache = cache = None  # the old one's memory goes first
        stream = Stream(self.entropy, _PURPOSE)
        made = _make_ensemble(stream, self.tiles, self.dtype, generation, number)
        self._cache = ((generation, number), made)
        return made

    def blocks(self, generation: int, indices: IntArray, gains: FloatArray) -> Iterator[Block]:
        """See :class:`bgs_opt.protocols.Directions`."""
        step = max(1, BLOCK_NUMBERS // min(self.dim, 1 << _MAX_BITS))
        numbers = indices // self.ensemble_size
        start = 0
        while start < len(indices):
            number = int(numbers[start])
            stop = start + 1
            while stop < len(indices) and stop - start < step and numbers[stop] == number:
                stop += 1
            ensemble = self._ensemble(generation, number)
            within = (indices[start:stop] - number * self.ensemble_size) ^ ensemble.base
            yield from self._rows(ensemble, slice(start, stop), within, gains[start:stop])
            start = stop

    def _rows(
        self, ensemble: _Ensemble, place: slice, within: IntArray, gains: FloatArray
    ) -> Iterator[Block]:
        """Write M[i] of eq. 1 for the rows ``within``, tile by tile."""
        high = self.ensemble_size  # every tile numbers its rows by as many bits
        columns = np.arange(high, dtype=np.int64)
        source = columns ^ ensemble.form[within][:, None]
        walsh = (1 - 2 * _parity(within[:, None] & columns)).astype(self.dtype)
        scaled = walsh * gains[:, None].astype(self.dtype)
        scratch = np.empty(len(within) << self.tiles[0].bits, self.dtype)
        start = 0
        for tile, signs in zip(self.tiles, ensemble.column_signs, strict=True):
            size = 1 << tile.bits
            shared = ensemble.shared[start : start + size].reshape(high, size // high)
            block = scratch[: len(within) * size].reshape(len(within), high, size // high)
            shared.take(source, axis=0, out=block, mode="clip")
            padded = tile.used < size
            block *= ((walsh if padded else scaled) * signs)[:, :, None]
            flat = block.reshape(len(within), size)[:, : tile.used]
            if padded:
                _rescale(flat)
                flat *= gains[:, None]
            yield place, slice(tile.start, tile.start + tile.used), flat
            start += size


def _rescale(rows: FloatArray) -> None:
    """Give the used part of a padded tile the norm sqrt(columns), before any gain."""
    rows[~rows.any(axis=1)] = 1  # a few columns may all have come out zero
    norms = np.sqrt(np.sum(np.square(rows, dtype=np.float64), axis=1))
    rows *= (math.sqrt(rows.shape[1]) / norms)[:, None].astype(rows.dtype)


@dataclass(frozen=True)
class Hadamard:
    """Structured orthogonal rows H D1 H D2 H D3 of norm sqrt(d); see the module's docstring."""

    def bind(
        self, dim: int, num_directions: int, dtype: np.dtype[Any], entropy: int, layout: Layout
    ) -> Directions:
        """See :class:`bgs_opt.protocols.Sampler`."""
        return _HadamardDirections(dim, dtype, entropy)
