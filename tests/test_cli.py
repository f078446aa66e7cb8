"""The program bgs-opt: what it prints, what it refuses and how it ends."""

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import bgs_opt
from bgs_opt import BGS, minimize
from bgs_opt.arguments import keywords, parse, start
from bgs_opt.cli import main
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError, BGSWarning
from bgs_opt.objectives import Program, ProgramError, imported
from tests.helpers import play, sphere

ME = "tests.test_cli"
PYTHON = f"'{sys.executable}' -I -S"


# ---- objectives that the tests name


def noisy(x, seed=None):
    return sphere(x) + np.random.default_rng(seed).normal()


def many(x):
    return ((x - 0.5) ** 2).sum(axis=1)


def reward(x):
    return -sphere(x)


def chatty(x):
    print("to stdout")
    os.write(1, b"to the descriptor\n")
    return sphere(x)


def nothing(x):
    return float("nan")


def warner(x):
    warnings.warn("a warning of the objective", RuntimeWarning, stacklevel=1)
    return sphere(x)


def raises(x):
    raise ValueError("first line\nsecond line")


def returns_text(x):
    return "0.5"


def leaves(x):
    sys.exit("enough")


def hangs_up(x):
    os.kill(os.getpid(), signal.SIGHUP)
    return sphere(x)


def wanders(x):
    os.chdir("other" if Path("other").exists() else ".")
    return sphere(x)


class Interrupt:
    """Raises KeyboardInterrupt at the 20th call."""

    calls = 0

    @classmethod
    def at_twenty(cls, x):
        cls.calls += 1
        if cls.calls == 20:
            raise KeyboardInterrupt
        return sphere(x)


def run(words: str, *more: str) -> int:
    return main([*words.split(), *more])


