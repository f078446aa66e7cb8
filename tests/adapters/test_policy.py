"""train(): it learns, its bits are the same wherever it runs, and what it keeps goes on."""

import functools
import os
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from bgs_opt import Options
from bgs_opt.adapters import policy_run
from bgs_opt.adapters.policy import Evaluation, Policy, Rollout, TorchOptimizer, train
from bgs_opt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CheckpointError,
    WorkerLostWarning,
)
from tests.adapters.policies import (
    Deadly,
    Interrupted,
    Memory,
    Recurrent,
    Target,
    Unscaled,
    net,
    vector_of,
)

ROOT = Path(__file__).resolve().parent.parent.parent
FEW = Evaluation(every=2, episodes=3)


def short(env=Target, module=None, **more):
    given = {"generations": 4, "seed": 3, "evaluation": FEW, **more}
    return train(net() if module is None else module, env, **given)


def same(first, second):
    np.testing.assert_array_equal(vector_of(first), vector_of(second))
    for name in ("mean_return", "best_return", "evaluation", "episodes", "steps", "sigma"):
        np.testing.assert_array_equal(first.history[name], second.history[name])


# ---- it learns


def test_a_linear_policy_finds_the_known_optimum():
    result = train("linear", Target, seed=1, generations=100, sigma=0.1,
                   evaluation=Evaluation(50, 10))  # fmt: skip
    weights = result.policy.network.map.weight.detach().numpy()
    assert np.abs(weights - Target.wanted).max() < 0.15
    assert result.evaluation > -0.1
    assert result.success
    assert result.reason == "generations"


def test_the_result_is_that_of_an_independent_loop():
    """The evaluation is what a hand-written loop with the same seeds gets from the policy."""
    result = short(evaluation=Evaluation(every=0, episodes=4))
    seeds = np.random.SeedSequence(0xE7A1).generate_state(4)
    returns = []
    for seed in seeds.tolist():
        env, total, over = Target(), 0.0, False
        observation, _ = env.reset(seed=seed)
        while not over:
            observation, reward, over, _, _ = env.step(result.policy(observation))
            total += reward
        returns.append(total)
    assert result.evaluation == pytest.approx(np.mean(returns), rel=1e-5)


def test_the_sigma_that_is_found_allows_for_the_scale():
    """Found to one part in a hundred; the factor of single parameters is part of the change."""

    def found(scale):
        once = short(generations=1, sigma_rule=lambda g: 1.0, options=Options(scale=scale))
        return once.history["sigma"][0]

    assert found(4.0) == pytest.approx(found(None) / 4, rel=0.03)


def test_observations_of_unknown_size_are_normalised():
    result = train("linear", Unscaled, seed=1, generations=60, sigma=0.1,
                   evaluation=Evaluation(20, 10))  # fmt: skip
    assert result.policy.normalizer is not None
    # uniform on [-1, 1], times 50, plus 200
    assert result.policy.normalizer.mean.numpy() == pytest.approx(200, abs=5)
    assert result.policy.normalizer.scale.numpy() == pytest.approx(50 / np.sqrt(3), rel=0.06)
    assert result.evaluation > -0.2
    assert train("linear", Target, seed=1, generations=1).policy.normalizer is None


@pytest.mark.parametrize("module", ["actor", Recurrent])
def test_a_recurrent_policy_remembers(module):
    torch.manual_seed(1)
    options = {"policy_options": {"memory": True, "width": 8}} if module == "actor" else {}
    options["sigma"] = 0.1 if module == "actor" else None
    policy = module if module == "actor" else module()
    result = train(policy, Memory, seed=1, target=0.95, generations=80, num_directions=16,
                   evaluation=Evaluation(4, 40), **options)  # fmt: skip
    assert result.evaluation >= 0.95  # without memory 0.5 is what there is
    for seed in range(10):  # and by itself, one observation after the other
        env, total, over = Memory(), 0.0, False
        result.policy.reset()
        observation, _ = env.reset(seed=seed)
        while not over:
            observation, reward, over, _, _ = env.step(result.policy(observation))
            total += reward
        assert total == 1


def test_cartpole_is_solved_by_name():
    result = train("mlp", "CartPole-v1", seed=2, target=475, generations=30)
    assert result.evaluation >= 475
    assert result.reason == "target"


def test_drawn_actions_train_a_policy_that_is_judged_by_its_likeliest_ones():
    result = train("linear", "CartPole-v1", seed=2, target=200, generations=30,
                   rollout=Rollout(sample_actions=True))  # fmt: skip
    assert result.evaluation >= 200  # 20 or so by chance


