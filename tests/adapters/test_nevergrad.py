"""BGS in Nevergrad's registry: what it promises beyond Nevergrad's own checks."""

# ruff: noqa: NPY002  (Nevergrad draws from the legacy generator)

import math
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import nevergrad as ng
import numpy as np
import pytest

from bgs_opt.adapters.nevergrad import BGS, REGISTERED, ParametrizedBGS
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError, BGSError
from tests.helpers import python

IGNORE = "ignore::nevergrad.common.errors."
WORKERS = pytest.mark.filterwarnings(IGNORE + "InefficientSettingsWarning")  # and no executor
BAD_LOSS = pytest.mark.filterwarnings(IGNORE + "BadLossWarning")
HUGE_LOSS = pytest.mark.filterwarnings(IGNORE + "LossTooLargeWarning")
NARROW = pytest.mark.filterwarnings(
    "ignore:Bounds are .* sigma away:nevergrad.common.errors.NevergradRuntimeWarning"
)


def sphere(x):
    return float(((np.asarray(x) - 1) ** 2).sum())


def noisy_sphere(seed, deviation):
    """A sphere whose values are off by a Gaussian."""
    rng = np.random.default_rng(seed)
    return lambda x: sphere(x) + deviation * rng.normal()


def seeded(optimizer, seed=0):
    optimizer.parametrization.random_state.seed(seed)
    return optimizer


def vector(optimizer, candidate):
    return candidate.get_standardized_data(reference=optimizer.parametrization)


def steps(optimizer, function, count):
    """Ask and tell in turn; the vectors asked and the losses."""
    asked, losses = [], []
    for _ in range(count):
        candidate = optimizer.ask()
        asked.append(vector(optimizer, candidate))
        losses.append(function(*candidate.args, **candidate.kwargs))
        optimizer.tell(candidate, losses[-1])
    return np.array(asked), losses


# ---- parametrizations

INSTRUMENTATION = ng.p.Instrumentation(
    ng.p.Array(shape=(2,)), rate=ng.p.Log(lower=1e-4, upper=1.0), kind=ng.p.Choice(["a", "b"])
)


def loss_of_instrumentation(x, rate, kind):
    return sphere(x) + (math.log10(rate) + 2) ** 2 + (kind == "a")


