"""The generations of the EvoTorch searcher: sample, evaluate, update; here or by actors.

A step does what a step of EvoTorch's Gaussian searchers does, in their order: the first one
samples and evaluates, each later one updates the distribution by what the step before it
evaluated and samples again; with ``distributed=True`` and actors, each samples, evaluates and
updates. After an evaluation that raises the next step evaluates the same rows again.
"""

from __future__ import annotations

import math
from typing import Any

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.evotorch", extra="evotorch"):
    import torch
    from evotorch.algorithms.distributed.gaussian import GaussianSearchAlgorithm
    from evotorch.core import Problem, SolutionBatch

from bgs_opt.bounds import reflect

from .evotorch_actors import Evaluated, Sample, evaluate, sample_and_evaluate, summed_by_actors
from .evotorch_distribution import BGSGaussian, fitness_array, pair_weights, root_mean_square
from .evotorch_fitness import warned_of
from .evotorch_sampling import Box, Rows, sampler_of

__all__ = ["Population", "Problem", "Search", "bounds_of", "reflect"]


class Population(SolutionBatch):
    """A batch whose best and worst solutions have finite fitnesses, if any has."""

    def _extreme(self, obj_index: int | None, sign: float) -> torch.Tensor:
        number = self._optionally_get_obj_index(obj_index)
        rewards = self._evdata[:, number] * (sign * self._get_objective_sign(number))
        return rewards.nan_to_num_(-torch.inf, -torch.inf, -torch.inf).argmax()

    def argbest(self, obj_index: int | None = None) -> torch.Tensor:
        """Row of the best solution."""
        return self._extreme(obj_index, 1.0)

    def argworst(self, obj_index: int | None = None) -> torch.Tensor:
        """Row of the worst solution."""
        return self._extreme(obj_index, -1.0)