# ---- the same bits


@pytest.fixture(scope="module")
def serial():
    return short(Unscaled, module=net())


def test_the_same_seed_gives_the_same_bits(serial):
    same(serial, short(Unscaled))
    assert not np.array_equal(vector_of(serial), vector_of(short(Unscaled, seed=4)))


def test_worker_processes_give_the_same_bits(serial):
    same(serial, short(Unscaled, workers=2))


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_any_executor_gives_the_same_bits(serial, kind):
    workers = 1 if kind is ThreadPoolExecutor else 2  # a module is no place for two threads
    with kind(workers) as executor:
        same(serial, short(Unscaled, workers=executor))


def test_dask_gives_the_same_bits(serial):
    import distributed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True,
                                     dashboard_address=None) as cluster,
            distributed.Client(cluster) as client,
        ):  # fmt: skip
            result = short(Unscaled, workers=client.get_executor())
    same(serial, result)


RANKED = """
import sys
import numpy as np
from bgs_opt.adapters.policy import Evaluation, train
from tests.adapters.policies import Unscaled, net, vector_of
def run(folder):
    import torch.distributed as dist
    result = train(net(), Unscaled, generations=4, seed=3,
                   evaluation=Evaluation(every=2, episodes=3))
    rank = dist.get_rank() if dist.is_initialized() else os.environ["RANK"]
    np.save(f"{folder}/{rank}.npy", vector_of(result))
import os
if __name__ == "__main__":
    run(sys.argv[1])
"""


LAUNCHED = """
import sys
from accelerate import Accelerator, debug_launcher
import ranked
def go(folder):
    Accelerator(cpu=True)  # which opens the process group
    ranked.run(folder)
if __name__ == "__main__":
    debug_launcher(go, (sys.argv[1],), num_processes=2)
"""


@pytest.mark.parametrize(("launcher", "count"), [("torchrun", 2), ("torchrun", 3),
                                                 ("accelerate", 2)])  # fmt: skip
