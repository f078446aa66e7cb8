"""R9: evaluations that fail, die, hang or are interrupted, serial, in threads, in processes.

Every case is a whole run of minimize with a fault at a known point of it. The fault-free run is
computed with ask and tell, so that the final center is compared with something that has no
evaluator at all. A watchdog ends what hangs; what a run leaves behind is looked for after it.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from bgs_opt import BGS, Options, minimize
from bgs_opt.errors import ArgumentTypeError, WorkerLostWarning
from bgs_opt.processes import WorkerStartError
from bgs_opt.update import LATE_WINDOW
from tests.helpers import ROOT
from tests.objectives import (
    FOREVER,
    RUN,
    Beside,
    Faulty,
    PlainError,
    TwoArgumentsError,
    Unloadable,
    sphere,
)

BUDGET = RUN["budget"]
POSITIONS = {"first": 0, "middle": 11, "last": BUDGET - 1}
TIMEOUT = 1.0
GRACE = 5.0


# ---- the fault-free run, and what a lost evaluation makes of it


@functools.cache
def expected(lost: int | None = None) -> dict[str, object]:
    """The run without an evaluator; evaluation number ``lost`` is given up."""
    names = ("x0", "sigma", "seed", "optimizer", "num_directions")
    opt = BGS(**{name: RUN[name] for name in names}, options=Options(noisy=False))
    points: list[bytes] = []
    while opt.num_evaluations < BUDGET:
        candidates = opt.ask(min(opt.needed, BUDGET - opt.num_evaluations))
        numbers = range(len(points), len(points) + len(candidates))
        points += [x.tobytes() for x in candidates]
        kept = [i for i, number in enumerate(numbers) if number != lost]
        opt.tell(candidates[kept], [sphere(x) for x in candidates[kept]])
        if len(kept) < len(candidates):
            opt.discard(candidates[[i for i, number in enumerate(numbers) if number == lost]])
    found = outcome(opt.center, opt.best.x, opt.history, opt.num_evaluations, opt.generation)
    return {**found, "points": points}


def outcome(center, x, history, nfev, nit) -> dict[str, object]:
    """What two runs must agree in, bit for bit."""
    table = {name: column.tobytes() for name, column in history.items()}
    return {
        "center": center.tobytes(), "x": x.tobytes(), "history": table, "nfev": nfev, "nit": nit,
    }  # fmt: skip


def assert_same_run(result, lost: int | None = None) -> None:
    got = outcome(result.center, result.x, result.history, result.nfev, result.nit)
    due = expected(lost)
    assert {name: due[name] for name in got} == got


def faulty(folder: Path, fault: str, *numbers: int, times: int = 1, released=None) -> Faulty:
    """The objective that meets a fault at the evaluations of these numbers."""
    victims = tuple(expected()["points"][number] for number in numbers)
    return Faulty(folder, fault, victims, times, released)


# ---- what must not happen: a hang, a process or a file left behind


@pytest.fixture(scope="module")
def start_seconds():
    """What starting a worker process takes on this machine, now."""
    begun = time.monotonic()
    minimize(sphere, **{**RUN, "budget": 1}, workers=1, timeout=60)
    return time.monotonic() - begun


@contextlib.contextmanager
def ends_within(seconds: float):
    """Raise in the main thread if what is within has not ended by then."""

    def bark(*_):
        raise AssertionError(f"this did not end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def watched(start_seconds):
    """A limit for each run: its deadline and 5 s, and what so many process starts take."""

    def watch(deadline: float = 0.0, starts: int = 4):
        return ends_within(deadline + GRACE + starts * start_seconds)

    return watch


def processes() -> dict[int, tuple[int, int, str]]:
    """Parent, group and command line of every process that is not a zombie."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if state != "Z":
                found[int(folder.name)] = int(parent), int(group), command
    return found


def children(pid: int) -> set[int]:
    """Child processes, but for the one that multiprocessing itself keeps for each program."""
    return {
        child
        for child, (parent, _, command) in processes().items()
        if parent == pid and "resource_tracker" not in command
    }


