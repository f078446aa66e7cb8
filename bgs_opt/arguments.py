"""The words of the command line, and what they mean as arguments of minimize()."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bgs_opt import flags
from bgs_opt.errors import ArgumentValueError
from bgs_opt.flags import whole
from bgs_opt.options import Options
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import integer

__all__ = ["check", "flagged", "keywords", "parse", "start"]

# What minimize() takes has its name.
_OPTIONS: flags.Table = (
    ("--command", str, "'PROG {}'", "minimize the last number that a program prints; {} stands "
     "for the parameters, {file} for a file of them, {seed} for a seed; without any, they go to "
     "stdin, one a line"),
    ("--dim", whole, "D", "number of parameters; starts in the middle of the bounds, or at 0"),
    ("--x0", str, "X", "start: 0.5,1,2 or @FILE (.npy or text); with --dim one number for all"),
    ("--sigma", float, "S", "start size of the perturbations"),
    ("--bounds", str, "LOW,HIGH", "for all parameters, or one pair each: 'l1,h1;l2,h2' or @FILE "
     "with two columns; inf and -inf for open sides"),
    ("--budget", whole, "N", "evaluations in all (default: 400 a parameter)"),
    ("--workers", whole, "N", "evaluations at a time, in processes"),
    ("--seed", whole, "N", "the same seed gives the same result"),
    ("--maximize", None, "", "larger values are better"),
    ("--noisy", None, "", "values of one point differ (default: found out)"),
    ("--no-noise", None, "", "values of one point are equal"),
    ("--checkpoint", str, "FILE", "file that the run is kept in"),
    ("--checkpoint-seconds", float, "S", "how often it is written (default: 30)"),
    ("--resume", None, "", "go on with the run in the checkpoint if it exists"),
    ("--timeout", float, "S", "seconds an evaluation may take; it is killed then"),
    ("--retries", whole, "N", "how often a killed evaluation is tried again (default: 1)"),
    ("--strict", None, "", "with --command: a program that fails ends the run"),
    ("--max-time", float, "S", "seconds the run may take"),
    ("--maxiter", whole, "N", "generations the run may take"),
    ("--target", float, "V", "stop at a value this good"),
    ("--tol", float, "T", "stop when sigma and the steps are smaller"),
    ("--optimizer", str, "NAME", "auto (default), clipup, adam or sgd"),
    *flags.FURTHER,
    ("--vectorized", None, "", "FUNCTION takes all points at once, shape (n, d)"),
    ("--pass-seed", None, "", "call FUNCTION(x, seed=...)"),
    ("--asynchronous", None, "", "keep every worker busy, at the price of reproducibility"),
    ("--plot", str, "PICTURE", "draw the run: .png, .pdf, .svg"),
    ("--output", str, "FILE", "write the x found there: .npy, or text with one number a line"),
    *flags.SHOWN,
)  # fmt: skip
_PASSED = (
    "sigma", "budget", "workers", "seed", "checkpoint", "checkpoint_seconds", "timeout",
    "retries", "max_time", "maxiter", "target", "tol", "optimizer",
    "resume", "maximize", "vectorized", "pass_seed", "asynchronous",
)  # fmt: skip
_BY_OPTION = (
    *sorted(field.name for field in dataclasses.fields(Options)),
    "layout", "learning_rate", "num_directions", "sampler", "selection", "top_k",
)  # fmt: skip
_DESCRIPTION = (
    "Minimize noisy, non-differentiable functions and programs. Exit status: 0 fine, 1 the run "
    "failed, 2 it could not start as the command line stands."
)
_ELSEWHERE = {
    "train": "train a policy in an environment (needs torch and gymnasium)",
    "play": "play episodes of a trained policy",
}


def parse(words: Sequence[str], version: str) -> argparse.Namespace:
    """Parse the words after ``bgs-opt``; ``what`` of the result names the command.

    Raises
    ------
    ArgumentValueError
        If they cannot be understood.
    SystemExit
        After --help or --version was printed.
    """
    parser = flags.Parser(prog="bgs-opt", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"bgs-opt {version}")
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "minimize", allow_abbrev=False, help="minimize a function or the output of a program"
    )
    run.add_argument("objective", nargs="?", metavar="MODULE:FUNCTION", help="what to minimize")
    flags.add_options(run, _OPTIONS)
    show = commands.add_parser("inspect", help="say what a checkpoint holds")
    show.add_argument("--json", action="store_true", help="as one JSON object")
    draw = commands.add_parser("plot", help="draw the run that a checkpoint holds")
    draw.add_argument("-o", "--output", required=True, metavar="PICTURE", help=".png, .pdf, .svg")
    for name, text in _ELSEWHERE.items():  # listed here, parsed there
        commands.add_parser(name, help=text)
    for command in (show, draw):
        command.add_argument("checkpoint", metavar="CHECKPOINT")
    return parser.parse_args(_joined(words))


def _joined(words: Sequence[str]) -> list[str]:
    """``--x0 -1,2`` as ``--x0=-1,2``, which argparse does not take for an option."""
    out: list[str] = []
    for word in words:
        if out and out[-1] in ("--x0", "--bounds", "--target") and re.match(r"-[.\di]", word):
            out[-1] += f"={word}"
        else:
            out.append(word)
    return out


def _rows(option: str, text: str) -> list[list[float]]:
    """Rows of numbers: ``1,2;3,4``, or ``@FILE`` with one row a line."""
    rows = text.split(";")
    try:
        if text.startswith("@") and text.endswith(".npy"):
            array = np.atleast_1d(np.load(text[1:], allow_pickle=False).astype(np.float64))
            return [row.ravel().tolist() for row in array]
        if text.startswith("@"):
            content = Path(text[1:]).read_text()
            rows = [line.partition("#")[0] for line in content.splitlines()]
        words = [re.split(r"\s*,\s*|\s+", row.strip(" ,\t")) for row in rows if row.strip(" ,\t")]
        return [[float(word) for word in row] for row in words]
    except (OSError, ValueError, EOFError) as error:
        raise ArgumentValueError(
            f"{option}: expected numbers with commas between, or @FILE: {error}"
        ) from None


def check(args: argparse.Namespace) -> None:
    """Find, before hours of work, what would stop `minimize` after it.

    Raises
    ------
    ArgumentValueError
        If options exclude each other or a file could not be written.
    """
    if (args.objective is None) == (args.command is None):
        raise ArgumentValueError("MODULE:FUNCTION: expected it or --command, one of the two")
    for name in ("vectorized", "pass_seed") if args.command else ("strict",):
        if getattr(args, name):
            which = "MODULE:FUNCTION" if args.command else "--command"
            raise ArgumentValueError(f"--{name.replace('_', '-')}: expected it with {which} only")
    flags.check_files(args)


def start(args: argparse.Namespace) -> tuple[FloatArray | None, Any]:
    """x0 and bounds of minimize(), from --dim, --x0 and --bounds."""
    dim, x0, bounds = args.dim, None, None
    if dim is not None:
        integer("dim", dim, 1)
    if args.x0 is not None:
        x0 = np.array([value for row in _rows("--x0", args.x0) for value in row])
        if not len(x0) or (dim is not None and len(x0) not in (1, dim)):
            raise ArgumentValueError(
                f"--x0: expected {'numbers' if dim is None else f'1 or {dim} numbers'}; "
                f"got {len(x0)}"
            )
        x0 = x0 if dim is None or len(x0) == dim else np.full(dim, x0[0])
        dim = len(x0)
    if args.bounds is not None:
        pairs = _rows("--bounds", args.bounds)
        dim = len(pairs) if dim is None and len(pairs) > 1 else dim
        if any(len(pair) != 2 for pair in pairs) or len(pairs) not in (1, dim):
            raise ArgumentValueError(
                f"--bounds: expected LOW,HIGH for all parameters, or {dim or 'D'} pairs, "
                f"'l1,h1;l2,h2'; got {args.bounds!r}"
            )
        bounds = np.broadcast_to(np.array(pairs), (dim or 1, 2)).T
    if dim is None:
        raise ArgumentValueError("--dim: expected the number of parameters, or a start in --x0")
    if x0 is None and (bounds is None or not np.isfinite(bounds).all()):
        x0 = np.zeros(dim) if bounds is None else np.clip(np.zeros(dim), *bounds)
    return x0, None if bounds is None else (bounds[0], bounds[1])


def keywords(args: argparse.Namespace) -> dict[str, Any]:
    """The other arguments of minimize() that were given."""
    given = flags.given_of(args, _PASSED)
    noisy = flags.switched(args, "noisy", "no_noise")
    if noisy is not None:
        given["noisy"] = noisy
    return given | flags.with_options(flags.named_values("--option", args.option, _BY_OPTION))


def flagged(text: str) -> str:
    """A message about arguments, with the names that they have on the command line."""
    return flags.flagged(text, _OPTIONS)