class Search(GaussianSearchAlgorithm):
    """Steps over generations; :class:`bgs_opt.adapters.evotorch.BGS` has the options."""

    DISTRIBUTION_TYPE = BGSGaussian

    _population: Any  # a Population, once there is one
    _distribution: BGSGaussian
    _rows: Rows
    _with_center: bool
    _acceptance: float | None
    _repeats: int
    _box: Box | None

    def _begin(self, sampler: str | None) -> None:
        source = self.problem.generator
        device = "cpu" if source is None else source.device
        entropy = int(torch.randint(0, 1 << 62, (), generator=source, device=device))
        directions = self._popsize // 2
        name = sampler_of(sampler, self.problem.solution_length, directions)
        self._rows = Rows(name, self.problem.solution_length, directions, entropy)
        self._generation = 0
        self._complete = False  # whether the population is evaluated
        self._found: Evaluated | None = None  # by actors
        self._center_fitness = math.nan
        self._best: Population | None = None
        self._warned = False  # of fitnesses that are not finite

    @property
    def population(self) -> Any:
        """The population, both ends of a pair in turn; None when it is made by actors."""
        whole = self._population
        if whole is None or not self._with_center:
            return whole
        return Population(slice_of=(whole, slice(0, len(whole) - 1)))

    # ---- in this process

    def _step_non_distributed(self) -> None:
        if self._complete:
            self._update_distribution(self._gradients())
            self._complete = False
            self._generation += 1
        if self._num_interactions is None:
            if self._population is None:
                self._population = self._empty()
            self._sample_and_evaluate(self._population, 0)
        else:
            self._population = self._adaptive_population()
        if self._with_center:
            self._center_fitness = float(self._fitnesses()[-1])
        self._complete = True
        self._warned = self._warned or warned_of(self._fitnesses())

    def _empty(self, *, with_center: bool = True) -> Population:
        rows = self._popsize + (self._with_center and with_center)
        return Population(self.problem, rows, device=self._distribution.device, empty=True)

    def _sample_and_evaluate(self, batch: Population, first: int) -> None:
        self._write(batch.access_values(), first)
        evaluate(self.problem, batch)
        if self._repeats > 1:
            total = batch.access_evals().clone()
            for _ in range(self._repeats - 1):
                evaluate(self.problem, batch)
                total += batch.access_evals()
            batch.access_evals().copy_(total / self._repeats)

    def _write(self, out: torch.Tensor, first: int) -> None:
        center, stdev = self._distribution.mu, self._distribution.sigma
        self._rows.perturb(self._generation, first, center, stdev, out, self._box)

    def _adaptive_population(self) -> Population:
        """Further directions of the same center until there were enough interactions."""
        before = self.problem.status.get("total_interaction_count", 0)
        parts: list[Population] = []
        while True:
            parts.append(self._empty(with_center=not parts))
            first = (len(parts) - 1) * (self._popsize // 2)
            self._sample_and_evaluate(parts[-1], first)
            if self._popsize_max is not None and len(parts) * self._popsize >= self._popsize_max:
                break
            if self.problem.status["total_interaction_count"] - before > self._num_interactions:
                break
        if self._with_center:  # last again
            whole = parts[0]
            parts[0] = whole[: self._popsize]
            parts.append(whole[self._popsize :])
        return Population(merging_of=parts)

    def _fitnesses(self) -> torch.Tensor:
        evals: torch.Tensor = self._population.access_evals()[:, self._obj_index]
        return evals

    def _gradients(self) -> dict[str, Any]:
        samples = self._population.access_values(keep_evals=True)
        fitnesses, center = self._fitnesses(), None
        if self._with_center:
            samples, fitnesses, center = samples[:-1], fitnesses[:-1], fitnesses[-1]
        if self._box is not None:  # folded rows are no directions any more
            return self._remade(list(range(len(fitnesses) // 2)), fitnesses, center)
        gradients: dict[str, Any] = self._distribution.compute_gradients(
            samples, fitnesses, objective_sense=self.problem.senses[self._obj_index],
            ranking_method=self._ranking_method, center=center,
            acceptance_threshold=self._acceptance, top_k=self._kept(len(fitnesses) // 2),
        )  # fmt: skip
        return gradients

    # ---- by actors

    def _step_distributed(self) -> None:
        center, stdev = self._distribution.mu, self._distribution.sigma
        whole = Sample(
            self._rows, self._generation, 0, self._popsize // 2, 0, self._with_center, 0,
            (center, stdev, *(self._box or ())),
        )  # fmt: skip
        found = sample_and_evaluate(
            self.problem, whole, obj_index=self._obj_index, repeats=self._repeats,
            num_interactions=self._num_interactions, popsize_max=self._popsize_max,
        )  # fmt: skip
        gradients = self._remade(found.numbers, found.evals, found.center, found)
        self._best = self._best_of(found)
        self._found = found
        if found.center is not None:
            self._center_fitness = float(found.center)
        self._mean_eval = float(found.evals.mean())
        self._warned = self._warned or warned_of(found.evals)
        self._update_distribution(gradients)
        self._generation += 1

    def _best_of(self, found: Evaluated) -> Population:
        """The best end of all pairs, made again."""
        maximize = self.problem.senses[self._obj_index] == "max"
        rewards = found.evals if maximize else -found.evals
        row = int(torch.argmax(torch.where(torch.isfinite(rewards), rewards, -torch.inf)))
        both = Population(self.problem, 2, device=self._distribution.device, empty=True)
        self._write(both.access_values(), found.numbers[row // 2])
        best: Population = both[row % 2 : row % 2 + 1].clone()
        best.access_evals()[0, self._obj_index] = found.evals[row]
        return best

    def _remade(
        self, index: list[int], evals: torch.Tensor, center: torch.Tensor | None,
        found: Evaluated | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Gradients from fitnesses alone: the directions that count are made again."""
        mu, sigma = self._distribution.mu, self._distribution.sigma
        adapts = bool(self._distribution.parameters["adapts_sigma"])
        baseline = None if center is None else fitness_array(center.reshape(1))[0]
        weights, utilities = pair_weights(
            fitness_array(evals), maximize=self.problem.senses[self._obj_index] == "max",
            top_k=self._kept(len(index)), mean_weight=self._distribution.parameters["mean_weight"],
            ranking_method=self._ranking_method, center=baseline,
            acceptance_threshold=self._acceptance, with_utilities=adapts,
        )  # fmt: skip
        exact = torch.promote_types(mu.dtype, torch.float32)
        total = self._summed(index, weights.tolist(), mu.new_zeros(len(mu), dtype=exact), found)
        total *= sigma.to(exact) / root_mean_square(sigma.to(exact))
        gradients = {"mu": total, "moved": (weights != 0).any()}
        if utilities is not None:
            spread = torch.zeros_like(total)
            for number, utility in zip(index, utilities.tolist(), strict=True):
                for _, cols, block in self._rows.pieces(self._generation, number, 1, mu):
                    spread[cols].add_(block[0].to(exact).square_().sub_(1), alpha=utility)
            gradients["sigma"] = spread.mul_(sigma.to(exact))
        return gradients

    def _summed(
        self, index: list[int], weights: list[float], out: torch.Tensor, found: Evaluated | None
    ) -> torch.Tensor:
        if found is not None and not all(is_here(share[3]) for share in found.devices):
            return summed_by_actors(
                self.problem, self._rows, self._generation, found, weights, out
            )
        kept = [place for place, weight in enumerate(weights) if weight]
        return self._rows.weighted_sum(
            self._generation, [index[p] for p in kept], [weights[p] for p in kept], out
        )

    def _kept(self, directions: int) -> int:
        """k, in proportion where the population is larger than it was meant to be."""
        top_k: int = self._distribution.parameters["top_k"]
        pairs: int = self._popsize // 2
        return -(-top_k * directions // pairs)

    # ---- both

    def _update_distribution(self, gradients: dict[str, Any]) -> None:
        if "sigma" in gradients or self._stdev_min is not None or self._stdev_max is not None:
            super()._update_distribution(gradients)
        else:  # in place: to make a distribution takes longer than to update it
            rates, optimizers = {"mu": self._center_learning_rate}, {}
            if self._optimizer is not None:
                rates, optimizers = {}, {"mu": self._optimizer}
            self._distribution.mu = self._distribution.next_center(gradients, rates, optimizers)
        if self._box is not None:
            self._distribution.mu = reflect(self._distribution.mu, *self._box)

    def _population_fitnesses(self) -> torch.Tensor:
        if self._found is not None:
            return self._found.evals
        evals = self._fitnesses()
        return evals[:-1] if self._with_center else evals

    def _get_mean_eval(self) -> float | None:
        if self._population is None:
            return self._mean_eval
        return float(self._population_fitnesses().mean())

    def _get_median_eval(self) -> float:
        return float(self._population_fitnesses().median())

    def _get_popsize(self) -> int:
        if self._population is None and self._found is None:
            return 0
        return len(self._population_fitnesses())

    def _get_pop_best(self) -> Any:
        if self._best is not None:
            return self._best[0].clone()
        population = self.population
        return population[int(population.argbest(self._obj_index))].clone()

    def _get_pop_best_eval(self) -> float:
        return float(self._get_pop_best().evals[self._obj_index])

    def _get_center_eval(self) -> float:
        return self._center_fitness


def is_here(device: str) -> bool:
    """Whether random numbers made on a device can be made again in this process."""
    return device.startswith("cpu")


def bounds_of(problem: Problem) -> Box | None:
    """Lower and upper bound of each variable, shape (d,), or None without any."""
    sides = problem.lower_bounds, problem.upper_bounds
    if all(side is None for side in sides):
        return None
    like = torch.empty(problem.solution_length, dtype=problem.dtype, device=problem.device)
    low, high = (torch.full_like(like, math.inf * sign) if side is None else side.expand_as(like)
                 for side, sign in zip(sides, (-1, 1), strict=True))  # fmt: skip
    return low.clone(), high.clone()
