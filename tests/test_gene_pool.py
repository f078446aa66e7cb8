"""A pool of genes: what a generation does, what it promises, what is refused, what is kept.

`tests/test_gene_operators.py` has the laws of the single steps.
"""

import copy
import itertools
import math
import os
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist

from bgs_opt import BGS, EvolutionReport, GenePool
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError, CheckpointError
from tests.helpers import python
from tests.test_gene_operators import ANY, pair_law

NAN, INF = math.nan, math.inf
VALUE, TYPE = ArgumentValueError, ArgumentTypeError


@st.composite
def pools(draw, **fixed):
    """A pool with any arguments that go together."""
    genes = draw(st.integers(3, 24))
    selected = draw(st.integers(2, genes - 1))
    given_ = {
        "dim": draw(st.integers(2, 6)),
        "genes_per_island": genes,
        "islands": draw(st.integers(1, 4)),
        "num_selected": selected,
        "tournament_size": draw(st.integers(2, selected)),
        "num_elites": draw(st.integers(0, selected)),
        "mutation_std": draw(st.sampled_from([0.0, 1e-3, 0.5])),
        "migrate_every": draw(st.integers(1, 3)),
        "migrate_fraction": draw(st.sampled_from([0.0, 0.1, 0.7, 1.0])),
        "crossover_temperature": draw(st.sampled_from([1e-3, 1.5, 1e3])),
        "seed": draw(st.integers(0, 999)),
    }
    return GenePool(**given_ | fixed)


def contents(pool: GenePool) -> dict[str, object]:
    """The state, to be compared bit for bit."""
    return {
        name: (value.dtype.str, value.shape, value.tobytes())
        if isinstance(value, np.ndarray)
        else repr(value)
        for name, value in pool.state_dict().items()
    }


def fitness(pool: GenePool) -> np.ndarray:
    """A fitness without ties, of any pool."""
    return pool.genes @ np.linspace(-1, 1.3, pool.dim)


def play(pool: GenePool, generations: int) -> GenePool:
    for _ in range(generations):
        pool.tell(fitness(pool))
    return pool


def island_of(pool: GenePool, index: int) -> int:
    return index // pool.genes_per_island


def norms_off(genes: np.ndarray) -> float:
    return max(abs(math.hypot(*gene) - 1) for gene in genes)


# ---- before anything is told


def test_a_pool_starts_with_genes_of_norm_one_and_nothing_told():
    pool = GenePool(5, 6, 3, seed=1)
    assert pool.genes.shape == (18, 5)
    assert pool.genes.dtype == np.float64
    assert norms_off(pool.genes) < 1e-12
    assert np.isnan(pool.fitnesses).all()
    assert pool.lineages.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert (pool.generation, pool.fittest, pool.best, len(pool)) == (0, 0, None, 18)
    assert (pool.dim, pool.islands, pool.genes_per_island) == (5, 3, 6)
    assert np.isnan(pool.island_fitness.best).all()
    assert repr(pool) == "<GenePool(5, 6, 3) in generation 0>"


def test_the_defaults_are_those_of_the_docstring():
    state = GenePool(25, 16, seed=1).state_dict()
    assert {name: state[name] for name in list(state)[1:11]} == {
        "dim": 25, "genes_per_island": 16, "islands": 1, "num_selected": 8, "tournament_size": 4,
        "num_elites": 2, "mutation_std": 0.04, "migrate_every": 10, "migrate_fraction": 0.1,
        "crossover_temperature": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["genes", "fitnesses", "lineages"])
