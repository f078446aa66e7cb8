"""The page of the scoreboard: docs/scoreboard.md."""

import re
import textwrap

from tests.benchmarks import _table
from tests.benchmarks.scoreboard.scenario import CHECKS
from tests.benchmarks.scoreboard.subjects import SUBJECTS

PACKAGES = ("bgs_opt", "numpy", "scipy", "cma", "cmaes", "optuna", "nevergrad", "evotorch",
            "torch", "ray", "gymnasium")  # fmt: skip

HEAD = """# Scoreboard

Eighteen checks of reliability, run live against bgs_opt, its adapters and other optimizers. This page is written by

```sh
python -m tests.benchmarks.scoreboard --jobs 2 --write
```

Each check of each subject is a process of its own with a deadline; one that does not end by then is killed with all that it started.
What a check demands is the same for everybody and stands below, with what was measured. The test problem is the sphere in four
dimensions, from 1 in each, with width 0.5 and eight points a generation (SciPy DE: 20), unless a check says otherwise.

- **ok**: every part of the check holds. **x**: what the check is about (its main part) does not, or nothing does. **~**: some of it holds.
- **-**: the interface has no such thing, or leaves it to the caller; the reason is given.
"""  # noqa: E501


def page_of(found, keys, numbers, totals):
    """The whole page."""
    subjects = [SUBJECTS[key]() for key in keys]
    lines = [HEAD]
    lines += [f"- {subject.name}: {subject.words}." for subject in subjects]
    known = {name: v for name, v in _table.versions(PACKAGES).items() if v != "not installed"}
    lines += ["", "Versions: " + ", ".join(f"{name} {v}" for name, v in known.items()) + ".", ""]
    lines.append("| check | " + " | ".join(subject.name for subject in subjects) + " |")
    lines.append("|---" * (len(keys) + 1) + "|")
    for number in numbers:
        marks = " | ".join(found[key, number][0] for key in keys)
        lines.append(f"| {number} {CHECKS[number][0]} | {marks} |")
    passed = " | ".join(f"**{good}/{count}**" for good, count in totals)
    lines += [f"| passed / applicable | {passed} |", ""]
    for number in numbers:
        title, function, _ = CHECKS[number]
        lines += [f"## {number} {title}", "", " ".join(textwrap.dedent(function.__doc__).split())]
        lines.append("")
        for subject in subjects:
            mark, words = found[subject.key, number]
            lines.append(f"- {subject.name} **{mark}**: {plain(words)}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def plain(words):
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", words)