def gone(pids, seconds: float = GRACE) -> bool:
    """Whether all of these processes end within some seconds."""
    until = time.monotonic() + seconds
    while set(pids) & processes().keys():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(autouse=True, scope="module")
def bare_main():
    """Worker processes import the main module anew, which here is all of pytest."""
    kept, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    yield
    sys.modules["__main__"] = kept


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    """No process and no temporary file stays behind."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("TMPDIR", str(scratch))
    before = children(os.getpid())
    yield
    assert gone(children(os.getpid()) - before)
    assert gone(int(path.name.partition("-")[2]) for path in tmp_path.rglob("child-*"))
    assert list(scratch.iterdir()) == []
    assert list(tmp_path.rglob("*.tmp")) == []


# ---- ways to evaluate


def in_this_process():
    return contextlib.nullcontext({})


@contextlib.contextmanager
def in_threads():
    with ThreadPoolExecutor(2) as executor:
        yield {"workers": executor}


def process_pool(size: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(size, multiprocessing.get_context("spawn"))


@contextlib.contextmanager
def in_a_pool():
    with process_pool(1) as executor:
        yield {"workers": executor}


def in_a_process():
    return contextlib.nullcontext({"workers": 1, "timeout": 60.0})


def in_two_processes():
    return contextlib.nullcontext({"workers": 2})


MODES = {"serial": in_this_process, "threads": in_threads, "processes": in_a_process}

at_every_position = pytest.mark.parametrize("position", POSITIONS)

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
"""A case that repeats what another one shows, with the starts of more processes."""


# ---- the objective raises


ERRORS = {
    "raise": (PlainError, "broken"),
    "two arguments": (TwoArgumentsError, "broken in two places"),
    "local class": (KeyError, "local"),
    "long error": (PlainError, "xxx"),
    "MemoryError": (MemoryError, "allocate"),
    "SystemExit": (SystemExit, "3"),
    "non-float": (ArgumentTypeError, "fun: expected it to return a real number; got 'not a num"),
    "unpicklable result": (ArgumentTypeError, "fun: expected it to return a real number; got <"),
}


@pytest.mark.parametrize(
    ("fault", "mode", "position"),
    [
        (pytest.param if mode != "processes" or position == "middle" else slow)(
            fault, mode, position
        )
        for fault in ERRORS
        for mode in MODES
        for position in POSITIONS
    ],
)
def test_an_error_keeps_its_type_and_what_was_finished_and_the_run_resumes(
    fault, mode, position, tmp_path, watched
):
    number = POSITIONS[position]
    objective = faulty(tmp_path, fault, number)
    error, text = ERRORS[fault]
    path = tmp_path / "run.npz"
    with watched(), MODES[mode]() as how, pytest.raises(error, match=text) as caught:
        minimize(objective, **RUN, **how, checkpoint=path)
    if fault != "SystemExit" or mode != "serial":  # it ends a program, and is left alone there
        assert "candidate id" in " ".join(caught.value.__notes__)
    assert objective.tried() == 1
    kept = BGS.load(path).num_evaluations if path.exists() else 0
    if mode != "threads":
        assert kept == number
    assert_same_run(minimize(sphere, **RUN, checkpoint=path, resume=True))


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ("raise", in_a_pool),
        ("two arguments", in_a_process),
        slow("raise", in_a_process),
        slow("two arguments", in_a_pool),
    ],
)
def test_an_error_from_a_process_says_where_it_was_raised(fault, how, tmp_path, watched):
    """Also one that does not unpickle, which would break a pool."""
    error, text = ERRORS[fault]
    with watched(), how() as workers, pytest.raises(error, match=text) as caught:
        minimize(faulty(tmp_path, fault, 2), **RUN, **workers)
    assert "objectives.py" in str(caught.value.__cause__)


class Instant(Executor):
    """Has evaluated everything when it is asked for the first time."""

    _max_workers = 4

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize(("mode", "finished"), [("executor", 7), ("processes", 1)])
def test_values_that_finished_beside_an_error_are_kept(
    mode, finished, tmp_path, watched, monkeypatch
):
    """The error is the first of several outcomes that are there at the same time."""
    monkeypatch.setattr("bgs_opt.executors._wait_for", lambda futures, _: wait([*futures]))
    path = tmp_path / "run.npz"
    how = {"workers": Instant() if mode == "executor" else 2}
    with watched(), pytest.raises(PlainError):
        minimize(faulty(tmp_path, "raise", 0), **RUN, **how, checkpoint=path)
    assert BGS.load(path).num_evaluations == finished


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize(("seconds", "kept"), [(0.2, 1), (FOREVER, 0)])
def test_what_is_under_way_beside_an_error_has_a_moment_to_finish(
    threads, seconds, kept, tmp_path, watched
):
    path = tmp_path / "run.npz"
    if threads and not kept:
        seconds = 2.0  # a thread cannot be ended
    objective = Beside(tmp_path, seconds)
    with ThreadPoolExecutor(2) as pool, watched(), pytest.raises(PlainError):
        minimize(objective, **{**RUN, "budget": 2}, workers=pool if threads else 2,
                 checkpoint=path)  # fmt: skip
    assert (BGS.load(path).num_evaluations if path.exists() else 0) == kept


# ---- the process of an evaluation dies or hangs


LETHAL = ["SIGKILL", "SIGSEGV", "os._exit"]


@pytest.mark.parametrize(
    ("fault", "position"),
    [(fault, "middle") for fault in [*LETHAL, "hang", "SIGSTOP"]]
    + [slow(fault, place) for fault in [*LETHAL, "hang"] for place in ("first", "last")],
)
def test_an_evaluation_whose_process_dies_or_hangs_is_tried_again(
    fault, position, tmp_path, watched
):
    objective = faulty(tmp_path, fault, POSITIONS[position])
    with watched(TIMEOUT):
        result = minimize(objective, **RUN, workers=1, timeout=TIMEOUT)
    assert objective.tried() == 2
    assert result.nlost == 0
    assert result.success
    assert_same_run(result)


@pytest.mark.parametrize(
    ("fault", "position"),
    [(fault, "middle") for fault in [*LETHAL, "SIGSTOP"]]
    + [("hang", "last"), slow("SIGKILL", "first"), slow("hang", "middle")],
)
def test_an_evaluation_that_fails_again_is_lost_and_counted(fault, position, tmp_path, watched):
    number = POSITIONS[position]
    objective = faulty(tmp_path, fault, number, times=2)
    with watched(2 * TIMEOUT), pytest.warns(WorkerLostWarning) as caught:
        result = minimize(objective, **RUN, workers=1, timeout=TIMEOUT)
    assert objective.tried() == 2
    assert result.nlost == len(caught) == 1
    reason = {
        "SIGKILL": "killed by SIGKILL", "SIGSEGV": "killed by SIGSEGV", "os._exit": "exit code 5",
    }.get(fault, "no value within 1 s")  # fmt: skip
    assert reason in str(caught[0].message)
    assert caught[0].filename == __file__
    assert_same_run(result, lost=number)


def test_three_lost_evaluations_are_counted_with_one_warning(tmp_path, watched):
    objective = faulty(tmp_path, "os._exit", 1, 3, 5)
    with watched(), pytest.warns(WorkerLostWarning) as caught:
        result = minimize(objective, **RUN, workers=2, retries=0)
    assert result.nlost == 3
    assert len(caught) == 1


def test_two_workers_that_die_at_once_disturb_no_one(tmp_path, watched):
    objective = faulty(tmp_path, "SIGKILL", 2, 3, 4)
    with watched(starts=8):
        assert_same_run(minimize(objective, **RUN, workers=2))
    assert [objective.tried(i) for i in range(3)] == [2, 2, 2]


def test_a_process_that_dies_while_idle_costs_no_retry(tmp_path, watched):
    """One evaluates one point, the other one the rest of the generation, and dies after that."""
    objective = faulty(tmp_path, "kill idle workers", 0)
    with watched(starts=6):
        result = minimize(objective, **RUN, workers=2, retries=0)
    assert len(list(tmp_path.glob("killed-*"))) == 1
    assert_same_run(result)


@pytest.mark.parametrize("times", [slow(1), 2])
def test_a_process_that_is_killed_while_it_starts_is_started_again(times, tmp_path, watched):
    with watched():
        result = minimize(Unloadable(tmp_path, "SIGKILL", times), **RUN, workers=1, timeout=60)
    assert_same_run(result)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("SIGKILL", r"3 worker processes in a row died .*\(killed by SIGKILL\)"),
        ("os._exit", r"could not start \(exit code 5\).*__main__"),
        ("raise", "loading it there raised ImportError: a library is missing"),
    ],
)
def test_processes_that_cannot_start_are_an_error_that_says_why(fault, text, tmp_path, watched):
    path = tmp_path / "run.npz"
    with watched(), pytest.raises(WorkerStartError, match=text) as caught:
        minimize(Unloadable(tmp_path, fault, 9), **RUN, workers=1, timeout=60, checkpoint=path)
    assert isinstance(caught.value, RuntimeError)
    assert not path.exists()  # nothing was evaluated: the next attempt may use the path


def test_a_descriptor_is_closed_by_one_thread_only(tmp_path, watched, monkeypatch):
    """Closing takes long enough that two threads would meet in it: an error of one of them."""
    close = Connection._close

    def slowly(self):
        time.sleep(0.05)
        close(self)

    monkeypatch.setattr(Connection, "_close", slowly)
    with watched(), pytest.raises(WorkerStartError, match="3 worker processes in a row died"):
        minimize(Unloadable(tmp_path, "SIGKILL", 9), **RUN, workers=1, timeout=60)


def test_a_process_that_never_gets_ready_is_an_error(tmp_path, watched, monkeypatch):
    monkeypatch.setattr("bgs_opt.processes.START_SECONDS", 0.2)
    with watched(), pytest.raises(WorkerStartError, match=r"not ready after 0\.2 s"):
        minimize(Unloadable(tmp_path, "sleep", 9), **RUN, workers=1, timeout=60)


def test_the_time_that_a_process_takes_to_start_is_not_the_evaluations(tmp_path, watched):
    """Loading the objective takes 1.5 s, an evaluation may take 1 s."""
    with watched(2.0):
        result = minimize(
            Unloadable(tmp_path, "sleep", 1), **RUN, workers=1, timeout=TIMEOUT, retries=0
        )
    assert result.nlost == 0
    assert_same_run(result)


def test_a_program_that_the_objective_has_started_is_killed_with_it(tmp_path, watched):
    objective = faulty(tmp_path, "start a program and hang", 5)
    with watched(TIMEOUT):
        result = minimize(objective, **RUN, workers=1, timeout=TIMEOUT)
    assert len(list(tmp_path.glob("child-*"))) == 1  # and gone, as the fixture sees
    assert_same_run(result)


def test_the_death_of_a_process_is_seen_though_its_child_keeps_its_pipes(tmp_path, watched):
    objective = faulty(tmp_path, "fork and die", 5)
    with watched():
        result = minimize(objective, **RUN, workers=2)
    assert len(list(tmp_path.glob("child-*"))) == 1
    assert_same_run(result)


def test_a_run_in_which_every_evaluation_dies_ends_soon(tmp_path, watched, monkeypatch):
    """It would go on for twenty generations otherwise."""
    monkeypatch.setattr("bgs_opt.driver._LOST_IN_A_ROW", 3)
    path = tmp_path / "run.npz"
    objective = faulty(tmp_path, "os._exit", *range(8), times=9)
    with watched(starts=8), pytest.warns(WorkerLostWarning) as caught:
        result = minimize(objective, **RUN, workers=1, timeout=60, retries=0, checkpoint=path)
    assert len(caught) == 1
    assert (result.status, result.success, result.nlost, result.nfev) == (8, False, 4, 0)
    resumed = minimize(sphere, **RUN, checkpoint=path, resume=True)
    assert (resumed.success, resumed.nlost, resumed.nfev) == (True, 4, BUDGET)


# ---- stragglers


@pytest.mark.parametrize(
    ("how", "position"),
    [(how, position) for how in (in_this_process, in_threads) for position in POSITIONS]
    + [(in_two_processes, "middle")]
    + [slow(in_two_processes, position) for position in ("first", "last")],
)
def test_a_straggler_is_waited_for(how, position, tmp_path, watched):
    with watched(1.0), how() as workers:
        result = minimize(faulty(tmp_path, "straggler", POSITIONS[position]), **RUN, **workers)
    assert result.nlost == 0
    assert_same_run(result)


def test_what_has_finished_is_kept_while_a_straggler_is_waited_for(tmp_path, watched):
    path = tmp_path / "run.npz"

    def objective(x):
        if x.tobytes() == expected()["points"][2]:
            wait_for(lambda: BGS.load(path).num_evaluations == 7)
        return sphere(x)

    with watched(), in_threads() as how:
        result = minimize(objective, **RUN, **how, checkpoint=path, checkpoint_seconds=0)
    assert_same_run(result)


def test_a_straggler_may_come_too_late_to_be_told_if_the_run_is_asynchronous(monkeypatch, watched):
    """It comes more generations late than ids are remembered; the budget counts it."""
    monkeypatch.setattr("bgs_opt.driver._FLUSH_SECONDS", 0)
    calls = []

    def objective(x):
        calls.append(x)
        if x is calls[0]:
            wait_for(lambda: len(calls) > 150)
        return sphere(x)

    arguments = {**RUN, "num_directions": 1, "budget": 200}
    with watched(), in_threads() as how:
        result = minimize(objective, **arguments, **how, asynchronous=True)
    assert result.nlost == 0
    assert result.nit > 2 * LATE_WINDOW
    assert result.nfev == len(calls) == 200


# ---- executors of the caller's


@at_every_position
def test_a_hang_in_a_thread_is_given_up_after_the_timeout(position, tmp_path, watched):
    number = POSITIONS[position]
    released = threading.Event()
    objective = faulty(tmp_path, "hang", number, released=released)
    with in_threads() as how:
        try:
            with watched(TIMEOUT), pytest.warns(WorkerLostWarning, match="no value within 1 s"):
                result = minimize(objective, **RUN, **how, timeout=TIMEOUT)
        finally:
            released.set()
    assert result.nlost == 1
    assert_same_run(result, lost=number)


def test_a_run_ends_when_every_thread_hangs(tmp_path, watched):
    released = threading.Event()
    objective = faulty(tmp_path, "hang", 0, 1, released=released)
    path = tmp_path / "run.npz"
    with in_threads() as how:
        try:
            with watched(2 * TIMEOUT), pytest.warns(WorkerLostWarning):
                result = minimize(objective, **RUN, **how, timeout=TIMEOUT, checkpoint=path)
        finally:
            released.set()
    assert (result.status, result.success, result.nlost) == (8, False, 2)
    resumed = minimize(sphere, **RUN, checkpoint=path, resume=True)
    assert resumed.nfev == BUDGET


def test_time_in_the_queue_of_a_shared_executor_does_not_count(tmp_path, watched):
    with ThreadPoolExecutor(1) as executor:
        executor.submit(time.sleep, 2 * TIMEOUT)
        with watched(2 * TIMEOUT):
            result = minimize(sphere, **RUN, workers=executor, timeout=TIMEOUT)
    assert result.nlost == 0
    assert_same_run(result)


def test_the_time_that_a_pool_takes_to_start_is_not_the_evaluations(tmp_path, watched):
    """A process pool says that its first jobs run while their processes start."""
    objective = Unloadable(tmp_path, "sleep", 1)
    with watched(2.0), process_pool(1) as executor:
        result = minimize(objective, **RUN, workers=executor, timeout=TIMEOUT)
    assert result.nlost == 0
    assert_same_run(result)


class Silent(Executor):
    """An executor of which nobody learns what is running, as Dask's."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads)

    def submit(self, fn, /, *args, **kwargs):
        outer: Future = Future()

        def copy(inner):
            if outer.set_running_or_notify_cancel():
                outer.set_result(inner.result())

        self._threads.submit(fn, *args, **kwargs).add_done_callback(copy)
        return outer

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._threads.shutdown(wait, cancel_futures=cancel_futures)


