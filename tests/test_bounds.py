"""Clip and reflect against a mirror that is followed beam by beam in exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from bgs_opt.bounds import clip, reflect
from tests.conformance import NAMESPACES

INF = float("inf")
BOXES = {
    "unit": (0.0, 1.0),
    "shifted": (-3.5, -1.25),
    "odd": (0.1, 0.7),
    "wide": (-1e8, 1e8),
    "narrow": (1.0, 1.0 + 2.0**-40),
    "shut": (2.5, 2.5),
    "left": (0.3, INF),
    "right": (-INF, 0.3),
    "open": (-INF, INF),
}


def beam(x: float, low: float, high: float) -> Fraction:
    """Follow the beam from wall to wall, exactly."""
    if low == high:
        return Fraction(low)
    at = Fraction(x)
    while True:
        if low > -INF and at < Fraction(low):
            at = 2 * Fraction(low) - at
        elif high < INF and at > Fraction(high):
            at = 2 * Fraction(high) - at
        else:
            return at


def points(low, high, count=60):
    """Inside, on the walls, just and far outside."""
    ends = [v for v in (low, high) if abs(v) < INF] or [0.0]
    width = high - low if 0 < high - low < INF else 1.0
    spread = np.random.default_rng(count).normal(size=count) * width * 4 + ends[0]
    edges = [np.nextafter(v, to) for v in ends for to in (-INF, INF, v)]
    whole = [v + k * width for v in ends for k in (-2, -1, 0, 1, 2, 3)]
    return np.array([*spread, *edges, *whole])


@pytest.mark.parametrize("box", BOXES)
def test_reflecting_is_the_path_of_a_beam_between_two_mirrors(box):
    low, high = BOXES[box]
    x = points(low, high)
    ours = reflect(x, np.full(len(x), low), np.full(len(x), high))
    expected = np.array([float(beam(v, low, high)) for v in x.tolist()])
    walls = max([abs(v) for v in (low, high) if abs(v) < INF], default=0.0)
    scale = np.maximum(np.maximum(np.abs(x), np.abs(expected)), walls)
    assert (np.abs(ours - expected) <= 4 * np.spacing(scale)).all()


@pytest.mark.parametrize("fold", [clip, reflect])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("box", BOXES)
def test_every_point_comes_to_lie_inside_and_inner_points_keep_their_bits(box, dtype, fold):
    low, high = (np.full(1, v, dtype) for v in BOXES[box])
    x = points(float(low[0]), float(high[0])).astype(dtype)[:, None]
    out = fold(x, low, high)
    assert out.dtype == dtype
    assert out.shape == x.shape
    assert ((out >= low) & (out <= high)).all()
    inside = (x >= low) & (x <= high)
    np.testing.assert_array_equal(out[inside], x[inside])


@pytest.mark.parametrize("box", BOXES)
def test_clipping_is_the_nearest_point_of_the_box(box):
    low, high = BOXES[box]
    x = points(low, high)
    expected = [min(max(v, low), high) for v in x.tolist()]
    np.testing.assert_array_equal(clip(x, np.full(1, low), np.full(1, high)), expected)


def test_coordinates_have_bounds_of_their_own_and_rows_do_not_meet():
    low, high = (np.array(side) for side in zip(*BOXES.values(), strict=True))
    x = np.random.default_rng(0).normal(size=(20, len(BOXES))) * 3
    together = reflect(x, low, high)
    for row, column in np.ndindex(x.shape):
        alone = reflect(
            x[row, column : column + 1], low[column : column + 1], high[column : column + 1]
        )
        assert together[row, column] == alone[0]


def test_a_reflected_line_keeps_its_measure():
    """Evenly spread far outside stays evenly spread inside: no coordinate piles up at a wall."""
    x = np.linspace(-500, 501, 100_000)
    counts, _ = np.histogram(reflect(x, np.zeros(1), np.ones(1)), bins=10, range=(0, 1))
    assert counts.min() > 9_900


@pytest.mark.parametrize("fold", [clip, reflect])
def test_the_input_is_left_alone(fold):
    x = np.array([-2.0, 0.5, 7.0])
    x.flags.writeable = False
    fold(x, np.zeros(3), np.ones(3))
    np.testing.assert_array_equal(x, [-2.0, 0.5, 7.0])


@pytest.mark.parametrize("fold", [clip, reflect])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_boxes_up_to_the_ends_of_the_range_are_kept(fold, dtype):
    """The largest number stands for "no bound" in many programs."""
    info = np.finfo(dtype)
    sizes = np.array([info.tiny, 1e-30, 1e30, info.max / 4, info.max, info.max, 1], dtype)
    low, high = -sizes, sizes.copy()
    high[5] = 0.5
    for factor in (0.0, 0.3, -0.9, 1.0, -1.0):
        x = np.full(7, factor * info.max, dtype)
        out = fold(x, low, high)
        assert ((out >= low) & (out <= high)).all()


@pytest.mark.parametrize("fold", [clip, reflect])
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_other_namespaces_give_the_bits_of_numpy(namespace, fold):
    xp = NAMESPACES[namespace]
    low, high = (np.array(side) for side in zip(*BOXES.values(), strict=True))
    x = np.random.default_rng(1).normal(size=(20, len(BOXES))) * 3
    other = fold(xp.asarray(x), xp.asarray(low), xp.asarray(high))
    np.testing.assert_array_equal(np.asarray(other), fold(x, low, high))
