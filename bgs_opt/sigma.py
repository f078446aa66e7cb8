"""How sigma changes: schedules over generations and cumulative step-size adaptation.

Cumulative step-size adaptation after Hansen & Ostermeier 2001 ("Completely derandomized
self-adaptation in evolution strategies"), eq. 16-17: without selection pressure the step
z = sum_i w_i e_i / sqrt(sum_i w_i^2) of orthogonal directions has norm sqrt(d), and so has the
evolution path; a longer path means that steps agree and sigma grows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from array_api_compat import array_namespace

from bgs_opt.protocols import Array, Schedule
from bgs_opt.validation import integer, real

__all__ = [
    "CumulativeAdaptation",
    "ExponentialDecay",
    "InverseDecay",
    "LinearDecay",
    "clamp",
    "factor",
]


def factor(name: str, schedule: Schedule | None, generation: int) -> float | None:
    """Checked factor of a schedule; None without one."""
    return None if schedule is None else real(f"{name}({generation})", schedule(generation), 0)


@dataclass(frozen=True)
class ExponentialDecay:
    """Factor ``max(floor, rate ** generation)``.

    Parameters
    ----------
    rate : float
        Factor of one generation, in (0, 1].
    floor : float
        Smallest factor, in (0, 1].
    """

    rate: float
    floor: float = 1e-3

    def __post_init__(self) -> None:
        real("rate", self.rate, 0, 1, open_low=True)
        real("floor", self.floor, 0, 1, open_low=True)

    def __call__(self, generation: int) -> float:
        """Return the factor of the given generation."""
        return max(self.floor, self.rate**generation)


@dataclass(frozen=True)
class LinearDecay:
    """Factor that falls in a straight line from 1 to ``final`` over ``generations``.

    Parameters
    ----------
    generations : int
        Length of the fall, >= 1.
    final : float
        Factor at its end and after it, in (0, 1].
    """

    generations: int
    final: float = 0.1

    def __post_init__(self) -> None:
        integer("generations", self.generations, 1)
        real("final", self.final, 0, 1, open_low=True)

    def __call__(self, generation: int) -> float:
        """Return the factor of the given generation."""
        share = min(1.0, generation / self.generations)
        return 1.0 + (self.final - 1.0) * share


@dataclass(frozen=True)
class InverseDecay:
    """Factor ``max(floor, 1 / (1 + generation / half))``: fast at first, without an end.

    Parameters
    ----------
    half : float
        Generations after which it is one half, > 0.
    floor : float
        Smallest factor, in (0, 1].

    Examples
    --------
    >>> InverseDecay(10)(10)
    0.5
    """

    half: float = 16.0
    floor: float = 0.125

    def __post_init__(self) -> None:
        real("half", self.half, 0, open_low=True)
        real("floor", self.floor, 0, 1, open_low=True)

    def __call__(self, generation: int) -> float:
        """Return the factor of the given generation."""
        return max(self.floor, 1 / (1 + generation / self.half))


@dataclass(frozen=True)
class CumulativeAdaptation:
    """Sigma grows while successive steps agree and shrinks while they undo each other.

    Parameters
    ----------
    damping : float
        Divides the logarithmic change, > 0.
    """

    damping: float = 1.0

    def __post_init__(self) -> None:
        real("damping", self.damping, 0, open_low=True)

    def init(self, center: Array) -> Array:
        """Evolution path before the first step, shape (d,)."""
        return array_namespace(center).zeros_like(center)

    def update(
        self, sigma: float, path: Array, gradient: Array, weights: Array
    ) -> tuple[float, Array]:
        """New sigma and path.

        Parameters
        ----------
        sigma : float
        path, gradient : array, shape (d,)
            ``gradient`` is sum_i w_i e_i; ``path`` is overwritten.
        weights : array, shape (n,)

        Returns
        -------
        sigma, path : float, array
            Unchanged where all weights are zero.
        """
        xp = array_namespace(path)
        squares = float(xp.sum(xp.square(weights)))
        if squares == 0:
            return sigma, path
        dim = path.shape[0]
        effective = float(xp.sum(xp.abs(weights))) ** 2 / squares
        c = (effective + 2) / (dim + effective + 5)  # eq. 16, mu_eff for the kept directions
        path *= 1 - c
        path += gradient * (math.sqrt(c * (2 - c)) / math.sqrt(squares))
        ratio = float(xp.sum(xp.square(path))) / dim
        change = c / (self.damping * (1 + c)) * 0.5 * (ratio - 1)
        return sigma * math.exp(min(1.0, max(-1.0, change))), path


def clamp(sigma: float, low: float, high: float) -> tuple[float, bool]:
    """Sigma within [low, high], and whether it had to be moved; NaN becomes ``low``."""
    if not sigma >= low:
        return low, True
    return (high, True) if sigma > high else (sigma, False)
