"""plot_run: what is drawn is the history, and every history can be drawn."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import OptimizeResult

from bgs_opt import BGS, Options
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.plots import check_path, plot_run
from tests.helpers import play

COLUMNS = (
    "evaluations",
    "best_value",
    "mean_value",
    "center_value",
    "sigma",
    "step_norm",
    "kept_difference",
)
POSITIVE = ("sigma", "step_norm", "kept_difference")


def history(rows: int = 30, **columns) -> dict[str, np.ndarray]:
    """A history of ones, but for the columns that are given."""
    base = {name: np.ones(rows) for name in COLUMNS} | {"evaluations": np.arange(rows) * 10.0}
    return base | {name: np.asarray(values, float) for name, values in columns.items()}


def lines(figure) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The lines drawn, by the name of their column."""
    value, *others = figure.axes
    names = {"mean": "mean_value", "center": "center_value", "best": "best_value"}
    found = {names[line.get_label()]: line for line in value.lines}
    found |= {name: ax.lines[0] for name, ax in zip(POSITIVE, others, strict=True) if ax.lines}
    return {name: (line.get_xdata(), line.get_ydata()) for name, line in found.items()}


@pytest.fixture(scope="module")
def run() -> BGS:
    opt = BGS(np.zeros(5), 0.1, seed=1, options=Options(center_evaluations=1))
    return play(opt, 50)


@pytest.fixture(scope="module")
def drawn(run):
    return lines(plot_run(run))


@pytest.mark.parametrize("column", COLUMNS[1:])
def test_each_column_of_a_run_is_drawn_over_the_evaluations(run, drawn, column):
    x, y = drawn[column]
    np.testing.assert_array_equal(x, run.history["evaluations"])
    np.testing.assert_array_equal(y, run.history[column])


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_history_and_a_result_that_holds_it_give_the_picture_of_the_run(run, drawn, wrapped):
    found = lines(plot_run(OptimizeResult(history=run.history) if wrapped else run.history))
    assert found.keys() == drawn.keys()
    for name, pair in found.items():
        np.testing.assert_array_equal(pair, drawn[name])


@pytest.mark.parametrize("rows", [0, 1, 2, 41])
def test_a_history_of_any_length_is_drawn(run, rows, tmp_path):
    cut = {name: values[:rows] for name, values in run.history.items()}
    figure = plot_run(cut, tmp_path / "run.png" if rows < 2 else None)
    assert len(figure.axes) == 4
    said = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert said == ([] if rows else ["no generation was completed"] * 4)
    for line in (line for ax in figure.axes for line in ax.lines):
        assert (line.get_marker() == "o") == (len(line.get_xdata()) <= 40)


def test_rows_without_a_finite_or_positive_number_are_left_out():
    figure = plot_run(
        history(
            4,
            center_value=[1, np.nan, 3, np.nan],
            mean_value=[np.nan] * 4,
            best_value=[np.inf, 5, 4, 3],
            step_norm=[0, 1, 0, 2],
            kept_difference=[0] * 4,
        )
    )
    drawn = lines(figure)
    assert "mean_value" not in drawn
    assert "kept_difference" not in drawn
    np.testing.assert_array_equal(drawn["center_value"], [[0, 20], [1, 3]])
    np.testing.assert_array_equal(drawn["best_value"], [[10, 20, 30], [5, 4, 3]])
    np.testing.assert_array_equal(drawn["step_norm"], [[10, 30], [1, 2]])
    assert [text.get_text() for text in figure.axes[3].texts] == ["no step was made"]


def test_a_run_without_a_finite_value_says_so():
    nothing = [np.nan, np.inf]
    figure = plot_run(history(2, best_value=nothing, mean_value=nothing, center_value=nothing))
    assert [text.get_text() for text in figure.axes[0].texts] == ["no finite value"]


@pytest.mark.parametrize(
    ("best", "scale"),
    [
        ([1, 1e-1, 1e-3], "log"),
        ([1, 1e-3, 0], "log"),
        ([2, 1, 0.1], "linear"),
        ([1, 1e-3, -1e-9], "linear"),
        ([-1, -1e-1, -1e-3], "symlog"),
        ([-1, -1e-3, 0], "symlog"),
        ([-2, -1, -0.1], "linear"),
        ([0, 0, 0], "linear"),
        ([7, 7, 7], "linear"),
        ([np.inf, 1e3, 1], "log"),
    ],
)
def test_values_of_one_sign_over_more_than_two_decades_are_logarithmic(best, scale):
    figure = plot_run(history(3, best_value=best, mean_value=best, center_value=best))
    assert [ax.get_yscale() for ax in figure.axes] == [scale, "log", "log", "log"]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_best_value_of_zero_is_drawn_at_the_edge_of_a_logarithmic_axis(sign):
    values = sign * np.array([1, 1e-3, 0])
    figure = plot_run(history(3, best_value=values, mean_value=values, center_value=values))
    drawn, (low, high) = lines(figure), figure.axes[0].get_ylim()
    assert len(drawn["mean_value"][1]) == 2
    last = drawn["best_value"][1][-1]
    assert low < last < high
    assert 0 < abs(last) < 1e-3