def test_a_hang_is_given_up_in_an_executor_that_does_not_tell_what_runs(tmp_path, watched):
    released = threading.Event()
    objective = faulty(tmp_path, "hang", 3, released=released)
    with Silent(2) as executor:
        try:
            with watched(TIMEOUT), pytest.warns(WorkerLostWarning):
                result = minimize(objective, **RUN, workers=executor, timeout=TIMEOUT)
        finally:
            released.set()
    assert_same_run(result, lost=3)


class Wrapped(Executor):
    """One thread behind an executor that claims two and is not known to tell what runs."""

    _max_workers = 2

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    def submit(self, fn, /, *args, **kwargs):
        return self._thread.submit(fn, *args, **kwargs)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._thread.shutdown(wait, cancel_futures=cancel_futures)


def test_what_waits_behind_a_hang_is_not_lost_and_not_waited_for_either(tmp_path, watched):
    """Two jobs are in it; the first one hangs, so that the second one never runs."""
    released = threading.Event()
    objective = faulty(tmp_path, "hang", 0, released=released)
    path = tmp_path / "run.npz"
    with Wrapped() as executor:
        try:
            with watched(2 * TIMEOUT), pytest.warns(WorkerLostWarning):
                result = minimize(
                    objective, **RUN, workers=executor, timeout=TIMEOUT, checkpoint=path
                )
        finally:
            released.set()
    assert (result.status, result.nlost, result.nfev) == (8, 1, 0)
    assert_same_run(minimize(sphere, **RUN, checkpoint=path, resume=True), lost=0)


