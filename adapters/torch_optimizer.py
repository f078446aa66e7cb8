"""Any optimizer of torch as a step rule of the core."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.torch", extra="torch"):
    import torch

from bgs_opt.errors import ArgumentTypeError
from bgs_opt.protocols import FloatArray, OptimizerState

__all__ = ["TorchOptimizer"]


class TorchOptimizer:
    """An optimizer of torch that gets -g as the gradient; see :class:`bgs_opt.BGS`.

    The vector is one parameter of shape (d,). An optimizer whose state is not made of numbers
    and of vectors like it (Adafactor, Muon) is refused. Weight decay is taken from the sum of
    its own steps and the start.

    Parameters
    ----------
    make : type or callable
        ``make([parameter]) -> torch.optim.Optimizer``: a class, or a functools.partial of one.

    Raises
    ------
    ArgumentTypeError
        (also TypeError) if it makes something else, or its state does not fit.

    Examples
    --------
    >>> import functools
    >>> from bgs_opt import BGS
    >>> rule = TorchOptimizer(functools.partial(torch.optim.AdamW, lr=0.05))
    >>> opt = BGS(np.ones(10), 0.1, optimizer=rule, seed=1, budget=4000)
    >>> while not opt.stop():
    ...     candidates = opt.ask()
    ...     report = opt.tell(candidates, [float(x @ x) for x in candidates])
    >>> bool(opt.best.value < 0.1)
    True
    """

    def __init__(self, make: Callable[..., torch.optim.Optimizer]) -> None:
        self._make = make
        self._defaults = self._of(torch.zeros(1)).param_groups[0]

    def _of(self, position: torch.Tensor) -> torch.optim.Optimizer:
        made: Any = self._make
        with contextlib.suppress(TypeError, ValueError):
            made = self._make([position])
        if not isinstance(made, torch.optim.Optimizer):
            raise ArgumentTypeError(
                f"optimizer: expected a class or function that makes a torch.optim.Optimizer; "
                f"got {made!r}"
            )
        return made

    def __repr__(self) -> str:
        rest = {k: v for k, v in self._defaults.items() if k != "params"}
        return f"TorchOptimizer({type(self._of(torch.zeros(1))).__name__}, {rest})"

    def init(self, center: FloatArray) -> OptimizerState:
        """See :class:`bgs_opt.protocols.Optimizer`."""
        return {"position": center.copy()}

    def default_learning_rate(self, sigma: float, dim: int) -> float:
        """The optimizer's own."""
        return float(self._defaults.get("lr", 1.0))

    def step(
        self, gradient: FloatArray, state: OptimizerState, learning_rate: float
    ) -> tuple[FloatArray, OptimizerState]:
        """See :class:`bgs_opt.protocols.Optimizer`; a zero gradient gives no step."""
        if not gradient.any():
            return gradient, state
        before = state["position"]
        position = torch.from_numpy(before.copy())
        position.grad = torch.from_numpy(-gradient)
        rule = self._of(position)
        for group in rule.param_groups:
            group["lr"] = learning_rate
        kept = {name: _tensor(value) for name, value in state.items() if name != "position"}
        if kept:
            rule.state[position] = kept
        try:
            rule.step()
        except TypeError as error:  # it wants a closure, to evaluate the loss itself
            raise ArgumentTypeError(
                f"optimizer: expected one that steps by the gradient alone; {error}"
            ) from error
        after = position.numpy()
        new = {name: self._array(name, value, len(before))
               for name, value in rule.state[position].items()}  # fmt: skip
        return after - before, {"position": after, **new}

    def _array(self, name: str, value: Any, size: int) -> Any:
        """What of the optimizer's state goes into ours."""
        if isinstance(value, torch.Tensor):
            array = value.detach().numpy()
            if array.shape in ((), (size,)):
                return array.copy()
        elif value is None or isinstance(value, (bool, int, float)):
            return value
        raise ArgumentTypeError(
            f"optimizer: expected a state of numbers and vectors of shape ({size},); its {name!r} "
            f"is {type(value).__name__} of shape {np.shape(value)}"
        )


def _tensor(value: Any) -> Any:
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
