"""A picture of a run: value, sigma, step and kept differences over the evaluations.

    value | sigma
    ------+------
    step  | differences

Drawn by ``matplotlib.figure.Figure`` and the Agg canvas: pyplot and its state are never touched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from bgs_opt.protocols import FloatArray
from bgs_opt.state import HISTORY
from bgs_opt.validation import wrong_type, wrong_value

__all__ = ["check_path", "plot_run"]

DECADES = 2.0
"""Positive values that span more than this get a logarithmic axis."""

BEST, MEAN, CENTER, LINE, GREY = "#0b4f8a", "#f0a04b", "#2a9d5c", "#5b4a9e", "#6b6b6b"
_SERIES = (
    ("mean_value", "mean", MEAN, 0.8),
    ("center_value", "center", CENTER, 0.8),
    ("best_value", "best", BEST, 2.0),
)
_PANELS = (
    ("sigma", "perturbation size (sigma)"),
    ("step_norm", "length of the step"),
    ("kept_difference", "mean difference of the kept pairs"),
)


def plot_run(
    run_or_history: object,
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
    *,
    maximize: bool | None = None,
) -> Any:
    """Draw the history of a run in four panels.

    Parameters
    ----------
    run_or_history : BGS, OptimizeResult or mapping of str to array_like
        A run, what :func:`bgs_opt.minimize` returned, or the ``history`` of either: columns
        ``evaluations``, ``best_value``, ``mean_value``, ``center_value``, ``sigma``,
        ``step_norm`` and ``kept_difference`` of one length.
    path : path, optional
        Where the picture is written; the suffix says the format (png, pdf, svg, ...).
    title : str, optional
        Line above the panels.
    maximize : bool, optional
        Whether larger values are better; by default found from the course of the best value.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    ArgumentTypeError, ArgumentValueError
        If there is no history in what came, or the format is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from bgs_opt import minimize
    >>> from bgs_opt.plots import plot_run
    >>> result = minimize(lambda x: float(x @ x), np.ones(5), seed=0, budget=300)
    >>> figure = plot_run(result, "run.png", title="sphere")
    >>> len(figure.axes)
    4
    """
    history = _columns(run_or_history)
    figure_class, canvas_class = _matplotlib()
    if path is not None:
        check_path(path)
    figure = figure_class(figsize=(11, 7), layout="constrained")
    canvas_class(figure)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    if maximize is None:
        maximize = _rises(history["best_value"])
    _draw_values(axes[0], history, maximize)
    for ax, (name, words) in zip(axes[1:], _PANELS, strict=True):
        _draw_positive(ax, history["evaluations"], history[name], words)
    last = float(history["evaluations"][-1]) if len(history["evaluations"]) else 1.0
    axes[0].set_xlim(0, max(last, 1.0) * 1.02)
    axes[0].locator_params(axis="x", nbins=6, integer=True)
    for ax in axes[2:]:
        ax.set_xlabel("evaluations")
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold")
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def check_path(path: str | os.PathLike[str]) -> None:
    """Check, before a long run, that a picture can be written there.

    Parameters
    ----------
    path : path

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    ArgumentValueError
        If the suffix names no format of pictures or the folder does not exist.
    """
    suffix = os.path.splitext(os.fspath(path))[1].removeprefix(".").lower()
    formats = sorted(_matplotlib()[1].get_supported_filetypes())
    if suffix not in formats:
        wrong_value("path", f"a file name that ends in one of .{', .'.join(formats)}",
                    os.fspath(path))  # fmt: skip
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        wrong_value("path", "a file in a folder that exists", os.fspath(path))


def _matplotlib() -> tuple[Any, Any]:
    """The Figure and the Agg canvas; with an error that says how to get them."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"plots need Matplotlib ({error}): pip install 'bgs-opt[plots]'"
        ) from error
    return Figure, FigureCanvasAgg


