"""A pool of genes as data, and the step from one generation to the next.

Selection, crossover and mutation within islands after Wang et al. 2025 (arXiv 2503.19037), then
migration along a ring of islands. The step is a function of configuration, state and fitnesses:
its random numbers are those of (entropy, generation, island).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bgs_opt import gene_operators as operators
from bgs_opt.gene_state import BestGene, GeneConfig, GeneState
from bgs_opt.protocols import FloatArray, IntArray
from bgs_opt.streams import generator_at

__all__ = [
    "Diversity",
    "EvolutionReport",
    "IslandFitness",
    "diversity",
    "evolved",
    "island_fitness",
]

_MATING, _CROSSOVER, _MUTATION = 8, 9, 10  # purposes; 7 is that of the first genes


class Diversity(NamedTuple):
    """Mean cosine distance of two genes: of all, and of each island, shape (islands,)."""

    overall: float
    islands: FloatArray


class IslandFitness(NamedTuple):
    """Largest and mean finite fitness of each island, shape (islands,); NaN without any."""

    best: FloatArray
    mean: FloatArray


@dataclass(frozen=True, eq=False)
class EvolutionReport:
    """What one generation did; indices are places in the pool.

    Attributes
    ----------
    generation : int
        The number of the generation that is now open: how often the pool was told.
    evolved : bool
        False if no fitness was finite: then genes and lineages are as they were.
    survivors : ndarray of int64
        Genes that were selected, by island, the fittest first. They keep their places.
    elites : ndarray of int64
        The survivors that kept their bits and did not migrate.
    children : ndarray of int64, shape (c,)
        Places that new genes took, ascending by island.
    parents : ndarray of int64, shape (c, 2)
        Of each child, the fitter first.
    migrants : ndarray of int64, shape (m, 2)
        From where to where genes went, after mating and mutation.
    diversity : Diversity
        Of the new genes.
    island_fitness : IslandFitness
        Of the fitnesses that were told.
    """

    generation: int
    evolved: bool
    survivors: IntArray
    elites: IntArray
    children: IntArray
    parents: IntArray
    migrants: IntArray
    diversity: Diversity
    island_fitness: IslandFitness


def diversity(genes: FloatArray, islands: int) -> Diversity:
    """Mean cosine distance over all pairs, and over those of each island."""
    own = [operators.cosine_distance(part) for part in np.split(genes, islands)]
    return Diversity(operators.cosine_distance(genes), np.array(own))


def island_fitness(fitnesses: FloatArray, islands: int) -> IslandFitness:
    """Best and mean of the finite fitnesses of each island."""
    best, mean = np.full(islands, np.nan), np.full(islands, np.nan)
    for island, part in enumerate(np.split(fitnesses, islands)):
        finite = part[np.isfinite(part)]
        if len(finite):
            best[island], mean[island] = finite.max(), np.mean(finite / len(finite)) * len(finite)
    return IslandFitness(best, mean)


class _Brood(NamedTuple):
    """What became of one island: its survivors, the new places and their parents."""

    survivors: IntArray
    children: IntArray
    parents: IntArray


def _mate(
    config: GeneConfig, island: int, generation: int, fitnesses: FloatArray, genes: FloatArray
) -> _Brood:
    """Write the next genes of one island in place of the old ones, which are of this island."""
    empty = np.empty((0, 2), np.int64)
    draw = functools.partial(generator_at, config.entropy, generation=generation, index=island)
    chosen = operators.survivors(fitnesses, config.num_selected)
    if not len(chosen):
        return _Brood(chosen, empty[:, 0], empty)
    children = np.setdiff1d(np.arange(len(genes)), chosen)
    parents = empty
    if len(children):
        size = config.tournament_size
        parents = operators.tournaments(chosen, len(children), size, draw(purpose=_MATING))
        first, second = genes[parents[:, 0]], genes[parents[:, 1]]
        between = operators.crossover(
            first, second, config.crossover_temperature, draw(purpose=_CROSSOVER)
        )
        genes[children] = operators.normalized(between, first)
    if config.mutation_std:
        free = np.concatenate([chosen[config.num_elites :], children])
        noisy = operators.mutated(genes[free], config.mutation_std, draw(purpose=_MUTATION))
        genes[free] = operators.normalized(noisy, genes[free])
    return _Brood(chosen, children, parents)


def _migrate(config: GeneConfig, generation: int, fitnesses: FloatArray) -> IntArray:
    """Moves at the end of a generation, by the fitness that the places had; shape (m, 2)."""
    count = config.num_migrants
    if not count or (generation + 1) % config.migrate_every:
        return np.empty((0, 2), np.int64)
    parts = np.split(fitnesses, config.islands)
    starts = range(0, config.size, config.genes_per_island)
    ranked = np.stack([operators.ranking(p) + at for p, at in zip(parts, starts, strict=True)])
    return operators.migration(ranked, config.num_elites, count)


def evolved(
    config: GeneConfig, state: GeneState, fitnesses: FloatArray
) -> tuple[GeneState, EvolutionReport]:
    """Return the next generation and what was done, from the fitness of each gene, shape (n,).

    An island without any finite fitness stays as it is, but takes part in the migration; if
    there is none in the pool, nothing changes but the number of the generation.
    """
    genes, lineages = state.genes.copy(), state.lineages.copy()
    fittest, best, moves = state.fittest, state.best, np.empty((0, 2), np.int64)
    broods, elites = [], []
    for island in range(config.islands):
        at = island * config.genes_per_island
        own = slice(at, at + config.genes_per_island)
        brood = _mate(config, island, state.generation, fitnesses[own], genes[own])
        brood = _Brood(*(places + at for places in brood))
        lineages[brood.children] = lineages[brood.parents[:, 0]]
        broods.append(brood)
        elites.append(brood.survivors[: config.num_elites])
    finite = bool(np.isfinite(fitnesses).any())
    if finite:
        fittest = int(operators.ranking(fitnesses)[0])
        if best is None or fitnesses[fittest] > best.fitness:
            best = BestGene(state.genes[fittest].copy(), float(fitnesses[fittest]))
        moves = _migrate(config, state.generation, fitnesses)
        genes, lineages = operators.permuted(genes, moves), operators.permuted(lineages, moves)
        fittest = int(operators.permuted(np.arange(config.size), moves[:, ::-1])[fittest])
    after = GeneState(genes, lineages, fitnesses, state.generation + 1, fittest, best)
    joined = _Brood(*(np.concatenate(parts) for parts in zip(*broods, strict=True)))
    return after, EvolutionReport(
        after.generation, finite, joined.survivors, np.concatenate(elites), joined.children,
        joined.parents, moves, diversity(genes, config.islands),
        island_fitness(fitnesses, config.islands),
    )  # fmt: skip
