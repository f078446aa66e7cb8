"""R7: any dimension, any sigma, any size of values, bounded memory, thousands of generations."""

import gc
import math
import tracemalloc

import numpy as np
import pytest

from bgs_opt import BGS, CumulativeAdaptation, Options
from bgs_opt.errors import SigmaClampedWarning
from tests.helpers import play, sphere

SAMPLERS = ("qr", "hadamard", "gaussian", "gaussian_table", "rademacher", "factorised")
OPTIMIZERS = ("clipup", "adam", "sgd")
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def layout_for(sampler, dim):
    """A square matrix and the rest, for the sampler that needs to know."""
    if sampler != "factorised":
        return None
    side = max(1, math.isqrt(dim // 2))
    return {"w": (side, side), "b": (dim - side * side,)} if dim > side * side else {"w": (1, 1)}


def slope_of(x):
    """Cheap at any length and different for any two points."""
    return float(x[0]) - 0.5 * float(x[-1]) + float(x[len(x) // 2])


# ---- the dimension


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 17, 1000, 1_000_000])
@each_sampler
def test_a_run_of_any_dimension_asks_pairs_and_steps_downhill(sampler, dim):
    dtype = np.float32 if dim > 1000 else np.float64
    start = np.linspace(-1, 1, dim, dtype=dtype) if dim > 1 else np.ones(1)
    opt = BGS(start, 0.25, num_directions=4, top_k=2, sampler=sampler, seed=1,
              layout=layout_for(sampler, dim))  # fmt: skip
    rtol = 10 * np.finfo(dtype).eps
    for _ in range(1 if dim > 1000 else 3):
        center, candidates, values = opt.center, opt.ask(), []
        assert len(candidates) == 8
        for _, x in candidates.blocks(2):
            assert np.isfinite(x).all()
            assert np.abs((x[0] - center) + (x[1] - center)).max() <= rtol * np.abs(x).max()
            values += [slope_of(x[0]), slope_of(x[1])]
        length = float(np.linalg.norm((x[0] - center).astype(np.float64)))
        assert 0 < length < 0.25 * math.sqrt(dim) * 8
        opt.tell(candidates, values)
        assert opt.center.shape == (dim,)
        assert opt.center.dtype == dtype
        assert np.isfinite(opt.center).all()
        assert slope_of(opt.center) < slope_of(center)
    assert opt.best.value == min(opt.best.value, slope_of(start))


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 17, 300])
def test_the_automatic_rule_runs_in_any_dimension(dim):
    opt = BGS(np.ones(dim), 0.25, optimizer="auto", budget=60 + 4 * dim, seed=1)
    while not opt.stop():
        candidates = opt.ask()
        opt.tell(candidates, [sphere(x) for x in candidates])
        assert np.isfinite(opt.center).all()
    assert opt.best.value <= sphere(np.ones(dim))


# ---- sigma: powers of two are exact, so that runs of another unit have the same bits


@pytest.mark.parametrize("exponent", [-1000, -500, -60, 60, 500, 980])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@each_sampler
def test_a_run_in_another_unit_of_length_has_the_same_bits(sampler, optimizer, exponent):
    """f(x / u) from u x0 with sigma u, for units u of 1e-301 to 1e295."""
    unit, start = math.ldexp(1.0, exponent), np.linspace(-1, 1, 7)
    settings = {"sampler": sampler, "optimizer": optimizer, "seed": 2,
                "layout": layout_for(sampler, 7), "bounds": None}  # fmt: skip
    plain = play(BGS(start, 0.25, **settings), 5)
    scaled = play(BGS(start * unit, 0.25 * unit, **settings), 5, lambda x: sphere(x / unit))
    np.testing.assert_array_equal(scaled.center, plain.center * unit)
    np.testing.assert_array_equal(scaled.best.x, plain.best.x * unit)
    assert scaled.best.value == plain.best.value
    assert scaled.sigma == plain.sigma * unit