def test_what_a_pool_shows_cannot_be_written(name):
    pool = play(GenePool(3, 4, seed=1), 1)
    shown = getattr(pool, name)
    with pytest.raises(ValueError, match="read-only"):
        shown[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        pool.best.gene[0] = 1


def test_what_was_asked_and_told_is_the_callers():
    pool = GenePool(3, 4, seed=1)
    before = pool.genes.copy()
    asked, told = pool.ask(), np.arange(4.0)
    asked[:] = 0
    np.testing.assert_array_equal(pool.genes, before)
    pool.tell(told)
    told[:] = 7
    assert pool.fitnesses.tolist() == [0, 1, 2, 3]


# ---- selection and elites


@ANY
@given(pools(), st.data())
def test_the_fittest_of_each_island_survive_and_the_others_make_room_for_children(pool, data):
    values = data.draw(st.lists(st.floats(-1e9, 1e9), min_size=len(pool), max_size=len(pool)))
    state = pool.state_dict()
    report = pool.evolve(values)
    survivors, elites, children = [], [], []
    for start in range(0, len(pool), pool.genes_per_island):
        own = range(start, start + pool.genes_per_island)
        ranked = sorted(own, key=lambda index: (-values[index], index))
        survivors += ranked[: state["num_selected"]]
        elites += ranked[: state["num_elites"]]
        children += sorted(ranked[state["num_selected"] :])
    assert report.survivors.tolist() == survivors
    assert report.elites.tolist() == elites
    assert report.children.tolist() == children
    assert (report.evolved, report.generation, pool.generation) == (True, 1, 1)


@ANY
@given(pools(), st.integers(1, 4))
def test_elites_keep_their_bits_and_places_and_all_genes_norm_one(pool, generations):
    for _ in range(generations):
        before, values = pool.genes.copy(), fitness(pool)
        report = pool.evolve(values)
        elites = report.elites
        assert pool.genes[elites].tobytes() == before[elites].tobytes()
        assert not np.isin(elites, report.migrants).any()
        assert norms_off(pool.genes) < 1e-12


@ANY
@given(pools(num_elites=1), st.integers(1, 6))
def test_the_fittest_gene_of_each_island_is_never_lost(pool, generations):
    for _ in range(generations):
        before, values = pool.ask(), fitness(pool)
        best = [int(part.argmax()) for part in np.split(values, pool.islands)]
        pool.evolve(values)
        for island, at in enumerate(best):
            place = island * pool.genes_per_island + at
            assert pool.genes[place].tobytes() == before[place].tobytes()
        assert pool.fittest == int(values.argmax())
        assert pool.genes[pool.fittest].tobytes() == before[values.argmax()].tobytes()


def test_all_of_several_elites_are_spared():
    """Upstream spares one, whatever the number."""
    pool = GenePool(4, 9, num_selected=6, num_elites=3, mutation_std=0.3, seed=2)
    before, report = pool.ask(), pool.evolve(np.arange(9.0))
    assert report.elites.tolist() == [8, 7, 6]
    changed = (pool.genes != before).any(axis=1)
    assert changed.tolist() == [True] * 6 + [False] * 3


def test_survivors_that_are_no_elites_mutate_like_children():
    pool = GenePool(40, 100, num_selected=60, num_elites=10, mutation_std=1e-5, seed=3)
    before, report = pool.ask(), pool.evolve(np.arange(100.0))
    moved = report.survivors[10:]
    noise = (pool.genes - before)[moved] / 1e-5
    # to first order, only the part of the noise along the sphere is seen: d - 1 of d dimensions
    squares = np.sum(noise**2)
    assert abs(squares / (50 * 39) - 1) < 5 * math.sqrt(2 / (50 * 39)) + 1e-3
    assert abs(np.sum(noise * before[moved], axis=1)).max() < 1e-2


def test_with_as_many_elites_as_survivors_only_children_change():
    pool = GenePool(4, 10, num_selected=5, num_elites=5, mutation_std=0.5, seed=3)
    before, report = pool.ask(), pool.evolve(np.arange(10.0))
    assert pool.genes[report.survivors].tobytes() == before[report.survivors].tobytes()
    assert (pool.genes[report.children] != before[report.children]).all()


def test_without_elites_the_fittest_gene_is_followed_to_where_it_went():
    pool = GenePool(
        3, 4, 3, num_elites=0, mutation_std=0, migrate_every=1, migrate_fraction=0.25, seed=4
    )
    before = pool.ask()
    report = pool.evolve([0, 9, 1, 2, 3, 0, 0, 0, 4, 0, 0, 0])
    assert report.migrants.tolist() == [[1, 4], [4, 8], [8, 1]]
    assert pool.fittest == 4
    assert pool.genes[4].tobytes() == before[1].tobytes()


# ---- parents and children


def test_parents_are_the_whole_selected_set_in_the_proportions_of_tournaments():
    """Upstream's parents were the first ``tournament_size`` genes alone."""
    pool = GenePool(2, 40, 2, num_selected=8, tournament_size=3, migrate_fraction=0, seed=5)
    values = np.random.default_rng(6).permutation(80).astype(float)
    counts: Counter[tuple[int, int, int]] = Counter()
    for _ in range(150):
        report = pool.evolve(values)
        ranks = {gene: at for at, gene in enumerate(report.survivors.tolist())}
        for first, second in report.parents.tolist():
            assert values[first] > values[second]
            assert island_of(pool, first) == island_of(pool, second)
            counts[island_of(pool, first), ranks[first] % 8, ranks[second] % 8] += 1
    law = pair_law(8, 3)
    assert {rank for _, *pair in counts for rank in pair} == set(range(7))  # two are better: 0-6
    for island in range(2):
        seen = np.array([counts[island, a, b] for a, b in law])
        expected = np.array([*law.values()]) * 150 * 32
        assert stats.chisquare(seen, expected).pvalue > 1e-3


@ANY
@given(pools())
def test_each_child_has_two_different_parents_that_survived_on_its_island(pool):
    report = pool.evolve(fitness(pool))
    survivors = set(report.survivors.tolist())
    assert report.parents.shape == (len(report.children), 2)
    for child, (first, second) in zip(report.children, report.parents, strict=True):
        assert first != second
        assert {int(first), int(second)} <= survivors
        assert island_of(pool, first) == island_of(pool, second) == island_of(pool, child)


def test_a_cold_crossover_builds_a_child_of_its_parents_coordinates():
    pool = GenePool(4, 12, mutation_std=0, crossover_temperature=1e-9, seed=7)
    before, report = pool.ask(), pool.evolve(fitness(pool))
    distances = []
    for child, pair in zip(report.children, report.parents, strict=True):
        mixed = [
            np.array([before[pair[bit], at] for at, bit in enumerate(bits)])
            for bits in itertools.product([0, 1], repeat=4)
        ]
        distances.append(
            min(np.abs(m / np.linalg.norm(m) - pool.genes[child]).max() for m in mixed)
        )
    assert max(distances) < 1e-12


def test_a_hot_crossover_builds_a_child_in_the_middle():
    pool = GenePool(4, 12, mutation_std=0, crossover_temperature=1e12, seed=7)
    before, report = pool.ask(), pool.evolve(fitness(pool))
    middle = before[report.parents].sum(axis=1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    np.testing.assert_allclose(pool.genes[report.children], middle, atol=1e-10)


@ANY
@given(pools(migrate_fraction=0.0))
def test_a_child_continues_the_line_of_its_fitter_parent(pool):
    mixed = np.random.default_rng(0).integers(pool.islands, size=len(pool))
    pool = GenePool.from_state(pool.state_dict() | {"lineages": mixed})
    report = pool.evolve(fitness(pool))
    expected = mixed.copy()
    expected[report.children] = mixed[report.parents[:, 0]]
    np.testing.assert_array_equal(pool.lineages, expected)


def test_opposite_parents_have_the_fitter_one_as_their_child():
    pool = GenePool(1, 3, mutation_std=0, crossover_temperature=1e300, seed=1)
    pool.move([[1.0], [-1.0], [1.0]])
    pool.evolve([0.0, 2.0, 1.0])
    assert pool.genes[:, 0].tolist() == [-1, -1, 1]


# ---- migration


@ANY
@given(pools(), st.integers(0, 4))
def test_migration_alone_moves_genes_and_lines_and_loses_or_doubles_none(pool, generations):
    """Upstream's genes stay on their islands, and a count beyond 10 is a TypeError."""
    play(pool, generations)
    alone = GenePool.from_state(pool.state_dict() | {"migrate_fraction": 0.0})
    report, _ = pool.evolve(fitness(pool)), alone.evolve(fitness(alone))
    state, moves = pool.state_dict(), report.migrants
    free = pool.genes_per_island - state["num_elites"]
    count = max(1, round(state["migrate_fraction"] * free)) * pool.islands
    due = pool.generation % state["migrate_every"] == 0
    if pool.islands == 1 or not state["migrate_fraction"] or not due:
        count = 0
    assert moves.shape == (count, 2)
    assert [island_of(pool, to) for _, to in moves] == [
        (island_of(pool, at) + 1) % pool.islands for at, _ in moves
    ]
    assert sorted(map(bytes, pool.genes)) == sorted(map(bytes, alone.genes))
    assert Counter(pool.lineages.tolist()) == Counter(alone.lineages.tolist())
    stays = np.setdiff1d(np.arange(len(pool)), moves[:, 1])
    for name in ("genes", "lineages"):
        after, before = getattr(pool, name), getattr(alone, name)
        np.testing.assert_array_equal(after[moves[:, 1]], before[moves[:, 0]])
        np.testing.assert_array_equal(after[stays], before[stays])


@pytest.mark.parametrize(
    ("genes", "elites", "fraction", "expected"),
    [(8, 1, 0.1, 1), (8, 1, 1e-9, 1), (8, 1, 1.0, 7), (64, 4, 0.5, 30), (200, 0, 0.1, 20)],
)
def test_so_many_genes_migrate_as_the_fraction_says(genes, elites, fraction, expected):
    pool = GenePool(
        2, genes, 2, num_elites=elites, migrate_every=1, migrate_fraction=fraction, seed=1
    )
    assert pool.evolve(fitness(pool)).migrants.shape == (2 * expected, 2)


def test_those_next_in_rank_after_the_elites_migrate():
    pool = GenePool(2, 5, 2, num_elites=2, migrate_every=1, migrate_fraction=0.34, seed=1)
    report = pool.evolve([5, 1, 4, 2, 3, 1, 2, 3, 4, 5])
    assert report.migrants.tolist() == [[4, 7], [7, 4]]


def test_after_migrations_every_island_has_lines_of_all():
    pool = GenePool(6, 16, 4, migrate_every=2, migrate_fraction=0.3, seed=8)
    assert [set(part.tolist()) for part in np.split(pool.lineages, 4)] == [{0}, {1}, {2}, {3}]
    seen = [set(part.tolist()) for part in np.split(play(pool, 2).lineages, 4)]
    assert seen == [{0, 3}, {1, 0}, {2, 1}, {3, 2}]
    chance = np.random.default_rng(0)
    for _ in range(20):
        pool.tell(chance.normal(size=64))
        now = np.split(pool.lineages, 4)
        seen = [lines | set(part.tolist()) for lines, part in zip(seen, now, strict=True)]
    assert seen == [{0, 1, 2, 3}] * 4


def test_migration_happens_in_every_so_many_generations():
    pool = GenePool(3, 6, 2, migrate_every=3, seed=1)
    assert [len(pool.evolve(fitness(pool)).migrants) for _ in range(7)] == [0, 0, 2, 0, 0, 2, 0]


# ---- fitnesses that are not finite


@ANY
@given(pools(migrate_fraction=0.0), st.data())
def test_a_gene_that_failed_never_survives(pool, data):
    values = data.draw(
        st.lists(
            st.sampled_from([NAN, INF, -INF, 0.0, 1.0]), min_size=len(pool), max_size=len(pool)
        )
    )
    before, state = contents(pool), pool.state_dict()
    report = pool.evolve(values)
    assert all(math.isfinite(values[index]) for index in report.survivors)
    assert report.evolved == any(map(math.isfinite, values))
    for island in range(pool.islands):
        own = slice(island * pool.genes_per_island, (island + 1) * pool.genes_per_island)
        finite = sum(map(math.isfinite, values[own]))
        expected = min(finite, state["num_selected"])
        assert sum(island_of(pool, i) == island for i in report.survivors) == expected
        if not finite:  # it waits
            assert pool.genes[own].tobytes() == state["genes"][own].tobytes()
    if not report.evolved:
        after = contents(pool)
        assert {n for n in after if after[n] != before[n]} <= {"generation", "fitnesses"}


def test_where_all_genes_failed_nothing_evolves_and_the_report_says_so():
    pool = play(GenePool(3, 4, 2, migrate_every=1, seed=1), 3)
    before, state = pool.ask(), pool.state_dict()
    report = pool.tell([NAN, INF, -INF, NAN] * 2)
    assert not report.evolved
    for places in (report.survivors, report.elites, report.children, report.parents):
        assert len(places) == len(report.migrants) == 0
    assert report.parents.shape == report.migrants.shape == (0, 2)
    assert pool.genes.tobytes() == before.tobytes()
    assert (pool.fittest, pool.generation) == (state["fittest"], 4)
    assert pool.best.fitness == state["best_fitness"]
    assert np.isnan([*report.island_fitness.best, *report.island_fitness.mean]).all()


def test_a_gene_alone_among_failures_has_all_children():
    pool = GenePool(3, 5, mutation_std=1e-3, seed=1)
    before = pool.ask()
    report = pool.evolve([NAN, NAN, -3.0, NAN, INF])
    assert report.survivors.tolist() == report.elites.tolist() == [2]
    assert report.parents.tolist() == [[2, 2]] * 4
    assert np.abs(pool.genes - before[2]).max() < 0.01
    assert pool.fittest == 2


def test_an_island_without_finite_fitness_gets_genes_from_the_one_before_it():
    pool = GenePool(3, 4, 2, migrate_every=1, migrate_fraction=0.3, seed=1)
    before = pool.ask()
    report = pool.evolve([3.0, 2.0, 1.0, 0.0, NAN, NAN, NAN, NAN])
    assert report.migrants.tolist() == [[1, 5], [5, 1]]
    assert pool.lineages.tolist() == [0, 1, 0, 0, 1, 0, 1, 1]
    assert pool.genes[[4, 6, 7]].tobytes() == before[[4, 6, 7]].tobytes()


# ---- what is measured


def test_the_best_gene_ever_told_is_kept_with_its_fitness():
    pool = GenePool(3, 4, seed=1)
    first = pool.ask()
    pool.tell([1.0, 5.0, INF, NAN])
    assert pool.best.fitness == 5.0
    pool.tell([1.0, 4.0, 5.0, NAN])
    np.testing.assert_array_equal(pool.best.gene, first[1])  # a tie goes to the older one
    third = pool.ask()
    pool.tell([1.0, 2.0, 3.0, 6.0])
    assert pool.best.fitness == 6.0
    np.testing.assert_array_equal(pool.best.gene, third[3])


def test_the_best_gene_is_the_one_that_was_told_though_it_mutates_or_leaves():
    pool = GenePool(3, 4, 2, num_elites=0, migrate_every=1, migrate_fraction=1, seed=1)
    before = pool.ask()
    pool.tell([0, 0, 7, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(pool.best.gene, before[2])
    assert not (pool.genes == before[2]).all(axis=1).any()


def test_diversity_agrees_with_scipy_over_all_and_on_each_island():
    pool = GenePool(6, 7, 3, seed=1)
    report = pool.evolve(fitness(pool))
    overall, islands = pool.diversity()
    assert overall == pytest.approx(pdist(pool.genes, "cosine").mean())
    expected = [pdist(part, "cosine").mean() for part in np.split(pool.genes, 3)]
    np.testing.assert_allclose(islands, expected)
    assert report.diversity.overall == overall
    np.testing.assert_array_equal(report.diversity.islands, islands)


def test_the_fitness_of_islands_is_best_and_mean_of_the_finite_ones():
    pool = GenePool(2, 3, 3, seed=1)
    report = pool.evolve([1, 2, 6, NAN, -5, INF, NAN, NAN, -INF])
    for found in (report.island_fitness, pool.island_fitness):
        np.testing.assert_array_equal(found.best, [6, -5, NAN])
        np.testing.assert_array_equal(found.mean, [3, -5, NAN])
    huge = pool.evolve([1e308] * 9).island_fitness
    np.testing.assert_allclose(huge.mean, 1e308)


# ---- it optimises


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("dim", "islands"), [(2, 1), (8, 1), (8, 3)])
def test_a_function_with_one_maximum_is_maximised(dim, islands, seed):
    target = np.random.default_rng(seed).normal(size=dim)
    target /= np.linalg.norm(target)
    pool = GenePool(dim, 32, islands, seed=seed)
    start = (pool.genes @ target).max()
    for _ in range(80):
        pool.tell(pool.ask() @ target)
    assert pool.best.fitness > 0.99
    assert pool.best.fitness >= start
    assert pool.best.gene @ target == pytest.approx(pool.best.fitness)


def maxima_held(islands: int, seed: int) -> int:
    """Of six equal maxima, how many have a gene nearby after 40 generations of 48 genes."""
    peaks = np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))[0]
    pool = GenePool(6, 48 // islands, islands, seed=seed)
    for _ in range(40):
        pool.tell((pool.ask() @ peaks).max(axis=1))
    near = pool.genes @ peaks > 0.95
    return int(near.any(axis=0).sum())


def test_islands_hold_more_maxima_than_one_population_of_the_same_size():
    one = [maxima_held(1, seed) for seed in range(8)]
    six = [maxima_held(6, seed) for seed in range(8)]
    assert np.mean(six) >= np.mean(one) + 1.5
    assert sum(a < b for a, b in zip(one, six, strict=True)) >= 7  # p = 0.035 were they equal


# ---- move


def test_moved_genes_are_brought_to_norm_one_and_the_rest_stays():
    pool = play(GenePool(3, 4, 2, seed=1), 2)
    before = pool.state_dict()
    points = (
        np.random.default_rng(0).normal(size=(8, 3)) * 10.0 ** np.arange(-160, 160, 40)[:, None]
    )
    pool.move(points)
    np.testing.assert_allclose(
        pool.genes, [p / math.hypot(*p) for p in points], rtol=1e-14, atol=0
    )
    assert norms_off(pool.genes) < 1e-12
    after = contents(pool)
    unmoved = contents(GenePool.from_state(before))
    assert {name for name in after if after[name] != unmoved[name]} == {"genes"}


def test_genes_that_do_not_move_keep_their_bits():
    pool = play(GenePool(7, 20, seed=1), 3)
    before, points = pool.ask(), pool.ask()
    points[4] *= 2
    points[5] += 0.1
    pool.move(points.tolist())
    assert [at for at in range(20) if pool.genes[at].tobytes() != before[at].tobytes()] in (
        [5],
        [4, 5],
    )
    np.testing.assert_allclose(pool.genes[4], before[4], rtol=1e-15)


# ---- the same bits


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    def run(seed):
        return contents(play(GenePool(5, 8, 2, migrate_every=2, seed=seed), 6))

    assert run(3) == run(3) != run(4)
    assert run(np.random.SeedSequence(3)) == run(3)
    assert run(None) != run(None)


def test_another_process_gives_the_same_bits():
    code = (
        "import numpy as np\n"
        "from bgs_opt import GenePool\n"
        "pool = GenePool(4, 6, 2, migrate_every=1, seed=11)\n"
        "for step in range(5):\n"
        "    pool.tell(np.sin(np.arange(12.0) * (step + 1)))\n"
        "print(pool.genes.tobytes().hex())"
    )
    pool = GenePool(4, 6, 2, migrate_every=1, seed=11)
    for step in range(5):
        pool.tell(np.sin(np.arange(12.0) * (step + 1)))
    assert python(code).strip() == pool.genes.tobytes().hex()


def test_the_global_random_state_is_neither_read_nor_written():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    first = contents(play(GenePool(3, 6, 2, migrate_every=1, seed=5), 3))
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert contents(play(GenePool(3, 6, 2, migrate_every=1, seed=5), 3)) == first


def test_what_an_island_draws_does_not_depend_on_the_others():
    wide, narrow = (GenePool(4, 6, n, migrate_fraction=0, seed=5) for n in (3, 1))
    for step in range(4):
        values = np.sin(np.arange(18.0) + step)
        values[6:] = NAN if step % 2 else values[6:]
        wide.evolve(values)
        narrow.evolve(values[:6])
    assert wide.genes[:6].tobytes() == narrow.genes.tobytes()


def test_islands_share_no_random_numbers():
    pool = GenePool(4, 6, 2, migrate_fraction=0, seed=5)
    first, second = np.split(pool.genes, 2)
    assert not np.isin(first, second).any()
    pool.move(np.concatenate([first, first]))
    report = pool.evolve([*range(6), *range(6)])
    first, second = np.split(pool.genes, 2)
    assert (first[5] == second[5]).all()
    assert not np.isin(first[:5], second[:5]).any()
    assert [*report.children[:3] + 6] == [*report.children[3:]]


def through_file(pool, folder):
    pool.save(folder / "pool.npz")
    return GenePool.load(folder / "pool.npz")


WAYS = {
    "file": through_file,
    "state": lambda pool, folder: GenePool.from_state(pool.state_dict()),
    "pickle": lambda pool, folder: pickle.loads(pickle.dumps(pool)),
    "deepcopy": lambda pool, folder: copy.deepcopy(pool),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("generations", [0, 1, 4])
def test_a_pool_that_was_kept_goes_on_with_the_same_bits(way, generations, tmp_path):
    pool = play(GenePool(5, 12, 3, num_elites=0, migrate_every=2, seed=9), generations)
    kept = WAYS[way](pool, tmp_path)
    assert contents(kept) == contents(pool)
    play(pool, 5)
    assert kept.generation == generations  # nothing is shared
    assert contents(play(kept, 5)) == contents(pool)
    with pytest.raises(ValueError, match="read-only"):
        kept.genes[0] = 0


def test_a_subclass_comes_back_as_itself(tmp_path):
    pool = Tagged(3, 4, seed=1)
    pool.save(tmp_path / "pool.npz")
    for kept in (Tagged.load(tmp_path / "pool.npz"), pickle.loads(pickle.dumps(pool))):
        assert type(kept) is Tagged


class Tagged(GenePool):
    """At the top of the module, so that it can be pickled."""


def test_equal_pools_give_equal_files(tmp_path):
    for name in ("first", "second"):
        play(GenePool(3, 5, 2, seed=1), 3).save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


# ---- what cannot be kept, or believed


def test_a_state_is_plain_numbers_and_copies_of_arrays():
    pool = play(GenePool(3, 4, seed=1), 1)
    state = pool.state_dict()
    assert {type(value) for value in state.values()} == {int, float, np.ndarray}
    before = contents(pool)
    for value in state.values():
        if isinstance(value, np.ndarray):
            value[...] = 0
    assert contents(pool) == before


def changed(**changes):
    return lambda state: state | changes


BAD_STATES = {
    "no mapping": list,
    "a missing key": lambda state: {k: v for k, v in state.items() if k != "genes"},
    "an unknown key": changed(color=1),
    "another format": changed(format=2),
    "a format that is an array": changed(format=np.array([1, 1])),
    "no dimension": changed(dim=0),
    "a dimension of another pool": changed(dim=4),
    "more genes than there are": changed(genes_per_island=1 << 29),
    "more islands than there are": changed(islands=1 << 30, dim=1 << 30),
    "a number that is an array": changed(mutation_std=np.ones(2)),
    "a number that is text": changed(islands="2"),
    "a number that is none": changed(num_elites=None),
    "more elites than survivors": changed(num_elites=3),
    "a temperature of zero": changed(crossover_temperature=0.0),
    "a negative entropy": changed(entropy=-1),
    "a large entropy": changed(entropy=1 << 128),
    "a negative generation": changed(generation=-1),
    "a large generation": changed(generation=1 << 63),
    "a fittest gene outside": changed(fittest=8),
    "a list of genes": lambda state: state | {"genes": state["genes"].tolist()},
    "genes of another dtype": lambda state: state | {"genes": state["genes"].astype("f4")},
    "genes of objects": lambda state: state | {"genes": state["genes"].astype(object)},
    "genes off the sphere": lambda state: state | {"genes": state["genes"] * 1.01},
    "huge genes": lambda state: state | {"genes": state["genes"] * 1e300},
    "genes that are not finite": lambda state: state | {"genes": state["genes"] * NAN},
    "too few fitnesses": lambda state: state | {"fitnesses": state["fitnesses"][1:]},
    "a lineage outside": lambda state: state | {"lineages": state["lineages"] + 1},
    "a negative lineage": lambda state: state | {"lineages": state["lineages"] - 1},
    "lineages that are no integers": lambda state: state | {"lineages": state["lineages"] * 1.0},
    "an infinite best fitness": changed(best_fitness=INF),
    "no best fitness of a best gene": changed(best_fitness=NAN),
    "a best gene off the sphere": changed(best_gene=np.zeros(3)),
}


@pytest.mark.parametrize("name", BAD_STATES)
def test_a_state_that_cannot_be_of_a_pool_is_refused(name):
    state = play(GenePool(3, 4, 2, seed=1), 2).state_dict()
    GenePool.from_state(state)
    with pytest.raises(CheckpointError, match=r"expected .*(;|:)|some are not|expected islands"):
        GenePool.from_state(BAD_STATES[name](state))


def test_a_damaged_file_is_refused_wherever_a_byte_is_wrong_or_missing(tmp_path):
    path = tmp_path / "pool.npz"
    play(GenePool(2, 3, seed=1), 2).save(path)
    good = path.read_bytes()
    before = contents(GenePool.load(path))
    places, refused = range(0, len(good), 7), 0
    for at in places:
        path.write_bytes(good[:at])
        with pytest.raises(CheckpointError):
            GenePool.load(path)
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        try:  # a few bytes of a zip archive say nothing
            assert contents(GenePool.load(path)) == before
        except CheckpointError:
            refused += 1
    assert refused > 0.6 * len(places)


def test_files_of_something_else_are_refused(tmp_path):
    run, pool, plain = (tmp_path / name for name in ("run.npz", "pool.npz", "plain.npz"))
    BGS([1.0, 2.0], 0.1, seed=1).save(run)
    GenePool(2, 3, seed=1).save(pool)
    np.savez(plain, genes=np.ones((3, 2)))
    for path in (run, plain):
        with pytest.raises(CheckpointError, match=path.name):
            GenePool.load(path)
    with pytest.raises(CheckpointError, match=r"pool\.npz"):
        BGS.load(pool)
    with pytest.raises(FileNotFoundError):
        GenePool.load(tmp_path / "missing.npz")


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "pool.npz"
    pool = GenePool(2, 3, seed=1)
    pool.save(path)
    good = path.read_bytes()

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        play(pool, 1).save(path)
    assert path.read_bytes() == good
    assert os.listdir(tmp_path) == ["pool.npz"]


# ---- what is refused

REFUSED = [
    ("dim", 0, VALUE),
    ("dim", 2.0, TYPE),
    ("dim", True, TYPE),
    ("genes_per_island", 0, VALUE),
    ("genes_per_island", 1 << 29, VALUE),
    ("genes_per_island", "8", TYPE),
    ("islands", 0, VALUE),
    ("islands", None, TYPE),
    ("num_selected", 1, VALUE),
    ("num_selected", 8, VALUE),
    ("num_selected", 0.5, TYPE),
    ("tournament_size", 1, VALUE),
    ("tournament_size", 5, VALUE),
    ("tournament_size", [2], TYPE),
    ("num_elites", -1, VALUE),
    ("num_elites", 5, VALUE),
    ("num_elites", 1.0, TYPE),
    ("mutation_std", -0.1, VALUE),
    ("mutation_std", NAN, VALUE),
    ("mutation_std", INF, VALUE),
    ("mutation_std", "0.1", TYPE),
    ("migrate_every", 0, VALUE),
    ("migrate_every", 1.5, TYPE),
    ("migrate_fraction", -0.1, VALUE),
    ("migrate_fraction", 1.1, VALUE),
    ("migrate_fraction", None, TYPE),
    ("crossover_temperature", 0, VALUE),
    ("crossover_temperature", INF, VALUE),
    ("crossover_temperature", 1j, TYPE),
    ("seed", -1, VALUE),
    ("seed", 1.5, TYPE),
]


@pytest.mark.parametrize(("name", "value", "error"), REFUSED, ids=lambda v: str(v)[:20])
def test_an_argument_that_cannot_be_is_refused_by_its_name(name, value, error):
    given_ = {"dim": 1 << 12, "genes_per_island": 8} | {name: value}
    with pytest.raises(error, match=f"^{name}: expected .*; got "):
        GenePool(**given_)


BAD_FITNESSES = [
    ([1.0, 2.0], VALUE), ([], VALUE), ([[1.0]] * 4, VALUE), ([1.0] * 5, VALUE), (1.0, VALUE),
    ("1234", TYPE), (["1"] * 4, TYPE), ([None] * 4, TYPE), ([True] * 4, TYPE), ([1j] * 4, TYPE),
    (None, TYPE), ([[1], [1, 2], 3, 4], TYPE), ([10**400] * 4, TYPE),
    (np.ma.masked_array(np.ones(4)), TYPE),
]  # fmt: skip


@pytest.mark.parametrize(("values", "error"), BAD_FITNESSES, ids=range(len(BAD_FITNESSES)))
@pytest.mark.parametrize("method", ["evolve", "tell"])
def test_fitnesses_that_do_not_fit_are_refused_and_change_nothing(method, values, error):
    pool = play(GenePool(3, 4, seed=1), 2)
    before = contents(pool)
    with pytest.raises(error, match=r"^fitnesses: expected 4 real numbers, one for each gene"):
        getattr(pool, method)(values)
    assert contents(pool) == before


GOOD = [[1.0, 2.0]] * 3
BAD_GENES = [
    ([1.0, 2.0], VALUE), (GOOD[1:], VALUE), ([[1.0, 2.0, 3.0]] * 3, VALUE),
    ([[1.0, 2.0], [0.0, -0.0], [1.0, 2.0]], VALUE), ([[1.0, 2.0], [NAN, 1.0], [1.0, 2.0]], VALUE),
    ([[1.0, 2.0], [INF, 1.0], [1.0, 2.0]], VALUE), ("genes", TYPE), ([["a", "b"]] * 3, TYPE),
    ([[1j, 2]] * 3, TYPE), (None, TYPE), ([[True, True]] * 3, TYPE),
]  # fmt: skip


@pytest.mark.parametrize(("genes", "error"), BAD_GENES, ids=range(len(BAD_GENES)))
def test_genes_that_do_not_fit_are_refused_and_change_nothing(genes, error):
    pool = play(GenePool(2, 3, seed=1), 2)
    pool.move(GOOD)
    before = contents(pool)
    with pytest.raises(error, match=r"^genes: expected .*; got "):
        pool.move(genes)
    assert contents(pool) == before


def test_a_report_is_frozen():
    report = GenePool(2, 3, seed=1).evolve([1, 2, 3])
    assert isinstance(report, EvolutionReport)
    with pytest.raises(AttributeError):
        report.evolved = False


# ---- any run


@settings(ANY, max_examples=60)
@given(pools(), st.data())
def test_whatever_is_told_the_pool_stays_one_that_can_be_kept(pool, data):
    numbers = st.one_of(st.floats(width=64), st.integers(-3, 3).map(float))
    size = len(pool)
    for _ in range(data.draw(st.integers(1, 5))):
        before = pool.best
        told = data.draw(st.lists(numbers, min_size=size, max_size=size))
        report = pool.tell(told)
        assert norms_off(pool.genes) < 1e-12
        np.testing.assert_array_equal(pool.fitnesses, told)
        assert before is None or pool.best.fitness >= before.fitness
        assert 0 <= pool.fittest < size
        assert {*report.survivors.tolist()}.isdisjoint(report.children.tolist())
        assert contents(GenePool.from_state(pool.state_dict())) == contents(pool)


@pytest.mark.parametrize(("genes", "islands"), [(1, 1), (1, 4), (2, 1), (2, 3)])
def test_islands_without_room_for_children_keep_their_fittest(genes, islands):
    pool = GenePool(3, genes, islands, migrate_every=2, seed=4)
    size = genes * islands
    for number in range(6):
        before, lineages = pool.genes.copy(), pool.lineages.copy()
        told = np.random.default_rng(number).permutation(size).astype(float)
        report = pool.evolve(told)
        assert len(report.children) == 0
        assert len(report.parents) == 0
        elites = [i * genes + int(told[i * genes : (i + 1) * genes].argmax())
                  for i in range(islands)]  # fmt: skip
        np.testing.assert_array_equal(pool.genes[elites], before[elites])
        np.testing.assert_array_equal(pool.lineages[elites], lineages[elites])
        assert len(report.migrants) == (
            islands if genes == 2 and islands > 1 and number % 2 else 0
        )
        np.testing.assert_allclose(np.linalg.norm(pool.genes, axis=1), 1, rtol=1e-12)
