"""The automatic rule's look at narrower scales, for structure below sigma.

Without noise one gradient at sigma is compared with one at sigma / 2**SCALES. Under noise two
independent gradients at each of several scales say by their agreement how much signal there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bgs_opt.automatic_state import DRIFT, NEWTON, SCALES, Array, AutomaticState, Values
from bgs_opt.quasi_newton import newton_step

__all__ = ["Combine", "narrow", "smooth_or_rough", "survey"]

Combine = Callable[[Array], Array]

SIGNIFICANT = 3.0  # a narrower scale's signal to noise must exceed this / sqrt(d)


def survey(state: AutomaticState, slopes: Array, combine: Combine) -> Array:
    """Noisy: two gradients at each of several scales, at one center; go where they agree most."""
    half = len(slopes) // 2
    first = combine(np.concatenate([slopes[:half] / max(half, 1), np.zeros(len(slopes) - half)]))
    second = combine(np.concatenate([np.zeros(half), slopes[half:] / (len(slopes) - half)]))
    spread = float(np.sum((first - second) ** 2)) / 2.0
    state.ratio[state.surveyed] = float(first @ second) / spread if spread > 0.0 else 0.0
    state.surveyed += 2 if state.surveyed == 0 else 1
    state.sigma = state.wide * 0.5**state.surveyed
    if state.surveyed > SCALES:
        best = int(np.argmax(state.ratio))
        state.mode, state.sigma = DRIFT, state.wide
        if best > 0 and state.ratio[best] > max(
            SIGNIFICANT / math.sqrt(state.dim), 2.0 * state.ratio[0]
        ):
            narrow(state, center=state.base, scales=best)
    return np.zeros_like(state.base)


def smooth_or_rough(state: AutomaticState, center: Array, gradient: Array, f: Values) -> Array:
    """Without noise: a gradient that changes as sigma narrows means structure below sigma."""
    if state.surveyed == 0:
        state.gradient, state.surveyed, state.sigma = gradient, SCALES, state.wide * 0.5**SCALES
        return np.zeros_like(gradient)
    wide, near = float(state.gradient @ state.gradient), float(gradient @ gradient)
    # few directions: others at each scale, only the lengths compare
    excess = float(np.sum((gradient - state.gradient) ** 2)) if state.newton else near - wide
    state.rough = excess > wide
    if state.newton and not state.rough:
        return newton_step(state, center, gradient, f)
    state.mode, state.sigma = DRIFT, state.wide
    return np.zeros_like(gradient)


def narrow(state: AutomaticState, center: Array, scales: int) -> Array:
    """Go on from the average, at a narrower scale."""
    state.sigma, state.rough = state.wide * 0.5**scales, True
    jump = state.average - center
    state.averaged, state.rate, state.slope = 0.0, 0.0, 0.0
    if state.newton:
        state.mode, state.checks, state.value = NEWTON, 0, math.nan
        state.sigma0, state.step = state.sigma, np.zeros_like(state.step)
    return jump
