"""What the package blackbox-gradient-sensing 0.4.22 can do, and what is wrong in it, for ours.

"Row n" is a feature of it, "bug n" a fault that ours must not have; both by the numbers of the
project's list. Rows 14 to 16 and bugs 20 to 25, about latent genes, are in test_policy_genes.py
and tests/test_gene_pool.py. Rows 11, 12, 19, 20 and 22 have more tests in test_policy.py:
real worker processes, torchrun and accelerate, real compilers, resumed runs.
"""

import functools
import inspect
import itertools
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from bgs_opt import BGS, Options
from bgs_opt.adapters.policy import Actor, Evaluation, Genes, Policy, Rollout, train
from bgs_opt.adapters.torch import FlatParameters
from bgs_opt.errors import NonFiniteValueWarning
from bgs_opt.normalization import RunningMoments
from bgs_opt.streams import entropy_of
from tests.helpers import ROOT, slow_weights

LAST = Evaluation(every=0, episodes=2)  # only at the end
WANTED = np.array([0.6, -0.3])


class Bandit(gymnasium.Env):
    """One step: reward -(action - w x)^2; the best policy is the linear map w."""

    observation_space = spaces.Box(-1, 1, (2,), np.float64)
    action_space = spaces.Box(-1, 1, (1,), np.float64)
    told: list = []  # noqa: RUF012  (of all instances, emptied by the fixture)
    seeds: list = []  # noqa: RUF012
    acted: list = []  # noqa: RUF012
    steps = 1

    def see(self):
        self.now = self.np_random.uniform(-1, 1, 2)
        return self.now

    def pay(self, action):
        return -float(np.sum((np.asarray(action) - WANTED @ self.now) ** 2))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.left = self.steps
        return self.see(), {}

    def step(self, action):
        self.told.append(action)
        self.acted.append(self.now)
        reward = self.pay(action)
        self.left -= 1
        return self.see(), reward, self.left == 0, False, {}


class Five(Bandit):
    steps = 5


class Wrapped(gymnasium.Wrapper):
    """As the film of upstream's train.py: a wrapper around the one environment."""


@pytest.fixture(autouse=True)
def _emptied():
    for notes in (Bandit.told, Bandit.seeds, Bandit.acted):
        notes.clear()


def flat_line():
    layer = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def line():
    torch.manual_seed(0)
    return nn.Linear(2, 1)


def short(module=None, env=Bandit, **more):
    given = {"generations": 1, "num_directions": 4, "sigma": 0.1, "seed": 5, "evaluation": LAST,
             "normalize": False}  # fmt: skip
    return train(flat_line() if module is None else module, env, **{**given, **more})


