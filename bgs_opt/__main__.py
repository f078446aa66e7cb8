"""``python -m bgs_opt``: the same as the program ``bgs-opt``."""

from bgs_opt.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
