"""Learning curves of linear policies on gymnasium's tasks, ours beside EvoTorch's PGPE.

    python -m tests.benchmarks.evotorch --task rl [--jobs N] [--seeds N] [--cache FILE]
        [--picture FILE] [--quick] [--json FILE] [--check]

GymNE with observation normalization, as many episodes for both. PGPE with ClipUp has the settings
its authors publish: those of EvoTorch's examples for small tasks (50 solutions, radius 2.25,
center learning rate 0.2) and for MuJoCo (100 solutions, radius 0.27, center learning rate
0.01125, maximum speed 0.015). Ours has one setting for all three tasks. A point of a curve is the
mean return of the center's policy over 20 episodes of their own seeds, with the statistics of the
observations frozen.
"""

import numpy as np

from tests.benchmarks import _runs, _table

SEEDS = 10
PACKAGES = ("evotorch", "torch", "gymnasium", "mujoco")
OURS, PEER = "BGS", "PGPE"
POINTS = 10  # of a curve
TRIALS = 20  # episodes of a point
SMALL = {"popsize": 50, "radius_init": 2.25, "center_learning_rate": 0.2}
MUJOCO = {"popsize": 100, "radius_init": 0.27, "center_learning_rate": 0.01125,
          "optimizer_config": {"max_speed": 0.015}}  # fmt: skip
TASKS = {
    "CartPole-v1": (300, 500, SMALL),  # episodes, steps of an episode, settings of the peer
    "Pendulum-v1": (1_500, 200, SMALL),
    "Swimmer-v5": (600, 300, MUJOCO),
}
SETTING = {"popsize": 16, "center_learning_rate": 0.3, "stdev_init": 0.3}


def made(method, task, seed, setting=None):
    """A problem and the searcher on it."""
    import torch
    from evotorch.algorithms import PGPE
    from evotorch.neuroevolution import GymNE

    from bgs_opt.adapters.evotorch import BGS, PairedGymNE

    torch.manual_seed(seed)
    _, steps, published = TASKS[task]
    options = {"env": task, "network": "Linear(obs_length, act_length)",
               "observation_normalization": True, "episode_length": steps}  # fmt: skip
    center = torch.zeros
    if method == PEER:
        problem = GymNE(**options)
        return problem, PGPE(problem, stdev_learning_rate=0.1,
                             center_init=center(problem.solution_length), **published)  # fmt: skip
    problem = PairedGymNE(**options, env_seed=seed)
    return problem, BGS(problem, center_init=center(problem.solution_length),
                        **(setting or SETTING))  # fmt: skip


def mean_return(problem, center, task, seed):
    """Mean return of a center's policy over episodes that no training saw."""
    import gymnasium
    import torch

    policy, env = problem.to_policy(center), gymnasium.make(task)
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    total = 0.0
    with torch.no_grad():
        for trial in range(TRIALS):
            seen, _ = env.reset(seed=10_000_000 + 1_000 * seed + trial)
            for _ in range(TASKS[task][1]):
                out = policy(torch.as_tensor(np.asarray(seen, np.float32))).numpy()
                act = int(out.argmax()) if discrete else out
                seen, reward, ended, cut, _ = env.step(act)
                total += float(reward)
                if ended or cut:
                    break
    return total / TRIALS


def solve(task):
    """The curve of (method, task, seed): (episodes, return) at every point."""
    import logging

    import torch

    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    method, name, seed, *more = task
    setting = dict(more[0]) if more else None
    problem, searcher = made(method, name, seed, setting)
    episodes, curve = TASKS[name][0], []
    due = [episodes * (point + 1) // POINTS for point in range(POINTS)]
    while due:
        searcher.step()
        played = int(problem.status["total_episode_count"])
        last = played + len(searcher.population) > episodes
        if played >= due[0] or last:
            center = searcher.status["center"].clone()
            curve.append((played, mean_return(problem, center, name, seed)))
            due = [] if last else [point for point in due if point > played]
    return task, curve


def quartiles_at(curves, episodes):
    """Quartiles over the seeds of the last return that was found by then."""
    found = []
    for curve in curves:
        known = [value for played, value in curve if played <= episodes]
        found.append(known[-1] if known else np.nan)
    return np.quantile(found, [0.25, 0.5, 0.75])


def draw(curves, path):
    """Median and quartiles of the learning curves, a panel for each task."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(TASKS), figsize=(4 * len(TASKS), 3.2), layout="constrained")
    for panel, (task, (episodes, _, _)) in zip(axes, TASKS.items(), strict=True):
        points = [episodes * (point + 1) // POINTS for point in range(POINTS)]
        for method, color in ((OURS, "C0"), (PEER, "C1")):
            bands = np.array([quartiles_at(curves[method, task], at) for at in points]).T
            panel.plot(points, bands[1], color=color, label=method)
            panel.fill_between(points, bands[0], bands[2], color=color, alpha=0.2, linewidth=0)
        panel.set(title=task, xlabel="episodes", ylabel="mean return")
        panel.set_xlim(0, episodes)
    axes[0].legend(loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run(options):
    """Run the benchmark."""
    seeds = _runs.seeds(options, SEEDS)
    tasks = [(m, t, seed) for seed in seeds for t in TASKS for m in (OURS, PEER)]
    found = _runs.answers(solve, tasks, options, {OURS}, PACKAGES)
    curves = {(m, t): [found[m, t, seed] for seed in seeds] for m in (OURS, PEER) for t in TASKS}
    rows, checks, higher = [], [], 0
    for task, (episodes, steps, _) in TASKS.items():
        ends = {m: quartiles_at(curves[m, task], episodes) for m in (OURS, PEER)}
        for method, (low, middle, high) in ends.items():
            rows.append([f"{method}, {task}", f"{episodes:,}", f"{steps}", f"{middle:,.0f}",
                         f"{low:,.0f} to {high:,.0f}"])  # fmt: skip
        words = f"{task}: {ends[OURS][1]:,.1f}, {PEER} {ends[PEER][1]:,.1f}"
        checks.append((words + ", due no lower", ends[OURS][1] >= ends[PEER][1]))
        higher += ends[OURS][1] > ends[PEER][1]
    checks.append((f"higher on {higher} of {len(TASKS)}, due most", higher > len(TASKS) / 2))
    if options.picture is not None:
        draw(curves, options.picture)
    header = ["searcher, task", "episodes", "steps each", "return", "quartiles"]
    return _table.finish(
        options, header, rows, checks, seeds=len(seeds),
        packages=("bgs_opt", *PACKAGES),
    )  # fmt: skip