PROBLEMS = {
    "array": (ng.p.Array(shape=(2, 2)), sphere, 300, 1e-2),
    "scalar": (ng.p.Scalar(), sphere, 150, 1e-3),
    "log": (ng.p.Log(lower=1e-4, upper=1.0), lambda x: (math.log10(x) + 2) ** 2, 150, 1e-3),
    "offset": (
        ng.p.Array(init=[1e12, 1e12]), lambda x: float(((x - 1e12 - 1) ** 2).sum()), 300, 1e-2
    ),
    "scaled": (
        ng.p.Array(init=[1e3, 1e3]).set_mutation(sigma=100.0),
        lambda x: float((((x - 1100) / 100) ** 2).sum()), 300, 1e-2,
    ),
    "integers": (
        ng.p.Array(init=np.zeros(3)).set_mutation(sigma=4.0).set_integer_casting(),
        lambda x: float(((x - 5) ** 2).sum()), 400, 0.0,
    ),
    "choice": (ng.p.Choice([3, 1, 0, 2]), float, 200, 0.0),
    "transitions": (ng.p.TransitionChoice(range(7)), lambda x: abs(x - 5.0), 200, 0.0),
    "tuple": (ng.p.Tuple(ng.p.Scalar(), ng.p.Scalar()), sphere, 300, 1e-2),
    "dict": (
        ng.p.Dict(a=ng.p.Scalar(), b=ng.p.Array(shape=(2,)), c=3),
        lambda x: sphere(x["a"]) + sphere(x["b"]) + x["c"] - 3, 300, 1e-2,
    ),
    "instrumentation": (INSTRUMENTATION, loss_of_instrumentation, 600, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_optimum_of_every_kind_of_parameter_is_found(name):
    parametrization, function, budget, tolerance = PROBLEMS[name]
    optimizer = seeded(BGS(parametrization.copy(), budget))
    found = optimizer.minimize(function)
    assert function(*found.args, **found.kwargs) <= tolerance


BOUNDED = {
    "constructor": ng.p.Array(shape=(3,), lower=-2.0, upper=0.5),
    "scalar": ng.p.Scalar(lower=-2.0, upper=0.5),
    "integers": ng.p.Array(shape=(3,), lower=-5.0, upper=0.0).set_integer_casting(),
    "log": ng.p.Log(lower=1e-3, upper=0.5),
    **{
        method: ng.p.Array(init=np.zeros(3)).set_bounds(-4.0, 0.5, method=method)
        for method in ("bouncing", "clipping", "tanh", "arctan")
    },
    "one side": ng.p.Array(init=np.zeros(3)).set_bounds(None, 0.5, method="bouncing"),
}


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
@pytest.mark.parametrize("name", BOUNDED)
def test_an_optimum_outside_the_bounds_is_approached_and_never_passed(name, family):
    seen = []

    def function(x):
        seen.append(np.max(x))
        return sphere(x)

    parametrization = BOUNDED[name].copy()
    low, high = (-5.0, 0.0) if name == "integers" else (-4.0, 0.5)
    found = seeded(family(parametrization, 200), 1).minimize(function)
    assert low <= np.min(seen)
    assert np.max(seen) <= high
    assert np.min(found.value) > high - (0.4 if family is BGS else 1.5)


@NARROW
def test_an_optimum_within_narrow_bounds_is_found():
    parametrization = ng.p.Array(shape=(10,)).set_bounds(-1.0, 1.0)
    optimizer = seeded(BGS(parametrization, 600))
    found = optimizer.minimize(lambda x: float(((x - 0.3) ** 2).sum()))
    assert found.loss < 1e-3


# ---- dimension, budget, workers


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
@pytest.mark.parametrize("budget", [1, 2, 5, 19, 20, 21, 57])
def test_a_budget_is_used_to_the_last_evaluation(budget, family):
    optimizer, told = seeded(family(4, budget)), []

    def function(x):
        told.append(sphere(x))
        return told[-1]

    found = optimizer.minimize(function)
    assert len(told) == budget == optimizer.num_tell
    assert found.loss == min(told)
    assert sphere(found.value) == found.loss


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_without_a_budget_the_search_goes_on_for_ever(family):
    optimizer = seeded(family(3))
    steps(optimizer, sphere, 400)
    assert optimizer.recommend().loss < 0.3


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_asking_beyond_the_budget_is_not_refused(family):
    optimizer = seeded(family(3, budget=10))
    asked, _ = steps(optimizer, sphere, 60)
    assert optimizer.num_tell == 60 == len(asked)


def test_one_dimension_is_enough():
    assert seeded(BGS(1, 100)).minimize(sphere).loss < 1e-6


def test_a_hundred_thousand_dimensions_are_not_too_many():
    found = seeded(BGS(100_000, 60)).minimize(lambda x: sphere(x) / 1e5)
    assert found.value.shape == (100_000,)
    assert found.loss <= 1.0  # 28 directions hold a few thousandths of the way


def simulate(optimizer, function, total, order, *, batch, lost=0.1, seed=0):
    """Keep every worker busy; some evaluations never come back. The vectors asked."""
    rng = np.random.default_rng(seed)
    asked, running, told = [], [], 0
    while len(asked) < total or running:
        while len(asked) < total and len(running) < optimizer.num_workers:
            candidate = optimizer.ask()
            asked.append(vector(optimizer, candidate))
            running.append(candidate)
        for _ in range(len(running) if batch else 1):
            where = {"fifo": 0, "lifo": -1, "random": rng.integers(len(running))}[order]
            candidate = running.pop(where)
            if rng.random() >= lost:
                optimizer.tell(candidate, function(candidate.value))
                told += 1
    assert optimizer.num_ask == total
    assert optimizer.num_tell == told
    assert optimizer.num_tell_not_asked == 0
    return np.array(asked)


@pytest.mark.parametrize("batch", [False, True], ids=["steady", "batch"])
@pytest.mark.parametrize("order", ["fifo", "lifo", "random"])
@pytest.mark.parametrize(
    "workers", [1, 2, 3, 8, 40, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 150, 1000))]
)
def test_any_number_of_workers_is_kept_busy_and_makes_progress(workers, order, batch):
    total = max(240, workers + 200)
    optimizer = seeded(BGS(5, total, workers), 3)
    asked = simulate(optimizer, sphere, total, order, batch=batch)
    assert len(np.unique(asked, axis=0)) == total  # no vector twice
    # It was 5. lifo: the first evaluations, those of the start, come back last, so that for long
    # nothing is known of noise; and from more than 40 workers on there are few batches.
    due = 2.5 if workers > 40 else 1.5 if order == "lifo" else 0.5
    assert optimizer.recommend().loss < due