def test_every_rank_ends_with_the_bits_of_one_process(serial, tmp_path, launcher, count):
    script = tmp_path / "ranked.py"
    script.write_text(RANKED)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count),
               "--master-port", str(29517 + count)]  # fmt: skip
    if launcher == "accelerate":
        script = tmp_path / "launched.py"
        script.write_text(LAUNCHED)
        command = [sys.executable]
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(script), str(tmp_path)], env=env, cwd=ROOT, timeout=150,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(count):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npy"), vector_of(serial))


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # noqa: NPY002
    train("linear", Target, seed=1, generations=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


# ---- faults


def test_the_death_of_a_worker_costs_nothing_but_time(tmp_path):
    (tmp_path / "deadly").touch()
    env = functools.partial(Deadly, str(tmp_path / "deadly"))
    result = short(env, workers=2, normalize=False)
    assert not (tmp_path / "deadly").exists()
    same(result, short(Target, normalize=False))


def test_a_worker_that_is_not_tried_again_costs_its_share(tmp_path):
    (tmp_path / "deadly").touch()
    env = functools.partial(Deadly, str(tmp_path / "deadly"))
    with pytest.warns(WorkerLostWarning, match="4 episodes was given up: its worker process died"):
        result = short(env, workers=2, retries=0, normalize=False, sigma=0.3)
    assert result.generations == 4
    assert result.episodes == 4 * 16 - 4


class Failing(Target):
    def step(self, action):
        raise ZeroDivisionError("the simulator broke")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_environment_comes_as_it_is(workers):
    with pytest.raises(ZeroDivisionError, match="the simulator broke"):
        short(Failing, workers=workers, sigma=0.1, normalize=False)


class Sometimes(Target):
    """Every third episode ends with an observation that is no number, and an infinite reward."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        broken = self.count == 2 and int(1e6 * abs(self.now[0])) % 3 == 0
        return (observation * np.nan if broken else observation), reward, *rest


def test_broken_episodes_spoil_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = train("linear", Sometimes, seed=1, generations=30, normalize=True)
    assert np.isfinite(vector_of(result)).all()
    assert torch.isfinite(result.policy.normalizer.mean).all()


# ---- keeping


def test_a_run_that_is_resumed_has_the_bits_of_one_that_is_not(tmp_path, serial):
    """With an evaluation each generation: else the end of each part has one more."""
    path, each = tmp_path / "run.pt", {"evaluation": Evaluation(every=1, episodes=3)}
    short(Unscaled, generations=1, checkpoint=path, **each)
    short(Unscaled, generations=3, checkpoint=path, resume=True, **each)
    again = short(Unscaled, checkpoint=path, resume=True, **each)
    same(again, short(Unscaled, **each))
    assert again.episodes == serial.episodes
    np.testing.assert_array_equal(again.history["mean_return"], serial.history["mean_return"])


class Once(Unscaled):
    """Raises in the step that finds the file there; or at a reset."""

    def __init__(self, file, where="step"):
        super().__init__()
        self.file, self.where = Path(file), where

    def _raise_once(self, where):
        if where == self.where and self.file.exists():
            self.file.unlink()
            raise RuntimeError("the simulator broke")

    def reset(self, **given):
        self._raise_once("reset")
        return super().reset(**given)

    def step(self, action):
        self._raise_once("step")
        return super().step(action)


@pytest.mark.parametrize("where", ["step", "reset"])
def test_a_generation_that_was_broken_off_is_played_again(tmp_path, serial, where):
    """The error comes as it is, and the candidates that were out are asked for again."""
    path, file = tmp_path / "run.pt", tmp_path / "broken"
    env = functools.partial(Once, str(file), where)

    def log(row):
        if row["generation"] == 1:
            file.touch()  # in the next generation

    with pytest.raises(RuntimeError, match="^the simulator broke"):
        short(env, checkpoint=path, log=log, evaluation=Evaluation(every=3, episodes=3))
    again = short(env, checkpoint=path, resume=True, evaluation=Evaluation(every=3, episodes=3))
    np.testing.assert_array_equal(again.history["mean_return"], serial.history["mean_return"])
    assert again.episodes == serial.episodes


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, "adam", "clipup"])
def test_optimizers_resume_bit_for_bit(tmp_path, optimizer):
    path = tmp_path / "run.pt"
    given = {"optimizer": optimizer, "options": Options(averaging=0.5, repeats=2)}
    whole = short(**given)
    short(**given, generations=2, checkpoint=path)
    np.testing.assert_array_equal(
        vector_of(short(**given, checkpoint=path, resume=True)), vector_of(whole)
    )


def test_a_run_of_other_arguments_is_not_resumed(tmp_path):
    path = tmp_path / "run.pt"
    short(generations=1, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(
        ArgumentValueError, match=r"num_directions.*expected what the run in \S+run.pt was"
    ):
        short(checkpoint=path, resume=True, num_directions=5)
    with pytest.raises(ArgumentValueError, match=r"normalize: expected False \(or the env"):
        short(checkpoint=path, resume=True, normalize=True)
    with pytest.raises(ArgumentValueError, match=r"checkpoint: expected a new path"):
        short(checkpoint=path)
    assert path.read_bytes() == before


class Wandering(Target):
    """An environment that goes to another folder."""

    def reset(self, *, seed=None, options=None):
        os.chdir("other" if Path("other").exists() else ".")
        return super().reset(seed=seed, options=options)


def test_a_relative_checkpoint_stays_where_it_was_given(tmp_path, monkeypatch):
    """In the folder where the environment goes lies another run of that name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    short(generations=1, seed=4, checkpoint="other/run.pt")
    before = (tmp_path / "other" / "run.pt").read_bytes()
    whole = short(generations=3, checkpoint=tmp_path / "whole.pt")
    short(Wandering, generations=2, checkpoint="run.pt")
    assert Path.cwd() == tmp_path / "other"
    assert (tmp_path / "other" / "run.pt").read_bytes() == before
    same(short(generations=3, checkpoint=tmp_path / "run.pt", resume=True), whole)


def test_an_unseeded_run_is_resumed(tmp_path):
    path = tmp_path / "run.pt"
    short(generations=1, checkpoint=path, seed=None)
    assert short(checkpoint=path, resume=True, seed=None).generations == 4


@pytest.mark.parametrize("damage", ["cut", "text", "policy", "flipped"])
def test_a_damaged_checkpoint_is_a_typed_error(tmp_path, damage):
    path = tmp_path / "run.pt"
    result = short(generations=1, checkpoint=path)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "policy":
        result.policy.save(path)
    else:
        at = data.find(b"sha256")
        data[at + 12] ^= 1
        path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"run\.pt"):
        short(checkpoint=path, resume=True)


def test_ctrl_c_keeps_the_run(tmp_path):
    path = tmp_path / "run.pt"

    def log(row):
        if row["generation"] == 1:
            raise KeyboardInterrupt

    result = short(checkpoint=path, log=log)
    assert (result.success, result.reason, result.generations) == (False, "interrupted", 2)
    whole = short()
    again = short(checkpoint=path, resume=True)
    np.testing.assert_array_equal(vector_of(again), vector_of(whole))


