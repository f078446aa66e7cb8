"""minimize(): arguments, limits, callbacks, what it returns, and the same bits by every route."""

import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import types
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from scipy.optimize import Bounds, OptimizeResult
from scipy.optimize import minimize as scipy_minimize

from bgs_opt import BGS, SGD, CumulativeAdaptation, Options, minimize
from bgs_opt.driver import MESSAGES
from bgs_opt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    BGSWarning,
    CheckpointError,
    NonFiniteValueError,
    NonFiniteValueWarning,
)
from bgs_opt.evaluation import Objective
from bgs_opt.interrupts import Interrupts
from bgs_opt.processes import WorkerStartError
from bgs_opt.raised import Raised
from tests import objectives
from tests.helpers import ROOT, python
from tests.objectives import noisy, noisy_rows, rows, shifted, sphere, unevenly

X0 = np.linspace(-1, 1, 4)


def forbidden(x):
    raise AssertionError("nothing may be evaluated")


def bits(result) -> dict[str, object]:
    """All that two runs must agree in."""
    names = ("fun", "nfev", "nit", "nlost", "noisy", "sigma", "status", "success")
    numbers = {name: np.array(result[name], object).item() for name in names}
    numbers["error"] = result.get("fun_error")
    table = {name: column.tobytes() for name, column in result.history.items()}
    points = [a.tobytes() for a in (result.x, result.center, result.best.x)]
    return {**numbers, "history": table, "points": points, "best": result.best.value}


class Counted:
    """A function that remembers the points it was called with."""

    def __init__(self, fun=sphere):
        self.fun, self.points = fun, []

    def __call__(self, x, **more):
        self.points += list(np.atleast_2d(np.array(x)))
        return self.fun(x, **more)


@pytest.fixture(autouse=True, scope="module")
def bare_main():
    """Worker processes import the main module anew, which here is all of pytest."""
    kept, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    yield
    sys.modules["__main__"] = kept


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(3) as executor:
        yield executor


# ---- arguments


