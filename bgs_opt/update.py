"""What happens when a generation closes: from its values to the next center and sigma.

values -> mean rewards of pairs -> weights -> gradient -> delta -> center -> next generation
(bad ones replaced)    (selection)  (gradient)  (optimizers | automatic)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bgs_opt import automatic
from bgs_opt.automatic import AutomaticState
from bgs_opt.averaging import moving_average
from bgs_opt.bounds import clip
from bgs_opt.config import Config, Factors
from bgs_opt.errors import BGSWarning, SigmaClampedWarning, SkippedUpdateWarning
from bgs_opt.gradient import norm
from bgs_opt.opening import calibrate, jump, next_generation, rescue
from bgs_opt.pairs import Pairs, accepted_pairs, center_rewards, collect, mean_of
from bgs_opt.protocols import Directions, FloatArray, Optimizer
from bgs_opt.selection import direction_weights
from bgs_opt.sigma import CumulativeAdaptation, clamp
from bgs_opt.state import TOLD, Generation, State, record_history

__all__ = [
    "LATE_WINDOW",
    "Event",
    "close_generation",
    "recommended",
]

LATE_WINDOW = 8
"""Closed generations whose ids are still known."""

ASTRAY = 3
"""Generations without a usable pair after which the automatic rule goes back to the best point."""

Event = tuple[type[BGSWarning], str]


def _difference(plus: FloatArray, minus: FloatArray) -> float:
    """Mean of ``|R+ - R-|``; 0 for no pairs."""
    return 2 * mean_of(np.abs(plus / 2 - minus / 2)) if len(plus) else 0.0


def _plain_step(
    config: Config, state: State, optimizer: Optimizer, factor: float | None,
    pairs: Pairs, centers: FloatArray,
) -> tuple[FloatArray, float]:  # fmt: skip
    """Step 3-5 of the method: select, sum, follow. Returns delta and the kept difference."""
    options = config.options
    accepted = accepted_pairs(config, state.open, pairs, centers)
    weights = direction_weights(
        pairs.plus, pairs.minus, top_k=config.top_k, mean_weight=config.mean_weight,
        reward_scale=options.reward_scale, accepted=accepted,
    )  # fmt: skip
    kept = weights != 0
    difference = _difference(pairs.plus[kept], pairs.minus[kept])
    gradient = pairs.weighted_sum(weights, config.dim, config.dtype)
    rate = config.learning_rate * (1.0 if factor is None else factor)
    if isinstance(config.sigma_rule, CumulativeAdaptation) and state.path is not None:
        state.sigma, state.path = config.sigma_rule.update(
            state.sigma, state.path, gradient, weights
        )
        rate *= state.sigma / config.sigma  # the step keeps its proportion to the search radius
    delta, state.optimizer = optimizer.step(gradient, state.optimizer, rate)
    if delta is not gradient:  # perhaps memory that the optimizer keeps
        delta = np.array(delta)
    return delta, difference


def _block(pairs: Pairs, size: int) -> slice:
    """The first whole block of ``size`` pairs, which are an orthogonal basis; else all pairs."""
    number = pairs.index[0] // size if size else np.empty(0, np.int64)
    whole = np.flatnonzero(np.bincount(number) == size) if len(number) else number
    if not len(whole):
        return slice(None)
    start = int(np.searchsorted(number, whole[0]))
    return slice(start, start + size)


def _least_squares(pairs: Pairs, slopes: FloatArray, config: Config) -> FloatArray:
    """The gradient with these slopes along the directions, which are of several bases.

    That of least length where they are fewer than dimensions: its projection.
    """
    rows = [pairs.weighted_sum(unit, config.dim, config.dtype) for unit in np.eye(len(pairs))]
    return np.asarray(np.linalg.lstsq(np.stack(rows), slopes, rcond=1e-6)[0], config.dtype)


def _automatic_step(
    config: Config, state: State, rule: AutomaticState, pairs: Pairs, centers: FloatArray
) -> tuple[FloatArray, float]:
    basis = state.open.basis
    chosen = _block(pairs, basis)
    solve = basis > 0 and chosen == slice(None)  # of no block all pairs were told

    def combine(weights: FloatArray) -> FloatArray:
        if solve:
            return _least_squares(pairs, weights * max(config.dim, len(pairs)), config)
        full = np.zeros(len(pairs), weights.dtype)
        full[chosen] = weights
        return pairs.weighted_sum(full, config.dim, config.dtype)

    center = state.center if config.scale is None else state.center / config.scale
    if state.open.probe is not None and pairs.index[0][0] != 0:  # the one along the step is lost
        return automatic.failed(rule, center, state.open.spent), 0.0
    delta = automatic.update(
        rule, center, -pairs.plus[chosen], -pairs.minus[chosen], -centers, combine,
        state.open.spent,
    )  # fmt: skip
    return delta, _difference(pairs.plus, pairs.minus)


def _move(config: Config, state: State, delta: FloatArray) -> float:
    """Add the step, keep inside the bounds, average. Returns the step's norm."""
    options = config.options
    if config.scale is not None:
        delta = delta * config.scale
    moved = np.asarray(delta, dtype=config.dtype)
    length = norm(moved)
    if not math.isfinite(length):
        return 0.0
    if moved is delta and delta.base is None and state.automatic is None:
        moved += state.center  # the gradient's own memory becomes the new center
    else:
        moved = moved + state.center
    if options.weight_decay:
        moved *= 1 - options.weight_decay
    if config.low is not None and config.high is not None:
        moved = clip(moved, config.low, config.high)
    if np.isfinite(moved).all():
        state.center = moved
    if state.average is not None:
        moving_average(state.average, state.center, options.averaging, state.averaged)
        state.averaged += 1
    return length