@pytest.mark.parametrize("name", [n for n in REGISTERED if n != "BGS"])
@pytest.mark.parametrize("workers", [1, 3, 8, 40])
def test_the_other_names_make_progress_with_any_number_of_workers(workers, name):
    optimizer = seeded(REGISTERED[name](5, 400, workers), 3)
    asked = simulate(optimizer, sphere, 400, "random", batch=False)
    assert len(np.unique(asked, axis=0)) == 400
    assert optimizer.recommend().loss < 2.5


@pytest.mark.parametrize("lost", [0.5, 0.9])
def test_most_evaluations_may_be_lost(lost):
    optimizer = seeded(BGS(3, 500, 4))
    simulate(optimizer, sphere, 500, "random", batch=False, lost=lost)
    assert optimizer.recommend().loss < 3.0


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_no_vector_is_asked_twice_from_the_first_on(family, deterministic):
    optimizer = seeded(family(2, 100, 7))
    optimizer.parametrization.function.deterministic = deterministic
    waiting = [optimizer.ask() for _ in range(30)]
    first = [vector(optimizer, candidate) for candidate in waiting]
    for candidate in waiting:
        optimizer.tell(candidate, sphere(candidate.value))
    rest, _ = steps(optimizer, sphere, 70)
    assert len(np.unique([*first, *rest], axis=0)) == 100


# ---- seeds


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_the_constructor_draws_no_random_number(family):
    parametrization = ng.p.Instrumentation(ng.p.Array(shape=(3,)), ng.p.Choice([1, 2]))
    parametrization.random_state.seed(4)
    before = parametrization.random_state.get_state(), np.random.get_state()
    optimizer = family(parametrization, 100, 2)
    family(5, 100)
    optimizer.recommend()
    after = parametrization.random_state.get_state(), np.random.get_state()
    for old, new in zip(before, after, strict=True):
        assert old[2:] == new[2:]
        np.testing.assert_array_equal(old[1], new[1])


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_a_seed_set_after_construction_fixes_every_vector(family):
    runs = [steps(seeded(family(3, 60), seed), sphere, 60)[0] for seed in (5, 5, 6)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][4:6] != runs[2][4:6]).all()


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_seeding_numpy_alone_fixes_every_vector(family):
    state, runs = np.random.get_state(), []
    for seed in (5, 5, 6):
        np.random.seed(seed)
        runs.append(steps(family(3, 60), sphere, 60)[0])
    np.random.set_state(state)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][4:6] != runs[2][4:6]).all()


def test_a_random_state_that_is_replaced_is_the_one_that_is_used():
    runs = []
    for _ in range(2):
        optimizer = seeded(BGS(3, 40), len(runs))
        optimizer.parametrization.random_state = np.random.RandomState(9)
        runs.append(steps(optimizer, sphere, 40)[0])
    np.testing.assert_array_equal(*runs)