WRONG = [
    ({"fun": None}, TypeError, "fun: expected a callable; got None"),
    ({"args": [1]}, TypeError, "args: expected a tuple"),
    ({"x0": None}, ValueError, "x0: expected a start, or finite bounds"),
    ({"x0": None, "budget": 9}, ValueError, "x0: expected a start, or finite bounds"),
    ({"x0": None, "bounds": (0, np.inf)}, ValueError, "x0: .* bounds are not finite"),
    ({"x0": None, "bounds": (1, 0)}, ValueError, "bounds: expected low <= high"),
    ({"x0": None, "bounds": (0, np.nan)}, ValueError, "bounds: .*NaN"),
    ({"x0": None, "bounds": 3}, TypeError, "bounds: expected .*low, high"),
    ({"x0": None, "bounds": ("a", "b")}, TypeError, "bounds: expected .*low, high"),
    ({"x0": None, "bounds": ([0, 0], [1, 1, 1])}, TypeError, "bounds: expected .*low, high"),
    ({"x0": [np.nan, 1]}, ValueError, "x0: expected finite"),
    ({"x0": [[1.0]]}, ValueError, "x0: expected a 1-D"),
    ({"x0": [3.0], "bounds": (0, 1)}, ValueError, "x0: expected a point inside"),
    ({"sigma": 0}, ValueError, "sigma"),
    ({"sigma": "big"}, TypeError, "sigma"),
    ({"budget": 0}, ValueError, "budget: expected an int >= 1"),
    ({"budget": 1e3}, TypeError, "budget: expected an int >= 1"),
    ({"budget": "1000"}, TypeError, "budget: expected an int >= 1"),
    ({"workers": 0}, ValueError, "workers"),
    ({"workers": True}, TypeError, "workers"),
    ({"workers": map}, TypeError, "workers"),
    ({"workers": 2, "vectorized": True}, ValueError, "workers: expected 1 with vectorized"),
    ({"timeout": 1, "vectorized": True}, ValueError, "timeout: expected None with vectorized"),
    ({"vectorized": 1}, TypeError, "vectorized"),
    ({"noisy": "yes"}, TypeError, "noisy"),
    ({"callback": 3}, TypeError, "callback"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": "a"}, TypeError, "seed"),
    ({"checkpoint": 3}, TypeError, "checkpoint: expected a path"),
    ({"checkpoint": "no/such/folder/run.npz"}, ValueError, "checkpoint: .*folder that exists"),
    ({"resume": True}, ValueError, "checkpoint: expected the path"),
    ({"resume": 1}, TypeError, "resume"),
    ({"checkpoint_seconds": -1}, ValueError, "checkpoint_seconds"),
    ({"progress": 1}, TypeError, "progress"),
    ({"timeout": 0}, ValueError, "timeout"),
    ({"timeout": "1 s"}, TypeError, "timeout"),
    ({"retries": -1}, ValueError, "retries"),
    ({"retries": 0.5}, TypeError, "retries"),
    ({"max_time": 0}, ValueError, "max_time"),
    ({"max_time": np.inf}, ValueError, "max_time"),
    ({"maxiter": 0}, ValueError, "maxiter"),
    ({"target": np.nan}, ValueError, "target"),
    ({"tol": 0}, ValueError, "tol"),
    ({"pass_seed": 0}, TypeError, "pass_seed"),
    ({"asynchronous": 0}, TypeError, "asynchronous"),
    ({"options": {}}, TypeError, "options: expected a bgs_opt.Options"),
    ({"options": None}, TypeError, "options: expected a bgs_opt.Options"),
    ({"popsize": 9}, TypeError, "popsize: expected one of .*maximize.*num_directions.*workers"),
    ({"optimizer": "lbfgs"}, ValueError, "optimizer: expected one of 'clipup', 'adam'"),
    ({"num_directions": 9}, ValueError, "num_directions: expected None with optimizer='auto'"),
    ({"sampler": 1}, TypeError, "sampler"),
]


@pytest.mark.parametrize(
    ("arguments", "error", "text"), WRONG, ids=[str(arguments) for arguments, _, _ in WRONG]
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_wrong_argument_is_refused_by_name_before_anything_happens(
    arguments, error, text, workers, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bgs_opt.processes.Worker._launch", forbidden)
    given = {"fun": forbidden, "x0": X0, "workers": workers, "checkpoint": "run.npz", **arguments}
    if "resume" in arguments:
        given["checkpoint"] = None
    if "vectorized" in arguments:
        given["workers"] = arguments.get("workers", 1)
    with pytest.raises(error, match=text) as caught:
        minimize(**given)
    assert isinstance(caught.value, (ArgumentTypeError, ArgumentValueError))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", ["processes", "timeout", "pool"])
def test_a_lambda_cannot_go_to_processes_and_the_error_says_what_can_be_done(
    workers, pool, tmp_path
):
    how = {
        "processes": {"workers": 2}, "timeout": {"timeout": 9.0}, "pool": {"workers": pool},
    }[workers]  # fmt: skip
    path = tmp_path / "run.npz"
    with pytest.raises(ArgumentTypeError, match=r"fun: .*top level of a module.*ThreadPool"):
        minimize(lambda x: sphere(x + 1), X0, checkpoint=path, **how)
    assert not path.exists()


SCRIPT = """
import numpy as np
from bgs_opt import minimize
from tests.objectives import shifted

{guard}minimize(shifted, np.ones(2), args=(np.ones({size}), 1.0), workers=2, budget=5)
"""


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 1_000_000])
def test_a_script_without_main_guard_gets_an_error_that_says_so(size, tmp_path):
    """Also where the arguments do not fit into the pipe to the process that cannot start."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(guard="", size=size))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    said = "bgs_opt.processes.WorkerStartError: a worker process could not start"
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(said)]
    assert 'the script needs `if __name__ == "__main__":`' in line


def test_a_function_of_an_interactive_session_gets_an_error_that_says_so():
    program = (
        "from bgs_opt import minimize\n"
        "def f(x): return float(x @ x)\n"
        "minimize(f, [1.0], workers=2, budget=5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "defined at the top level of a module" in last
    assert "AttributeError" in last


def test_arguments_are_passed_on_and_the_callers_arrays_stay_as_they_are():
    start = np.ones(3)
    result = minimize(shifted, start, args=(2.0, 3.0), seed=0, budget=600)
    np.testing.assert_allclose(result.x, 2.0, atol=1e-3)
    assert start.tolist() == [1, 1, 1]
    result.x[:] = 7
    assert result.best.x[0] != 7


# ---- the same bits by every route


PROBLEMS = {
    "default": {"budget": 120},
    "noisy": {"pass_seed": True, "budget": 300},
    "named optimizer": {"optimizer": "adam", "budget": 100, "num_directions": 5},
    "repeats": {
        "pass_seed": True, "optimizer": "clipup", "budget": 100, "num_directions": 3,
        "options": Options(repeats=2, center_evaluations=1, common_seeds="generation"),
    },
    "out of order": {"budget": 60},
    "float32": {"x0": np.linspace(-1, 1, 4, dtype=np.float32), "budget": 60},
}  # fmt: skip


def solved(problem: str, **how):
    given = {"x0": X0, "seed": 3, **PROBLEMS[problem], **how}
    fun = noisy if given.get("pass_seed") else unevenly if problem == "out of order" else sphere
    if how.get("vectorized"):
        fun = noisy_rows if given.get("pass_seed") else rows
    return minimize(fun, **given)


@functools.cache
def solved_once(problem: str):
    return bits(solved(problem))


IN_PROCESSES = ("default", "noisy", "out of order")  # the other ones are slow


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        pytest.param(route, problem, marks=[pytest.mark.slow] * is_slow)
        for route in ("again", "vectorized", "threads", "a pool", "two processes")
        for problem in PROBLEMS
        for is_slow in [route == "two processes" and problem not in IN_PROCESSES]
    ],
)
def test_every_route_gives_the_bits_of_the_serial_run(problem, route, threads, pool):
    how = {
        "again": {}, "vectorized": {"vectorized": True}, "threads": {"workers": threads},
        "a pool": {"workers": pool}, "two processes": {"workers": 2},
    }[route]  # fmt: skip
    assert bits(solved(problem, **how)) == solved_once(problem)


def test_another_seed_gives_another_run():
    assert bits(solved("default")) != bits(solved("default", seed=4))


def test_vectorized_takes_whole_generations():
    sizes = []

    def fun(x):
        sizes.append(len(x))
        return rows(x)

    minimize(fun, X0, vectorized=True, optimizer="sgd", num_directions=5, noisy=False, budget=25)
    assert sizes == [10, 10, 5]


@pytest.mark.parametrize(
    "values", [lambda x: 1.0, lambda x: rows(x)[:-1], lambda x: rows(x)[:, None], lambda x: None]
)
def test_a_vectorized_function_that_returns_another_shape_is_told_so(values):
    with pytest.raises(ArgumentTypeError, match=r"fun: expected 4 real numbers, shape \(4,\)"):
        minimize(values, X0, vectorized=True)


@pytest.mark.parametrize(
    ("value", "due"),
    [
        (3, 3.0), (2.5, 2.5), (np.float32(0.5), 0.5), (np.int64(4), 4.0), (np.array(1.5), 1.5),
        (np.array([1.5]), 1.5), (np.array([[2]]), 2.0), (-np.inf, -np.inf),
    ],
)  # fmt: skip
def test_a_function_may_return_any_one_real_number(value, due):
    assert Objective(lambda x: value)(X0, 0) == due


class Tensor:
    """A number of another library."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def item(self):
        if len(self.numbers) != 1:
            raise RuntimeError("a Tensor with several elements cannot be converted")
        return self.numbers[0]


def test_a_function_may_return_a_tensor_of_one_number():
    assert Objective(lambda x: Tensor(1.5))(X0, 0) == 1.5


@pytest.mark.parametrize(
    "value",
    [
        None, "1.0", True, np.True_, 1j, np.array(1j), np.array([1.0, 2.0]), np.array([]), [1.0],
        (1.0,), np.array([True]), np.array(["1"]), np.ma.masked, np.ma.array([1.0], mask=[True]),
        object(), Tensor(1.0, 2.0), np.array([None], object), np.timedelta64(5, "ns"),
        np.datetime64(5, "ns"), 10**400,
    ],
)  # fmt: skip
def test_a_function_that_returns_something_else_is_told_so(value):
    with pytest.raises(ArgumentTypeError, match="fun: expected it to return a real number; got"):
        minimize(lambda x: value, X0)


# ---- limits


@pytest.mark.untraced
@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("says", [None, True, False])
@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("budgets", [range(1, 26), range(26, 51, 3), [100, 101, 199, 200, 333]])
@pytest.mark.parametrize("optimizer", ["auto", "clipup"])
def test_the_budget_is_never_exceeded_and_the_evaluations_are_counted(
    noise, says, vectorized, budgets, optimizer
):
    """The whole budget is used, too: no evaluation is kept back for nothing."""
    plain, random = (rows, noisy_rows) if vectorized else (sphere, noisy)
    for budget in budgets:
        fun = Counted(random if noise else plain)
        result = minimize(
            fun, np.ones(10), noisy=says, vectorized=vectorized, budget=budget, seed=budget,
            pass_seed=noise, optimizer=optimizer,
        )  # fmt: skip
        assert result.nfev == len(fun.points) == budget
        assert result.status == MESSAGES["budget"][0]
        assert np.isfinite(result.fun)


@pytest.mark.parametrize("budget", [1, 3, 7, 50])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_budget_is_never_exceeded_by_threads(budget, asynchronous, threads):
    fun = Counted()
    result = minimize(
        fun, np.ones(3), workers=threads, budget=budget, seed=1, asynchronous=asynchronous
    )
    assert result.nfev == len(fun.points) == budget


def test_without_a_budget_it_is_400_evaluations_a_dimension():
    assert minimize(sphere, np.ones(2), seed=0).nfev == 800


class Clock:
    """Time that passes only when a function is evaluated."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def fun(self, x):
        self.now += 1.0
        return sphere(x)


@pytest.mark.parametrize("budget", [None, 1000])
@pytest.mark.parametrize("noisy", [None, True, False])
def test_max_time_ends_the_run(budget, noisy, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("bgs_opt.driver.time", clock)
    result = minimize(clock.fun, X0, max_time=30.5, budget=budget, noisy=noisy, seed=0)
    assert result.status == MESSAGES["max_time"][0]
    assert result.success
    assert result.nfev == 31
    assert clock.now == 31
    assert np.isfinite(result.fun)


def test_max_time_ends_evaluations_in_processes():
    result = minimize(objectives.never, X0, workers=2, max_time=1.0)
    assert result.status == MESSAGES["max_time"][0]
    assert result.nfev == 0


def test_maxiter_ends_after_so_many_generations():
    result = minimize(sphere, X0, maxiter=5, seed=0)
    assert (result.nit, result.status, result.success) == (5, MESSAGES["maxiter"][0], True)


@pytest.mark.parametrize("maximize", [False, True])
def test_target_ends_the_run_when_a_value_is_as_good(maximize):
    sign = -1.0 if maximize else 1.0
    fun = Counted(lambda x: sign * sphere(x))
    result = minimize(fun, X0, target=sign * 1e-3, maximize=maximize, seed=0)
    assert result.status == MESSAGES["target"][0]
    assert sign * result.fun <= 1e-3
    assert result.nfev == len(fun.points) < 1600
    assert minimize(fun, X0, target=sign * 5.0, maximize=maximize, seed=0).nfev < 10


def test_tol_ends_the_run_when_it_has_converged():
    result = minimize(
        sphere, X0, tol=1e-3, seed=0, noisy=False, optimizer=SGD(momentum=0.0),
        sigma_rule=CumulativeAdaptation(), budget=100_000,
    )  # fmt: skip
    assert result.status == MESSAGES["tol"][0]
    assert result.sigma < 1e-3
    np.testing.assert_allclose(result.x, 0.5, atol=0.02)


def test_a_function_without_finite_values_ends_stalled():
    with pytest.warns(BGSWarning):
        result = minimize(lambda x: np.nan, X0, seed=0, optimizer="clipup", noisy=False)
    assert (result.status, result.success) == (MESSAGES["stalled"][0], False)
    assert np.isnan(result.fun)


def test_a_sigma_that_no_longer_moves_the_center_ends_the_run():
    result = minimize(
        sphere, np.full(2, 1e12), sigma=1e-20, optimizer="sgd", options=Options(min_sigma=1e-30),
        seed=0,
    )  # fmt: skip
    assert result.status == MESSAGES["sigma"][0]


# ---- callbacks and progress


def test_a_callback_with_intermediate_result_gets_an_optimize_result_after_each_update():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result)

    result = minimize(sphere, X0, callback=callback, seed=0, budget=200)
    assert [r.nit for r in seen] == list(range(1, result.nit + 1))
    assert all(isinstance(r, OptimizeResult) for r in seen)
    assert [r.nfev for r in seen] == sorted({r.nfev for r in seen})
    assert seen[-1].fun == seen[-1].best.value == result.best.value


def test_any_other_callback_gets_the_point_and_may_write_into_it():
    seen = []

    def callback(xk):
        seen.append(xk.copy())
        xk[:] = np.nan

    disturbed = minimize(sphere, X0, callback=callback, seed=0, budget=100)
    assert bits(disturbed) == bits(minimize(sphere, X0, seed=0, budget=100))
    assert len(seen) == disturbed.nit
    assert seen[-1].tobytes() == disturbed.x.tobytes()


def stop(xk):
    raise StopIteration


@pytest.mark.parametrize("callback", [stop, lambda xk: True, min])  # min has no signature
def test_a_callback_ends_the_run_by_stop_iteration_or_a_true_value(callback):
    result = minimize(sphere, X0, callback=callback, seed=0)
    assert (result.nit, result.success) == (1, False)
    assert result.status == MESSAGES["callback"][0] == 99


def test_the_same_callback_serves_scipys_minimize_and_ends_it_alike():
    calls = []

    def callback(intermediate_result):
        calls.append(intermediate_result.x.shape)
        if len(calls) % 3 == 0:
            raise StopIteration

    ours = minimize(sphere, X0, callback=callback, seed=0)
    theirs = scipy_minimize(sphere, X0, method="Nelder-Mead", callback=callback)
    assert calls == [X0.shape] * 6
    assert (ours.success, ours.status) == (theirs.success, theirs.status) == (False, 99)


@pytest.mark.parametrize("workers", [1, "threads"])
def test_an_error_of_the_callback_is_raised_and_the_run_is_kept(workers, threads, tmp_path):
    path = tmp_path / "run.npz"

    def callback(intermediate_result):
        if intermediate_result.nit == 3:
            raise ZeroDivisionError("mine")

    arguments = {"x0": X0, "seed": 0, "budget": 100}
    how = {"workers": threads if workers == "threads" else 1}
    with pytest.raises(ZeroDivisionError, match="mine"):
        minimize(sphere, **arguments, **how, callback=callback, checkpoint=path)
    resumed = minimize(sphere, **arguments, checkpoint=path, resume=True)
    assert bits(resumed) == bits(minimize(sphere, **arguments))


def test_the_progress_bar_goes_to_stderr(capsys):
    minimize(sphere, X0, progress=True, seed=0, budget=100)
    out, err = capsys.readouterr()
    assert out == ""
    assert "100/100" in err
    minimize(sphere, X0, seed=0, budget=100)
    assert capsys.readouterr() == ("", "")


def test_the_progress_bar_counts_the_evaluations_of_the_returned_point_too(capsys):
    minimize(noisy, X0, progress=True, pass_seed=True, seed=0, budget=200)
    assert "200/200" in capsys.readouterr().err


# ---- where it starts


@pytest.mark.parametrize(
    "bounds",
    [([0, -1], [4, 1]), Bounds([0, -1], [4, 1]), np.array([[0, -1], [4, 1]])],
)
def test_without_a_start_it_is_the_middle_of_the_bounds(bounds):
    fun = Counted()
    minimize(fun, bounds=bounds, seed=0, budget=60)
    points = np.array(fun.points)
    assert points[0].tolist() == [2, 0]
    assert (points >= [0, -1]).all()
    assert (points <= [4, 1]).all()


def test_one_side_may_be_a_scalar():
    fun = Counted()
    minimize(fun, bounds=(0, [1, 2, 3]), seed=0, budget=10)
    assert fun.points[0].tolist() == [0.5, 1, 1.5]


def test_bounds_at_the_limits_of_floats_have_a_middle():
    largest, least = np.finfo(float).max, 5e-324
    fun = Counted(lambda x: 0.0)
    minimize(fun, bounds=([-largest, least], [largest, least]), sigma=1.0, seed=0, budget=1)
    assert fun.points[0].tolist() == [0, least]


@pytest.mark.parametrize("x0", [None, [1.0, 5.0, 0.5]])
def test_every_coordinate_is_searched_in_proportion_to_its_bounds(x0):
    """In generation 0 of the pairs the directions are orthogonal and of equal norm."""
    low, high = np.array([0, -100, 0.5]), np.array([2, 100, 0.5])
    fun = Counted()
    minimize(
        fun, x0, bounds=Bounds(low, high), seed=0, optimizer="sgd", num_directions=3,
        noisy=False, budget=6,
    )  # fmt: skip
    points = np.array(fun.points)
    start = np.array([1, 0, 0.5]) if x0 is None else np.array(x0)
    half = np.where(high > low, (high - low) / 2, 1)
    moves = (points[::2] - start) / (0.3 * half)
    assert (points[:, 2] == 0.5).all()
    opt = BGS(start, 30.0, num_directions=3, seed=0, options=Options(scale=[0.01, 1, 1]))
    free = (opt.ask().x[::2] - start) / [0.3, 30, 30]
    np.testing.assert_allclose(moves[:, :2], free[:, :2], rtol=1e-9)


@pytest.mark.parametrize(
    ("x0", "due"),
    [([0.0, 0.0], 0.3), ([3.0, 4.0], 1.060660171779821), ([3e200, 4e200], 1.060660171779821e200)],
)
def test_without_bounds_sigma_follows_from_the_size_of_the_start(x0, due):
    result = minimize(lambda x: 0.0, x0, seed=0, budget=1)
    assert result.sigma == pytest.approx(due, rel=1e-12)


def test_a_given_scale_or_sigma_is_not_replaced():
    fun = Counted()
    minimize(
        fun, bounds=([0, 0], [1, 9]), seed=0, optimizer="sgd", num_directions=2, noisy=False,
        budget=4, options=Options(scale=[1e-3, 1e-3]),
    )  # fmt: skip
    assert np.ptp(fun.points, axis=0).max() < 0.01
    assert minimize(sphere, bounds=([0, 0], [1, 9]), sigma=0.25, seed=0, budget=1).sigma == 0.25


# ---- what it returns


def test_the_result_has_scipys_fields_with_scipys_types():
    ours = minimize(sphere, X0, seed=0, budget=100)
    theirs = scipy_minimize(sphere, X0, method="Nelder-Mead", options={"maxfev": 10})
    assert isinstance(ours, OptimizeResult)
    for name in ("x", "fun", "success", "status", "message", "nfev", "nit"):
        assert isinstance(ours[name], type(theirs[name])) or name == "fun"
    assert isinstance(ours.fun, float)
    assert ours.x.dtype == np.float64
    assert ours.fun == sphere(ours.x)
    again = pickle.loads(pickle.dumps(ours))
    assert bits(again) == bits(ours)
    assert "nlost" in repr(ours)


def test_the_history_has_a_row_for_each_generation():
    result = minimize(sphere, X0, seed=0, budget=300)
    table = result.history
    assert {"generation", "evaluations", "best_value", "mean_value", "sigma"} <= set(table)
    assert table["generation"].tolist() == list(range(result.nit))
    assert (np.diff(table["evaluations"]) > 0).all()
    assert (np.diff(table["best_value"]) <= 0).all()
    assert table["best_value"][-1] >= result.best.value


def test_maximize_is_the_minimum_of_the_negative():
    up = minimize(lambda x: -sphere(x), X0, maximize=True, seed=0, budget=300)
    down = minimize(sphere, X0, seed=0, budget=300)
    assert up.x.tobytes() == down.x.tobytes()
    assert up.fun == -down.fun
    assert up.best.value == up.fun


def test_without_noise_the_best_point_is_returned():
    for says in (None, False):
        fun = Counted()
        result = minimize(fun, X0, noisy=says, seed=0, budget=150)
        values = [sphere(x) for x in fun.points]
        best = int(np.argmin(values))
        assert result.noisy is False
        assert result.fun == values[best]
        assert result.x.tobytes() == fun.points[best].tobytes()
        assert "fun_error" not in result


@pytest.mark.parametrize("says", [None, True])
def test_under_noise_an_average_is_returned_with_the_mean_of_ten_fresh_values(says):
    values = {}

    def fun(x, seed):
        values.setdefault(x.tobytes(), []).append(noisy(x, seed))
        return values[x.tobytes()][-1]

    result = minimize(fun, X0, noisy=says, pass_seed=True, seed=0, budget=1000)
    fresh = values[result.x.tobytes()][-10:]
    assert result.noisy is True
    assert len(fresh) == 10
    assert len(set(fresh)) == 10
    assert result.x.tobytes() != result.best.x.tobytes()
    assert result.fun == pytest.approx(np.mean(fresh), rel=1e-12)
    assert result.fun_error == pytest.approx(np.std(fresh, ddof=1) / np.sqrt(10), rel=1e-12)
    assert result.nfev == 1000


def test_noise_that_is_said_not_to_be_is_believed():
    result = minimize(noisy, X0, noisy=False, pass_seed=True, seed=0, budget=200)
    assert result.noisy is False
    assert result.fun == result.best.value


@pytest.mark.parametrize("optimizer", ["auto", "adam"])
def test_whether_there_is_noise_is_found_by_evaluating_the_start(optimizer):
    fun = Counted(noisy)
    result = minimize(fun, X0, pass_seed=True, seed=0, budget=300, optimizer=optimizer)
    assert result.noisy is True
    assert [x.tolist() for x in fun.points[:4]] == [X0.tolist()] * 4
    fun = Counted()
    assert minimize(fun, X0, seed=0, budget=300, optimizer=optimizer).noisy is False


def test_masked_values_of_many_points_are_no_values():
    def fun(x):
        values = np.ma.masked_array(rows(x))
        values[x[:, 0] < 0] = np.ma.masked
        return values

    with pytest.raises(ArgumentTypeError, match=r"fun: .* got a masked array of shape"):
        minimize(fun, X0, seed=0, budget=100, vectorized=True)
    found = minimize(lambda x: np.ma.masked_array(rows(x)), X0, seed=0, vectorized=True)
    assert bits(found) == bits(minimize(rows, X0, seed=0, vectorized=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_function_may_not_change_its_point_in_whatever_process(workers):
    with pytest.raises(ValueError, match="read-only"):
        minimize(objectives.moves_its_point, X0, budget=10, workers=workers)


MANY_RUNS = """
import gc, sys
import numpy as np
from bgs_opt import minimize

def run():
    minimize(lambda x: float(x @ x), np.ones(9), budget=60, seed=1, optimizer="clipup",
             callback=lambda intermediate_result: None)

gc.disable()  # a full collection is rare in a long run, and empties the lists
for _ in range(7):  # the first of them fill what a process keeps anyway
    before = sys.getallocatedblocks()
    for _ in range(25):
        run()
    gc.collect(1)
    print(sys.getallocatedblocks() - before)
"""


def test_a_run_leaves_nothing_in_the_lists_of_the_interpreter():
    """``_replace`` of a named tuple shortens one, of which up to 2,000 are kept.

    More stretches than these would fill that list, and the last come to none with the fault.
    """
    assert min(map(int, python(MANY_RUNS).split())) < 25  # one a run


@pytest.mark.parametrize("fun", [sphere, noisy])
def test_the_arrays_of_a_result_are_the_callers_own(fun):
    result = minimize(fun, X0, seed=1, budget=60, pass_seed=fun is noisy)
    for array in (result.x, result.center, result.best.x):
        array[:] = 7.0
    assert not np.shares_memory(result.x, result.center)


# ---- checkpoint and resume


RUNS = {
    "default": {"x0": X0, "seed": 1, "budget": 200},
    "noisy": {"x0": X0, "seed": 1, "budget": 600, "pass_seed": True},
    "named": {"x0": X0, "seed": 1, "budget": 200, "optimizer": "adam", "num_directions": 5},
    "bounds": {"bounds": ([-3, -1], [1, 9]), "seed": 1, "budget": 200},
}


def function_of(run: str):
    return noisy if RUNS[run].get("pass_seed") else sphere


@functools.cache
def uninterrupted(run: str):
    return bits(minimize(function_of(run), **RUNS[run]))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("stops", [[1], [2, 3], [1, 2, 3, 4, 5, 6, 7]])
def test_a_run_in_parts_is_the_uninterrupted_one(run, stops, tmp_path):
    path = tmp_path / "run.npz"
    fun = function_of(run)
    for maxiter in stops:
        part = minimize(fun, **RUNS[run], checkpoint=path, resume=True, maxiter=maxiter)
        assert part.nit == maxiter
    whole = minimize(fun, **RUNS[run], checkpoint=path, resume=True)
    assert bits(whole) == uninterrupted(run)


@pytest.mark.parametrize("run", ["default", "noisy"])
@pytest.mark.parametrize("calls", [0, 1, 5, 47, 100])
def test_a_run_that_is_interrupted_anywhere_resumes_to_the_same_bits(run, calls, tmp_path):
    path = tmp_path / "run.npz"
    fun, done = function_of(run), itertools.count()

    def interrupted(x, **more):
        if next(done) == calls:
            raise KeyboardInterrupt
        return fun(x, **more)

    result = minimize(interrupted, **RUNS[run], checkpoint=path)
    assert (result.status, result.success) == (MESSAGES["interrupted"][0], False)
    assert result.nfev == calls
    assert BGS.load(path).num_evaluations == calls
    resumed = minimize(fun, **RUNS[run], checkpoint=path, resume=True)
    assert bits(resumed) == uninterrupted(run)


def test_an_interrupt_while_the_returned_point_is_evaluated_returns_it(tmp_path):
    path = tmp_path / "run.npz"
    done = itertools.count()

    def interrupted(x, seed):
        if next(done) == 596:  # 6 of 600 are kept for it
            raise KeyboardInterrupt
        return noisy(x, seed)

    result = minimize(interrupted, **RUNS["noisy"], checkpoint=path)
    assert (result.status, result.success, result.nfev) == (MESSAGES["interrupted"][0], False, 596)
    resumed = minimize(noisy, **RUNS["noisy"], checkpoint=path, resume=True)
    assert bits(resumed) == uninterrupted("noisy")


def test_an_error_while_the_returned_point_is_evaluated_is_raised_as_it_is(tmp_path):
    path = tmp_path / "run.npz"
    done = itertools.count()

    def fails(x, seed):
        if next(done) == 596:
            raise objectives.PlainError("late")
        return noisy(x, seed)

    with pytest.raises(objectives.PlainError, match="late") as caught:
        minimize(fails, **RUNS["noisy"], checkpoint=path)
    assert "the point to be returned" in caught.value.__notes__[0]
    resumed = minimize(noisy, **RUNS["noisy"], checkpoint=path, resume=True)
    assert bits(resumed) == uninterrupted("noisy")


def test_an_error_keeps_the_cause_that_the_objective_gave_it():
    cause = KeyError("why")

    def fails(x):
        raise ValueError("what") from cause

    with pytest.raises(ValueError, match="what") as caught:
        minimize(fails, X0)
    assert caught.value.__cause__ is cause
    assert caught.value.__notes__ == ["bgs_opt: raised by fun for candidate id 0"]


def test_an_existing_file_is_refused_and_stays_as_it_is(tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(b"precious")
    with pytest.raises(ArgumentValueError, match="checkpoint: expected a new path; or resume=Tr"):
        minimize(forbidden, X0, checkpoint=path)
    with pytest.raises(CheckpointError, match="damaged or something else"):
        minimize(forbidden, X0, checkpoint=path, resume=True)
    assert path.read_bytes() == b"precious"


OTHERS = [
    ({"x0": X0 + 1}, "x0|start"),
    ({"x0": np.ones(5)}, "dim|x0"),
    ({"x0": X0.astype(np.float32)}, "dtype|x0"),
    ({"sigma": 0.1}, "sigma"),
    ({"bounds": (-9, 9)}, "bounds"),
    ({"maximize": True}, "maximize"),
    ({"seed": 2}, "seed"),
    ({"optimizer": "auto", "num_directions": None}, "optimizer"),
    ({"num_directions": 6}, "num_directions"),
    ({"learning_rate": 0.5}, "learning_rate"),
    ({"sampler": "gaussian"}, "sampler"),
    ({"selection": "max"}, "selection"),
    ({"noisy": True}, "noisy"),
    ({"options": Options(repeats=2)}, "repeats"),
]


@pytest.mark.parametrize(
    ("arguments", "name"), OTHERS, ids=[", ".join(arguments) for arguments, _ in OTHERS]
)
def test_a_run_is_not_resumed_with_other_arguments_which_are_named(arguments, name, tmp_path):
    path = tmp_path / "run.npz"
    given = {**RUNS["named"], "sigma": 0.3}
    minimize(sphere, **given, maxiter=2, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ArgumentValueError, match=rf"({name}).*: expected what the run in .* was"):
        minimize(forbidden, **{**given, **arguments}, checkpoint=path, resume=True)
    assert path.read_bytes() == before


def test_a_run_without_a_seed_resumes_without_one(tmp_path):
    path = tmp_path / "run.npz"
    given = {"x0": X0, "budget": 100}
    minimize(sphere, **given, maxiter=3, checkpoint=path)
    seed = BGS.load(path).__getstate__()["config"].entropy
    minimize(sphere, **given, checkpoint=path, resume=True)
    assert BGS.load(path).__getstate__()["config"].entropy == seed


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("first", [1, 3, 50, 150])
def test_the_budget_may_be_extended(run, first, tmp_path):
    path = tmp_path / "run.npz"
    fun = Counted(function_of(run))
    short = minimize(fun, **{**RUNS[run], "budget": first}, checkpoint=path)
    assert short.nfev == first
    longer = minimize(fun, **RUNS[run], checkpoint=path, resume=True)
    assert longer.nfev == RUNS[run]["budget"]
    assert longer.success
    assert BGS.load(path).budget == RUNS[run]["budget"]


def test_the_budget_may_be_reduced_to_less_than_what_was_asked(tmp_path):
    path = tmp_path / "run.npz"
    given = {"x0": X0, "seed": 1, "optimizer": "sgd", "num_directions": 20, "noisy": False}
    done = itertools.count()

    def interrupted(x):
        if next(done) == 10:
            raise KeyboardInterrupt
        return sphere(x)

    minimize(interrupted, **given, budget=100, checkpoint=path)
    fun = Counted()
    result = minimize(fun, **given, budget=25, checkpoint=path, resume=True)
    assert len(fun.points) == 15
    assert result.nfev == 25
    whole = minimize(sphere, **given, budget=100, checkpoint=path, resume=True)
    assert bits(whole) == bits(minimize(sphere, **given, budget=100))


def test_a_finished_run_that_is_resumed_ends_at_once_with_the_same_result(tmp_path):
    path = tmp_path / "run.npz"
    first = minimize(sphere, **RUNS["default"], checkpoint=path)
    again = minimize(forbidden, **RUNS["default"], checkpoint=path, resume=True)
    assert bits(again) == bits(first)


def test_the_checkpoint_is_written_while_the_run_goes_on(tmp_path, monkeypatch):
    clock, path, seen = Clock(), tmp_path / "run.npz", []
    monkeypatch.setattr("bgs_opt.driver.time", clock)
    monkeypatch.setattr("bgs_opt.start.time", clock)

    def fun(x):
        seen.append(BGS.load(path).num_evaluations)
        return clock.fun(x)

    minimize(fun, X0, seed=0, budget=100, checkpoint=path, checkpoint_seconds=9.5)
    assert sorted(set(seen)) == list(range(0, 100, 10))
    assert BGS.load(path).num_evaluations == 100


def fails_at_first(x):
    raise objectives.PlainError("a mistake in the first line")


@pytest.mark.parametrize("how", [{}, {"workers": 2}])
def test_a_run_that_fails_before_its_first_value_leaves_no_file(how, tmp_path):
    path = tmp_path / "run.npz"
    with pytest.raises(objectives.PlainError):
        minimize(fails_at_first, X0, checkpoint=path, **how)
    assert not path.exists()


def full_disk(self, path):
    raise OSError(28, "No space left on device")


def test_a_checkpoint_that_cannot_be_written_is_an_error_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(BGS, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        minimize(forbidden, X0, checkpoint=tmp_path / "run.npz")


def test_a_checkpoint_that_cannot_be_written_later_is_a_warning(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    done = itertools.count()

    def fun(x):
        if next(done) == 50:
            monkeypatch.setattr(BGS, "save", full_disk)
        return sphere(x)

    with pytest.warns(BGSWarning, match=r"stays as it was, as saving failed .*No space") as caught:
        result = minimize(fun, **RUNS["default"], checkpoint=path, checkpoint_seconds=0)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert bits(result) == uninterrupted("default")
    assert 40 <= BGS.load(path).num_evaluations <= 50


@dataclasses.dataclass(frozen=True)
class Own:
    """A sampler that no checkpoint knows."""

    def bind(self, dim, num_directions, dtype, entropy, layout):
        from bgs_opt import Gaussian

        return Gaussian().bind(dim, num_directions, dtype, entropy, layout)


def test_what_a_checkpoint_cannot_hold_is_an_error_at_the_start(tmp_path):
    with pytest.raises(CheckpointError, match="Own cannot be written"):
        minimize(forbidden, X0, sampler=Own(), checkpoint=tmp_path / "run.npz")
    assert minimize(sphere, X0, sampler=Own(), budget=20).nfev == 20


class Wandering:
    """A sphere that goes to another folder, and may fail there."""

    def __init__(self, folder, *, fails=False):
        self.folder, self.fails = folder, fails

    def __call__(self, x):
        os.chdir(self.folder)
        if self.fails:
            raise ValueError("no simulator here")
        return sphere(x)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with a file of the same name as the checkpoint, which is someone else's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.npz").write_text("someone else's")
    yield tmp_path / "other"
    assert (tmp_path / "other" / "run.npz").read_text() == "someone else's"


def test_a_relative_checkpoint_stays_where_it_was_given(elsewhere):
    """Not where the function goes meanwhile."""
    whole = minimize(sphere, X0, budget=60, seed=1)
    minimize(Wandering(elsewhere), X0, budget=60, seed=1, maxiter=2, checkpoint="run.npz",
             checkpoint_seconds=0)  # fmt: skip
    path = elsewhere.parent / "run.npz"
    resumed = minimize(sphere, X0, budget=60, seed=1, checkpoint=path, resume=True)
    assert bits(resumed) == bits(whole)


def test_the_file_of_a_run_that_fails_at_once_is_removed_and_no_other(elsewhere):
    with pytest.raises(ValueError, match="no simulator here"):
        minimize(Wandering(elsewhere, fails=True), X0, budget=60, checkpoint="run.npz")
    assert not (elsewhere.parent / "run.npz").exists()


# ---- bad values


@pytest.mark.parametrize("noisy", [None, True, False])
@pytest.mark.parametrize("budget", [1, 2, 9, 40])
@pytest.mark.filterwarnings("ignore::bgs_opt.errors.BGSWarning")
def test_a_run_of_failed_values_alone_is_no_success(budget, noisy):
    result = minimize(lambda x: np.nan, X0, budget=budget, noisy=noisy)
    assert (result.status, result.success) == (6, False)
    assert result.nfev == budget
    assert np.isnan(result.fun)


@pytest.mark.filterwarnings("ignore::bgs_opt.errors.BGSWarning")
def test_one_value_is_enough_for_success():
    values = iter([np.nan] * 8 + [3.0] + [np.nan] * 99)
    result = minimize(lambda x: next(values), X0, budget=20, optimizer="sgd", num_directions=4)
    assert result.success
    assert result.best.value == 3.0


def test_a_value_that_is_not_finite_is_refused_if_wanted_and_the_others_are_kept(tmp_path):
    path = tmp_path / "run.npz"
    given = {"x0": X0, "seed": 1, "optimizer": "sgd", "num_directions": 4, "budget": 16,
             "options": Options(on_failure="raise", noisy=False)}  # fmt: skip

    def fun(x):
        return np.array([np.nan if i == 5 else sphere(row) for i, row in enumerate(x)])

    with pytest.raises(NonFiniteValueError, match="position 5"):
        minimize(fun, **given, vectorized=True, checkpoint=path)
    assert BGS.load(path).num_evaluations == 7
    resumed = minimize(sphere, **given, checkpoint=path, resume=True)
    assert bits(resumed) == bits(minimize(sphere, **given))


def test_nan_is_the_value_of_a_point_that_failed():
    def fun(x):
        return np.nan if x[0] < -0.2 else sphere(x)

    with pytest.warns(NonFiniteValueWarning) as caught:
        result = minimize(fun, np.zeros(3), seed=0, budget=300)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_allclose(result.x, 0.5, atol=0.05)


# ---- Ctrl-C, in detail


def send(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def test_ctrl_c_is_held_back_but_where_it_is_allowed():
    with Interrupts() as interrupts:
        send()
        assert interrupts.presses == 1
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            pytest.fail("this is not reached")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_comes_through_where_it_is_allowed():
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.allowed():
        send()
    assert interrupts.presses == 1


def test_ctrl_c_that_is_swallowed_comes_at_the_end():
    deaf = contextlib.suppress(KeyboardInterrupt)
    with (
        Interrupts() as interrupts,
        pytest.raises(KeyboardInterrupt),
        interrupts.allowed(),
        deaf,
    ):
        send()


def test_the_third_ctrl_c_comes_through_anywhere():
    with Interrupts():
        send()
        send()
        with pytest.raises(KeyboardInterrupt):
            send()


def test_a_handler_of_the_callers_own_is_left_in_place():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        result = minimize(lambda x: send() or sphere(x), X0, seed=0, budget=5)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.success
    assert len(seen) == 5


def test_an_objective_that_swallows_ctrl_c_does_not_keep_the_run_alive():
    def deaf(x):
        with contextlib.suppress(BaseException):
            send()
        return sphere(x)

    result = minimize(deaf, X0, seed=0)
    assert result.status == MESSAGES["interrupted"][0]
    assert result.nfev == 1


def test_it_runs_outside_of_the_main_thread(threads):
    result = threads.submit(minimize, sphere, X0, seed=0, budget=50).result()
    assert bits(result) == bits(minimize(sphere, X0, seed=0, budget=50))


# ---- errors on their way from a process


def raised(make):
    try:
        raise make()
    except BaseException as error:
        return Raised.of(error)


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: ValueError("a", 1), ValueError, "('a', 1)"),
        (lambda: OSError(2, "missing", "file"), FileNotFoundError, "[Errno 2] missing: 'file'"),
        (lambda: UnicodeDecodeError("utf8", b"x", 0, 1, "bad"), UnicodeDecodeError, "bad"),
        (KeyboardInterrupt, KeyboardInterrupt, ""),
        (lambda: objectives.PlainError("mine"), objectives.PlainError, "mine"),
        (lambda: objectives.DoubledError("x"), objectives.DoubledError, "doubled: x"),
        (objectives.HoldsLockError, objectives.HoldsLockError, "holds a lock"),
        (lambda: objectives.NoTextError(lambda: 0), objectives.NoTextError, None),
        (lambda: ValueError(lambda: 0), ValueError, "<function"),
        (lambda: ValueError("x" * 100_000), ValueError, "xxx"),
        (lambda: np.linalg.LinAlgError("singular"), np.linalg.LinAlgError, "singular"),
    ],
)
def test_an_error_that_comes_from_a_process_is_the_one_that_was_raised(make, kind, text):
    packed = raised(make)
    error = pickle.loads(pickle.dumps(packed)).error()
    assert type(error) is kind
    if text is not None:
        assert text in str(error)
    assert "in raised" in str(error.__cause__)
    assert len(pickle.dumps(packed)) < 16_000


def test_an_error_of_a_class_that_only_the_worker_has_becomes_a_runtime_error(monkeypatch):
    packed = raised(lambda: objectives.PlainError("mine"))
    monkeypatch.delattr(objectives, "PlainError")
    error = packed.error()
    assert type(error) is RuntimeError
    assert str(error) == "tests.objectives.PlainError: mine"


def test_an_error_of_a_local_class_becomes_one_of_its_base():
    class LocalError(LookupError):
        pass

    error = raised(lambda: LocalError("where")).error()
    assert type(error) is LookupError
    assert str(error) == "where"
    assert "LocalError" in str(error.__cause__)


def test_worker_start_errors_are_runtime_errors():
    assert issubclass(WorkerStartError, RuntimeError)
