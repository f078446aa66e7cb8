"""Blackbox Gradient Sensing as a method of ``scipy.optimize.minimize``.

SciPy calls a ``method`` that is callable with everything that it was given itself; each keyword
is understood here or refused by its name. The search is :func:`bgs_opt.minimize`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from concurrent.futures import Executor
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.scipy"):
    from scipy.optimize import Bounds

from bgs_opt import BGS, minimize
from bgs_opt.validation import flag, integer, wrong_type, wrong_value

__all__ = ["bgs"]


def bgs(
    fun: Callable[..., Any],
    x0: npt.ArrayLike,
    args: tuple[Any, ...] = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    tol: float | None = None,
    maxfev: int | None = None,
    maxiter: int | None = None,
    disp: bool = False,
    workers: int | Executor = 1,
    rng: Any = None,
    **options: Any,
) -> Any:
    """Use as ``scipy.optimize.minimize(fun, x0, method=bgs, options={...})``.

    Parameters
    ----------
    fun, x0, args, bounds, callback, tol
        As in ``scipy.optimize.minimize``: ``bounds`` is a sequence of (low, high) pairs with None
        for an open side, or a Bounds; ``callback(intermediate_result)`` may raise StopIteration;
        ``tol`` ends the search when sigma and the last step are below it.
    jac, hess, hessp, constraints
        Refused: the method uses values only, within bounds only.
    maxfev : int, optional
        Evaluations, 400 d by default.
    maxiter : int, optional
        Generations.
    disp : bool
        Print how the search ended.
    workers : int or concurrent.futures.Executor
        Processes; -1 for one a CPU. A map-like callable is refused, as it cannot hand back values
        one by one.
    rng : None, int, SeedSequence or Generator
        Seed; ``seed`` is another name for it.
    **options
        Any other keyword of :func:`bgs_opt.minimize` or :class:`bgs_opt.BGS`: ``sigma``,
        ``noisy``, ``vectorized``, ``timeout``, ``max_time``, ``checkpoint``, ``optimizer``, ...

    Returns
    -------
    scipy.optimize.OptimizeResult
        See :func:`bgs_opt.minimize`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        (also ValueError, TypeError) for what is refused.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.optimize import minimize, rosen
    >>> from bgs_opt.adapters.scipy import bgs
    >>> result = minimize(rosen, np.zeros(4), method=bgs, options={"rng": 0})
    >>> bool(result.success and result.fun < 1e-3)
    True
    """
    _refuse(jac=jac, hess=hess, hessp=hessp, constraints=constraints)
    known = {
        name
        for function in (minimize, BGS.__init__)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    known -= {"args", "bounds", "callback"}  # SciPy's minimize has these itself
    unknown = sorted(set(options) - known)
    if unknown:
        wrong_type(
            f"options[{unknown[0]!r}]",
            "one of " + ", ".join(sorted(known | {"maxfev", "disp", "rng"})),
            options[unknown[0]],
        )
    for ours, theirs, value in (("budget", "maxfev", maxfev), ("seed", "rng", rng)):
        if value is not None and options.get(ours) is not None:
            wrong_value(f"options[{ours!r}]", f"either it or {theirs!r}", options[ours])
        if value is not None:
            options[ours] = value
    start = np.atleast_1d(np.asarray(x0))
    result = minimize(
        fun,
        start,
        args=args,
        bounds=_bounds(bounds, len(start)),
        callback=callback,
        tol=tol,
        maxiter=maxiter,
        workers=_workers(workers),
        **options,
    )
    if flag("options['disp']", disp):
        print(f"{result.message}\n         Current function value: {result.fun:g}\n"
              f"         Iterations: {result.nit}\n"
              f"         Function evaluations: {result.nfev}")  # fmt: skip
    return result


def _refuse(**given: Any) -> None:
    for name, value in given.items():
        empty = value is None or value is False
        if not empty and not (isinstance(value, (tuple, list, dict)) and len(value) == 0):
            what = "bounds only" if name == "constraints" else "values only"
            wrong_value(name, f"nothing, as method bgs uses {what}", value)


def _bounds(bounds: Any, dim: int) -> Any:
    """SciPy's sequence of pairs as a Bounds; a Bounds as it is."""
    if bounds is None or isinstance(bounds, Bounds):
        return bounds
    expected = f"a Bounds, or {dim} pairs (low, high) with None for an open side"
    try:
        pairs = [tuple(pair) for pair in bounds]
    except TypeError:
        wrong_type("bounds", expected, bounds)
    if len(pairs) != dim or any(len(pair) != 2 for pair in pairs):
        wrong_value("bounds", expected, bounds)
    low = [-np.inf if pair[0] is None else pair[0] for pair in pairs]
    high = [np.inf if pair[1] is None else pair[1] for pair in pairs]
    return SimpleNamespace(lb=low, ub=high)  # two lists in two dimensions might be pairs


def _workers(workers: Any) -> int | Executor:
    if isinstance(workers, Executor):
        return workers
    if callable(workers):
        wrong_type("workers", "an int or a concurrent.futures.Executor", workers)
    count = integer("workers", workers, -1)
    if count == 0:
        wrong_value("workers", "an int >= 1, or -1 for one process a CPU", count)
    return os.cpu_count() or 1 if count == -1 else count
