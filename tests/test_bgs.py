"""The public contract of BGS, against a slow generation written from the method's five steps."""

import math

import numpy as np
import pytest

from bgs_opt import (
    BGS,
    SGD,
    Adam,
    Best,
    ClipUp,
    CumulativeAdaptation,
    ExponentialDecay,
    Options,
    TellReport,
)
from bgs_opt.averaging import moving_average
from bgs_opt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    NonFiniteValueWarning,
    SearchStalledError,
    SigmaClampedWarning,
    SkippedUpdateWarning,
)
from tests.helpers import contents, deviation, fingerprint, play, slow_weights, sphere

DIM = 6
START = np.linspace(-1, 1.5, DIM)


def objective(x):
    """Neither odd nor even nor separable, so that no mistake cancels."""
    x = np.asarray(x, np.float64)
    return float(np.sum((x - 0.3) ** 2 * np.arange(1, len(x) + 1)) + np.sin(3 * x[0]) * x[-1])


def values_of(candidates, fun=objective):
    return np.array([fun(x) for x in candidates])


def slow_gradient(opt, candidates, values, *, maximize=False, selection=0.0, top_k, options):
    """Steps 2 to 4 of the method for a whole generation, from its points and values alone."""
    x, rewards = candidates.x, (values if maximize else -values).tolist()
    centers, m = options.baseline_evaluations, options.repeats
    scale = np.ones(opt.dim) if options.scale is None else np.asarray(options.scale)
    plus, minus, directions = [], [], []
    for first in range(centers, len(x), 2 * m):
        ends = rewards[first : first + 2 * m]
        plus.append(math.fsum(ends[::2]) / m)
        minus.append(math.fsum(ends[1::2]) / m)
        directions.append((x[first] - x[first + 1]) / (2 * opt.sigma * scale))
    accepted = None
    if options.acceptance is not None:
        bar = math.fsum(rewards[:centers]) / centers
        bar -= options.acceptance * deviation(plus + minus)
        accepted = [max(a, b) >= bar for a, b in zip(plus, minus, strict=True)]
    weights = slow_weights(plus, minus, top_k, selection, options.reward_scale, accepted)
    return np.array(weights) @ np.array(directions)


SETTINGS = {
    "plain": {},
    "maximize": {"maximize": True},
    "ars": {"selection": "max"},
    "between": {"selection": 0.4},
    "all-kept": {"top_k": 5},
    "one-kept": {"top_k": 1},
    "one-direction": {"num_directions": 1, "top_k": 1},
    "more-than-d": {"num_directions": 15, "top_k": 9},
    "repeats": {"options": Options(repeats=3)},
    "center": {"options": Options(center_evaluations=2)},
    "acceptance": {"options": Options(acceptance=0.0)},
    "acceptance-and-repeats": {
        "options": Options(acceptance=0.2, repeats=2, center_evaluations=3)
    },
    "all-scale": {"options": Options(reward_scale="all")},
    "ranks": {"options": Options(reward_scale="rank"), "maximize": True},
    "scaled": {"options": Options(scale=[1, 2, 0.5, 1, 3, 0.1])},
    "gaussian": {"sampler": "gaussian"},
    "table": {"sampler": "gaussian_table"},
    "signs": {"sampler": "rademacher"},
    "hadamard": {"sampler": "hadamard"},
    "factorised": {"sampler": "factorised", "layout": {"w": (2, 2), "b": (2,)}},
}
each_setting = pytest.mark.parametrize("name", SETTINGS)


def make(name, **changes):
    return BGS(
        START, 0.2, **{"num_directions": 5, "top_k": 3, "seed": 3, **SETTINGS[name], **changes}
    )


def described(name):
    settings = SETTINGS[name]
    weight = settings.get("selection", 0.0)
    return {
        "maximize": settings.get("maximize", False),
        "selection": 1.0 if weight == "max" else weight,
        "top_k": settings.get("top_k", 3),
        "options": settings.get("options", Options()),
    }


# ---- a generation


