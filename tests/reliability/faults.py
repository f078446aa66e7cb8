"""Runs that are killed again and again, resumed until they end, and compared bit for bit.

    plan      faults by a seed: of which kind of run, what, when or in which save
    victim    a process forked from this one, leader of a session of its own; it goes on with the
              file of the run if there is one, and leaves a digest of what it found
    driver    strikes, waits no longer than a deadline, and looks for what is left behind

This process has imported everything and runs no thread, so that a fork is quick and safe.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bgs_opt import atomic, minimize
from bgs_opt.start import Keeper

DEADLINE = 120.0
"""Seconds that a process may take from its start to its end; it takes about one."""
GRACE = 5.0
"""Seconds that what a killed process leaves running may take to end."""
MARK = "BGS_OPT_FAULTS"

WITHIN = ("killed as a save begins", "killed in the middle of a save", "killed before the rename",
          "killed after the rename", "full disk", "read-only folder")  # fmt: skip
OUTSIDE = ("parent killed", "worker killed")
TURNS = {"minimize": 6, "minimize, 2 workers": 7, "train": 5, "train, 2 workers": 2}
"""How often each kind of run is struck, of 20; trainings need torch."""
if importlib.util.find_spec("torch") is None:
    TURNS = {run: turns for run, turns in TURNS.items() if "train" not in run}


class Fault(NamedTuple):
    """What strikes a run: ``at`` is a share of its time, or of its saves; ``size`` of a file."""

    run: str
    what: str
    at: float
    size: float


def plan(seed):
    """Faults without end."""
    rng = random.Random(seed)
    while True:
        turn = [run for run, count in TURNS.items() for _ in range(count)]
        rng.shuffle(turn)
        for run in turn:
            kinds = [*WITHIN, *OUTSIDE] if "workers" in run else [*WITHIN, OUTSIDE[0]]
            weights = [3 if kind in OUTSIDE else 1 for kind in kinds]
            (what,) = rng.choices(kinds, weights)
            yield Fault(run, what, rng.random(), rng.random())


# ---- the runs


def slow_sphere(x):
    """The sphere, exactly rounded; a millisecond, so that there is time to strike."""
    time.sleep(0.001)
    return float(sum((float(v) - 0.5) ** 2 for v in x))


def minimized(path, workers):
    """Digest of a whole run of minimize."""
    found = minimize(
        slow_sphere, np.linspace(-1, 1, 6), sigma=0.3, seed=5, optimizer="clipup", noisy=False,
        num_directions=8, budget=480, workers=workers, retries=10, checkpoint=path, resume=True,
        checkpoint_seconds=0,
    )  # fmt: skip
    arrays = [found.x, found.center, *found.history.values()]
    return [a.tobytes() for a in arrays], found.nfev, found.nit, found.nlost, found.fun


def trained(path, workers):
    """Digest of a whole training."""
    from bgs_opt.adapters.policy import Evaluation, train
    from tests.adapters.policies import Unscaled

    found = train(
        "linear", Unscaled, sigma=0.1, seed=5, generations=16, num_directions=4, workers=workers,
        retries=10, evaluation=Evaluation(every=8, episodes=4), checkpoint=path, resume=True,
        checkpoint_seconds=0,
    )  # fmt: skip
    tensors = [p.numpy().tobytes() for p in found.policy.state_dict().values()]
    history = [h.tobytes() for name, h in found.history.items() if name != "seconds"]
    return tensors, history, found.evaluation, found.episodes, found.steps


def outcome(run, path):
    """What a run of this kind found, in 64 characters."""
    workers = 2 if "workers" in run else 1
    found = (trained if "train" in run else minimized)(path, workers)
    return hashlib.sha256(repr(found).encode()).hexdigest()


# ---- the victim


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def replaced(owner, name, function):
    """Another function in the place of one."""
    original = getattr(owner, name)
    setattr(owner, name, functools.partial(function, original))
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextlib.contextmanager
def full_disk(limit):
    """Files may not grow beyond so many bytes."""
    free = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, free[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, free)


@contextlib.contextmanager
def read_only(folder):
    """A folder that nobody may write; root, who may, is somebody else for that time."""
    user, mode = os.geteuid(), folder.stat().st_mode
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)


def after(original, *args):
    original(*args)
    kill()


@contextlib.contextmanager
def struck(fault, path):
    """The trouble that a save meets."""
    limit = int(fault.size * (path.stat().st_size if path.exists() else 1000))
    if fault.what == "full disk":
        trouble = full_disk(limit)
    elif fault.what == "read-only folder":
        trouble = read_only(path.parent)
    elif fault.what == "killed in the middle of a save":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the system kills whoever writes on
        trouble = full_disk(limit)
    elif fault.what == "killed as a save begins":
        trouble = replaced(atomic, "_sweep", lambda original, *args: kill())
    elif fault.what == "killed before the rename":
        trouble = replaced(os, "replace", lambda original, *args: kill())
    else:
        trouble = replaced(os, "replace", after)
    with trouble:
        yield


def arm(fault, number, path, note):
    """Let a fault strike the save of this number, of this process."""
    count = 0

    def watched(original, keeper, write):
        nonlocal count
        count += 1
        if count - 1 != number:
            return original(keeper, write)
        note.write_text(fault.what)
        with struck(fault, path):
            return original(keeper, write)

    for name in ("start", "save"):
        original = getattr(Keeper, name)
        setattr(Keeper, name, lambda keeper, write, o=original: watched(o, keeper, write))


def victim(run, folder, fault, saves):
    """In the forked process: the run, from its file if there is one."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what helpers of a killed process say
    os.environ[MARK] = str(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "scratch")
    warnings.simplefilter("ignore")
    sys.modules["__main__"] = types.ModuleType("__main__")  # workers import it anew
    path = folder / "run" / "file"
    if fault is not None and fault.what in WITHIN:
        arm(fault, int(fault.at * saves), path, folder / "struck")
    code = 1
    try:
        digest = outcome(run, path)
        (folder / "result").write_text(digest)
        code = 0
    except OSError as error:
        (folder / "error").write_text(repr(error))
    except BaseException:
        (folder / "error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


# ---- the driver


def session(leader):
    """Processes of a session that are not zombies, and command line of each."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, of = (place / "stat").read_text().rpartition(")")[2].split()[:4]
            marked = MARK.encode() in (place / "environ").read_bytes()
            mine = int(of) == leader or (marked and os.getpid() != int(place.name))
            if state != "Z" and mine:
                found[int(place.name)] = (place / "cmdline").read_bytes().decode("latin-1")
    return found


def ended(pid, until):
    """Exit status of a process, or None if it has not ended by then."""
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.005)
    return None


def workers_of(pid):
    """Worker processes of a victim, as they are listed."""
    return sorted(p for p, line in session(pid).items() if "spawn_main" in line and p != pid)


def strike(pid, fault, seconds, began):
    """Kill the parent or a worker when it is time; whether something was there to be killed."""
    time.sleep(max(0.0, began + fault.at * seconds - time.monotonic()))
    if fault.what == "parent killed":
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False, True
        os.kill(pid, signal.SIGKILL)
        return True, False
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        for worker in workers_of(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                return True, False
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return False, True
        time.sleep(0.01)
    return False, False


def forked(*arguments):
    """Start a victim."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        victim(*arguments)
    return pid


class Attempt(NamedTuple):
    """How one process of a run ended."""

    finished: bool
    struck: bool
    faults: list[str]


def attempt(run, folder, fault, usual):
    """One process: started, struck, waited for, and looked after."""
    seconds, saves = usual
    for name in ("struck", "error", "result"):
        (folder / name).unlink(missing_ok=True)
    began = time.monotonic()
    pid = forked(run, folder, fault, saves)
    hit, gone = False, False
    if fault is not None and fault.what in OUTSIDE:
        hit, gone = strike(pid, fault, seconds, began)
    wrong = []
    if not gone and ended(pid, began + DEADLINE) is None:
        wrong.append(f"no end within {DEADLINE:g} s")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    hit = hit or (folder / "struck").exists()
    until = time.monotonic() + GRACE
    while (left := session(pid)) and time.monotonic() < until:
        time.sleep(0.01)
    if left:
        wrong.append(f"processes left: {left}")
        for orphan in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
    finished = (folder / "result").exists()
    if not finished and not hit:
        why = (folder / "error").read_text() if (folder / "error").exists() else "no word"
        wrong.append(f"ended by itself: {why}")
    return Attempt(finished, hit, wrong)


def prepared(root, number):
    """A new folder of a run."""
    folder = Path(root, f"run {number}")
    (folder / "run").mkdir(parents=True)
    (folder / "scratch").mkdir()
    return folder


def undisturbed(run, root):
    """Digest of a run that nothing happens to, the seconds that it takes and its saves."""
    folder = prepared(root, f"undisturbed {run}")
    began = time.monotonic()
    pid = forked(run, folder, None, 0)
    ended(pid, began + DEADLINE)
    seconds = time.monotonic() - began
    if not (folder / "result").exists():
        raise SystemExit((folder / "error").read_text())
    return (folder / "result").read_text(), (seconds, {"minimize": 20, "train": 16}[run])


def expected(root):
    """What each kind of run has to find: with workers the same as without, a little later."""
    good = {}
    for run, start in (("minimize", 1.0), ("train", 4.0)):
        if run not in TURNS:
            continue
        digest, (seconds, saves) = undisturbed(run, root)
        good[run] = digest, (seconds, saves)
        good[f"{run}, 2 workers"] = digest, (seconds + start, saves)
    return good


def leftovers(folder):
    """Files that are there and should not be."""
    found = [str(p.relative_to(folder)) for p in (folder / "run").iterdir() if p.name != "file"]
    return found + [str(p.relative_to(folder)) for p in (folder / "scratch").rglob("*")]


def campaign(kills, seed, root, log=lambda text: None):
    """Strike until so many faults have hit; counts by (run, what), and what went wrong."""
    os.chmod(root, 0o755)
    good = expected(root)
    faults = plan(seed)
    counts, wrong, runs, number, swept = Counter(), [], Counter(), 0, 0
    folders = {}
    while sum(counts.values()) < kills:
        fault = next(faults)
        run = fault.run
        if run not in folders:
            number += 1
            folders[run] = prepared(root, number)
        folder = folders[run]
        found = attempt(run, folder, fault, good[run][1])
        if found.struck:
            counts[run, fault.what] += 1
        wrong += [(fault, what) for what in found.faults]
        swept += any(p.name.endswith(".tmp") for p in (folder / "run").iterdir())
        if found.finished:
            wrong += conclude(run, folders.pop(run), good[run][0], fault)
            runs[run] += 1
        log(f"{sum(counts.values())} of {kills}: {run}, {fault.what}, {found}")
    for run, folder in folders.items():  # those that are still on their way
        found = attempt(run, folder, None, good[run][1])
        wrong += [(run, what) for what in found.faults]
        wrong += conclude(run, folder, good[run][0], run)
        runs[run] += 1
    return counts, runs, wrong, swept


def conclude(run, folder, good, fault):
    """Compare the end of a run with that of the undisturbed one."""
    wrong = []
    result = folder / "result"
    if not result.exists() or result.read_text() != good:
        wrong.append((fault, "other bits than those of the undisturbed run"))
    if left := leftovers(folder):
        wrong.append((fault, f"files left: {left}"))
    return wrong
