"""Episodes until LunarLander-v3 (continuous) is solved: mean return 200 in 10 evaluation episodes.

No sigma is given: train() finds it. Episodes of random actions and of training count, those of
evaluation, every second generation, do not. An episode has 500 steps at most.
"""

import os
import sys

import numpy as np

from tests.benchmarks import _runs

HORIZON = 500
TARGET = 200.0
LIMITS = {"linear": 1000, "actor": 5000}
DUE = {"linear": (500, 8), "actor": (5000, 5)}  # median episodes; seeds of 10 within the limit


def solve(task):
    """Episodes a seed needs; the limit and one more where it needs more."""
    kind, seed, limit, device = task
    import gymnasium
    import torch

    from bgs_opt.adapters.policy import Evaluation, Rollout, train

    torch.set_num_threads(1)
    spec = gymnasium.spec("LunarLander-v3")
    spec.kwargs = {**spec.kwargs, "continuous": True}
    result = train(
        kind, spec, seed=seed, episodes=limit, target=TARGET, evaluation=Evaluation(2, 10),
        rollout=Rollout(max_steps=HORIZON, lanes=16), device=device,
    )  # fmt: skip
    reached = result.evaluation >= TARGET
    return task, result.episodes if reached else np.inf, result.evaluation, result.sigma


def measure(options, jobs):
    """Rows and checks of the table."""
    os.environ["OMP_NUM_THREADS"] = "1"
    kinds = options.policy or (["linear"] if options.quick else list(LIMITS))
    seeds = range(2 if options.quick else 10)
    rows, checks = [], []
    with _runs.processes(jobs) as pool:
        for kind in kinds:
            limit = LIMITS[kind]
            needed = []
            for task, episodes, evaluation, sigma in pool.imap_unordered(
                solve, [(kind, seed, limit, options.device) for seed in seeds], chunksize=1
            ):
                words = (f"  {task[0]}, seed {task[1]}: {episodes:g} episodes, evaluation "
                         f"{evaluation:.0f}, sigma {sigma:.3g}")  # fmt: skip
                print(words, file=sys.stderr, flush=True)
                needed.append(episodes)
            solved = int(np.sum(np.isfinite(needed)))
            low, middle, high = _runs.counts(needed)
            rows.append([f"{kind}, at most {limit}", f"{middle:g}", f"{low:g} to {high:g}",
                         f"{solved} of {len(needed)}"])  # fmt: skip
            due, count = DUE[kind]
            checks.append((f"LunarLander, {kind}: median {middle:g} episodes, due {due}",
                           middle <= due))  # fmt: skip
            checks.append((f"LunarLander, {kind}: {solved} of {len(needed)} seeds within {limit}, "
                           f"due {count}", solved >= min(count, len(needed))))  # fmt: skip
    header = ["LunarLander-v3, continuous", "episodes to 200", "quartiles", "seeds"]
    return header, rows, checks