@pytest.mark.parametrize(
    "rule", [SGD(), SGD(momentum=0.6), Adam(), ClipUp()], ids=lambda r: f"{type(r).__name__}"
)
@each_setting
def test_every_generation_makes_the_step_of_the_method(name, rule):
    opt, twin = make(name, optimizer=rule, learning_rate=0.03), rule.init(np.zeros(DIM))
    scale = np.asarray(described(name)["options"].scale or 1.0)
    for _ in range(6):
        before, candidates = opt.center, opt.ask()
        values = values_of(candidates)
        gradient = slow_gradient(opt, candidates, values, **described(name))
        report = opt.tell(candidates, values)
        delta, twin = rule.step(gradient.copy(), twin, 0.03)
        assert report == TellReport(len(candidates), 0, 0, True)
        assert np.linalg.norm(delta) > 1e-6
        np.testing.assert_allclose(opt.center - before, delta * scale, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_a_direction_is_kept_where_enough_scenarios_accept_it(fraction):
    # repeats 0..5 of scenarios 0, 1, 2, 0, 1, 2; each scenario has another objective and scale
    options = Options(repeats=6, scenarios=3, acceptance=-0.4, accept_fraction=fraction,
                      center_evaluations=4)  # fmt: skip
    opt = BGS(START, 0.2, num_directions=12, top_k=12, seed=5, optimizer="sgd",
              learning_rate=0.03, options=options, maximize=True)  # fmt: skip
    assert options.baseline_evaluations == 6
    candidates, before = opt.ask(), opt.center
    wishes = np.random.default_rng(2).normal(size=(3, DIM)) * [[1.0], [30.0], [0.01]]
    scenario = np.concatenate([np.arange(6) % 3, np.tile(np.repeat(np.arange(6) % 3, 2), 12)])
    values = (candidates.x * wishes[scenario]).sum(axis=1)
    values += 0.02 * np.abs(wishes[scenario]).max(axis=1) * np.sin(np.arange(len(values)))
    opt.tell(candidates, values)

    center, ends = values[:6], values[6:].reshape(12, 6, 2)
    passed = []
    for number in range(3):
        mine = ends[:, number::3].mean(axis=1)
        bar = center[number::3].mean() + 0.4 * mine.std()
        passed.append(mine.max(axis=1) >= bar)
    shares = np.mean(passed, axis=0)
    assert len(np.unique(shares)) > 2
    accepted = (shares >= fraction).tolist()
    plus, minus = ends.mean(axis=1).T.tolist()
    weights = np.array(slow_weights(plus, minus, 12, 0.0, "kept", accepted))
    directions = (candidates.x[6::12] - candidates.x[7::12]) / (2 * 0.2)
    np.testing.assert_allclose(opt.center - before, 0.03 * (weights @ directions), rtol=1e-9)


@each_setting
def test_pairs_stand_on_opposite_sides_of_the_center(name):
    opt = make(name)
    centers, m = (
        described(name)["options"].baseline_evaluations,
        described(name)["options"].repeats,
    )
    candidates = opt.ask()
    assert len(candidates) == centers + 2 * m * SETTINGS[name].get("num_directions", 5)
    np.testing.assert_array_equal(candidates.x[:centers], np.tile(START, (centers, 1)))
    moves = candidates.x[centers:] - START
    np.testing.assert_allclose(moves[::2], -moves[1::2], atol=1e-15)
    for repeat in range(1, m):
        np.testing.assert_array_equal(moves[2 * repeat :: 2 * m], moves[:: 2 * m])


AUTO = {"optimizer": "auto", "num_directions": None, "top_k": None}
MIRRORED = {
    **{name: {} for name in SETTINGS if name != "maximize"},
    "adam": {"optimizer": "adam"},
    "clipup-averaged": {"options": Options(averaging=0.9, weight_decay=0.01)},
    "adaptation": {"optimizer": "sgd", "sigma_rule": CumulativeAdaptation()},
    "auto": {**AUTO, "budget": 400},
    "auto-noisy": {**AUTO, "options": Options(noisy=True)},
}


@pytest.mark.parametrize("failing", [False, True], ids=["clean", "failing"])
@pytest.mark.parametrize("name", MIRRORED)
def test_maximizing_is_the_mirror_image_of_minimizing_bit_for_bit(name, failing):
    settings = {**SETTINGS.get(name, {}), **MIRRORED[name]}
    settings.pop("maximize", None)
    low = make("plain", **settings)
    high = make("plain", **{**settings, "maximize": True})
    random = np.random.default_rng(0)
    for generation in range(12):
        ours, mirrored = low.ask(), high.ask()
        values = values_of(ours)
        if failing:  # never both ends of a pair
            bad = (random.random(len(values)) < 0.2) & (ours.signs > 0)
            values[bad] = [math.nan, math.inf, -math.inf][generation % 3]
        for opt, asked, told in ((low, ours, values), (high, mirrored, -values)):
            _tell(opt, asked, told)
        np.testing.assert_array_equal(low.center, high.center)
        assert low.sigma == high.sigma
        np.testing.assert_array_equal(low.average, high.average)
        assert low.best.value == -high.best.value
        np.testing.assert_array_equal(low.best.x, high.best.x)
    for column, numbers in low.history.items():
        sign = -1 if column.endswith("_value") else 1
        np.testing.assert_array_equal(numbers, sign * high.history[column])


def _tell(opt, candidates, values):
    """Tell; the first failure of a run warns."""
    if np.isfinite(values).all() or opt.counts["failed"]:
        opt.tell(candidates, values)
    else:
        with pytest.warns(NonFiniteValueWarning):
            opt.tell(candidates, values)


# ---- end to end


@pytest.mark.parametrize("optimizer", ["clipup", "adam", "sgd", "auto"])
@pytest.mark.parametrize("sampler", ["orthogonal", "hadamard", "gaussian", "rademacher"])
def test_a_quadratic_function_is_minimised(sampler, optimizer):
    opt = BGS(np.full(10, 3.0), 0.3, sampler=sampler, optimizer=optimizer, budget=3000, seed=1)
    while not opt.stop():
        candidates = opt.ask()
        opt.tell(candidates, [sphere(x) for x in candidates])
    assert sphere(np.full(10, 3.0)) == 62.5
    assert sphere(opt.center) < 3
    assert opt.best.value < 3
    assert opt.best.value == sphere(opt.best.x)


def test_the_search_goes_downhill_through_noise_as_large_as_the_slope():
    noise = np.random.default_rng(2)
    opt = BGS(np.full(8, 3.0), 0.3, budget=4000, seed=1, options=Options(averaging=0.95))
    while not opt.stop():
        candidates = opt.ask()
        opt.tell(candidates, [sphere(x) + noise.normal() for x in candidates])
    assert sphere(opt.average) < 5 < sphere(np.full(8, 3.0)) == 50


def test_a_step_function_without_gradient_is_climbed():
    opt = BGS(np.full(5, 9.3), 1.0, budget=3000, seed=1)
    while not opt.stop():
        candidates = opt.ask()
        opt.tell(candidates, [float(np.abs(np.round(x)).sum()) for x in candidates])
    assert opt.best.value <= 5


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not():
    runs = [play(BGS(START, 0.1, seed=seed), 4, objective) for seed in (5, 5, 6)]
    assert contents(runs[0]) == contents(runs[1]) != contents(runs[2])


# ---- common random numbers


@pytest.mark.parametrize("mode", ["pair", "generation", "none"])
def test_noise_by_the_seed_cancels_in_a_pair_where_the_pair_shares_it(mode):
    def run(noise):
        opt = BGS(START, 0.1, num_directions=4, top_k=4, optimizer="sgd", seed=1,
                  options=Options(common_seeds=mode))  # fmt: skip
        candidates = opt.ask()
        opt.tell(candidates, [
            objective(x) + noise * np.random.default_rng(seed).normal()
            for x, seed in zip(candidates, candidates.seeds.tolist(), strict=True)
        ])  # fmt: skip
        step = opt.center - START
        return step / np.linalg.norm(step)  # s_R divides by the spread of the noise

    angle = float(run(0.0) @ run(100.0))
    assert (angle > 1 - 1e-9) == (mode != "none")


def test_both_ends_of_a_pair_share_a_seed_and_repeats_and_generations_do_not():
    opt, seeds = BGS(START, 0.1, num_directions=3, seed=1, options=Options(repeats=2)), []
    for _ in range(3):
        candidates = opt.ask()
        table = candidates.seeds.reshape(3, 2, 2)
        np.testing.assert_array_equal(table[..., 0], table[..., 1])
        seeds += table[..., 0].ravel().tolist()
        opt.tell(candidates, values_of(candidates))
    assert len(set(seeds)) == 18


# ---- the center: averages, decay, baseline


@pytest.mark.parametrize("decay", [0.5, 0.95])
def test_the_average_is_the_moving_average_of_the_centers(decay):
    opt = BGS(START, 0.1, seed=1, options=Options(averaging=decay))
    expected = START.copy()
    for step in range(15):
        play(opt, 1, objective)
        moving_average(expected, opt.center, decay, step)
        np.testing.assert_array_equal(opt.average, expected)
    assert np.abs(opt.average - opt.center).max() > 1e-3
    with pytest.raises(ValueError, match="read-only"):
        opt.average[0] = 0


def test_averaging_does_not_change_the_search():
    plain, averaged = (
        play(BGS(START, 0.1, seed=1, options=Options(averaging=a)), 8, objective) for a in (0, 0.9)
    )
    np.testing.assert_array_equal(plain.center, averaged.center)
    np.testing.assert_array_equal(plain.average, plain.center)


def test_weight_decay_shrinks_the_center_after_its_step():
    plain = play(BGS(START, 0.1, seed=1), 1, objective)
    decayed = play(BGS(START, 0.1, seed=1, options=Options(weight_decay=0.25)), 1, objective)
    np.testing.assert_array_equal(decayed.center, 0.75 * plain.center)


def test_weight_decay_alone_is_a_geometric_fall():
    opt = BGS(START, 0.1, seed=1, options=Options(weight_decay=0.5))
    play(opt, 4, lambda x: 0.0)
    np.testing.assert_array_equal(opt.center, START / 16)


def test_center_evaluations_are_recorded_and_change_no_step():
    plain = BGS(START, 0.1, seed=1)
    centered = BGS(START, 0.1, seed=1, options=Options(center_evaluations=3))
    shown = []
    for _ in range(5):
        play(plain, 1, objective)
        candidates = centered.ask()
        assert candidates.signs[:4].tolist() == [0, 0, 0, 1]
        values = values_of(candidates) + np.arange(len(candidates)) / 64 * (candidates.signs == 0)
        shown.append(values[:3].mean())
        centered.tell(candidates, values)
        np.testing.assert_array_equal(plain.center, centered.center)
    np.testing.assert_allclose(centered.history["center_value"], shown, rtol=1e-14)
    assert np.isnan(plain.history["center_value"]).all()


# ---- noise


@pytest.mark.parametrize(
    ("size", "noisy"), [(0.0, False), (1e-15, False), (1e-6, True), (1.0, True)]
)
@pytest.mark.parametrize("unit", [1.0, 1e-200, 1e200])
@pytest.mark.parametrize("optimizer", ["clipup", "auto"])
def test_start_evaluations_tell_noise_from_rounding(optimizer, unit, size, noisy):
    random = np.random.default_rng(0)
    opt = BGS(START, 0.1, seed=1, optimizer=optimizer, options=Options(start_evaluations=5))
    assert opt.noisy is None
    candidates = opt.ask()
    np.testing.assert_array_equal(candidates.x, np.tile(START, (5, 1)))
    report = opt.tell(candidates, [unit * (3.0 + size * random.random()) for _ in candidates])
    assert report == TellReport(5, 0, 0, True)
    assert opt.noisy is noisy
    assert (opt.generation, opt.num_evaluations) == (1, 5)
    np.testing.assert_array_equal(opt.center, START)
    assert set(opt.ask().signs.tolist()) >= {1, -1}


def test_nobody_says_whether_the_objective_is_noisy():
    assert play(BGS(START, 0.1, seed=1), 2).noisy is None
    lone = BGS(START, 0.1, seed=1, options=Options(start_evaluations=1))
    lone.tell(lone.ask(), [1.0])
    assert lone.noisy is None


@pytest.mark.parametrize("noisy", [False, True])
def test_what_the_caller_knows_of_noise_is_believed(noisy):
    opt = BGS(START, 0.1, seed=1, options=Options(noisy=noisy, start_evaluations=4))
    opt.tell(opt.ask(), [1.0, 2.0, 3.0, 4.0] if not noisy else [1.0] * 4)
    assert opt.noisy is noisy


@pytest.mark.parametrize(
    ("noisy", "which"), [(False, "best"), (True, "average"), (None, "average")]
)
def test_the_recommendation_is_the_best_point_only_where_values_can_be_trusted(noisy, which):
    opt = play(BGS(START, 0.1, seed=1, options=Options(noisy=noisy, averaging=0.9)), 9, objective)
    points = {"best": opt.best.x, "average": opt.average}
    np.testing.assert_array_equal(opt.recommendation, points.pop(which))
    assert not np.array_equal(opt.recommendation, points.popitem()[1])


# ---- late and early


def test_late_pairs_join_the_next_update_with_their_own_directions():
    opt = BGS(START, 0.1, num_directions=6, top_k=6, seed=1, optimizer="sgd", learning_rate=0.1,
              options=Options(late="use"))  # fmt: skip
    early = opt.ask(16)  # eight pairs, six of which close the generation
    values = values_of(early)
    order = [*range(4, 16), *range(4)]
    first = opt.center
    opt.tell(early[order[:12]], values[order[:12]])
    second, now = opt.center, opt.ask()
    assert opt.generation == 1
    assert not np.array_equal(first, second)
    report = opt.tell(early[:4], values[:4])
    assert (report.accepted, report.late, report.updated) == (4, 4, False)
    later = values_of(now)
    opt.tell(now, later)
    x = np.concatenate([early.x[:4], now.x])
    told = -np.concatenate([values[:4], later])
    weights = slow_weights(told[::2].tolist(), told[1::2].tolist(), 6)
    assert np.count_nonzero(weights) == 6
    assert np.count_nonzero(weights[:2]) >= 1
    step = 0.1 * (np.array(weights) @ ((x[::2] - x[1::2]) / 0.2))
    np.testing.assert_allclose(opt.center - second, step, rtol=1e-9, atol=1e-12)
    assert opt.counts["late"] == 4


def test_asking_for_more_grows_the_generation_by_further_directions():
    small, grown = (BGS(START, 0.1, num_directions=3, seed=1) for _ in range(2))
    np.testing.assert_array_equal(grown.ask(10).x[:6], small.ask().x)
    assert len(grown.ask()) == len(small.ask()) == 0
    assert len(grown.ask(1)) == 1
    assert len(grown.pending) == 11


def test_points_asked_one_by_one_are_those_asked_at_once():
    together, single = (BGS(START, 0.1, num_directions=3, seed=1) for _ in range(2))
    rows = [single.ask(1) for _ in range(6)]
    everything = together.ask()
    np.testing.assert_array_equal(np.concatenate([r.x for r in rows]), everything.x)
    assert [int(r.ids[0]) for r in rows] == everything.ids.tolist()


def test_pending_is_what_was_asked_and_not_settled():
    opt = BGS(START, 0.1, num_directions=4, seed=1)
    candidates = opt.ask()
    opt.tell(candidates[[1, 4]], [1.0, 2.0])
    opt.discard(candidates[[0]])
    assert opt.pending.ids.tolist() == candidates.ids[[2, 3, 5, 6, 7]].tolist()
    np.testing.assert_array_equal(opt.pending.x, candidates.x[[2, 3, 5, 6, 7]])
    opt.tell(opt.pending, np.arange(5.0))
    assert (opt.generation, len(opt.pending)) == (1, 0)


# ---- what is shown


def test_before_anything_was_told_the_best_is_the_start_without_a_value():
    opt = BGS(START, 0.1, seed=1)
    assert isinstance(opt.best, Best)
    np.testing.assert_array_equal(opt.best.x, START)
    assert math.isnan(opt.best.value)
    for point in (opt.center, opt.best.x, opt.average, opt.recommendation):
        with pytest.raises(ValueError, match="read-only"):
            point[0] = 1


@pytest.mark.parametrize("maximize", [False, True])
def test_the_best_is_the_best_value_told_so_far_and_its_point(maximize):
    opt = BGS(START, 0.1, num_directions=3, seed=1, maximize=maximize)
    random, seen = np.random.default_rng(0), []
    for _ in range(30):
        candidates = opt.ask(int(random.integers(1, 5)))
        values = values_of(candidates)
        seen += zip(values.tolist(), candidates.x, strict=True)
        opt.tell(candidates, values)
        value, x = (max if maximize else min)(seen, key=lambda pair: pair[0])
        assert opt.best.value == value
        np.testing.assert_array_equal(opt.best.x, x)


def test_the_report_counts_what_was_new_late_and_repeated():
    opt = BGS(START, 0.1, num_directions=2, seed=1)
    first = opt.ask(6)
    assert opt.tell(first[:3], [1.0, 2.0, 3.0]) == TellReport(3, 0, 0, False)
    assert opt.tell(first[:4], [1.0, 2.0, 3.0, 4.0]) == TellReport(1, 0, 3, True)
    assert opt.tell(first[4:5], [5.0]) == TellReport(1, 1, 0, False)
    assert opt.tell(first[4:5], [5.0]) == TellReport(0, 0, 1, False)
    assert opt.discard(first[5:]) == TellReport(1, 1, 0, False)
    assert opt.counts == {
        "evaluations": 5, "late": 1, "failed": 0, "discarded": 1, "skipped": 0,
    }  # fmt: skip


@pytest.mark.parametrize("settings", [{}, {"maximize": True}, {"optimizer": "auto"}])
def test_the_history_has_a_row_a_generation(settings):
    opt = BGS(START, 0.1, seed=1, options=Options(center_evaluations=1), **settings)
    rows, told = [], []
    for number in range(12):
        center, sigma, candidates = opt.center, opt.sigma, opt.ask()
        values = values_of(candidates)
        told += values.tolist()
        opt.tell(candidates, values)
        rows.append((number, len(told), (max if "maximize" in settings else min)(told),
                     values[candidates.signs != 0].mean() if candidates.signs.any() else math.nan,
                     values[candidates.signs == 0].mean(), sigma,
                     np.linalg.norm(opt.center - center)))  # fmt: skip
    shown = np.array(list(opt.history.values())).T
    np.testing.assert_allclose(shown[:, :7], rows, rtol=1e-10, atol=1e-14)
    assert np.isfinite(shown[1:, 7]).all()
    opt.history["sigma"][:] = 0  # a copy
    assert opt.history["sigma"].all()


def test_the_kept_difference_of_the_history_is_the_mean_over_kept_pairs():
    opt = BGS(START, 0.1, num_directions=4, top_k=2, seed=1)
    opt.tell(opt.ask(), [0.0, 1.0, 5.0, 2.0, 7.0, 3.0, 1.0, 1.5])
    assert opt.history["kept_difference"].tolist() == [3.5]


def test_the_text_of_an_optimizer_says_where_it_is():
    opt = play(BGS(START, 0.125, num_directions=2, seed=1), 3, lambda x: 2.0)
    assert repr(opt) == "BGS(dim=6, generation=3, num_evaluations=12, sigma=0.125, best=2)"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", ["clipup", "adam", "sgd", "auto"])
def test_everything_has_the_dtype_of_the_start(optimizer, dtype):
    options = Options(averaging=0.5, weight_decay=0.01, scale=2.0)
    opt = BGS(
        START.astype(dtype), 0.1, seed=1, optimizer=optimizer, bounds=(-2, 2), options=options
    )
    play(opt, 8, objective)
    points = (opt.center, opt.average, opt.best.x, opt.recommendation, opt.ask().x)
    assert {point.dtype for point in points} == {np.dtype(dtype)}


# ---- reasons to stop


def test_nothing_is_a_reason_to_stop_at_the_start():
    assert BGS(START, 0.1, seed=1).stop() == {}
    assert BGS(np.zeros(3), 1e-300, seed=1).stop() == {}


def test_the_budget_is_a_reason_when_as_many_values_were_told():
    opt = BGS(START, 0.1, num_directions=4, seed=1, budget=13)
    play(opt, 1)
    assert opt.stop() == {}
    candidates = opt.ask()
    opt.discard(candidates[:2])
    opt.tell(candidates[2:6], np.ones(4))
    assert opt.stop() == {}  # 12 told; what was discarded does not count
    opt.tell(candidates[6:7], [1.0])
    assert opt.stop() == {"budget": 13}


def test_a_stalled_search_says_so_and_asks_no_more():
    opt = BGS(START, 0.1, num_directions=2, seed=1, options=Options(max_skipped=3))
    for skipped in range(3):
        assert opt.stop() == {}
        candidates = opt.ask()
        if skipped == 0:
            with pytest.warns(SkippedUpdateWarning):
                opt.discard(candidates)
        else:
            opt.discard(candidates)
    assert opt.stop() == {"stalled": 3}
    assert opt.counts["skipped"] == 3
    np.testing.assert_array_equal(opt.center, START)
    with pytest.raises(SearchStalledError, match="3 generations"):
        opt.ask()


def test_a_generation_with_a_usable_pair_ends_the_count_of_skipped_ones():
    opt = BGS(START, 0.1, num_directions=2, seed=1, options=Options(max_skipped=2))
    with pytest.warns(SkippedUpdateWarning):
        opt.discard(opt.ask())
    for _ in range(3):
        play(opt, 1)
        opt.discard(opt.ask())
        assert opt.stop() == {}


def test_too_few_usable_pairs_make_no_step():
    opt = BGS(START, 0.1, num_directions=4, seed=1, options=Options(min_valid=3))
    candidates = opt.ask()
    opt.discard(candidates[[0, 2]])
    with pytest.warns(SkippedUpdateWarning, match="2 usable pairs of 4"):
        opt.tell(candidates[[1, 3, 4, 5, 6, 7]], np.arange(6.0))
    np.testing.assert_array_equal(opt.center, START)
    candidates = opt.ask()
    opt.discard(candidates[[0]])
    opt.tell(candidates[1:], np.arange(7.0))
    assert not np.array_equal(opt.center, START)


def test_a_sigma_that_no_longer_changes_the_center_is_a_reason():
    opt = BGS(np.full(3, 1e6), 1e-13, seed=1)
    assert opt.stop() == {"sigma": 1e-13}


# ---- sigma and the learning rate over generations


def test_a_schedule_gives_sigma_by_the_generation():
    opt = BGS(START, 0.5, num_directions=2, seed=1, sigma_rule=ExponentialDecay(0.5, floor=0.05))
    for generation in range(8):
        assert opt.sigma == 0.5 * max(0.05, 0.5**generation)
        moves = opt.ask().x - opt.center
        np.testing.assert_allclose(np.linalg.norm(moves, axis=1), opt.sigma * math.sqrt(DIM))
        opt.tell(opt.pending, np.arange(4.0))


def test_a_schedule_beyond_the_limits_is_clamped_with_one_warning():
    opt = BGS(START, 0.5, num_directions=1, seed=1, sigma_rule=lambda g: 0.1**g,
              options=Options(min_sigma=0.02))  # fmt: skip
    play(opt, 1)
    assert opt.sigma == pytest.approx(0.05)
    with pytest.warns(SigmaClampedWarning, match="0.02"):
        play(opt, 1)
    play(opt, 3)
    assert opt.sigma == 0.02


def test_a_schedule_of_the_learning_rate_multiplies_the_step():
    def steps(schedule):
        options = Options(learning_rate_schedule=schedule)
        opt = BGS(START, 0.1, seed=1, optimizer="sgd", options=options)
        return play(opt, 3, lambda x: float(x.sum())).history["step_norm"]

    halved = steps(lambda generation: 0.5 ** (generation + 1))
    np.testing.assert_allclose(halved / steps(None), [0.5, 0.25, 0.125], rtol=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.5, "0.5", 1j, None, [1.0]])
