"""Tests of bgs_opt.opening: what generation 0 is made of, and what it says of noise."""

import numpy as np
import pytest

from bgs_opt import BGS, Options
from bgs_opt.errors import NonFiniteValueWarning, StaleCandidateError

STARTS = 4


def closed_start(fun, **options):
    """An automatic run whose generation 0 was told; and its candidates."""
    opt = BGS(np.full(6, 0.5), 1.0, optimizer="auto", seed=1, options=Options(**options))
    candidates = opt.ask()
    opt.tell(candidates, [fun(x) for x in candidates])
    return opt, candidates


def sphere(x):
    return float(x @ x)


def test_the_start_is_evaluated_four_times_at_the_same_point():
    opt, candidates = closed_start(sphere)
    assert len(candidates) == STARTS
    assert {x.tobytes() for x in candidates.x} == {np.full(6, 0.5).tobytes()}
    assert opt.noisy is False


def test_distinct_evaluations_of_the_start_are_a_hair_apart_with_a_pair_beside_them():
    _, candidates = closed_start(sphere, distinct=True)
    assert candidates.signs.tolist() == [0] * STARTS + [1, -1]
    points = candidates.x
    assert len({x.tobytes() for x in points}) == STARTS + 2
    np.testing.assert_array_equal(points[0], np.full(6, 0.5))
    np.testing.assert_allclose(points[:STARTS], 0.5, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "fun",
    [
        sphere,
        lambda x: float(x.sum()) - 3.0,  # zero at the start but for the hair
        lambda x: 1e6 * float(x[0]) - 5e5,
        lambda x: float(np.floor(x + 0.25).sum()),
        lambda x: 7.0,
        lambda x: 0.0,
        lambda x: 1e-200 * float(x @ x),
        lambda x: 1e200 * float(x @ x),
        lambda x: float(np.abs(x[0] - 0.5)),
    ],
)
def test_the_hair_is_not_taken_for_noise(fun):
    opt, _ = closed_start(fun, distinct=True)
    assert opt.noisy is False


