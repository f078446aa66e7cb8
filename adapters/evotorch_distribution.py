"""The search distribution: from evaluated rows to the gradient of the center, on torch tensors.

Steps 3 and 4 of the method (Abeyruwan et al. 2022, arXiv 2207.06572, eq. 3-4) as EvoTorch's
``Distribution``. The weights come from ``bgs_opt.selection``; nothing is read back from the
device on the way, unless an optimizer needs it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.evotorch", extra="evotorch"):
    import torch
    from evotorch.distributions import SymmetricSeparableGaussian
    from evotorch.optimizers import TorchOptimizer
    from evotorch.tools.ranking import rank

from bgs_opt.protocols import Array
from bgs_opt.selection import acceptance, direction_weights, finite_rewards, spread

from .evotorch_fitness import tied
from .evotorch_sampling import Rows, sampler_of

__all__ = [
    "BGSGaussian",
    "fitness_array",
    "pair_weights",
    "root_mean_square",
    "stdev_gradient",
    "summed_pairs",
]

_LONG = 4096  # rows that are this long are added one by one
_TILE = 1 << 15
_NUMBERS = 1 << 22  # looked at together otherwise


def fitness_array(evals: torch.Tensor) -> Array:
    """Fitnesses in double precision: of NumPy on a CPU, whose calls on a few numbers cost less."""
    if evals.device.type == "cpu":
        return np.asarray(evals.tolist())
    return evals.to(torch.float32 if evals.device.type == "mps" else torch.float64)


def pair_weights(
    evals: Array, *, maximize: bool, top_k: int, mean_weight: float = 0.0,
    ranking_method: str | None = None, center: Array | float | None = None,
    acceptance_threshold: float | None = None, with_utilities: bool = False,
) -> tuple[Array, Array | None]:  # fmt: skip
    """Weights of the directions and utilities of their distances from the center.

    Parameters
    ----------
    evals : array or tensor, shape (2n,)
        Fitnesses, both ends of each pair in turn. NaN and infinities count as the worst finite
        one; a pair without a finite end is left out.
    maximize : bool
    top_k, mean_weight
        See :func:`bgs_opt.selection.direction_weights`.
    ranking_method : str, optional
        One of EvoTorch's, applied to the fitnesses first.
    center : float or array, shape (), optional
        Fitness of the center.
    acceptance_threshold : float, optional
        See :func:`bgs_opt.selection.acceptance`; needs ``center``.

    Returns
    -------
    weights : array or tensor, shape (n,)
        Zero where not kept.
    utilities : array or tensor, shape (n,), or None
        If they were asked for: mean reward of each pair in standard deviations from the mean
        of all, divided by n.
    """
    xp = array_namespace(evals)
    rewards = evals if maximize else -evals
    plus, minus, usable = rewards[0::2], rewards[1::2], None
    if not isinstance(rewards, np.ndarray) or not np.isfinite(rewards).all():
        plus, minus, usable = finite_rewards(plus, minus)
    accepted = usable
    if acceptance_threshold is not None and center is not None:
        baseline = (center if maximize else -center) + xp.zeros_like(plus[0])
        baseline = xp.where(xp.isfinite(baseline), baseline, xp.full_like(baseline, -math.inf))
        accepted = acceptance(plus, minus, baseline, acceptance_threshold)
        accepted = accepted if usable is None else accepted & usable
    count = plus.shape[0]
    if ranking_method not in (None, "raw"):
        both = torch.as_tensor(xp.concat([plus, minus]))
        both = xp.asarray(tied(rank(both, ranking_method, higher_is_better=True), both))
        plus, minus = both[:count], both[count:]
    weights = direction_weights(
        plus, minus, top_k=top_k, mean_weight=mean_weight, accepted=accepted
    )
    if not with_utilities:
        return weights, None
    means, deviation = (plus + minus) / 2, spread(xp.concat([plus, minus]))
    deviation = xp.where(deviation > 0, deviation, xp.ones_like(deviation))
    utilities = (means - xp.mean(means)) / (deviation * count)
    if usable is not None:
        utilities = xp.where(usable, utilities, xp.zeros_like(utilities))
    return weights, utilities


def summed_pairs(samples: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """``sum_i w_i (x_2i - x_2i+1) / 2``, shape (d,).

    Half precision is summed in single. Long rows are added one by one, those whose weight is not
    zero, a tile of columns after the other.
    """
    length = samples.shape[-1]
    exact = torch.promote_types(samples.dtype, torch.float32)
    if samples.device.type != "cpu" or length < _LONG:
        halves = (weights / 2).to(exact)
        parts = samples.split(max(1, _NUMBERS // max(1, len(samples))), dim=1)
        sums = [halves @ (part[0::2].to(exact) - part[1::2].to(exact)) for part in parts]
        return sums[0] if len(sums) == 1 else torch.cat(sums)
    total = torch.zeros(length, dtype=exact)
    kept = [(2 * i, weight) for i, weight in enumerate((weights / 2).tolist()) if weight]
    scratch = torch.empty(_TILE, dtype=exact)
    for left in range(0, length, _TILE):
        part, out = samples[:, left : left + _TILE], total[left : left + _TILE]
        difference = scratch[: len(out)]
        for row, weight in kept:
            torch.sub(part[row], part[row + 1], out=difference)
            out.add_(difference, alpha=weight)
    return total


def stdev_gradient(
    samples: torch.Tensor, utilities: torch.Tensor, center: torch.Tensor, stdev: torch.Tensor
) -> torch.Tensor:
    """``sum_i u_i (eps_i^2 - stdev^2) / stdev``, shape (d,), of x_2i = center + eps_i.

    As PGPE (Sehnke et al. 2010, doi 10.1016/j.neunet.2009.12.004), for both ends of a pair.
    """
    exact = torch.promote_types(samples.dtype, torch.float32)
    center, stdev = center.to(exact), stdev.to(exact)
    out = torch.zeros_like(center)
    factors = utilities.to(exact)
    step = max(1, _NUMBERS // max(1, samples.shape[1]))
    for start in range(0, len(factors), step):
        part = samples[2 * start : 2 * (start + step) : 2].to(exact) - center
        out += factors[start : start + step] @ part.square_()
    return out.sub_(factors.sum() * stdev.square()).div_(stdev)


def root_mean_square(stdev: torch.Tensor) -> torch.Tensor:
    """Mean size of the perturbations of a coordinate, shape (), of stdev of any magnitude."""
    largest = stdev.amax(-1, keepdim=True)
    return (stdev / largest).square().mean(-1).sqrt() * largest.squeeze(-1)


class BGSGaussian(SymmetricSeparableGaussian):
    """Search distribution of BGS: pairs about ``mu`` with standard deviations ``sigma``.

    Parameters
    ----------
    parameters : dict
        ``mu`` and ``sigma``, tensors of shape (d,); optionally ``top_k`` (by default half of the
        pairs), ``mean_weight`` (0: by difference, 1: by the better end), ``sampler`` (see
        :class:`bgs_opt.adapters.evotorch_sampling.Rows`) and ``adapts_sigma`` (False).
    solution_length, dtype, device
        As EvoTorch's own distributions.
    """

    OPTIONAL_PARAMETERS = {"top_k", "mean_weight", "sampler", "adapts_sigma"}  # noqa: RUF012
    _known_size: tuple[torch.Tensor, Any, torch.Tensor] | None = None

    def rows(self, num_directions: int, entropy: int) -> Rows:
        """Directions of a run."""
        name = sampler_of(self.parameters.get("sampler"), self.solution_length, num_directions)
        return Rows(name, self.solution_length, num_directions, entropy)

    def _fill(self, out: torch.Tensor, *, generator: Any = None) -> None:
        if len(out) % 2:
            raise ValueError(f"expected an even number of rows; got {len(out)}")
        source = getattr(generator, "generator", generator)
        device = "cpu" if source is None else source.device
        drawn = torch.randint(0, 1 << 62, (), generator=source, device=device)
        rows = self.rows(len(out) // 2, int(drawn))
        rows.perturb(0, 0, self.mu, self.sigma, out)

    def compute_gradients(
        self, samples: torch.Tensor, fitnesses: torch.Tensor, *, objective_sense: str,
        ranking_method: str | None = None, center: torch.Tensor | None = None,
        acceptance_threshold: float | None = None, top_k: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Gradients of ``mu`` and, where it adapts, of ``sigma``.

        Parameters
        ----------
        samples : tensor, shape (2n, d)
        fitnesses : tensor, shape (2n,)
        objective_sense : {"min", "max"}
        ranking_method, center, acceptance_threshold
            See :func:`pair_weights`.
        top_k : int, optional
            Instead of the distribution's own.

        Returns
        -------
        dict
            "mu" and "sigma" of shape (d,), and "moved", whether any weight is not zero.
        """
        if objective_sense not in ("min", "max"):
            raise ValueError(f'objective_sense: expected "min" or "max"; got {objective_sense!r}')
        if len(samples) != len(fitnesses) or len(samples) % 2:
            raise ValueError(
                "expected as many fitnesses as samples, an even number; "
                f"got {len(fitnesses)} and {len(samples)}"
            )
        if top_k is None:
            top_k = int(self.parameters.get("top_k", -(-len(samples) // 4)))
        adapts = bool(self.parameters.get("adapts_sigma"))
        if center is not None:
            center = fitness_array(center.reshape(1))[0]
        found, utilities = pair_weights(
            fitness_array(torch.as_tensor(fitnesses)),
            maximize=objective_sense == "max", top_k=top_k,
            mean_weight=self.parameters.get("mean_weight", 0.0), ranking_method=ranking_method,
            center=center, acceptance_threshold=acceptance_threshold, with_utilities=adapts,
        )  # fmt: skip
        weights = torch.as_tensor(found)
        total = summed_pairs(samples, weights)
        gradients = {
            "mu": total.div_(self._size(total.dtype)),
            "moved": (found != 0).any(),
        }
        if adapts:
            spread = torch.as_tensor(utilities)
            gradients["sigma"] = stdev_gradient(samples, spread, self.mu, self.sigma)
        return gradients

    def _size(self, dtype: torch.dtype) -> torch.Tensor:
        """Mean size of the perturbations; kept while the standard deviations are the same."""
        sigma, known = self.sigma, self._known_size
        key = None if sigma.is_inference() else (sigma._version, dtype)
        if known is None or key is None or known[0] is not sigma or known[1] != key:
            self._known_size = known = sigma, key, root_mean_square(sigma.to(dtype))
        return known[2]

    def next_center(
        self, gradients: dict[str, Any], learning_rates: dict[str, Any] | None,
        optimizers: dict[str, Any] | None,
    ) -> torch.Tensor:  # fmt: skip
        """Where the center goes; without any accepted direction it stays.

        Where that is not known on this side of the device, an optimizer of torch sees the zero
        gradient, and its step is then not taken (EvoTorch's ClipUp divides by the norm).
        """
        center: torch.Tensor = self.mu
        optimizer, moved = (optimizers or {}).get("mu"), gradients["moved"]
        away = isinstance(moved, torch.Tensor) and moved.device.type != "cpu"
        blind = away and (optimizer is None or isinstance(optimizer, TorchOptimizer))
        if not blind and not bool(moved):
            return center
        step = self._follow_gradient(
            "mu", gradients["mu"], learning_rates=learning_rates, optimizers=optimizers
        )
        return center + (torch.where(moved, step, 0) if blind else step)

    def update_parameters(
        self,
        gradients: dict[str, Any],
        *,
        learning_rates: dict[str, Any] | None = None,
        optimizers: dict[str, Any] | None = None,
    ) -> BGSGaussian:
        """Updated copy."""
        changed = {"mu": self.next_center(gradients, learning_rates, optimizers)}
        if "sigma" in gradients:
            changed["sigma"] = self.sigma + self._follow_gradient(
                "sigma", gradients["sigma"], learning_rates=learning_rates
            )
        return type(self)({**self.parameters, **changed})
