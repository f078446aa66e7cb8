"""The command line: ``bgs-opt minimize``, ``inspect``, ``plot``, ``train`` and ``play``.

Exit codes: 0 fine; 1 the run failed (the objective raised, no usable values, interrupted, a
damaged checkpoint); 2 usage, found before anything was evaluated. Errors are one line on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bgs_opt import BGS, Options, __version__, checkpoint, console, minimize, plots
from bgs_opt.arguments import check, keywords, parse, start
from bgs_opt.driver import MESSAGES
from bgs_opt.errors import ArgumentValueError
from bgs_opt.objectives import Program, imported

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program ``bgs-opt``.

    Parameters
    ----------
    argv : sequence of str, optional
        Words of the command line; by default those that the process was started with.

    Returns
    -------
    int
        Exit code: 0 fine, 1 the run failed, 2 usage.

    Examples
    --------
    >>> main("minimize math:fsum --bounds 0,1 --dim 2 --budget 100 --quiet".split())
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["train"], ["play"]):
        return _policies(words)
    try:
        args = parse(words, __version__)
        run = {"minimize": _minimize, "inspect": _inspect, "plot": _plot}[args.what]
    except SystemExit:
        return 0  # after --help and --version
    except ArgumentValueError as error:
        return console.fail(*console.explained(error))
    try:
        return run(args)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if getattr(args, "traceback", False):
            traceback.print_exception(error)
        return console.fail(*console.explained(error))


def _policies(words: list[str]) -> int:
    """The commands that need torch and gymnasium; nothing else loads them."""
    try:
        commands: Any = importlib.import_module("bgs_opt.adapters.policy_cli")
    except ImportError as error:
        needed = "torch and gymnasium: pip install 'bgs-opt[policy]'"
        return console.fail(2, f"{words[0]} needs {needed} ({error})")
    code: int = commands.main(words)
    return code


# ---- minimize


def _minimize(args: argparse.Namespace) -> int:
    check(args)
    if args.plot:
        console.check_picture("--plot", args.plot)
    given = keywords(args)
    x0, bounds = start(args)
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(console.running(args))
        if args.command is None:
            fun: Any = imported(args.objective)
        else:
            timeout, retries = given.pop("timeout", None), given.pop("retries", 1)
            fun = Program(args.command, timeout, retries, bool(args.strict))
            threads = stack.enter_context(fun.threads(given.get("workers", 1)))
            given |= {"workers": threads, "pass_seed": "{seed}" in fun.takes}
        with console.same_folder():
            result = minimize(fun, x0, bounds=bounds, progress=bar, **given)
    _report(args, result)
    if args.output and args.output.endswith(".npy"):
        np.save(args.output, result.x)
    elif args.output:
        Path(args.output).write_text("".join(f"{float(value)!r}\n" for value in result.x))
    if args.plot:
        title = f"{args.objective or args.command}, {len(result.x)} parameters"
        plots.plot_run(result, args.plot, title, maximize=bool(args.maximize))
    if result.success:
        return 0
    if result.message == MESSAGES["stalled"][2]:
        how = "see that the objective returns numbers near the start, or start elsewhere (--x0)"
    elif args.checkpoint:
        how = f"the same command with --resume goes on from {args.checkpoint}"
    else:
        how = "with --checkpoint FILE the run could be resumed"
    return console.fail(1, f"{result.message}; {how}")


def _report(args: argparse.Namespace, result: Any) -> None:
    files = {name: getattr(args, name) for name in ("checkpoint", "output", "plot")}
    if args.json:
        names = ("x", "fun", "success", "status", "message", "nfev", "nit", "nlost", "noisy",
                 "sigma")  # fmt: skip
        facts = {name: result[name] for name in names} | files
        facts |= {"fun_error": result.get("fun_error"), "best": result.best._asdict()}
        print(json.dumps(console.plain(facts), allow_nan=False))
    elif not args.quiet:
        error = result.get("fun_error", math.nan)
        console.table({
            "status": result.message,
            "value": f"{result.fun:.10g}" + (f" +- {error:.2g}" if math.isfinite(error) else ""),
            "best seen": result.best.value,
            "evaluations": f"{result.nfev}" + (f" ({result.nlost} lost)" if result.nlost else ""),
            "generations": result.nit,
            "sigma": result.sigma,
            "x": result.x,
            **{name: path for name, path in files.items() if path},
        })  # fmt: skip


# ---- inspect and plot


def _inspect(args: argparse.Namespace) -> int:
    config, state = checkpoint.read(_existing(args.checkpoint))
    usual = vars(Options().resolved())
    given = {name: v for name, v in vars(config.options).items() if repr(v) != repr(usual[name])}
    facts = {
        "file": args.checkpoint,
        "format": checkpoint.FORMAT,
        "dim": config.dim,
        "dtype": np.dtype(config.dtype).name,
        "generation": state.open.number,
        "evaluations": state.num_evaluations,
        "budget": config.budget,
        "pending": len(state.open.outstanding()),
        "failed": state.num_failed,
        "lost": state.num_discarded,
        "sigma": state.sigma,
        "best": (-state.best_value if config.maximize else state.best_value),
        "recent": state.recent_value,
        "noisy": state.noisy,
        "maximize": config.maximize,
        "bounds": config.low is not None,
        "sampler": config.sampler,
        "optimizer": config.optimizer or "auto",
        "options": given,
    }
    if args.json:
        print(json.dumps(console.plain(facts), allow_nan=False))
    else:
        console.table(facts)
    return 0


def _plot(args: argparse.Namespace) -> int:
    console.check_picture("--output", args.output)
    run = BGS.load(_existing(args.checkpoint))
    title = f"{Path(args.checkpoint).name}, {run.dim} parameters"
    plots.plot_run(run, args.output, title)
    return 0


def _existing(path: str) -> str:
    if not Path(path).is_file():
        raise ArgumentValueError(
            f"CHECKPOINT: expected a file that --checkpoint wrote; got {path!r}"
        )
    return path
