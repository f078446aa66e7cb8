"""External programs that print without end, do not read, leave something behind, or survive us."""

import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from bgs_opt.errors import BGSWarning
from bgs_opt.objectives import ProgramError
from bgs_opt.programs import KEPT, Watchdog, answer, kill
from tests.test_cli import PYTHON, SLEEPER, alive, gone, pids_in, value_of

AS_MUCH = 64 << 20


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printing(code: str) -> str:
    return f"{PYTHON} -c 'import sys; w = sys.stdout.write; {code}'"


def test_much_output_takes_no_memory_and_its_last_number_counts():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = 'w("9 " * 500 + chr(10))'
    code = f"[{line} for _ in range({AS_MUCH // 1000})]; w(str(0.125))"
    assert value_of(printing(code)) == 0.125
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < AS_MUCH / 1024 / 4


@pytest.mark.parametrize("behind", [KEPT - 2, KEPT - 1, KEPT, KEPT + 9])
def test_a_number_is_used_whole_or_not_at_all(behind):
    command = printing(f'w("12.5 "); w("x" * ({behind} - 1))')
    if behind < KEPT - 4:
        assert value_of(command) == 12.5
    else:
        with pytest.raises(ProgramError, match="printed no number"):
            value_of(command)


def test_the_first_line_of_stderr_is_told_however_much_follows():
    code = 'e = sys.stderr.write; e("first" + chr(10)); e("x" * (1 << 20)); sys.exit(3)'
    with pytest.warns(BGSWarning, match=r"ended with status 3: first; such points"):
        assert np.isnan(value_of(printing(code)))


def test_a_program_need_not_read_what_it_is_given():
    assert value_of("echo 3", np.arange(1e5)) == 3
    with pytest.warns(BGSWarning, match=r"gave no value within 0\.5 s"):
        value_of("sleep 60", np.arange(1e5), timeout=0.5, retries=0)


def test_numbers_by_stdin_arrive_however_many_they_are():
    x = np.random.default_rng(0).normal(size=100_000)
    code = "import sys; v = list(map(float, sys.stdin)); print(len(v)); print(v[-1])"
    assert value_of(f"{PYTHON} -c '{code}'", x) == x[-1]


def test_what_a_program_leaves_behind_counts_as_the_program():
    """It holds the pipe open, and may still print the value."""
    assert value_of("sh -c '(sleep 0.5; echo 7) & echo 6'") == 7
    with pytest.warns(BGSWarning, match=r"gave no value within 0\.5 s"):
        value_of("sh -c 'echo 6; sleep 60 & echo $! > pids'", timeout=0.5, retries=0)
    assert gone(pids_in("pids", 1))


def test_what_has_left_the_group_is_not_waited_for_after_the_timeout():
    with pytest.warns(BGSWarning, match=r"gave no value within 0\.5 s"):
        value_of("sh -c 'echo 6; setsid sleep 60 & echo $! > pids'", timeout=0.5, retries=0)
    (pid,) = pids_in("pids", 1)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_program_without_pipes_is_refused():
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            with pytest.raises(ValueError, match="pipes for stdout and stderr"):
                answer(process, None, None)
        finally:
            kill(process)


def test_no_program_outlives_a_run_that_is_killed():
    words = "minimize --dim 2 --workers 2 --checkpoint run.npz --quiet --command"
    process = subprocess.Popen(
        [sys.executable, "-m", "bgs_opt", *words.split(), SLEEPER], stderr=subprocess.PIPE
    )
    with process:
        pids = pids_in("pids", 2)
        assert all(map(alive, pids))
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        assert gone(pids)
        assert process.stderr.read() == b""  # at its end: nobody holds the pipe


def test_the_watchdog_ends_with_the_run():
    watchdog = Watchdog()
    number = watchdog._process.pid
    assert alive(number)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        watchdog.started(other)
        watchdog.ended(other)
        watchdog.close()
        assert gone([number])
        assert other.poll() is None  # it was told to have ended
        watchdog.started(other)  # too late: nobody listens
        kill(other)