def numbers(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy().copy()


def centers(*args, **more):
    """The center after each update."""
    found = []
    short(*args, after_step=lambda module: found.append(numbers(module)), **more)
    return found


def played(candidates, env=Bandit):
    """Reward of each candidate of a linear map, by hand."""
    rewards = []
    for row, seed in zip(candidates, candidates.seeds, strict=True):
        made = env()
        observation, _ = made.reset(seed=int(seed))
        rewards.append(made.step(np.clip(row @ observation, -1, 1))[1])
    return np.array(rewards)


def paired(candidates, rewards, center):
    """Direction x sigma, and mean rewards of both ends, by the points alone."""
    means = {}
    for row, reward in zip(candidates, rewards, strict=True):
        means.setdefault(np.asarray(row).round(5).tobytes(), (np.array(row), []))[1].append(reward)
    ends = [(x, np.mean(each)) for x, each in means.values()]
    moves, plus, minus, baseline = [], [], [], None
    while ends:
        x, reward = ends.pop(0)
        if np.allclose(x, center, atol=1e-7):
            baseline = reward
            continue
        (other,) = [
            n for n, (y, _) in enumerate(ends) if np.allclose(x + y, 2 * center, atol=1e-5)
        ]
        moves.append(x - center)
        plus.append(reward)
        minus.append(ends.pop(other)[1])
    return np.array(moves), np.array(plus), np.array(minus), baseline


# ---- the update: rows 1 to 3, bugs 1, 6, 7, 8, 11, 12


@pytest.mark.parametrize("sigma", [0.1, 0.4])
@pytest.mark.parametrize(("top_k", "repeats", "acceptance"), [
    (6, 1, None), (2, 1, None), (2, 3, None), (6, 1, 0.0), (5, 2, 0.3), (6, 1, 0.5)
])  # fmt: skip
def test_an_update_is_the_mean_of_the_weighted_directions_that_were_kept(
    sigma, top_k, repeats, acceptance
):
    """Rows 1, 2, 3. Bug 1: ``top_k`` is what was asked for. Bug 6: a mean over the kept, not
    multiplied by sigma. Bug 7: s_R is of mean rewards of the kept ends. Bug 8: what the baseline
    rejects does not take a place among the kept."""
    options = Options(repeats=repeats, acceptance=acceptance, common_seeds="pair")
    given = {"num_directions": 6, "top_k": top_k, "options": options, "learning_rate": 0.05,
             "selection": "difference"}  # fmt: skip
    (got,) = centers(sigma=sigma, optimizer="sgd", **given)
    opt = BGS(np.zeros(2, np.float32), sigma, seed=entropy_of(5), optimizer="sgd", maximize=True,
              layout={"weight": (1, 2)}, **given)  # fmt: skip
    candidates = opt.ask()
    moves, plus, minus, baseline = paired(candidates, played(candidates), np.zeros(2))
    accepted = None
    if acceptance is not None:
        spread = np.std([*plus, *minus])
        accepted = np.maximum(plus, minus) >= baseline - acceptance * spread
    weights = np.array(slow_weights(plus, minus, top_k, accepted=accepted))
    if accepted is not None:  # some are rejected, and fewer than top_k are left
        assert 0 < accepted.sum() == np.count_nonzero(weights) < top_k
    due = 0.05 * (weights[:, None] * moves / sigma).sum(axis=0)
    assert np.allclose(got, due, rtol=1e-3, atol=1e-6)


def test_equal_rewards_give_no_step():
    """Row 1: where upstream divides by at least 1e-3, nothing is amplified."""
    env = type("Flat", (Bandit,), {"pay": lambda self, action: 7.0})
    start = line()
    before = numbers(start)
    assert np.array_equal(centers(start, env)[0], before)


@pytest.mark.parametrize("shared", ["pair", "generation", "none"])
def test_repeats_see_different_episodes_and_both_ends_the_same_ones(shared):
    """Row 2; bug 11: with one seed the repeats of an update were the same episode."""
    centers(options=Options(repeats=3, common_seeds=shared))
    seeds = Bandit.seeds[:24]
    assert len(set(seeds)) == {"pair": 12, "generation": 3, "none": 24}[shared]
    opt = BGS(np.zeros(2), 0.1, num_directions=4, options=Options(repeats=3), seed=1)
    candidates = opt.ask()
    by_point = {}
    for x, seed in zip(candidates, candidates.seeds.tolist(), strict=True):
        by_point.setdefault(np.array(x).tobytes(), set()).add(seed)
    assert [len(each) for each in by_point.values()] == [3] * 8
    assert (
        sorted(map(sorted, by_point.values()))[::2] == sorted(map(sorted, by_point.values()))[1::2]
    )


@pytest.mark.parametrize("count", [1, 3])
def test_the_baseline_is_played_as_often_as_it_is_asked_for(count):
    """Row 3; bug 12: 2 m times, for plus and minus zero."""
    result = short(options=Options(center_evaluations=count, acceptance=0.0))
    assert result.episodes == 2 * 4 + count
    zeros = [action for action in Bandit.told[: 8 + count] if float(action[0]) == 0]
    assert len(zeros) == count


@pytest.mark.parametrize(("env", "count"), [(Bandit, 3), ([Bandit], 12)])
def test_other_options_leave_common_seeds_as_train_has_them(env, count):
    """Row 2: each repeat its own seed for the generation; of a list, for a pair."""
    centers(env=env, options=Options(repeats=3))
    assert len(set(Bandit.seeds[:24])) == count


# ---- directions: rows 4 and 5, bugs 2 to 5


def directions(module, sampler, count, **options):
    flat = FlatParameters(module)
    opt = BGS(flat.to_numpy(), 0.5, layout=flat.layout, sampler=sampler, num_directions=count,
              seed=1, options=Options(**options))  # fmt: skip
    rows = np.array([np.array(x) for x in opt.ask()], np.float64) - flat.to_numpy()
    side = rows @ np.random.default_rng(0).normal(size=rows.shape[1])
    rows = rows[side > 1e-9]  # one end of each pair, and not the center
    return rows / 0.5, flat.layout


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))  # 34 numbers


@pytest.mark.parametrize("count", [3, 34, 80])
@pytest.mark.parametrize("sampler", ["orthogonal", "hadamard"])
def test_joint_directions_are_orthogonal_and_of_the_asked_length_for_any_population(
    sampler, count
):
    """Row 4. Bug 2: rows of norm 1. Bug 3: shorter with more of them, and no blocks. Bug 4: only
    matrices, each on its own. Bug 5: the baseline took one of the orthogonal ones."""
    rows, _ = directions(network(), sampler, count, center_evaluations=1)
    d = 34
    assert rows.shape == (count, d)
    assert np.allclose(np.linalg.norm(rows, axis=1), np.sqrt(d), rtol=0.03)
    if sampler == "orthogonal":
        for at in range(0, count, d):
            block = rows[at : at + d]
            assert np.allclose(block @ block.T / d, np.eye(len(block)), atol=1e-4)


