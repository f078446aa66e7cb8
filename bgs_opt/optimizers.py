"""Rules that follow a gradient estimate: plain and momentum steps, Adam, ClipUp.

``init(center) -> state`` and ``step(gradient, state, learning_rate) -> (delta, state)``, with
``delta`` to be *added* (ascent on the reward). ``step`` writes into the gradient and the state's
own arrays, so that a step at a million parameters allocates little. Arrays of NumPy or torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from array_api_compat import array_namespace

from bgs_opt.protocols import Array, OptimizerState
from bgs_opt.validation import real

__all__ = ["SGD", "Adam", "ClipUp"]


_TILE = 1 << 17
"""Numbers looked at together where a whole vector would need another one in memory."""


def _length(vector: Array) -> float:
    """Euclidean norm, safe from overflow, tile by tile."""
    xp = array_namespace(vector)
    largest = max(float(xp.max(vector)), -float(xp.min(vector)))
    if largest == 0:
        return 0.0
    total = 0.0
    for start in range(0, vector.shape[0], _TILE):
        stop = min(start + _TILE, vector.shape[0])
        total += float(xp.sum(xp.square(vector[start:stop] / largest)))
    return largest * math.sqrt(total)


@dataclass(frozen=True)
class SGD:
    """Plain or momentum steps: v <- momentum v + g; delta = learning_rate v.

    Parameters
    ----------
    momentum : float
        In [0, 1). Zero is the paper's plain step.
    """

    momentum: float = 0.0

    def __post_init__(self) -> None:
        real("momentum", self.momentum, 0, 1, open_high=True)

    def init(self, center: Array) -> OptimizerState:
        """See :class:`bgs_opt.protocols.Optimizer`."""
        xp = array_namespace(center)
        return {"velocity": xp.zeros_like(center)} if self.momentum else {}

    def step(
        self, gradient: Array, state: OptimizerState, learning_rate: float
    ) -> tuple[Array, OptimizerState]:
        """See :class:`bgs_opt.protocols.Optimizer`."""
        if self.momentum:
            velocity = state["velocity"]
            velocity *= self.momentum
            velocity += gradient
            gradient[...] = velocity
        gradient *= learning_rate
        return gradient, state

    def default_learning_rate(self, sigma: float, dim: int) -> float:
        """0.15 sigma, the ratio of the published settings (0.00375 to 0.025)."""
        return 0.15 * sigma * (1 - self.momentum)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1).

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first and second moment, in [0, 1).
    epsilon : float
        Added to the root of the second moment, > 0.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        real("beta1", self.beta1, 0, 1, open_high=True)
        real("beta2", self.beta2, 0, 1, open_high=True)
        real("epsilon", self.epsilon, 0, open_low=True)

    def init(self, center: Array) -> OptimizerState:
        """See :class:`bgs_opt.protocols.Optimizer`."""
        xp = array_namespace(center)
        return {"first": xp.zeros_like(center), "second": xp.zeros_like(center), "steps": 0}

    def step(
        self, gradient: Array, state: OptimizerState, learning_rate: float
    ) -> tuple[Array, OptimizerState]:
        """See :class:`bgs_opt.protocols.Optimizer`; a zero gradient decays the moments only."""
        xp = array_namespace(gradient)
        first, second = state["first"], state["second"]
        steps = state["steps"] + 1
        state["steps"] = steps
        first *= self.beta1
        first += (1 - self.beta1) * gradient
        second *= self.beta2
        gradient *= gradient
        gradient *= 1 - self.beta2
        second += gradient
        denominator = xp.sqrt(second)
        denominator /= math.sqrt(1 - self.beta2**steps)
        denominator += self.epsilon
        gradient[...] = first
        gradient *= learning_rate / (1 - self.beta1**steps)
        gradient /= denominator
        return gradient, state

    def default_learning_rate(self, sigma: float, dim: int) -> float:
        """0.1 sigma: a coordinate moves by at most about that much a generation."""
        return 0.1 * sigma


@dataclass(frozen=True)
class ClipUp:
    """ClipUp (Toklu et al. 2020, arXiv 2008.02387, algorithm 1): normalised, clipped momentum.

    v <- momentum v + learning_rate g / |g|; v <- v min(1, max_speed / |v|); delta = v.

    Parameters
    ----------
    momentum : float
        In [0, 1).
    max_speed : float, optional
        Longest step as a multiple of the learning rate, > 0.
    """

    momentum: float = 0.9
    max_speed: float = 2.0

    def __post_init__(self) -> None:
        real("momentum", self.momentum, 0, 1, open_high=True)
        real("max_speed", self.max_speed, 0, open_low=True)

    def init(self, center: Array) -> OptimizerState:
        """See :class:`bgs_opt.protocols.Optimizer`."""
        return {"velocity": array_namespace(center).zeros_like(center)}

    def step(
        self, gradient: Array, state: OptimizerState, learning_rate: float
    ) -> tuple[Array, OptimizerState]:
        """See :class:`bgs_opt.protocols.Optimizer`; a zero gradient adds nothing (no 0/0)."""
        velocity = state["velocity"]
        velocity *= self.momentum
        length = _length(gradient)
        if length > 0:
            gradient *= learning_rate / length
            velocity += gradient
        speed, limit = _length(velocity), self.max_speed * learning_rate
        if speed > limit:
            velocity *= limit / speed
        gradient[...] = velocity
        return gradient, state

    def default_learning_rate(self, sigma: float, dim: int) -> float:
        """Half the authors' speed limit, a fifteenth of the search radius sigma sqrt(d)."""
        return sigma * math.sqrt(dim) / 30
