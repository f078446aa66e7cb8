"""From the rewards of pairs to the weights of their directions.

Steps 3 and 4 of BGS (Abeyruwan et al. 2022, arXiv 2207.06572, eq. 3-4): keep the k directions
with the largest |R+ - R-| and weigh them by (R+ - R-) / (k s_R). Selection by max(R+, R-) is
ARS V1-t (Mania et al. 2018, arXiv 1803.07055, algorithm 2). Array in, array out, in any
namespace of the Python array API; nothing is read back from the device of an array.
"""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from bgs_opt.protocols import Array

__all__ = [
    "REWARD_SCALES",
    "acceptance",
    "centred_ranks",
    "direction_weights",
    "finite_rewards",
    "normalise",
    "selection_key",
    "spread",
]

REWARD_SCALES = ("kept", "all", "rank")


def normalise(values: Array) -> Array:
    """Divide by the largest magnitude, so that no later formula overflows; zeros stay zeros."""
    xp = array_namespace(values)
    largest = xp.max(xp.abs(values))
    return values / xp.where(largest > 0, largest, xp.ones_like(largest))


def spread(values: Array, where: Array | None = None) -> Array:
    """Standard deviation (divided by n) of n finite values of any magnitude, shape ().

    Values that are all equal give exactly zero. ``where`` (bool, the shape of the values) says
    which ones count.
    """
    xp = array_namespace(values)
    largest = xp.max(xp.abs(values))
    scaled = values / xp.where(largest > 0, largest, xp.ones_like(largest))
    if where is None:  # NumPy's own function takes twice as long for a few values
        scaled = scaled - xp.sum(scaled) / values.shape[0]
        return xp.sqrt(xp.sum(scaled * scaled) / values.shape[0]) * largest
    zeros = xp.zeros_like(values)
    count = xp.sum(xp.astype(where, values.dtype))
    count = xp.where(count > 0, count, xp.ones_like(count))
    scaled = xp.where(where, scaled - xp.sum(xp.where(where, scaled, zeros)) / count, zeros)
    return xp.sqrt(xp.sum(scaled * scaled) / count) * largest


def finite_rewards(plus: Array, minus: Array) -> tuple[Array, Array, Array]:
    """Rewards without NaN and infinities: those count as the worst finite one of all.

    Returns
    -------
    plus, minus : array, shape (n,)
    usable : array of bool, shape (n,)
        Where at least one end was finite; a pair without any says nothing.
    """
    xp = array_namespace(plus)
    high, low = xp.isfinite(plus), xp.isfinite(minus)
    infinite = xp.full_like(plus, math.inf)
    worst = xp.min(xp.minimum(xp.where(high, plus, infinite), xp.where(low, minus, infinite)))
    worst = xp.where(xp.isfinite(worst), worst, xp.zeros_like(worst))
    return xp.where(high, plus, worst), xp.where(low, minus, worst), high | low


def selection_key(plus: Array, minus: Array, mean_weight: float = 0.0) -> Array:
    """Key by which directions are kept: ``mean_weight * (R+ + R-)/2 + |R+ - R-|/2``.

    Parameters
    ----------
    plus, minus : array, shape (n,)
        Rewards of both ends.
    mean_weight : float
        0 is selection by difference (BGS), 1 is selection by max(R+, R-) (ARS), since
        max(a, b) = (a + b)/2 + |a - b|/2.

    Returns
    -------
    array, shape (n,)
    """
    xp = array_namespace(plus)
    key = xp.abs(plus - minus) / 2
    return key + mean_weight * (plus + minus) / 2 if mean_weight else key


def acceptance(plus: Array, minus: Array, baseline: float, tolerance: float) -> Array:
    """Directions whose better end is not worse than the center by much.

    ``max(R+, R-) >= baseline - tolerance * std``, std over all 2n rewards (DESIGN, section 1).

    Returns
    -------
    array of bool, shape (n,)
    """
    xp = array_namespace(plus)
    deviation = spread(xp.concat([plus, minus]))
    return xp.maximum(plus, minus) >= baseline - tolerance * deviation


def centred_ranks(values: Array) -> Array:
    """Ranks scaled to [-1/2, 1/2]; equal values share the mean of their ranks.

    Salimans et al. 2017 (arXiv 1703.03864), section 2.1, with ties as in scipy's rankdata.

    Examples
    --------
    >>> import numpy as np
    >>> centred_ranks(np.array([3.0, 1.0, 3.0]))
    array([ 0.25, -0.5 ,  0.25])
    """
    xp = array_namespace(values)
    n = values.shape[0]
    if n < 2:
        return xp.zeros_like(values)
    ordered = xp.sort(values)
    below, upto = (xp.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    ranks = xp.astype(below + upto - 1, values.dtype) / 2
    return ranks / (n - 1) - 0.5


def direction_weights(
    plus: Array,
    minus: Array,
    *,
    top_k: int,
    mean_weight: float = 0.0,
    reward_scale: str = "kept",
    accepted: Array | None = None,
) -> Array:
    """Weights ``w`` with g = sum_i w_i e_i (step 4 of the method).

    Parameters
    ----------
    plus, minus : array of float64, shape (n,)
        Mean rewards of both ends of each pair, finite.
    top_k : int
        Directions to keep; all if it exceeds n. Ties go to the lower index.
    mean_weight : float
        See :func:`selection_key`.
    reward_scale : {"kept", "all", "rank"}
        s_R is the standard deviation of the 2k kept rewards (the paper), of all 2n, or 1 after
        replacing rewards by centred ranks.
    accepted : array of bool, shape (n,), optional
        Directions that may be kept.

    Returns
    -------
    array, shape (n,)
        ``(R+ - R-) / (k s_R)`` where kept, else zero; all zero where s_R is zero.
    """
    xp = array_namespace(plus)
    n = plus.shape[0]
    both = normalise(xp.concat([plus, minus]))
    plus, minus = both[:n], both[n:]
    key = selection_key(plus, minus, mean_weight)
    if accepted is not None:
        key = xp.where(accepted, key, xp.full_like(key, -math.inf))
    order = xp.argsort(-key, stable=True)
    kept = xp.argsort(order, stable=True) < top_k
    chosen = xp.sort(order[:top_k])
    count, valid = float(chosen.shape[0]), None
    if accepted is not None:
        kept = kept & accepted
        count = xp.sum(xp.astype(kept, plus.dtype))
        valid = xp.take(accepted, xp.concat([chosen, chosen]), axis=0)
    if reward_scale == "rank":
        scale = xp.ones_like(xp.max(both))
        ranks = centred_ranks(both)
        plus, minus = ranks[:n], ranks[n:]
    elif reward_scale == "all":
        scale = spread(both)
    else:
        ends = [xp.take(plus, chosen, axis=0), xp.take(minus, chosen, axis=0)]
        scale = spread(xp.concat(ends), valid)
    scale = count * scale
    positive = scale > 0
    weights = (plus - minus) / xp.where(positive, scale, xp.ones_like(scale))
    return xp.where(kept & positive, weights, xp.zeros_like(plus))
