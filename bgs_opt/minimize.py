"""minimize(): a function, a budget, and nothing to tune.

The step rule is :mod:`bgs_opt.automatic` unless an optimizer is named.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bgs_opt.bgs import BGS
from bgs_opt.config import bounds_of
from bgs_opt.driver import MESSAGES, Driver, Limits
from bgs_opt.evaluation import Objective, evaluator_for
from bgs_opt.options import Options
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import flag, integer, real, real_vector, wrong_type, wrong_value

__all__ = ["minimize"]

EVALUATIONS_PER_DIMENSION = 400
SIGMA_SHARE = 0.3
"""Start sigma as a share of the bounds' half width, or of the size of x0 without bounds."""


def minimize(
    fun: Callable[..., Any],
    x0: npt.ArrayLike | None = None,
    *,
    args: tuple[Any, ...] = (),
    bounds: object = None,
    sigma: float | None = None,
    budget: int | None = None,
    workers: int | Executor = 1,
    vectorized: bool = False,
    noisy: bool | None = None,
    callback: Callable[..., Any] | None = None,
    seed: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 30.0,
    progress: bool = False,
    timeout: float | None = None,
    retries: int = 1,
    max_time: float | None = None,
    maxiter: int | None = None,
    target: float | None = None,
    tol: float | None = None,
    pass_seed: bool = False,
    asynchronous: bool = False,
    **bgs_options: Any,
) -> Any:
    """Minimise (or maximise) a black box, noisy or not.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float`` for x of shape (d,); with ``vectorized`` it takes (n, d) and
        returns (n,). NaN and infinities are points that failed.
    x0 : array_like of float, shape (d,), optional
        Start; by default the middle of finite bounds.
    args : tuple
        Further arguments of ``fun``.
    bounds : (low, high) or scipy.optimize.Bounds, optional
        Each side a scalar or of shape (d,). Every point evaluated lies inside.
    sigma : float, optional
        Start size of the perturbations; by default 0.3 of the half width of finite bounds (each
        coordinate in proportion), else 0.3 of the root mean square of x0, or 0.3.
    budget : int, optional
        Evaluations in all; by default 400 d, or no limit if ``max_time`` is given.
    workers : int or concurrent.futures.Executor
        Worker processes, or an executor of any kind (threads, Dask, MPI, ...). The result is the
        same for any number of them.
    vectorized : bool
        See ``fun``; with one worker only.
    noisy : bool, optional
        Whether values of one point differ; found by a few evaluations of the start if None.
        It decides what is returned: the average of the center, or the best point seen.
    callback : callable, optional
        ``callback(intermediate_result)`` with an OptimizeResult, if its parameter has that name,
        else ``callback(xk)``, after every update; StopIteration or True ends the run.
    seed : None, int, SeedSequence or Generator
        The same seed gives the same bits, serial or parallel.
    checkpoint : path, optional
        File that the run is kept in, every ``checkpoint_seconds`` and at its end, however it ends.
    resume : bool
        Continue the checkpoint if it exists. An existing one is never overwritten without it.
    checkpoint_seconds : float
        See ``checkpoint``.
    progress : bool
        Show a progress bar.
    timeout : float, optional
        Seconds that an evaluation may take; its process is killed and it is tried again (given
        up, for an executor of yours).
    retries : int
        How often an evaluation is tried again whose process died or was killed.
    max_time : float, optional
        Seconds that the whole run may take; evaluations under way are waited for.
    maxiter : int, optional
        Generations.
    target : float, optional
        Stop when a value is at least this good.
    tol : float, optional
        Stop when sigma and the last step (root mean square of its coordinates) are below.
    pass_seed : bool
        Call ``fun(x, *args, seed=...)``: seeds are common to both ends of a pair (see Options).
    asynchronous : bool
        Grow generations to keep every worker busy, at the price that the result depends on the
        order in which values arrive.
    **bgs_options
        Further arguments of :class:`bgs_opt.BGS`: ``optimizer`` ("auto" by default),
        ``maximize``, ``sampler``, ``num_directions``, ``options``, ...

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``; ``fun`` (its value; under noise the mean of up to ten evaluations of x, with
        standard error ``fun_error``); ``success``, ``status``, ``message``; ``nfev``, ``nit``,
        ``nlost``; ``noisy``; ``best`` (x and value of the best seen); ``center``; ``sigma``;
        ``history`` (arrays by name, one number a generation).

    Raises
    ------
    ArgumentValueError, ArgumentTypeError, CheckpointError
        Before anything is evaluated. An exception of ``fun`` is raised as it is, with the
        candidate's id in a note, after finished values were told and the checkpoint written.

    Examples
    --------
    >>> import numpy as np
    >>> from bgs_opt import minimize
    >>> result = minimize(lambda x: float(np.sum((x - 1) ** 2)), np.zeros(5), seed=0)
    >>> np.round(result.x, 3)
    array([1., 1., 1., 1., 1.])
    """
    limits = Limits(
        _optional("max_time", max_time), None if target is None else real("target", target),
        _optional("tol", tol), None if maxiter is None else integer("maxiter", maxiter, 1),
    )  # fmt: skip
    timeout = _optional("timeout", timeout)
    _check_calls(fun, args, callback, workers, vectorized)
    if budget is None and max_time is None and x0 is None and bounds is None:
        wrong_value("x0", "a start, or finite bounds to take the middle of", None)
    start, step, scale = _start(x0, bounds, sigma)
    if budget is None and max_time is None:
        budget = EVALUATIONS_PER_DIMENSION * len(start)
    options = bgs_options.pop("options", None) or Options()
    if noisy is not None:
        options = dataclasses.replace(options, noisy=flag("noisy", noisy))
    elif options.noisy is None and not options.start_evaluations:
        options = dataclasses.replace(options, start_evaluations=_starts(budget))
    if scale is not None and options.scale is None:
        options = dataclasses.replace(options, scale=scale)
    bgs_options.setdefault("optimizer", "auto")
    opt = BGS(start, step, bounds=bounds, budget=budget, seed=seed, options=options, **bgs_options)
    opt = _resumed(opt, checkpoint, flag("resume", resume), seed is not None)
    objective = Objective(fun, tuple(args), flag("pass_seed", pass_seed))
    reserve = 0 if opt.noisy is False or budget is None else min(10, budget // 100)
    evaluator = evaluator_for(
        objective, workers, vectorized=vectorized, timeout=timeout,
        retries=integer("retries", retries, 0),
    )  # fmt: skip
    bar = _bar(flag("progress", progress), opt)
    driver = Driver(
        opt, evaluator, dataclasses.replace(limits, reserve=reserve),
        lambda: _call(callback, opt), bar.update, checkpoint,
        real("checkpoint_seconds", checkpoint_seconds, 0), flag("asynchronous", asynchronous),
        pass_seed,
    )  # fmt: skip
    try:
        reason = driver.run()
        return _result(opt, driver, reason, reserve)
    finally:
        bar.close()
        evaluator.close()


def _optional(name: str, value: float | None) -> float | None:
    return None if value is None else real(name, value, 0, open_low=True)


def _starts(budget: int | None) -> int:
    """Evaluations of the start that tell noise from none."""
    return 4 if budget is None or budget >= 200 else 2


def _check_calls(
    fun: object, args: object, callback: object, workers: object, vectorized: object
) -> None:
    if not callable(fun):
        wrong_type("fun", "a callable", fun)
    if not isinstance(args, tuple):
        wrong_type("args", "a tuple of further arguments of fun", args)
    if callback is not None and not callable(callback):
        wrong_type("callback", "a callable or None", callback)
    if not isinstance(workers, Executor):
        integer("workers", workers, 1, 4096)
    if flag("vectorized", vectorized) and workers != 1:
        wrong_value("workers", "1 with vectorized=True", workers)


def _start(
    x0: npt.ArrayLike | None, bounds: object, sigma: float | None
) -> tuple[FloatArray, float, FloatArray | None]:
    """Start, sigma, and the scale of each coordinate where finite bounds give one."""
    if x0 is None:
        sides = getattr(bounds, "lb", None), getattr(bounds, "ub", None)
        low, high = sides if sides[0] is not None else _two(bounds)
        low, high = np.broadcast_arrays(
            np.atleast_1d(np.asarray(low, float)), np.asarray(high, float)
        )
        if low.ndim != 1 or not (np.isfinite(low) & np.isfinite(high)).all():
            wrong_value("x0", "a start, as the bounds are not finite", None)
        start: FloatArray = low + (high - low) / 2
    else:
        start = real_vector("x0", x0)
    low_, high_ = bounds_of(bounds, len(start), start.dtype)
    if sigma is not None:
        return start, sigma, None
    if low_ is not None and high_ is not None:
        half = (high_ - low_) / 2
        if np.isfinite(half).all() and (half > 0).any():
            widest = float(half.max())
            share = np.where(half > 0, half / widest, 1.0)
            return start, SIGMA_SHARE * widest, None if (share == 1).all() else share
    finite = start[np.isfinite(start)]
    size = float(np.sqrt(np.mean(np.square(finite / 1.0)))) if finite.size else 0.0
    return start, SIGMA_SHARE * size if math.isfinite(size) and size > 0 else SIGMA_SHARE, None


def _two(bounds: object) -> tuple[Any, Any]:
    if not isinstance(bounds, (tuple, list, np.ndarray)) or len(bounds) != 2:
        wrong_type("bounds", "(low, high) or scipy.optimize.Bounds", bounds)
    return bounds[0], bounds[1]


def _resumed(
    opt: BGS, checkpoint: str | os.PathLike[str] | None, resume: bool, seeded: bool
) -> BGS:
    """The run of the checkpoint where there is one, after a check that it is the same run."""
    if checkpoint is None:
        if resume:
            wrong_value("checkpoint", "the path of the run to resume", None)
        return opt
    if not isinstance(checkpoint, (str, os.PathLike)):
        wrong_type("checkpoint", "a path", checkpoint)
    path = Path(checkpoint)
    if not path.exists():
        if not path.resolve().parent.is_dir():
            wrong_value("checkpoint", "a path in a folder that exists", os.fspath(path))
        return opt
    if not resume:
        wrong_value(
            "checkpoint", "a new path; or resume=True to continue the run that it holds", str(path)
        )
    kept = BGS.load(path)
    if different := opt.differs(kept, seeded=seeded):
        wrong_value(
            ", ".join(different), f"what the run in {path} was started with (or another path)",
            "something else",
        )  # fmt: skip
    kept.set_budget(opt.budget)
    return kept


def _call(callback: Callable[..., Any] | None, opt: BGS) -> bool:
    """Call the user's callback; True if it wants to stop."""
    if callback is None:
        return False
    try:
        names = list(inspect.signature(callback).parameters)
    except (TypeError, ValueError):
        names = []
    try:
        if names == ["intermediate_result"]:
            return bool(callback(intermediate_result=_intermediate(opt)))
        return bool(callback(np.array(opt.recommendation)))
    except StopIteration:
        return True


def _intermediate(opt: BGS, **more: Any) -> Any:
    from scipy.optimize import OptimizeResult

    value = opt.best.value if opt.noisy is False else opt.recent_value
    return OptimizeResult(
        {"x": np.array(opt.recommendation), "fun": value, "nfev": opt.num_evaluations,
         "nit": opt.generation, "nlost": opt.counts["discarded"], "noisy": opt.noisy,
         "best": opt.best, "center": opt.center, "sigma": opt.sigma, **more}
    )  # fmt: skip


def _result(opt: BGS, driver: Driver, reason: str, reserve: int) -> Any:
    status, success, message = MESSAGES[reason]
    x = np.array(opt.recommendation)
    result = _intermediate(
        opt, x=x, status=status, success=success, message=message, history=opt.history
    )
    values: FloatArray = np.empty(0)
    if opt.noisy is not False and reason != "interrupted":
        values = driver.final(x, reserve)
        result.nfev += len(values)
    if len(values):
        result.fun = float(values.mean())
        result.fun_error = float(values.std(ddof=1) / math.sqrt(len(values))) if (
            len(values) > 1
        ) else math.nan  # fmt: skip
    return result


def _bar(show: bool, opt: BGS) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=opt.budget, initial=opt.num_evaluations, disable=not show, unit="eval",
        desc="minimize",
    )  # fmt: skip
