"""pycma, cmaes, Optuna's CmaEsSampler and SciPy's differential evolution, used as they show it."""

import contextlib
import pickle
import warnings
from pathlib import Path

import numpy as np

from tests.benchmarks.scoreboard.base import BUDGET, SIGMA, SIZE, AskTell, Subject
from tests.benchmarks.scoreboard.faults import START, numbers, sphere

NAN = float("nan")
WIDTHS = (0.0, -1.0, NAN, np.inf)
LOW, HIGH = -0.5, 2.5  # bounds where a peer wants them: the middle is the start, a sixth is SIGMA


class PyCMA(AskTell):
    """cma.CMAEvolutionStrategy: ask, tell, optimize, EvalParallel2."""

    name = "pycma"
    words = (
        "`CMAEvolutionStrategy`: ask and tell, `optimize(n_jobs=2)`; with a deadline EvalParallel2"
    )
    packages = ("cma",)
    singly = records_errors = False
    lacks = {17: "pickle_dumps() returns bytes; the caller writes the file"}

    def make(self, seed=1, variant="", start=None, **options):
        import cma

        given = {"seed": seed, "popsize": SIZE, "verbose": -1, "verb_log": 0, "verb_disp": 0}
        return cma.CMAEvolutionStrategy(START if start is None else start, SIGMA,
                                        {**given, **options})  # fmt: skip

    def ask(self, run):
        return [(x, x) for x in run.ask()]

    def tell(self, run, handles, values):
        before = list(values)
        run.tell(handles, values)
        return values, before

    def center(self, run):
        return run.mean

    def best(self, run):
        return run.result.fbest

    def held(self, run):
        return [run.mean, run.result.xbest, run.result.xfavorite]

    def save(self, run, asked, path):
        Path(path).write_bytes(run.pickle_dumps())
        Path(f"{path}-asked").write_bytes(pickle.dumps(asked))

    def load(self, path):
        asked = pickle.loads(Path(f"{path}-asked").read_bytes())
        return pickle.loads(Path(path).read_bytes()), asked

    def tell_some(self, run, asked):
        run.values = [sphere(x) for _, x in asked]  # they are told as a whole, later
        run.early = [handle for handle, _ in asked]

    def tell_rest(self, run, asked, f):
        handles, values = run.early, run.values
        del run.early, run.values
        run.tell([*handles, *(x for x, _ in asked)], [*values, *(f(x) for _, x in asked)])

    def miscounts(self, run):
        points = run.ask()
        return [("a value missing", lambda: run.tell(points, [1.0] * 7)),
                ("a value too much", lambda: run.tell(points, [1.0] * 9))]  # fmt: skip

    def bad(self):
        import cma

        def made(start=START, sigma=SIGMA, **options):
            return cma.CMAEvolutionStrategy(start, sigma, {"verbose": -9, **options})

        return [*((f"width {v}", lambda v=v: made(sigma=v)) for v in WIDTHS),
                ("start of NaN", lambda: made([1.0, NAN])),
                *((f"{n} points", lambda n=n: made(popsize=n)) for n in (0, -4)),
                ("swapped bounds", lambda: made(bounds=[2.0, 0.0])),
                ("bounds of NaN", lambda: made(bounds=[NAN, 2.0]))]  # fmt: skip

    def make_run(self, way, folder, *, deadline=None):
        return {"es": self.make(seed=7), "n_jobs": 0 if way == "serial" else 2,
                "deadline": deadline}  # fmt: skip

    def minimize(self, run, f):
        from cma.optimization_tools import EvalParallel2

        es = run["es"]
        if run["deadline"] is None:
            es.optimize(f, maxfun=BUDGET - es.countevals, n_jobs=run["n_jobs"])
        else:
            with EvalParallel2(f, run["n_jobs"]) as evaluate:
                while es.countevals < BUDGET:
                    points = es.ask()
                    es.tell(points, evaluate(points, timeout=run["deadline"]))
        return es.result.xbest, es.result.fbest


