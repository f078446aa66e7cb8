"""Whether what a file says can be a run: types, ranges and sizes of a description and a state.

A checksum finds damage and no forgery. What passes here can be asked and told like any run: no
number of it names more memory than the arrays of the file have.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NoReturn, get_type_hints

import numpy as np

from bgs_opt.automatic_state import SCALES, SURVEY, AutomaticState
from bgs_opt.box import bounds_of
from bgs_opt.config import Config, default_directions
from bgs_opt.directions import Factorised
from bgs_opt.errors import BGSError, CheckpointError
from bgs_opt.optimizers import SGD, Adam, ClipUp
from bgs_opt.options import Options, layout_of
from bgs_opt.protocols import Sampler
from bgs_opt.sigma import CumulativeAdaptation, ExponentialDecay, InverseDecay, LinearDecay
from bgs_opt.state import ASKED, HISTORY, RETURNED, TOLD, Generation, State
from bgs_opt.update import LATE_WINDOW
from bgs_opt.validation import describe, flag, integer, real

__all__ = ["check"]

_LARGEST = 1 << 1000  # still a float
_SCHEDULES = (ExponentialDecay, InverseDecay, LinearDecay)
_NUMBERS: dict[type, Callable[[str, object], object]] = {
    bool: flag, int: lambda name, value: integer(name, value, -1, _LARGEST),
}  # fmt: skip


def check(config: object, state: object) -> None:
    """See that a description and a state are those of one run.

    Raises
    ------
    CheckpointError
        Naming what cannot be.
    """
    if not isinstance(config, Config) or not isinstance(state, State):
        raise CheckpointError("expected a run, got something else")
    try:
        _check_config(config)
        _check_state(config, state)
    except CheckpointError:
        raise
    except BGSError as error:
        raise CheckpointError(str(error)) from error


def _wrong(name: str, expected: str, came: object) -> NoReturn:
    raise CheckpointError(f"{name}: expected {expected}; got {describe(came)}")


def _need(holds: object, name: str, expected: str, came: object) -> None:
    if not holds:
        _wrong(name, expected, came)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _check_numbers(value: Any) -> None:
    """Fields that are named int, bool or float are; NaN and infinities are seen to elsewhere."""
    kind: Any = type(value)
    for name, hint in _hints(kind).items():
        number = getattr(value, name)
        if hint in _NUMBERS:
            _NUMBERS[hint](name, number)
        elif hint is float:
            plain = isinstance(number, float) or (type(number) is int and abs(number) < _LARGEST)
            _need(plain, name, "a number", number)


def _check_vector(name: str, vector: Any, config: Config) -> None:
    got = str(getattr(vector, "dtype", type(vector))), np.shape(vector)
    if got != (str(np.dtype(config.dtype)), (config.dim,)):
        raise CheckpointError(
            f"{name}: expected {config.dim} numbers of {config.dtype}; got {got[0]} of "
            f"shape {got[1]}"
        )


# ---- the description


def _check_config(config: Config) -> None:
    dtypes = [np.dtype(kind).str for kind in (np.float32, np.float64)]
    _need(config.dtype in dtypes, "dtype", f"one of {dtypes}", config.dtype)
    integer("dim", config.dim, 1, 1 << 62)
    integer("entropy", config.entropy, 0, (1 << 128) - 1)
    flag("maximize", config.maximize)
    _need(isinstance(config.start, str), "start", "a text", config.start)
    real("sigma", config.sigma, 0, open_low=True)
    most = max(1 << 24, default_directions(1, None, 1 << 20))
    integer("top_k", config.top_k, 1, integer("num_directions", config.num_directions, 1, most))
    real("mean_weight", config.mean_weight, 0)
    real("learning_rate", config.learning_rate, 0, open_low=config.optimizer is not None)
    if config.budget is not None:
        integer("budget", config.budget, 1)
    _check_objects(config)
    for name in ("low", "high", "scale"):
        if getattr(config, name) is not None:
            _check_vector(name, getattr(config, name), config)
    if config.low is not None or config.high is not None:
        bounds_of((config.low, config.high), config.dim, config.dtype)
    if config.scale is not None:
        good = (np.isfinite(config.scale) & (config.scale > 0)).all()
        _need(good, "scale", "finite numbers > 0", config.scale)
    low, high = config.sigma_limits
    _need(low <= high, "min_sigma", f"at most {high:g}", low)


def _check_objects(config: Any) -> None:
    """Sampler, optimizer, schedules, options and layout."""
    _need(isinstance(config.options, Options), "options", "Options", config.options)
    _need(config.options.common_seeds, "common_seeds", "a name", None)
    integer("min_valid", config.options.min_valid, 1, config.num_directions)
    sampler = isinstance(config.sampler, Sampler) and not isinstance(config.sampler, type)
    _need(sampler, "sampler", "a sampler", config.sampler)
    rules = (type(None), SGD, Adam, ClipUp)
    _need(isinstance(config.optimizer, rules), "optimizer", "an optimizer", config.optimizer)
    of_sigma = (type(None), CumulativeAdaptation, *_SCHEDULES)
    _need(isinstance(config.sigma_rule, of_sigma), "sigma_rule", "a rule", config.sigma_rule)
    schedule = config.options.learning_rate_schedule
    _need(isinstance(schedule, (type(None), *_SCHEDULES)), "learning_rate_schedule",
          "a schedule", schedule)  # fmt: skip
    _need(isinstance(config.layout, dict), "layout", "a dict", config.layout)
    if config.layout or isinstance(config.sampler, Factorised):
        layout_of(config.layout, config.dim)
        shapes = config.layout.values()
        _need(all(isinstance(s, tuple) for s in shapes), "layout", "tuples", config.layout)


# ---- the state


def _check_state(config: Config, state: Any) -> None:
    _check_numbers(state)
    vectors: dict[str, Any] = {
        "average": state.average, "best_x": state.best_x, "path": state.path,
    }  # fmt: skip
    for name, vector in vectors.items():
        if vector is not None:
            _check_vector(name, vector, config)
    _check_vector("center", state.center, config)
    _need(np.isfinite(state.center).all(), "center", "finite numbers", state.center)
    real("sigma", state.sigma, 0, open_low=True)
    adapted = isinstance(config.sigma_rule, CumulativeAdaptation)
    _need(adapted <= (state.path is not None), "path", "a vector", None)
    averaged = config.options.averaging > 0
    _need(averaged == (state.average is not None), "average", "a vector or None", state.average)
    best = state.best_x is not None
    fits = math.isfinite(state.best_value) if best else state.best_value == math.inf
    _need(fits, "best_value", "a finite number of a best point", state.best_value)
    if state.noisy is not None:
        flag("noisy", state.noisy)
    names = isinstance(state.warned, list) and all(isinstance(n, str) for n in state.warned)
    _need(names, "warned", "names of warnings", state.warned)
    _check_counts(state)
    _check_history(state)
    _check_optimizer(config, state)
    _check_generations(config, state)


def _check_counts(state: Any) -> None:
    for name in ("num_evaluations", "num_late", "num_failed", "num_discarded", "skipped",
                 "num_skipped", "num_clamped", "averaged"):  # fmt: skip
        integer(name, getattr(state, name), 0)


def _check_history(state: Any) -> None:
    table = state.history
    fits = isinstance(table, np.ndarray) and table.dtype == np.float64
    fits = fits and table.ndim == 2 and table.shape[1] == len(HISTORY)
    _need(fits, "history", f"rows of {len(HISTORY)} numbers", table)
    integer("history_rows", state.history_rows, 0, len(table))
    integer("history_stride", state.history_stride, 1, 1 << 62)


def _check_optimizer(config: Config, state: Any) -> None:
    """What the rule needs is there; more may be, of an optimizer of torch."""
    _need(isinstance(state.optimizer, dict), "optimizer", "a dict", state.optimizer)
    for name, value in state.optimizer.items():
        if np.ndim(value):
            _check_vector(name, value, config)
        else:
            plain = value is None or isinstance(value, (bool, int, float, np.ndarray))
            _need(plain, name, "a number or a vector", value)
    needed = config.optimizer.init(np.zeros(0, config.dtype)) if config.optimizer else {}
    for name, example in needed.items():
        found = state.optimizer.get(name)
        if isinstance(example, int):
            integer(name, found, 0, _LARGEST)
        else:
            _need(np.ndim(found), name, "a vector", found)
    if state.automatic is not None:
        _need(config.optimizer is None, "automatic", "None beside an optimizer", state.automatic)
        _check_automatic(config, state.automatic)


def _check_automatic(config: Config, rule: Any) -> None:
    _need(isinstance(rule, AutomaticState), "automatic", "a state of the rule", rule)
    _check_numbers(rule)
    for name in ("base", "gradient", "step", "average"):
        _check_vector(name, getattr(rule, name), config)
    for name, size in (("ratio", SCALES + 1), ("bends", 5)):
        array = getattr(rule, name)
        flat = isinstance(array, np.ndarray) and array.dtype == np.float64
        _need(flat and array.shape == (size,), name, f"{size} numbers", array)
    for array in (rule.s_pairs, rule.y_pairs):
        fits = isinstance(array, np.ndarray) and array.dtype == np.dtype(config.dtype)
        fits = fits and array.ndim == 2 and array.shape[1] == config.dim
        _need(fits, "s_pairs, y_pairs", f"rows of {config.dim} numbers of {config.dtype}", array)
    _need(len(rule.s_pairs) == len(rule.y_pairs), "y_pairs", "as many as s_pairs", rule.y_pairs)
    _need(len(rule.s_pairs) or not rule.newton, "s_pairs", "rows", rule.s_pairs)
    integer("dim", rule.dim, config.dim, config.dim)
    integer("pairs", rule.pairs, 1, max(config.dim, 1 << 24))
    integer("mode", rule.mode, 0, SURVEY)
    integer("surveyed", rule.surveyed, -1, SCALES)
    for name in ("spent", "generation", "checks", "count"):
        integer(name, getattr(rule, name), 0)
    for name in ("sigma", "sigma0", "floor", "ceiling", "top", "wide"):
        _need(getattr(rule, name) > 0, name, "a number > 0", getattr(rule, name))


# ---- its generations


def _check_generations(config: Config, state: Any) -> None:
    closed = state.closed
    _need(isinstance(closed, list) and len(closed) <= LATE_WINDOW, "closed",
          f"at most {LATE_WINDOW} generations", closed)  # fmt: skip
    every = [*closed, state.open]
    for generation in every:
        _need(isinstance(generation, Generation), "open, closed", "generations", generation)
        _check_generation(config, generation)
    numbers = [generation.number for generation in every]
    first = numbers[-1] - len(closed)
    _need(numbers == [*range(first, first + len(every))], "number", "one after the other", numbers)
    _check_vector("center of the open generation", state.open.center, config)


def _check_generation(config: Config, generation: Generation) -> None:
    _check_numbers(generation)
    for what in ("center", "probe"):
        vector = getattr(generation, what)
        if vector is not None:
            _check_vector(f"{what} of generation {generation.number}", vector, config)
    real("sigma", generation.sigma, 0, open_low=True)
    integer("number", generation.number, 0, (1 << 31) - 1)
    integer("num_center", generation.num_center, 0, 1 << 24)
    integer("repeats", generation.repeats, config.options.repeats, config.options.repeats)
    most = max(1 << 24, config.dim)
    integer("target", generation.target, 0, most)
    integer("basis", generation.basis, 0, config.dim)
    integer("required", generation.required, 0, most)
    if generation.patience is not None:
        integer("patience", generation.patience, 1, _LARGEST)
    integer("hair", generation.hair, -1)
    for name in ("spent", "resolved", "center_left", "asked"):
        integer(name, getattr(generation, name), 0)
    _check_books(generation)


def _check_books(generation: Generation) -> None:
    """Values, their status, and what is still out of each pair agree with one another."""
    kinds = {"values": np.float64, "status": np.int8, "left": np.int32}
    for name, kind in kinds.items():
        array = getattr(generation, name)
        flat = isinstance(array, np.ndarray) and array.dtype == kind and array.ndim == 1
        _need(flat, name, f"numbers of {np.dtype(kind)}", array)
    asked, size = generation.asked, 2 * generation.repeats
    fits = asked <= len(generation.values) == len(generation.status)
    _need(fits, "asked", f"at most {len(generation.values)}", asked)
    status = generation.status[:asked]
    _need(((status >= ASKED) & (status <= RETURNED)).all(), "status", "0 to 3", status)
    of_center, of_pairs = status[: generation.num_center], status[generation.num_center :]
    left = generation.num_center - int(np.count_nonzero(of_center != ASKED))
    integer("center_left", generation.center_left, left, left)
    spent = int(np.count_nonzero(status == TOLD))
    integer("spent", generation.spent, spent, spent)
    pairs = -(-len(of_pairs) // size)
    _need(pairs <= len(generation.left), "left", f"{pairs} numbers or more", generation.left)
    settled = np.zeros(pairs * size, bool)
    settled[: len(of_pairs)] = of_pairs != ASKED
    due = size - settled.reshape(pairs, size).sum(axis=1)
    given, rest = generation.left[:pairs], generation.left[pairs:]
    agree = np.where(given == -1, due == 0, given == due).all() and (rest == size).all()
    _need(agree, "left", "what is still out of each pair", given)
    whole = int(np.count_nonzero(due == 0))
    integer("resolved", generation.resolved, whole, whole)
