"""One check of one subject, as a process of its own: scenario SUBJECT CHECK FILE [quick]."""

import logging
import os
import sys
import traceback
import warnings

from tests.benchmarks.scoreboard import books, keeping, kinds, values, workers
from tests.benchmarks.scoreboard.scene import CHECKS, Scene
from tests.benchmarks.scoreboard.subjects import SUBJECTS

MODULES = (books, keeping, kinds, values, workers)  # they register their checks


def main(argv):
    """Run it; the last line of the file says that it came to its end."""
    key, number, path, *rest = argv
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    with open(path, "a", encoding="utf-8") as out:
        scene = Scene(SUBJECTS[key](), int(number), out, quick="quick" in rest)
        try:
            CHECKS[scene.number][1](scene)
        except Exception:
            scene.write(broken=traceback.format_exc())
            return 1
        scene.write(done=True)
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
    os._exit(status)  # nothing is waited for that a check has left behind