def _columns(run_or_history: object) -> dict[str, FloatArray]:
    """The columns that are drawn, as arrays of one length."""
    history: Any = run_or_history
    if isinstance(history, Mapping) and "history" in history:
        history = history["history"]
    elif not isinstance(history, Mapping):
        history = getattr(history, "history", None)
    names = [name for name in HISTORY if name != "generation"]
    if not isinstance(history, Mapping) or any(name not in history for name in names):
        wrong_type(
            "run_or_history", f"a run, a result of minimize, or a history with {', '.join(names)}",
            run_or_history,
        )  # fmt: skip
    columns = {name: _drawable(np.asarray(history[name], dtype=np.float64)) for name in names}
    shapes = {column.shape for column in columns.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        wrong_value("run_or_history", "columns of one length", sorted(shapes))
    return columns


def _drawable(values: FloatArray) -> FloatArray:
    """Finite values kept within what an axis can show; the others are left out later."""
    clipped = np.where(np.isfinite(values), np.clip(values, -1e150, 1e150), np.nan)
    return np.where(np.abs(clipped) < 1e-150, 0.0, clipped)


def _rises(best: FloatArray) -> bool:
    """Whether the best value so far went up, which it does only where one maximises."""
    finite = best[np.isfinite(best)]
    return bool(len(finite)) and bool(finite[-1] > finite[0])


def _set_scale(ax: Any, values: FloatArray) -> float:
    """Logarithmic for values of one sign over many decades; where 0 is drawn then, else 0."""
    finite = values[np.isfinite(values)]
    sizes = np.abs(finite[finite != 0])
    if not len(sizes) or np.log10(sizes.max()) - np.log10(sizes.min()) <= DECADES:
        return 0.0
    edge = float(sizes.min()) / 2
    if (finite >= 0).all():
        ax.set_yscale("log")
        return edge
    if (finite <= 0).all():  # the mirror image: towards 0 is up
        ax.set_yscale("symlog", linthresh=edge)
        ax.set_ylim(-3 * float(sizes.max()), -edge / 2)
        return -edge
    return 0.0


def _draw_values(ax: Any, history: dict[str, FloatArray], maximize: bool) -> None:
    """Best value so far, mean of each generation, the center where it was evaluated."""
    x = history["evaluations"]
    drawn = [series for series in _SERIES if np.isfinite(history[series[0]]).any()]
    _frame(ax, "value (higher is better)" if maximize else "value (lower is better)")
    if not drawn:
        _say(ax, "no generation was completed" if not len(x) else "no finite value")
        return
    zero = _set_scale(ax, np.concatenate([history[name] for name, *_ in drawn]))
    for name, words, colour, width in drawn:
        y = history[name]
        shown = np.isfinite(y)
        if zero and name != "best_value":
            shown &= y != 0
        _line(ax, x[shown], np.where(y == 0, zero, y)[shown], colour, width, words)
    ax.legend(
        loc="lower right", bbox_to_anchor=(1.01, 0.985), ncols=len(drawn), frameon=False,
        fontsize=9, columnspacing=1.0, handlelength=1.3,
    )  # fmt: skip


def _draw_positive(ax: Any, x: FloatArray, values: FloatArray, words: str) -> None:
    """One column of positive numbers, logarithmic; the zeros of skipped steps are left out."""
    shown = np.isfinite(values) & (values > 0)
    _frame(ax, words)
    if not shown.any():
        _say(ax, "no generation was completed" if not len(x) else "no step was made")
        return
    ax.set_yscale("log")
    _line(ax, x[shown], values[shown], LINE, 1.3, None)
    low, high = values[shown].min(), values[shown].max()
    if high < 10 * low:  # at least a decade, so that a constant looks constant
        middle = np.sqrt(low) * np.sqrt(high)
        ax.set_ylim(middle / np.sqrt(10), middle * np.sqrt(10))


def _line(
    ax: Any, x: FloatArray, y: FloatArray, colour: str, width: float, words: str | None
) -> None:
    """A line, with points while there are few of them."""
    few: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(x) <= 40 else {}
    ax.plot(x, y, color=colour, linewidth=width, label=words, **few)


def _frame(ax: Any, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=11)
    ax.grid(True, which="major", color="#dddddd", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(which="major", labelsize=9, colors=GREY)
    ax.tick_params(which="minor", labelsize=8, colors=GREY)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _say(ax: Any, words: str) -> None:
    ax.set_yticks([])
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color=GREY)
