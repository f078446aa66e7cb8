"""The EvoTorch searcher over Ray actors: real worker processes, really killed.

Each starts processes that load torch, which takes seconds.
"""

import copy
import logging
import os
import pickle
import signal
from pathlib import Path

import pytest
import ray
import torch
from evotorch import Problem
from ray.exceptions import RayActorError

from bgs_opt.adapters import evotorch_search
from bgs_opt.adapters.evotorch import BGS, PairedGymNE
from bgs_opt.adapters.evotorch_sampling import SAMPLERS
from bgs_opt.errors import WorkerLostWarning

ROOT = Path(__file__).resolve().parents[2]
SETTING = {"popsize": 22, "center_learning_rate": 0.2, "stdev_init": 0.1, "distributed": True,
           "center_eval": True}  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own sockets and files
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def _cluster():
    logging.disable(logging.INFO)
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=10**8,
             runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})  # fmt: skip
    yield
    ray.shutdown()
    logging.disable(logging.NOTSET)


class Sphere(Problem):
    """Tells the processes of its actors; fails or dies while a file says so."""

    def __init__(self, actors, *, dim=12, folder=None, **options):
        self.folder = folder
        super().__init__("min", solution_length=dim, initial_bounds=(-1, 1), num_actors=actors,
                         **options)  # fmt: skip

    def _evaluate_batch(self, batch):
        if self.folder is not None and (Path(self.folder) / "fail").exists():
            raise OSError("the simulator is down")
        if self.folder is not None and (Path(self.folder) / "die").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        rows = batch.access_values(keep_evals=True)
        batch.set_evals((rows**2).sum(-1))

    def process(self):
        return os.getpid()


@pytest.fixture
def made():
    """Makes searchers and ends their actors."""
    problems = []

    def make(actors=2, *, problem=None, seed=1, **options):
        torch.manual_seed(seed)
        names = {"num_subbatches", "subbatch_size", "folder", "dim"}
        given = {name: options.pop(name) for name in names & set(options)}
        problem = Sphere(actors, **given) if problem is None else problem
        problems.append(problem)
        return BGS(problem, **{**SETTING, **options})

    yield make
    for problem in problems:
        if problem.actors is not None:
            problem.kill_actors()


def trajectory(search, steps=3):
    found = []
    for _ in range(steps):
        search.step()
        found.append((search.status["center"].clone(), search.status["mean_eval"],
                      search.status["median_eval"], search.status["pop_best_eval"],
                      search.status["center_eval"]))  # fmt: skip
    return found


def same(first, second):
    return all(
        torch.equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(first, second, strict=True)
    )


def test_the_number_of_actors_and_pieces_changes_no_bit(made):
    one = trajectory(made(2))
    assert same(one, trajectory(made(3)))
    assert same(one, trajectory(made(2, num_subbatches=5)))
    assert not same(one, trajectory(made(0, seed=2)))


BOTH = [True, pytest.param(False, marks=pytest.mark.slow)]
"""With and without ``distributed``, where the second shows what other tests show for it too."""


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("options", [{}, {"repeats": 2}, {"stdev_learning_rate": 0.1}], ids=str)
def test_no_way_of_sharing_out_changes_a_bit(made, sampler, options):
    one = trajectory(made(2, sampler=sampler, **options))
    for actors, split in ((3, {}), (4, {}), (2, {"subbatch_size": 6}), (2, {"num_subbatches": 7})):
        assert same(one, trajectory(made(actors, sampler=sampler, **options, **split)))


def test_the_status_is_whole_and_a_copy_goes_on_with_the_same_bits(made):
    search = made(2)
    search.run(2)
    assert {"center", "stdev", "mean_eval", "median_eval", "pop_best", "pop_best_eval",
            "center_eval", "iter"} == set(search.status.keys())  # fmt: skip
    best = search.status["pop_best"]
    assert float((best.values**2).sum()) == pytest.approx(search.status["pop_best_eval"])
    assert search.population is None
    twins = [copy.deepcopy(search), pickle.loads(pickle.dumps(search))]
    due = trajectory(search)
    for twin in twins:
        torch.manual_seed(7)
        assert same(due, trajectory(twin))
        twin.problem.kill_actors()


