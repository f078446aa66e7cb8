"""From the rewards of pairs to the weights of their directions.

Steps 3 and 4 of BGS (Abeyruwan et al. 2022, arXiv 2207.06572, eq. 3-4): keep the k directions
with the largest |R+ - R-| and weigh them by (R+ - R-) / (k s_R). Selection by max(R+, R-) is
ARS V1-t (Mania et al. 2018, arXiv 1803.07055, algorithm 2). Array in, array out, in any
namespace of the Python array API.
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


def spread(values: Array) -> float:
    """Standard deviation (divided by n) of finite values of any magnitude.

    Values that are all equal give exactly zero.
    """
    xp = array_namespace(values)
    high, low = float(xp.max(values)), float(xp.min(values))
    largest = max(high, -low)
    if high == low:
        return 0.0
    scaled = values / largest
    return float(xp.std(scaled)) * largest


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
    counts = xp.astype(xp.unique_counts(values).counts, values.dtype)
    below = xp.cumulative_sum(counts) - counts
    ranks = below + (counts - 1) / 2
    inverse = xp.reshape(xp.unique_inverse(values).inverse_indices, (n,))
    return xp.take(ranks, inverse) / (n - 1) - 0.5


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
    place = xp.argsort(order, stable=True)
    kept = place < top_k
    if accepted is not None:
        kept = kept & accepted
    count = int(xp.count_nonzero(kept))
    if count == 0:
        return xp.zeros_like(plus)
    scale = 1.0
    if reward_scale == "rank":
        ranks = centred_ranks(both)
        plus, minus = ranks[:n], ranks[n:]
    elif reward_scale == "all":
        scale = spread(both)
    else:
        scale = spread(xp.concat([plus[kept], minus[kept]]))
    if scale == 0:
        return xp.zeros_like(plus)
    return xp.where(kept, (plus - minus) / (count * scale), xp.zeros_like(plus))
