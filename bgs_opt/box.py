"""What a caller gives as bounds: two vectors, low and high."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bgs_opt.protocols import FloatArray
from bgs_opt.validation import as_array, wrong_type, wrong_value

__all__ = ["bounds_of", "sides_of"]


def bounds_of(
    bounds: object, dim: int, dtype: npt.DTypeLike = np.float64
) -> tuple[FloatArray | None, FloatArray | None]:
    """Low and high of shape (d,), or None twice.

    Parameters
    ----------
    bounds : None, (low, high) or scipy.optimize.Bounds
        Each side a scalar or of shape (d,); infinite for open sides.
    """
    if bounds is None:
        return None, None
    expected = f"(low, high), each a scalar or of shape ({dim},), or scipy.optimize.Bounds"
    arrays = []
    for side in sides_of(bounds, expected):
        array = as_array("bounds", expected, side)
        if array.size and array.dtype.kind not in "fiu":
            wrong_type("bounds", expected, side)
        if array.shape not in ((), (1,), (dim,)):
            wrong_value("bounds", expected, array)
        full = np.broadcast_to(array, (dim,))
        if (nans := np.flatnonzero(np.isnan(full))).size:
            wrong_value("bounds", "numbers that are not NaN", f"nan at coordinate {nans[0]}")
        with np.errstate(over="ignore"):  # beyond float32: open
            arrays.append(np.ascontiguousarray(full.astype(dtype)))
    low, high = arrays
    if (crossed := np.flatnonzero(~(low <= high))).size:
        at = int(crossed[0])
        wrong_value("bounds", "low <= high", f"[{low[at]}, {high[at]}] at coordinate {at}")
    if np.isposinf(low).any() or np.isneginf(high).any():
        wrong_value("bounds", "low < inf and high > -inf", bounds)
    return low, high


def sides_of(bounds: object, expected: str) -> list[Any]:
    """Low and high, as they came."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        return [bounds.lb, bounds.ub]
    if not isinstance(bounds, (tuple, list, np.ndarray)) or not np.iterable(bounds):
        wrong_type("bounds", expected, bounds)
    if _meant_as_pairs(bounds):
        wrong_value("bounds", f"{expected} (numpy.transpose makes it of SciPy's pairs)", bounds)
    if len(bounds) != 2:
        wrong_type("bounds", expected, bounds)
    return list(bounds)


def _meant_as_pairs(bounds: Any) -> bool:
    """Whether bounds are a (low, high) for each coordinate, as SciPy takes them.

    Two of them may be two vectors just as well. They are pairs if they come as a list of tuples,
    or if as vectors they are crossed or leave nothing to search, or have a None.
    """
    pairs = [pair for side in bounds if (pair := _pair(side)) is not None and pair[0] < pair[1]]
    if not pairs or len(pairs) != len(bounds):
        return False
    if len(pairs) != 2:
        return True
    (a, b), (c, d) = pairs
    useless = (a, b) == (c, d) or a > c or b > d
    nothing = any(value is None for side in bounds for value in side)
    tuples = isinstance(bounds, list) and all(isinstance(side, tuple) for side in bounds)
    return useless or nothing or tuples


def _pair(side: Any) -> tuple[float, float] | None:
    """Two numbers, None being an open side; None if it is something else."""
    vector = isinstance(side, (tuple, list)) or (isinstance(side, np.ndarray) and side.ndim == 1)
    if not vector or len(side) != 2:
        return None
    low, high = side
    try:
        return (-np.inf if low is None else float(low), np.inf if high is None else float(high))
    except (TypeError, ValueError, OverflowError):
        return None