class CMAES(AskTell):
    """cmaes.CMA."""

    name = "cmaes"
    words = "`CMA`: ask and tell"
    packages = ("cmaes",)
    singly = False
    lacks = dict.fromkeys((13, 14, 15, 16), "it has no loop of its own and no workers")
    lacks[17] = "it is pickled; the caller writes the file"

    def make(self, seed=1, variant="", start=None, **options):
        from cmaes import CMA

        given = {"mean": START if start is None else start, "sigma": SIGMA, "seed": seed,
                 "population_size": SIZE}  # fmt: skip
        search = CMA(**{**given, **options})
        search.least = np.inf
        return search

    def ask(self, run):
        points = [run.ask() for _ in range(run.population_size)]
        return [(x, x) for x in points]

    def tell(self, run, handles, values):
        given = list(zip(handles, values, strict=False))
        order = [id(pair) for pair in given]
        run.tell(given)
        with contextlib.suppress(TypeError, ValueError):
            run.least = min([run.least, *(v for v in values if np.isfinite(v))])
        return [id(pair) for pair in given], order

    def center(self, run):
        return run.mean

    def best(self, run):
        return run.least  # of the caller's own: the class keeps no best

    def held(self, run):
        return [run.mean]

    save, load = PyCMA.save, PyCMA.load
    tell_some, tell_rest = PyCMA.tell_some, None

    def miscounts(self, run):
        told = [(x, 1.0) for x, _ in self.ask(run)]
        return [("a value missing", lambda: run.tell(told[:7])),
                ("a value too much", lambda: run.tell([*told, (START, 1.0)]))]  # fmt: skip

    def bad(self):
        pairs = np.array([[2.0, 0.0]] * 4), np.array([[NAN, 2.0]] * 4)
        return [*((f"width {v}", lambda v=v: self.make(sigma=v)) for v in WIDTHS),
                ("start of NaN", lambda: self.make(mean=np.array([1.0, NAN]))),
                *((f"{n} points", lambda n=n: self.make(population_size=n)) for n in (0, -4)),
                ("swapped bounds", lambda: self.make(bounds=pairs[0])),
                ("bounds of NaN", lambda: self.make(bounds=pairs[1]))]  # fmt: skip


def _tell_rest(self, run, asked, f):
    handles, values = run.early, run.values
    del run.early, run.values
    run.tell([*zip(handles, values, strict=True), *((x, f(x)) for x, _ in asked)])


def _save(self, run, asked, path):
    Path(path).write_bytes(pickle.dumps(run))
    Path(f"{path}-asked").write_bytes(pickle.dumps(asked))


CMAES.tell_rest, CMAES.save = _tell_rest, _save


class Differential(Subject):
    """scipy.optimize.differential_evolution."""

    name = "SciPy DE"
    words = "`differential_evolution(workers=2, updating='deferred')`"
    packages = ("scipy",)
    size = 20
    plays_on = records_errors = False
    lacks = {**dict.fromkeys((6, 7, 8), "it evaluates by itself; there is nothing to tell"),
             **dict.fromkeys((9, 10, 17), "a run cannot be kept")}  # fmt: skip
    variants = ("", "deferred")

    def make(self, seed=1, variant="", start=None):
        return {"rng": seed, "updating": variant or "immediate", "x0": start}

    def play(self, run, f, generations):
        if generations:
            run["found"] = self.solve(f, generations, **run)

    def solve(self, f, generations, shown=None, **given):
        from scipy.optimize import differential_evolution

        def callback(intermediate_result):
            if shown:
                shown(intermediate_result.x)
                shown(intermediate_result.population)

        given.pop("found", None)
        options = {"popsize": 5, "polish": False, "maxiter": generations - 1, **given}
        bounds = options.pop("bounds", [(LOW, HIGH)] * 4)
        return differential_evolution(f, bounds, callback=callback, **options)

    takes_start = True

    def best(self, run):
        return run["found"].fun

    def bad(self):
        def call(**options):
            from tests.benchmarks.scoreboard.ours import unwanted

            return self.solve(unwanted, 2, **options)

        return [*((f"mutation {v}", lambda v=v: call(mutation=v)) for v in (-1.0, NAN, np.inf)),
                ("start of NaN", lambda: call(x0=[1.0, 1.0, 1.0, NAN])),
                *((f"{n} times d points", lambda n=n: call(popsize=n)) for n in (0, -4)),
                ("swapped bounds", lambda: call(bounds=[(2.0, 0.0)] * 4)),
                ("bounds of NaN", lambda: call(bounds=[(NAN, 2.0)] * 4))]  # fmt: skip

    def make_run(self, way, folder, *, deadline=None):
        return {"rng": 7, "updating": "deferred", "workers": 1 if way == "serial" else 2,
                "popsize": 4, "maxiter": 2}  # fmt: skip

    def minimize(self, run, f):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = self.solve(f, 3, **run)
        return numbers(result.x), float(result.fun)
