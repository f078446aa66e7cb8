import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, minimize, rosen

import bgs_opt
from bgs_opt.adapters.scipy import bgs


def sphere(x, center=0.0):
    return float(np.sum((x - center) ** 2))


def test_it_finds_what_bfgs_finds_on_rosenbrock():
    ours = minimize(rosen, np.full(5, -0.5), method=bgs, options={"rng": 1, "maxfev": 4000})
    theirs = minimize(rosen, np.full(5, -0.5), method="BFGS")
    assert ours.fun < 1e-8
    np.testing.assert_allclose(ours.x, theirs.x, atol=1e-3)


def test_the_result_has_the_fields_of_scipys_own_methods():
    ours = minimize(sphere, [1.0, 2.0], method=bgs, options={"rng": 0})
    theirs = minimize(sphere, [1.0, 2.0], method="Nelder-Mead")
    assert isinstance(ours, OptimizeResult)
    for name in ("x", "fun", "success", "status", "message", "nfev", "nit"):
        assert type(ours[name]) in (type(theirs[name]), int, float)
    assert ours.success


def test_it_is_the_same_run_as_bgs_opts_own_minimize():
    ours = minimize(sphere, [1.0, 2.0], args=(0.5,), method=bgs, options={"rng": 3})
    direct = bgs_opt.minimize(sphere, [1.0, 2.0], args=(0.5,), seed=3)
    np.testing.assert_array_equal(ours.x, direct.x)
    assert ours.nfev == direct.nfev


@pytest.mark.parametrize(
    "bounds",
    [[(0.5, 2), (None, 3)], Bounds([0.5, -np.inf], [2, 3]), ((0.5, 2.0), (-np.inf, 3.0))],
)
def test_every_form_of_scipys_bounds_is_kept(bounds):
    seen = []

    def record(x):
        seen.append(x)
        return sphere(x, -1.0)

    result = minimize(record, [1.0, 1.0], method=bgs, bounds=bounds, options={"rng": 0})
    points = np.array(seen)
    assert points[:, 0].min() >= 0.5
    assert points[:, 0].max() <= 2
    assert points[:, 1].max() <= 3
    np.testing.assert_allclose(result.x, [0.5, -1.0], atol=1e-3)


def test_a_callback_may_end_the_run_by_stop_iteration():
    values = []

    def callback(intermediate_result):
        values.append(intermediate_result.fun)
        if len(values) == 3:
            raise StopIteration

    result = minimize(sphere, np.ones(4), method=bgs, callback=callback, options={"rng": 0})
    assert len(values) == 3
    assert not result.success
    assert result.status == 99


def test_a_callback_of_xk_gets_the_point():
    points = []
    options = {"rng": 0, "maxiter": 4}
    minimize(sphere, np.ones(4), method=bgs, callback=points.append, options=options)
    assert {point.shape for point in points} == {(4,)}


def test_tol_ends_a_run_that_has_converged():
    result = minimize(rosen, np.zeros(3), method=bgs, tol=1e-4, options={"rng": 0})
    assert result.status == bgs_opt.driver.MESSAGES["tol"][0]
    np.testing.assert_allclose(result.x, 1.0, atol=1e-2)


def test_disp_prints_how_it_ended(capsys):
    minimize(sphere, [1.0], method=bgs, options={"rng": 0, "disp": True, "maxfev": 50})
    assert "Function evaluations: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jac", lambda x: 2 * x),
        ("hess", lambda x: np.eye(2)),
        ("hessp", lambda x, p: p),
        ("constraints", [{"type": "eq", "fun": sphere}]),
        ("constraints", LinearConstraint(np.eye(2), 0, 1)),
    ],
)
def test_what_it_cannot_use_is_refused_by_name(name, value):
    with warnings.catch_warnings(), pytest.raises(ValueError, match=name):
        minimize(sphere, [1.0, 2.0], method=bgs, **{name: value})


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"popsize": 3}, TypeError, "popsize.*expected one of .*budget.*sigma"),
        ({"maxfev": 10, "budget": 10}, ValueError, "budget.*maxfev"),
        ({"rng": 1, "seed": 1}, ValueError, "seed.*rng"),
        ({"workers": map}, TypeError, "workers.*Executor"),
        ({"workers": 0}, ValueError, "workers"),
        ({"sigma": -1.0}, ValueError, "sigma"),
        ({"maxfev": 0}, ValueError, "budget"),
        ({"disp": 3}, TypeError, "disp"),
    ],
)
def test_options_that_do_not_exist_or_fit_are_refused_by_name(options, error, text):
    with pytest.raises(error, match=text):
        minimize(sphere, [1.0, 2.0], method=bgs, options=options)


@pytest.mark.parametrize("bounds", [[(0, 1)], [(0, 1, 2), (0, 1)], 3])
def test_bounds_of_another_form_are_refused(bounds):
    with pytest.raises((ValueError, TypeError), match="bounds"):
        minimize(sphere, [0.5, 0.5], method=bgs, bounds=bounds)


def test_pairs_are_bounds_in_two_dimensions_too():
    result = minimize(sphere, [0.5, 2.5], method=bgs, bounds=[(0.5, 1), (2, 3)])
    np.testing.assert_allclose(result.x, [0.5, 2], atol=1e-6)
    fixed = minimize(sphere, [1, 1], method=bgs, bounds=[(1, 1), (1, 1)], options={"maxfev": 9})
    np.testing.assert_array_equal(fixed.x, [1, 1])


def test_what_scipy_has_itself_is_not_said_to_be_an_option():
    with pytest.raises(TypeError) as caught:
        minimize(sphere, [1.0, 2.0], method=bgs, options={"popsize": 3})
    named = str(caught.value).partition("one of ")[2].partition(";")[0].split(", ")
    for name in named:
        options = {name: object()}
        with pytest.raises((TypeError, ValueError)) as caught:
            minimize(sphere, [1.0, 2.0], method=bgs, options=options)
        assert "multiple values" not in str(caught.value)


def test_an_executor_serves_as_workers():
    with ThreadPoolExecutor(2) as pool:
        options = {"rng": 5, "workers": pool, "maxfev": 300}
        threads = minimize(sphere, np.ones(3), method=bgs, options=options)
    serial = minimize(sphere, np.ones(3), method=bgs, options={"rng": 5, "maxfev": 300})
    np.testing.assert_array_equal(threads.x, serial.x)


def test_minus_one_is_one_process_a_cpu():
    options = {"rng": 5, "workers": -1, "maxfev": 60}
    parallel = minimize(rosen, np.zeros(3), method=bgs, options=options)
    serial = minimize(rosen, np.zeros(3), method=bgs, options={"rng": 5, "maxfev": 60})
    np.testing.assert_array_equal(parallel.x, serial.x)