@pytest.mark.parametrize("which", ["learning_rate_schedule", "sigma_rule"])
def test_a_schedule_that_goes_wrong_is_named_and_nothing_changes(which, bad):
    def schedule(generation):
        return bad if generation == 2 and broken else 1.0

    arguments = {which: schedule} if which == "sigma_rule" else {}
    options = Options(**({} if arguments else {which: schedule}))
    opt = BGS(START, 0.1, num_directions=2, seed=1, options=options, **arguments)
    broken = True
    play(opt, 1 if arguments else 2)  # sigma is asked for the generation that follows
    candidates, before = opt.ask(), fingerprint(opt)
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=rf"{which}\(2\): expected"):
        opt.tell(candidates, np.arange(4.0))
    assert fingerprint(opt) == before
    broken = False
    assert opt.tell(candidates, np.arange(4.0)).updated


def test_cumulative_adaptation_widens_sigma_on_a_slope_and_narrows_it_at_the_bottom():
    settings = {"optimizer": "sgd", "sigma_rule": CumulativeAdaptation(), "seed": 1}
    slope = play(BGS(np.zeros(4), 0.1, **settings), 12, lambda x: float(x.sum()))
    bowl = play(BGS(np.full(4, 0.5), 0.1, **settings), 150)
    assert slope.sigma > 0.3
    assert bowl.sigma < 0.07
    steps = slope.history["step_norm"] / slope.history["sigma"]
    assert steps.max() < 5 * steps.min()  # a step is a share of sigma throughout


