"""The lander of the package blackbox-gradient-sensing (its train.py), with bgs_opt.

    python docs/examples/upstream_lander.py [--generations 100] [--directions 100] [--repeats 4]
        [--workers 1] [--seed 0] [--out lander.pt] [--video lander.gif]

Continuous actions in LunarLander-v3, drawn from the policy in training. A generation of these
sizes is 801 episodes. Needs gymnasium[box2d].
"""

import argparse

import gymnasium
import torch

from bgs_opt import Options
from bgs_opt.adapters.policy import Evaluation, Rollout, train

parser = argparse.ArgumentParser()
for name, default in {"generations": 100, "directions": 100, "repeats": 4, "workers": 1,
                      "seed": 0}.items():  # fmt: skip
    parser.add_argument(f"--{name}", type=int, default=default)
parser.add_argument("--out", default="lander.pt")
parser.add_argument("--video")
args = parser.parse_args()

if __name__ == "__main__":  # as worker processes read this file too
    torch.manual_seed(args.seed)  # the numbers that the actor starts with
    lander = {"id": "LunarLander-v3", "continuous": True}
    result = train(
        "actor", gymnasium.make(**lander), generations=args.generations,
        num_directions=args.directions, top_k=-(-15 * args.directions // 100),
        normalize=True, sampler="factorised", optimizer="adam", learning_rate=0.01, sigma=0.1,
        options=Options(repeats=args.repeats, acceptance=-0.25, averaging=0.9),
        policy_options={"memory": True, "width": 32}, gain_decay=1e-4,
        rollout=Rollout(sample_actions=True, max_steps=500, lanes=20),
        evaluation=Evaluation(every=10, episodes=10),
        workers=args.workers, seed=args.seed, progress=True,
    )  # fmt: skip
    print(f"{result.evaluation:.1f} is the mean return of 10 episodes")
    result.policy.save(args.out)
    if args.video:
        from bgs_opt.adapters.policy_pictures import film

        with gymnasium.make(**lander, render_mode="rgb_array") as env:
            film(result.policy, env, args.video, seed=args.seed, max_steps=500)