# ---- keeping


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 6, 9, 30, 31])
@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_a_loaded_optimizer_goes_on_with_the_same_bits(family, count, tmp_path):
    optimizer = seeded(family(3, 80, 4), 2)
    steps(optimizer, sphere, count)
    waiting = [optimizer.ask() for _ in range(3)]
    optimizer.tell(waiting[1], sphere(waiting[1].value))
    path = tmp_path / "optimizer.pkl"
    optimizer.dump(path)
    loaded = family.load(path)
    asked = []
    for one in (optimizer, loaded):
        mine = [c if one is optimizer else pickle.loads(pickle.dumps(c)) for c in waiting]
        one.tell(mine[2], sphere(mine[2].value))
        first, _ = steps(one, sphere, 20)
        one.tell(mine[0], sphere(mine[0].value))
        asked.append(np.concatenate([first, steps(one, sphere, 20)[0]]))
        assert one.num_tell_not_asked == 0
        assert one.num_tell == count + 43
    np.testing.assert_array_equal(*asked)
    np.testing.assert_array_equal(optimizer.recommend().value, loaded.recommend().value)
    assert repr(optimizer) == repr(loaded)


def test_a_dump_that_fails_leaves_the_file_as_it_was(tmp_path):
    optimizer = seeded(BGS(3, 80), 2)
    steps(optimizer, sphere, 9)
    path = tmp_path / "optimizer.pkl"
    optimizer.dump(path)
    optimizer.register_callback("tell", lambda *_: None)  # which does not pickle
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        optimizer.dump(path)
    assert BGS.load(path).num_tell == 9
    assert [file.name for file in tmp_path.iterdir()] == ["optimizer.pkl"]


# ---- points that were not asked for


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_a_good_suggestion_is_recommended_and_searched_around(count, family):
    optimizer = seeded(family(4, 400))
    function = lambda x: float(((x - 30) ** 2).sum())  # noqa: E731
    steps(optimizer, function, count)
    optimizer.suggest(np.full(4, 29.0))
    candidate = optimizer.ask()
    np.testing.assert_array_equal(candidate.value, 29.0)
    optimizer.tell(candidate, function(candidate.value))
    np.testing.assert_array_equal(optimizer.recommend().value, 29.0)
    assert optimizer.recommend().loss == 4.0
    steps(optimizer, function, 30)  # the open generation ends
    asked, _ = steps(optimizer, function, 20)
    assert np.median(np.linalg.norm(asked - 29, axis=1)) < 6
    assert optimizer.recommend().loss <= 4.0


@BAD_LOSS
@HUGE_LOSS
@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_a_foreign_point_is_used_if_it_is_good_and_else_changes_nothing(family):
    runs = []
    for foreign in (None, 50.0, math.nan):
        optimizer = seeded(family(3, 200))
        asked = [steps(optimizer, sphere, 11)[0]]
        if foreign is not None:
            point = optimizer.parametrization.spawn_child(new_value=np.full(3, 9.0))
            optimizer.tell(point, foreign)
            assert optimizer.num_tell_not_asked == 1
            assert optimizer.num_tell == 12
        asked.append(steps(optimizer, sphere, 40)[0])
        runs.append(np.concatenate(asked))
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])
    point = optimizer.parametrization.spawn_child(new_value=np.ones(3))
    optimizer.tell(point, 0.0)
    np.testing.assert_array_equal(optimizer.recommend().value, 1.0)


def test_a_candidate_that_is_told_twice_counts_as_foreign_the_second_time():
    optimizer = seeded(BGS(3, 100))
    candidate = optimizer.ask()
    optimizer.tell(candidate, 3.0)
    optimizer.tell(candidate, 3.0)
    assert (optimizer.num_tell, optimizer.num_tell_not_asked) == (2, 1)
    assert min(steps(optimizer, sphere, 98)[1]) < 0.1


# ---- losses


@BAD_LOSS
@HUGE_LOSS
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_bad_losses_are_failures_and_the_rest_is_used(family, bad):
    calls = iter(range(10_000))
    optimizer = seeded(family(3, 400))
    found = optimizer.minimize(lambda x: bad if next(calls) % 5 == 4 else sphere(x))
    assert sphere(found.value) == found.loss < 0.3