@pytest.mark.parametrize("sigma", [1e-300, 1e-160, 1e-20, 1e20, 1e160, 1e300])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "auto"])
def test_sigma_of_any_size_around_a_start_of_one_stays_finite(optimizer, sigma):
    opt = BGS(np.ones(5), sigma, optimizer=optimizer, seed=1, options=Options(noisy=False))
    for _ in range(6):
        candidates = opt.ask()
        assert np.isfinite(candidates.x).all()
        opt.tell(
            candidates,
            [float(np.abs(x / sigma).sum()) if sigma > 1 else x.sum() for x in candidates],
        )
        assert np.isfinite(opt.center).all()
        assert 0 < opt.sigma < math.inf
    assert bool(opt.stop().get("sigma")) == (opt.sigma < 1e-18)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_sampler
def test_the_smallest_and_largest_sigma_of_a_dtype_give_finite_points(sampler, dtype):
    info = np.finfo(dtype)
    for sigma in (float(info.tiny), float(info.max) / 1e4):
        opt = BGS(
            np.zeros(10, dtype), sigma, sampler=sampler, seed=1, layout=layout_for(sampler, 10)
        )
        x = opt.ask().x
        assert np.isfinite(x).all()
        assert x.any(axis=1).all()
        opt.tell(opt.pending, np.arange(len(x)))
        assert np.isfinite(opt.center).all()


# ---- values


@pytest.mark.parametrize("exponent", [-1000, -300, 300, 1000])
@pytest.mark.parametrize("settings", [
    {}, {"optimizer": "adam"}, {"optimizer": "sgd", "sigma_rule": CumulativeAdaptation()},
    {"selection": "max"}, {"options": Options(reward_scale="all", acceptance=0.0)},
    {"options": Options(reward_scale="rank")}, {"options": Options(repeats=2, averaging=0.9)},
], ids=["clipup", "adam", "adaptation", "ars", "all-acceptance", "rank", "repeats"])  # fmt: skip
def test_values_in_another_unit_give_the_same_bits(settings, exponent):
    """Values of 1e-301 to 1e301: the unit of the objective is the caller's own affair."""
    plain = play(BGS(np.ones(6), 0.3, seed=1, **settings), 8)
    scaled = play(BGS(np.ones(6), 0.3, seed=1, **settings), 8,
                  lambda x: math.ldexp(sphere(x), exponent))  # fmt: skip
    np.testing.assert_array_equal(scaled.center, plain.center)
    np.testing.assert_array_equal(scaled.average, plain.average)
    assert scaled.best.value == math.ldexp(plain.best.value, exponent)
    for column in ("best_value", "mean_value", "center_value", "kept_difference"):
        expected = np.ldexp(plain.history[column], exponent)
        np.testing.assert_allclose(scaled.history[column], expected, rtol=1e-14)


@pytest.mark.parametrize("pattern", [
    [1.7e308, -1.7e308], [1e300, 1e-300], [1e-300, -1e-300], [5e-324, 0.0], [1.7e308, 1.6e308],
], ids=str)  # fmt: skip
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "auto"])
def test_values_at_the_ends_of_the_range_leave_everything_finite(optimizer, pattern):
    random = np.random.default_rng(0)
    options = Options(center_evaluations=2, noisy=True, averaging=0.5)
    opt = BGS(np.ones(5), 0.3, optimizer=optimizer, seed=1, options=options)
    for _ in range(8):
        candidates = opt.ask()
        opt.tell(candidates, random.choice(pattern, len(candidates)))
        for point in (opt.center, opt.average, opt.ask(1).x, opt.best.x):
            assert np.isfinite(point).all()
        opt.discard(opt.pending)
    assert np.isfinite(opt.history["mean_value"][opt.history["generation"] > 0]).all()
    assert opt.best.value == min(pattern)


