"""Random directions of norm about sqrt(d), each made again from (entropy, generation, index).

``e_i`` of step 1 in Abeyruwan et al. 2022 (arXiv 2207.06572), eq. 3: independent Gaussian
rows, random signs, orthogonal rows by QR (Choromanski et al. 2018, arXiv 1804.02395, sec. 3.1)
and rank-1 rows for matrices. The structured orthogonal rows stand in ``hadamard.py``.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgs_opt.protocols import BLOCK_NUMBERS, Block, Directions, FloatArray, IntArray, Layout
from bgs_opt.streams import Stream

__all__ = ["QR", "Factorised", "Gaussian", "GaussianTable", "Rademacher", "normal_quantiles"]

# purposes: the second counter word, so that two samplers never share numbers
_GAUSSIAN, _SIGNS, _TABLE, _QR, _FACTORS = 1, 2, 3, 4, 5
_PANEL = 64  # rows of a QR
Fill = Callable[[Stream, FloatArray], None]
"""Writes the next numbers of a stream into a contiguous 1-D array."""


def _row_blocks(
    stream: Stream, fill: Fill, dim: int, generation: int, indices: IntArray, gains: FloatArray
) -> Iterator[Block]:
    """Independent rows: many a block when they are short, a tile at a time when long."""
    dtype = gains.dtype
    rows = max(1, BLOCK_NUMBERS // dim)
    scratch = np.empty(max(min(rows, len(indices)) * dim, 1) if rows > 1 else BLOCK_NUMBERS, dtype)
    for start in range(0, len(indices), rows):
        chosen = indices[start : start + rows]
        place = slice(start, start + len(chosen))
        if rows > 1:
            block = scratch[: len(chosen) * dim].reshape(len(chosen), dim)
            for row, index in zip(block, chosen.tolist(), strict=True):
                stream.jump(generation, index)
                fill(stream, row)
            block *= gains[place, None]
            yield place, slice(0, dim), block
            continue
        stream.jump(generation, int(chosen[0]))
        for left in range(0, dim, BLOCK_NUMBERS):
            tile = scratch[: min(BLOCK_NUMBERS, dim - left)]
            fill(stream, tile)
            tile *= gains[start]
            yield place, slice(left, left + len(tile)), tile[None, :]


@dataclass(frozen=True)
class _Rows:
    """Bound sampler of independent rows."""

    dim: int
    entropy: int
    purpose: int
    fill: Fill

    def blocks(self, generation: int, indices: IntArray, gains: FloatArray) -> Iterator[Block]:
        """See :class:`bgs_opt.protocols.Directions`."""
        stream = Stream(self.entropy, self.purpose)
        return _row_blocks(stream, self.fill, self.dim, generation, indices, gains)


def _fill_gaussian(stream: Stream, out: FloatArray) -> None:
    stream.generator.standard_normal(out=out, dtype=out.dtype.type)


@dataclass(frozen=True)
class Gaussian:
    """Independent standard normal numbers, by NumPy's ziggurat."""

    def bind(
        self, dim: int, num_directions: int, dtype: np.dtype[Any], entropy: int, layout: Layout
    ) -> Directions:
        """See :class:`bgs_opt.protocols.Sampler`."""
        return _Rows(dim, entropy, _GAUSSIAN, _fill_gaussian)


@functools.lru_cache(maxsize=2)
def _octets(dtype: str) -> FloatArray:
    """The eight signs (1 for a bit 0, -1 for a bit 1) of each byte, shape (256, 8)."""
    signs = 1 - 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(dtype)
    signs.setflags(write=False)
    return signs