@BAD_LOSS
@HUGE_LOSS
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_nothing_but_bad_losses_ends_in_a_recommendation(family, bad):
    found = seeded(family(3, 60)).minimize(lambda x: bad)
    assert np.isfinite(found.value).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e15])
def test_the_unit_of_the_loss_does_not_matter(scale):
    optimizer = seeded(BGS(3, 300))
    found = optimizer.minimize(lambda x: scale * sphere(x))
    assert found.loss < 1e-3 * scale


def above_one(x):
    return x[0] - 1


def is_above_one(x):
    return x[0] >= 1


@WORKERS
@pytest.mark.filterwarnings(IGNORE + "FailedConstraintWarning")
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("constraint", [above_one, is_above_one])
def test_from_a_start_that_violates_a_constraint_the_optimum_is_found(constraint, workers):
    optimizer = seeded(BGS(2, 400, workers))
    optimizer.parametrization.register_cheap_constraint(constraint)
    found = optimizer.minimize(lambda x: float(((x - 0.5) ** 2).sum()))
    assert found.value[0] >= 1
    np.testing.assert_allclose(found.value, [1, 0.5], atol=0.1)


@pytest.mark.parametrize(("name", "due"), [("BGS", 0.13), ("BGSWide", 1.5)])
def test_a_violation_that_is_told_is_penalised(name, due):
    """Nevergrad multiplies the loss, so that it must not be 0 where it is not allowed.

    The penalty is a cliff, which a wide search takes for a rough function.
    """
    optimizer = seeded(REGISTERED[name](2, 400))
    violation = [lambda x: float(x.sum() - 1.5)]
    found = optimizer.minimize(lambda x: sphere(x) + 1, constraint_violation=violation)
    assert found.value.sum() <= 1.5 + 1e-9
    assert sphere(found.value) < due  # 0.125 is the least; it was 2


# ---- recommendations


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_without_noise_the_best_point_seen_is_recommended_at_any_time(family):
    optimizer = seeded(family(3, 90))
    start = optimizer.recommend()
    np.testing.assert_array_equal(start.value, 0.0)
    best, point = math.inf, None
    for _ in range(90):
        candidate = optimizer.ask()
        loss = sphere(candidate.value)
        optimizer.tell(candidate, loss)
        if loss <= best:
            best, point = loss, candidate.value
        found = optimizer.recommend()
        assert found.loss == best
        np.testing.assert_array_equal(found.value, point)


def test_the_last_evaluation_is_of_the_center():
    optimizer = seeded(ParametrizedBGS(optimizer="sgd", noisy=False)(3, 60))
    steps(optimizer, sphere, 59)
    center = optimizer._run.center
    np.testing.assert_array_equal(vector(optimizer, optimizer.ask()), center)


@pytest.mark.parametrize("flagged", [False, True])
def test_under_noise_the_average_of_the_center_is_recommended_with_a_loss(flagged):
    optimizer = seeded(BGS(5, 500), 1)
    if flagged:
        optimizer.parametrization.function.deterministic = False
    asked, losses = steps(optimizer, noisy_sphere(7, 2.0), 500)
    found = optimizer.recommend()
    assert not (asked == found.value).all(axis=1).any()  # it was never evaluated
    values = [sphere(x) for x in asked]
    assert sphere(found.value) < 0.5 < np.median(values)
    assert abs(found.loss - np.mean(values[-30:])) < 2.0
    lucky = asked[int(np.argmin(losses))]
    assert sphere(found.value) < sphere(lucky)


