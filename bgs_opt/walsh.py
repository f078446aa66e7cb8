"""Walsh functions: the rows of the Hadamard matrix H[i, m] = (-1)^popcount(i & m)."""

from __future__ import annotations

import functools

import numpy as np

from bgs_opt.protocols import FloatArray, IntArray

__all__ = ["hadamard_transform", "signed_columns", "walsh"]


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
    size, inner = x.shape[-1], min(x.shape[-1], 32)
    # H is the Kronecker product of small H's: five bits at a time by thin matrix products
    y = np.ascontiguousarray(x).reshape(-1, inner) @ walsh(inner, x.dtype.str)
    while inner < size:
        factor = min(32, size // inner)
        y = np.matmul(walsh(factor, x.dtype.str), y.reshape(-1, factor, inner))
        inner *= factor
    return np.asarray(y.reshape(x.shape))


@functools.lru_cache(maxsize=32)
def walsh(size: int, dtype: str) -> FloatArray:
    """H itself, (size, size): row i is the Walsh function of number i."""
    numbers = np.arange(size)
    odd = numbers[:, None] & numbers
    for shift in (8, 4, 2, 1):  # parity of the set bits of integers below 2^16
        odd ^= odd >> shift
    made = (1 - 2 * (odd & 1)).astype(dtype)
    made.flags.writeable = False
    return made


@functools.lru_cache(maxsize=8)
def signed_columns(size: int) -> IntArray:
    """Column numbers of H, (size, size), with the bit ``size`` set where H is -1."""
    return np.arange(size) | size * (walsh(size, "f8") < 0)
