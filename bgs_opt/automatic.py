"""The automatic step rule: how wide to look and how far to step, from the values alone (see NOTES.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Combine = Callable[[Array], Array]

DRIFT, NEWTON, CHECK, SURVEY = 0, 1, 2, 3  # the kinds of generation
DENSE = 200  # up to this dimension many secant pairs are kept, beyond it PAIRS
PAIRS = 8
SHRINK = 8.0  # sigma may fall while squared differences exceed the noise by this factor
GROW = 4.0
BLIND = 2.0
LIFT = 1.0
RISE = 1.1
BIAS = 0.0
JUMP = 1
SNR = 0.5
CEIL = 1.0
FALL = 0.97
KAPPA = 0.5
AVG = 0.3
SCALES = 4  # the survey looks at sigma / 2^1 ... sigma / 2^(SCALES)
WIDE_SHARE = 0.6  # share of the budget spent wide before narrower scales are surveyed


@dataclass
class AutomaticState:
    """All that the rule remembers; floats, ints, bools and arrays only."""

    dim: int
    sigma0: float
    sigma: float
    budget: int  # -1: unknown
    spent: int
    noise: float  # variance of one evaluation
    noise_weight: float
    deterministic: bool
    rough: bool
    newton: bool  # full gradients and a quasi-Newton metric
    ceiling: float  # sigma's
    top: float  # the widest sigma so far
    bend: float  # smoothed lift of the values at sigma over the center's
    mode: int
    pairs: int  # directions of a generation
    generation: int
    rate: float  # step per gradient (0: not yet known)
    power: float  # smoothed mean squared difference / (2 noise)
    surveyed: int  # -1: no survey under way
    wide: float  # sigma before the survey
    checks: int
    value: float  # value at the last base point
    slope: float
    count: int  # secant pairs stored so far
    averaged: float  # weight behind the average
    ratio: Array  # (SCALES + 1,): signal to noise at the surveyed scales
    base: Array  # the last point whose gradient is known
    gradient: Array
    step: Array  # the last step
    average: Array
    s_pairs: Array
    y_pairs: Array
    scale: float  # unit of the values, for overflow


@dataclass(frozen=True)
class Plan:
    """What the next generation asks for."""

    num_directions: int
    sigma: float
    probe: Array | None
    center_evaluations: int


def start_evaluations(budget: int | None) -> int:
    """How often to evaluate the start, to find noise."""
    return 4 if budget is None or budget >= 200 else 2


def init(
    dim: int,
    sigma: float,
    *,
    budget: int | None,
    noise: float | None,
    dtype: npt.DTypeLike,
    ceiling: float | None = None,
) -> AutomaticState:
    """The state before the first generation."""
    limit = 64 if budget is None else min(64, max(1, budget // 20))
    pairs = min(dim, limit)
    deterministic = noise == 0.0
    known = noise is not None and 1e-290 < noise < 1e290
    newton = deterministic and dim <= 1000 and (budget is None or budget >= 10 * dim)
    look = deterministic and (newton or budget is None or budget >= 60 * pairs)
    memory = dim if dim <= DENSE else PAIRS
    zero = np.zeros(dim, dtype=dtype)
    many = np.zeros((memory if newton else 0, dim), dtype=dtype)
    return AutomaticState(
        dim=dim,
        sigma0=sigma,
        sigma=sigma,
        budget=-1 if budget is None else budget,
        spent=0,
        noise=noise if noise is not None and known else 0.0,
        noise_weight=3.0 if known else 0.0,
        deterministic=deterministic,
        rough=False,
        newton=newton,
        ceiling=1e3 * sigma if ceiling is None else ceiling,
        top=sigma,
        bend=0.0,
        mode=SURVEY if look else DRIFT,
        pairs=dim if newton else pairs,
        generation=0,
        rate=0.0,
        power=0.0,
        surveyed=0 if look else -1,
        wide=sigma,
        checks=0,
        value=math.nan,
        slope=0.0,
        count=0,
        averaged=0.0,
        ratio=np.zeros(SCALES + 1),
        base=zero.copy(),
        gradient=zero.copy(),
        step=zero.copy(),
        average=zero.copy(),
        s_pairs=many,
        y_pairs=many.copy(),
        scale=0.0,
    )


def plan(state: AutomaticState) -> Plan:
    """What the next generation asks for."""
    length = float(np.linalg.norm(state.step))
    probe = state.step * (math.sqrt(state.dim) / length) if length > 0.0 else None
    if state.mode == CHECK:
        return Plan(1, state.sigma, probe, 1)
    if state.mode == NEWTON:
        return Plan(state.dim, state.sigma, None, 1 if math.isnan(state.value) else 0)
    if state.mode == SURVEY:
        blocks = 1 if state.deterministic else 2
        return Plan(
            blocks * state.pairs,
            state.sigma,
            None,
            1 if state.newton and state.surveyed > 0 else 0,
        )
    centers = 2 if not state.deterministic and state.pairs >= 8 else 0
    return Plan(state.pairs, state.sigma, probe if state.pairs < state.dim else None, centers)


def update(
    state: AutomaticState,
    center: Array,
    f_plus: Array,
    f_minus: Array,
    f_center: Array,
    combine: Combine,
    project: Combine,
    spent: int,
) -> Array:
    """The step of the center; the state is moved on in place."""
    state.spent += spent
    state.generation += 1
    n = len(f_plus)
    if n == 0:
        return np.zeros_like(state.base)
    if state.scale == 0.0:
        state.scale = float(max(np.abs(f_plus).max(), np.abs(f_minus).max())) or 0.0
        state.noise = state.noise / state.scale / state.scale if state.scale else 0.0
    unit = state.scale or 1.0
    f_plus, f_minus, f_center = f_plus / unit, f_minus / unit, f_center / unit
    slopes = (f_plus - f_minus) / (2.0 * state.sigma)
    if state.mode == CHECK:
        return _check(state, center, slopes, f_plus, f_minus, f_center)
    if state.mode == SURVEY:
        return _survey(state, center, f_plus, f_minus, f_center, combine)
    gradient = combine(slopes / (state.dim if n < state.dim else n))
    if state.mode == NEWTON:
        return _newton(state, center, gradient, f_plus, f_minus, f_center)
    return _drift(state, center, gradient, f_plus, f_minus, f_center)


def recommend(state: AutomaticState, center: Array) -> Array:
    """The point to return for a noisy function."""
    return state.average if state.averaged > 0.0 else center


def _progress(state: AutomaticState) -> float:
    if state.budget > 0:
        return state.spent / state.budget
    return state.generation / (state.generation + 100.0)


def _limited(step: Array, limit: float) -> Array:
    length = float(np.linalg.norm(step))
    return step * (limit / length) if length > limit else step


# ------------------------------------------------------------------------------------------- noisy, rough or partial
def _drift(
    state: AutomaticState,
    center: Array,
    gradient: Array,
    f_plus: Array,
    f_minus: Array,
    f_center: Array,
) -> Array:
    norm = float(np.linalg.norm(gradient))
    if norm == 0.0:
        return np.zeros_like(gradient)
    radius = state.sigma * math.sqrt(state.dim)
    length = float(np.linalg.norm(state.step))
    if state.rate <= 0.0:
        state.rate = state.sigma * math.sqrt(min(len(f_plus), state.dim)) / norm
    elif length > 0.0 and state.slope > 0.0:
        after = -float(gradient @ state.step) / length
        # a slope that is left as it was: longer; reversed: shorter.  Expectation zero at the best gain.
        ratio = after / state.slope
        state.rate *= math.exp(KAPPA * max(-1.0, min(1.0, ratio + BIAS)))
    _width(state, f_plus, f_minus, f_center)
    state.slope = norm
    delta = _limited(-state.rate * gradient, 0.5 * radius)
    state.rate = min(state.rate, radius / norm)
    state.step = delta
    if _progress(state) > AVG:
        state.averaged = min(state.averaged + 1.0, 1000.0 if state.budget > 0 else 30.0)
        state.average = state.average + (center + delta - state.average) / state.averaged
    if state.deterministic:
        return _focus(state, center, delta, math.sqrt(min(len(f_plus), state.dim)))
    if state.surveyed < 0 and _progress(state) > WIDE_SHARE and state.pairs >= state.dim:
        state.mode, state.surveyed, state.wide = SURVEY, 0, state.sigma
        return JUMP * (state.average - center) + (1 - JUMP) * delta
    return delta


def _width(state: AutomaticState, f_plus: Array, f_minus: Array, f_center: Array) -> None:
    """Sigma falls only while the differences stand out of the noise, and grows while nothing does."""
    if len(f_center) >= 2:
        state.noise_weight = min(100.0, state.noise_weight + 1.0)
        state.noise += (float(np.var(f_center, ddof=1)) - state.noise) / state.noise_weight
    if state.rough or state.noise <= 0.0:
        return
    power = float(np.mean((f_plus - f_minus) ** 2)) / (2.0 * state.noise)
    state.power = power if state.power == 0.0 else 0.8 * state.power + 0.2 * power
    if len(f_center):
        bend = float(np.mean(f_plus + f_minus)) / 2.0 - float(np.mean(f_center))
        state.bend = bend if state.bend == 0.0 else 0.8 * state.bend + 0.2 * bend
    if state.power > SHRINK:
        factor = max(FALL, 1e-3 * state.sigma0 / state.sigma)
    elif state.power < BLIND and len(f_center) and abs(state.bend) < LIFT * math.sqrt(state.noise):
        factor = min(RISE, max(1.0, state.ceiling / state.sigma))
    elif state.power < GROW:
        factor = min(1.03, max(1.0, state.top / state.sigma))
    else:
        return
    state.sigma *= factor
    state.top = max(state.top, state.sigma)
    state.power = 1.0 + (state.power - 1.0) * factor**2 if state.power > 1.0 else state.power
    state.bend *= factor**2


# ------------------------------------------------------------------------------------------------- narrower scales
def _focus(state: AutomaticState, center: Array, delta: Array, directions: float) -> Array:
    """Without noise: sigma follows the steps; on a rough function it stays wide, then narrows over the budget."""
    if not state.rough:
        moved = float(np.linalg.norm(delta)) / directions
        state.sigma = min(state.sigma0, max(0.9 * state.sigma + 0.1 * moved, 1e-12 * state.sigma0))
        return delta
    if _progress(state) < WIDE_SHARE:
        return delta
    if state.sigma == state.wide:
        delta = JUMP * (state.average - center) + (1 - JUMP) * delta
    state.sigma = 0.5**SCALES * state.wide
    if state.newton:
        state.mode, state.checks, state.value = NEWTON, 0, math.nan
        state.sigma0, state.step = state.sigma, np.zeros_like(delta)
    return delta


def _survey(
    state: AutomaticState,
    center: Array,
    f_plus: Array,
    f_minus: Array,
    f_center: Array,
    combine: Combine,
) -> Array:
    """Compare the gradients at sigma and at narrower scales, at one center: is there more to be seen more closely?"""
    slopes = (f_plus - f_minus) / (2.0 * state.sigma)
    n, k = len(slopes), state.surveyed
    if state.deterministic:
        gradient = combine(slopes / state.dim)
        if k == 0:
            state.gradient, state.surveyed, state.sigma = (
                gradient,
                SCALES,
                state.wide * 0.5**SCALES,
            )
            return np.zeros_like(gradient)
        return _smooth_or_rough(state, center, gradient, f_plus, f_minus, f_center)
    mask = np.arange(n) < n // 2
    first = combine(np.where(mask, slopes, 0.0) / max(n // 2, 1))
    second = combine(np.where(mask, 0.0, slopes) / max(n - n // 2, 1))
    spread = float(np.sum((first - second) ** 2)) / 2.0
    state.ratio[k] = float(first @ second) / spread if spread > 0.0 else 0.0
    state.surveyed += 1
    state.sigma = state.wide * 0.5**state.surveyed
    if state.surveyed > SCALES:
        best = int(np.argmax(state.ratio))
        if best == 0 or state.ratio[best] < max(SNR, 2.0 * state.ratio[0]):
            best = 0
        else:
            state.averaged, state.rough = 0.0, True
        state.mode, state.sigma = DRIFT, state.wide * 0.5**best
    return np.zeros_like(first)


def _smooth_or_rough(
    state: AutomaticState,
    center: Array,
    gradient: Array,
    f_plus: Array,
    f_minus: Array,
    f_center: Array,
) -> Array:
    """Slopes that grow as sigma narrows mean structure below sigma: look wide first, narrow later."""
    wide, near = float(state.gradient @ state.gradient), float(gradient @ gradient)
    if state.newton:
        state.rough = float(np.sum((gradient - state.gradient) ** 2)) > wide
    else:
        state.rough = near > 2.0 * wide
    if not state.rough and state.newton:
        return _newton(state, center, gradient, f_plus, f_minus, f_center)
    state.mode, state.sigma = DRIFT, state.wide
    return np.zeros_like(gradient)


# ------------------------------------------------------------------------------------------------- quasi-Newton
def _newton(
    state: AutomaticState,
    center: Array,
    gradient: Array,
    f_plus: Array,
    f_minus: Array,
    f_center: Array,
) -> Array:
    if len(f_center):
        state.value = float(f_center.mean())
    if state.count >= 0 and state.checks > 0:
        s, y = center - state.base, gradient - state.gradient
        sy = float(s @ y)
        if sy > 1e-8 * float(np.linalg.norm(s)) * float(np.linalg.norm(y)):
            i = state.count % len(state.s_pairs)
            state.s_pairs[i], state.y_pairs[i] = s, y
            state.count += 1
        moved = float(np.linalg.norm(s)) / math.sqrt(state.dim)
        if moved > 0.0:
            state.sigma = max(
                min(0.1 * moved, state.sigma), 0.1 * state.sigma, 1e-12 * state.sigma0
            )
    state.base, state.gradient, state.checks = center.copy(), gradient, 0
    norm = float(np.linalg.norm(gradient))
    if norm == 0.0:
        state.step = np.zeros_like(gradient)
        return state.step
    # mean curvature, from the pair sums, scales the first step
    curvature = float(np.mean(f_plus + f_minus - 2.0 * state.value)) / (state.sigma**2 * state.dim)
    first = 1.0 / curvature if curvature > 0.0 else state.sigma0 * math.sqrt(state.dim) / norm
    p = -_two_loop(state, gradient, first)
    slope = float(p @ gradient)
    if slope >= 0.0:
        state.count = 0
        p = -first * gradient
    reach = max(state.sigma0 * math.sqrt(state.dim), 4.0 * float(np.linalg.norm(state.step)))
    state.step = _limited(p, reach)
    state.slope = float(state.step @ gradient) / float(np.linalg.norm(state.step))
    state.mode = CHECK
    return state.step


def _two_loop(state: AutomaticState, gradient: Array, first: float) -> Array:
    m = len(state.s_pairs)
    order = [i % m for i in range(max(0, state.count - m), state.count)]
    q = gradient.copy()
    alphas = []
    for i in reversed(order):
        rho = 1.0 / float(state.s_pairs[i] @ state.y_pairs[i])
        alpha = rho * float(state.s_pairs[i] @ q)
        q = q - alpha * state.y_pairs[i]
        alphas.append((alpha, rho))
    if order:
        y = state.y_pairs[order[-1]]
        first = float(state.s_pairs[order[-1]] @ y) / float(y @ y)
    q = q * first
    for i, (alpha, rho) in zip(order, reversed(alphas), strict=True):
        q = q + state.s_pairs[i] * (alpha - rho * float(state.y_pairs[i] @ q))
    return q


def _check(
    state: AutomaticState,
    center: Array,
    slopes: Array,
    f_plus: Array,
    f_minus: Array,
    f_center: Array,
) -> Array:
    """One pair along the step at its end: the line search."""
    state.checks += 1
    value = float(f_center.mean()) if len(f_center) else float(np.mean(f_plus + f_minus)) / 2.0
    moved = center - state.base
    length = float(np.linalg.norm(moved))
    zero = np.zeros_like(state.base)
    if length == 0.0:
        state.mode, state.count = NEWTON, 0
        return zero
    before = float(moved @ state.gradient) / length
    after = float(slopes[0]) / math.sqrt(state.dim)
    best = length * before / (before - after) if after > before else 10.0 * length
    direction = moved / length
    if value > state.value + 1e-4 * before * length:
        if state.checks > 10:
            state.mode, state.count = NEWTON, 0
            return -moved
        to = min(max(best if 0 < best < length else 0.0, 0.1 * length), 0.5 * length)
        state.step = direction * to
        return state.step - moved
    if after < 0.5 * before and state.checks < 6:
        state.step = direction * min(best, 4.0 * length)
        return state.step - moved
    state.mode, state.value = NEWTON, value
    return zero