@pytest.mark.parametrize("count", [101, 400])
def test_factorised_directions_are_rank_one_of_the_asked_size_for_any_population(count):
    """Row 4; bug 3: 0.22 to 0.8 of the asked sigma."""
    rows, layout = directions(network(), "factorised", count)
    for name, shape in layout.items():
        parts = rows[:, layout.slices[name]]
        assert np.mean(parts**2) == pytest.approx(1, rel=0.25)
        if len(shape) == 2:
            ranks = [np.linalg.matrix_rank(p.reshape(shape), tol=1e-4) for p in parts]
            assert set(ranks) == {1}


def test_an_update_of_factorised_directions_has_the_rank_of_those_kept():
    """Bug 4: with two of them kept each matrix moves by rank two; the rest is the user's."""
    before, after = network(), network()
    train(after, type("Wide", (Bandit,), {
        "observation_space": spaces.Box(-1, 1, (5,)), "action_space": spaces.Box(-1, 1, (2,)),
        "see": lambda self: setattr(self, "now", self.np_random.uniform(-1, 1, 5)) or self.now,
        "pay": lambda self, action: -float(np.sum((action - self.now[:2]) ** 2)),
    }), generations=1, sigma=0.1, seed=1, num_directions=8, top_k=3, sampler="factorised",
        evaluation=LAST)  # fmt: skip
    moved = (after[0].weight - before[0].weight).detach()
    assert np.linalg.matrix_rank(moved.numpy(), tol=1e-4) == 3


def test_sigma_may_be_given_by_name():
    """Row 5: each parameter is perturbed by its own size, exactly so with signs as noise."""
    module = nn.Linear(2, 1)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    options = Options(scale={"weight": 3.0, "bias": 0.5})

    class Probe(Bandit):
        def see(self):
            self.now = np.array([1.0, 0.0]) * (len(Bandit.seeds) % 2)
            return self.now

    short(module, Probe, options=options, sampler="rademacher", rollout=Rollout(lanes=1))
    first = [float(seen[0]) for seen in Bandit.acted[:8]]
    assert set(first) == {0, 1}  # the bias alone, and the first weight with it
    for seen, action in zip(first, Bandit.told[:8], strict=True):
        due = np.array([0.25, 0.35]) if seen else np.array([0.05])
        assert np.abs(due - abs(action[0])).min() < 1e-6


# ---- parameters, optimizers, hooks: rows 6 to 9, bugs 9, 10, 26, 27


@pytest.mark.parametrize(("include", "trained"), [
    ("0.weight", {"0.weight"}), ("2", {"2.weight", "2.bias"}),
    (["0.bias", "2"], {"0.bias", "2.weight", "2.bias"}), ("*.bias", {"0.bias", "2.bias"}),
])  # fmt: skip
def test_only_what_was_named_is_trained(include, trained):
    """Row 6: by names of parameters and of modules."""
    module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    short(module, include=include)
    changed = {n for n, p in module.named_parameters() if not torch.equal(p, before[n])}
    assert changed == trained


def test_parameters_have_the_modules_order_whatever_names_are_given():
    """Bug 9: the order was that of a set of strings, another one in each process."""
    module = network()
    names = [name for name, _ in module.named_parameters()]
    for order in itertools.permutations(names):
        assert list(FlatParameters(module, include=order).layout) == names
    assert list(FlatParameters(module, include=set(names)).layout) == names


RULES = {
    "Adam": functools.partial(torch.optim.Adam, lr=0.02, betas=(0.8, 0.9)),
    "AdamW": functools.partial(torch.optim.AdamW, lr=0.02, weight_decay=0.1),
    "SGD": functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9, nesterov=True),
    "RMSprop": functools.partial(torch.optim.RMSprop, lr=0.01),
    "NAdam": torch.optim.NAdam,
}


@pytest.mark.parametrize("name", RULES)
def test_any_optimizer_of_torch_makes_the_step_it_makes_alone(name):
    """Row 7: class, arguments, betas; the gradient is -g, where g is what plain SGD follows."""
    start = numbers(line())
    (plain,) = centers(line(), optimizer="sgd", learning_rate=1.0)
    (got,) = centers(line(), optimizer=RULES[name])
    parameter = nn.Parameter(torch.tensor(start))
    rule = RULES[name]([parameter])
    parameter.grad = torch.tensor(start - plain)
    rule.step()
    assert np.allclose(got, parameter.detach().numpy(), atol=2e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "clipup", torch.optim.Adam, torch.optim.SGD])
def test_the_first_update_moves_already(optimizer):
    """Bug 10: the first one only set up the optimizer."""
    assert np.abs(centers(line(), optimizer=optimizer)[0] - numbers(line())).max() > 1e-5


