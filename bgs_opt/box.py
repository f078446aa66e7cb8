"""What a caller gives as bounds: two vectors, low and high."""

from __future__ import annotations

from collections.abc import Sequence
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
    if isinstance(bounds, (tuple, list)) and _may_be_pairs(bounds):
        wrong_value("bounds", f"{expected} (numpy.transpose makes it of SciPy's pairs)", bounds)
    if not isinstance(bounds, (tuple, list, np.ndarray)) or len(bounds) != 2:
        wrong_type("bounds", expected, bounds)
    return list(bounds)


def _may_be_pairs(bounds: Sequence[Any]) -> bool:
    """Whether bounds look like a (low, high) for each coordinate, and may be meant so."""
    if not bounds or not all(isinstance(s, (tuple, list)) and len(s) == 2 for s in bounds):
        return False
    tuples = isinstance(bounds, list) and all(isinstance(side, tuple) for side in bounds)
    fixed = repr([*bounds[0]]) == repr([*bounds[-1]])  # nothing would be left to search
    return len(bounds) != 2 or tuples or fixed
