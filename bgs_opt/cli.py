"""The command line: ``bgs-opt minimize``, ``bgs-opt inspect`` and ``bgs-opt plot``.

Exit codes: 0 fine; 1 the run failed (the objective raised, no usable values, interrupted, a
damaged checkpoint); 2 usage, found before anything was evaluated. Errors are one line on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bgs_opt import BGS, Options, __version__, checkpoint, minimize, plots
from bgs_opt.arguments import check, flagged, keywords, parse, start
from bgs_opt.driver import MESSAGES
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError, BGSError, BGSWarning
from bgs_opt.objectives import Program, imported

__all__ = ["main"]

SHOWN = 8
"""Numbers of x that the table shows."""


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
    try:
        args = parse(sys.argv[1:] if argv is None else argv, __version__)
        run = {"minimize": _minimize, "inspect": _inspect, "plot": _plot}[args.what]
    except SystemExit:
        return 0  # after --help and --version
    except ArgumentValueError as error:
        return _fail(*_explained(error))
    try:
        return run(args)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if getattr(args, "traceback", False):
            traceback.print_exception(error)
        return _fail(*_explained(error))


def _fail(code: int, text: str) -> int:
    print("bgs-opt: error:", " ".join(text.split()), file=sys.stderr)
    return code


def _explained(error: BaseException) -> tuple[int, str]:
    """Exit code of an exception and a line that says what to do."""
    notes = [str(note) for note in getattr(error, "__notes__", [])]
    raised = any(note.startswith("bgs_opt: raised by fun") for note in notes)
    if isinstance(error, (ArgumentValueError, ArgumentTypeError)) and not raised:
        return 2, flagged(str(error))
    if isinstance(error, KeyboardInterrupt):
        return 1, "interrupted"
    if isinstance(error, SystemExit):
        return 1, f"the objective called sys.exit({error.code!r}); return nan for a failed point"
    if isinstance(error, BGSError):
        return 1, str(error)
    what = f"{type(error).__name__}: {error}"
    if not raised:
        return 1, what if isinstance(error, OSError) else f"{what} (--traceback shows where)"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(frame.filename)  # ours if it was raised in another process
    where = "" if file.parent == Path(__file__).parent else f" ({file.name}, line {frame.lineno})"
    return 1, f"the objective raised {what}{where}; --traceback shows more"


# ---- minimize


def _minimize(args: argparse.Namespace) -> int:
    check(args)
    if args.plot:
        _check_picture("--plot", args.plot)
    given = keywords(args)
    x0, bounds = start(args)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signals())
        stack.enter_context(_our_warnings(args.quiet))
        if args.json:
            stack.enter_context(_stdout_to_stderr())
        if args.command is None:
            fun: Any = imported(args.objective)
        else:
            timeout, retries = given.pop("timeout", None), given.pop("retries", 1)
            fun = Program(args.command, timeout, retries, bool(args.strict))
            threads = stack.enter_context(fun.threads(given.get("workers", 1)))
            given |= {"workers": threads, "pass_seed": "{seed}" in fun.takes}
        bar = not args.quiet and (args.progress or sys.stderr.isatty())
        result = minimize(fun, x0, bounds=bounds, progress=bool(bar), **given)
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
    return _fail(1, f"{result.message}; {how}")


def _check_picture(option: str, path: str) -> None:
    try:
        plots.check_path(path)
    except (ImportError, ValueError) as error:
        raise ArgumentValueError(f"{option}: {str(error).removeprefix('path: ')}") from error


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as Ctrl-C does: with a checkpoint and no orphans."""
    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    heeded = [n for n in known if signal.getsignal(n) not in (signal.SIG_IGN, None)]  # nohup
    previous = {n: signal.signal(n, _as_interrupt) for n in heeded}
    if heeded and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started by a script's &
        previous[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _as_interrupt(number: int, frame: object) -> None:
    signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def _our_warnings(quiet: bool) -> Iterator[None]:
    """Warnings of bgs_opt as one line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "always", BGSWarning)
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, BGSWarning):
                print("bgs-opt: warning:", " ".join(str(message).split()), file=sys.stderr)
            else:
                usual(message, category, *rest, **more)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Whatever the objective prints, in worker processes too, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _report(args: argparse.Namespace, result: Any) -> None:
    files = {name: getattr(args, name) for name in ("checkpoint", "output", "plot")}
    if args.json:
        names = ("x", "fun", "success", "status", "message", "nfev", "nit", "nlost", "noisy",
                 "sigma")  # fmt: skip
        facts = {name: result[name] for name in names} | files
        facts |= {"fun_error": result.get("fun_error"), "best": result.best._asdict()}
        print(json.dumps(_plain(facts), allow_nan=False))
    elif not args.quiet:
        error = result.get("fun_error", math.nan)
        _table({
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
    fields = [
        (f.name, f.default, getattr(config.options, f.name)) for f in dataclasses.fields(Options)
    ]
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
        "options": {name: value for name, usual, value in fields if repr(value) != repr(usual)},
    }
    if args.json:
        print(json.dumps(_plain(facts), allow_nan=False))
    else:
        _table(facts)
    return 0


def _plot(args: argparse.Namespace) -> int:
    _check_picture("--output", args.output)
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


def _table(facts: dict[str, Any]) -> None:
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        print(f"{name:{width}}{_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        numbers = [f"{number:.6g}" for number in value[: SHOWN + 1].tolist()]
        more = [f"... ({len(value)} numbers; --output or --json: all of them)"]
        return " ".join(numbers if len(value) <= SHOWN else numbers[:-1] + more)
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(item)}" for name, item in value.items()) or "-"
    if isinstance(value, (bool, np.bool_)) or value is None:
        return "-" if value is None else "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """What JSON can say: NaN and infinities become null."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, type(None))) else repr(value)