def test_the_learning_rate_goes_to_the_optimizer_of_torch():
    """Row 7."""
    start = numbers(line())
    moved = [centers(line(), optimizer=torch.optim.SGD, learning_rate=rate)[0] - start
             for rate in (0.1, 0.2)]  # fmt: skip
    assert np.allclose(moved[1], 2 * moved[0], rtol=1e-3, atol=1e-6)


def test_a_hook_after_each_step_may_change_the_parameters():
    """Row 7; bug 27: the hook that upstream comes with does nothing."""
    sizes = []

    def unit(module):
        with torch.no_grad():
            module.weight /= module.weight.norm()
            sizes.append(float(module.weight.norm()))

    module = line()
    short(module, generations=3, after_step=unit)
    assert sizes == pytest.approx([1, 1, 1])
    assert float(module.weight.detach().norm()) == pytest.approx(1)


def test_gains_of_norms_are_pulled_to_one_and_nothing_else_is():
    """Row 8."""
    module = nn.Sequential(nn.RMSNorm(2), line())
    nn.init.constant_(module[0].weight, 3.0)
    (got,) = centers(module, generations=1, gain_decay=0.25, optimizer="sgd", learning_rate=1e-12)
    assert got[:2] == pytest.approx(1 + 2 * 0.75)
    assert np.allclose(got[2:], numbers(line()), atol=1e-6)


def test_the_average_is_what_is_kept_and_goes_back_every_so_often():
    """Row 9; bug 26: the average never acted until it was copied back."""
    decay, every = 0.6, 3
    free = {"options": Options(averaging=decay), "generations": 6}
    seen, average = centers(line(), **free), numbers(line())
    for step, center in enumerate(seen):
        # the decay of ema-pytorch and of TensorFlow: from the start it grows to what was asked
        factor = min(decay, (1 + step) / (10 + step))
        average = factor * average + (1 - factor) * center
    assert np.allclose(numbers(short(line(), **free).policy.network), average, atol=1e-6)
    assert np.abs(average - seen[-1]).max() > 1e-4
    back = centers(line(), average_every=every, **free)
    assert np.array_equal(back[:2], seen[:2])
    average = numbers(line())
    for step, center in enumerate(seen[:3]):
        factor = min(decay, (1 + step) / (10 + step))
        average = factor * average + (1 - factor) * center
    assert np.allclose(back[2], average, atol=1e-6)


# ---- normalisation: row 10, bugs 16, 18, 19


def test_every_observation_of_training_is_in_the_normalisation():
    """Row 10; bugs 16 and 19: only the last episode of an update, each batch as one."""
    counts = []
    result = short(env=Five, generations=3, normalize=True,
                   log=lambda row: counts.append(len(Bandit.acted)))  # fmt: skip
    acted = np.float32(Bandit.acted[: counts[-1]]).astype(np.float64)
    assert len(acted) == 5 * (3 * 8 + 2)  # the two of random actions too
    made = result.policy.normalizer
    assert np.allclose(made.mean.numpy(), acted.mean(axis=0), atol=1e-6)
    assert np.allclose(made.scale.numpy(), acted.std(axis=0), rtol=1e-5)


def test_observations_of_all_workers_are_in_the_normalisation():
    """Bug 16: in distributed runs they were cut to the shortest episode."""
    alone = short(env=Five, generations=2, normalize=True, rollout=Rollout(lanes=2))
    with ThreadPoolExecutor(1) as pool:
        others = short(env=Five, generations=2, normalize=True, rollout=Rollout(lanes=2),
                       workers=pool)  # fmt: skip
    for name in ("mean", "scale"):
        ours, theirs = (getattr(r.policy.normalizer, name) for r in (alone, others))
        assert torch.equal(ours, theirs)


def test_a_feature_that_never_changed_does_not_explode():
    """Bug 18: it was divided by 1e-5, and came in as 1e5."""

    class Still(Five):
        def see(self):
            self.now = np.array([self.np_random.uniform(-1, 1), 0.0])
            return self.now

    policy = short(env=Still, normalize=True).policy
    assert policy.normalizer(torch.tensor([0.0, 1.0]))[1] == pytest.approx(1.0)


def test_batches_count_by_their_observations():
    """Bug 19: 0.46 for 4.11."""
    x = np.random.default_rng(0).normal(1, 2, (40, 10, 1))
    seen = RunningMoments.of_size(1)
    for batch in x:
        seen = seen.updated(batch)
    assert seen.count == 400
    assert seen.variance[0] == pytest.approx(x.var(), rel=1e-12)


# ---- actors: rows 11 to 13, bugs 13, 14, 28


class Choice(Bandit):
    action_space = spaces.Discrete(2)

    def pay(self, action):
        return float(action == (self.now[0] > 0))