@pytest.mark.parametrize(("offset", "rtol"), [(1e3, 1e-12), (1e9, 1e-6), (1e13, 1e-2)])
def test_a_large_constant_added_to_the_values_does_not_hide_the_slope(offset, rtol):
    """Differences of about 100 keep the digits that a double has beside the constant."""
    plain, lifted = (BGS(np.zeros(4), 0.5, seed=1, num_directions=4, top_k=4) for _ in range(2))
    x = plain.ask().x
    lifted.ask()
    values = np.round(x.sum(axis=1) * 64)
    plain.tell(plain.pending, values)
    lifted.tell(lifted.pending, values + offset)
    np.testing.assert_allclose(lifted.center, plain.center, rtol=rtol)


# ---- memory


def stream(opt):
    """A generation, two points at a time."""
    for ids, x in opt.ask().blocks(2):
        opt.tell(ids, [slope_of(row) for row in x])


@pytest.mark.parametrize(
    ("optimizer", "options", "vectors"),
    [("sgd", Options(), 7.5), ("clipup", Options(), 8), ("adam", Options(), 9.5),
     ("clipup", Options(averaging=0.9), 10.5)],
    ids=["sgd", "clipup", "adam", "averaged"],
)  # fmt: skip
def test_a_generation_of_a_million_numbers_needs_a_few_vectors(optimizer, options, vectors):
    """Center, best, two points, the shared part of the directions, gradient: six; and the state
    of the optimizer, one or two. An average is one more, and two more while it moves.
    """
    stream(BGS(np.zeros(1000), 0.1, sampler="hadamard", optimizer=optimizer, options=options))
    x0 = np.zeros(1_000_000, np.float32)
    gc.collect()
    tracemalloc.start()
    try:
        opt = BGS(x0, 0.1, num_directions=16, sampler="hadamard", optimizer=optimizer, seed=1,
                  options=options)  # fmt: skip
        for _ in range(2):
            stream(opt)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert opt.generation == 2
    assert peak < vectors * x0.nbytes


@pytest.mark.parametrize("sampler", ["hadamard", "gaussian", "gaussian_table", "rademacher"])
def test_memory_does_not_grow_with_the_number_of_directions(sampler):
    def peak_of(num_directions):
        gc.collect()
        tracemalloc.start()
        try:
            opt = BGS(
                np.zeros(200_000), 0.1, num_directions=num_directions, sampler=sampler, seed=1
            )
            stream(opt)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak_of(4), peak_of(24)
    assert many - few < 8 * 200_000 / 2  # half a vector; 40 more rows would be 40


# ---- many generations downhill without end


@pytest.mark.parametrize(("settings", "generations"), [
    ({"num_directions": 1}, 2000), ({"optimizer": "auto"}, 300),
    ({"optimizer": "auto", "options": Options(noisy=True)}, 120),
    pytest.param({"optimizer": "auto"}, 4000, marks=pytest.mark.slow),
    pytest.param({"optimizer": "auto", "options": Options(noisy=True)}, 1000,
                 marks=pytest.mark.slow),
], ids=["clipup", "auto", "auto-noisy", "auto-long", "auto-noisy-long"])  # fmt: skip
def test_thousands_of_generations_on_a_slope_stay_finite(settings, generations):
    opt = BGS(np.zeros(3), 0.5, seed=1, **settings)
    for _ in range(generations):
        candidates = opt.ask()
        opt.tell(candidates, candidates.x @ np.array([1.0, -2.0, 0.5]))
        assert 0 < opt.sigma < math.inf
    assert np.isfinite(opt.center).all()
    assert opt.generation == generations
    assert opt.best.value < -100
    assert all(
        np.isfinite(opt.history[name]).all() for name in ("sigma", "step_norm", "best_value")
    )


def test_a_sigma_that_adapts_on_an_endless_slope_stops_at_its_ceiling():
    opt = BGS(
        np.zeros(3),
        0.5,
        num_directions=2,
        seed=1,
        optimizer="sgd",
        sigma_rule=CumulativeAdaptation(),
    )
    with pytest.warns(SigmaClampedWarning, match=r"500000\]") as caught:
        play(opt, 300, lambda x: float(x @ np.array([1.0, -2.0, 0.5])))
    assert len(caught) == 1
    assert opt.sigma <= 0.5e6
    assert np.isfinite(opt.center).all()
