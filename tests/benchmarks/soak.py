"""Hours of asking, telling and minimizing on one core: memory stays flat, every count is right.

    python -m tests.benchmarks.soak [--minutes 120] [--quick] [--json FILE] [--check]

Two programs share one core for all of that time:

    ask, tell   one BGS of 10,000 numbers: generations that are grown, told in random parts and
                orders, some values NaN, some lost, some told generations later, some twice;
                calls that are refused; a save every minute
    minimize    runs with two worker processes, one after the other; in each one a worker is killed

A shadow count of our own is kept beside each: the first has to agree with ``BGS.counts`` after
every generation, the second with ``nfev`` and with the bits of the first run after every run. The
private memory of both (what a process wrote, without pages of files) is taken every second. After
a fifth of the time, which is warm-up, it is averaged over 40 stretches, and a line is fitted to
these: its slope should be zero within a 95 % interval (Student's t), or too small to matter.
Beside it stand what of it is alive, in the C library's heap and in Python's blocks: gaps between
them are no leak. Open files, threads and child processes are compared with those after the
warm-up.

The loops that are watched make no ``Path``: its parts are interned, and the table of interned
strings of the interpreter doubles once, by a MiB, when many different ones have come and gone.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np

from bgs_opt import BGS, Options, minimize
from bgs_opt.candidates import SLOT_BITS
from bgs_opt.errors import DuplicateTellError, StaleCandidateError, UnknownCandidateError
from bgs_opt.update import LATE_WINDOW
from tests.benchmarks import _table
from tests.benchmarks._memory import in_use, private, trim

DIM, BUDGET = 10_000, 1_000
STRETCHES, WARM_UP = 40, 0.2
NEGLIGIBLE = 64.0
"""KiB an hour: so little is no leak, however sure the slope."""


# ---- memory, and what else may leak


class Watch:
    """The private memory of this process, every second, and other things that may leak."""

    def __init__(self, minutes):
        self.begun, self.seconds = time.monotonic(), 60 * minutes
        self.samples = np.full((int(self.seconds) + 100, 4), np.nan)  # a list would grow
        self.number, self.others = 0, {}

    @property
    def left(self):
        return self.begun + self.seconds - time.monotonic()

    def look(self):
        """Take the memory, where a second has gone by."""
        now = time.monotonic() - self.begun
        if not self.number or now - self.samples[self.number - 1, 0] >= 1:
            trim()
            self.samples[self.number] = (
                now, private() / 1024, in_use() / 1024, sys.getallocatedblocks()
            )  # fmt: skip
            self.number += 1

    def count(self):
        """Note what is open after the warm-up, and the most of it since."""
        if time.monotonic() - self.begun < WARM_UP * self.seconds:
            return
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            children = file.read().split()
        now = {
            "files": len(os.listdir("/proc/self/fd")),
            "threads": threading.active_count(),
            "children": len(children),
        }
        for name, number in now.items():
            first, most = self.others.get(name, (number, number))
            self.others[name] = first, max(most, number)

    def result(self):
        at, kib, used, blocks = self.samples[: self.number].T.tolist()
        return {"at": at, "kib": kib, "used": used, "blocks": blocks, "others": self.others}


def stretches(at, kib, seconds):
    """Hours at the middle of each stretch after the warm-up, and the mean there."""
    at, kib = np.array(at), np.array(kib)
    edges = np.linspace(WARM_UP * seconds, max(at[-1], seconds), STRETCHES + 1)
    places = np.digitize(at, edges[1:-1]), at >= edges[0]
    parts = [(places[0] == n) & places[1] for n in range(STRETCHES)]
    middle = np.array([at[part].mean() for part in parts if part.any()]) / 3600
    means = np.array([kib[part].mean() for part in parts if part.any()])
    return middle, means


def slope(hours, means):
    """KiB an hour and its 95 % interval."""
    from scipy.stats import linregress, t

    fit = linregress(hours, means)
    half = t.ppf(0.975, len(means) - 2) * fit.stderr
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


# ---- ask and tell, against a count of our own


class Shadow:
    """What was asked and told, by id, of the generations that are known."""

    def __init__(self):
        self.status = {}  # id -> "asked", "told", "lost" or "told late" (after it was lost)
        self.values = {}
        self.counts = dict.fromkeys(("evaluations", "late", "failed", "discarded", "skipped"), 0)

    def tell(self, names, values, number):
        for name, value in zip(names, values, strict=True):
            if self.status[name] in ("told", "told late"):
                continue
            self.status[name] = "told" if self.status[name] == "asked" else "told late"
            self.values[name] = value
            self.counts["evaluations"] += 1
            self.counts["late"] += name >> SLOT_BITS != number
            self.counts["failed"] += not math.isfinite(value)

    def discard(self, names):
        for name in names:
            if self.status[name] == "asked":
                self.status[name] = "lost"
                self.counts["discarded"] += 1

    def out(self, number):
        """Ids of the open generation that are neither told nor lost."""
        return [i for i, s in self.status.items() if s == "asked" and i >> SLOT_BITS == number]

    def forget(self, number):
        """Let go of what is too old to be told."""
        for name in [i for i in self.status if i >> SLOT_BITS < number - LATE_WINDOW]:
            del self.status[name]
            self.values.pop(name, None)


def value_of(rng):
    """Mostly a number, now and then one that is not."""
    return float(rng.choice([math.nan, math.inf, -math.inf]) if rng.random() < 0.03
                 else rng.normal())  # fmt: skip


def one_generation(opt, shadow, rng, kept):
    """Tell and lose random parts until the generation closes; keep some for later ones."""
    number = opt.generation
    more = 2 * int(rng.integers(0, 6))
    asked = opt.ask(opt.needed + more)
    next(iter(asked))  # a point is made, as for an objective
    names = asked.ids.tolist()
    shadow.status |= dict.fromkeys(names, "asked")
    kept += [int(i) for i in rng.choice(names, more // 2, replace=False)] if more else []
    refused = 0
    while opt.generation == number:
        out = shadow.out(number)
        todo = [i for i in out if i not in kept] or out
        part = rng.choice(todo, int(rng.integers(1, len(todo) + 1)), replace=False).tolist()
        if rng.random() < 0.05:
            lost = part[:1]
            opt.discard(lost)
            shadow.discard(lost)
            part = part[1:]
        if len(shadow.out(number)) == 0 and opt.generation == number:  # lost too many of them
            more_names = opt.ask(max(2, opt.needed)).ids.tolist()
            shadow.status |= dict.fromkeys(more_names, "asked")
        if part:
            values = [value_of(rng) for _ in part]
            now = opt.generation  # the loss may have closed the other one
            again = [i for i in shadow.values if rng.random() < 0.02
                     and i >> SLOT_BITS >= now - LATE_WINDOW]  # fmt: skip
            opt.tell([*part, *again], [*values, *(shadow.values[i] for i in again)])
            shadow.tell(part, values, now)
        refused += refusals(opt, shadow, rng)
    late = [i for i in kept if i >> SLOT_BITS < opt.generation - int(rng.integers(1, 7))]
    kept[:] = [i for i in kept if i not in late]
    late = [
        i for i in late if i in shadow.status and i >> SLOT_BITS >= opt.generation - LATE_WINDOW
    ]
    if late:
        values = [value_of(rng) if shadow.status[i] in ("asked", "lost") else shadow.values[i]
                  for i in late]  # fmt: skip
        before = opt.generation
        opt.tell(late, values)
        shadow.tell(late, values, before)
    shadow.counts["skipped"] = opt.counts["skipped"]  # of the rule, not of the books
    shadow.forget(opt.generation)
    return refused


def refusals(opt, shadow, rng):
    """Calls that must be refused and change nothing."""
    wrong = [([(opt.generation + 1) << SLOT_BITS], [1.0], UnknownCandidateError)]
    if opt.generation > LATE_WINDOW + 1:
        old = (opt.generation - LATE_WINDOW - 2) << SLOT_BITS
        wrong.append(([old], [1.0], StaleCandidateError))
    told = [i for i in shadow.values if i >> SLOT_BITS >= opt.generation - LATE_WINDOW]
    if told:
        name = int(rng.choice(told))
        other = shadow.values[name] + 1e9 if math.isfinite(shadow.values[name]) else 0.0
        wrong.append(([name], [other], DuplicateTellError))
    names, values, error = wrong[int(rng.integers(len(wrong)))]
    try:
        opt.tell(names, values)
    except error:
        return 1
    raise SystemExit(f"{names} was not refused by {error.__name__}")


def ask_and_tell(minutes, folder):
    """One BGS for all of the time."""
    import warnings

    warnings.simplefilter("ignore")
    watch, shadow, rng, kept = Watch(minutes), Shadow(), np.random.default_rng(1), []
    opt = BGS(np.zeros(DIM), 0.1, seed=1, options=Options(late="use", max_skipped=1 << 30,
              averaging=0.99))  # fmt: skip
    refused = wrong = 0
    saved = time.monotonic()
    while watch.left > 0:
        refused += one_generation(opt, shadow, rng, kept)
        wrong += opt.counts != shadow.counts
        if time.monotonic() - saved > 60:
            opt.save(folder / "soak.npz")
            saved = time.monotonic()
        watch.look()
        watch.count()
    return watch.result() | {"wrong": wrong, "rounds": opt.generation, "refused": refused,
                             **opt.counts}  # fmt: skip


# ---- minimize


class Counted:
    """A sphere; each process appends a byte to its own file for each value that it returns."""

    def __init__(self, folder):
        self.folder, self.file, self.done = folder, None, 0

    def __call__(self, x):
        if self.file is None:
            self.file = os.open(f"{self.folder}/{os.getpid()}", os.O_CREAT | os.O_WRONLY)
        self.done += 1
        if self.done == 100:  # the first process that comes so far dies, once
            try:
                os.unlink(f"{self.folder}/kill")
                os.kill(os.getpid(), signal.SIGKILL)
            except FileNotFoundError:
                pass
        os.write(self.file, b".")
        return float(x @ x)


def minimizations(minutes, folder):
    """Runs with two workers, one after the other."""
    watch, first, wrong, rounds, killed = Watch(minutes), None, 0, 0, 0
    while watch.left > 0:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            with open(f"{name}/kill", "xb"):
                pass
            found = minimize(Counted(name), np.ones(100), sigma=0.1, budget=BUDGET, seed=1,
                             workers=2, optimizer="clipup", num_directions=8, noisy=False,
                             callback=lambda x: watch.look())  # fmt: skip
            killed += not os.path.exists(f"{name}/kill")
            with os.scandir(name) as files:
                counted = sum(file.stat().st_size for file in files if file.name.isdigit())
        bits = found.x.tobytes() + found.center.tobytes()
        first = first or bits
        wrong += (bits, counted, found.nfev, found.nlost) != (first, BUDGET, BUDGET, 0)
        rounds += 1
        watch.look()
        watch.count()
    return watch.result() | {"wrong": wrong, "rounds": rounds, "evaluations": rounds * BUDGET,
                             "killed": killed}  # fmt: skip


# ---- both, side by side


PARTS = {"ask, tell": ask_and_tell, "minimize": minimizations}


def both(minutes, folder):
    """What each of the programs printed."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.soak", "--part", name, "--minutes",
             str(minutes), "--folder", str(folder)],
            stdout=subprocess.PIPE, text=True,
        )
        for name in PARTS
    }  # fmt: skip
    try:
        return {name: json.loads(process.communicate(timeout=60 * minutes + 600)[0])
                for name, process in running.items()}  # fmt: skip
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def row_of(name, found, seconds):
    """A row of the table, and the figures that are due."""
    hours, means = stretches(found["at"], found["kib"], seconds)
    middle, low, high = slope(hours, means)
    others = found["others"]
    grown = {what: most - first for what, (first, most) in others.items()}
    row = [name, found["rounds"], found["evaluations"], found["wrong"], f"{means[0] / 1024:.1f}",
           f"{means[-1] / 1024:.1f}", f"{middle:+.1f}", f"{low:+.1f} to {high:+.1f}",
           *grown.values()]  # fmt: skip
    flat = low <= 0 <= high or abs(middle) < NEGLIGIBLE
    return row, [
        (f"{name}: memory is flat, {middle:+.1f} KiB/h ({low:+.1f} to {high:+.1f})", flat),
        (f"{name}: every count as the shadow's, {found['wrong']} wrong", found["wrong"] == 0),
        (f"{name}: no more files, threads and children than after the warm-up, {grown}",
         not any(grown.values())),
    ]  # fmt: skip


