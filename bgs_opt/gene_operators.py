"""Selection, mating, crossover, mutation and migration of genes: points on the unit sphere.

The steps of a genetic algorithm over latent variables, as in Evolutionary Policy Optimization
(Wang et al. 2025, arXiv 2503.19037), with islands in a ring. Truncation and tournament selection
as in Blickle & Thiele 1996, "A comparison of selection schemes used in evolutionary algorithms"
(doi 10.1162/evco.1996.4.4.361). Each function handles one island, but for the migration, and
knows nothing of the others; what is random comes from the generator that is passed in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bgs_opt.protocols import FloatArray, IntArray

__all__ = [
    "cosine_distance",
    "crossover",
    "migration",
    "mutated",
    "normalized",
    "permuted",
    "random_genes",
    "ranking",
    "survivors",
    "tournaments",
]


def normalized(points: FloatArray, otherwise: FloatArray) -> FloatArray:
    """Rows of norm one, in the direction of each point; ``otherwise`` where that is zero.

    Parameters
    ----------
    points, otherwise : ndarray of float64, shape (n, d)
        Finite, of any magnitude; rows of norm one.

    Returns
    -------
    ndarray of float64, shape (n, d)

    Examples
    --------
    >>> import numpy as np
    >>> normalized(np.array([[3e200, 4e200], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    array([[0.6, 0.8],
           [0. , 1. ]])
    """
    largest = np.abs(points).max(axis=1, keepdims=True)
    known = largest > 0
    # a power of two, so that nothing is rounded; two halves, as 2**1074 is no number of its own
    power = np.frexp(np.where(known, largest, 1.0))[1]
    scaled = np.ldexp(np.ldexp(points, -(power // 2)), power // 2 - power)
    norms = np.sqrt(np.sum(scaled * scaled, axis=1, keepdims=True))
    return np.where(known, scaled / np.where(known, norms, 1.0), otherwise)


def random_genes(count: int, dim: int, rng: np.random.Generator) -> FloatArray:
    """Points drawn uniformly from the unit sphere, shape (count, dim).

    Directions of Gaussian vectors (Muller 1959, doi 10.1145/377939.377946).

    Examples
    --------
    >>> import numpy as np
    >>> genes = random_genes(3, 5, np.random.default_rng(0))
    >>> np.linalg.norm(genes, axis=1).round(12)
    array([1., 1., 1.])
    """
    first = np.zeros((count, dim))
    first[:, 0] = 1.0
    return normalized(rng.standard_normal((count, dim)), first)


def ranking(fitnesses: FloatArray) -> IntArray:
    """Indices from the largest fitness to the smallest; NaN and infinities last, ties in order.

    Examples
    --------
    >>> import numpy as np
    >>> ranking(np.array([1.0, np.nan, 3.0, np.inf, 3.0])).tolist()
    [2, 4, 0, 1, 3]
    """
    losses = np.where(np.isfinite(fitnesses), -fitnesses, np.inf)
    return np.argsort(losses, kind="stable").astype(np.int64)


def survivors(fitnesses: FloatArray, count: int) -> IntArray:
    """Truncation selection: the first ``count`` of :func:`ranking` whose fitness is finite.

    Examples
    --------
    >>> import numpy as np
    >>> survivors(np.array([1.0, np.nan, 3.0, 2.0]), 2).tolist()
    [2, 3]
    >>> survivors(np.array([np.nan, -np.inf, 3.0]), 2).tolist()
    [2]
    """
    best = ranking(fitnesses)[:count]
    return np.asarray(best[np.isfinite(fitnesses[best])])


def tournaments(ranked: IntArray, children: int, size: int, rng: np.random.Generator) -> IntArray:
    """Parents of each child: the two best of ``size`` genes drawn without replacement.

    With s genes to draw from, rank r (0 is the best) wins with probability
    C(s - 1 - r, t - 1) / C(s, t) and is second with r C(s - 1 - r, t - 2) / C(s, t).

    Parameters
    ----------
    ranked : ndarray of int64, shape (s,)
        Indices of the genes that may mate, the best first, at least one. A single one mates
        with itself.
    children : int
    size : int
        t, 2 or more; where it exceeds s all genes take part.

    Returns
    -------
    ndarray of int64, shape (children, 2)
        Entries of ``ranked``: two different ones, the fitter first.

    Examples
    --------
    >>> import numpy as np
    >>> tournaments(np.array([7, 3]), 2, 2, np.random.default_rng(0)).tolist()
    [[7, 3], [7, 3]]
    """
    if len(ranked) == 1:
        return np.repeat(ranked, 2 * children).reshape(children, 2)
    order = np.argsort(rng.random((children, len(ranked))), axis=1)
    drawn = np.sort(order[:, :size], axis=1)  # places in `ranked`, so the least is the fittest
    return np.asarray(ranked[drawn[:, :2]])


def crossover(
    first: FloatArray, second: FloatArray, temperature: float, rng: np.random.Generator
) -> FloatArray:
    """Children between their parents, each coordinate on its own; not yet of norm one.

    child = (1 - w) first + w second with w = 1 / (1 + exp(-z / temperature)), z ~ N(0, 1). A low
    temperature takes each coordinate from either parent, a high one the middle.

    Parameters
    ----------
    first, second : ndarray of float64, shape (n, d)
    temperature : float
        > 0.

    Returns
    -------
    ndarray of float64, shape (n, d)
        Each coordinate lies between those of the parents, whatever the rounding.

    Examples
    --------
    >>> import numpy as np
    >>> first, second = np.zeros((1, 4)), np.ones((1, 4))
    >>> crossover(first, second, 1e-9, np.random.default_rng(0))
    array([[1., 0., 1., 1.]])
    >>> crossover(first, second, 1e9, np.random.default_rng(0)).round(6)
    array([[0.5, 0.5, 0.5, 0.5]])
    """
    with np.errstate(over="ignore"):  # an infinite one gives a weight of 0 or 1
        weight = (1 + np.tanh(rng.standard_normal(first.shape) / temperature / 2)) / 2
    between = (1 - weight) * first + weight * second
    return np.clip(between, np.minimum(first, second), np.maximum(first, second))


def mutated(genes: FloatArray, std: float, rng: np.random.Generator) -> FloatArray:
    """Genes plus Gaussian noise of standard deviation ``std`` in each coordinate, shape (n, d).

    Not yet of norm one: the noise has a length of about std sqrt(d) beside a gene's 1.

    Examples
    --------
    >>> import numpy as np
    >>> mutated(np.zeros((1, 3)), 0.1, np.random.default_rng(0)).round(3)
    array([[ 0.013, -0.013,  0.064]])
    """
    return np.asarray(genes + std * rng.standard_normal(genes.shape))


def migration(ranked: IntArray, first: int, count: int) -> IntArray:
    """Who goes where when each island of a ring sends ``count`` genes to the next one.

    Those of the ranks ``first`` to ``first + count - 1`` go, each to the place that the gene of
    the same rank left on the next island, the last island's to the first: no gene is copied and
    none is lost.

    Parameters
    ----------
    ranked : ndarray of int64, shape (islands, genes)
        Indices of the genes of each island, the best first.
    first, count : int
        ``first + count`` is at most ``genes``.

    Returns
    -------
    ndarray of int64, shape (islands * count, 2)
        From, to; by island, then by rank.

    Examples
    --------
    >>> import numpy as np
    >>> migration(np.array([[2, 0, 1], [3, 4, 5], [8, 7, 6]]), 1, 1).tolist()
    [[0, 4], [4, 7], [7, 0]]
    """
    leaving = ranked[:, first : first + count]
    return np.stack([leaving, np.roll(leaving, -1, axis=0)], axis=-1).reshape(-1, 2)


def permuted(array: npt.NDArray[Any], moves: IntArray) -> npt.NDArray[Any]:
    """Copy of an array after the entries of the first column went to those of the second.

    Examples
    --------
    >>> import numpy as np
    >>> permuted(np.array([10, 11, 12]), np.array([[0, 2], [2, 0]]))
    array([12, 11, 10])
    """
    out = array.copy()
    out[moves[:, 1]] = array[moves[:, 0]]
    return out


def cosine_distance(genes: FloatArray) -> float:
    """Mean of 1 - g_i . g_j over all pairs of n points of norm one; 0 of one point.

    Since |sum g|^2 = n + 2 sum_{i<j} g_i . g_j, it needs no pair.

    Examples
    --------
    >>> import numpy as np
    >>> cosine_distance(np.array([[1.0, 0.0], [0.0, 1.0]]))
    1.0
    """
    n = len(genes)
    if n < 2:
        return 0.0
    total = genes.sum(axis=0)
    mean = (float(np.sum(total * total)) - float(np.sum(genes * genes))) / (n * (n - 1))
    return 1.0 - mean
