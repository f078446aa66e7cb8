"""bgs_opt itself: the core, and through SciPy's ``minimize`` and ``train``."""

import os
from pathlib import Path

import numpy as np

from bgs_opt import BGS, Options, minimize
from tests.benchmarks.scoreboard.base import BUDGET, SIGMA, AskTell, Subject, mark
from tests.benchmarks.scoreboard.faults import START, Faulty, numbers, sphere

NAN = float("nan")
SETTINGS = {
    "": {},
    "auto": {"optimizer": "auto", "num_directions": None},
    "sgd": {"optimizer": "sgd"},
    "adam": {"optimizer": "adam"},
    "max": {"selection": "max"},
    "rank": {"options": Options(reward_scale="rank")},
    "hadamard": {"sampler": "hadamard"},
    "maximize": {"maximize": True},
}


class Core(AskTell):
    """BGS by ask and tell; its workers are those of minimize()."""

    name = "bgs_opt"
    words = "`BGS` by ask and tell, `minimize` for workers"
    packages = ("bgs_opt",)
    ours = True
    variants = tuple(SETTINGS)
    grows = records_errors = False

    def make(self, seed=1, variant="", start=None):
        given = START if start is None else start
        return BGS(given, SIGMA, **{"num_directions": 4, "seed": seed, **SETTINGS[variant]})

    def ask(self, run):
        candidates = run.ask()
        return [(int(name), x) for name, x in zip(candidates.ids, candidates, strict=True)]

    def tell(self, run, handles, values):
        if run._config.maximize:
            values = [-value for value in values]
        before = list(values)
        run.tell(handles, values)
        return values, before

    def discard(self, run, handle):
        return run.discard([handle])

    def center(self, run):
        return run.center

    def best(self, run):
        return -run.best.value if run._config.maximize else run.best.value

    def held(self, run):
        return [run.center, run.best.x, run.average, run.recommendation, run.pending.ids]

    def save(self, run, asked, path):
        run.save(path)

    def load(self, path):
        run = BGS.load(path)
        pending = run.pending
        return run, list(zip(pending.ids.tolist(), pending, strict=True))

    def count(self, path):
        return BGS.load(path).num_evaluations

    def miscounts(self, run):
        handles = [handle for handle, _ in self.ask(run)]
        return [("a value missing", lambda: run.tell(handles, [1.0] * 7)),
                ("a value too much", lambda: run.tell(handles, [1.0] * 9))]  # fmt: skip

    def bad(self):
        cases = [(f"width {value}", lambda v=value: BGS(START, v))
                 for value in (0.0, -1.0, NAN, np.inf)]  # fmt: skip
        cases += [("start of NaN", lambda: BGS([1.0, NAN], SIGMA)),
                  *((f"{n} directions", lambda n=n: BGS(START, SIGMA, num_directions=n))
                    for n in (0, -4)),
                  ("swapped bounds", lambda: BGS(START, SIGMA, bounds=(2.0, 0.0))),
                  ("bounds of NaN", lambda: BGS(START, SIGMA, bounds=(NAN, 2.0)))]  # fmt: skip
        return cases

    def make_run(self, way, folder, *, deadline=None):
        return {"workers": 1 if way == "serial" else 2, "timeout": deadline,
                "checkpoint": Path(folder) / "run", "resume": True}  # fmt: skip

    def minimize(self, run, f):
        result = minimize(f, START, sigma=SIGMA, budget=BUDGET, seed=7, **run)
        return result.x, result.fun


# ---- what runs as a whole: an objective goes in, a result comes out


class Whole(Subject):
    """A function that searches by itself and can be kept in a file.

    ``solve(f, generations, **given)`` returns (center, value of the answer, its point).
    """

    ours = True
    grows = records_errors = False
    plays_on = False
    lacks = dict.fromkeys((6, 7, 8), "it evaluates by itself; there is nothing to tell")

    def solve(self, f, generations, **given):
        raise NotImplementedError

    def make(self, seed=1, variant="", start=None):
        return {"seed": seed, "variant": variant, "start": START if start is None else start}

    def play(self, run, f, generations):
        if generations:
            run["found"] = self.solve(f, generations, **run)

    def center(self, run):
        return run["found"][0] if "found" in run else START

    def best(self, run):
        return run["found"][1]

    # ---- a run is killed in an evaluation, and continued by a new process

    def keep(self, path, middle):
        self.solve(Faulty(str(Path(path).parent), "die", 29 if middle else 25), 6,
                   seed=5, path=path)  # fmt: skip

    def resume(self, path, middle):
        return [numbers(self.solve(sphere, 6, seed=5, path=path)[2])]

    def whole(self, middle):
        return [numbers(self.solve(sphere, 6, seed=5)[2])]

    def write(self, path, generations):
        done = self.count(path) // 8 if os.path.exists(path) else 0
        self.solve(sphere, done + generations, seed=5, path=path)


