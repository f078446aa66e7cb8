"""The automatic step rule: how wide to look and how far to step, from the values alone.

Notation: d dimensions, n pairs of the generation, e_i of norm sqrt(d),
slope_i = (f+ - f-) / (2 sigma), g = sum_i slope_i e_i / max(n, d): the central-difference
gradient at n = d, its projection at n < d (eq. 3-4 of arXiv 2207.06572, without its s_R).

1. Step (DRIFT): delta = -rate g, at most half of sigma sqrt(d), where

       log rate += KAPPA clip(left + BIAS, -1, 1)
       left = <g_t, -delta_(t-1)> / (|delta_(t-1)| |g_(t-1)|),

   the share of the last slope that is still there after the last step. On a quadratic with
   gain a = rate x curvature its expectation is proportional to (1 - a) S - a V (S the power of
   the signal, V of the noise of g): zero exactly at the best (Kalman) gain a = S / (S + V). So
   curvature, noise of the values, structure narrower than sigma and the sampling of directions
   are covered without being estimated. Where n < d the last step takes the place of one
   direction, so that the product is measured. The first step is as long as sigma sqrt(n), shorter
   where the differences hardly stand out of the noise.
2. Width: sigma falls while the squared differences stand out of the noise, comes back while
   they do not, and grows beyond its start while the function looks quadratic (``width.py``).
3. Under noise the average of the centers from AVERAGE_FROM of the run on is recommended.
4. A function is rough if its gradient changes by more than its length when sigma narrows 16
   times. It is followed at the wide sigma, where narrow structure averages out, and from
   LOOK_AGAIN of the run on, from the average, at the narrow one. Under noise a survey, two
   independent gradients at each of several scales, decides that by their signal to noise.
5. Smooth, free of noise, d <= 1000: quasi-Newton steps (``quasi_newton.py``).

Multiplying the values or adding to them changes nothing. What was tried: docs/method.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bgs_opt.automatic_state import (
    BLOCKS,
    CHECK,
    DRIFT,
    NEWTON,
    SCALES,
    SURVEY,
    Array,
    AutomaticState,
    Values,
    init,
    limited,
    start_evaluations,
)
from bgs_opt.quasi_newton import eager_search, line_search, newton_step, retreat
from bgs_opt.survey import Combine, narrow, smooth_or_rough, survey
from bgs_opt.width import RISE, adapt_width, hear, power_of

__all__ = [
    "AutomaticState",
    "Plan",
    "failed",
    "init",
    "plan",
    "recommend",
    "restart",
    "start_evaluations",
    "update",
]

# noisy, rough or partial (DRIFT)
KAPPA = 0.35  # how fast the rate follows the correlation of successive gradients
BIAS = 0.05  # ... and how much it leans to long steps, since the average removes what they cost
LIMIT = 0.5  # the longest step, in units of sigma sqrt(d)
DOUBT = 2.0  # a first step is shortened by this over the power of the differences, ...
LEAST = 0.3  # ... but not below this share
AVERAGE_FROM = 0.3  # share of the run after which the centers are averaged
LOOK_AGAIN = 0.6  # share of the run after which narrower scales are looked at


@dataclass(frozen=True)
class Plan:
    """What the next generation asks for."""

    num_directions: int
    sigma: float
    probe: Array | None  # replaces the first direction
    center_evaluations: int
    required: int = 0  # directions from the first on that must be there
    basis: bool = False  # a whole orthogonal basis must be there


def plan(state: AutomaticState) -> Plan:
    """What the next generation asks for."""
    length = float(np.linalg.norm(state.step))
    probe = state.step * (math.sqrt(state.dim) / length) if length > 0.0 else None
    if state.mode == CHECK and state.eager:
        return Plan(state.dim, state.sigma, None, 1, basis=True)
    if state.mode == CHECK:
        return Plan(1, state.sigma, probe, 1, required=1)
    if state.mode == NEWTON:
        return Plan(state.dim, state.sigma, None, 1 if math.isnan(state.value) else 0, basis=True)
    if state.mode == SURVEY and state.deterministic:
        return Plan(
            state.pairs, state.sigma, None, 1 if state.newton and state.surveyed > 0 else 0,
            basis=state.newton,
        )  # fmt: skip
    if state.mode == SURVEY:
        return Plan(BLOCKS * state.pairs, state.sigma, None, 0)
    centers = 0 if state.pairs < 8 else int(state.watch) if state.deterministic else 2
    if probe is None or not 4 <= state.pairs < state.dim:
        return Plan(state.pairs, state.sigma, None, centers)
    return Plan(state.pairs, state.sigma, probe, centers, required=1)


def update(
    state: AutomaticState,
    center: Array,
    f_plus: Array,
    f_minus: Array,
    f_center: Array,
    combine: Combine,
    spent: int,
) -> Array:
    """The step of the center; the state moves on in place.

    Parameters
    ----------
    state : AutomaticState
        Changed.
    center : array, shape (d,)
        The center that was evaluated.
    f_plus, f_minus : array, shape (n,)
        Losses of both ends of each pair, finite, n >= 1.
    f_center : array, shape (m,)
        Losses of the center, finite; m may be 0.
    combine : callable
        ``combine(w)`` gives sum_i w_i e_i, shape (d,), for w of shape (n,).
    spent : int
        Evaluations since the last update.

    Returns
    -------
    array, shape (d,)
        To be added to the center.
    """
    state.spent += spent
    state.generation += 1
    n = len(f_plus)
    if state.scale == 0.0:
        largest = float(max(np.abs(f_plus).max(), np.abs(f_minus).max()))
        if largest == 0.0:
            return np.zeros_like(state.base)
        state.scale = 2.0 ** (math.frexp(largest)[1] - 1)
        state.noise = state.noise / state.scale / state.scale
    unit = state.scale
    with np.errstate(over="ignore"):  # the squares of what is left stay finite
        f = Values(*(np.clip(v / unit, -1e100, 1e100) for v in (f_plus, f_minus, f_center)))
    slopes = (f.plus - f.minus) / (2.0 * state.sigma)
    if state.mode == CHECK and not state.eager:
        return line_search(state, center, float(slopes[0]) / math.sqrt(state.dim), f)
    if state.mode == SURVEY and not state.deterministic:
        return survey(state, slopes, combine)
    gradient = combine(slopes / max(state.dim, n))
    if state.mode == SURVEY:
        return smooth_or_rough(state, center, gradient, f)
    if state.mode == CHECK:
        return eager_search(state, center, gradient, f)
    if state.mode == NEWTON:
        return newton_step(state, center, gradient, f)
    return _drift(state, center, gradient, f)


def failed(state: AutomaticState, center: Array, spent: int) -> Array:
    """The step after a generation without a usable pair: back, or nowhere at half the width."""
    state.spent += spent
    state.generation += 1
    if state.mode == CHECK:
        return retreat(state, center)
    if state.scale > 0.0:  # else nothing was ever finite: it is the center that fails
        state.sigma = max(0.5 * state.sigma, state.floor)
    state.wide = state.sigma if state.mode == DRIFT else state.wide
    return np.zeros_like(state.base)


def restart(state: AutomaticState) -> None:
    """Go on from another point: what was learned of the surroundings of the last is forgotten."""
    state.step = np.zeros_like(state.step)
    state.slope, state.averaged, state.bends = 0.0, 0.0, np.zeros(5)
    if state.mode in (NEWTON, CHECK):
        state.mode, state.checks, state.count, state.value = NEWTON, 0, 0, math.nan
    elif state.mode == SURVEY:  # begin it anew, now or when it is due
        state.sigma = state.wide
        state.mode, state.surveyed = (SURVEY, 0) if state.deterministic else (DRIFT, -1)


def recommend(state: AutomaticState, center: Array) -> Array:
    """The point to return for a noisy function: the average, once there is one."""
    return state.average if state.averaged > 0.0 else center


def _progress(state: AutomaticState) -> float:
    return (
        state.spent / state.budget
        if state.budget > 0
        else state.generation / (state.generation + 100.0)
    )


def _drift(state: AutomaticState, center: Array, gradient: Array, f: Values) -> Array:
    norm = float(np.linalg.norm(gradient))
    if norm == 0.0:
        state.sigma = max(state.sigma, min(RISE * state.sigma, state.top))
        return np.zeros_like(gradient)
    radius = state.sigma * math.sqrt(state.dim)
    directions = math.sqrt(min(len(f.plus), state.dim))
    length = float(np.linalg.norm(state.step))
    hear(state, f)
    if state.rate <= 0.0:
        state.rate = state.sigma * directions / norm * _trust(state, f)
    elif length > 0.0 and state.slope > 0.0:
        left = (
            -float(gradient @ state.step) / length / state.slope
        )  # of the slope along the last step
        state.rate *= math.exp(KAPPA * max(-1.0, min(1.0, left + BIAS)))
    state.rate = min(state.rate, radius / norm)
    adapt_width(state, f)
    state.slope = norm
    state.step = delta = limited(-state.rate * gradient, LIMIT * radius)
    if _progress(state) > AVERAGE_FROM:
        state.averaged = min(state.averaged + 1.0, 1e4 if state.budget > 0 else 30.0)
        state.average = state.average + (center + delta - state.average) / state.averaged
    if state.deterministic and not state.rough:  # few directions: sigma follows the steps
        state.sigma = min(
            state.top,
            max(
                0.9 * state.sigma + 0.1 * float(np.linalg.norm(delta)) / directions,
                state.floor,
            ),
        )
    elif _progress(state) > LOOK_AGAIN and state.sigma == state.wide and state.deterministic:
        return narrow(state, center, SCALES)
    elif _progress(state) > LOOK_AGAIN and state.surveyed < 0 and state.affordable:
        state.mode, state.surveyed, state.wide, state.slope = SURVEY, 0, state.sigma, 0.0
        return state.average - center
    return delta


def _trust(state: AutomaticState, f: Values) -> float:
    """The share of a first step that is taken: differences that are noise tell no length."""
    if state.noise <= 0.0:
        return 1.0
    return max(LEAST, 1.0 - DOUBT / max(power_of(state, f), DOUBT))
