"""One form for all messages about arguments: name, what was expected, what came."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.protocols import FloatArray

__all__ = [
    "as_array",
    "choice",
    "describe",
    "flag",
    "integer",
    "real",
    "real_vector",
    "wrong_type",
    "wrong_value",
]


def describe(value: object) -> str:
    """Short description of what came: repr for scalars, type and shape for arrays."""
    if isinstance(value, np.ndarray):
        kind = "a masked array" if np.ma.is_masked(value) else "an array"
        return f"{kind} of shape {value.shape} and dtype {value.dtype}"
    try:
        text = repr(value)
    except Exception:  # an int of 5,000 digits, or whatever the caller's class raises
        return f"a {type(value).__name__} that cannot be printed"
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} ({type(value).__name__})"


def wrong_value(name: str, expected: str, came: object) -> NoReturn:
    """Raise ArgumentValueError in the common form."""
    raise ArgumentValueError(f"{name}: expected {expected}; got {describe(came)}")


def wrong_type(name: str, expected: str, came: object) -> NoReturn:
    """Raise ArgumentTypeError in the common form."""
    raise ArgumentTypeError(f"{name}: expected {expected}; got {describe(came)}")


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int within [low, high]."""
    span = f"an int >= {low}" if high is None else f"an int from {low} to {high}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        wrong_type(name, span, value)
    number = int(value)
    if number < low or (high is not None and number > high):
        wrong_value(name, span, value)
    return number


def real(
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return ``value`` as a finite float within the given interval."""
    left, right = "(" if open_low else "[", ")" if open_high else "]"
    expected = f"a finite number in {left}{low:g}, {high:g}{right}"
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        wrong_type(name, expected, value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    outside = number < low or number > high
    on_edge = (open_low and number == low) or (open_high and number == high)
    if not math.isfinite(number) or outside or on_edge:
        wrong_value(name, expected, value)
    return number


def flag(name: str, value: object) -> bool:
    """Return ``value`` if it is a bool."""
    if not isinstance(value, (bool, np.bool_)):
        wrong_type(name, "True or False", value)
    return bool(value)


def choice(name: str, value: object, valid: Collection[str]) -> str:
    """Return ``value`` if it is one of the valid names."""
    expected = "one of " + ", ".join(repr(v) for v in valid)
    if not isinstance(value, str):
        wrong_type(name, expected, value)
    if value not in valid:
        wrong_value(name, expected, value)
    return value


def as_array(name: str, expected: str, value: object) -> npt.NDArray[Any]:
    """``np.asarray``; whatever the conversion raises is a wrong type, as is a masked array."""
    if isinstance(value, np.ma.MaskedArray):
        wrong_type(name, expected + ", not a masked array", value)
    try:
        return np.asarray(value)
    except Exception:  # a torch tensor that requires a gradient raises RuntimeError
        wrong_type(name, expected, value)


def real_vector(name: str, value: npt.ArrayLike) -> FloatArray:
    """Return a contiguous copy of a 1-D vector of real numbers, float32 or float64.

    Integers become float64; float32 stays float32.
    """
    expected = "a 1-D array of real numbers (float32, float64 or integers)"
    array = as_array(name, expected, value)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.newbyteorder("=") not in (np.dtype(np.float32), np.dtype(np.float64)):
        wrong_type(name, expected, array if array.ndim else value)
    if array.ndim != 1 or array.size == 0:
        wrong_value(name, expected + ", not empty", array if array.ndim else value)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
