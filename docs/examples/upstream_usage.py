"""The usage example of the package blackbox-gradient-sensing, with bgs_opt.

python docs/examples/upstream_usage.py

The environment is made of noise, so there is nothing to learn: it shows the calls.
"""

import numpy as np
from gymnasium.spaces import Discrete
from torch import nn

from bgs_opt.adapters.policy import Rollout, train


class Sim:
    action_space = Discrete(2)  # so outputs are logits of two actions

    def reset(self, seed=None):
        self.rng = np.random.default_rng(seed)
        return self.rng.normal(size=5)

    def step(self, action):
        return self.rng.normal(size=5), self.rng.normal(size=1), False


result = train(
    nn.Linear(5, 2), Sim, generations=20, num_directions=10, top_k=2, seed=0,  # 100 upstream
    rollout=Rollout(sample_actions=True, max_steps=10),  # 500 upstream
)  # fmt: skip
print(result.message, "after", result.episodes, "episodes")
result.policy.save("actor-and-state-norm.pt")
