"""Files changed at random and on purpose: each loads to something valid or is refused.

    python -m tests.benchmarks.fuzz [--files 20000] [--quick] [--json FILE] [--check]

Every loader of the package gets its share of the files. A file is refused by CheckpointError, or
by ArgumentValueError where it is of a run with other arguments; what loads is used. Nothing else
may be raised, no code may run, no other file may be opened (an audit hook says so), and memory
stays within a limit on the address space and, in one file of ten, on what is allocated.
"""

import sys
import tempfile
import time

from tests.benchmarks import _table
from tests.reliability import fuzz


def main(argv=None):
    made = _table.parser(__doc__)
    made.add_argument(
        "--files", type=int, default=None, help="of all loaders: 20,000, or 600 with --quick"
    )
    made.add_argument("--first", type=int, default=0, help="number of the first case")
    made.add_argument("--loader", choices=fuzz.LOADERS, nargs="+", help="these alone")
    options = made.parse_args(argv)
    files = options.files or (600 if options.quick else 20_000)
    shares = fuzz.shares(files)
    shares = {name: shares[name] for name in options.loader or shares}
    rows, faults, sums = [], [], [0, 0, 0]
    with tempfile.TemporaryDirectory() as folder:
        for loader, count in shares.items():
            begun = time.perf_counter()
            numbers = range(options.first, options.first + count)
            counts, wrong = fuzz.fuzzed(loader, numbers, folder)
            faults += wrong
            found = [counts[name] for name in ("loaded", "refused", "fault")]
            sums = [a + b for a, b in zip(sums, found, strict=True)]
            rows.append([loader, count, *found, f"{time.perf_counter() - begun:.0f}"])
    rows.append(["in all", sum(shares.values()), *sums, ""])
    for loader, number, what in faults[:40]:
        print(f"{loader} {number}: {what[:300]}", file=sys.stderr)
    header = ["loader", "files", "valid", "refused", "faults", "seconds"]
    checks = [(f"no fault in {sum(shares.values())} files, {len(faults)} found", not faults)]
    return _table.finish(options, header, rows, checks,
                         packages=("numpy", "torch", "safetensors", "gymnasium"))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