def failure(capsys, code: int, words: str, *more: str) -> str:
    """Run what must fail; return the one line on stderr."""
    assert run(words, *more) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bgs-opt: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("bgs-opt: error: ").strip()


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """In an empty folder, with the import state as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("mymodel", None)


@pytest.fixture
def checkpoint(tmp_path):
    play(BGS(np.zeros(3), 0.1, seed=1, budget=500), 20).save(tmp_path / "run.npz")
    return "run.npz"


# ---- minimize


@pytest.mark.parametrize(
    ("words", "fun", "x0", "arguments"),
    [
        ("--x0 1,2", sphere, [1, 2], {}),
        ("--dim 3", sphere, [0, 0, 0], {}),
        ("--dim 2 --x0 1.5", sphere, [1.5, 1.5], {"sigma": None}),
        ("--dim 2 --bounds -1,3", sphere, None, {"bounds": ([-1, -1], [3, 3])}),
        ("--bounds -1,3;0,8", sphere, None, {"bounds": ([-1, 0], [3, 8])}),
        ("--dim 2 --bounds 1,inf", sphere, [1, 1], {"bounds": (1, np.inf)}),
        ("--x0 -1,-2 --sigma 0.7", sphere, [-1, -2], {"sigma": 0.7}),
        ("--x0 1,2 --no-noise", sphere, [1, 2], {"noisy": False}),
        ("--x0 1,2 --noisy --pass-seed", noisy, [1, 2], {"noisy": True, "pass_seed": True}),
        ("--x0 1,2 --maximize", reward, [1, 2], {"maximize": True}),
        ("--x0 1,2 --vectorized", many, [1, 2], {"vectorized": True}),
        ("--x0 1,2 --maxiter 5", sphere, [1, 2], {"maxiter": 5}),
        ("--x0 1,2 --target 0.1", sphere, [1, 2], {"target": 0.1}),
        ("--x0 1,2 --target -1e-3", sphere, [1, 2], {"target": -1e-3}),
        ("--x0 1,2 --tol 0.1", sphere, [1, 2], {"tol": 0.1}),
        ("--x0 1,2 --optimizer adam", sphere, [1, 2], {"optimizer": "adam"}),
        (
            "--x0 1,2 --optimizer sgd --option num_directions=3 --option sampler=gaussian "
            "--option repeats=2",
            sphere,
            [1, 2],
            {
                "optimizer": "sgd",
                "num_directions": 3,
                "sampler": "gaussian",
                "options": bgs_opt.Options(repeats=2),
            },
        ),
    ],
)
def test_the_program_finds_what_the_function_minimize_finds(capsys, words, fun, x0, arguments):
    assert run(f"minimize {ME}:{fun.__name__} {words} --budget 120 --seed 3 --json") == 0
    found = json.loads(capsys.readouterr().out)
    expected = minimize(fun, x0, budget=120, seed=3, **arguments)
    assert found["x"] == expected.x.tolist()
    for name in ("fun", "nfev", "nit", "nlost", "message", "success", "sigma", "noisy", "status"):
        assert found[name] == expected[name]
    assert found["best"] == {"x": expected.best.x.tolist(), "value": expected.best.value}
    error = expected.get("fun_error", np.nan)
    assert found["fun_error"] == (None if np.isnan(error) else error)


def test_worker_processes_find_what_one_process_finds(capsys):
    Path("mymodel.py").write_text("def loss(x):\n    return float(x @ x - x[0])\n")
    words = "minimize mymodel:loss --dim 2 --budget 60 --seed 3 --json"
    assert run(words) == 0
    assert run(f"{words} --workers 2") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_the_table_says_how_it_ended_and_where_things_are(capsys):
    words = f"minimize {ME}:sphere --dim 12 --budget 99 --seed 1 --checkpoint run.npz"
    assert run(f"{words} --plot run.png --output x.txt") == 0
    out, err = capsys.readouterr()
    assert err == ""
    table = dict(line.split(maxsplit=1) for line in out.splitlines())
    result = minimize(sphere, np.zeros(12), budget=99, seed=1)
    assert table["status"] == "the budget of evaluations is spent"
    assert float(table["value"]) == pytest.approx(result.fun, rel=1e-9)
    assert table["evaluations"] == str(result.nfev)
    assert table["generations"] == str(result.nit)
    assert table["x"].startswith(" ".join(f"{v:.6g}" for v in result.x[:8]) + " ...")
    assert "12 numbers" in table["x"]
    assert (table["checkpoint"], table["plot"], table["output"]) == (
        "run.npz",
        "run.png",
        "x.txt",
    )
    np.testing.assert_array_equal(np.loadtxt("x.txt"), result.x)
    assert Path("run.png").read_bytes().startswith(b"\x89PNG")
    assert BGS.load("run.npz").num_evaluations == result.nfev


def test_under_noise_the_table_shows_the_standard_error(capsys):
    assert run(f"minimize {ME}:noisy --dim 2 --budget 1000 --seed 1 --pass-seed") == 0
    value, sign, error = capsys.readouterr().out.splitlines()[1].split()[1:]
    result = minimize(noisy, np.zeros(2), budget=1000, seed=1, pass_seed=True)
    assert sign == "+-"
    assert float(value) == pytest.approx(result.fun, rel=1e-9)
    assert float(error) == pytest.approx(result.fun_error, rel=0.05)


def test_x_can_be_written_as_npy_and_read_as_a_start():
    assert run(f"minimize {ME}:sphere --dim 3 --budget 60 --quiet --output x.npy") == 0
    x0, bounds = start(parse(["minimize", "m:f", "--x0", "@x.npy"], ""))
    np.testing.assert_array_equal(x0, np.load("x.npy"))
    assert bounds is None


def test_with_json_whatever_the_objective_prints_goes_to_stderr(capfd):
    assert run(f"minimize {ME}:chatty --dim 2 --budget 20 --json") == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 1
    assert json.loads(out)["success"] is True
    assert err.count("to stdout") == err.count("to the descriptor") == json.loads(out)["nfev"]
    print("stdout is back")
    assert capfd.readouterr().out == "stdout is back\n"


def test_with_quiet_nothing_is_printed(capfd):
    assert run(f"minimize {ME}:sphere --dim 2 --budget 20 --progress --quiet") == 0
    assert capfd.readouterr() == ("", "")


def test_with_progress_a_bar_is_drawn_on_stderr(capsys):
    assert run(f"minimize {ME}:sphere --dim 2 --budget 20 --progress --json") == 0
    out, err = capsys.readouterr()
    json.loads(out)
    assert "20/20" in err or "minimize:" in err


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(capsys):
    words = f"minimize {ME}:sphere --dim 4 --optimizer clipup --no-noise --seed 5 --json"
    assert run(f"{words} --budget 300") == 0
    assert run(f"{words} --budget 130 --checkpoint run.npz") == 0
    assert run(f"{words} --budget 300 --checkpoint run.npz --resume") == 0
    whole, _, resumed = map(json.loads, capsys.readouterr().out.splitlines())
    assert resumed.pop("checkpoint") == "run.npz"
    assert resumed == {name: value for name, value in whole.items() if name != "checkpoint"}


def test_a_run_without_usable_values_prints_null_and_ends_with_1(capsys):
    assert run(f"minimize {ME}:nothing --dim 2 --json --quiet") == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["fun"] is None
    assert found["best"]["value"] is None
    assert found["success"] is False
    assert err == (
        "bgs-opt: error: no generation of late had a usable pair of finite values; see that the "
        "objective returns numbers near the start, or start elsewhere (--x0)\n"
    )


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("", "with --checkpoint FILE the run could be resumed"),
        ("--checkpoint run.npz", "the same command with --resume goes on from run.npz"),
    ],
)
def test_an_interrupted_run_prints_what_was_found_and_how_to_go_on(capsys, words, advice):
    Interrupt.calls = 0
    assert run(f"minimize {ME}:Interrupt.at_twenty --dim 2 {words}") == 1
    out, err = capsys.readouterr()
    assert out.startswith("status       interrupted by the user\n")
    assert err == f"bgs-opt: error: interrupted by the user; {advice}\n"
    assert Path("run.npz").exists() == bool(words)


def test_warnings_of_ours_are_one_line_and_those_of_the_objective_stay(capsys, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *given: seen.append(given))
        seen: list[object] = []
        assert run(f"minimize {ME}:warner --dim 2 --budget 20 --json") == 0
        assert run(f"minimize {ME}:nothing --dim 2 --budget 20 --json") == 1
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("bgs-opt: warning: ") for line in lines)
    assert last.startswith("bgs-opt: error: no generation of late had a usable pair of finite")
    assert "NaN or infinite" in lines[0]
    assert {category for _, category, *_ in seen} == {RuntimeWarning}


def test_files_lie_where_they_were_asked_for_wherever_the_objective_goes(capsys):
    Path("other").mkdir()
    here = Path.cwd()
    words = "--checkpoint run.npz --output x.txt --plot run.png"
    assert run(f"minimize {ME}:wanders --dim 2 --budget 20 --json {words}") == 0
    found = json.loads(capsys.readouterr().out)
    assert [found[name] for name in ("checkpoint", "output")] == ["run.npz", "x.txt"]
    assert {"run.npz", "x.txt", "run.png"} <= {path.name for path in here.iterdir()}
    assert not list((here / "other").iterdir())


def removes(x):
    """The folder that it was started in."""
    if Path.cwd().name == "gone":
        os.chdir("..")
        shutil.rmtree("gone")
    return sphere(x)


def test_a_run_whose_folder_is_gone_still_tells_its_result(capsys):
    Path("gone").mkdir()
    os.chdir("gone")
    assert run(f"minimize {ME}:removes --dim 2 --budget 20 --json") == 0
    assert json.loads(capsys.readouterr().out)["nfev"] == 20


# ---- MODULE:FUNCTION


def test_a_module_of_the_current_folder_is_imported(capsys):
    Path("mymodel.py").write_text("class Loss:\n    def at(x):\n        return float(x @ x)\n")
    assert run("minimize mymodel:Loss.at --dim 2 --budget 50 --json") == 0
    assert json.loads(capsys.readouterr().out)["fun"] < 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mymodel", "expected a name such as mymodel:loss; got 'mymodel'"),
        (":loss", "expected a name such as mymodel:loss; got ':loss'"),
        ("mymodel.py:loss", "expected a name such as mymodel:loss; got 'mymodel.py:loss'"),
        ("nowhere.at.all:loss", "'nowhere.at.all' is neither in this folder nor on the Python"),
        ("tests.nowhere:loss", "'tests.nowhere' is neither in this folder nor on the Python"),
        ("mymodel:loss", "'mymodel' raised ModuleNotFoundError while it was imported: No module"),
        ("math:nothing.here", "'math' has no 'nothing.here'; check its name"),
        ("math:pi", "expected a function; math:pi is a float"),
    ],
)
def test_a_function_that_cannot_be_had_is_refused(capsys, target, message):
    Path("mymodel.py").write_text("import missing_module\n")
    line = failure(capsys, 2, f"minimize {target} --dim 2")
    assert line.startswith("MODULE:FUNCTION: ")
    assert message in line
    with pytest.raises(ArgumentValueError, match="MODULE:FUNCTION"):
        imported(target)


# ---- errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "the following arguments are required: COMMAND (see bgs-opt --help)"),
        ("optimize", "invalid choice: 'optimize'"),
        ("minimize", "MODULE:FUNCTION: expected it or --command, one of the two"),
        ("minimize m:f --command echo", "MODULE:FUNCTION: expected it or --command, one of the"),
        ("minimize m:f --nonsense 1", "unrecognized arguments: --nonsense 1 (see bgs-opt"),
        ("minimize m:f --dim", "argument --dim: expected one argument (see bgs-opt minimize"),
        ("minimize m:f --dim 2.5", "argument --dim: invalid whole number value: '2.5'"),
        ("minimize m:f --dim inf", "argument --dim: invalid whole number value: 'inf'"),
        ("minimize m:f --sigma x", "argument --sigma: invalid float value: 'x'"),
        ("minimize m:f", "--dim: expected the number of parameters, or a start in --x0"),
        ("minimize m:f --bounds 0,1", "--dim: expected the number of parameters, or a start"),
        ("minimize m:f --dim 0", "--dim: expected an int >= 1; got 0"),
        ("minimize m:f --x0 1,a", "--x0: expected numbers with commas between, or @FILE: could"),
        ("minimize m:f --x0 1,,2", "--x0: expected numbers with commas between, or @FILE: could"),
        ("minimize m:f --x0 ,", "--x0: expected numbers; got 0"),
        ("minimize m:f --x0 @none.txt", "--x0: expected numbers with commas between, or @FILE: ["),
        ("minimize m:f --x0 @bad.npy", "--x0: expected numbers with commas between, or @FILE: "),
        ("minimize m:f --dim 3 --x0 1,2", "--x0: expected 1 or 3 numbers; got 2"),
        ("minimize m:f --dim 2 --bounds 1", "--bounds: expected LOW,HIGH for all parameters, or"),
        ("minimize m:f --dim 3 --bounds 0,1;0,2", "or 3 pairs, 'l1,h1;l2,h2'; got '0,1;0,2'"),
        ("minimize m:f --dim 3 --bounds a,b", "--bounds: expected numbers with commas between"),
        (f"minimize {ME}:sphere --dim 2 --bounds 2,1", "--bounds: expected low <= high; got"),
        (f"minimize {ME}:sphere --x0 5 --bounds 0,1", "--x0: expected a point inside the bounds"),
        (f"minimize {ME}:sphere --x0 nan", "--x0: expected finite numbers; got"),
        (f"minimize {ME}:sphere --dim 2 --sigma -1", "--sigma: expected a finite number in"),
        (f"minimize {ME}:sphere --dim 2 --budget 0", "--budget: expected an int >= 1; got 0"),
        (f"minimize {ME}:sphere --dim 2 --workers 0", "--workers: expected an int from 1 to 4096"),
        (f"minimize {ME}:sphere --dim 2 --max-time 0", "--max-time: expected a finite number in"),
        (f"minimize {ME}:sphere --dim 2 --optimizer x", "--optimizer: expected one of 'clipup', "),
        ("minimize m:f --dim 2 --noisy --no-noise", "--noisy: expected it without --no-noise"),
        ("minimize m:f --dim 2 --option x", "--option: expected NAME=VALUE with a name of accept"),
        ("minimize m:f --dim 2 --option x=1", "weight_decay, layout, learning_rate, num_direct"),
        ("minimize m:f --dim 2 --option repeats=0", "repeats: expected an int from 1 to 1048576"),
        (f"minimize {ME}:sphere --dim 2 --option top_k=1", "top_k: expected None with optimizer"),
        ("minimize m:f --dim 2 --strict", "--strict: expected it with --command only"),
        ("minimize --command echo --dim 2 --vectorized", "--vectorized: expected it with MODULE:"),
        ("minimize --command echo --dim 2 --pass-seed", "--pass-seed: expected it with MODULE:"),
        ("minimize --command echo --dim 2 --timeout 0", "--timeout: expected a finite number in"),
        ("minimize --command echo --dim 2 --retries -1", "--retries: expected an int >= 0; got"),
        ("minimize --command echo --dim 2 --workers 0", "--workers: expected an int from 1 to 40"),
        ("minimize --command nowhere --dim 2", "--command: expected a program that exists (by it"),
        ("minimize m:f --dim 2 --resume", "--resume: expected --checkpoint FILE, the run to go"),
        ("minimize m:f --dim 2 --checkpoint no/c.npz", "--checkpoint: expected a file in a fold"),
        ("minimize m:f --dim 2 --checkpoint .", "--checkpoint: expected a file in a folder that"),
        ("minimize m:f --dim 2 --checkpoint bad.npy", "--checkpoint: bad.npy exists; add --res"),
        ("minimize m:f --dim 2 --output no/x.txt", "--output: expected a file in a folder that"),
        ("minimize m:f --dim 2 --plot no/p.png", "--plot: expected a file in a folder that exi"),
        ("minimize m:f --dim 2 --plot p.xyz", "--plot: expected a file name that ends in one of"),
        ("inspect", "the following arguments are required: CHECKPOINT (see bgs-opt inspect"),
        ("inspect none.npz", "CHECKPOINT: expected a file that --checkpoint wrote; got 'none.n"),
        ("plot none.npz -o p.png", "CHECKPOINT: expected a file that --checkpoint wrote; got"),
        ("plot none.npz", "the following arguments are required: -o/--output (see bgs-opt plot"),
        ("plot none.npz -o p.xyz", "--output: expected a file name that ends in one of"),
    ],
)
def test_a_command_line_that_cannot_work_is_refused_with_2(capsys, words, message):
    Path("bad.npy").write_bytes(b"no array")
    assert message in failure(capsys, 2, words)
    assert os.listdir() == ["bad.npy"]


def test_an_open_quote_in_a_command_is_refused(capsys):
    line = failure(capsys, 2, "minimize --dim 2 --command", "echo 'x")
    assert line == """--command: expected words; got "echo 'x": No closing quotation"""
    assert "got ''" in failure(capsys, 2, "minimize --dim 2 --command", "")


def test_a_picture_without_matplotlib_is_refused_before_the_run(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    line = failure(capsys, 2, f"minimize {ME}:raises --dim 2 --plot p.png")
    assert line.startswith("--plot: plots need Matplotlib")
    assert line.endswith("pip install 'bgs-opt[plots]'")


def test_another_run_in_the_checkpoint_is_refused_by_the_names_of_the_options(capsys):
    words = f"minimize {ME}:sphere --dim 2 --budget 20 --checkpoint run.npz --seed 1"
    assert run(f"{words} --quiet") == 0
    line = failure(capsys, 2, f"{words} --sigma 3 --seed 2 --resume")
    path = Path("run.npz").absolute()
    assert line.startswith(f"--seed, --sigma: expected what the run in {path} was started with")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("raises", "the objective raised ValueError: first line second line (test_cli.py, line "),
        ("returns_text", "fun: expected it to return a real number; got '0.5' (str)"),
        ("leaves", "the objective called sys.exit('enough'); return nan for a failed point"),
        ("sphere --checkpoint bad.npz --resume", "FOLDER/bad.npz: expected a checkpoint of bgs_"),
    ],
)
def test_a_run_that_fails_says_why_and_ends_with_1(capsys, words, message):
    Path("bad.npz").write_bytes(b"no checkpoint")
    message = message.replace("FOLDER", str(Path.cwd()))
    assert failure(capsys, 1, f"minimize {ME}:{words} --dim 2").startswith(message)


def test_an_error_in_a_worker_process_is_that_of_the_objective(capsys):
    Path("mymodel.py").write_text("def loss(x):\n    return {}[int(x[0])]\n")
    line = failure(capsys, 1, "minimize mymodel:loss --dim 2 --workers 2")
    assert line == "the objective raised KeyError: 0; --traceback shows more"


def test_with_traceback_the_error_shows_where_it_came_from(capsys):
    assert run(f"minimize {ME}:raises --dim 2 --traceback") == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert 'raise ValueError("first line' in err
    assert err.splitlines()[-1].startswith("bgs-opt: error: the objective raised ValueError")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 1, "interrupted"),
        (PermissionError(13, "Permission denied", "x.npz"), 1, "PermissionError: [Errno 13]"),
        (RuntimeError("oh"), 1, "RuntimeError: oh (--traceback shows where)"),
    ],
)
def test_an_error_outside_the_objective_is_one_line_too(capsys, monkeypatch, error, code, line):
    def broken(*args, **kwargs):
        raise error

    monkeypatch.setattr("bgs_opt.cli.minimize", broken)
    assert failure(capsys, code, f"minimize {ME}:sphere --dim 2").startswith(line)


# ---- numbers and bounds


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.txt", "1\n-2.5\n\n3e-1  # a comment\n"),
        ("x.txt", "1 -2.5\t0.3"),
        ("x.csv", "1, -2.5,0.3,\n"),
        ("x.csv", "1,-2.5\n0.3"),
    ],
)
def test_a_start_is_read_from_text(name, content):
    Path(name).write_text(content)
    x0, _ = start(parse(["minimize", "m:f", "--x0", f"@{name}"], ""))
    np.testing.assert_array_equal(x0, [1, -2.5, 0.3])


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3)])
def test_a_start_is_read_from_an_array_of_integers(shape):
    np.save("x.npy", np.arange(3).reshape(shape))
    x0, _ = start(parse(["minimize", "m:f", "--x0=@x.npy"], ""))
    np.testing.assert_array_equal(x0, [0, 1, 2])


def test_an_array_of_objects_is_not_unpickled(capsys):
    np.save("x.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "allow_pickle=False" in failure(capsys, 2, "minimize m:f --x0 @x.npy")


@pytest.mark.parametrize("words", ["--bounds=-1,1;0,inf", "--bounds @b.txt", "--bounds @b.npy"])
def test_bounds_of_each_parameter_and_a_start_moved_inside(words):
    Path("b.txt").write_text("-1 1\n0 inf\n")
    np.save("b.npy", [[-1, 1], [0, np.inf]])
    x0, (low, high) = start(parse(["minimize", "m:f", *words.split()], ""))
    np.testing.assert_array_equal([low, high], [[-1, 0], [1, np.inf]])
    np.testing.assert_array_equal(x0, [0, 0])


def test_numbers_may_be_written_with_an_exponent():
    args = parse(["minimize", "m:f", "--budget", "1e5", "--seed", "12345678901234567891"], "")
    assert keywords(args) == {"budget": 100_000, "seed": 12345678901234567891}


# ---- programs


def value_of(command: str, x=(1.5, -2e-7), seed: int = 9, **options) -> float:
    return Program(command, **options)(np.array(x), seed)


SHOW = f'{PYTHON} -c \'import sys; print(sys.argv[1:], file=open("seen", "w")); print(1)\''


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ("{}", ["1.5", "-2e-07"]),
        ("a --x={} b", ["a", "--x=1.5 -2e-07", "b"]),
        ("'{} '", ["1.5 -2e-07 "]),
        ("{seed} {} s{seed}", ["9", "1.5", "-2e-07", "s9"]),
        ("{other} {{}}", ["{other}", "{1.5 -2e-07}"]),
        ("'a b' $HOME *", ["a b", "$HOME", "*"]),
    ],
)
def test_placeholders_become_words(words, seen):
    assert value_of(f"{SHOW} {words}") == 1
    assert Path("seen").read_text().strip() == repr(seen)


def test_the_numbers_come_by_file_or_by_stdin_to_the_last_bit():
    x = np.random.default_rng(0).normal(size=3)
    code = "import sys; t = sys.stdin.read(); v = list(map(float, t.split())); print(v[0] - v[2])"
    assert value_of(f'{PYTHON} -c "{code}"', x) == x[0] - x[2]
    code = "import sys; v = list(map(float, open(sys.argv[1]))); print(v[0] - v[2])"
    assert value_of(f'{PYTHON} -c "{code}" {{file}}', x) == x[0] - x[2]


def test_the_file_is_removed_and_stdin_is_empty_where_a_placeholder_stands():
    code = 'import sys; open("seen", "w").write(sys.argv[1]); print(len(sys.stdin.read()))'
    assert value_of(f"{PYTHON} -c '{code}' {{file}}") == 0
    file = Path(Path("seen").read_text())
    assert file.name == "x.txt"
    assert not file.parent.exists()


@pytest.mark.parametrize(
    ("printed", "value"),
    [
        ("0.5", 0.5),
        ("loss = -1.5e-3", -1.5e-3),
        ("1 2\\n3 4\\n\\nbye\\n", 4),
        ("[0.25]", 0.25),
        ("value:+7.", 7),
        ("The loss is .5.", 0.5),
        ("1.0D+03", 1000),
        ("x1 5 y2 1.2.3 2s 4-5", 4),
        ("3 v1", 3),
        ("50%%", 50),
        ("nan", np.nan),
        ("-Infinity", -np.inf),
        ("1e999", np.inf),
        ("\\377 8", 8),
    ],
)
def test_the_value_is_the_last_number_that_stands_by_itself(printed, value):
    np.testing.assert_equal(value_of(f"printf '{printed}'"), value)


@pytest.mark.parametrize("printed", ["", "no number", "banana info x1"])
def test_a_program_that_prints_no_number_is_an_error(printed):
    with pytest.raises(ProgramError, match="printf printed no number; the last number on its"):
        value_of(f"printf '{printed}'")


FAILURES = [
    ("sh -c 'echo first >&2; echo second >&2; echo 1; exit 3'", "ended with status 3: first"),
    ("sh -c 'exit 3'", "ended with status 3"),
    ("sh -c 'kill -9 $$'", "was killed by signal 9"),
    ("sleep 60", r"gave no value within 0\.2 s"),
]


@pytest.mark.parametrize(("command", "message"), FAILURES)
def test_a_program_that_fails_gives_nan_and_one_warning(command, message):
    program = Program(command, timeout=0.2, retries=0)
    with pytest.warns(BGSWarning, match=f"{message}; such points count as failed") as caught:
        assert np.isnan([program(np.zeros(1)) for _ in range(2)]).all()
    assert len(caught) == 1


@pytest.mark.parametrize(("command", "message"), FAILURES)
def test_a_program_that_fails_is_an_error_if_strict(command, message):
    with pytest.raises(ProgramError, match=f"{message}$"):
        value_of(command, timeout=0.2, retries=0, strict=True)


@pytest.mark.parametrize("end", ["kill -9 $$", "sleep 60"])
@pytest.mark.parametrize("retries", [1, 2])
def test_a_killed_program_is_tried_again(end, retries):
    command = f"sh -c 'echo x >> tries; test $(wc -l < tries) -gt 1 || {end}; echo 5'"
    assert value_of(command, timeout=0.5, retries=retries) == 5
    assert Path("tries").read_text() == "x\nx\n"


def test_a_program_that_fails_by_its_status_is_not_tried_again():
    with pytest.warns(BGSWarning, match="ended with status 1"):
        value_of("sh -c 'echo x >> tries; exit 1'", retries=3)
    assert Path("tries").read_text() == "x\n"


def test_a_program_that_cannot_be_started_says_what_may_be_wrong():
    Path("script").write_text("no first line\n")
    Path("script").chmod(0o755)
    with pytest.raises(ProgramError, match=r"\./script could not be started \(Exec format error"):
        value_of("./script")
    with pytest.raises(ProgramError, match=r"Argument list too long\); .* fit into \{file\}"):
        value_of("echo {}", np.full(400_000, 0.1))


def test_wrong_arguments_of_a_program_are_refused_by_name():
    with pytest.raises(ArgumentTypeError, match="retries: expected an int >= 0"):
        Program("echo 1", retries=1.5)
    with pytest.raises(ArgumentValueError, match="timeout: expected a finite number in"):
        Program("echo 1", timeout=float("inf"))


def test_a_closed_program_starts_nothing():
    program = Program("sh -c 'echo x >> tries; echo 1'")
    program.close()
    assert np.isnan(program(np.zeros(1)))
    assert not Path("tries").exists()


SPHERE = "awk '{s += ($1 - 0.5) ^ 2} END {printf \"%.17g\", s}'"


@pytest.mark.parametrize("workers", [1, 3])
def test_a_program_is_minimized_as_a_function_is(capsys, workers):
    words = f"minimize --x0 1,2,3 --budget 90 --seed 2 --json --workers {workers} --command"
    assert run(words, SPHERE) == 0
    found = json.loads(capsys.readouterr().out)
    expected = minimize(lambda x: float(sum((x - 0.5) ** 2)), [1, 2, 3], budget=90, seed=2)
    np.testing.assert_allclose(found["x"], expected.x, rtol=1e-6, atol=1e-9)


def test_both_ends_of_a_pair_get_the_same_seed(capsys):
    command = "sh -c 'echo $0 >> seeds; echo $0' {seed}"
    words = "minimize --dim 2 --budget 20 --seed 1 --no-noise --json --optimizer sgd --command"
    assert run(words, command) == 0
    seeds = list(map(int, Path("seeds").read_text().split()))
    assert seeds[::2] == seeds[1::2]
    assert len(set(seeds)) == len(seeds) // 2 > 5


@pytest.mark.parametrize(("strict", "code"), [(False, 0), (True, 1)])
def test_a_program_that_fails_now_and_then_is_minimized_unless_strict(capsys, strict, code):
    command = "sh -c 'case $1 in -*) echo oh >&2; exit 4;; esac; echo $1' sh {}"
    words = f"minimize --x0 0.1,1 --budget 30 --seed 1 --json {'--strict' * strict} --command"
    assert run(words, command) == code
    out, err = capsys.readouterr()
    lines = err.splitlines()
    if strict:
        assert (out, lines) == ("", ["bgs-opt: error: sh ended with status 4: oh"])
    else:
        assert json.loads(out)["x"][0] >= 0
        assert lines[0].startswith("bgs-opt: warning: sh ended with status 4: oh; such points")
        assert [line for line in lines if "status 4" in line] == lines[:1]


# ---- the real program


def alive(pid: int) -> bool:
    """Whether a process runs (and is no zombie that nobody has waited for)."""
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(done.stdout.strip()) and not done.stdout.startswith("Z")


def gone(pids: list[int]) -> bool:
    """Whether all of them end within a few seconds."""
    for _ in range(100):
        if not any(map(alive, pids)):
            return True
        time.sleep(0.05)
    return False


SLEEPER = "sh -c 'sleep 60 & echo $$ $! >> pids; wait'"


def pids_in(file: str, lines: int) -> list[int]:
    """The process ids in a file, once it has so many lines."""
    for _ in range(600):
        text = Path(file).read_text() if Path(file).exists() else ""
        if text.count("\n") >= lines:
            return list(map(int, text.split()))
        time.sleep(0.05)
    raise TimeoutError(file)


def test_a_timeout_kills_whatever_the_program_started():
    with pytest.warns(BGSWarning, match="gave no value"):
        value_of(SLEEPER, timeout=0.5, retries=0)
    assert gone(pids_in("pids", 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_and_no_programs(number):
    words = "minimize --dim 2 --workers 2 --checkpoint run.npz --json --command"
    process = subprocess.Popen(
        [sys.executable, "-m", "bgs_opt", *words.split(), SLEEPER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        pids = pids_in("pids", 2)
        assert all(map(alive, pids))
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert json.loads(out)["message"] == "interrupted by the user"
    assert err == (
        "bgs-opt: error: interrupted by the user; the same command with --resume goes on from "
        "run.npz\n"
    )
    assert len(BGS.load("run.npz").pending) == 4
    assert gone(pids)


@pytest.mark.parametrize(
    ("handler", "code", "status"),
    [
        (signal.SIG_DFL, 1, "interrupted by the user"),
        (signal.SIG_IGN, 0, "the budget of evaluations is spent"),
    ],
)
def test_a_hangup_ends_the_run_unless_it_is_ignored_as_under_nohup(capsys, handler, code, status):
    kept = signal.signal(signal.SIGHUP, handler)
    try:
        assert run(f"minimize {ME}:hangs_up --dim 2 --budget 20 --json") == code
        assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, kept)
    assert json.loads(capsys.readouterr().out)["message"] == status


def test_signals_are_handled_as_before_after_a_run():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(f"minimize {ME}:sphere --dim 2 --budget 20 --quiet") == 0
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, kept)
    assert [signal.getsignal(number) for number in numbers] == before


def test_version_and_help_end_with_0(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"bgs-opt {bgs_opt.__version__}\n"
    for command in ("minimize", "inspect", "plot"):
        assert run(f"{command} --help") == 0
        assert capsys.readouterr().out.startswith(f"usage: bgs-opt {command} ")


def test_the_installed_program_and_the_module_are_the_same():
    scripts = importlib.metadata.distribution("bgs-opt").entry_points
    [entry] = {(e.name, e.value) for e in scripts.select(group="console_scripts")}
    assert entry == ("bgs-opt", "bgs_opt.cli:main")
    command = [sys.executable, "-m", "bgs_opt", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"bgs-opt {bgs_opt.__version__}\n"


def test_the_heavy_packages_are_loaded_only_where_they_are_needed(checkpoint):
    program = """
