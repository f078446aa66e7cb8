"""BGS as an optimizer of Nevergrad's registry.

Importing this module registers "BGS" and the other names of ``REGISTERED``:

    import nevergrad as ng
    import bgs_opt.adapters.nevergrad

    ng.optimizers.registry["BGS"](parametrization, budget=1000).minimize(function)

The search is :class:`bgs_opt.BGS` in Nevergrad's standardized space, where the start is the origin
and 1 is a typical distance; its automatic rule sees dimension, budget, number of workers, bounds
and whether the parametrization or the function is declared to be noisy.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

import bgs_opt
from bgs_opt import Options
from bgs_opt.config import default_directions
from bgs_opt.errors import BGSWarning
from bgs_opt.options import optimizer_of
from bgs_opt.sigma import CumulativeAdaptation, LinearDecay
from bgs_opt.validation import flag

from .nevergrad_run import BGSRun, Box, base, ng

__all__ = ["BGS", "REGISTERED", "ParametrizedBGS"]

AUTOMATIC_SIGMA, PLAIN_SIGMA = 1.0, 0.5
SIGMA_AT_END, RATE_AT_END = 0.1, 0.05  # share of what they were at the start
GENERATIONS = 60  # that the usual learning rate needs to get anywhere


class ParametrizedBGS(base.ConfiguredOptimizer):
    """Blackbox Gradient Sensing with options; a family of Nevergrad optimizers.

    Without any option nothing needs tuning: the automatic rule finds the number of directions,
    the step and the width of the search. Naming ``num_directions``, ``top_k``, ``selection``,
    ``learning_rate``, ``reward_scale``, ``averaging`` or ``adapt_sigma`` makes it the method of
    the paper, with ``optimizer`` "clipup" unless another one is named.

    Parameters
    ----------
    num_directions : int, optional
        N, pairs of a generation.
    top_k : int, optional
        k, directions kept, 1 <= k <= N; by default half of them.
    sampler : str
        "orthogonal", "qr", "hadamard", "gaussian", "gaussian_table" or "rademacher".
    selection : {"difference", "max"} or float, optional
        Which directions are kept; "max" is ARS.
    optimizer : {"auto", "clipup", "adam", "sgd"}, optional
        How the estimated gradient is followed.
    learning_rate : float, optional
        Step size, > 0, in units of the standardized space. By default it follows from the
        budget and falls to a twentieth over it.
    sigma : float, optional
        Size of the perturbations in units of the standardized space. By default 1 for the
        automatic rule, else 0.5, falling to a tenth over the budget. Narrow bounds reduce it.
    reward_scale : {"kept", "all", "rank"}
        What differences of rewards are divided by.
    averaging : float
        Decay of the moving average of the center that is recommended under noise, in [0, 1).
    adapt_sigma : bool
        Cumulative adaptation of sigma; with "sgd".
    noisy : bool, optional
        Whether the function is noisy; None: known from ``parametrization.function`` and from
        the parametrization if they say so, else found by evaluating the start repeatedly.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        (also ValueError, TypeError) naming the argument, what was expected and what came.

    Examples
    --------
    >>> import nevergrad as ng
    >>> from bgs_opt.adapters.nevergrad import ParametrizedBGS
    >>> family = ParametrizedBGS(num_directions=8, top_k=4)
    >>> family
    ParametrizedBGS(num_directions=8, top_k=4)
    >>> optimizer = family(ng.p.Array(shape=(3,)), budget=600)
    >>> optimizer.parametrization.random_state.seed(1)
    >>> bool(optimizer.minimize(lambda x: float(((x - 1) ** 2).sum())).loss < 0.1)
    True
    """

    def __init__(
        self,
        *,
        num_directions: int | None = None,
        top_k: int | None = None,
        sampler: str = "orthogonal",
        selection: str | float | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        sigma: float | None = None,
        reward_scale: str = "kept",
        averaging: float = 0.0,
        adapt_sigma: bool = False,
        noisy: bool | None = None,
    ) -> None:
        super().__init__(BGSRun, locals(), as_config=True)
        self.search(np.zeros(2), None, 0, Options())  # the core checks every argument

    def search(
        self,
        start: npt.NDArray[Any],
        budget: int | None,
        seed: Any,
        options: Options,
        box: Box | None = None,
    ) -> bgs_opt.BGS:
        """Make the optimizer of the core that these options describe."""
        given = dict(self._config)
        adapt = flag("adapt_sigma", given.pop("adapt_sigma"))
        sigma, noisy = given.pop("sigma"), given.pop("noisy")
        changes = {name: given.pop(name) for name in ("reward_scale", "averaging")}
        if given["optimizer"] is None:
            paper = [given[name] for name in ("num_directions", "top_k", "selection")]
            plain = any(value is not None for value in (*paper, given["learning_rate"]))
            plain = plain or changes != {"reward_scale": "kept", "averaging": 0.0}
            given["optimizer"] = "sgd" if adapt else "clipup" if plain else "auto"
        if noisy is not None:
            changes["noisy"] = noisy
        given |= {"sigma": sigma, "sigma_rule": CumulativeAdaptation() if adapt else None}
        if given["optimizer"] == "auto":
            given["sigma"] = AUTOMATIC_SIGMA if sigma is None else sigma
        else:
            changes["late"] = "use"  # with several workers no pair is wasted
            changes["center_evaluations"] = 1  # what is recommended should have been evaluated
            _plan(given, changes, len(start), budget, options.num_workers)
        if box is not None:
            changes["scale"] = np.minimum(1.0, box.widest / given["sigma"])
        bounds = None if box is None else (box.low, box.high)
        options = dataclasses.replace(options, **changes)
        return bgs_opt.BGS(
            start, bounds=bounds, budget=budget, seed=seed, options=options, **given
        )


def _plan(
    given: dict[str, Any], options: dict[str, Any], dim: int, budget: int | None, workers: int
) -> None:
    """Choose what the user left open of a step of the paper's, as the budget allows."""
    if given["num_directions"] is None:
        given["num_directions"] = default_directions(dim, budget, workers)
    sigma_left_open = given["sigma"] is None
    if sigma_left_open:
        given["sigma"] = PLAIN_SIGMA
    rule = optimizer_of(given["optimizer"])
    if budget is None or not isinstance(given["num_directions"], int) or rule is None:
        return
    generations = max(1, budget // (2 * given["num_directions"] + 1))
    if sigma_left_open and given["sigma_rule"] is None:
        given["sigma_rule"] = LinearDecay(generations, SIGMA_AT_END)
    if given["learning_rate"] is None:
        usual = rule.default_learning_rate(given["sigma"], dim)
        given["learning_rate"] = usual * max(1.0, GENERATIONS / generations)
        options["learning_rate_schedule"] = LinearDecay(generations, RATE_AT_END)


def _register(name: str, family: ParametrizedBGS) -> ParametrizedBGS:
    """Put a family into the registry; an earlier import of this module gives way to this one."""
    family.set_name(name)
    taken = ng.optimizers.registry.get(name)
    made = getattr(taken, "_OptimizerClass", None)
    if taken is not None and getattr(made, "__name__", "") != BGSRun.__name__:
        warnings.warn(
            f"ng.optimizers.registry[{name!r}] is another optimizer, {taken!r}, and stays; use "
            f"bgs_opt.adapters.nevergrad.REGISTERED[{name!r}]",
            BGSWarning,
            stacklevel=3,
        )
        return family
    ng.optimizers.registry.unregister(name)
    ng.optimizers.registry.register_name(name, family)
    setattr(ng.optimizers, name, family)
    return family


REGISTERED = {
    name: _register(name, family)
    for name, family in {
        "BGS": ParametrizedBGS(),
        "BGSWide": ParametrizedBGS(sigma=3.0),
    }.items()
}
"""Names in Nevergrad's registry and what they stand for.

"BGSWide" starts three times as wide as the standard deviation of the parametrization, for smooth
functions in strong noise.
"""

BGS = REGISTERED["BGS"]
