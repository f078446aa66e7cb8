"""The automatic rule without noise: full gradients, a quasi-Newton step, a line search.

With N = d orthogonal directions the estimate of eq. 4 is the central-difference gradient. The
step is -H g with H the limited-memory BFGS matrix of successive gradients (Nocedal 1980, "Updating
quasi-Newton matrices with limited storage"); a CHECK generation of three evaluations, the value
at the step's end and one pair along it, says whether the step goes on, back, or is taken.
"""

from __future__ import annotations

import math

import numpy as np

from bgs_opt.automatic_state import CHECK, NEWTON, Array, AutomaticState, Values, limited

__all__ = ["eager_search", "line_search", "newton_step", "retreat"]

FOLLOW = 0.1  # sigma as a share of the last step
ROUNDING = 1e-11  # differences below this share of the values are rounding


def newton_step(state: AutomaticState, center: Array, gradient: Array, f: Values) -> Array:
    """Remember a secant pair, and take the quasi-Newton step."""
    if len(f.center):
        state.value = float(f.center.mean())
    if state.checks > 0:
        _remember(state, center - state.base, gradient - state.gradient)
    differences, level = float(np.abs(f.plus - f.minus).max()), float(np.abs(f.plus).max())
    sigma = state.sigma
    if differences <= ROUNDING * level:
        state.sigma = max(sigma, min(4.0 * sigma, state.sigma0))
    state.base, state.gradient, state.mode = center.copy(), gradient, NEWTON
    state.checks, state.blocked = 0, False
    norm = float(np.linalg.norm(gradient))
    if norm == 0.0:
        state.step = np.zeros_like(gradient)
        return state.step
    curvature = float(np.mean(f.plus + f.minus - 2.0 * state.value)) / sigma**2 / state.dim
    first = 1.0 / curvature if curvature > 0.0 else state.sigma0 * math.sqrt(state.dim) / norm
    step = -_two_loop(state, gradient, first)
    if not float(step @ gradient) < 0.0:
        state.count, step = 0, -first * gradient
    state.step = limited(step, _reach(state))
    state.mode = CHECK
    return state.step


def _remember(state: AutomaticState, s: Array, y: Array) -> None:
    length = float(np.linalg.norm(s))
    if float(s @ y) > 1e-8 * length * float(np.linalg.norm(y)):
        i = state.count % len(state.s_pairs)
        state.s_pairs[i], state.y_pairs[i] = s, y
        state.count += 1
    if length > 0.0:
        follow = FOLLOW * length / math.sqrt(state.dim)
        state.sigma = max(min(follow, state.sigma), 0.1 * state.sigma, state.floor)


def _reach(state: AutomaticState) -> float:
    """The longest step: four times the last one, within sane multiples of the start's width."""
    width = state.sigma0 * math.sqrt(state.dim)
    return min(max(width, 4.0 * float(np.linalg.norm(state.step))), 1e4 * width)


def _two_loop(state: AutomaticState, gradient: Array, first: float) -> Array:
    """The limited-memory BFGS product (Nocedal 1980)."""
    m = len(state.s_pairs)
    order = [i % m for i in range(max(0, state.count - m), state.count)]
    q = gradient.copy()
    done: list[tuple[int, float, float]] = []
    for i in reversed(order):
        rho = 1.0 / float(state.s_pairs[i] @ state.y_pairs[i])
        alpha = rho * float(state.s_pairs[i] @ q)
        q = q - alpha * state.y_pairs[i]
        done.append((i, alpha, rho))
    if order:
        y = state.y_pairs[order[-1]]
        first = float(state.s_pairs[order[-1]] @ y) / float(y @ y)
    q = q * first
    for i, alpha, rho in reversed(done):
        q = q + state.s_pairs[i] * (alpha - rho * float(state.y_pairs[i] @ q))
    return np.asarray(q)


def retreat(state: AutomaticState, center: Array) -> Array:
    """The step back from a trial point that has no finite value."""
    state.checks, state.blocked = state.checks + 1, True
    return _back(state, center - state.base, 0.25)


def _back(state: AutomaticState, moved: Array, share: float) -> Array:
    """Keep a share of the step, or give the direction up after eleven trials."""
    if state.checks > 10:
        state.mode, state.count = NEWTON, 0
        share = 0.0
    state.step = moved * share
    back: Array = state.step - moved
    return back


def eager_search(state: AutomaticState, center: Array, gradient: Array, f: Values) -> Array:
    """The line search with a full gradient at the step's end, which may be the next base."""
    moved = center - state.base
    length = float(np.linalg.norm(moved))
    step = line_search(state, center, float(gradient @ moved) / max(length, 1e-300), f)
    return newton_step(state, center, gradient, f) if state.mode == NEWTON else step


def line_search(state: AutomaticState, center: Array, after: float, f: Values) -> Array:
    """The line search: value and slope along the step, at its end."""
    if not len(f.center):  # it failed, or was lost
        return retreat(state, center)
    state.checks += 1
    value = float(f.center.mean())
    moved = center - state.base
    length = float(np.linalg.norm(moved))
    if length == 0.0:
        state.mode, state.count = NEWTON, 0
        return np.zeros_like(moved)
    before = float(moved @ state.gradient) / length
    best = length * before / (before - after) if after > before else 10.0 * length
    if value > state.value + 1e-4 * before * length:  # Armijo's condition
        return _back(state, moved, min(max(best / length, 0.1), 0.5))
    if after < 0.5 * before and state.checks < 6 and not state.blocked:
        state.step = moved * (min(best, length + _reach(state)) / length)
        on: Array = state.step - moved
        return on
    state.mode, state.value = NEWTON, value
    return np.zeros_like(moved)
