"""minimize(): a function, a budget, and nothing to tune.

The step rule is :mod:`bgs_opt.automatic` unless an optimizer is named.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import os
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from bgs_opt.bgs import BGS
from bgs_opt.driver import MESSAGES, Driver, Limits
from bgs_opt.evaluation import Objective
from bgs_opt.executors import evaluator_for
from bgs_opt.protocols import FloatArray
from bgs_opt.start import Keeper, checkpoint_of, options_of, resumed, start_of
from bgs_opt.state import Best
from bgs_opt.validation import flag, integer, real, wrong_type, wrong_value

__all__ = ["minimize"]

EVALUATIONS_PER_DIMENSION = 400
START_EVALUATIONS = 4
"""Evaluations of the start that tell noise from none, where the step rule does not choose."""


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
        coordinate in proportion), else 0.3 of the root mean square of x0, or 0.3. The automatic
        rule changes it: under noise up to ten times the start, and further where nothing can be
        seen; ``Options.max_sigma`` and finite bounds limit that.
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
        Seconds that an evaluation may take; then its process is killed and it is tried again. In
        an executor of yours it is given up, as it cannot be stopped; the time counts from when
        it runs, where the executor tells that.
    retries : int
        How often an evaluation is tried again whose process died or was killed. After that its
        pair is dropped, with a warning.
    max_time : float, optional
        Seconds that the whole run may take; what is under way then is given up (waited for, if
        it is in this process).
    maxiter : int, optional
        Generations.
    target : float, optional
        Stop when a value is at least this good. It is looked at whenever values are told, so how
        many evaluations that takes depends on the speed of ``fun`` and the number of workers.
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
        standard error ``fun_error``, or where the run was cut short the mean of the last
        generation); ``success``, ``status``, ``message``; ``nfev``, ``nit``, ``nlost``
        (evaluations given up); ``noisy``; ``best`` (x and value of the best seen); ``center``;
        ``sigma``; ``history`` (arrays by name, one number a generation). Ctrl-C ends a run like
        a limit does, with ``success=False``.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError, CheckpointError
        Before anything is evaluated. An exception of ``fun`` is raised as it is, with the
        candidate's id in a note, after finished values were told and the checkpoint written.
    WorkerStartError
        If worker processes cannot start (also RuntimeError); the message says why.

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
    _check_calls(fun, args, callback, workers, flag("vectorized", vectorized), timeout)
    objective = Objective(fun, args, flag("pass_seed", pass_seed))
    start, step, scale = start_of(x0, bounds, sigma)
    if budget is not None:
        budget = integer("budget", budget, 1)
    elif max_time is None:
        budget = EVALUATIONS_PER_DIMENSION * len(start)
    bgs_options = _bgs_options(bgs_options, noisy, scale)
    opt = BGS(start, step, bounds=bounds, budget=budget, seed=seed, **bgs_options)
    path = checkpoint_of(checkpoint, flag("resume", resume))
    if path is not None and path.exists():
        opt = resumed(opt, path, seeded=seed is not None)
    reserve = 0 if budget is None else min(10, -(-budget // 100))
    make = functools.partial(
        evaluator_for, objective, workers, vectorized=vectorized, timeout=timeout,
        retries=integer("retries", retries, 0),
    )  # fmt: skip
    keeper = Keeper(path, real("checkpoint_seconds", checkpoint_seconds, 0))
    flag("asynchronous", asynchronous)
    with _bar(flag("progress", progress), opt) as bar:
        driver = Driver(
            opt, make, dataclasses.replace(limits, reserve=reserve), lambda: _call(callback, opt),
            bar.update, keeper, asynchronous, pass_seed,
        )  # fmt: skip
        reason, values = driver.run()
    return _result(opt, driver, reason, values)


def _optional(name: str, value: float | None) -> float | None:
    return None if value is None else real(name, value, 0, open_low=True)


def _check_calls(
    fun: object, args: object, callback: object, workers: object, vectorized: bool,
    timeout: float | None,
) -> None:  # fmt: skip
    if not callable(fun):
        wrong_type("fun", "a callable", fun)
    if not isinstance(args, tuple):
        wrong_type("args", "a tuple of further arguments of fun", args)
    if callback is not None and not callable(callback):
        wrong_type("callback", "a callable or None", callback)
    if not isinstance(workers, Executor):
        integer("workers", workers, 1, 4096)
    if vectorized and workers != 1:
        wrong_value("workers", "1 with vectorized=True", workers)
    if vectorized and timeout is not None:
        wrong_value("timeout", "None with vectorized=True, which works in this process", timeout)


def _bgs_options(
    given: dict[str, Any], noisy: bool | None, scale: FloatArray | None
) -> dict[str, Any]:
    """Arguments of BGS, with what minimize decides itself."""
    options = options_of(given, minimize)
    made = {"optimizer": "auto", **given}
    if noisy is not None:
        options = dataclasses.replace(options, noisy=flag("noisy", noisy))
    elif options.noisy is None and not options.start_evaluations and made["optimizer"] != "auto":
        options = dataclasses.replace(options, start_evaluations=START_EVALUATIONS)
    if scale is not None and options.scale is None:
        options = dataclasses.replace(options, scale=scale)
    return {**made, "options": options}


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

    best = opt.best
    value = best.value if opt.noisy is False else opt.recent_value
    if math.isnan(value):  # nothing but the start was evaluated, say
        value = best.value
    return OptimizeResult(
        {"x": np.array(opt.recommendation), "fun": value, "nfev": opt.num_evaluations,
         "nit": opt.generation, "nlost": opt.counts["discarded"], "noisy": opt.noisy,
         "best": Best(best.x.copy(), best.value), "center": np.array(opt.center),
         "sigma": opt.sigma, **more}
    )  # fmt: skip


def _result(opt: BGS, driver: Driver, reason: str, values: FloatArray) -> Any:
    status, success, message = MESSAGES[reason]
    result = _intermediate(
        opt, status=status, success=success, message=message, history=opt.history
    )
    result.nfev += len(values) + driver.stale
    result.nlost += driver.lost
    if len(values):
        result.fun = float(values.mean())
        many = len(values) > 1
        result.fun_error = float(values.std(ddof=1)) / math.sqrt(len(values)) if many else math.nan
    return result


def _bar(show: bool, opt: BGS) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=opt.budget, initial=opt.num_evaluations, disable=not show, unit="eval",
        desc="minimize",
    )  # fmt: skip