def close_generation(
    config: Config, state: State, directions: Directions, factors: Factors
) -> list[Event]:
    """Run the update of a complete generation and open the next one.

    Parameters
    ----------
    config, state : Config, State
        ``state`` is changed.
    directions : Directions
    factors : Factors
        What the schedules say of the open generation.

    Returns
    -------
    list of (category, message)
        Warnings to issue.
    """
    closing = state.open
    events: list[Event] = []
    centers = center_rewards(config, closing)
    pairs = collect(config, state, directions)
    length = difference = 0.0
    if closing.start:
        if calibrate(config, state, centers, pairs):
            length, difference = _step(config, state, pairs, centers, factors)
            events += _next_sigma(config, state, factors.sigma)
    elif len(pairs) < config.options.min_valid:
        state.skipped += 1
        state.num_skipped += 1
        events.append((SkippedUpdateWarning, (
            f"generation {closing.number} closed with {len(pairs)} usable pairs of "
            f"{closing.resolved}, fewer than min_valid = {config.options.min_valid}: no step"
        )))  # fmt: skip
        if state.automatic is not None:
            point = state.center if config.scale is None else state.center / config.scale
            _move(config, state, automatic.failed(state.automatic, point, closing.spent))
    else:
        state.skipped = 0
        length, difference = _step(config, state, pairs, centers, factors)
        events += _next_sigma(config, state, factors.sigma)
    _record(config, state, pairs, centers, length, difference)
    opened = None
    if _stranded(state, centers):
        opened = rescue(config, state)
    elif state.jump:
        jump(config, state)
    _archive(state, closing)
    state.open = opened or next_generation(config, state, closing.number + 1)
    return events


def _stranded(state: State, centers: FloatArray) -> bool:
    """Whether something finite was found though all that is known of the center is that it fails.

    A center with a finite value, or half of the values about it, will do from then on; but the
    automatic rule, which may follow a wrong trail to where nothing is finite, can be lost again.
    """
    told = state.open.values[: state.open.asked][state.open.status[: state.open.asked] == TOLD]
    good = int(np.count_nonzero(np.isfinite(told)))
    well = len(centers) > 0 if state.open.num_center else 0 < 2 * good > len(told)
    again = state.automatic is not None and state.skipped > 0 and state.skipped % ASTRAY == 0
    lost = not well and (not state.alive or again) and state.best_x is not None
    state.alive = state.alive or well or lost
    return lost


def _step(
    config: Config, state: State, pairs: Pairs, centers: FloatArray, factors: Factors
) -> tuple[float, float]:
    """Move the center. Returns the step's norm and the mean difference of the kept pairs."""
    rule, plain = state.automatic, config.optimizer
    if plain is not None:
        delta, difference = _plain_step(config, state, plain, factors.rate, pairs, centers)
    elif rule is not None:
        delta, difference = _automatic_step(config, state, rule, pairs, centers)
    else:
        return 0.0, 0.0
    return _move(config, state, delta), difference


def _next_sigma(config: Config, state: State, factor: float | None) -> list[Event]:
    if factor is not None:
        state.sigma = config.sigma * factor
    state.sigma, clamped = clamp(state.sigma, *config.sigma_limits)
    if not clamped:
        return []
    state.num_clamped += 1
    low, high = config.sigma_limits
    return [(SigmaClampedWarning, f"sigma was kept within [{low:g}, {high:g}]")]


def _record(
    config: Config, state: State, pairs: Pairs, centers: FloatArray, length: float, kept: float
) -> None:
    sign = 1.0 if config.maximize else -1.0
    both = np.concatenate([pairs.plus, pairs.minus])
    mean = sign * mean_of(both) if len(both) else math.nan
    center = sign * mean_of(centers) if len(centers) else math.nan
    state.last_step, state.recent_value, state.recent_center = length, mean, center
    best = -state.best_value if config.maximize else state.best_value
    row: tuple[Any, ...] = (
        state.open.number, state.num_evaluations, best, mean, center,
        state.open.sigma, length, kept,
    )  # fmt: skip
    record_history(state, row)


def _archive(state: State, closing: Generation) -> None:
    """Remember the ids of the last generations; a center only while something may still come."""
    if closing.settled:
        closing.center = closing.probe = None
    state.closed = [*state.closed, closing][-LATE_WINDOW:]


def recommended(config: Config, state: State) -> FloatArray:
    """The point to use under noise: an average of the center where one is kept."""
    if state.average is not None and state.averaged:
        point = state.average.copy()
    elif state.automatic is not None:
        point = np.array(automatic.recommend(state.automatic, state.center))
        if config.scale is not None and state.automatic.averaged > 0:
            point = point * config.scale
        if config.low is not None and config.high is not None:
            point = clip(point, config.low, config.high)
    else:
        return state.center
    point = np.asarray(point, dtype=state.center.dtype)
    point.setflags(write=False)
    return point
