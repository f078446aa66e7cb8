"""How wide to look under noise: sigma of the automatic rule.

The power p = mean (f+ - f-)^2 / (2 nu), nu the variance of the noise, says how far the differences
of a generation stand out of it. Sigma falls while p is large and comes back while it is not.

It grows beyond its start while the function looks quadratic. On a quadratic the central
difference is the slope at any sigma, and the noise in it falls with sigma. What the function is
shows in the bend, the lift of a generation's values over the center's,

    b(s) = mean (f+ + f-) / 2 - f(center) = a s + q s^2,    s = (sigma / sigma_0)^2,

where q = 0 on a quadratic, q > 0 where the function rises faster and q < 0 where it levels off.
a and q are fitted by least squares, weighted by the variance of b, forgetting a tenth a
generation, with q ~ N(0, (a / s)^2) for a prior. Sigma grows where a is clear and the share
|q s / a| at the next sigma is small; it shrinks again where the share is surely not.
"""

from __future__ import annotations

import math

import numpy as np

from bgs_opt.automatic_state import WIDEST, AutomaticState, Values

__all__ = ["RISE", "adapt_width", "bent", "hear", "power_of"]

SHRINK = 8.0  # sigma falls while squared differences exceed the noise by this factor, ...
FALL = 0.9  # ... by this factor a generation;
GROW = 4.0  # it comes back while they do not,
BACK = 1.03
BLIND = 2.0  # and goes beyond what it ever was while neither differences nor curvature stand out,
RISE = 1.25
CLEAR = 3.0  # or while a stands out by this many standard deviations
SMALL = 0.25  # and this share of the bend, or less, is not quadratic;
SURE = 3.0  # back where a share ...
AMISS = 0.1  # ... larger than this stands out by so many standard deviations
FORGET = 0.9


def hear(state: AutomaticState, f: Values) -> None:
    """Take the variance of the noise from repeated values of the center."""
    if len(f.center) >= 2:
        state.noise_weight = min(100.0, state.noise_weight + 1.0)
        state.noise += (float(np.var(f.center, ddof=1)) - state.noise) / state.noise_weight


def power_of(state: AutomaticState, f: Values) -> float:
    """Mean squared difference over what noise alone would give."""
    return min(1e6, float(np.mean((f.plus - f.minus) ** 2)) / 2.0 / state.noise)


def adapt_width(state: AutomaticState, f: Values) -> None:
    """Change sigma by what a generation under noise has shown."""
    if state.rough or state.noise <= 0.0:
        return
    power = power_of(state, f)
    state.power = power if state.power == 0.0 else 0.8 * state.power + 0.2 * power
    if len(f.center):
        bend = float(np.mean(f.plus + f.minus)) / 2.0 - float(np.mean(f.center))
        state.bend = bend if state.bend == 0.0 else 0.8 * state.bend + 0.2 * bend
        _add(state, bend, state.noise * (0.5 / len(f.plus) + 1.0 / len(f.center)))
    if state.power > SHRINK:
        factor = max(FALL, min(1.0, 1e-3 * state.sigma0 / state.sigma))
    elif state.power >= GROW:
        return
    elif state.power < BLIND and len(f.center) and abs(state.bend) < math.sqrt(state.noise):
        factor = min(RISE, max(1.0, state.ceiling / state.sigma))
    elif state.sigma > 1.0001 * state.sigma0 and bent(state, state.sigma) is True:
        factor = max(1.0 / RISE, state.sigma0 / state.sigma)
        state.top = state.sigma * factor
    elif RISE * state.sigma <= min(state.ceiling, WIDEST * state.sigma0) and (
        len(f.center) and bent(state, RISE * state.sigma) is False
    ):
        factor = RISE
    else:
        factor = min(BACK, max(1.0, state.top / state.sigma))
    state.sigma *= factor
    state.top = max(state.top, state.sigma)
    state.power = 1.0 + max(0.0, state.power - 1.0) * factor**2
    state.bend *= factor**2


def _add(state: AutomaticState, bend: float, variance: float) -> None:
    """Add a bend to the sums of the fit."""
    s = (state.sigma / state.sigma0) ** 2
    row = np.array([s * s, s**3, s**4, s * bend, s * s * bend])
    with np.errstate(all="ignore"):
        sums = FORGET * state.bends + row / variance
    state.bends = sums if np.isfinite(sums).all() else np.zeros(5)


def bent(state: AutomaticState, sigma: float) -> bool | None:
    """Whether the bend at ``sigma`` is surely not a quadratic's; None: it may be or not."""
    ss, sq, qq, sb, qb = state.bends.tolist()
    s = (sigma / state.sigma0) ** 2
    if not (ss > 0.0 and sb > 0.0 and sb * sb > CLEAR**2 * ss):
        return None
    prior = s * ss / sb  # one over its standard deviation
    qq += prior * prior
    determinant = ss * qq - sq * sq
    if not 0.0 < determinant < math.inf:
        return None
    a, q = (qq * sb - sq * qb) / determinant, (ss * qb - sq * sb) / determinant
    if not a > 0.0:
        return None
    share = abs(q) * s / a
    if share > AMISS and abs(q) > SURE * math.sqrt(ss / determinant):
        return True
    return False if share <= SMALL else None