@pytest.mark.parametrize("env", [Choice, Bandit])
@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("sample", [False, True])
def test_the_actor_fits_any_head_with_and_without_memory(env, memory, sample):
    """Row 11: discrete or continuous, drawn or not."""
    result = train("actor", env, generations=1, seed=1, evaluation=LAST, num_directions=2,
                   sigma=0.1, policy_options={"memory": memory, "width": 8, "depth": 2},
                   rollout=Rollout(sample_actions=sample))  # fmt: skip
    assert env.action_space.contains(result.policy(np.array([0.3, -0.2])))
    assert np.isfinite(result.evaluation)
    assert any(isinstance(m, nn.RMSNorm) for m in result.policy.network.modules())
    assert len(result.policy.network.blocks) == 2


def test_the_actors_rows_have_a_length_of_their_own():
    """Row 11: weight-normalised, so that the size of a direction changes nothing."""
    torch.manual_seed(0)
    actor = Actor(3, 2, width=8)
    x = torch.randn(5, 3)
    due = actor(x)
    with torch.no_grad():
        for name, parameter in actor.named_parameters():
            if name.endswith("direction"):
                parameter.mul_(torch.rand(len(parameter), 1) + 0.5)
    assert torch.allclose(actor(x), due, atol=1e-5)


def test_the_actor_has_a_gated_memory_and_takes_a_latent():
    """Row 11."""
    torch.manual_seed(0)
    actor = Actor(3, 2, width=8, memory=True, gene_size=4)
    x, gene = torch.randn(5, 3), torch.randn(5, 4)
    first, hidden = actor(x, None, gene=gene)
    second, _ = actor(x, hidden, gene=gene)
    assert first.shape == (5, 2)
    assert not torch.allclose(first, second)
    assert not torch.allclose(actor(x, None, gene=-gene)[0], first)
    alone = [actor(one[None], None, gene=g[None])[0][0] for one, g in zip(x, gene, strict=True)]
    assert torch.allclose(torch.stack(alone), first, atol=1e-6)  # bug 14: there is a batch axis


class Counting(nn.Module):
    """Says how often it was called in this episode."""

    def __init__(self, calls):
        super().__init__()
        self.line, self.calls = line(), calls

    def forward(self, x, hidden=None):
        self.calls.append(x.shape)
        hidden = torch.zeros_like(x[..., :1]) if hidden is None else hidden
        return 0 * self.line(x) + hidden, hidden + 0.1


def test_the_hidden_state_is_passed_on_and_begins_anew_with_each_episode():
    """Row 12; bug 14: one call serves all episodes that are played in step."""
    calls = []
    result = short(Counting(calls), Five, recurrent=True, rollout=Rollout(lanes=8))
    training = np.reshape(Bandit.told[:40], (5, 8))  # step by step, as they are played
    assert np.allclose(training, 0.1 * np.arange(5)[:, None], atol=1e-6)
    assert len(calls) == 5 + 5  # five steps of eight episodes, five of the evaluation
    result.policy.reset()
    assert [round(float(result.policy(np.zeros(2))[0]), 4) for _ in range(3)] == [0, 0.1, 0.2]
    result.policy.reset()
    assert float(result.policy(np.zeros(2))[0]) == 0


def test_any_module_will_do_and_its_logits_may_be_sampled():
    """Row 13."""
    for sample in (False, True):
        Bandit.told.clear()
        module = nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Linear(3, 2))
        nn.init.zeros_(module[2].weight)
        nn.init.zeros_(module[2].bias)
        short(module, Choice, num_directions=32, sigma=1e-6, include="0",
              options=Options(common_seeds="pair"),
              rollout=Rollout(sample_actions=sample))  # fmt: skip
        assert set(map(int, Bandit.told[:64])) == ({0, 1} if sample else {0})
        assert not sample or 15 < sum(map(int, Bandit.told[:64])) < 49


class Image(Bandit):
    observation_space = spaces.Box(0, 255, (1, 4, 4), np.uint8)

    def see(self):
        self.now = self.np_random.uniform(-1, 1, 2)
        return self.np_random.integers(0, 255, (1, 4, 4), dtype=np.uint8)


@pytest.mark.parametrize("policy", [
    nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(-3), nn.Linear(8, 1)),
    pytest.param("linear"), pytest.param("mlp"),
    pytest.param("actor"),
], ids=["convolution", "linear", "mlp", "actor"])  # fmt: skip
def test_observations_may_have_several_axes(policy):
    """Row 13."""
    result = short(policy, Image)
    assert result.policy(np.zeros((1, 4, 4), np.uint8)).shape == (1,)


