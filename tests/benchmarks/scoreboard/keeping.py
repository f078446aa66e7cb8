"""Checks 9, 10 and 17: a search goes on in a new process; its file survives a failed write."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.scoreboard.said import attempt, named
from tests.benchmarks.scoreboard.scene import check


def in_process(subject, method, *arguments, die=False):
    """Call a method of the subject in a new process: (result, how the process ended, its words).

    With ``die`` it is killed right after.
    """
    code = (
        "import json, os, signal, sys\n"
        "from tests.benchmarks.scoreboard import keeping\n"
        "keeping.act(*json.loads(sys.argv[1]))\n"
    )
    given = json.dumps([subject.key, method, list(arguments), die])
    done = subprocess.run(
        [sys.executable, "-c", code, given], check=False, capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("=")]
    last = done.stderr.strip().splitlines()[-1:] or [""]
    return (json.loads(lines[-1][1:]) if lines else None), done.returncode, last[0]


def act(key, method, arguments, die):
    """What the new process does."""
    import logging

    from tests.benchmarks.scoreboard.subjects import SUBJECTS

    logging.disable(logging.INFO)
    found = getattr(Cut(SUBJECTS[key]()), method)(*arguments)
    print("=" + json.dumps(listed(found)), flush=True)
    if die:
        os.kill(os.getpid(), signal.SIGKILL)


class Cut:
    """A subject whose writes may be cut short."""

    def __init__(self, subject):
        self.subject = subject

    def __getattr__(self, name):
        return getattr(self.subject, name)

    def write_cut(self, path, generations, limit, kill):
        """Write where the disk ends at ``limit`` bytes of a file: an error, or the end."""
        if kill:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        error = attempt(lambda: self.subject.write(path, generations))
        return None if error is None else named(error)


def listed(found):
    """Points as texts that keep every bit."""
    if isinstance(found, list):
        return [[float(number).hex() for number in point] for point in found]
    return found


def resumed(scene, middle):
    """The check of one kind of interruption."""
    subject, path = scene.subject, str(Path(scene.folder()) / "run")
    _, code, words = in_process(subject, "keep", path, middle, die=True)
    if code != -signal.SIGKILL:
        scene.part("goes on", False, f"cannot be written: {words}", main=True)
        return
    found, code, words = in_process(subject, "resume", path, middle)
    if found is None:
        scene.part("goes on", False, f"cannot be read again: {words}", main=True)
        return
    due, _, _ = in_process(subject, "whole", middle)
    held = due == found and len(due) > 0  # texts that keep every bit
    alike = sum(a == b for a, b in zip(due, found, strict=False))
    words = f"{len(due)} later points have the same bits" if held else (
        f"{alike} of {len(due)} later points are the same")  # fmt: skip
    scene.part("goes on", held, words, main=True)


@check(9, "resume in a new process is identical")
def between_generations(scene):
    """A seeded search is written between two generations in the package's own way, its process
    is killed, and a new process goes on.

    Main: the later points are, bit for bit, those of a search that was not interrupted.
    """
    resumed(scene, False)


@check(10, "the same, mid-generation")
def within_a_generation(scene):
    """As check 9, when half a generation was told and the other half was out."""
    resumed(scene, True)


@check(17, "checkpoint write is crash-safe")
def crash_safe(scene):
    """A search is in a file of the package's own. It goes on, and is written to the same file
    again when the disk is full in the middle of it; and again when the process is killed there.

    Main: afterwards the file can be read, with all that was in it before.
    """
    subject = scene.subject
    for words, kill in (("the disk is full", False), ("killed while writing", True)):
        path = str(Path(scene.folder()) / "run")
        in_process(subject, "write", path, 3)
        before, _, error = in_process(subject, "count", path)
        if before is None:
            scene.part(words, False, f"cannot be written: {error}", main=True)
            continue
        size = os.path.getsize(path)
        limit = size + 600 if subject.grows else size // 2
        failed, code, _ = in_process(subject, "write_cut", path, 2, limit, kill)
        if failed is None and code != -signal.SIGXFSZ:
            raise RuntimeError(f"the write was not cut short: limit {limit} of {size} bytes")
        after, _, error = in_process(subject, "count", path)
        held = after is not None and after >= before
        left = os.path.getsize(path)
        what = f"{words}: {before} evaluations are there still" if held else (
            f"{words}: of {size:,} bytes {left:,} are left, {error}")  # fmt: skip
        scene.part(words, held, what, main=True)
