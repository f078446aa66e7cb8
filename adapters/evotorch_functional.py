"""BGS after EvoTorch's functional API: ``bgs``, ``bgs_ask`` and ``bgs_tell``.

The state is a named tuple, nothing is changed in place, and every tensor may have batch
dimensions on the left, so that many searches run as one; usable under ``torch.func.vmap``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.evotorch", extra="evotorch"):
    import torch
    from evotorch.algorithms.functional.misc import get_functional_optimizer
    from evotorch.decorators import expects_ndim
    from evotorch.distributions import SymmetricSeparableGaussian

from bgs_opt.errors import ArgumentValueError
from bgs_opt.options import selection_of
from bgs_opt.validation import choice, integer

from .evotorch_distribution import pair_weights, root_mean_square

__all__ = ["BGSState", "bgs", "bgs_ask", "bgs_tell"]


class BGSState(NamedTuple):
    """State of a search, or of many.

    ``optimizer_state.center`` is the center, shape (..., d); ``stdev`` has shape (..., d).
    """

    optimizer: str | tuple[Any, ...]
    optimizer_state: Any
    stdev: torch.Tensor
    top_k: int | None
    mean_weight: float
    ranking_method: str | None
    maximize: bool


def bgs(
    *, center_init: torch.Tensor, center_learning_rate: Any, objective_sense: str,
    stdev_init: Any = None, radius_init: Any = None, top_k: int | None = None,
    selection: str | float = "difference", ranking_method: str | None = None,
    optimizer: str | tuple[Any, ...] = "clipup", optimizer_config: dict[str, Any] | None = None,
) -> BGSState:  # fmt: skip
    """Start a search.

    Parameters
    ----------
    center_init : tensor, shape (..., d)
    center_learning_rate : float or tensor
        Dimensions of a tensor are batch dimensions.
    objective_sense : {"min", "max"}
    stdev_init : float or tensor, shape (..., d), optional
    radius_init : float or tensor, optional
        Norm of the standard deviations; exactly one of the two.
    top_k : int, optional
        Directions kept; by default half of those of each population.
    selection : {"difference", "max"} or float
    ranking_method : str, optional
        As of :class:`bgs_opt.adapters.evotorch.BGS`.
    optimizer : {"clipup", "adam", "sgd"} or tuple
        As of EvoTorch's ``pgpe``.
    optimizer_config : dict, optional

    Returns
    -------
    BGSState

    Raises
    ------
    ValueError
        For a center without dimensions and options out of range.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> state = bgs(center_init=torch.ones(3, 10), center_learning_rate=0.2, stdev_init=0.1,
    ...             objective_sense="min")  # three searches at once
    >>> for _ in range(60):
    ...     population = bgs_ask(state, popsize=20)
    ...     state = bgs_tell(state, population, (population**2).sum(-1))
    >>> bool(((state.optimizer_state.center**2).sum(-1) < 0.5).all())
    True
    """
    center = torch.as_tensor(center_init)
    if center.ndim < 1 or center.shape[-1] == 0:
        raise ArgumentValueError(
            f"center_init: expected shape (..., d); got {tuple(center.shape)}"
        )
    choice("objective_sense", objective_sense, ("min", "max"))
    if (stdev_init is None) == (radius_init is None):
        raise ArgumentValueError("expected exactly one of stdev_init and radius_init")
    like = {"dtype": center.dtype, "device": center.device}
    if stdev_init is None:
        stdev = torch.as_tensor(radius_init, **like)[..., None] / center.shape[-1] ** 0.5
    else:
        stdev = torch.as_tensor(stdev_init, **like)
    stdev = stdev.expand(torch.broadcast_shapes(stdev.shape, center.shape[-1:])).clone()
    initialize, _, _ = get_functional_optimizer(optimizer)
    rate = torch.as_tensor(center_learning_rate, **like)
    return BGSState(
        optimizer,
        initialize(center_init=center, center_learning_rate=rate, **(optimizer_config or {})),
        stdev,
        None if top_k is None else integer("top_k", top_k, 1),
        selection_of(selection),
        ranking_method,
        objective_sense == "max",
    )


def bgs_ask(state: BGSState, *, popsize: int) -> torch.Tensor:
    """Solutions to evaluate, shape (..., popsize, d): both ends of each direction in turn."""
    if popsize < 2 or popsize % 2:
        raise ArgumentValueError(f"popsize: expected an even number >= 2; got {popsize}")
    _, ask, _ = get_functional_optimizer(state.optimizer)
    center = ask(state.optimizer_state)
    return SymmetricSeparableGaussian.functional_sample(
        popsize, {"mu": center, "sigma": state.stdev}
    )


def bgs_tell(state: BGSState, values: torch.Tensor, evals: torch.Tensor) -> BGSState:
    """Next state.

    Parameters
    ----------
    state : BGSState
    values : tensor, shape (..., popsize, d)
        From ``bgs_ask``.
    evals : tensor, shape (..., popsize)
        Their fitnesses. NaN and infinities count as the worst finite one.

    Returns
    -------
    BGSState
        Where no direction was kept, the center is where it was.
    """
    _, _, tell = get_functional_optimizer(state.optimizer)

    def gradient(values: torch.Tensor, evals: torch.Tensor, stdev: torch.Tensor) -> torch.Tensor:
        directions = len(evals) // 2
        weights, _ = pair_weights(
            evals, maximize=state.maximize, mean_weight=state.mean_weight,
            top_k=min(state.top_k or -(-directions // 2), directions),
            ranking_method=state.ranking_method,
        )  # fmt: skip
        total = (weights / 2).to(values.dtype) @ (values[0::2] - values[1::2])
        return total / root_mean_square(stdev)

    follow = expects_ndim(gradient, (2, 1, 1))(values, evals, state.stdev)
    moved = (follow != 0).any(-1, keepdim=True)
    told = tell(state.optimizer_state, follow_grad=torch.where(moved, follow, 1))
    kept = [_where(moved, new, old) for new, old in zip(told, state.optimizer_state, strict=True)]
    return state._replace(optimizer_state=type(told)(*kept))


def _where(moved: torch.Tensor, new: Any, old: Any) -> Any:
    """The new entry of an optimizer's state where there was a gradient."""
    if not isinstance(new, torch.Tensor) or new is old:
        return new
    while moved.ndim > new.ndim:
        moved = moved.squeeze(-1)
    return torch.where(moved, new, old)
