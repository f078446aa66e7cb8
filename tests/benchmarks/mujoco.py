"""Episodes that linear policies need on MuJoCo's tasks, short horizons: ours, ARS and PGPE.

    python -m tests.benchmarks.mujoco [--jobs N] [--seeds N] [--cache FILE] [--quick]
        [--json FILE] [--check]

"train()": our default, one for all tasks, which finds sigma itself. "difference" and "max": the
same with that selection; the one that train() has by itself is not run again. "ARS V2-t": the
settings that rl-baselines3-zoo publishes for each task (Mania et al. 2018, arXiv 1803.07055), run
by our core. "PGPE": EvoTorch's, with ClipUp and the settings its authors publish for MuJoCo, but
populations of 16, since 100 would leave a few updates. Every 64 episodes the center plays 5
episodes of their own, which do not count. A run that does not reach a threshold needs infinitely
many episodes; beside each count, "to" is the first evaluation that reaches it.
"""

import sys

import numpy as np

from tests.benchmarks import _runs, _table

SEEDS = 10
TASKS = {  # episodes, steps of an episode, threshold
    "Swimmer-v5": (192, 400, 60.0),
    "HalfCheetah-v5": (448, 300, 500.0),
    "Hopper-v5": (320, 1000, 200.0),
}
PUBLISHED = {  # directions, kept, step, sigma, observations normalised, reward shift
    "Swimmer-v5": (1, 1, 0.02, 0.01, False, 0.0),
    "HalfCheetah-v5": (32, 4, 0.02, 0.03, True, 0.0),
    "Hopper-v5": (8, 4, 0.01, 0.025, True, 1.0),
}
OURS = {"train()": {}, "difference": {"selection": "difference"}, "max": {"selection": "max"}}
PEERS = ("ARS V2-t", "PGPE")
POINT, TRIALS = 64, 5
PACKAGES = ("bgs_opt", "gymnasium", "mujoco", "evotorch", "torch")
WITHIN = 1.1  # of the fewest episodes


def by_train(method, task, seed):
    """(episodes, return) of each evaluation of a training by train()."""
    from bgs_opt import Options
    from bgs_opt.adapters.policy import Evaluation, Rollout, train

    episodes, steps, _ = TASKS[task]
    pairs, given, shift = 8, dict(OURS.get(method, {})), 0.0
    if method == "ARS V2-t":
        pairs, kept, step, sigma, normalize, shift = PUBLISHED[task]
        given = {
            "top_k": kept, "learning_rate": step, "sigma": sigma, "normalize": normalize,
            "selection": "max", "sampler": "gaussian", "options": Options(common_seeds="none"),
        }  # fmt: skip
    result = train(
        "linear", task, seed=seed, episodes=episodes, num_directions=pairs,
        rollout=Rollout(max_steps=steps, reward_shift=shift, lanes=16),
        evaluation=Evaluation(max(1, POINT // (2 * pairs)), TRIALS), **given,
    )  # fmt: skip
    there = np.isfinite(result.history["evaluation"])
    table = np.stack([result.history["episodes"], result.history["evaluation"]], axis=1)
    return table[there].tolist()


def by_pgpe(task, seed):
    """The same of EvoTorch's PGPE."""
    import torch
    from evotorch.algorithms import PGPE
    from evotorch.neuroevolution import GymNE

    from bgs_opt.adapters.gymnasium import Rollout, arena_of

    torch.manual_seed(seed)
    episodes, steps, _ = TASKS[task]
    problem = GymNE(env=task, network="Linear(obs_length, act_length, bias=False)",
                    observation_normalization=True, episode_length=steps)  # fmt: skip
    searcher = PGPE(
        problem, popsize=16, radius_init=0.27, center_learning_rate=0.01125,
        stdev_learning_rate=0.1, optimizer_config={"max_speed": 0.015},
        center_init=torch.zeros(problem.solution_length),
    )  # fmt: skip
    arena = arena_of(task, Rollout(max_steps=steps, lanes=TRIALS))
    seeds = np.random.SeedSequence(seed).generate_state(TRIALS).tolist()
    curve = []
    while not curve or curve[-1][0] < episodes:
        for _ in range(POINT // 16):
            searcher.step()
        policy = problem.to_policy(searcher.status["center"].clone())
        with torch.no_grad():
            played = arena.play(
                lambda seen, rows, act=policy: np.stack(
                    [act(torch.from_numpy(one)).numpy() for one in seen]
                ),
                seeds,
            )
        episodes_so_far = int(problem.status["total_episode_count"])
        curve.append((episodes_so_far, float(played.returns.mean())))
    return curve


def solve(task):
    """The curve of (method, task, seed)."""
    import logging

    import torch

    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    method, name, seed = task
    return task, by_pgpe(name, seed) if method == "PGPE" else by_train(method, name, seed)


def needed(curve, threshold):
    """Episodes until the first evaluation that reaches it."""
    return next((played for played, value in curve if value >= threshold), np.inf)


def words(low, middle, high, form):
    """A median with its quartiles."""
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def main(argv=None):
    """Run the benchmark."""
    options = _runs.parser(__doc__, SEEDS).parse_args(argv)
    seeds = _runs.seeds(options, SEEDS)
    from bgs_opt.adapters.policy_setup import DEFAULTS

    methods = (*OURS, *PEERS)
    same = DEFAULTS["selection"]  # its runs are those of train()
    tasks = [(m, t, seed) for seed in seeds for t in TASKS for m in methods if m != same]
    found = _runs.answers(solve, tasks, options, set(OURS), PACKAGES[1:])
    found |= {(same, *task[1:]): curve for task, curve in found.items() if task[0] == "train()"}
    rows, checks = [], []
    for task, (episodes, steps, threshold) in TASKS.items():
        medians = {}
        for method in methods:
            curves = [found[method, task, seed] for seed in seeds]
            counts = [needed(curve, threshold) for curve in curves]
            low, medians[method], high = _runs.counts(counts)
            finals = np.quantile([curve[-1][1] for curve in curves], [0.25, 0.5, 0.75])
            rows.append([
                f"{method}, {task}", f"{steps}", f"{threshold:g}",
                words(low, medians[method], high, "g"),
                f"{np.isfinite(counts).sum()} of {len(counts)}", f"{episodes}",
                words(*finals, ",.0f"),
            ])  # fmt: skip
        fewest = min(medians.values())
        mine = medians["train()"]
        checks.append((f"{task}: {mine:g} episodes to {threshold:g}, the fewest are {fewest:g}, "
                       "due at most 10 % more",
                       bool(mine <= WITHIN * fewest) and np.isfinite(mine)))  # fmt: skip
    header = ["method, task", "steps", "threshold", "episodes to it", "seeds", "episodes",
              "final return"]  # fmt: skip
    return _table.finish(options, header, rows, checks, seeds=len(seeds),
                         packages=PACKAGES)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