@pytest.mark.parametrize("fault", ["SIGKILL", "os._exit"])
def test_a_pool_of_the_callers_that_breaks_is_an_error_and_what_was_finished_is_kept(
    fault, tmp_path, watched
):
    path = tmp_path / "run.npz"
    objective = faulty(tmp_path, fault, 11)
    with watched(), process_pool(1) as executor, pytest.raises(BrokenProcessPool) as caught:
        minimize(objective, **RUN, workers=executor, checkpoint=path)
    assert "the executor given as workers" in " ".join(caught.value.__notes__)
    assert BGS.load(path).num_evaluations == 11
    assert_same_run(minimize(sphere, **RUN, checkpoint=path, resume=True))


def shut_down(executor):
    executor.shutdown()


def break_(executor):
    with pytest.raises(BrokenProcessPool):
        executor.submit(os._exit, 1).result()


@pytest.mark.parametrize(
    ("make", "spoil", "error"),
    [
        (ThreadPoolExecutor, shut_down, RuntimeError),
        (process_pool, shut_down, RuntimeError),
        (process_pool, break_, BrokenProcessPool),
    ],
)
def test_an_executor_that_takes_no_jobs_is_an_error_before_anything_is_evaluated(
    make, spoil, error, tmp_path, watched
):
    path = tmp_path / "run.npz"
    with watched(), make(1) as executor:
        spoil(executor)
        with pytest.raises(error) as caught:
            minimize(faulty(tmp_path, "raise"), **RUN, workers=executor, checkpoint=path)
    assert "the executor given as workers" in " ".join(caught.value.__notes__)
    assert not path.exists()
    assert list(tmp_path.glob("worker-*")) == []


