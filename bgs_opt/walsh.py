"""Walsh functions: the rows of the Hadamard matrix H[i, m] = (-1)^popcount(i & m)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from bgs_opt.protocols import Array, FloatArray, IntArray

__all__ = ["hadamard_transform", "signed_columns", "walsh"]

_FACTOR = 32  # H is a Kronecker product of small H's: five bits at a time by thin products


def hadamard_transform(x: Array, matrix: Callable[[int], Array] | None = None) -> Array:
    """Unnormalised fast Walsh-Hadamard transform along the last axis, whose length is 2^p.

    Parameters
    ----------
    x : array of float, shape (..., 2**p)
        Of any library whose arrays have ``reshape`` and ``@``.
    matrix : callable, optional
        H of a size, (size, size), as an array to multiply with; by default :func:`walsh` in the
        dtype of ``x``, for NumPy.

    Returns
    -------
    array of float, shape (..., 2**p)
        ``y[..., i] = sum_m (-1)**popcount(i & m) x[..., m]``; a new array.

    Examples
    --------
    >>> hadamard_transform(np.array([1.0, 2.0, 3.0, 4.0]))
    array([10., -2., -4.,  0.])
    """
    if matrix is None:
        x = np.ascontiguousarray(x)
        matrix = functools.partial(walsh, dtype=x.dtype.str)
    size, inner = x.shape[-1], min(x.shape[-1], _FACTOR)
    y = x.reshape(-1, inner) @ matrix(inner)
    while inner < size:
        factor = min(_FACTOR, size // inner)
        y = matrix(factor) @ y.reshape(-1, factor, inner)
        inner *= factor
    return y.reshape(x.shape)


@functools.lru_cache(maxsize=32)
def walsh(size: int, dtype: str) -> FloatArray:
    """H itself, (size, size): row i is the Walsh function of number i."""
    numbers = np.arange(size)
    odd = numbers[:, None] & numbers
    for shift in (8, 4, 2, 1):  # parity of the set bits of integers below 2^16
        odd ^= odd >> shift
    made = (1 - 2 * (odd & 1)).astype(dtype)
    made.setflags(write=False)
    return made


@functools.lru_cache(maxsize=8)
def signed_columns(size: int) -> IntArray:
    """Column numbers of H, (size, size), with the bit ``size`` set where H is -1."""
    return np.arange(size) | size * (walsh(size, "f8") < 0)
