"""What the constructor's arguments become: defaults by formula, bounds, scale, limits of sigma."""

import math

import numpy as np
import pytest
from scipy.optimize import Bounds

from bgs_opt import BGS, SGD, ClipUp, CumulativeAdaptation, Options, minimize
from bgs_opt.box import bounds_of
from bgs_opt.config import configure
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError

DEFAULTS = {
    "num_directions": None, "top_k": None, "sampler": "orthogonal", "layout": None,
    "selection": None, "optimizer": "clipup", "learning_rate": None, "sigma_rule": None,
    "bounds": None, "maximize": False, "budget": None, "seed": 1, "options": Options(),
}  # fmt: skip
INF = math.inf


def config_of(x0, sigma, **changes):
    return configure(x0, sigma, **{**DEFAULTS, **changes})[0]


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 100, 1000, 10**6])
def test_the_default_number_of_directions_is_four_and_three_times_the_logarithm(dim):
    config = config_of(np.zeros(dim), 0.1)
    assert config.num_directions == 4 + math.floor(3 * math.log(dim))
    assert config.top_k == math.ceil(config.num_directions / 2)
    assert config.learning_rate == ClipUp().default_learning_rate(0.1, dim)


@pytest.mark.parametrize(("directions", "kept"), [(1, 1), (2, 1), (3, 2), (7, 4), (200, 100)])
def test_half_of_the_directions_are_kept_unless_told_otherwise(directions, kept):
    assert config_of(np.zeros(3), 0.1, num_directions=directions).top_k == kept
    assert config_of(np.zeros(3), 0.1, num_directions=directions, top_k=1).top_k == 1


@pytest.mark.parametrize(
    ("x0", "dtype"),
    [
        ([1, 2], "<f8"), (np.array([1, 2], np.int8), "<f8"), ([1.5, 2], "<f8"),
        (np.ones(2, np.float32), "<f4"), (np.ones(2, ">f4"), "<f4"), (np.ones(2, ">f8"), "<f8"),
    ],
)  # fmt: skip
def test_the_dtype_of_the_start_is_kept_and_ints_become_float64(x0, dtype):
    config, center = configure(x0, 0.1, **DEFAULTS)
    assert np.dtype(config.dtype) == center.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(center, np.asarray(x0, np.float64))


def test_the_start_is_copied():
    x0 = np.zeros(3)
    _, center = configure(x0, 0.1, **DEFAULTS)
    x0[:] = 9
    np.testing.assert_array_equal(center, np.zeros(3))
    assert configure(np.arange(6.0)[::2], 0.1, **DEFAULTS)[1].flags.c_contiguous


# ---- bounds