def test_an_executor_that_is_shut_down_during_a_run_is_an_error_and_the_run_is_kept(
    tmp_path, watched
):
    path = tmp_path / "run.npz"
    with ThreadPoolExecutor(1) as executor:

        def objective(x):
            if x.tobytes() == expected()["points"][5]:
                executor.shutdown(wait=False, cancel_futures=True)
            return sphere(x)

        with watched(), pytest.raises((RuntimeError, Exception)) as caught:
            minimize(objective, **RUN, workers=executor, checkpoint=path)
    assert "the executor given as workers" in " ".join(caught.value.__notes__)
    assert BGS.load(path).num_evaluations == 6
    assert_same_run(minimize(sphere, **RUN, checkpoint=path, resume=True))


# ---- the evaluations of the point that is returned


NOISY = {
    "x0": np.ones(3), "sigma": 0.3, "seed": 2, "optimizer": "clipup", "noisy": True,
    "budget": 1000,
}  # fmt: skip


def test_what_is_under_way_when_the_run_ends_no_longer_matters(watched):
    """A value reaches the target; the one beside it fails while the result is evaluated."""
    final, calls = threading.Event(), []

    def objective(x):
        calls.append(x)
        if x is calls[0]:
            assert final.wait(FOREVER)
            raise PlainError("too late")
        if not np.array_equal(x, np.ones(3)):
            return 0.0
        final.set()
        time.sleep(0.1)
        return 3.0

    with watched(2.0), in_threads() as how:
        result = minimize(objective, **NOISY, **how, target=0.5)
    assert result.success
    assert result.fun == 3.0
    assert result.fun_error == 0.0


