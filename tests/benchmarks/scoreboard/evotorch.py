"""EvoTorch's PGPE, and BGS as an EvoTorch searcher, on the same problems."""

import copy
import logging
import os
import pickle
from pathlib import Path

import numpy as np

from tests.benchmarks.scoreboard.base import BUDGET, SIGMA, SIZE, Recorder, Subject
from tests.benchmarks.scoreboard.faults import START, sphere
from tests.benchmarks.scoreboard.peers import NAN, WIDTHS

ROOT = Path(__file__).resolve().parents[3]


class Switch:
    """The fitness function of a problem, which can be changed between steps."""

    def __init__(self, f, sign=1.0):
        self.f, self.sign = f, sign

    def __call__(self, x):
        value = self.f(x)
        return value if self.sign > 0 else -value


class EvoTorch(Subject):
    """A searcher, which evaluates a generation a step."""

    name = "EvoTorch"
    words = "`PGPE` with default settings; Ray actors as workers"
    packages = ("evotorch", "torch", "ray")
    takes_start = plays_on = True
    grows = records_errors = False
    start_seconds = 60.0
    seedings = ("Problem(seed=...)", "torch.manual_seed(...)")
    variants = ("", "max", "ranking_method=None", "ranking_method='nes'")
    lacks = {
        **dict.fromkeys((6, 7, 8), "a searcher evaluates by itself; there is nothing to tell"),
        10: "a step is a whole generation",
        17: "a searcher is pickled by the caller; PicklingLogger writes results only",
    }
    given = {"popsize": SIZE, "center_learning_rate": 0.2, "stdev_learning_rate": 0.1,
             "stdev_init": SIGMA}  # fmt: skip

    def searcher(self, problem, **options):
        from evotorch.algorithms import PGPE

        return PGPE(problem, **options)

    def settings(self, variant):
        """Options of the searcher."""
        if variant.startswith("ranking_method"):
            return {"ranking_method": None if "None" in variant else "nes"}
        return {}

    def make(self, seed=1, variant="", start=None, f=sphere, actors=0, **options):
        import torch
        from evotorch import Problem

        logging.disable(logging.INFO)
        sense = "max" if variant == "max" else "min"
        center = torch.as_tensor(START.copy() if start is None else start)
        problem = Problem(
            sense, Switch(f, -1.0 if sense == "max" else 1.0), solution_length=4,
            initial_bounds=(0.0, 2.0), dtype=torch.float64, seed=seed, num_actors=actors,
        )  # fmt: skip
        return self.searcher(problem, center_init=center,
                             **{**self.given, **self.settings(variant), **options})  # fmt: skip

    def play(self, run, f, generations):
        run.problem._objective_func.f = f
        for _ in range(generations):
            run.step()

    def center(self, run):
        """After what was evaluated last has counted, which is in the next step."""
        if not run.step_count:
            return run._distribution.parameters["mu"].numpy()
        ahead = copy.deepcopy(run)
        self.play(ahead, sphere, 1)
        return ahead.status["center"].numpy()

    def best(self, run):
        sign = 1.0 if run.problem.senses[0] == "min" else -1.0
        return sign * float(run.status["best_eval"])

    def held(self, run):
        shown = [run.status["center"], run.population.values]
        return [part.as_subclass(type(part)) for part in shown]

    # ---- keeping

    def _begin(self):
        run = self.make(seed=5)
        self.play(run, sphere, 3)
        return run

    def _go_on(self, run):
        seen = Recorder(sphere)
        self.play(run, seen, 3)
        return seen.points

    def keep(self, path, middle):
        Path(path).write_bytes(pickle.dumps(self._begin()))

    def resume(self, path, middle):
        return self._go_on(pickle.loads(Path(path).read_bytes()))

    def whole(self, middle):
        return self._go_on(self._begin())

    def miscounts(self, run):
        import torch
        from evotorch import Problem

        def with_rows(count):
            problem = Problem("min", lambda x: torch.ones(count), solution_length=4,
                              initial_bounds=(0.0, 2.0), vectorized=True)  # fmt: skip
            self.searcher(problem, **self.given).run(2)

        return [("a value missing", lambda: with_rows(SIZE - 1)),
                ("a value too much", lambda: with_rows(SIZE + 1))]  # fmt: skip

    def bad(self):
        return [*((f"width {v}", lambda v=v: self.make(stdev_init=v)) for v in WIDTHS),
                ("start of NaN", lambda: self.make(start=np.array([1.0, 1.0, 1.0, NAN]))),
                *((f"{n} points", lambda n=n: self.make(popsize=n)) for n in (0, -4)),
                ("step of NaN", lambda: self.make(center_learning_rate=NAN))]  # fmt: skip

    # ---- workers

    def make_run(self, way, folder, *, deadline=None, seeding="torch.manual_seed(...)"):
        return {"way": way, "seeding": seeding, "search": None}

    def started(self, run, f):
        import torch

        actors = 0 if run["way"] == "serial" else 2
        if actors:
            import ray

            os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112
            if not ray.is_initialized():
                path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
                ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False,
                         object_store_memory=10**8, logging_level="error",
                         runtime_env={"env_vars": {"PYTHONPATH": path}})  # fmt: skip
        torch.manual_seed(7)
        seed = 7 if run["seeding"].startswith("Problem") else None
        return self.make(seed=seed, f=f, actors=actors)

    def minimize(self, run, f):
        if run["search"] is None:
            run["search"] = self.started(run, f)
        search = run["search"]
        while search.step_count < BUDGET // SIZE:
            search.step()
        return search.status["center"].numpy(), float(search.status["best_eval"])

    def settle(self, run):
        if run["search"] is not None and run["search"].problem.actors is not None:
            run["search"].problem.kill_actors()


class InEvoTorch(EvoTorch):
    """BGS as an EvoTorch searcher."""

    name = "in EvoTorch"
    words = "the searcher `BGS`; Ray actors as workers"
    packages = ("bgs_opt", "evotorch", "torch", "ray")
    ours = True
    variants = ("", "max", "ranking_method='nes'", "adam", "stdev_learning_rate=0.1")
    _BATCH = ("EvoTorch's problem has a generation evaluated as one batch, and an actor its share "
              "of it: it takes no deadline")  # fmt: skip
    lacks = {**EvoTorch.lacks, 16: _BATCH}
    beyond = {(15, "kept"): "a generation is one batch of EvoTorch's problem, which raises as a "
                            "whole"}  # fmt: skip
    given = {"popsize": SIZE, "center_learning_rate": 0.2, "stdev_init": SIGMA}

    def searcher(self, problem, **options):
        from bgs_opt.adapters.evotorch import BGS

        return BGS(problem, **options)

    def settings(self, variant):
        if variant == "adam":
            return {"optimizer": "adam"}
        if variant.startswith("stdev"):
            return {"stdev_learning_rate": 0.1}
        return super().settings(variant)
