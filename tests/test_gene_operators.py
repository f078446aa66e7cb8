"""Each step of the genetic algorithm against a closed form, SciPy or plain Python numbers."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.spatial.distance import pdist

from bgs_opt import gene_operators as operators

ANY = settings(derandomize=True, deadline=None, database=None, max_examples=150)
FLOATS = st.floats(width=64)
COORDINATES = st.floats(-1, 1)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def close(observed: np.ndarray, expected: np.ndarray) -> bool:
    """Whether counts are as likely as probabilities say; the numbers are always the same."""
    return bool(stats.chisquare(observed, expected * observed.sum()).pvalue > 1e-3)


# ---- the sphere


@ANY
@given(
    st.lists(st.integers(-1000, 1000), min_size=1, max_size=6).filter(any),
    st.integers(-1070, 1000),
)
def test_a_point_of_any_magnitude_keeps_its_direction_and_gets_norm_one(whole, exponent):
    point = np.array([[math.ldexp(number, exponent) for number in whole]])
    unit = operators.normalized(point, np.full(point.shape, np.nan))[0]
    assert abs(math.hypot(*unit) - 1) < 1e-12
    np.testing.assert_allclose(unit, np.array(whole) / math.hypot(*whole), rtol=1e-14)


def test_only_a_point_without_direction_becomes_the_other_one():
    other = np.array([[0.6, 0.8], [1.0, 0.0]])
    unit = operators.normalized(np.array([[0.0, -0.0], [0.0, -5e-324]]), other)
    np.testing.assert_array_equal(unit, [[0.6, 0.8], [0.0, -1.0]])


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 400])
def test_random_genes_have_norm_one(dim):
    genes = operators.random_genes(50, dim, generator(dim))
    assert genes.shape == (50, dim)
    assert max(abs(math.hypot(*gene) - 1) for gene in genes) < 1e-12


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_random_genes_are_uniform_on_the_sphere(dim):
    """A coordinate x of a uniform point has (1 + x) / 2 ~ Beta((d - 1) / 2, (d - 1) / 2)."""
    genes = operators.random_genes(4000, dim, generator(3))
    axis = np.arange(1.0, dim + 1) / np.linalg.norm(np.arange(1.0, dim + 1))
    law = stats.beta((dim - 1) / 2, (dim - 1) / 2)
    for coordinate in (genes[:, 0], genes[:, -1], genes @ axis):
        assert stats.kstest((1 + coordinate) / 2, law.cdf).pvalue > 1e-3


# ---- selection


@ANY
@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_genes_are_ranked_as_python_sorts_them_with_failures_last(values):
    def key(index: int) -> tuple[bool, float, int]:
        failed = not math.isfinite(values[index])
        return failed, 0.0 if failed else -values[index], index

    ranked = operators.ranking(np.array(values))
    assert ranked.dtype == np.int64
    assert ranked.tolist() == sorted(range(len(values)), key=key)


@ANY
@given(st.lists(FLOATS, min_size=1, max_size=20), st.integers(2, 20))
def test_the_largest_finite_fitnesses_survive(values, count):
    finite = sorted((v for v in values if math.isfinite(v)), reverse=True)
    kept = operators.survivors(np.array(values), count)
    assert [values[index] for index in kept] == finite[:count]
    assert len(set(kept.tolist())) == len(kept)


# ---- tournaments


def pair_law(selected: int, size: int) -> dict[tuple[int, int], float]:
    """How often two ranks are the parents, from every tournament that there is."""
    drawn = list(itertools.combinations(range(selected), size))
    return {pair: n / len(drawn) for pair, n in Counter(d[:2] for d in drawn).items()}


@pytest.mark.parametrize(("selected", "size"), [(2, 2), (5, 2), (8, 3), (8, 4), (6, 6)])
def test_parents_come_from_all_selected_genes_as_often_as_tournaments_say(selected, size):
    """Upstream takes places within the tournament for genes: the first few were all parents."""
    ranked = generator(1).permutation(100)[:selected]
    parents = operators.tournaments(ranked, 20_000, size, generator(2))
    law = pair_law(selected, size)
    rank = {gene: at for at, gene in enumerate(ranked.tolist())}
    counts = Counter((rank[a], rank[b]) for a, b in parents.tolist())
    assert set(counts) == set(law)
    assert len(law) == 1 or close(np.array([counts[p] for p in law]), np.array([*law.values()]))


@pytest.mark.parametrize(("selected", "size"), [(5, 2), (8, 3), (9, 5)])
def test_the_formulas_of_the_docstring_are_the_law_of_tournaments(selected, size):
    law = pair_law(selected, size)
    for rank in range(selected):
        worse, all_ = selected - 1 - rank, math.comb(selected, size)
        won = sum(p for pair, p in law.items() if pair[0] == rank)
        second = sum(p for pair, p in law.items() if pair[1] == rank)
        assert won == pytest.approx(math.comb(worse, size - 1) / all_)
        assert second == pytest.approx(rank * math.comb(worse, size - 2) / all_)


@ANY
@given(st.integers(2, 9), st.integers(2, 12), st.integers(0, 20), st.integers(0, 99))
def test_two_different_genes_mate_the_fitter_first(selected, size, children, seed):
    ranked = generator(seed).permutation(50)[:selected]
    parents = operators.tournaments(ranked, children, size, generator(seed))
    assert parents.shape == (children, 2)
    place = {gene: at for at, gene in enumerate(ranked.tolist())}
    assert all(place[first] < place[second] for first, second in parents.tolist())


def test_a_gene_alone_mates_with_itself():
    parents = operators.tournaments(np.array([4]), 3, 2, generator())
    assert parents.tolist() == [[4, 4]] * 3


# ---- crossover


@ANY
@given(
    arrays(np.float64, (3, 4), elements=COORDINATES),
    arrays(np.float64, (3, 4), elements=COORDINATES),
    st.floats(1e-300, 1e300),
    st.integers(0, 99),
)
def test_each_coordinate_of_a_child_lies_between_those_of_its_parents(first, second, hot, seed):
    child = operators.crossover(first, second, hot, generator(seed))
    assert (np.minimum(first, second) <= child).all()
    assert (child <= np.maximum(first, second)).all()


@pytest.mark.parametrize("temperature", [5e-324, 1e-12])
def test_a_cold_crossover_takes_each_coordinate_from_either_parent_half_the_time(temperature):
    first, second = generator(1).normal(size=(2, 100, 50))
    child = operators.crossover(first, second, temperature, generator(2))
    from_first = child == first
    assert (from_first | (child == second)).all()
    assert abs(from_first.mean() - 0.5) < 5 * 0.5 / math.sqrt(5000)
    assert 0 < from_first.mean(axis=1).min() < from_first.mean(axis=1).max() < 1


def test_a_hot_crossover_gives_the_middle():
    first, second = generator(1).normal(size=(2, 10, 5))
    child = operators.crossover(first, second, 1e12, generator(2))
    np.testing.assert_allclose(child, (first + second) / 2, atol=1e-11)


@pytest.mark.parametrize("temperature", [0.5, 1.5, 4.0])
def test_the_logit_of_a_weight_is_normal_with_the_inverse_temperature(temperature):
    weights = operators.crossover(
        np.zeros((1, 4000)), np.ones((1, 4000)), temperature, generator()
    )
    logits = np.log(weights / (1 - weights))[0]
    assert stats.kstest(logits * temperature, "norm").pvalue > 1e-3


# ---- mutation


@pytest.mark.parametrize("std", [1e-6, 0.1, 3.0])
def test_mutation_adds_normal_noise_of_the_stated_deviation(std):
    genes = operators.random_genes(100, 50, generator(1))
    noise = (operators.mutated(genes, std, generator(2)) - genes).ravel() / std
    # the mean square of n normal numbers has a deviation of sqrt(2 / n)
    assert abs(np.mean(noise**2) - 1) < 5 * math.sqrt(2 / noise.size)
    assert stats.kstest(noise, "norm").pvalue > 1e-3


# ---- migration


@ANY
@given(st.integers(2, 5), st.integers(2, 24), st.data())
def test_migration_sends_the_right_number_to_the_next_island_and_loses_none(islands, size, data):
    """Upstream rolled along the genes of an island, and a count beyond 10 was no integer."""
    first = data.draw(st.integers(0, size - 1))
    count = data.draw(st.integers(1, size - first))
    random = generator(data.draw(st.integers(0, 99)))
    ranked = np.stack([random.permutation(size) + size * i for i in range(islands)])
    moves = operators.migration(ranked, first, count)
    assert moves.shape == (islands * count, 2)
    for island in range(islands):
        leaving = moves[moves[:, 0] // size == island]
        assert leaving[:, 0].tolist() == ranked[island, first : first + count].tolist()
        assert set((leaving[:, 1] // size).tolist()) == {(island + 1) % islands}
    genes = random.normal(size=(islands * size, 3))
    after = operators.permuted(genes, moves)
    assert sorted(map(tuple, after.tolist())) == sorted(map(tuple, genes.tolist()))
    np.testing.assert_array_equal(after[moves[:, 1]], genes[moves[:, 0]])
    stays = np.setdiff1d(np.arange(len(genes)), moves[:, 0])
    np.testing.assert_array_equal(after[stays], genes[stays])


# ---- diversity


@ANY
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 99))
def test_diversity_is_the_mean_over_all_pairs(count, dim, seed):
    genes = operators.random_genes(count, dim, generator(seed))
    expected = np.mean([1 - math.fsum(a * b) for a, b in itertools.combinations(genes, 2)])
    assert operators.cosine_distance(genes) == pytest.approx(expected, abs=1e-12)


def test_diversity_agrees_with_scipy():
    genes = operators.random_genes(30, 7, generator(5))
    assert operators.cosine_distance(genes) == pytest.approx(pdist(genes, "cosine").mean())


@pytest.mark.parametrize(("genes", "expected"), [([[0.6, 0.8]] * 5, 0), ([[1.0], [-1.0]], 2)])
def test_equal_genes_have_no_diversity_and_opposite_ones_the_most(genes, expected):
    assert operators.cosine_distance(np.array(genes)) == pytest.approx(expected, abs=1e-15)