# ---- parts of the vector


def test_a_scale_by_blocks_widens_and_steps_by_block():
    options = Options(scale={"fine": 0.01, "coarse": 10.0})
    layout, settings = {"fine": (4,), "coarse": (2,)}, {"sampler": "rademacher", "seed": 1}
    opt = BGS(np.zeros(6), 0.1, num_directions=5, top_k=5, optimizer="adam", layout=layout,
              options=options, **settings)  # fmt: skip
    x = opt.ask().x
    np.testing.assert_allclose(np.abs(x[:, :4]), 0.001)
    np.testing.assert_allclose(np.abs(x[:, 4:]), 1.0)
    opt.tell(opt.pending, [float(p[:4].sum() * 1000 + p[4:].sum()) for p in x])
    np.testing.assert_allclose(np.abs(opt.center[:4]), 0.1 * 0.1 * 0.01, rtol=1e-3)
    np.testing.assert_allclose(np.abs(opt.center[4:]), 0.1 * 0.1 * 10, rtol=1e-3)


def test_factorised_candidates_move_matrices_by_rank_one():
    layout = {"w": (5, 4), "b": (3,)}
    opt = BGS(np.zeros(23), 0.1, seed=1, sampler="factorised", layout=layout)
    for x in opt.ask():
        assert np.linalg.matrix_rank(x[:20].reshape(5, 4), rtol=1e-10) == 1
        assert np.count_nonzero(x[20:]) == 3
    opt.tell(opt.pending, values_of(opt.pending))
    play(opt, 2, objective)
    assert np.linalg.matrix_rank(opt.center[:20].reshape(5, 4), rtol=1e-10) > 1