def test_drawn_continuous_actions_are_numbers_around_the_mean_and_not_saturated():
    """Bug 13: an index by argmax; deviations above 1.2 before a tanh; no range."""

    class Wide(Bandit):
        action_space = spaces.Box(0, 20, (1,), np.float64)

    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.zero_()
        module.bias.copy_(torch.tensor([0.5, np.log(0.1)]))  # mean, log deviation
    short(module, Wide, num_directions=100, sigma=1e-6, rollout=Rollout(sample_actions=True),
          options=Options(common_seeds="pair"))  # fmt: skip
    drawn = np.reshape(Bandit.told[:200], -1)
    drawn = np.unique(drawn.round(3))  # both ends of a pair draw the same
    assert len(drawn) == pytest.approx(100, abs=5)
    assert drawn.mean() == pytest.approx(15, abs=3 / np.sqrt(100))
    assert drawn.std() == pytest.approx(1, rel=3 / np.sqrt(200))
    assert np.array_equal(Bandit.told[200:], np.full((2, 1), Bandit.told[-1]))  # the mean alone


@pytest.mark.parametrize(("env", "shape"), [(Bandit, (1,)), (Choice, ())])
def test_actions_have_the_shape_of_their_space(env, shape):
    """Bug 28: one-element actions became lists."""
    short(nn.Linear(2, 1 if env is Bandit else 2), env)
    assert all(env.action_space.contains(a) and np.shape(a) == shape for a in Bandit.told)


# ---- environments: rows 17, 18 and 24, bugs 15, 17, 30


def test_of_several_environments_each_update_sees_all_kinds():
    """Row 17; bug 30: one of the list an update."""
    seen = []

    def kind(number):
        return type(f"Kind{number}", (Bandit,), {
            "pay": lambda self, action: seen.append(number) or float(number)})  # fmt: skip

    short(env=[kind(0), kind(1), kind(2)], num_directions=16)
    assert set(seen[:32]) == {0, 1, 2}
    pairs = list(zip(seen[:32:2], seen[1:32:2], strict=True))
    assert all(first == second for first, second in pairs)  # both ends the same kind


FORMS = {
    2: lambda o, r, end: (o, r),
    3: lambda o, r, end: (o, r, end),
    4: lambda o, r, end: (o, r, end, {"lives": 3}),
    "4 flags": lambda o, r, end: (o, r, False, end),
    5: lambda o, r, end: (o, r, False, end, {"lives": 3}),
}


@pytest.mark.parametrize("info", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [np.array, list, tuple, np.float32])
def test_environments_of_every_form_train_alike(form, info, kind):
    """Row 18. Bug 15: a non-empty info ended an episode of four values. Bug 17: lists, tuples
    and numbers of NumPy are observations too."""

    class Plain:
        action_space = Bandit.action_space

        def reset(self, seed):
            self.env = Five()
            observation, _ = self.env.reset(seed=seed)
            return (kind(observation), {}) if info else kind(observation)

        def step(self, action):
            observation, reward, end, _, _ = self.env.step(action)
            return FORMS[form](kind(observation), np.float32(reward), end)

    rollout = Rollout(max_steps=5)
    result = short(line(), Plain, rollout=rollout)
    assert result.steps == 5 * result.episodes
    due = short(line(), Five, rollout=rollout)
    assert np.allclose(numbers(result.policy.network), numbers(due.policy.network), atol=1e-4)


@pytest.mark.parametrize("make", [
    Bandit, lambda: Wrapped(Bandit()), lambda: gymnasium.vector.SyncVectorEnv([Bandit])
], ids=["object", "wrapped", "vectorised"])  # fmt: skip
def test_the_one_environment_that_there_is_may_be_given(make):
    """README of upstream: ``bgs(sim, 100)``."""
    due = numbers(short(line(), Bandit).policy.network)
    assert np.allclose(numbers(short(line(), make()).policy.network), due, atol=1e-6)


def test_long_episodes_are_played_to_their_end():
    """Bug 17: 500 steps, without a word."""
    long = type("Long", (Bandit,), {"steps": 510})
    result = short(env=long, num_directions=1, evaluation=Evaluation(every=0, episodes=1))
    assert result.steps == 2 * 510
    assert short(env=long, num_directions=1, rollout=Rollout(max_steps=7)).steps == 2 * 7


