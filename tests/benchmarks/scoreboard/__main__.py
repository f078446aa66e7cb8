"""18 checks of reliability, run live against bgs_opt, its adapters and the peers installed.

    python -m tests.benchmarks.scoreboard [--subjects NAME ...] [--checks N ...] [--jobs 2]
        [--quick] [--json FILE] [--write | --page FILE] [--check]

Each check of each subject is a process of its own with a deadline; one that does not end by then
is killed with all that it started. ok: every part of the check holds; x: what the check is about
does not, or nothing does; ~: some of it holds; -: the interface has no such thing; ?: the
scoreboard itself failed. What a check demands stands in its docstring, once, for everybody.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks import _table
from tests.benchmarks.scoreboard.page import PACKAGES, page_of
from tests.benchmarks.scoreboard.scenario import CHECKS
from tests.benchmarks.scoreboard.scene import mark_of, words_of
from tests.benchmarks.scoreboard.subjects import NAMES, SUBJECTS

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "scoreboard.md"
SCENARIO = "tests.benchmarks.scoreboard.scenario"


def outcome(key, number, *, quick=False, seconds=None):
    """Mark and words of one check of one subject, run in a process of its own."""
    subject = SUBJECTS[key]()
    if number in subject.lacks:
        return "-", subject.lacks[number]
    limit = (seconds or CHECKS[number][2]) + subject.start_seconds
    folder = Path(tempfile.mkdtemp(prefix="board-"))
    lines = folder / "lines"
    env = {**os.environ, "TMPDIR": str(folder), "RAY_TMPDIR": tempfile.gettempdir()}
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        env[name] = "1"
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env["PYTHONPATH"] = os.pathsep.join(path)
    child = subprocess.Popen(
        [sys.executable, "-m", SCENARIO, key, str(number), str(lines), *["quick"] * quick],
        cwd=folder, env=env, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        status = child.wait(limit)
    except subprocess.TimeoutExpired:
        status = None
    finally:
        end(child)
    found = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    shutil.rmtree(folder, ignore_errors=True)
    return judged(found, status, limit)


def judged(found, status, limit):
    """Mark and words of what a scenario wrote, and how it ended (None: it did not)."""
    broken = [line["broken"] for line in found if "broken" in line]
    if broken:
        return "?", f"the scoreboard itself failed: {broken[0].strip().splitlines()[-1]}"
    if any("done" in line for line in found):
        return mark_of(found), words_of(found)
    last = [line["now"] for line in found if "now" in line][-1:]
    how = f"hangs (no return in {limit:g} s)" if status is None else (
        f"its process died of signal {-status}" if status < 0 else
        f"its process ended with status {status}")  # fmt: skip
    return "x", "; ".join([*last, how])


def end(child):
    """Kill a process with its group and with whoever descends from it."""
    others = descendants(child.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    for other in others:
        with contextlib.suppress(ProcessLookupError):
            os.kill(other, signal.SIGKILL)
    child.wait()


def descendants(process):
    """Processes that a process has started, and those that they have, where /proc tells."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found, new = set(), {process}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def arguments(argv):
    parser = _table.parser(__doc__)
    who = f"some of {', '.join(NAMES)}; by default all that are installed"
    parser.add_argument(
        "--subjects", nargs="+", choices=NAMES, default=None, metavar="NAME", help=who
    )
    numbers = sorted(CHECKS)
    parser.add_argument("--checks", nargs="+", type=int, choices=numbers, default=numbers,
                        metavar="N", help="numbers of checks; by default all 18")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="checks at the same time")
    parser.add_argument("--write", action="store_true", help="write docs/scoreboard.md")
    parser.add_argument("--page", type=Path, default=None, metavar="FILE", help="write it there")
    return parser.parse_args(argv)


def run(keys, numbers, *, jobs=1, quick=False):
    """Outcomes by (subject, check)."""
    tasks = [(key, number) for key in keys for number in numbers]
    done = {}
    with ThreadPoolExecutor(jobs) as pool:
        futures = {task: pool.submit(outcome, *task, quick=quick) for task in tasks}
        for task, future in futures.items():
            done[task] = future.result()
            mark, words = done[task]
            name = SUBJECTS[task[0]]().name
            print(f"{name:14} {task[1]:2} {mark:2}  {words}", file=sys.stderr, flush=True)
    return done


def score(found, key, numbers):
    """Checks passed, and checks that apply."""
    marks = [found[key, number][0] for number in numbers]
    return marks.count("ok"), len(marks) - marks.count("-")


def due(found, keys, numbers):
    """The figures that are due: in words, and whether each holds."""
    checks = []
    passed = {key: score(found, key, numbers)[0] for key in keys}
    if "core" in keys:
        checks.append((f"bgs_opt passes {passed['core']} of {len(numbers)} checks",
                       passed["core"] == len(numbers)))  # fmt: skip
        peers = [key for key in keys if not SUBJECTS[key]().ours]
        if peers:
            best = max(peers, key=passed.get)
            checks.append((f"the best peer, {SUBJECTS[best]().name}, passes {passed[best]}",
                           passed[best] <= passed["core"]))  # fmt: skip
    failed = [task for task, (mark, _) in found.items() if mark == "?"]
    checks.append((f"checks in which the scoreboard itself failed: {failed or 'none'}",
                   not failed))  # fmt: skip
    return checks


def main(argv=None):
    """Run the scoreboard."""
    options = arguments(argv)
    keys, numbers = options.subjects, options.checks
    if keys is None:
        keys = [key for key in NAMES if SUBJECTS[key]().installed()]
    found = run(keys, numbers, jobs=options.jobs, quick=options.quick)
    names = [SUBJECTS[key]().name for key in keys]
    rows = [[f"{number:2} {CHECKS[number][0]}", *(found[key, number][0] for key in keys)]
            for number in numbers]  # fmt: skip
    totals = [score(found, key, numbers) for key in keys]
    rows.append(["passed / applicable", *(f"{passed}/{count}" for passed, count in totals)])
    path = options.page or (PAGE if options.write else None)
    if path is not None:
        path.write_text(page_of(found, keys, numbers, totals), "utf-8")
    status = _table.finish(options, ["check", *names], rows, due(found, keys, numbers),
                           packages=PACKAGES)  # fmt: skip
    if options.json is not None:
        content = json.loads(options.json.read_text())
        content["outcomes"] = [
            {"subject": key, "check": number, "mark": mark, "words": words}
            for (key, number), (mark, words) in found.items()
        ]
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