def test_a_constant_column_looks_constant():
    low, high = plot_run(history(sigma=np.full(30, 0.3))).axes[1].get_ylim()
    assert high / low == pytest.approx(10)
    assert low < 0.3 < high


@pytest.mark.parametrize(
    ("best", "maximize", "words"),
    [
        ([3, 2, 1], None, "lower"),
        ([1, 2, 3], None, "higher"),
        ([np.nan, 2, 3], None, "higher"),
        ([2, 2, 2], None, "lower"),
        ([2, 2, 2], True, "higher"),
        ([1, 2, 3], False, "lower"),
    ],
)
def test_the_title_says_which_way_is_better(best, maximize, words):
    figure = plot_run(history(3, best_value=best), maximize=maximize)
    assert figure.axes[0].get_title(loc="left") == f"value ({words} is better)"


@pytest.mark.untraced
@pytest.mark.parametrize(
    "values",
    [
        [1e308, -1e308, 3],
        [1.7e308, 1e-149, 0],
        [-1.7e308, -1e-320, -1e-149],
        [np.inf, 5e-324, -np.inf],
    ],
)
def test_extreme_values_are_drawn_without_a_warning(values, tmp_path):
    extreme = dict.fromkeys(COLUMNS[1:], values)
    plot_run(history(3, **extreme), tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 1000


@pytest.mark.untraced
@pytest.mark.parametrize(
    ("name", "magic"), [("run.PNG", b"\x89PNG"), ("run.pdf", b"%PDF"), ("run.svg", b"<?xml")]
)
def test_the_suffix_says_the_format(name, magic, tmp_path):
    plot_run(history(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)


@pytest.mark.untraced
def test_the_picture_shows_every_line_in_its_colour():
    figure = plot_run(
        history(best_value=np.linspace(3, 1, 30), mean_value=np.linspace(4, 2, 30)), title="A run"
    )
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[:, :, :3].reshape(-1, 3)
    for colour in ("#0b4f8a", "#f0a04b", "#2a9d5c", "#5b4a9e"):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.count_nonzero((pixels == rgb).all(axis=1)) > 100
    assert (pixels == 255).all(axis=1).mean() > 0.8


@pytest.mark.untraced
def test_nothing_that_is_written_covers_anything_else_that_is_written():
    figure = plot_run(history(best_value=np.logspace(0, -9, 30)), title="A run")
    figure.canvas.draw()
    legend = figure.axes[0].get_legend().get_window_extent()
    texts = [figure._suptitle, *(ax._left_title for ax in figure.axes)]
    texts += [ax.xaxis.label for ax in figure.axes[2:]]
    boxes = [legend, *(text.get_window_extent() for text in texts)]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert figure.bbox.containsx(box.x0)
        assert figure.bbox.containsx(box.x1)


@pytest.mark.parametrize("thing", [None, 3, "run.npz", {}, {"history": None}, {"sigma": [1.0]}])
def test_a_thing_without_a_history_is_refused(thing):
    with pytest.raises(ArgumentTypeError, match="run_or_history: expected a run, a result of"):
        plot_run(thing)


@pytest.mark.parametrize("column", [[1.0], 1.0, [[1.0, 2.0, 3.0]]])
def test_columns_of_different_lengths_are_refused(column):
    with pytest.raises(ArgumentValueError, match="run_or_history: expected columns of one length"):
        plot_run(history(3, sigma=column))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run.xyz", r"path: expected a file name that ends in one of .*\.png"),
        ("run", r"path: expected a file name that ends in one of .*\.png"),
        ("missing/run.png", "path: expected a file in a folder that exists"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_before_anything_is_drawn(
    name, message, tmp_path
):
    for call in (check_path, lambda path: plot_run(history(), path)):
        with pytest.raises(ArgumentValueError, match=message):
            call(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for call in (lambda: plot_run(history()), lambda: check_path("run.png")):
        with pytest.raises(ImportError, match=r"pip install 'bgs-opt\[plots\]'"):
            call()


def test_pyplot_is_never_loaded_and_its_settings_stay(tmp_path):
    program = f"""
import sys
from bgs_opt.plots import plot_run
before = "matplotlib" in sys.modules
plot_run(dict.fromkeys({COLUMNS}, [1.0, 2.0]), {str(tmp_path / "run.png")!r}, title="A run")
import matplotlib
print(before, "matplotlib.pyplot" in sys.modules, matplotlib.rcParams == matplotlib.rcParamsOrig)
"""
    command = [sys.executable, "-c", program]
    plain = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]
