"""Structured orthogonal directions H D1 H D2 H D3 as torch tensors.

Equation 1 of ``bgs_opt.hadamard`` on any device: the d numbers c are made once a generation by
fast Walsh-Hadamard transforms, and a row is c with its contiguous runs permuted and signed. No
row costs more than it takes to write it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.evotorch", extra="evotorch"):
    import torch

from bgs_opt.hadamard import ensemble_size, quadratic_form, tiles_of
from bgs_opt.walsh import hadamard_transform, walsh

__all__ = ["hadamard_rows"]


class _Tile(NamedTuple):
    cols: slice
    shared: torch.Tensor  # c with the signs D3_lo folded in, (high, low)
    column_signs: torch.Tensor  # D3_hi, (high,)


class _Ensemble(NamedTuple):
    source: torch.Tensor  # m ^ A i for every row i and run m, (high, high)
    signs: torch.Tensor  # H[i, m], (high, high)
    base: int
    tiles: tuple[_Tile, ...]


@functools.lru_cache(maxsize=16)
def _walsh(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(walsh(size, "f4").copy()).to(device, dtype)


@functools.lru_cache(maxsize=1)
def _ensemble(dim: int, seed: int, dtype: torch.dtype, device: torch.device) -> _Ensemble:
    tiles = tiles_of(dim)
    high = ensemble_size(tiles)
    bits = high.bit_length() - 1
    small = np.random.Generator(np.random.PCG64(seed))
    quadratic, form = quadratic_form(small, bits)
    base = int(small.integers(0, high))
    hadamard = walsh(high, "f4")
    generator = None if device.type == "meta" else torch.Generator(device).manual_seed(seed)

    def there(numbers: Any, kind: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(numbers).to(device, kind)

    groups = [list(g) for _, g in itertools.groupby(tiles, lambda tile: tile.bits)]
    counts = []
    for group in groups:
        count, low = len(group), (1 << group[0].bits) // high
        counts += [count * high * low, count * low, count * low, count * high]  # D1 D2_lo D3
    drawn = torch.empty(sum(counts), dtype=dtype, device=device)
    matrix = functools.partial(_walsh, dtype=dtype, device=device)
    signs = iter(drawn.random_(0, 2, generator=generator).mul_(2).sub_(1).split(counts))
    made = []
    for group in groups:
        size, count = 1 << group[0].bits, len(group)
        linear = hadamard[small.integers(0, high, count)]  # random linear parts of q
        d2_high = there((1 - 2 * quadratic) * linear, dtype)
        d2 = hadamard_transform(next(signs).view(count, size), matrix).view(count, high, -1)
        d2 *= d2_high[:, :, None]
        d2 *= next(signs).view(count, 1, -1)
        shared = hadamard_transform(d2.view(count, size), matrix).view(count, high, -1)
        shared *= next(signs).view(count, 1, -1) / size
        for tile, c, column in zip(group, shared, next(signs).view(count, high), strict=True):
            made.append(_Tile(slice(tile.start, tile.start + tile.used), c, column))
    source = np.arange(high) ^ form[:, None]
    return _Ensemble(there(source, torch.int64), matrix(high), base, tuple(made))


def hadamard_rows(
    seed: int, rows: range, like: torch.Tensor, numbers: int
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Rows of one ensemble, piece by piece.

    Parameters
    ----------
    seed : int
        Of the ensemble, 0 <= seed < 2**64.
    rows : range
        Consecutive numbers below :func:`bgs_opt.hadamard.ensemble_size`.
    like : tensor, shape (d,)
        Gives dtype and device.
    numbers : int
        Size of a piece, about.

    Yields
    ------
    rows, cols, block
        ``rows`` count from the first; ``block`` may be overwritten.
    """
    exact = torch.promote_types(like.dtype, torch.float32)  # integers below 2^24
    ensemble = _ensemble(like.shape[-1], seed, exact, like.device)
    within = torch.tensor([row ^ ensemble.base for row in rows], device=like.device)
    source, signs = ensemble.source[within], ensemble.signs[within]
    for cols, c, column_signs in ensemble.tiles:
        used = cols.stop - cols.start
        signed = signs * column_signs
        step = max(1, numbers // c.numel())
        for start in range(0, len(rows), step):
            part = slice(start, min(start + step, len(rows)))
            block = c.index_select(0, source[part].reshape(-1))
            block = block.view(-1, *c.shape).mul_(signed[part, :, None])
            block = block.view(len(block), -1)
            if used < c.numel():
                block = _of_norm(block[:, :used])
            yield part, cols, block.to(like.dtype)


def _of_norm(rows: torch.Tensor) -> torch.Tensor:
    """Used part of a padded tile, with the norm sqrt(columns)."""
    squares = rows.square().sum(1, keepdim=True)
    rows = torch.where(squares > 0, rows, 1)  # a few columns may all have come out zero
    return rows * (rows.shape[1] / rows.square().sum(1, keepdim=True)).sqrt()
