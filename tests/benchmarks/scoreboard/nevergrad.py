"""Nevergrad's CMA and DE, and BGS in Nevergrad's registry, in the same loops."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from tests.benchmarks.scoreboard.base import BUDGET, SIGMA, SIZE, AskTell
from tests.benchmarks.scoreboard.faults import START, sphere
from tests.benchmarks.scoreboard.peers import NAN, WIDTHS


class Nevergrad(AskTell):
    """Optimizers of the registry."""

    name = "Nevergrad"
    words = '`registry["CMA"]` and `["DE"]`: ask and tell, `dump`, `minimize` with two processes'
    packages = ("nevergrad", "cma")
    grows = records_errors = False
    variants = ("CMA", "DE")
    start_seconds = 15.0
    lacks = {6: "any point can be told any number of times: a second value is another evaluation"}
    beyond = {(5, name): "a list is a loss with several objectives"
              for name in ("two numbers", "two numbers for each")}  # fmt: skip

    def family(self, variant):
        import nevergrad as ng

        return ng.optimizers.registry[variant or self.variants[0]]

    def make(self, seed=1, variant="", start=None, budget=10_000, workers=SIZE, sigma=SIGMA,
             **options):  # fmt: skip
        import nevergrad as ng

        array = ng.p.Array(init=START if start is None else start, **options)
        array.set_mutation(sigma=sigma)
        array.random_state = np.random.RandomState(seed)
        return self.family(variant)(array, budget=budget, num_workers=workers)

    def ask(self, run):
        asked = [run.ask() for _ in range(self.generation(run))]
        return [(candidate, candidate.value) for candidate in asked]

    def generation(self, run):
        """Points of a generation."""
        return SIZE

    def tell(self, run, handles, values):
        for handle, value in zip(handles, values, strict=True):
            run.tell(handle, value)
        return list(values), list(values)

    def best(self, run):
        found = run.recommend()
        return sphere(found.value) if found.loss is None else found.loss

    def held(self, run):
        return [run.recommend().value]

    # ---- keeping

    def save(self, run, asked, path):
        run.dump(path)
        Path(f"{path}-asked").write_bytes(pickle.dumps([candidate for candidate, _ in asked]))

    def load(self, path):
        from nevergrad.optimization.base import Optimizer

        asked = pickle.loads(Path(f"{path}-asked").read_bytes())
        return Optimizer.load(path), [(candidate, candidate.value) for candidate in asked]

    def write(self, path, generations):
        from nevergrad.optimization.base import Optimizer

        run = Optimizer.load(path) if Path(path).exists() else self.make(seed=5)
        self.play(run, sphere, generations)
        run.dump(path)

    def count(self, path):
        from nevergrad.optimization.base import Optimizer

        return Optimizer.load(path).num_tell

    def bad(self):
        def made(**options):
            return self.make(**options)

        swapped = {"lower": 2.0, "upper": 0.0}
        return [*((f"width {v}", lambda v=v: made(sigma=v)) for v in WIDTHS),
                ("start of NaN", lambda: made(start=np.array([1.0, NAN]))),
                *((f"budget {n}", lambda n=n: made(budget=n)) for n in (0, -4)),
                ("swapped bounds", lambda: made(**swapped)),
                ("bounds of NaN", lambda: made(lower=NAN, upper=2.0))]  # fmt: skip

    # ---- workers

    def make_run(self, way, folder, *, deadline=None):
        search = self.make(seed=7, budget=BUDGET, workers=2)
        executor = None if way == "serial" else ProcessPoolExecutor(max_workers=2)
        return {"search": search, "executor": executor, "deadline": deadline}

    def minimize(self, run, f):
        deadline = run["deadline"]
        options = {"max_time": 5 * deadline} if deadline else {"batch_mode": True}
        found = run["search"].minimize(f, executor=run["executor"], **options)
        return np.array(found.value), sphere(found.value)

    def settle(self, run):
        executor = run["executor"]
        if executor is None:
            return
        executor.shutdown(wait=False, cancel_futures=True)


class InNevergrad(Nevergrad):
    """BGS of the registry."""

    name = "in Nevergrad"
    words = '`registry["BGS"]`, `["BGSWide"]` and `ParametrizedBGS(num_directions=4)`'
    packages = ("bgs_opt", "nevergrad")
    ours = True
    variants = ("BGS", "BGSWide", "num_directions=4")
    lacks = {
        6: Nevergrad.lacks[6],
        14: "the pool of processes is the caller's, and minimize(), which keeps its broken "
            "futures, is Nevergrad's",
    }  # fmt: skip
    beyond = Nevergrad.beyond | {
        (12, "start"): "ng.p.Array keeps the array that it is given",
        (15, "resumable"): "minimize() of Nevergrad keeps a failed future as the next to be told",
        (16, "gone"): "the pool of processes is the caller's",
    }

    def family(self, variant):
        from bgs_opt.adapters.nevergrad import REGISTERED, ParametrizedBGS

        if variant == "num_directions=4":
            return ParametrizedBGS(num_directions=4)
        return REGISTERED[variant or "BGS"]

    def generation(self, run):
        """With the evaluation of the center that a step of the paper's has here."""
        return SIZE + ("num_directions=4" in repr(run._family))

    def bad(self):
        from bgs_opt.adapters.nevergrad import ParametrizedBGS

        return [*((f"width {v}", lambda v=v: ParametrizedBGS(sigma=v)) for v in WIDTHS),
                *((f"{n} directions", lambda n=n: ParametrizedBGS(num_directions=n))
                  for n in (0, -4)),
                ("learning rate of NaN", lambda: ParametrizedBGS(learning_rate=NAN))]  # fmt: skip
