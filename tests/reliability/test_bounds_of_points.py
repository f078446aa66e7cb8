"""R8: every asked point lies inside the bounds, exactly, and pairs stay matched."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import Bounds

from bgs_opt import BGS, Options
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from tests.helpers import sphere

INF, HUGE = math.inf, 1.7e308
DIM = 5
MIDDLE = np.array([0.1, -0.2, 0.3, 0.0, 0.45])
TIGHT = np.array([0.1, 0.2, 0.3, 0.4, 0.5])

# name: start, bounds, low and high by coordinate
BOXES = {
    "inside": (MIDDLE, (-1, 1), -1, 1),
    "far-inside": (MIDDLE, (-1e6, 1e6), -1e6, 1e6),
    "on-the-low-wall": (np.full(DIM, -0.5), (-0.5, 1), -0.5, 1),
    "on-the-high-wall": (np.full(DIM, 1.0), (-0.5, 1), -0.5, 1),
    "in-a-corner": (np.array([-1, 1, -1, 1, 0.0]), (-1, 1), -1, 1),
    "narrow": (MIDDLE, (MIDDLE - 1e-9, MIDDLE + 2e-9), MIDDLE - 1e-9, MIDDLE + 2e-9),
    "shut": (TIGHT, (TIGHT, TIGHT), TIGHT, TIGHT),
    "partly-shut": (TIGHT, ([0.1, 0, 0.3, 0, 0.5], TIGHT), [0.1, 0, 0.3, 0, 0.5], TIGHT),
    "low-only": (MIDDLE, (-0.5, INF), -0.5, INF),
    "high-only": (MIDDLE, (-INF, 0.5), -INF, 0.5),
    "mixed": (MIDDLE, ([-INF, -1, 0, -INF, 0.4], [0.2, INF, 0.5, INF, 0.6]),
              [-INF, -1, 0, -INF, 0.4], [0.2, INF, 0.5, INF, 0.6]),
    "open": (MIDDLE, (-INF, INF), -INF, INF),
    "largest-numbers": (MIDDLE, ([-HUGE, -0.3, -HUGE, -0.3, 0], [0.2, HUGE, HUGE, 1, 1]),
                        [-HUGE, -0.3, -HUGE, -0.3, 0], [0.2, HUGE, HUGE, 1, 1]),
    "scalar-and-vector": (MIDDLE, (-0.5, TIGHT), -0.5, TIGHT),
    "scipy-scalar": (MIDDLE, Bounds(-0.5, 0.75), -0.5, 0.75),
    "scipy-vector": (MIDDLE, Bounds(MIDDLE - 0.1, np.full(DIM, INF)), MIDDLE - 0.1, INF),
}  # fmt: skip
each_box = pytest.mark.parametrize("box", BOXES)
each_mode = pytest.mark.parametrize("mode", ["reflect", "clip"])
RULES = {"clipup": {}, "auto": {"optimizer": "auto"}}


def sides(box, dtype=np.float64):
    """Start and both sides as vectors of the dtype that the run has."""
    start, _, low, high = BOXES[box]
    with np.errstate(over="ignore"):
        low, high = (
            np.broadcast_to(np.asarray(s, np.float64), DIM).astype(dtype) for s in (low, high)
        )
    return np.clip(start.astype(dtype), low, high), low, high


def make(box, mode, *, bounds=True, dtype=np.float64, sigma=0.7, **settings):
    given = {"options": Options(bound_mode=mode, noisy=False), "seed": 4, **settings}
    bounds = BOXES[box][1] if bounds else None
    return BGS(sides(box, dtype)[0], sigma, bounds=bounds, **given)


def beam(x: float, low: float, high: float) -> Fraction:
    """Follow the beam from wall to wall, in exact fractions."""
    if low == high:
        return Fraction(low)
    at = Fraction(x)
    while (low > -INF and at < Fraction(low)) or (high < INF and at > Fraction(high)):
        at = 2 * Fraction(low if low > -INF and at < Fraction(low) else high) - at
    return at


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_mode
@each_box
def test_every_asked_point_and_every_center_lies_inside(box, mode, dtype, rule):
    _, low, high = sides(box, dtype)
    opt = make(box, mode, dtype=dtype, **RULES[rule])
    for _ in range(12):
        candidates = opt.ask()
        x = candidates.x
        assert x.dtype == dtype
        assert ((x >= low) & (x <= high)).all()
        opt.tell(candidates, [sphere(v - 2) for v in x])  # downhill is through a wall
        assert ((opt.center >= low) & (opt.center <= high)).all()
        assert ((opt.best.x >= low) & (opt.best.x <= high)).all()


@each_box
def test_reflected_points_are_those_of_a_beam_between_mirrors(box):
    _, low, high = sides(box)
    widths = np.array([b - a for a, b in zip(low.tolist(), high.tolist(), strict=True) if b > a])
    sigma = 0.7 if box == "shut" else min(0.7, 4 * float(widths.min()))  # some 10 walls on the way
    free, bound = (make(box, "reflect", bounds=b, sigma=sigma) for b in (False, True))
    sent, come = free.ask(20).x, bound.ask(20).x
    for place in np.ndindex(sent.shape):
        wall = low[place[1]], high[place[1]]
        expected = float(beam(sent[place], *wall))
        near = max([abs(sent[place]), *(abs(w) for w in wall if abs(w) < 1e300)])
        assert abs(come[place] - expected) <= 4 * np.spacing(near)


@each_box
def test_clipped_points_are_the_nearest_ones(box):
    _, low, high = sides(box)
    free, bound = make(box, "clip", bounds=False), make(box, "clip")
    np.testing.assert_array_equal(bound.ask(20).x, np.clip(free.ask(20).x, low, high))


@each_mode
@each_box
def test_pairs_stay_matched_with_their_directions_and_not_with_the_points(box, mode):
    """The step comes from the values and the directions drawn, then is kept inside."""
    _, low, high = sides(box)
    free, bound = make(box, mode, bounds=False), make(box, mode)
    values = np.random.default_rng(0).normal(size=len(free.ask()))
    order = np.random.default_rng(1).permutation(len(values))
    bound.ask()
    free.tell(free.pending, values)
    bound.tell(bound.pending[order], values[order])
    np.testing.assert_array_equal(bound.center, np.clip(free.center, low, high))


@each_mode
@each_box
def test_points_are_the_same_one_by_one_in_blocks_and_in_any_order(box, mode):
    opt = make(box, mode)
    candidates = opt.ask()
    expected, order = candidates.x, np.random.default_rng(2).permutation(len(candidates))
    np.testing.assert_array_equal(candidates[order].x, expected[order])
    np.testing.assert_array_equal(np.array([candidates[i] for i in range(len(order))]), expected)
    streamed = np.concatenate([x.copy() for _, x in candidates.blocks(3)])
    np.testing.assert_array_equal(streamed, expected)


@each_mode
def test_a_point_inside_is_not_touched(mode):
    free, bound = make("far-inside", mode, bounds=False), make("far-inside", mode)
    np.testing.assert_array_equal(bound.ask().x, free.ask().x)


@each_mode
def test_a_shut_box_asks_its_one_point_and_stays_there(mode):
    opt = make("shut", mode)
    for _ in range(5):
        candidates = opt.ask()
        np.testing.assert_array_equal(candidates.x, np.tile(TIGHT, (len(candidates), 1)))
        opt.tell(candidates, [sphere(x) for x in candidates])
    np.testing.assert_array_equal(opt.center, TIGHT)


@each_mode
@pytest.mark.parametrize("sampler", ["qr", "hadamard", "gaussian", "rademacher"])
def test_a_sigma_far_wider_than_the_box_is_folded_into_it(sampler, mode):
    for sigma in (1e3, 1e9, 1e30):  # signs of structured rows may be 0 here and there
        x = make("inside", mode, sampler=sampler, sigma=sigma).ask(40).x
        assert ((x >= -1) & (x <= 1)).all()
        if mode == "clip":
            assert np.mean(np.abs(x) == 1) > 0.7


@each_mode
def test_reflecting_spreads_points_and_clipping_piles_them_up(mode):
    x = make("inside", mode, sigma=50.0).ask(200).x
    on_the_wall = np.mean(np.abs(x) == 1)
    assert on_the_wall > 0.9 if mode == "clip" else on_the_wall == 0
    if mode == "reflect":
        counts, _ = np.histogram(x, bins=4, range=(-1, 1))
        assert counts.min() > 0.15 * x.size


@pytest.mark.parametrize(
    "bounds",
    [
        (1, -1), ([0, 0, 0, 0, 1], [1, 1, 1, 1, 0.5]), Bounds(1, -1), (math.nan, 1),
        (-1, math.nan), ([-1, -1, math.nan, -1, -1], 1), Bounds(-1, [1, 1, 1, 1, math.nan]),
        (INF, INF), (-INF, -INF),
    ],
    ids=["swapped", "one-swapped", "scipy-swapped", "nan-low", "nan-high", "one-nan", "scipy-nan",
         "low-infinite", "high-infinite"],
)  # fmt: skip
def test_bounds_without_a_point_between_them_are_refused_at_once(bounds):
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match="^bounds: expected"):
        BGS(np.full(DIM, 0.25), 0.1, bounds=bounds)


@each_mode
def test_a_minimum_in_a_corner_is_found(mode):
    opt = BGS(np.full(4, 2.5), 0.2, bounds=(0.6, 3), budget=2000, seed=1,
              options=Options(bound_mode=mode))  # fmt: skip
    while not opt.stop():
        candidates = opt.ask()
        opt.tell(candidates, [sphere(x) for x in candidates])
    assert opt.best.value < 0.4 < sphere(np.full(4, 2.5)) == 16
    assert (opt.center >= 0.6).all()