@pytest.mark.parametrize("name", ["BGS", "BGSWide"])
@pytest.mark.parametrize("kind", ["choice", "integer", "integers", "free"])
@pytest.mark.parametrize("steps", range(2, 13))
def test_a_start_on_the_edge_between_two_steps_is_not_noise(steps, kind, name):
    """Of an even number of steps the middle is an edge, and repeats are a hair apart."""
    made = {
        "choice": ng.p.TransitionChoice(list(range(steps))),
        "integer": ng.p.Scalar(lower=0, upper=steps - 1).set_integer_casting(),
        "integers": ng.p.Array(shape=(3,), lower=0, upper=steps - 1).set_integer_casting(),
        "free": ng.p.Scalar(init=steps / 2).set_integer_casting(),
    }[kind]
    optimizer = ng.optimizers.registry[name](made, budget=100)

    def loss(x):
        return float(np.abs(np.asarray(x) - steps + 1.3).sum())

    found = optimizer.minimize(loss)
    assert optimizer._run.noisy is False
    assert found.loss == loss(found.value)


def test_coordinates_beside_steps_start_where_they_are_said_to():
    made = ng.p.Instrumentation(
        ng.p.Scalar(init=3.0), ng.p.TransitionChoice([1, 2, 3, 4]),
        speed=ng.p.Log(init=2.0), count=ng.p.Scalar(init=4.5).set_integer_casting(),
        both=ng.p.Dict(a=ng.p.Array(init=[0.5, 0.25]), b=ng.p.Tuple(ng.p.Scalar(init=7.0), "x")),
    )  # fmt: skip
    optimizer = ng.optimizers.registry["BGS"](made, budget=200)
    first = optimizer.ask()
    assert first.args[0] == 3.0
    assert first.kwargs["speed"] == pytest.approx(2.0, rel=1e-12)
    np.testing.assert_array_equal(first.kwargs["both"]["a"], [0.5, 0.25])
    assert first.kwargs["both"]["b"][0] == 7.0
    moved = first.get_standardized_data(reference=optimizer.parametrization)
    assert np.count_nonzero(moved) == 2


def test_noise_is_found_though_the_function_is_said_to_be_deterministic():
    for deviation, expected in ((0.0, False), (1e-6, True), (3.0, True)):
        optimizer = seeded(BGS(4, 100))
        steps(optimizer, noisy_sphere(1, deviation), 12)
        assert optimizer.parametrization.function.deterministic
        assert optimizer._run.noisy is expected


@pytest.mark.parametrize("noisy", [False, True])
def test_the_user_may_say_whether_there_is_noise(noisy):
    optimizer = seeded(ParametrizedBGS(noisy=noisy)(4, 100))
    steps(optimizer, noisy_sphere(1, 0.0 if noisy else 1.0), 40)
    assert optimizer._run.noisy is noisy


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_early_stopping_sees_the_loss_of_the_recommendation(family):
    optimizer = seeded(family(3, 500))
    steps(optimizer, sphere, 1)
    criterion = lambda o: o.recommend().loss < 2.0  # noqa: E731
    optimizer.register_callback("ask", ng.callbacks.EarlyStopping(criterion))
    found = optimizer.minimize(sphere)
    assert found.loss < 2.0
    assert optimizer.num_ask < 500


def test_early_stopping_sees_a_loss_under_noise_too():
    optimizer = seeded(BGS(3, 500))
    steps(optimizer, noisy_sphere(3, 0.5), 20)
    criterion = lambda o: o.recommend().loss < 2.0  # noqa: E731
    optimizer.register_callback("ask", ng.callbacks.EarlyStopping(criterion))
    optimizer.minimize(noisy_sphere(4, 0.5))
    assert optimizer.num_ask < 500


# ---- several objectives


@BAD_LOSS  # so base calls the infinite hypervolume of the first points
def test_a_front_of_two_objectives_is_found_and_nothing_is_recommended():
    optimizer = seeded(BGS(2, 400))
    optimizer.tell(ng.p.MultiobjectiveReference(), [3.0, 3.0])
    steps(optimizer, lambda x: [float((x**2).sum()), sphere(x)], 400)
    with pytest.raises(RuntimeError, match="pareto_front"):
        optimizer.recommend()
    losses = np.array([c.losses for c in optimizer.pareto_front()])
    assert len(losses) > 5
    # on the true front the square roots of both sum up to sqrt(2)
    assert np.sort(np.sqrt(losses).sum(axis=1))[2] < 1.02 * math.sqrt(2)


