"""Optuna's CmaEsSampler: ask and tell, optimize(n_jobs=2), studies in SQLite."""

import logging
import multiprocessing
import pickle
import warnings
from pathlib import Path

import numpy as np

from tests.benchmarks.scoreboard.base import BUDGET, SIZE, AskTell
from tests.benchmarks.scoreboard.faults import DownError, UnfitError, sphere
from tests.benchmarks.scoreboard.peers import HIGH, LOW, NAN

NAMES = ("a", "b", "c", "d")


class Optuna(AskTell):
    """A study; a search is a study, a handle a trial (or its number, from a file)."""

    name = "Optuna"
    words = (
        "`CmaEsSampler`: `Study.ask` and `tell`, `optimize(n_jobs=2)`; SQLite and the sampler "
        "pickled; for killed workers two processes on one study, with heartbeats"
    )
    packages = ("optuna", "cmaes")
    takes_start = False  # numbers by name
    grows = records_errors = True
    start_seconds = 15.0
    variants = ("", "maximize")

    def make(self, seed=1, variant="", start=None, path=None):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.CmaEsSampler(seed=seed, popsize=SIZE)
        return optuna.create_study(
            sampler=sampler, direction=variant or "minimize",
            storage=None if path is None else f"sqlite:///{path}",
        )  # fmt: skip

    def ask(self, run):
        from optuna.distributions import FloatDistribution

        space = {name: FloatDistribution(LOW, HIGH) for name in NAMES}
        trials = [run.ask(space) for _ in range(SIZE)]
        return [(trial, np.array([trial.params[name] for name in NAMES])) for trial in trials]

    def tell(self, run, handles, values):
        if run.direction.name == "MAXIMIZE":
            values = [-value for value in values]
        for handle, value in zip(handles, values, strict=True):
            run.tell(handle, value)
        return list(values), list(values)

    def discard(self, run, handle):
        from optuna.trial import TrialState

        return run.tell(handle, state=TrialState.FAIL)

    def best(self, run):
        return -run.best_value if run.direction.name == "MAXIMIZE" else run.best_value

    def held(self, run):
        return []

    # ---- keeping

    def _begin(self, middle, path=None):
        run, asked = self.make(seed=5, path=path), []
        self.play(run, sphere, 3)
        if middle:
            asked = self.ask(run)
            self.tell_some(run, asked[: SIZE // 2])
            asked = asked[SIZE // 2 :]
        return run, asked

    def keep(self, path, middle):
        run, asked = self._begin(middle, path)
        kept = run.sampler, run.study_name, [(trial.number, x) for trial, x in asked]
        Path(f"{path}-sampler").write_bytes(pickle.dumps(kept))

    def resume(self, path, middle):
        import optuna

        sampler, name, asked = pickle.loads(Path(f"{path}-sampler").read_bytes())
        run = optuna.load_study(study_name=name, storage=f"sqlite:///{path}", sampler=sampler)
        return self._go_on(run, asked)

    def write(self, path, generations):
        import optuna

        if Path(path).exists():
            run = optuna.load_study(study_name=None, storage=f"sqlite:///{path}")
            run.sampler = optuna.samplers.CmaEsSampler(seed=6, popsize=SIZE)
        else:
            run = self.make(seed=5, path=path)
        self.play(run, sphere, generations)

    def count(self, path):
        import optuna

        run = optuna.load_study(study_name=None, storage=f"sqlite:///{path}")
        return sum(trial.values is not None for trial in run.trials)

    # ---- bad calls

    def bad(self):
        import optuna

        def first(low, high):
            study = optuna.create_study()
            study.ask({"a": optuna.distributions.FloatDistribution(low, high)})

        def population(number):
            optuna.samplers.CmaEsSampler(popsize=number)

        return [*((f"{n} points", lambda n=n: population(n)) for n in (0, -4)),
                ("swapped bounds", lambda: first(2.0, 0.0)),
                ("bounds of NaN", lambda: first(NAN, 2.0))]  # fmt: skip

    # ---- workers

    def make_run(self, way, folder, *, deadline=None):
        limit = None if deadline is None else 5 * deadline
        return {"study": self.make(seed=7), "n_jobs": 1 if way == "serial" else 2,
                "deadline": limit, "folder": folder}  # fmt: skip

    def minimize(self, run, f):
        study = run["study"]
        if getattr(f, "fault", "") == "die":
            study = together(run["folder"], f)
        else:
            study.optimize(Objective(f), n_trials=BUDGET - len(study.trials), n_jobs=run["n_jobs"],
                           timeout=run["deadline"], catch=(DownError, UnfitError))  # fmt: skip
        return [study.best_params[name] for name in NAMES], study.best_value


class Objective:
    """A function of trials."""

    def __init__(self, f):
        self.f = f

    def __call__(self, trial):
        return self.f([trial.suggest_float(name, LOW, HIGH) for name in NAMES])


def storage_of(url):
    import optuna

    return optuna.storages.RDBStorage(
        url, heartbeat_interval=1, grace_period=2,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )  # fmt: skip


def together(folder, f):
    """Two processes on one study, as Optuna's pages on distributed work show it."""
    import optuna

    url = f"sqlite:///{folder}/study"
    study = optuna.create_study(study_name="shared", storage=storage_of(url))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(url, f, seed)) for seed in (7, 8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return study


def work(url, f, seed):
    """One of the processes: until the study has its trials."""
    import optuna
    from optuna.study import MaxTrialsCallback
    from optuna.trial import TrialState

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sampler = optuna.samplers.CmaEsSampler(seed=seed, popsize=SIZE)
    study = optuna.load_study(study_name="shared", storage=storage_of(url), sampler=sampler)
    enough = MaxTrialsCallback(BUDGET, states=(TrialState.COMPLETE,))
    study.optimize(Objective(f), n_trials=BUDGET, callbacks=[enough])