def test_a_hang_at_the_returned_point_is_given_up(watched):
    released, calls = threading.Event(), []

    def objective(x):
        calls.append(x)
        if len(calls) > 990:
            released.wait(FOREVER)
        return sphere(x)

    with ThreadPoolExecutor(1) as executor:
        try:
            with watched(2 * TIMEOUT), pytest.warns(WorkerLostWarning) as caught:
                result = minimize(objective, **NOISY, workers=executor, timeout=TIMEOUT)
        finally:
            released.set()
    assert len(caught) == 1
    assert (result.success, result.nfev, result.nlost) == (True, 990, 1)
    assert np.isfinite(result.fun)


def test_an_error_wins_over_a_bad_value_that_came_with_it(tmp_path, watched):
    path = tmp_path / "run.npz"
    given = {**RUN, "noisy": None, "options": Options(noisy=False, on_failure="raise")}

    def objective(x):
        if x.tobytes() == expected()["points"][0]:
            raise PlainError("first")
        return np.nan if x.tobytes() == expected()["points"][3] else sphere(x)

    with watched(), pytest.raises(PlainError, match="first"):
        minimize(objective, **given, workers=Instant(), checkpoint=path)
    assert BGS.load(path).num_evaluations == 6


# ---- Ctrl-C


@pytest.mark.parametrize(
    ("mode", "position"),
    [(mode, position) for mode in ("serial", "threads") for position in POSITIONS]
    + [("processes", "middle")]
    + [slow("processes", position) for position in ("first", "last")],
)
def test_keyboard_interrupt_from_the_objective_ends_the_run_and_it_resumes(
    mode, position, tmp_path, watched
):
    path = tmp_path / "run.npz"
    objective = faulty(tmp_path, "KeyboardInterrupt", POSITIONS[position])
    with watched(), MODES[mode]() as how:
        result = minimize(objective, **RUN, **how, checkpoint=path)
    assert (result.status, result.success) == (7, False)
    generation = POSITIONS[position] // 8  # the other thread goes on to its end
    assert result.nfev < 8 * (generation + 1)
    assert_same_run(minimize(sphere, **RUN, checkpoint=path, resume=True))