# ---- families and the registry


def test_families_with_the_same_options_are_equal_and_print_only_what_was_chosen():
    family = ParametrizedBGS(num_directions=8, top_k=3, sampler="hadamard")
    assert family == ParametrizedBGS(top_k=3, sampler="hadamard", num_directions=8)
    assert family != ParametrizedBGS(num_directions=8, top_k=4, sampler="hadamard")
    assert family == ParametrizedBGS(**family.config())
    assert repr(family) == "ParametrizedBGS(num_directions=8, sampler='hadamard', top_k=3)"
    assert repr(ParametrizedBGS()) == "ParametrizedBGS()"
    assert family.config()["optimizer"] is None
    assert repr(family(2, 10)) == (
        f"Instance of {family!r}(parametrization=Array{{(2,)}}, budget=10, num_workers=1)"
    )


def test_a_family_gets_a_name_and_enters_the_registry(monkeypatch):
    monkeypatch.setattr(ng.optimizers.registry, "data", dict(ng.optimizers.registry.data))
    family = ParametrizedBGS(num_directions=3).set_name("OwnBGS", register=True)
    assert ng.optimizers.registry["OwnBGS"] is family
    optimizer = ng.optimizers.registry["OwnBGS"](2, 10)
    assert optimizer.name == "OwnBGS"
    assert optimizer._configured_optimizer.config()["num_directions"] == 3


def test_every_name_is_in_the_registry_and_an_attribute_of_ng_optimizers():
    assert REGISTERED["BGS"] is BGS
    assert BGS.config() == ParametrizedBGS().config()
    for name, family in REGISTERED.items():
        assert ng.optimizers.registry[name] is family is getattr(ng.optimizers, name)
        assert repr(family) == name == family(2).name
        assert [family.recast, family.one_shot, family.no_parallelization] == [False] * 3