def test_the_checkpoint_is_written_now_and_then(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(policy_run, "save", lambda training, path: written.append(path))
    short(checkpoint=tmp_path / "run.pt", checkpoint_seconds=0)
    assert len(written) == 1 + 4 + 1


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", ["linear", "mlp", "actor"])
def test_a_policy_comes_back_from_its_file(tmp_path, kind, suffix):
    path = tmp_path / f"policy{suffix}"
    result = train(kind, Unscaled, seed=1, generations=1)
    result.policy.save(path)
    again = Policy.load(path)
    observation = np.array([210.0, 190.0, 220.0])
    np.testing.assert_array_equal(again(observation), result.policy(observation))


def test_the_policy_of_a_checkpoint_can_be_loaded(tmp_path):
    path = tmp_path / "run.pt"
    module = net()
    result = short(Unscaled, module=module, checkpoint=path)
    again = Policy.load(path, net())
    np.testing.assert_array_equal(
        again([200.0, 201.0, 202.0]), result.policy([200.0, 201.0, 202.0])
    )
    with pytest.raises(ArgumentValueError, match="network: expected the module that was trained"):
        Policy.load(path)


class Bomb:
    def __reduce__(self):
        return os.abort, ()


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "policy.pt"
    torch.save({"bgs_opt": "{}", "policy": Bomb()}, path)
    with pytest.raises(CheckpointError, match="expected a policy of bgs_opt"):
        Policy.load(path)
    with pytest.raises(CheckpointError, match=r"expected a checkpoint of train"):
        short(checkpoint=path, resume=True)


# ---- hooks, averages, optimizers


def test_what_a_hook_does_to_the_parameters_counts():
    def bound(module):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.clamp_(-0.05, 0.05)

    result = short(after_step=bound, optimizer="sgd", learning_rate=1.0)
    assert np.abs(vector_of(result)).max() <= 0.05
    assert np.abs(vector_of(short(optimizer="sgd", learning_rate=1.0))).max() > 0.05


def test_gains_are_pulled_to_one_in_closed_form():
    def made():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.RMSNorm(3), torch.nn.Linear(3, 2))

    module = made()
    with torch.no_grad():
        module[0].weight.fill_(3.0)
    frozen = {"optimizer": "sgd", "learning_rate": 1e-30, "generations": 5,
              "evaluation": Evaluation(every=0, episodes=1)}  # fmt: skip
    result = short(module=module, gain_decay=0.1, **frozen)
    gains = result.policy.network[0].weight.detach().numpy()
    assert gains == pytest.approx(1 + 2 * 0.9**5, rel=1e-5)
    assert torch.equal(result.policy.network[1].weight, made()[1].weight)
    with pytest.raises(ArgumentValueError, match="gain_decay: expected 0"):
        short(gain_decay=0.1)


def test_the_center_goes_back_to_its_average():
    """The first average has a weight of 1/10 on the start (min(decay, (1 + t) / (10 + t)))."""
    start = torch.nn.utils.parameters_to_vector(net().parameters()).detach().numpy()
    options = Options(averaging=0.9)
    averaging = {"options": options, "evaluation": Evaluation(every=1, episodes=1)}
    plain = vector_of(short(generations=1))
    average = short(generations=1, **averaging)
    np.testing.assert_allclose(vector_of(average), 0.1 * start + 0.9 * plain, atol=1e-6)
    kept, back = short(**averaging), short(**averaging, average_every=1)
    assert kept.history["mean_return"][0] == back.history["mean_return"][0]
    assert kept.history["mean_return"][1] != back.history["mean_return"][1]  # from elsewhere


def test_a_torch_optimizer_makes_its_own_steps():
    """Adam of torch and Adam of the core are the same rule."""
    given = {"learning_rate": 0.01, "generations": 3}
    ours = short(optimizer="adam", **given)
    torchs = short(optimizer=torch.optim.Adam, **given)
    np.testing.assert_allclose(vector_of(torchs), vector_of(ours), rtol=1e-4, atol=1e-6)


def test_the_optimizer_may_have_arguments():
    make = functools.partial(torch.optim.SGD, lr=0.02, momentum=0.5)
    assert TorchOptimizer(make).default_learning_rate(0.1, 3) == 0.02
    short(optimizer=make, generations=2)


class Shaped(torch.optim.SGD):
    """Its state is of another shape than the vector."""

    def step(self, closure=None):
        super().step()
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["table"] = torch.zeros(2, 2)


