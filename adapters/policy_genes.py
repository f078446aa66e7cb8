"""Latent genes in a training: who plays with which, what that says of them, how they change.

Each candidate is played with every gene (or with a share of them), so that the network moves by
what holds for all; the pool evolves by what each gene earned (Wang et al. 2025, Evolutionary
Policy Optimization, arXiv 2503.19037). Genes can be searched like the network, too, by pairs
g + sigma e, g - sigma e that are played along with those of the network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bgs_opt import BGS, GenePool
from bgs_opt.candidates import Candidates
from bgs_opt.errors import ArgumentValueError
from bgs_opt.protocols import FloatArray, IntArray
from bgs_opt.selection import direction_weights, finite_rewards
from bgs_opt.streams import generator_at
from bgs_opt.validation import integer, real, wrong_type

__all__ = ["GeneRun", "Genes"]

_TURNS, _NOISE = 11, 12  # purposes of streams; samplers and pools have those below
_NUMBERS = ("share", "evolve_every", "evolve_after", "sigma", "learning_rate")


@dataclass(frozen=True)
class Genes:
    """How a pool of genes takes part in :func:`bgs_opt.adapters.policy.train`.

    Parameters
    ----------
    pool : GenePool
        A copy of it evolves; it stands in ``TrainResult.pool``.
    share : float
        Of the genes that the candidates of one generation are played with, in (0, 1]: rounded up,
        and by turns, so that all are played equally often.
    evolve_every : int
        Generations between two steps of evolution, which wait until every gene was played; 0:
        none.
    evolve_after : int
        Generations before the first of them.
    sigma : float
        Size of the perturbations by which genes are searched themselves, in each of their
        coordinates (they have length 1); 0: they change by evolution alone.
    learning_rate : float, optional
        Step size of that search; 0.7 sigma by default.
    fitness : callable, optional
        ``fitness(returns) -> float`` of the returns, shape (n,), that a gene had since the pool
        last evolved, those that are not finite left out; their mean by default.
    """

    pool: GenePool
    share: float = 1.0
    evolve_every: int = 1
    evolve_after: int = 0
    sigma: float = 0.0
    learning_rate: float | None = None
    fitness: Callable[[FloatArray], float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pool, GenePool):
            wrong_type("pool", "a bgs_opt.GenePool", self.pool)
        real("share", self.share, 0, 1, open_low=True)
        integer("evolve_every", self.evolve_every, 0)
        integer("evolve_after", self.evolve_after, 0)
        real("sigma", self.sigma, 0)
        if self.learning_rate is not None:
            real("learning_rate", self.learning_rate, 0)
        if self.fitness is not None and not callable(self.fitness):
            wrong_type("fitness", "a callable of returns or None", self.fitness)

    @property
    def count(self) -> int:
        """Genes that each candidate is played with."""
        return math.ceil(self.share * len(self.pool))


@dataclass(eq=False)
class GeneRun:
    """The pool of a training, and what its genes earned.

    Parameters
    ----------
    options : Genes
    entropy : int
        Of the search of the genes.
    """

    options: Genes
    entropy: int
    pool: GenePool = field(init=False)
    returns: list[list[float]] = field(init=False)  # of each gene since the pool last evolved
    evolved: int = 0  # generations before that

    def __post_init__(self) -> None:
        self.pool = copy.deepcopy(self.options.pool)
        self.returns = [[] for _ in range(len(self.pool))]

    # ---- who plays with which

    def chosen(self, generation: int) -> IntArray:
        """Places of the genes that a generation is played with, in the order of scenarios."""
        size, count = len(self.pool), self.options.count
        if count == size:
            return np.arange(size)
        turn_of, turn = divmod(generation, -(-size // count))
        order = generator_at(self.entropy, _TURNS, turn_of, 0).permutation(size)
        return np.asarray(order[(turn * count + np.arange(count)) % size])

    def of_candidates(self, candidates: Candidates) -> FloatArray:
        """The gene that each candidate is played with, shape (n, dim)."""
        genes = self.pool.genes[self.chosen(candidates.generation)[candidates.scenarios]]
        if not self.options.sigma:
            return genes
        directions = self._directions(candidates.generation)
        noise = {pair: directions(pair) for pair in set(candidates.pairs.tolist()) - {-1}}
        rows = zip(
            candidates.pairs.tolist(), candidates.scenarios.tolist(), candidates.signs.tolist(),
            strict=True,
        )  # fmt: skip
        moves = [
            sign * noise[pair][scenario] if sign else np.zeros(self.pool.dim)
            for pair, scenario, sign in rows
        ]
        moved = genes + self.options.sigma * np.stack(moves)
        return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True))

    def _directions(self, generation: int) -> Callable[[int], FloatArray]:
        """Directions (count, dim) of the genes beside a pair of the network."""
        shape = (self.options.count, self.pool.dim)
        return lambda pair: generator_at(self.entropy, _NOISE, generation, pair).standard_normal(
            shape
        )

    # ---- what it says of them

    def learn(
        self, opt: BGS, candidates: Candidates, values: FloatArray, returns: FloatArray,
        played: Any,
    ) -> None:  # fmt: skip
        """Search and evolve by the episodes of a generation.

        Parameters
        ----------
        opt : BGS
            By whose ``top_k`` and ``selection`` genes are searched.
        candidates : Candidates
        values, returns : ndarray of float64, shape (n,)
            Of their episodes, with the reward shift and without.
        played : ndarray of bool, shape (n,)
            False where the episode was given up.
        """
        places = self.chosen(candidates.generation)[candidates.scenarios]
        for place, earned in zip(places[played].tolist(), returns[played].tolist(), strict=True):
            self.returns[place].append(earned)
        if self.options.sigma:
            self._move(opt, candidates, np.where(played, values, np.nan), played)
        now = candidates.generation + 1
        every = self.options.evolve_every
        due = every and now > self.options.evolve_after and now - self.evolved >= every
        if due and all(self.returns):
            self.pool.evolve([self._fitness(np.array(earned)) for earned in self.returns])
            self.returns = [[] for _ in self.returns]
            self.evolved = now

    def _fitness(self, earned: FloatArray) -> float:
        finite = earned[np.isfinite(earned)]
        if not finite.size:
            return math.nan
        return float((self.options.fitness or np.mean)(finite))

    def _move(self, opt: BGS, candidates: Candidates, values: FloatArray, played: Any) -> None:
        """A step of BGS for each gene by itself."""
        chosen = self.chosen(candidates.generation)
        directions = self._directions(candidates.generation)
        genes = self.pool.genes.copy()
        rate = self.options.learning_rate
        rate = 0.7 * self.options.sigma if rate is None else rate
        pairs, signs, scenarios = candidates.pairs, candidates.signs, candidates.scenarios
        numbers = np.unique(pairs[pairs >= 0]).tolist()
        for scenario, place in enumerate(chosen.tolist()):
            ends = {}
            for pair in numbers:
                mine = (pairs == pair) & (scenarios == scenario)
                if played[mine].all():
                    ends[pair] = [values[mine & (signs == sign)].mean() for sign in (1, -1)]
            if not ends:
                continue
            plus, minus, usable = finite_rewards(*np.array(list(ends.values())).T)
            weights = direction_weights(
                plus, minus, top_k=opt._config.top_k, mean_weight=opt._config.mean_weight,
                accepted=usable,
            )  # fmt: skip
            for pair, weight in zip(ends, weights.tolist(), strict=True):
                genes[place] += rate * weight * directions(pair)[scenario] if weight else 0
        self.pool.move(genes)

    def row(self) -> dict[str, float]:
        """What is logged of a generation."""
        fitness = self.pool.island_fitness
        islands = {f"fitness_{n}": float(value) for n, value in enumerate(fitness.best)}
        return {"diversity": self.pool.diversity().overall, **islands}

    # ---- keeping

    def state(self) -> dict[str, Any]:
        """Everything as plain numbers and arrays."""
        counts = [len(earned) for earned in self.returns]
        return {
            "pool": self.pool.state_dict(),
            "options": {name: getattr(self.options, name) for name in _NUMBERS},
            "evolved": self.evolved,
            "returns": np.array([value for earned in self.returns for value in earned]),
            "places": np.repeat(np.arange(len(counts)), counts),
        }

    def restore(self, state: dict[str, Any], path: str) -> None:
        """Go on where a run was kept.

        Raises
        ------
        ArgumentValueError
            If it had another pool, or other options for it.
        """
        pool = GenePool.from_state(state["pool"])
        mine, kept = self.pool.state_dict(), state["pool"]
        changing = {"entropy", "generation", "fittest", "best_fitness"}
        same = {name: value for name, value in mine.items() if isinstance(value, (int, float))}
        numbers = {name: getattr(self.options, name) for name in _NUMBERS}
        if numbers != state["options"] or any(
            kept[name] != value for name, value in same.items() if name not in changing
        ):
            raise ArgumentValueError(
                f"genes: expected what the run in {path} was started with; got something else"
            )
        self.pool, self.evolved = pool, integer("evolved", state["evolved"], 0, 1 << 62)
        self.returns = [[] for _ in range(len(pool))]
        for place, value in zip(state["places"].tolist(), state["returns"].tolist(), strict=True):
            self.returns[integer("places", place, 0, len(pool) - 1)].append(value)
