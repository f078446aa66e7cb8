"""What the words of all commands share: tables of options, NAME=VALUE, files, messages."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from bgs_opt.errors import ArgumentValueError
from bgs_opt.options import Options

__all__ = [
    "FURTHER",
    "SHOWN",
    "Parser",
    "Table",
    "add_options",
    "check_files",
    "flagged",
    "given_of",
    "named_values",
    "switched",
    "whole",
    "with_options",
]


def whole(text: str) -> int:
    """An int, also one that is written as 1e6."""
    value = float(text)
    if not value.is_integer():
        raise ValueError
    return int(text) if text.lstrip("+-").isdigit() else int(value)


whole.__name__ = "whole number"

Table = tuple[tuple[str, Any, str, str], ...]
"""Rows of option, type (None: a switch), name of its value, help. An option whose value is
NAME=VALUE may be repeated."""

FURTHER: Table = (
    ("--option", str, "NAME=VALUE", "any other argument of bgs_opt.BGS or bgs_opt.Options; may "
     "be repeated"),
)  # fmt: skip
SHOWN: Table = (
    ("--json", None, "", "one JSON object on stdout and nothing else"),
    ("--progress", None, "", "show a progress bar (default: on a terminal)"),
    ("--quiet", None, "", "no bar, no warnings, no table"),
    ("--traceback", None, "", "show where an error came from"),
)


class Parser(argparse.ArgumentParser):
    """Raises ArgumentValueError instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        """See argparse."""
        raise ArgumentValueError(f"{message} (see {self.prog} --help)")


def add_options(parser: argparse.ArgumentParser, table: Table) -> None:
    """Let a parser know the options of a table; one that is not given is None."""
    for flag, kind, name, text in table:
        if kind is None:
            parser.add_argument(flag, action="store_true", default=None, help=text)
        else:
            action = "append" if name == "NAME=VALUE" else "store"
            parser.add_argument(flag, type=kind, metavar=name, help=text, action=action)


def check_files(args: argparse.Namespace) -> None:
    """See that --checkpoint and --output can be written, and that nothing is lost by that."""
    for name in ("checkpoint", "output"):
        path = getattr(args, name)
        if path is not None and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
            raise ArgumentValueError(
                f"--{name}: expected a file in a folder that exists; got {path!r}"
            )
    if args.resume and not args.checkpoint:
        raise ArgumentValueError("--resume: expected --checkpoint FILE, the run to go on with")
    if args.checkpoint and not args.resume and Path(args.checkpoint).exists():
        raise ArgumentValueError(
            f"--checkpoint: {args.checkpoint} exists; add --resume to go on with it, or give "
            "another path"
        )


def given_of(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Those of the options that were given."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def switched(args: argparse.Namespace, on: str, off: str) -> bool | None:
    """What two switches that exclude each other say; None where neither is given."""
    if getattr(args, on) and getattr(args, off):
        flags = [f"--{name.replace('_', '-')}" for name in (on, off)]
        raise ArgumentValueError(f"{flags[0]}: expected it without {flags[1]}; got both")
    return bool(getattr(args, on)) if getattr(args, on) or getattr(args, off) else None


def named_values(
    option: str, texts: Iterable[str] | None, known: Sequence[str] = ()
) -> dict[str, Any]:
    """NAME=VALUE, with values as Python writes them, or words; any name if none is known."""
    found: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or (known and name not in known):
            which = f" with a name of {', '.join(known)}" if known else ""
            raise ArgumentValueError(f"{option}: expected NAME=VALUE{which}; got {text!r}")
        found[name] = value  # a word, such as sampler=gaussian
        with contextlib.suppress(ValueError, SyntaxError):
            found[name] = ast.literal_eval(value)
    return found


def with_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, where those of Options become one argument ``options``."""
    names = {field.name for field in dataclasses.fields(Options)}
    options = {name: value for name, value in values.items() if name in names}
    given = {name: value for name, value in values.items() if name not in names}
    return {**given, "options": Options(**options)} if options else given


def flagged(text: str, table: Table, renamed: Mapping[str, str] = MappingProxyType({})) -> str:
    """A message about arguments, with the names that they have on the command line.

    ``renamed`` has the names of options whose arguments are called otherwise.
    """
    flags = {flag[2:].replace("-", "_"): flag for flag, *_ in table}
    names, colon, rest = text.partition(": ")
    known = [renamed.get(name, name) for name in names.split(", ")]
    return ", ".join(flags.get(name, name) for name in known) + colon + rest
