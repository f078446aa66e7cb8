"""Keeping points inside a box: clip to its walls, or reflect at them.

Written to the Python array API; infinite bounds are open sides.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from bgs_opt.protocols import Array

__all__ = ["BOUND_MODES", "clip", "reflect"]

BOUND_MODES = ("clip", "reflect")


def clip(x: Array, low: Array, high: Array) -> Array:
    """Nearest point of the box, coordinate by coordinate.

    Parameters
    ----------
    x : array, shape (..., d)
    low, high : array, shape (d,)
        ``low <= high``; -inf and inf for open sides.

    Returns
    -------
    array, shape (..., d)
    """
    xp = array_namespace(x)
    return xp.minimum(xp.maximum(x, low), high)


def reflect(x: Array, low: Array, high: Array) -> Array:
    """Fold the line into the box as a beam of light between two mirrors.

    With w = high - low, the point low + u goes to low + (u mod 2w) or its mirror image
    2w - (u mod 2w), whichever is in [0, w]; with one open side the line is folded once.

    Parameters
    ----------
    x : array, shape (..., d)
    low, high : array, shape (d,)

    Returns
    -------
    array, shape (..., d)

    Examples
    --------
    >>> import numpy as np
    >>> reflect(np.array([-0.25, 0.5, 3.25]), np.zeros(3), np.ones(3))
    array([0.25, 0.5 , 0.75])
    """
    xp = array_namespace(x)
    inside = (x >= low) & (x <= high)
    if bool(xp.all(inside)):
        return x
    largest = xp.finfo(x.dtype).max / 8  # walls beyond it are clipped at: no difference overflows
    closed_low, closed_high = xp.abs(low) <= largest, xp.abs(high) <= largest
    zero, one = xp.zeros_like(low), xp.ones_like(low)
    left = xp.where(closed_low, low, zero)
    right = xp.where(closed_high, high, zero)
    both = closed_low & closed_high
    width = xp.where(both & (high > low), right - left, one)
    offset = xp.remainder(x - left, 2 * width)
    folded = left + xp.minimum(offset, 2 * width - offset)
    once = xp.where(closed_low, left + xp.abs(x - left), right - xp.abs(right - x))
    out = xp.where(both, folded, once)
    kept = inside | ~(closed_low | closed_high)
    return clip(xp.where(kept, x, out), low, high)  # the last bit of rounding, and width zero