OPTIONS = [
    {"num_directions": 6, "top_k": 2},
    {"sampler": "gaussian", "num_directions": 4},
    {"sampler": "rademacher"},
    {"selection": "max", "optimizer": "sgd"},
    {"optimizer": "adam", "learning_rate": 0.1},
    {"optimizer": "auto", "sigma": 0.5},
    {"reward_scale": "rank"},
    {"averaging": 0.5, "noisy": True},
    {"adapt_sigma": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_makes_an_optimizer_that_makes_progress(options):
    optimizer = seeded(ParametrizedBGS(**options)(3, 300))
    optimizer.minimize(sphere)
    assert sphere(optimizer.recommend().value) < 1.5


def test_the_options_reach_the_search():
    family = ParametrizedBGS(
        num_directions=5, top_k=2, selection="max", optimizer="sgd", sigma=0.2
    )
    optimizer = seeded(family(3, 100))
    steps(optimizer, sphere, 1)
    config = optimizer._run._config
    assert (config.num_directions, config.top_k, config.mean_weight) == (5, 2, 1.0)
    assert optimizer._run.sigma == 0.2


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_directions": 4, "top_k": 5}, ArgumentValueError, "top_k"),
        ({"num_directions": 0}, ArgumentValueError, "num_directions"),
        ({"num_directions": 2.5}, ArgumentTypeError, "num_directions"),
        ({"top_k": 0}, ArgumentValueError, "top_k"),
        ({"sampler": "sobol"}, ArgumentValueError, "sampler"),
        ({"sampler": 3}, ArgumentTypeError, "sampler"),
        ({"selection": "best"}, ArgumentValueError, "selection"),
        ({"optimizer": "lbfgs"}, ArgumentValueError, "optimizer"),
        ({"learning_rate": -1.0}, ArgumentValueError, "learning_rate"),
        ({"learning_rate": "fast"}, ArgumentTypeError, "learning_rate"),
        ({"sigma": 0.0}, ArgumentValueError, "sigma"),
        ({"sigma": math.nan}, ArgumentValueError, "sigma"),
        ({"reward_scale": "some"}, ArgumentValueError, "reward_scale"),
        ({"averaging": 1.0}, ArgumentValueError, "averaging"),
        ({"adapt_sigma": "yes"}, ArgumentTypeError, "adapt_sigma"),
        ({"noisy": "yes"}, ArgumentTypeError, "noisy"),
        ({"optimizer": "auto", "top_k": 2}, ArgumentValueError, "top_k"),
        ({"optimizer": "adam", "adapt_sigma": True}, ArgumentValueError, "optimizer"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_by_name_at_once(options, error, text):
    with pytest.raises(error, match=text) as caught:
        ParametrizedBGS(**options)
    assert isinstance(caught.value, BGSError)


def test_an_option_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="popsize"):
        ParametrizedBGS(popsize=3)


def test_importing_and_reloading_it_again_changes_nothing():
    out = python(
        "import importlib, sys, nevergrad as ng\n"
        "import bgs_opt.adapters.nevergrad as first\n"
        "before = set(ng.optimizers.registry)\n"
        "importlib.reload(first)\n"
        "del sys.modules['bgs_opt.adapters.nevergrad']\n"
        "import bgs_opt.adapters.nevergrad as second\n"
        "assert set(ng.optimizers.registry) == before\n"
        "assert set(second.REGISTERED) <= before\n"
        "assert ng.optimizers.registry['BGS'] is second.BGS is ng.optimizers.BGS\n"
        "print(second.BGS(2, 30).minimize(lambda x: float((x**2).sum())).loss < 2)\n"
    )
    assert out.strip() == "True"


def test_a_name_that_another_optimizer_has_stays_with_it_and_a_warning_says_so():
    out = python(
        "import warnings, nevergrad as ng\n"
        "other = ng.optimizers.registry['OnePlusOne']\n"
        "ng.optimizers.registry.register_name('BGS', other)\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    import bgs_opt.adapters.nevergrad as adapter\n"
        "assert ng.optimizers.registry['BGS'] is other\n"
        "assert not hasattr(ng.optimizers, 'BGS')\n"
        "for name in adapter.REGISTERED.keys() - {'BGS'}:\n"
        "    assert ng.optimizers.registry[name] is adapter.REGISTERED[name]\n"
        "assert adapter.BGS(2, 30).name == 'BGS'\n"
        "for one in caught:\n"
        "    print(one.category.__name__, one.message)\n"
    )
    assert out.count("BGSWarning") == 1 == len(out.splitlines())
    assert "registry['BGS']" in out


# ---- executors


def test_threads_serve_as_workers():
    optimizer = seeded(BGS(3, 300, 4))
    with ThreadPoolExecutor(4) as pool:
        found = optimizer.minimize(sphere, executor=pool)
    assert optimizer.num_tell == 300
    assert found.loss < 0.1


@pytest.mark.filterwarnings("ignore:Ignoring since timer was stopped:UserWarning")
@pytest.mark.parametrize("batch_mode", [False, True])
def test_processes_serve_as_workers(batch_mode):
    """`math.hypot` is found by a new process without importing anything."""
    parametrization = ng.p.Instrumentation(ng.p.Scalar(init=2.0), ng.p.Scalar(init=-1.0))
    optimizer = seeded(BGS(parametrization, 150, 2))
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = optimizer.minimize(math.hypot, executor=pool, batch_mode=batch_mode)
    assert optimizer.num_tell == 150
    assert found.loss < 0.3


@pytest.mark.parametrize("family", REGISTERED.values(), ids=repr)
def test_an_optimizer_of_the_registry_takes_its_arguments_by_position(family):
    optimizer = family(ng.p.Array(shape=(2,)), 30, 3)
    assert (optimizer.budget, optimizer.num_workers) == (30, 3)
    with pytest.raises(ValueError, match="No variable"):
        family(ng.p.Instrumentation(3), 30, 1)


def test_what_a_benchmark_writes_of_the_optimizer():
    optimizer = seeded(BGS(2, 30))
    assert optimizer._info() == {}
    steps(optimizer, sphere, 10)
    assert set(optimizer._info()) == {"sigma", "generation"}