@pytest.mark.parametrize("noise", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("fun", [sphere, lambda x: 0.0, lambda x: 1e3 * float(x[0])])
def test_noise_is_found_though_the_points_differ(fun, noise):
    rng = np.random.default_rng(3)
    opt, _ = closed_start(lambda x: fun(x) + noise * rng.standard_normal(), distinct=True)
    assert opt.noisy is True


def test_repeated_evaluations_of_a_later_center_are_apart_as_well():
    rng = np.random.default_rng(0)
    options = Options(distinct=True, noisy=True)
    opt = BGS(np.zeros(20), 1.0, optimizer="auto", seed=1, budget=4000, options=options)
    seen = set()
    while not opt.stop():
        candidates = opt.ask()
        for x in candidates:
            assert x.tobytes() not in seen
            seen.add(x.tobytes())
        opt.tell(candidates, sum_of_squares(candidates.x) + rng.standard_normal(len(candidates)))
    assert len(seen) >= 4000


def sum_of_squares(points):
    return (points**2).sum(axis=1)


@pytest.mark.parametrize("workers", [1, 4, 5, 40, 301])
def test_a_generation_keeps_all_workers_busy(workers):
    rng = np.random.default_rng(0)
    options = Options(num_workers=workers, noisy=True)
    opt = BGS(np.zeros(8), 1.0, optimizer="auto", seed=1, options=options)
    for _ in range(3):
        candidates = opt.ask()
        assert len(candidates) >= workers
        opt.tell(candidates, sum_of_squares(candidates.x) + rng.standard_normal(len(candidates)))
    assert opt.generation == 3


@pytest.mark.parametrize(("workers", "num_directions"), [(1, 10), (19, 10), (40, 20)])
def test_the_default_number_of_directions_keeps_all_workers_busy(workers, num_directions):
    opt = BGS(np.zeros(8), 1.0, options=Options(num_workers=workers))
    assert len(opt.ask()) == 2 * num_directions


def test_pairs_beside_the_start_are_a_generation_if_they_are_enough():
    """With 3 dimensions and 64 workers they are: the center moves without another round."""
    options = Options(num_workers=64, noisy=True)
    opt = BGS(np.ones(3), 1.0, optimizer="auto", seed=1, options=options)
    candidates = opt.ask()
    assert len(candidates) == 64 + STARTS
    opt.tell(candidates, sum_of_squares(candidates.x))
    assert sphere(opt.center) < 3.0


def test_pairs_beside_the_start_that_are_too_few_change_nothing_but_what_is_best():
    options = Options(distinct=True)
    opt = BGS(np.ones(50), 1.0, optimizer="auto", seed=1, options=options)
    candidates = opt.ask()
    values = sum_of_squares(candidates.x)
    opt.tell(candidates, values)
    np.testing.assert_array_equal(opt.center, np.ones(50))
    assert opt.best.value == values.min()


def test_a_start_that_fails_everywhere_goes_on():
    with pytest.warns(NonFiniteValueWarning):
        opt, _ = closed_start(lambda x: np.nan, distinct=True)
    candidates = opt.ask()
    opt.tell(candidates, sum_of_squares(candidates.x))
    assert opt.generation == 2


@pytest.mark.parametrize(
    ("asked", "told", "awaited"),
    [(0, 0, 12), (12, 0, 12), (12, 5, 7), (20, 0, 12), (20, 3, 9), (12, 11, 1)],
)
def test_awaited_is_the_least_number_of_values_that_complete_a_generation(asked, told, awaited):
    """Against telling one by one in the most favourable order, pair by pair."""
    opt = BGS(np.zeros(4), 1.0, num_directions=6, seed=0)
    candidates = opt.ask(asked) if asked else None
    if told:
        opt.tell(candidates[:told], np.arange(float(told)))
    assert opt.awaited == awaited
    rest = opt.ask(12) if not asked else candidates[told:]
    for place in range(awaited):
        assert opt.generation == 0
        opt.tell(rest[place : place + 1], [1.0 + place])
    assert opt.generation == 1


@pytest.mark.parametrize("lost", [0, 1])
def test_awaited_counts_the_half_of_a_pair_that_is_out(lost):
    opt = BGS(np.zeros(4), 1.0, num_directions=2, seed=0)
    candidates = opt.ask(8)
    opt.tell(candidates[[0, 2, 4]], [1.0, 2.0, 3.0])
    assert opt.awaited == 2
    if lost:
        opt.discard(candidates[[1]])
        assert opt.awaited == 1
    opt.tell(candidates[[3, 5][: 2 - lost]], [1.0, 2.0][: 2 - lost])
    assert opt.generation == 1


# ---- workers that finish in any order, and some never


def steady(fun, workers, budget, lost=0.0, patience=None, noisy=False, dim=6, seed=0):
    """A run with so many evaluations under way, of which a random one ends next."""
    options = Options(num_workers=workers, patience=patience, noisy=noisy)
    opt = BGS(np.ones(dim), 1.0, optimizer="auto", seed=seed, budget=budget, options=options)
    rng = np.random.default_rng(seed)
    flying = []
    for _ in range(budget):
        while len(flying) < workers:
            one = opt.ask(1)
            flying.append((one[0], int(one.ids[0])))
        x, name = flying.pop(rng.integers(len(flying)))
        if rng.random() >= lost:
            try:
                opt.tell([name], [fun(x)])
            except StaleCandidateError:
                continue
    return opt


def bent(x):
    return float(np.arange(1, len(x) + 1) @ (x - 0.3) ** 2)


@pytest.mark.parametrize("workers", [1, 2, 5, 8, 20])
def test_full_gradients_and_line_searches_get_their_own_pairs_in_any_order(workers):
    """A quadratic function is solved to rounding, which no wrong gradient allows."""
    opt = steady(bent, workers, 500 + 150 * workers)
    assert opt.best.value < 1e-24


@pytest.mark.parametrize("workers", [1, 3, 8])
@pytest.mark.parametrize("noisy", [False, True])
def test_evaluations_that_never_come_hold_nothing_up(workers, noisy):
    """One in ten is lost, and nobody says so."""
    rng = np.random.default_rng(1)

    def fun(x):
        return bent(x) + noisy * 0.1 * rng.standard_normal()

    opt = steady(fun, workers, 1000, lost=0.1, patience=2 * workers, noisy=noisy)
    assert bent(opt.recommendation) < (5e-2 if noisy else 1e-6)


@pytest.mark.parametrize("patience", [1, 5])
def test_a_lost_center_evaluation_is_given_up_after_so_many_pairs_more(patience):
    options = Options(center_evaluations=1, patience=patience)
    opt = BGS(np.zeros(4), 1.0, num_directions=3, seed=0, options=options)
    candidates = opt.ask(1 + 2 * (3 + patience))
    for place in range(1, len(candidates)):
        assert opt.generation == 0
        opt.tell(candidates[[place]], [float(place)])
    assert opt.generation == 1
    forever = BGS(np.zeros(4), 1.0, num_directions=3, seed=0,
                  options=Options(center_evaluations=1))  # fmt: skip
    many = forever.ask(1001)
    forever.tell(many[1:], np.arange(1000.0))
    assert forever.generation == 0


# ---- a start that fails


def above(x):
    return float((x - 0.5) @ (x - 0.5)) if x[0] >= 1 else np.nan


@pytest.mark.filterwarnings("ignore::bgs_opt.errors.BGSWarning")
@pytest.mark.parametrize("options", [{}, {"distinct": True}, {"noisy": False}, {"noisy": True}])
def test_from_a_start_that_fails_the_search_goes_to_the_first_point_that_does_not(options):
    opt = BGS(np.zeros(2), 1.0, optimizer="auto", seed=2, budget=2000,
              options=Options(max_skipped=100, **options))  # fmt: skip
    while not opt.stop():
        candidates = opt.ask()
        opt.tell(candidates, [above(x) for x in candidates])
    assert opt.best.x[0] >= 1
    assert opt.best.value < (0.35 if options.get("noisy") else 0.26)  # 0.25 is the least


@pytest.mark.filterwarnings("ignore::bgs_opt.errors.BGSWarning")
def test_a_finite_value_that_comes_late_moves_a_center_that_fails_as_well():
    opt = BGS(np.zeros(2), 1.0, optimizer="auto", seed=2, options=Options(noisy=True))
    candidates = opt.ask(opt.needed + 2)
    values = np.full(len(candidates), np.nan)
    opt.tell(candidates[:-1], values[:-1])
    assert opt.generation == 1
    report = opt.tell(candidates[-1:], [3.0])
    assert report.late == 1
    opt.tell(opt.ask(), np.full(len(opt.pending), np.nan))
    np.testing.assert_array_equal(opt.center, candidates[-1])


@pytest.mark.filterwarnings("ignore::bgs_opt.errors.BGSWarning")
def test_where_everything_fails_sigma_stays():
    opt = BGS(np.zeros(2), 1.0, optimizer="auto", seed=2, options=Options(max_skipped=100))
    for _ in range(20):
        candidates = opt.ask()
        opt.tell(candidates, np.full(len(candidates), np.nan))
    assert opt.sigma == 1.0


@pytest.mark.filterwarnings("ignore::bgs_opt.errors.BGSWarning")
@pytest.mark.parametrize("seed", range(5))
def test_at_the_edge_of_what_fails_the_search_never_settles_beyond_it(seed):
    """The optimum lies where half of all points fail."""
    opt = BGS(np.array([3.0, 3.0]), 1.0, optimizer="auto", seed=seed, budget=2000,
              options=Options(max_skipped=100, noisy=False))  # fmt: skip
    while not opt.stop():
        candidates = opt.ask()
        opt.tell(candidates, [above(x) for x in candidates])
    assert opt.best.value < 0.26  # 0.25 is the least
    assert opt.counts["failed"] < 1500
    assert opt._state.skipped < 10