@pytest.mark.parametrize(
    ("bounds", "low", "high"),
    [
        ((-1, 2), [-1] * 3, [2] * 3),
        ([-1.0, [2, 3, 4]], [-1] * 3, [2, 3, 4]),
        ((np.array([-1, -2, -3]), INF), [-1, -2, -3], [INF] * 3),
        (np.array([[-1, -2, -3], [1, 2, 3]]), [-1, -2, -3], [1, 2, 3]),
        ((-INF, 5), [-INF] * 3, [5] * 3),
        (Bounds(-1, 2), [-1] * 3, [2] * 3),
        (Bounds([-1, -2, -INF], [1, 2, 3]), [-1, -2, -INF], [1, 2, 3]),
        (Bounds(), [-INF] * 3, [INF] * 3),
        ((0, 0), [0] * 3, [0] * 3),
        (([4], (5,)), [4] * 3, [5] * 3),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_of_every_form_become_two_vectors(bounds, low, high, dtype):
    sides = bounds_of(bounds, 3, dtype)
    for side, expected in zip(sides, (low, high), strict=True):
        assert side.dtype == dtype
        np.testing.assert_array_equal(side, expected)


@pytest.mark.parametrize("bounds", [
    [(-2, 2), (-2, 2)], [(0, 1), (2, 3)], ((-2, 2), (-2, 2)), [[0, 1], [0, 1]],
    [(None, 1), (0, None)], ((None, 1), (0, None)), [[-5, 5], [-5.0, 5.0]],
    np.array([(-5, 5), (-5, 5)]), [np.array([0, 1])] * 2, ((0, 5), (-3, 1)),
], ids=str)  # fmt: skip
def test_pairs_in_two_dimensions_are_not_taken_for_low_and_high(bounds):
    with pytest.raises(ArgumentValueError, match=r"^bounds: .*transpose makes it of SciPy's"):
        bounds_of(bounds, 2)
    with pytest.raises(ArgumentValueError, match=r"^bounds: .*transpose makes it of SciPy's"):
        minimize(lambda x: 0.0, bounds=bounds)


def test_numbers_beyond_every_float_are_a_typed_error():
    for bounds in (([10**5000, 1], [10**5000, 2]), ([10**5000] * 2, 1)):
        with pytest.raises((ArgumentValueError, ArgumentTypeError), match="^bounds: expected"):
            bounds_of(bounds, 2)


@pytest.mark.parametrize("bounds", [
    ((0, -1), (1, 3)), [[0, -1], [1, 3]], [np.array([0, -1]), np.array([1, 3])],
    np.transpose([(0, 1), (-1, 3)]), [(0, -1), (1, 3)],
], ids=str)  # fmt: skip
def test_two_vectors_of_two_numbers_are_low_and_high(bounds):
    low, high = bounds_of(bounds, 2)
    np.testing.assert_array_equal(low, [0, -1])
    np.testing.assert_array_equal(high, [1, 3])


def test_no_bounds_are_no_bounds():
    assert bounds_of(None, 3) == (None, None)


def test_bounds_are_copied():
    low = np.zeros(3)
    made, _ = bounds_of((low, 1), 3)
    low[:] = 9
    np.testing.assert_array_equal(made, np.zeros(3))


@pytest.mark.parametrize(
    "bounds",
    [
        (1, -1), ([0, 5, 0], [1, 4, 1]), (math.nan, 1), (0, math.nan), (0, [1, math.nan, 1]),
        (INF, INF), (-INF, -INF), (INF, -INF), ([0, 0], 1), (0, np.ones((3, 1))), (0,), (0, 1, 2),
        [(0, 1)] * 3, ((0, 1),) * 3, [[0, 1]] * 3,
        [(None, 1)] * 3, [(0, 1)], np.array(5), 5, "01", {"low": 0, "high": 1},
        (0, "a"), Bounds(1, -1), Bounds([0, 0], 1),
    ],
    ids=str,
)  # fmt: skip
def test_bounds_that_are_none_are_refused(bounds):
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match="^bounds: expected"):
        bounds_of(bounds, 3)


@pytest.mark.parametrize("x0", [[0.0, 2.0], [-0.1, 0.5], [1.0, 1.0 + 1e-15]])
def test_a_start_outside_of_the_bounds_is_refused(x0):
    with pytest.raises(ArgumentValueError, match=r"^x0: expected a point inside the bounds"):
        BGS(x0, 0.1, bounds=(0, 1))


@pytest.mark.parametrize("x0", [[0.0, 1.0], [0.0, 0.5]])
def test_a_start_on_a_wall_is_accepted(x0):
    assert BGS(x0, 0.1, bounds=(0, 1)).center.tolist() == x0


# ---- scale


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (2, [2] * 5), ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]), (np.full(5, 0.5, np.float32), [0.5] * 5),
        ({"b": 3.0, "w": 0.5}, [0.5] * 4 + [3.0]), (None, None),
    ],
)  # fmt: skip
def test_a_scale_is_a_number_a_vector_or_a_number_for_each_block(scale, expected):
    config = config_of(
        np.zeros(5), 0.1, layout={"w": (2, 2), "b": (1,)}, options=Options(scale=scale)
    )
    if expected is None:
        assert config.scale is None
    else:
        np.testing.assert_array_equal(config.scale, expected)
        assert config.scale.dtype == np.float64


