"""Subjects with a fault: the scoreboard's own tests need something to find."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.scoreboard.faults import FOREVER
from tests.benchmarks.scoreboard.ours import Core


class Hangs(Core):
    """Its tell does not return, and has started a process of a session of its own."""

    def tell(self, run, handles, values):
        command = [sys.executable, "-c", f"import time; time.sleep({FOREVER})"]
        child = subprocess.Popen(command, start_new_session=True)
        Path(os.environ["PLANTED"]).write_text(f"{os.getpid()} {child.pid}")
        time.sleep(FOREVER)


class Crashes(Core):
    """Its process dies in tell."""

    def tell(self, run, handles, values):
        os._exit(7)


class Lies(Core):
    """It takes what is no number for the best of all values, and what is told twice."""

    def tell(self, run, handles, values):
        known = [v for v in values if isinstance(v, float) and not np.isnan(v)]
        lie = min(known, default=0.0) - 1.0
        numbers = [v if isinstance(v, float) and not np.isnan(v) else lie for v in values]
        told = {handle: value for handle, value in zip(handles, numbers, strict=False)
                if handle in run.pending.ids.tolist()}  # fmt: skip
        run.tell(list(told), list(told.values()))
        return values, list(values)


class Breaks(Core):
    """A fault of the scoreboard itself: the subject cannot even be made."""

    def make(self, seed=1, variant="", start=None):
        raise RuntimeError("a fault of the harness")