def trend(found, seconds):
    """Means of every fourth stretch in words: whether it goes on rising, or came to rest."""
    parts = []
    for words, what in (("private, KiB", "kib"), ("of the heap in use, KiB", "used"),
                        ("Python's blocks in use", "blocks")):  # fmt: skip
        _, means = stretches(found["at"], found[what], seconds)
        parts.append(f"{words} {', '.join(f'{mean:.0f}' for mean in means[::4])}")
    return "; ".join(parts)


def main(argv=None):
    made = _table.parser(__doc__)
    made.add_argument("--minutes", type=float, default=None, help="120, or 1 with --quick")
    made.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    made.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = made.parse_args(argv)
    minutes = options.minutes or (1 if options.quick else 120)
    if options.part:
        print(json.dumps(PARTS[options.part](minutes, options.folder)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = both(minutes, folder)
    done = [row_of(name, part, 60 * minutes) for name, part in found.items()]
    header = ["", "rounds", "evaluations", "wrong counts", "MiB after warm-up", "MiB at the end",
              "KiB/h", "95 % interval", "+ files", "+ threads", "+ children"]  # fmt: skip
    told = found["ask, tell"]
    facts = {name: told[name] for name in ("late", "failed", "discarded", "skipped", "refused")}
    trends = {name: trend(part, 60 * minutes) for name, part in found.items()}
    return _table.finish(
        options, header, [row for row, _ in done], [c for _, checks in done for c in checks],
        packages=("numpy", "scipy"), minutes=f"{minutes:g}, on one core",
        told=", ".join(f"{number} {name}" for name, number in facts.items()),
        workers=f"{found['minimize']['killed']} of them killed", **trends,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