def test_updates_steps_and_the_seed_are_arguments_of_the_call():
    """Row 24."""
    result = short(line(), Five, generations=3, rollout=Rollout(max_steps=2))
    assert (result.generations, result.episodes, result.steps) == (3, 24, 48)
    first, again, other = (numbers(short(line(), seed=seed).policy.network) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# ---- running, keeping, showing: rows 19 to 22, bugs 29 to 32


def test_executors_play_their_share_and_the_bits_are_the_same():
    """Row 19; ranks of torchrun and accelerate are in test_policy.py."""
    rollout = Rollout(lanes=2)
    due = short(line(), Five, generations=3, rollout=rollout)
    with ThreadPoolExecutor(1) as pool:
        got = short(line(), Five, generations=3, rollout=rollout, workers=pool)
    assert np.array_equal(numbers(got.policy.network), numbers(due.policy.network))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_policy_comes_back_with_its_normalisation_and_may_be_saved_again(tmp_path, suffix):
    """Row 20; bug 29: a file that exists lost a finished training."""
    path = tmp_path / f"policy.{suffix}"
    path.write_bytes(b"something older")
    result = train("mlp", Five, generations=2, seed=1, normalize=True, evaluation=LAST)
    for _ in range(2):
        result.policy.save(path)
    loaded = Policy.load(path)
    for observation in np.random.default_rng(0).uniform(-1, 1, (5, 2)):
        assert np.array_equal(loaded(observation), result.policy(observation))
    assert torch.equal(loaded.normalizer.mean, result.policy.normalizer.mean)


class Parts(Choice):
    observation_space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3)})

    def see(self):
        return {"a": np.float32(super().see()), "b": 1}


def test_a_policy_of_named_observations_comes_back_too(tmp_path):
    """Row 20."""
    result = train("linear", Parts, generations=1, seed=1, evaluation=LAST)
    result.policy.save(tmp_path / "policy.pt")
    loaded = Policy.load(tmp_path / "policy.pt")
    for number in range(5):
        observation, _ = Parts().reset(seed=number)
        assert loaded(observation) == result.policy(observation)


@pytest.mark.parametrize("more", [
    {}, {"optimizer": torch.optim.Adam}, {"options": Options(averaging=0.9), "average_every": 2},
    {"normalize": True},
], ids=["plain", "torch", "average", "normalised"])  # fmt: skip
def test_a_training_goes_on_as_if_it_had_not_been_stopped(tmp_path, more):
    """Row 20; bug 29: optimizer, random numbers, averages and counts were not kept."""
    path = tmp_path / "run.pt"
    due = short(line(), Five, generations=4, **more)
    short(line(), Five, generations=2, checkpoint=path, **more)
    got = short(line(), Five, generations=4, checkpoint=path, resume=True, **more)
    assert np.array_equal(numbers(got.policy), numbers(due.policy))
    assert got.episodes == due.episodes
    assert len(Policy.load(path, line()).observation_shape) == 1


@pytest.mark.parametrize("first", [False, True])
def test_a_run_without_normalisation_is_not_resumed_with_it(tmp_path, first):
    """Bug 29: that ended in ``load_state_dict(None)``."""
    path = tmp_path / "run.pt"
    short(line(), Five, normalize=first, checkpoint=path)
    with pytest.raises(ValueError, match="normalize: expected"):
        short(line(), Five, normalize=not first, checkpoint=path, resume=True)


def test_progress_and_numbers_are_shown_where_they_are_wanted(capsys):
    """Row 21; TensorBoard is in test_policy.py."""
    rows = []
    short(generations=3, progress=True, log=rows.append)
    assert "3/3" in capsys.readouterr().err
    assert [row["generation"] for row in rows] == [0, 1, 2]
    short()
    assert capsys.readouterr() == ("", "")


def test_compiling_is_a_wish_and_not_the_default(monkeypatch):
    """Row 22; bug 31: it was the default, while parameters changed with every call."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda f, **k: compiled.append(f) or f)
    due = numbers(short(line()).policy.network)
    assert not compiled
    assert np.array_equal(numbers(short(line(), compile=True).policy.network), due)
    assert compiled


def test_the_random_numbers_of_the_user_are_left_alone():
    """Bug 30: Python's were seeded anew in each update, the seed went to torch alone."""

    def states():
        legacy = np.random.get_state()  # noqa: NPY002
        return random.getstate(), legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()

    module = line()
    before = states()
    short(module, generations=2, rollout=Rollout(max_steps=1))
    assert states() == before


def test_the_precision_of_products_is_the_users():
    """Bug 31: an import set it for the whole process."""
    assert torch.get_float32_matmul_precision() == "highest"  # the default of torch


def test_a_training_returns_what_it_found():
    """Bug 32: nothing was returned."""
    result = short(line(), generations=60, num_directions=8, learning_rate=0.05,
                   evaluation=Evaluation(every=10, episodes=20))  # fmt: skip
    assert len(result.history["mean_return"]) == 60
    there = result.history["evaluation"][np.isfinite(result.history["evaluation"])]
    assert len(there) == 6
    assert result.evaluation == there.max() > there[0]
    weight = result.policy.network.weight.detach().numpy().reshape(-1)
    assert np.abs(weight - WANTED).max() < 0.15