class SciPy(Whole):
    """The method of scipy.optimize.minimize."""

    name = "in SciPy"
    words = "`scipy.optimize.minimize(method=bgs)`"
    packages = ("bgs_opt", "scipy")
    takes_start = True
    variants = ("", "auto", "maximize")

    def solve(self, f, generations, seed=1, variant="", start=START, path=None, shown=None,
              **given):  # fmt: skip
        from scipy.optimize import minimize as host

        from bgs_opt.adapters.scipy import bgs

        def callback(intermediate_result):
            mark(f)
            if shown:
                for name in ("x", "center"):
                    shown(intermediate_result[name])

        options = {"rng": seed, "sigma": SIGMA, "maxiter": generations, **given}
        if variant != "auto":
            options |= {"optimizer": "clipup", "num_directions": 4, "noisy": False}
        if variant == "maximize":
            options["maximize"] = True
        if path is not None:
            options |= {"checkpoint": path, "resume": True, "checkpoint_seconds": 0.0}
        mark(f)
        sign = -1.0 if variant == "maximize" else 1.0
        result = host(Signed(f) if sign < 0 else f, start, method=bgs, callback=callback,
                      options=options)  # fmt: skip
        return np.array(result.center), sign * float(result.best.value), np.array(result.x)

    def count(self, path):
        return BGS.load(path).num_evaluations

    def bad(self):
        def call(start=START, bounds=None, **options):
            from scipy.optimize import minimize as host

            from bgs_opt.adapters.scipy import bgs

            return host(unwanted, start, method=bgs, bounds=bounds, options=options)

        return [*((f"width {v}", lambda v=v: call(sigma=v)) for v in (0.0, -1.0, NAN, np.inf)),
                ("start of NaN", lambda: call([1.0, NAN])),
                *((f"{n} directions", lambda n=n: call(num_directions=n, optimizer="sgd"))
                  for n in (0, -4)),
                ("swapped bounds", lambda: call(bounds=[(2.0, 0.0)] * 4)),
                ("bounds of NaN", lambda: call(bounds=[(NAN, 2.0)] * 4))]  # fmt: skip

    def make_run(self, way, folder, *, deadline=None):
        return {"workers": 1 if way == "serial" else 2, "timeout": deadline,
                "path": Path(folder) / "run"}  # fmt: skip

    def minimize(self, run, f):
        _, value, x = self.solve(f, None, seed=7, variant="auto", maxfev=BUDGET, **run)
        return x, value


class Signed:
    """Minus a function."""

    def __init__(self, f):
        self.f = f

    def __call__(self, x):
        value = self.f(x)
        try:
            return -value
        except TypeError:
            return value


class EvaluatedError(Exception):
    """A bad argument was not refused before the first evaluation."""


def unwanted(x):
    """An objective that must not be reached."""
    raise EvaluatedError("only while evaluating")


def zeros():
    """A policy of four numbers, made without a draw from a global generator."""
    import torch

    network = torch.nn.utils.skip_init(torch.nn.Linear, 1, 4, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(network.weight)
    return network


class Train(Whole):
    """train(), where an episode of one step is an evaluation."""

    name = "train()"
    words = "`train` with a policy of four numbers, in an environment of one step"
    packages = ("bgs_opt", "torch", "gymnasium", "safetensors")
    start_seconds = 30.0
    lacks = Whole.lacks | {
        12: "the policy is a module that is trained in place: that the caller has it too is meant"
    }
    variants = ("", "clipup", "adam")

    def solve(self, f, generations, seed=1, variant="", start=START, path=None, **given):
        from bgs_opt.adapters.policy import Evaluation, Rollout, train
        from tests.benchmarks.scoreboard.episodes import Probe

        network = zeros()
        options = {"optimizer": variant} if variant else {}
        if path is not None:
            options |= {"checkpoint": path, "resume": True, "checkpoint_seconds": 0.0}
        result = train(
            network, Probe(f), generations=generations, num_directions=4, seed=seed, sigma=0.1,
            normalize=False, evaluation=Evaluation(every=0, episodes=1), rollout=Rollout(lanes=1),
            **options, **given,
        )  # fmt: skip
        point = 1.0 + Probe.REACH * network.weight.detach().numpy().ravel()
        found = result.history["best_return"]
        best = -float(np.nanmax(found)) if np.isfinite(found).any() else NAN
        return point, best, point

    def count(self, path):
        from bgs_opt.adapters.policy import train
        from tests.benchmarks.scoreboard.episodes import Probe

        copy = Path(f"{path}-copy")  # it is written again at the end
        copy.write_bytes(Path(path).read_bytes())
        found = train(zeros(), Probe(sphere), generations=1, num_directions=4, seed=5, sigma=0.1,
                      normalize=False, checkpoint=copy, resume=True)  # fmt: skip
        return found.episodes

    def bad(self):
        def call(**options):
            from bgs_opt.adapters.policy import train
            from tests.benchmarks.scoreboard.episodes import Probe

            return train("linear", Probe(unwanted), **{"generations": 1, **options})

        return [*((f"width {v}", lambda v=v: call(sigma=v)) for v in (0.0, -1.0, NAN, np.inf)),
                *((f"{n} directions", lambda n=n: call(num_directions=n)) for n in (0, -4)),
                ("0 generations", lambda: call(generations=0)),
                ("a target of NaN", lambda: call(target=NAN))]  # fmt: skip

    def make_run(self, way, folder, *, deadline=None):
        return {"workers": 1 if way == "serial" else 2, "timeout": deadline,
                "path": Path(folder) / "run"}  # fmt: skip

    def minimize(self, run, f):
        _, value, x = self.solve(f, 6, seed=7, **run)
        return x, value