def test_the_same_rows_are_evaluated_with_and_without_distribution(made):
    """The first generation of the same run: rows and fitnesses agree; only sums may round."""
    found = []
    for distributed in (True, False):
        search = made(2, distributed=distributed)
        search.step()
        found.append([search.status[key] for key in ("mean_eval", "pop_best_eval", "center_eval")])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_an_odd_population_is_rounded_up_and_every_direction_is_used_once(made):
    search = made(2, popsize=21)
    results = []
    search.problem.after_grad_hook.append(lambda found: results.extend(found) or {"extra": 1.0})
    search.step()
    assert sum(result["num_solutions"] for result in results) == 23  # 22 and the center
    assert search.status["extra"] == 1.0


@pytest.mark.parametrize("distributed", BOTH)
def test_a_killed_actor_is_replaced_and_the_bits_are_those_of_the_undisturbed_run(
    made, distributed
):
    due = trajectory(made(2, distributed=distributed))
    search = made(2, distributed=distributed)
    found = trajectory(search, 1)
    victim = search.problem.all_remote_problems().process()[0]
    os.kill(victim, signal.SIGKILL)
    with pytest.warns(WorkerLostWarning, match="an actor died"):
        found += trajectory(search, 1)
    found += trajectory(search, 1)
    assert same(due, found)
    assert victim not in search.problem.all_remote_problems().process()


@pytest.mark.parametrize("distributed", BOTH)
def test_evaluations_that_kill_every_time_are_an_error_and_then_the_run_goes_on(
    made, distributed, tmp_path
):
    due = trajectory(made(2, distributed=distributed))
    search = made(2, distributed=distributed, folder=str(tmp_path))
    found = trajectory(search, 1)
    (tmp_path / "die").touch()
    with pytest.warns(WorkerLostWarning, match="an actor died"), pytest.raises(RayActorError):
        search.step()
    (tmp_path / "die").unlink()
    assert same(due, found + trajectory(search, 2))


def test_an_error_in_an_actor_reaches_the_user_and_the_next_step_is_the_same(made, tmp_path):
    due = trajectory(made(2))
    search = made(2, folder=str(tmp_path))
    found = trajectory(search, 1)
    (tmp_path / "fail").touch()
    with pytest.raises(OSError, match="the simulator is down"):
        search.step()
    (tmp_path / "fail").unlink()
    assert same(due, found + trajectory(search, 2))


def test_sums_that_go_from_actor_to_actor_have_the_bits_of_the_main_process(made, monkeypatch):
    """What is done where the actors have devices of their own."""
    due = trajectory(made(2))
    original = evotorch_search.sample_and_evaluate

    def elsewhere(*args, **kwargs):
        found = original(*args, **kwargs)
        return found._replace(devices=[(*share[:3], "cpu:0") for share in found.devices])

    monkeypatch.setattr(evotorch_search, "sample_and_evaluate", elsewhere)
    monkeypatch.setattr(evotorch_search, "is_here", lambda device: False)
    for actors in (2, 3):
        assert same(due, trajectory(made(actors)))


@pytest.mark.parametrize("distributed", BOTH)
def test_policies_are_trained_with_counts_and_the_same_episodes_for_any_number_of_actors(
    made, distributed
):
    found = []
    for actors in (2, 3):
        torch.manual_seed(1)
        problem = PairedGymNE("CartPole-v1", "Linear(obs_length, act_length)", num_actors=actors)
        search = made(problem=problem, distributed=distributed, stdev_init=0.5)
        found.append(trajectory(search, 2))
        assert search.status["total_episode_count"] == 2 * 23
        assert search.status["total_interaction_count"] > 2 * 23 * 5
    assert same(*found)


@pytest.mark.parametrize("distributed", BOTH)
def test_a_problem_with_a_seed_of_its_own_has_actors(made, distributed):
    """Those of EvoTorch call problem.seed, which it does not have."""
    found = []
    for actors in (2, 3, 0):
        problem = Sphere(actors, seed=5)
        torch.manual_seed(actors)
        found.append(trajectory(made(problem=problem, distributed=distributed, seed=actors)))
    assert same(*found[:2])
    if not distributed:
        assert same(found[0], found[2])


def test_interactions_make_every_share_grow(made):
    torch.manual_seed(1)
    problem = PairedGymNE("CartPole-v1", "Linear(obs_length, act_length)", num_actors=2)
    search = made(problem=problem, num_interactions=3_000, popsize_max=88)
    search.step()
    assert 22 < search.status["popsize"] <= 88
    numbers = search._found.numbers
    assert len(set(numbers)) == len(numbers) == search.status["popsize"] // 2
