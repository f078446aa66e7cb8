"""Tests of BGS.inject: points that were evaluated elsewhere."""

import pickle

import numpy as np
import pytest

from bgs_opt import BGS, Options
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from tests.helpers import fingerprint

RULES = ["auto", "clipup", "adam", "sgd"]


def sphere(points):
    return (np.atleast_2d(points) ** 2).sum(axis=1)


def made(optimizer="clipup", **arguments):
    given = {"seed": 1, "optimizer": optimizer, **arguments}
    return BGS(np.full(5, 2.0), 0.5, **given)


def generations(opt, count):
    for _ in range(count):
        candidates = opt.ask()
        opt.tell(candidates, sphere(candidates.x))


@pytest.mark.parametrize("optimizer", RULES)
def test_before_anything_was_asked_the_center_goes_to_it_at_once(optimizer):
    opt = made(optimizer)
    point = np.arange(5.0)
    assert opt.inject(point, 30.0)
    np.testing.assert_array_equal(opt.center, point)
    np.testing.assert_array_equal(opt.best.x, point)
    assert opt.best.value == 30.0
    candidates = opt.ask()
    np.testing.assert_allclose(candidates.x.mean(axis=0), point, atol=1e-12)


@pytest.mark.parametrize("optimizer", RULES)
def test_the_run_that_started_there_has_the_same_points(optimizer):
    """Moved before the first ask, it is the run with that start."""
    moved, other = made(optimizer), BGS(np.arange(5.0), 0.5, seed=1, optimizer=optimizer)
    moved.inject(np.arange(5.0), 1e9)
    for _ in range(3):
        left, right = moved.ask(), other.ask()
        np.testing.assert_array_equal(left.x, right.x)
        moved.tell(left, sphere(left.x))
        other.tell(right, sphere(right.x))


@pytest.mark.parametrize("optimizer", RULES)
@pytest.mark.parametrize("told", [0, 2])
def test_in_a_generation_the_center_waits_for_its_end(optimizer, told):
    opt = made(optimizer)
    generations(opt, 3)
    candidates = opt.ask()
    opt.tell(candidates[:told], sphere(candidates[:told].x))
    center, point = opt.center, np.full(5, 0.01)
    assert opt.inject(point, 5e-4)
    np.testing.assert_array_equal(opt.center, center)
    np.testing.assert_array_equal(opt.best.x, point)
    opt.tell(candidates[told:], sphere(candidates[told:].x))
    np.testing.assert_array_equal(opt.center, point)
    generations(opt, 1)
    assert not np.array_equal(opt.center, point)


def test_a_better_point_that_was_asked_for_keeps_the_center_where_the_step_takes_it():
    opt, other = made(), made()
    candidates = opt.ask()
    assert opt.inject(np.zeros(5), -1.0)
    values = -sphere(candidates.x) - 10.0
    opt.tell(candidates, values)
    other.tell(other.ask(), values)
    np.testing.assert_array_equal(opt.center, other.center)
    assert opt.best.value == values.min()


@pytest.mark.parametrize("value", [21.0, 1e9, np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_the_best_changes_nothing(value):
    opt = made()
    opt.inject(np.ones(5), 20.0)
    before = fingerprint(opt)
    assert opt.inject(np.zeros(5), value) is False
    assert fingerprint(opt) == before


def test_maximize_turns_better_round():
    opt = made(maximize=True)
    assert opt.inject(np.ones(5), 1.0)
    assert not opt.inject(np.zeros(5), 0.0)
    assert opt.inject(np.zeros(5), 2.0)
    assert opt.best.value == 2.0


def test_it_is_no_evaluation_of_this_run():
    opt = made(budget=100)
    for value in (3.0, 2.0, 1.0):
        opt.inject(np.ones(5), value)
    assert opt.num_evaluations == 0


@pytest.mark.parametrize("optimizer", RULES)
@pytest.mark.parametrize("keep", ["save", "pickle"])
def test_a_jump_that_waits_survives_a_checkpoint(optimizer, keep, tmp_path):
    opt = made(optimizer)
    generations(opt, 2)
    candidates = opt.ask()
    opt.inject(np.zeros(5), -1.0)
    if keep == "save":
        opt.save(tmp_path / "run.npz")
        other = BGS.load(tmp_path / "run.npz")
    else:
        other = pickle.loads(pickle.dumps(opt))
    for run in (opt, other):
        run.tell(candidates.ids, sphere(candidates.x))
        np.testing.assert_array_equal(run.center, np.zeros(5))
        generations(run, 2)
    assert fingerprint(opt) == fingerprint(other)


@pytest.mark.parametrize("noisy", [False, True])
def test_the_automatic_rule_goes_on_from_any_of_its_kinds_of_generation(noisy):
    """A better point in every generation, of surveys, full gradients, line searches, drifts."""
    opt = BGS(np.full(4, 50.0), 1.0, seed=3, optimizer="auto", budget=4000,
              options=Options(noisy=noisy))  # fmt: skip
    for round_ in range(60):
        candidates = opt.ask()
        point = np.full(4, 40.0 - 0.5 * round_)
        injected = opt.inject(point, float(sphere(point)[0]) - 1e4)
        opt.tell(candidates, sphere(candidates.x))
        assert injected
        np.testing.assert_array_equal(opt.center, point)
    generations(opt, 60)
    assert np.abs(opt.center).max() < 1.0


def test_the_point_is_copied_and_cast():
    opt = BGS(np.zeros(3, np.float32), 0.1)
    point = np.ones(3)
    opt.inject(point, 1.0)
    point[:] = 7
    assert opt.best.x.dtype == np.float32
    np.testing.assert_array_equal(opt.best.x, np.ones(3, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        opt.best.x[0] = 2


@pytest.mark.parametrize(
    ("x", "value", "error", "text"),
    [
        (np.zeros(4), 1.0, ArgumentValueError, r"x: expected shape \(5,\)"),
        (np.array([0, 0, np.nan, 0, 0]), 1.0, ArgumentValueError, "x: expected finite.*nan at"),
        (np.full(5, 1e300), 1.0, ArgumentValueError, "x: expected a point inside the bounds"),
        ("abc", 1.0, ArgumentTypeError, "x: expected"),
        (np.zeros(5), "1", ArgumentTypeError, "values: expected"),
        (np.zeros(5), [1.0, 2.0], ArgumentValueError, "values: expected"),
    ],
)
def test_a_bad_point_is_refused_and_nothing_changes(x, value, error, text):
    opt = made(bounds=(-3, 3))
    before = fingerprint(opt)
    with pytest.raises(error, match=text):
        opt.inject(x, value)
    assert fingerprint(opt) == before
