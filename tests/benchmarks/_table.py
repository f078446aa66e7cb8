"""What every benchmark program shares: options, quartiles, the table, the figures that are due."""

import argparse
import importlib.metadata
import json
import platform
from pathlib import Path

import numpy as np


def parser(doc):
    """Parser of the options that every benchmark takes; ``doc`` is the module's docstring."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="fewer repeats: minutes to seconds")
    made.add_argument("--json", type=Path, metavar="FILE", help="write table and checks there too")
    made.add_argument(
        "--check", action="store_true", help="exit with 1 if a figure that is due was missed"
    )
    return made


def parse(argv, doc):
    """Options of a benchmark that has none of its own."""
    return parser(doc).parse_args(argv)


def quartiles(values):
    """Lower quartile, median and upper quartile."""
    return tuple(float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))


def versions(packages):
    """Versions of Python and of the packages compared, by name."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def print_table(header, rows):
    """Print cells in columns; the first column is text, the others are numbers."""
    table = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for number, row in enumerate(table):
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join((row[0].ljust(widths[0]), *rest)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def finish(options, header, rows, checks, *, packages=(), **facts):
    """Print versions, table and checks, write the JSON file, return the exit status.

    Parameters
    ----------
    options : argparse.Namespace
        As :func:`parser` gives it.
    header, rows : list of str, list of lists
        The table.
    checks : list of (str, bool)
        Figures that are due: in words with what was measured, and whether each holds.
    packages : tuple of str
        Distributions whose versions the table names.
    **facts
        Anything else to print above the table and to keep in the file.
    """
    names = versions(packages)
    print(", ".join(f"{name} {version}" for name, version in names.items()))
    for name, value in facts.items():
        print(f"{name}: {value}")
    print()
    print_table(header, rows)
    print()
    for words, holds in checks:
        print(f"{'ok    ' if holds else 'MISSED'}  {words}")
    if options.json is not None:
        content = {
            "versions": names,
            **facts,
            "header": header,
            "rows": rows,
            "checks": [{"figure": words, "holds": bool(holds)} for words, holds in checks],
        }
        options.json.write_text(json.dumps(content, indent=1, default=str) + "\n")
    missed = [words for words, holds in checks if not holds]
    if not options.check:
        return 0
    print(f"missed: {'; '.join(missed)}" if missed else "every figure that is due was reached")
    return 1 if missed else 0