def test_a_torch_optimizer_that_does_not_fit_is_refused():
    with pytest.raises(ArgumentTypeError, match=r"optimizer: expected a class or function"):
        TorchOptimizer(dict)
    with pytest.raises(ArgumentTypeError, match=r"optimizer: expected one that steps by the grad"):
        short(optimizer=torch.optim.LBFGS)
    with pytest.raises(ArgumentTypeError, match=r"optimizer: expected a state of numbers"):
        short(optimizer=Shaped)


def test_the_logger_sees_every_generation_and_may_end_the_run():
    rows = []
    result = short(log=rows.append)
    assert [row["generation"] for row in rows] == [0, 1, 2, 3]
    np.testing.assert_array_equal([r["mean_return"] for r in rows], result.history["mean_return"])
    ended = short(log=lambda row: row["generation"] == 1)
    assert (ended.reason, ended.generations) == ("log", 2)


def test_tensorboard_gets_the_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = short(log=tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    seen = [event.value for event in events.Scalars("mean_return")]
    np.testing.assert_allclose(seen, result.history["mean_return"], rtol=1e-6)


def test_only_chosen_parameters_are_trained():
    module = net()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    short(module=module, include="2")
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("0")


def test_the_policy_may_be_compiled():
    """Compiled and not, the returns differ by rounding alone."""
    given = {"generations": 1, "evaluation": Evaluation(every=0, episodes=1)}
    plain = short(**given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, by torch itself
        compiled = short(compile=True, **given)
    np.testing.assert_allclose(
        compiled.history["mean_return"], plain.history["mean_return"], rtol=1e-3
    )


def test_a_vectorised_environment_gives_what_separate_ones_give():
    gymnasium.register("TestTarget-v0", Target, order_enforce=False, disable_env_checker=True)
    try:
        envs = gymnasium.make_vec("TestTarget-v0", num_envs=4, vectorization_mode="sync")
        given = {"rollout": Rollout(lanes=4), "sigma": 0.3}  # random actions differ
        one, other = short(envs, **given), short(**given)
        np.testing.assert_array_equal(vector_of(one), vector_of(other))
        envs.close()
    finally:
        del gymnasium.registry["TestTarget-v0"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_played_before_an_error_is_not_played_again(workers, tmp_path, serial):
    """A run of normalised observations, ended in its second generation by an environment."""
    folder, file = tmp_path / "episodes", tmp_path / "run.pt"
    folder.mkdir()
    warm_up, one, rollout = 2, 16, Rollout(lanes=1)
    due = short(Unscaled, rollout=rollout)
    env = functools.partial(Interrupted, str(folder), warm_up + one + 5)
    options = {"rollout": rollout, "workers": workers, "checkpoint": file}
    with pytest.raises(OSError, match="the simulator is down"):
        short(env, **options)
    before = len(Interrupted(folder, 0).played())
    assert before >= warm_up + one + 3
    found = short(env, resume=True, **options)
    np.testing.assert_array_equal(vector_of(due), vector_of(found))
    played = len(Interrupted(folder, 0).played())
    # what another worker was at when the error came is played again
    assert played - (due.episodes + due.evaluation_episodes) < workers
    assert found.episodes == due.episodes


# ---- what cannot be


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"module": 3},
            r"policy: expected a torch\.nn\.Module or one of linear, mlp, actor; got 3",
        ),
        ({"module": torch.nn.Linear(5, 2)}, r"policy: expected a module that takes observations"),
        ({"module": torch.nn.Linear(3, 7)}, r"policy: expected outputs of shape \(\d, 2\)"),
        ({"env": 3}, r"env: expected the name of a registered environment"),
        ({"env": []}, r"env: expected at least one environment"),
        ({"generations": 0}, r"generations: expected an int >= 1"),
        ({"sigma": -1.0}, r"sigma: expected"),
        ({"nonsense": 1}, r"nonsense: expected one of .*checkpoint.*num_directions.*top_k"),
        ({"log": 3}, r"log: expected a callable"),
        ({"resume": True}, r"checkpoint: expected the path"),
        ({"policy_options": {"bias": True}}, r"policy_options: expected None"),
        ({"env": lambda steps=5: Target(steps), "workers": 2}, r"env: expected what can be sent"),
    ],
)
def test_bad_arguments_are_named(given, message):
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=message):
        short(**given)


class Unplayable(Target):
    def step(self, action):
        raise AssertionError("an episode was played")


@pytest.mark.parametrize("name", ["num_directions", "top_k", "learning_rate", "sampler"])
def test_arguments_of_the_core_are_refused_before_an_episode_is_played(name):
    """Where sigma is not given, random actions are played first."""
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=f"{name}: expected"):
        short(Unplayable, **{name: -4})
