"""Running mean and variance of observations, which may be gathered in parts and merged.

Parts are joined as in Chan, Golub & LeVeque 1983 ("Algorithms for computing the
sample variance", doi 10.1080/00031305.1983.10483115); a part of one observation makes it
Welford's method. Observation filter of ARS V2 (Mania et al. 2018, arXiv 1803.07055, sec. 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bgs_opt.errors import ArgumentValueError
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import as_array, integer, real, wrong_type

__all__ = ["RunningMoments"]


def _observations(observations: npt.ArrayLike, size: int) -> FloatArray:
    expected = f"finite numbers of shape (..., {size})"
    array = as_array("observations", expected, observations)
    if array.dtype.kind not in "fiub":
        wrong_type("observations", expected, observations)
    if array.ndim < 1 or array.shape[-1] != size:
        raise ArgumentValueError(f"observations: expected {expected}; got shape {array.shape}")
    flat = array.reshape(-1, size).astype(np.float64)
    if not np.isfinite(flat).all():
        at = int(np.flatnonzero(~np.isfinite(flat).all(axis=0))[0])
        raise ArgumentValueError(f"observations: expected {expected}; got {flat[:, at]} in "
                                 f"coordinate {at}")  # fmt: skip
    return flat


@dataclass(frozen=True, eq=False)
class RunningMoments:
    """Count, mean and sum of squared deviations of all observations so far; never changed.

    Attributes
    ----------
    count : int
        Observations, n.
    mean : ndarray of float64, shape (d,)
    squares : ndarray of float64, shape (d,)
        ``sum_i (x_i - mean)^2``.

    Examples
    --------
    >>> seen = RunningMoments.of_size(2).updated([[1.0, 10.0], [3.0, 10.0]])
    >>> seen.count, seen.mean, seen.variance
    (2, array([ 2., 10.]), array([1., 0.]))
    >>> seen.normalized([3.0, 12.0])
    array([1., 2.])
    """

    count: int
    mean: FloatArray
    squares: FloatArray

    @classmethod
    def of_size(cls, size: int) -> RunningMoments:
        """Return moments of no observation of length ``size``."""
        size = integer("size", size, 1)
        return cls(0, np.zeros(size), np.zeros(size))

    def __post_init__(self) -> None:
        for array in (self.mean, self.squares):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def variance(self) -> FloatArray:
        """Population variance (divided by n), shape (d,); 1 of fewer than two observations."""
        if self.count < 2:
            return np.ones(len(self))
        return np.asarray(self.squares / self.count)

    @property
    def scale(self) -> FloatArray:
        """What normalized observations are divided by: the deviation, or 1 where it is zero."""
        deviation = np.sqrt(self.variance)
        tiny = 1e-8 * np.maximum(1.0, np.abs(self.mean))  # a constant, but for its rounding
        return np.where(deviation > tiny, deviation, 1.0)

    def updated(self, observations: npt.ArrayLike) -> RunningMoments:
        """Return the moments with more observations, of shape (..., d).

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            For another shape, and for numbers that are not finite: one of them would spoil the
            moments for good.
        """
        flat = _observations(observations, len(self))
        if not len(flat):
            return self
        mean = flat.mean(axis=0)
        return self.merged(RunningMoments(len(flat), mean, np.square(flat - mean).sum(axis=0)))

    def merged(self, other: RunningMoments) -> RunningMoments:
        """Return the moments of the observations of both."""
        if len(other) != len(self):
            raise ArgumentValueError(f"other: expected size {len(self)}; got {len(other)}")
        if not (self.count and other.count):
            return self if self.count else other
        count = self.count + other.count
        delta = other.mean - self.mean
        share = other.count / count
        squares = self.squares + other.squares + np.square(delta) * (self.count * share)
        return RunningMoments(count, self.mean + delta * share, squares)

    def normalized(self, observations: npt.ArrayLike, *, clip: float = np.inf) -> Any:
        """Observations (..., d) less the mean, over :attr:`scale`, within [-clip, clip].

        Before the first observation they come back as they are. A floating dtype is kept.
        """
        clip = real("clip", clip, 0, open_low=True) if np.isfinite(clip) else np.inf
        array = np.asarray(observations)
        dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
        if not self.count:
            return array.astype(dtype)
        moved = (array - self.mean) / self.scale
        return np.clip(moved, -clip, clip).astype(dtype)

    def state(self) -> dict[str, Any]:
        """Arrays and numbers from which ``RunningMoments(**state)`` is the same again."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}