import sys
from bgs_opt.cli import main
main(["--version"])
main(["inspect", "run.npz"])
print(*(name for name in ("scipy", "matplotlib", "tqdm", "torch") if name in sys.modules))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


# ---- inspect and plot


def test_inspect_says_what_the_checkpoint_holds(capsys, checkpoint):
    opt = BGS.load(checkpoint)
    opt.ask(3)
    opt.save(checkpoint)
    assert run(f"inspect {checkpoint} --json") == 0
    found = json.loads(capsys.readouterr().out)
    expected = {
        "file": "run.npz",
        "format": 1,
        "dim": 3,
        "dtype": "float64",
        "generation": 20,
        "evaluations": opt.num_evaluations,
        "budget": 500,
        "pending": 3,
        "sigma": 0.1,
        "best": opt.best.value,
        "recent": opt.recent_value,
        "noisy": None,
        "maximize": False,
        "bounds": False,
        "options": {},
    }
    assert {name: found[name] for name in expected} == expected
    assert found["optimizer"].startswith("ClipUp(")
    assert run(f"inspect {checkpoint}") == 0
    table = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert table.keys() == found.keys()
    assert (table["dim"], table["noisy"], table["maximize"]) == ("3", "-", "no")
    assert table["best"] == f"{opt.best.value:.6g}"


