"""Weights times directions, summed in the order of the ids.

Equation 4 of Abeyruwan et al. 2022 (arXiv 2207.06572): g = sum_i w_i e_i. The sum is an explicit
loop of separate multiplications and additions, each rounded once: the same bits on every CPU,
which a BLAS product does not give.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from bgs_opt.protocols import Array

__all__ = ["accumulate", "norm"]

_TILE = 1 << 15


def accumulate(blocks: Iterable[tuple[slice, slice, Array]], out: Array) -> Array:
    """Add weighted directions to ``out`` in place.

    Parameters
    ----------
    blocks : iterable of (rows, cols, block)
        Pieces ``w_i e_i`` as :class:`bgs_opt.protocols.Directions` yields them, in id order.
    out : array, shape (d,)

    Returns
    -------
    array, shape (d,)
        ``out``.
    """
    for _, cols, block in blocks:
        part = out[cols]
        for row in block:
            part += row
    return out


def norm(vector: Array) -> float:
    """Euclidean norm of a vector of any magnitude, tile by tile and without a temporary vector.

    Examples
    --------
    >>> import numpy as np
    >>> norm(np.array([3.0, 4.0]))
    5.0
    """
    largest = max(float(abs(vector.max())), float(abs(vector.min())))
    if largest == 0 or not math.isfinite(largest):
        return largest
    total = 0.0
    for start in range(0, vector.shape[0], _TILE):
        part = vector[start : start + _TILE] / largest
        part *= part
        total += float(part.sum())
    return largest * float(total**0.5)