@pytest.mark.parametrize(
    "scale",
    [0, -1, math.nan, INF, [1, 2], [1, 1, 1, 1, 0], [1, 1, 1, 1, math.inf], "1", {"w": 1},
     {"w": 1, "b": 1, "c": 1}, {"w": 1, "b": 0}, {"w": 1, "b": [1]}, np.ones((5, 1)), True],
    ids=str,
)  # fmt: skip
def test_a_scale_that_is_none_is_refused_by_name(scale):
    layout = {"w": (2, 2), "b": (1,)}
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match="^scale"):
        config_of(np.zeros(5), 0.1, layout=layout, options=Options(scale=scale))


# ---- sigma


def test_sigma_stays_within_fifteen_and_six_decades_of_its_start():
    low, high = config_of(np.zeros(3), 0.5).sigma_limits
    assert (low, high) == (pytest.approx(5e-16), pytest.approx(5e5))


def test_the_callers_limits_of_sigma_come_first():
    options = Options(min_sigma=0.25, max_sigma=2.0)
    assert config_of(np.zeros(3), 0.5, options=options).sigma_limits == (0.25, 2.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [1e-3, 0.5, 1.0])
@pytest.mark.parametrize("side", ["tiny", "max"])
def test_the_limits_of_sigma_are_numbers_of_its_dtype(dtype, side, share):
    info = np.finfo(dtype)
    sigma = float(info.tiny) / share if side == "tiny" else float(info.max) / 1e4 * share
    low, high = config_of(np.zeros(100, dtype), sigma).sigma_limits
    assert float(info.tiny) <= low <= high
    assert high * math.sqrt(100) < float(info.max)


def test_cumulative_adaptation_needs_a_rule_without_momentum():
    rule = CumulativeAdaptation()
    for optimizer in ("sgd", SGD(), ClipUp(momentum=0)):
        assert config_of([1.0], 0.1, optimizer=optimizer, sigma_rule=rule).sigma_rule is rule
    for optimizer in ("clipup", "adam", SGD(momentum=0.5)):
        with pytest.raises(ArgumentValueError, match="^optimizer: expected SGD"):
            config_of([1.0], 0.1, optimizer=optimizer, sigma_rule=rule)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_directions": 4}, {"top_k": 2}, {"selection": "difference"}, {"learning_rate": 0.1},
        {"sigma_rule": lambda g: 1.0}, {"options": Options(acceptance=1.0)},
        {"options": Options(learning_rate_schedule=lambda g: 1.0)},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_the_automatic_rule_decides_cannot_be_given(changes):
    with pytest.raises(ArgumentValueError, match="optimizer='auto'"):
        config_of(np.zeros(3), 0.1, optimizer="auto", **changes)


def test_a_generation_can_have_as_many_usable_pairs_as_are_asked_for():
    config_of(np.zeros(3), 0.1, num_directions=4, options=Options(min_valid=4))
    with pytest.raises(ArgumentValueError, match=r"^min_valid: expected an int .*4.*got 5"):
        config_of(np.zeros(3), 0.1, num_directions=4, options=Options(min_valid=5))
    with pytest.raises(ArgumentValueError, match=r"^min_valid: .* optimizer='auto'.*got 2"):
        config_of(np.zeros(3), 0.1, optimizer="auto", options=Options(min_valid=2))


def test_the_seed_becomes_entropy_and_equal_seeds_equal_runs():
    assert config_of([0.0], 1, seed=3).entropy == config_of([0.0], 1, seed=np.int64(3)).entropy
    assert config_of([0.0], 1, seed=None).entropy != config_of([0.0], 1, seed=None).entropy