def test_inspect_shows_the_options_that_were_changed(capsys):
    words = f"minimize {ME}:reward --dim 2 --maximize --budget 40 --checkpoint run.npz --quiet"
    assert run(f"{words} --noisy --bounds 0,1 --option averaging=0.5") == 0
    assert run("inspect run.npz --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["options"] == {"averaging": 0.5, "noisy": True}
    assert (found["maximize"], found["bounds"], found["optimizer"]) == (True, True, "auto")
    assert found["best"] == BGS.load("run.npz").best.value <= 0
    assert run("inspect run.npz") == 0
    assert "options      averaging=0.5, noisy=yes\n" in capsys.readouterr().out


def test_a_checkpoint_of_a_run_without_values_has_none(capsys):
    BGS([0.0], 1.0).save("run.npz")
    assert run("inspect run.npz --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["best"], found["recent"], found["evaluations"]) == (None, None, 0)


@pytest.mark.parametrize("words", ["inspect run.npz", "plot run.npz -o run.png"])
def test_a_damaged_checkpoint_is_reported_with_1(capsys, checkpoint, words):
    data = Path(checkpoint).read_bytes()
    Path(checkpoint).write_bytes(data[: len(data) // 2])
    assert "run.npz: expected a checkpoint of bgs_opt; it is" in failure(capsys, 1, words)
    assert not Path("run.png").exists()


def test_plot_draws_the_run_of_a_checkpoint(capsys, checkpoint):
    assert run(f"plot {checkpoint} -o run.svg") == 0
    assert capsys.readouterr() == ("", "")
    assert "run.npz, 3 parameters" in Path("run.svg").read_text()
