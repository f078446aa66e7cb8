"""Exponential moving average of the center (Polyak & Juditsky 1992; with warm-up).

a <- a + (1 - b) (theta - a) with b = min(decay, (1 + t) / (10 + t)), so that early generations,
far from the optimum, are soon forgotten.
"""

from __future__ import annotations

from bgs_opt.protocols import Array

__all__ = ["moving_average"]


def moving_average(average: Array, center: Array, decay: float, step: int) -> Array:
    """Average after one more center.

    Parameters
    ----------
    average, center : array, shape (d,)
        ``average`` is overwritten.
    decay : float
        In [0, 1).
    step : int
        Number of centers averaged before, >= 0.

    Returns
    -------
    array, shape (d,)
        ``average``.
    """
    factor = min(decay, (1 + step) / (10 + step))
    average += (1 - factor) * (center - average)  # exact where nothing moves
    return average
