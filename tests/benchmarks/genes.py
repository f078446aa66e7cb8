"""What a pool of genes is for: one network, two opposite goals, nobody says which one it is.

    python -m tests.benchmarks.genes [--jobs N] [--seeds N] [--picture FILE] [--quick]
        [--json FILE] [--check]

A point starts near the middle of a plane and has to be at a goal after 15 steps. The goal is at
(1, 0) or at (-1, 0), drawn for each pair of episodes, and the point sees its own position only. A
single policy can serve one goal. With a pool, genes may go to different goals; which one is of use
is found by one trial episode for each gene, and then the best gene is played: 10 episodes for
each goal count. Without a pool there is one policy and nothing to try. The reward, 0 to 1, is
exp(-d^2 / (2 0.5^2)) of the last distance d. All have the same network, whose gene is one constant
without a pool, and the same number of episodes to learn from.
"""

import functools
import sys
from pathlib import Path

import numpy as np

from tests.benchmarks import _runs, _table

SEEDS = 10
EPISODES = 6000
STEPS, STRIDE, WIDTH = 15, 0.15, 0.5
GOALS = ((1.0, 0.0), (-1.0, 0.0))
DIM = 4
POOL = {"genes_per_island": 3, "islands": 6, "migrate_fraction": 0.0}
METHODS = {  # arguments of train(); whether there is a pool
    "pool": ({"sigma": 0.1, "num_directions": 4}, True),
    "no pool": ({"sigma": 0.1}, False),
    "no pool, sigma found": ({}, False),
}
DUE = 0.8
PACKAGES = ("bgs_opt", "numpy", "torch", "gymnasium")


class Goal:
    """The plane with one goal."""

    def __init__(self, goal):
        from gymnasium import spaces

        self.goal = np.array(goal)
        self.observation_space = spaces.Box(-4.0, 4.0, (2,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float64)

    def reset(self, seed=None):
        self.point, self.count = np.random.default_rng(seed).normal(size=2) * 0.05, 0
        return self.point.copy()

    def step(self, action):
        self.point = np.clip(self.point + STRIDE * np.asarray(action), -4, 4)
        self.count += 1
        over = self.count == STEPS
        away = np.sum((self.point - self.goal) ** 2)
        return self.point.copy(), float(np.exp(-away / (2 * WIDTH**2))) * over, over


def network(seed):
    """tanh(A x + b + V gene), then two outputs; a constant gene where none is given."""
    import torch

    class Conditioned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            generator = torch.Generator().manual_seed(seed)

            def drawn(*shape, std):
                return torch.nn.Parameter(std * torch.randn(*shape, generator=generator))

            self.seen, self.shift = drawn(16, 2, std=0.7), torch.nn.Parameter(torch.zeros(16))
            self.mode, self.out = drawn(16, DIM, std=2.0), drawn(2, 16, std=0.25)
            constant = torch.randn(DIM, generator=generator)
            self.register_buffer("constant", constant / constant.norm())

        def forward(self, x, gene=None):
            gene = self.constant if gene is None else gene
            return torch.tanh(x @ self.seen.T + self.shift + gene @ self.mode.T) @ self.out.T

    return Conditioned()


def upper(returns):
    """Fitness: what a gene gets where the goal is its own."""
    return float(np.quantile(returns, 0.8))


def path(policy, goal, seed, gene):
    """Points of one episode and its reward."""
    env = Goal(goal)
    points, reward, over = [env.reset(seed)], 0.0, False
    while not over:
        given = {} if gene is None else {"gene": gene}
        point, reward, over = env.step(policy(points[-1], **given))
        points.append(point)
    return np.array(points), reward


def chosen(policy, goal):
    """The gene that is best in one trial episode; None where there is no pool."""
    if policy.genes is None:
        return None
    return int(np.argmax([path(policy, goal, 1000, n)[1] for n in range(len(policy.genes))]))


def trained(method, seed):
    """The policy that a method finds."""
    import torch

    from bgs_opt import GenePool
    from bgs_opt.adapters.policy import Evaluation, Genes, Rollout, train

    torch.set_num_threads(1)
    given, pooled = METHODS[method]
    genes = Genes(GenePool(DIM, seed=seed, **POOL), evolve_every=4, fitness=upper)
    result = train(
        network(seed), [functools.partial(Goal, goal) for goal in GOALS], seed=seed,
        episodes=EPISODES, genes=genes if pooled else None, rollout=Rollout(lanes=32),
        evaluation=Evaluation(8, 10), **given,
    )  # fmt: skip
    return result.policy


def solve(task):
    """Mean reward over both goals of (method, seed)."""
    method, seed = task
    policy = trained(method, seed)
    rewards = [
        path(policy, goal, number, chosen(policy, goal))[1]
        for goal in GOALS
        for number in range(2000, 2010)
    ]
    return task, float(np.mean(rewards))


def draw(file):
    """Paths of all genes of one pool, and of the policy that has none."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, method in zip(axes, ("no pool", "pool"), strict=True):
        policy = trained(method, 1)
        genes = [None] if policy.genes is None else range(len(policy.genes))
        best = [chosen(policy, goal) for goal in GOALS]
        for gene in genes:
            for seed in range(3):
                points, _ = path(policy, GOALS[0], seed, gene)
                mine = gene in best
                axis.plot(*points.T, color="tab:blue" if mine else "0.75", zorder=2 + mine,
                          linewidth=1.5 if mine else 0.8)  # fmt: skip
        for goal in GOALS:
            axis.plot(*goal, marker="*", markersize=14, color="tab:orange", zorder=5)
        title = {"pool": f"{len(genes)} genes; blue: the best for each goal"}
        axis.set_title(title.get(method, "one policy"))
        axis.set_xlabel("x")
        axis.set_aspect("equal")
    axes[0].set_ylabel("y")
    figure.savefig(file, dpi=110)


def main(argv=None):
    """Run the benchmark."""
    parser = _runs.parser(__doc__, SEEDS)
    parser.add_argument("--picture", type=Path, help="draw paths of one seed there")
    options = parser.parse_args(argv)
    seeds = _runs.seeds(options, SEEDS)
    tasks = [(method, seed) for seed in seeds for method in METHODS]
    found = _runs.answers(solve, tasks, options.jobs, options.cache, set(METHODS))
    rows, medians = [], {}
    for method in METHODS:
        rewards = [found[method, seed] for seed in seeds]
        low, medians[method], high = _table.quartiles(rewards)
        rows.append([
            method, f"{medians[method]:.2f}", f"{low:.2f} to {high:.2f}", f"{max(rewards):.2f}",
            f"{sum(reward >= DUE for reward in rewards)} of {len(rewards)}",
        ])  # fmt: skip
    alone = max(max(found[m, seed] for seed in seeds) for m in METHODS if m != "pool")
    checks = [
        (f"median reward with a pool {medians['pool']:.2f}, due {DUE}", medians["pool"] >= DUE),
        (f"median with a pool {medians['pool']:.2f}, best of all seeds without {alone:.2f}",
         medians["pool"] > alone),
    ]  # fmt: skip
    if options.picture is not None:
        draw(options.picture)
    header = [f"{EPISODES:,} episodes", "reward", "quartiles", "best", f"seeds with {DUE}"]
    return _table.finish(options, header, rows, checks, seeds=len(seeds), packages=PACKAGES)


if __name__ == "__main__":
    sys.exit(main())