def _fill_signs(stream: Stream, out: FloatArray) -> None:
    octets = stream.raw(-(-out.size // 64)).view(np.uint8)
    whole = out.size // 8
    table = _octets(out.dtype.str)
    table.take(octets[:whole], axis=0, out=out[: 8 * whole].reshape(whole, 8), mode="clip")
    if out.size % 8:
        out[8 * whole :] = table[octets[whole], : out.size % 8]


@dataclass(frozen=True)
class Rademacher:
    """Independent random signs: every row has norm sqrt(d) exactly."""

    def bind(
        self, dim: int, num_directions: int, dtype: np.dtype[Any], entropy: int, layout: Layout
    ) -> Directions:
        """See :class:`bgs_opt.protocols.Sampler`."""
        return _Rows(dim, entropy, _SIGNS, _fill_signs)


@functools.lru_cache(maxsize=2)
def normal_quantiles(dtype: str) -> FloatArray:
    """Standard normal quantiles at (j + 1/2) / 2**16, scaled to variance one exactly.

    The mean is 0 by symmetry, the kurtosis 2.9992, the largest number 4.32: what an isotropic
    search needs of a normal number, at a table look-up of 16 random bits each.
    """
    normal = statistics.NormalDist()
    half = np.array([normal.inv_cdf((j + 0.5) / 65536) for j in range(32768)])
    table = np.concatenate([half, -half[::-1]])
    table /= math.sqrt(math.fsum(table**2) / table.size)
    out = table.astype(dtype)
    out.setflags(write=False)
    return out


def _fill_table(stream: Stream, out: FloatArray) -> None:
    words = stream.raw(-(-out.size // 4)).view(np.uint16)[: out.size]
    np.take(normal_quantiles(out.dtype.str), words, out=out, mode="clip")


@dataclass(frozen=True)
class GaussianTable:
    """Normal quantiles of 16 random bits: mean 0, variance 1, several times faster."""

    def bind(
        self, dim: int, num_directions: int, dtype: np.dtype[Any], entropy: int, layout: Layout
    ) -> Directions:
        """See :class:`bgs_opt.protocols.Sampler`."""
        return _Rows(dim, entropy, _TABLE, _fill_table)


def _orthonormal(panel: FloatArray, spare: int) -> FloatArray:
    """Q of the panel's QR with a positive diagonal of R, which makes it uniform over the
    orthogonal group (Mezzadri 2007); ``spare`` dimensions are free.

    Far fewer columns than those are well conditioned: there by Cholesky factors of the Gram
    matrix, twice for full accuracy (Yamamoto et al. 2015), four times faster.
    """  # noqa: D205
    if spare < 4 * panel.shape[1]:
        q, r = np.linalg.qr(panel)
        return np.asarray(q * np.where(np.diagonal(r) < 0, -1.0, 1.0))
    for _ in range(2):
        panel = panel @ np.linalg.inv(np.linalg.cholesky(panel.T @ panel)).T
    return panel


class _QRDirections:
    """Blocks of ``min(N, d)`` orthogonal rows, made panel by panel as they are asked for.

    Panel p is a Gaussian matrix made orthogonal to the panels before it (twice is enough, Giraud
    et al. 2005) and to itself. The last block is kept for the next call.
    """

    def __init__(self, dim: int, rows: int, dtype: np.dtype[Any], entropy: int) -> None:
        self.dim, self.rows, self.dtype, self.entropy = dim, rows, dtype, entropy
        self._cache: tuple[tuple[int, int], FloatArray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    def _ensemble(self, generation: int, number: int, last: int) -> FloatArray:
        """Orthonormal rows of block ``number``, at least up to row ``last``, in float64."""
        cache = self._cache  # read once: another thread may replace it
        made: FloatArray = np.empty((0, self.dim))
        if cache is not None and cache[0] == (generation, number):
            made = cache[1]
        if last < len(made):
            return made
        stream = Stream(self.entropy, _QR)
        while len(made) <= last:
            size = min(_PANEL, self.rows - len(made))
            generator = stream.jump(generation, number | len(made) // _PANEL << 40)
            panel: FloatArray = generator.standard_normal((self.dim, size))
            for _ in range(2 if len(made) else 1):
                if len(made):
                    panel -= made.T @ (made @ panel)
                panel = _orthonormal(panel, self.dim - len(made))
            made = np.concatenate([made, panel.T])
        self._cache = ((generation, number), made)
        return made

    def blocks(self, generation: int, indices: IntArray, gains: FloatArray) -> Iterator[Block]:
        """See :class:`bgs_opt.protocols.Directions`."""
        step = max(1, BLOCK_NUMBERS // self.dim)
        start = 0
        while start < len(indices):
            number = int(indices[start]) // self.rows
            stop = start + 1
            while (
                stop < len(indices)
                and stop - start < step
                and int(indices[stop]) // self.rows == number
            ):
                stop += 1
            within = indices[start:stop] - number * self.rows
            rows = self._ensemble(generation, number, int(within.max()))[within]
            rows *= math.sqrt(self.dim) / np.sqrt(np.sum(rows * rows, axis=1, keepdims=True))
            block = rows.astype(self.dtype, copy=False)
            block *= gains[start:stop, None]
            yield slice(start, stop), slice(0, self.dim), block
            start = stop


@dataclass(frozen=True)
class QR:
    """Orthogonal rows of norm sqrt(d) by QR of a Gaussian matrix; O(N^2 d), N x d memory."""

    def bind(
        self, dim: int, num_directions: int, dtype: np.dtype[Any], entropy: int, layout: Layout
    ) -> Directions:
        """See :class:`bgs_opt.protocols.Sampler`."""
        return _QRDirections(dim, min(num_directions, dim), dtype, entropy)


@dataclass(frozen=True)
class FactorisedDirections:
    """Rank-1 rows for matrices, Gaussian elsewhere; high bits of an index: the block's number."""

    dim: int
    entropy: int
    layout: tuple[tuple[str, tuple[int, ...]], ...]

    def factors(
        self, generation: int, index: int, dtype: np.dtype[Any]
    ) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Column ``u (m,)`` and row ``v (n,)`` of each matrix; its part of e is ``u v^T``."""
        out, stream = {}, Stream(self.entropy, _FACTORS)
        for number, (name, shape) in enumerate(self.layout):
            left, right = _as_matrix(shape)
            if min(left, right) > 1:
                generator = stream.jump(generation, index | (number + 1) << 40)
                both = generator.standard_normal(left + right, dtype=dtype.type)
                out[name] = both[:left], both[left:]
        return out

    def vectors(self, generation: int, index: int, dtype: np.dtype[Any]) -> dict[str, FloatArray]:
        """Part of e in each block that is no matrix."""
        out, stream = {}, Stream(self.entropy, _FACTORS)
        for number, (name, shape) in enumerate(self.layout):
            if min(_as_matrix(shape)) == 1:
                generator = stream.jump(generation, index | (number + 1) << 40)
                out[name] = generator.standard_normal(shape, dtype=dtype.type)
        return out

    def blocks(self, generation: int, indices: IntArray, gains: FloatArray) -> Iterator[Block]:
        """See :class:`bgs_opt.protocols.Directions`."""
        stream = Stream(self.entropy, _FACTORS)
        for position, index in enumerate(indices.tolist()):
            place = slice(position, position + 1)
            factors = self.factors(generation, index, gains.dtype)
            start = 0
            for number, (name, shape) in enumerate(self.layout):
                size = math.prod(shape)
                if name in factors:
                    u, v = factors[name]
                    step = max(1, BLOCK_NUMBERS // len(v))
                    scaled = v * gains[position]
                    for top in range(0, len(u), step):
                        part = np.multiply.outer(u[top : top + step], scaled).reshape(1, -1)
                        left = start + top * len(v)
                        yield place, slice(left, left + part.size), part
                else:
                    generator = stream.jump(generation, index | (number + 1) << 40)
                    for left in range(start, start + size, BLOCK_NUMBERS):
                        count = min(BLOCK_NUMBERS, start + size - left)
                        part = generator.standard_normal((1, count), dtype=gains.dtype.type)
                        part *= gains[position]
                        yield place, slice(left, left + count), part
                start += size


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns) of a block: the first axis against all others."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


@dataclass(frozen=True)
class Factorised:
    """Rank-1 noise ``u v^T`` for each matrix of the layout: m + n numbers, variance one."""

    def bind(
        self, dim: int, num_directions: int, dtype: np.dtype[Any], entropy: int, layout: Layout
    ) -> Directions:
        """See :class:`bgs_opt.protocols.Sampler`."""
        return FactorisedDirections(dim, entropy, tuple(layout.items()))
