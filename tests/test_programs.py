"""External programs that print without end, do not read, leave something behind, or survive us."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from bgs_opt import programs
from bgs_opt.errors import BGSWarning
from bgs_opt.objectives import ProgramError
from bgs_opt.programs import KEPT, Watchdog, answer, kill
from tests.helpers import python
from tests.test_cli import PYTHON, SLEEPER, alive, gone, pids_in, value_of

AS_MUCH = 64 << 20


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printing(code: str) -> str:
    return f"{PYTHON} -c 'import sys; w = sys.stdout.write; {code}'"


MEMORY = """
import resource, sys
import numpy as np
from bgs_opt.objectives import Program

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
value = Program(sys.argv[1])(np.zeros(1))
print(value, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / before)
"""


def test_much_output_takes_no_memory_and_its_last_number_counts():
    line = 'w("9 " * 500 + chr(10))'
    code = f"[{line} for _ in range({AS_MUCH // 1000})]; w(str(0.125))"
    value, grown = map(float, python(MEMORY, printing(code)).split())
    assert value == 0.125
    assert grown < 0.5  # of some 40 MB


@pytest.mark.parametrize("behind", [9, KEPT - 5, KEPT - 4, KEPT - 3, KEPT - 1, KEPT, KEPT + 9])
@pytest.mark.parametrize("space", [" ", ","])
def test_a_number_is_used_whole_or_not_at_all(space, behind):
    command = printing(f"w(str(12.5) + chr({ord(space)})); w(chr(120) * ({behind} - 1))")
    if behind <= KEPT - 4:
        assert value_of(command) == 12.5
    else:
        with pytest.raises(ProgramError, match="printed no number"):
            value_of(command)


def test_one_long_line_has_a_last_number_too():
    code = 'w("[" + ",".join(["0.25"] * 30000) + ",0.5]")'
    assert value_of(printing(code)) == 0.5


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


LEAVER = (
    f"{PYTHON} -c 'import os, subprocess, sys, time; print(6, flush=True); "
    "p = subprocess.Popen(sys.argv[1:], start_new_session=True); "
    'open("pids", "w").write(str(p.pid) + chr(10))\' sleep 60'
)


def test_what_has_left_the_group_is_not_waited_for_after_the_timeout():
    with pytest.warns(BGSWarning, match=r"gave no value within 3 s"):
        value_of(LEAVER, timeout=3, retries=0)
    (pid,) = pids_in("pids", 1)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_an_error_on_the_way_kills_the_program(monkeypatch):
    def fails(*arguments, **options):
        raise OSError("too many open files")

    monkeypatch.setattr(programs.threading.Thread, "start", fails)
    with pytest.raises(OSError, match="too many open files"):
        value_of("sleep 60")


def test_programs_leave_no_descriptor_and_no_thread_behind():
    value_of("echo 1")
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(20):
        assert value_of("cat", x=(1.0,)) == 1
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_a_program_without_pipes_is_refused():
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            with pytest.raises(ValueError, match="pipes for stdout and stderr"):
                answer(process, None, None)
        finally:
            kill(process)


def killed(command: str, lines: int) -> list[int]:
    """Kill a run at once when its programs have written so many lines; their process ids."""
    words = "minimize --dim 2 --workers 2 --checkpoint run.npz --quiet --command"
    process = subprocess.Popen(
        [sys.executable, "-m", "bgs_opt", *words.split(), command], stderr=subprocess.PIPE
    )
    with process:
        pids = pids_in("pids", lines)
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        assert gone(pids)
        assert process.stderr.read() == b""  # at its end: nobody holds the pipe
    return pids


def test_no_program_outlives_a_run_that_is_killed():
    assert len(killed(SLEEPER, 2)) == 4


def test_not_even_one_that_is_just_being_started():
    """The run may die before it has heard that the program runs."""
    for _ in range(5):
        killed(SLEEPER, 1)
        Path("pids").unlink()
        Path("run.npz").unlink()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="it is known by its mark")
def test_not_even_what_has_left_the_group():
    killed(LEAVER, 1)


def test_the_watchdog_lets_go_of_what_has_ended():
    watchdog = Watchdog()
    number, environment = watchdog.starting()
    watching = watchdog._process.pid
    with subprocess.Popen(["sleep", "60"], start_new_session=True, env=environment) as other:
        watchdog.started(number, other)
        watchdog.ended(number)
        watchdog.close()
        assert gone([watching])
        assert other.poll() is None
        watchdog.ended(number)  # too late: nobody listens
        kill(other)


def test_the_watchdog_kills_what_has_not():
    watchdog = Watchdog()
    number, environment = watchdog.starting()
    with (
        subprocess.Popen(["sleep", "60"], start_new_session=True, env=environment) as other,
        subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger,
    ):
        watchdog.started(number, other)
        watchdog.close()
        assert other.wait(10) == -signal.SIGKILL
        assert stranger.poll() is None
        kill(stranger)