# ---- beyond the list


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_reward_that_is_no_number_spoils_nothing(bad):
    """Upstream: every parameter became NaN."""

    class Rare(Bandit):
        def pay(self, action):
            return bad if len(Bandit.seeds) == 3 else super().pay(action)

    with pytest.warns(NonFiniteValueWarning, match="1 of 8 values are NaN or infinite"):
        result = short(line(), Rare, rollout=Rollout(lanes=1))
    assert np.isfinite(numbers(result.policy.network)).all()
    assert not np.array_equal(numbers(result.policy.network), numbers(line()))


def test_sigma_may_be_a_whole_number():
    """Upstream: TypeError."""
    assert short(sigma=1).sigma == short(sigma=1.0).sigma


@pytest.mark.parametrize("sampler", ["gaussian", "hadamard", "factorised", "rademacher"])
def test_the_noise_of_a_population_is_never_there_at_once(sampler):
    """Upstream: N x d numbers on the device. Here a row is made when it is used."""
    import tracemalloc

    tracemalloc.start()
    opt = BGS(np.zeros(50_000), 0.1, sampler=sampler, num_directions=200, seed=1,
              layout={"weight": (250, 200)})  # fmt: skip
    candidates = opt.ask()
    assert len(candidates) == 400
    assert candidates[7:8].x.shape == (1, 50_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * 200 * 50_000 * 8


# ---- the pages and the examples

ARGUMENTS = [
    "actor", "accelerator", "state_norm", "actor_is_recurrent", "latent_gene_pool",
    "concat_latent_to_state", "crossover_every_step", "crossover_after_step",
    "num_env_interactions", "noise_pop_size", "noise_std_dev", "mutate_latent_genes",
    "latent_gene_noise_std_dev", "factorized_noise", "orthogonalized_noise", "num_selected",
    "num_rollout_repeats", "optim_klass", "learning_rate", "weight_decay", "betas",
    "max_timesteps", "calc_fitness", "param_names", "modules_to_optimize", "show_progress",
    "optim_kwargs", "optim_step_post_hook", "accelerate_kwargs",
    "num_std_below_mean_thres_accept", "frac_genes_pass_thres_accept", "cpu",
    "torch_compile_actor", "use_ema", "ema_decay", "update_model_with_ema_every",
    "sample_actions_from_actor",
]  # fmt: skip
"""Of upstream's class BlackboxGradientSensing, in their order."""
CLASSES = ("BlackboxGradientSensing", "Actor", "ActorWrapper", "StateNorm", "LatentGenePool")
METHODS = ("forward", "save", "load", "return_wrapped_actor", "log")


def test_the_page_for_users_of_upstream_maps_every_name():
    page = (ROOT / "docs" / "from-upstream.md").read_text("utf-8")
    assert len(set(ARGUMENTS)) == 37
    rows = re.findall(r"^\| (.+?) \|", page, re.M)  # the first column of the tables
    named = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    assert set(ARGUMENTS) - named == set()
    assert set(CLASSES) - named == set()
    assert set(METHODS) - named == set()


def test_what_the_page_maps_to_is_there():
    """Each `name=` of ours in its tables is an argument of ours."""
    page = (ROOT / "docs" / "from-upstream.md").read_text("utf-8")
    cells = re.findall(r"^\| .+? \| (.+) \|$", page, re.M)
    named = {name for cell in cells for name in re.findall(r"`[^`]*?\b(\w+)=", cell)}
    named |= {n for cell in cells for call in re.findall(r"`\w+\(([^`]*)\)`", cell)
              for n in re.findall(r"(\w+)=", call)}  # fmt: skip
    known = set()
    for function in (train, BGS, Options, Rollout, Evaluation, Genes, Actor, Policy, Policy.load):
        known |= set(inspect.signature(function).parameters)
    assert {"num_directions", "top_k", "repeats", "include"} <= named
    assert named - known - {"lr", "betas"} == set()


def test_the_example_of_usage_runs(tmp_path):
    subprocess.run([sys.executable, "-W", "error", ROOT / "docs/examples/upstream_usage.py"],
                   cwd=tmp_path, check=True, timeout=120)  # fmt: skip
    policy = Policy.load(tmp_path / "actor-and-state-norm.pt", nn.Linear(5, 2))
    assert policy(np.zeros(5)) in (0, 1)
    assert policy.normalizer is not None


def test_the_example_of_the_lander_runs(tmp_path):
    # no "-W error": bindings made by SWIG warn when they are loaded
    subprocess.run(
        [sys.executable, ROOT / "docs/examples/upstream_lander.py", "--generations", "1",
         "--directions", "2", "--repeats", "1", "--video", "lander.gif"],
        cwd=tmp_path, check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    policy = Policy.load(tmp_path / "lander.pt")
    action = policy(np.zeros(8, np.float32))
    assert policy.action_space.contains(action)
    assert policy.recurrent
    assert (tmp_path / "lander.gif").read_bytes().startswith(b"GIF89a")