CHILD = """
import json, pathlib, pickle, sys
from concurrent.futures import ThreadPoolExecutor
from bgs_opt import minimize
from tests.objectives import RUN
if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    how = json.loads(sys.argv[2])
    threads = how.pop("threads", None)
    if threads:
        how["workers"] = ThreadPoolExecutor(threads)
    fun = pickle.loads((folder / "objective").read_bytes())
    print("ready", flush=True)
    result = minimize(fun, **RUN, **how, checkpoint=folder / "run.npz")
    print(json.dumps([result.status, result.success, result.nfev]), flush=True)
"""


@contextlib.contextmanager
def child(folder: Path, objective, how: dict):
    """A new program that runs minimize, in a group of its own like a program of a terminal."""
    (folder / "objective").write_bytes(pickle.dumps(objective))
    script = folder / "script.py"
    script.write_text(CHILD)
    # coverage would write warnings of its own when it is killed
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    program = subprocess.Popen(
        [sys.executable, str(script), str(folder), json.dumps(how)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**plain, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
    )  # fmt: skip
    try:
        assert program.stdout.readline() == "ready\n"
        yield program
    finally:
        for pid in [program.pid, *children(program.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        program.communicate()


def wait_for(condition) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


HOW = {"serial": {}, "threads": {"threads": 1}, "processes": {"workers": 2}}


@pytest.mark.parametrize(
    ("mode", "position"),
    [(mode, "middle") for mode in HOW]
    + [slow(mode, place) for mode in ("serial", "processes") for place in ("first", "last")],
)
def test_ctrl_c_ends_a_program_that_resumes_to_the_same_bits(mode, position, tmp_path, watched):
    """The terminal sends it to the whole process group."""
    objective = faulty(tmp_path, "hang", POSITIONS[position])
    if mode == "threads":  # a thread cannot be stopped: it ends by itself
        objective = faulty(tmp_path, "straggler", POSITIONS[position])
    with watched(1.0, starts=8), child(tmp_path, objective, HOW[mode]) as program:
        wait_for(objective.tried)
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate()
    assert program.returncode == 0, err
    status, success, nfev = json.loads(out)
    assert (status, success) == (7, False)
    generation = POSITIONS[position] // 8  # two workers go on to its end
    if mode == "processes":
        assert nfev < 8 * (generation + 1)
    else:  # the straggler may come in the moment that it has
        assert nfev - POSITIONS[position] in {0, mode == "threads"}
    assert err == ""  # no worker complains
    assert_same_run(minimize(sphere, **RUN, checkpoint=tmp_path / "run.npz", resume=True))


@pytest.mark.parametrize("delay", [slow(0.0), 0.2])
def test_ctrl_c_while_workers_start(delay, tmp_path, watched):
    with watched(1.0, starts=8), child(tmp_path, sphere, {"workers": 3}) as program:
        wait_for(lambda: children(program.pid))
        time.sleep(delay)
        workers = children(program.pid)
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate()
    assert program.returncode == 0, err
    assert err == ""
    assert json.loads(out)[0] in (7, 0)
    assert gone(workers)
    assert_same_run(minimize(sphere, **RUN, checkpoint=tmp_path / "run.npz", resume=True))


# ---- the program itself dies


@pytest.mark.parametrize(
    ("fault", "position"),
    [(fault, "middle") for fault in LETHAL]
    + [slow(fault, position) for fault in LETHAL for position in ("first", "last")],
)
def test_a_program_that_dies_resumes_to_the_same_bits(fault, position, tmp_path, watched):
    objective = faulty(tmp_path, fault, POSITIONS[position])
    how = {"checkpoint_seconds": 0}
    with watched(starts=8), child(tmp_path, objective, how) as program:
        program.communicate()
    assert program.returncode in (-signal.SIGKILL, -signal.SIGSEGV, 5)
    assert_same_run(minimize(objective, **RUN, checkpoint=tmp_path / "run.npz", resume=True))
    assert objective.tried() == 2


@pytest.mark.parametrize("state", ["working", "starting"])
def test_workers_end_by_themselves_when_their_parent_is_killed(state, tmp_path, watched):
    """One is busy for ever, with a program that it started, and the other one is idle soon."""
    path = tmp_path / "run.npz"
    objective = faulty(tmp_path, "start a program and hang", 7)
    with watched(GRACE, starts=8), child(tmp_path, objective, {"workers": 2}) as program:
        wait_for(lambda: len(children(program.pid)) == 2)
        if state == "working":
            wait_for(lambda: len(list(tmp_path.glob("finished-*"))) == 7)
        else:
            wait_for(path.exists)
        workers = children(program.pid)
        os.kill(program.pid, signal.SIGKILL)
        assert len(workers) == 2
        assert gone(workers)
    resumed = minimize(sphere, **RUN, checkpoint=path, resume=True)
    assert_same_run(resumed)
