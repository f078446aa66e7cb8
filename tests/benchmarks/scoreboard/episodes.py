"""An environment whose episode of one step is one evaluation of an objective."""

import contextlib

import gymnasium
import numpy as np
from gymnasium import spaces


class ProbeEnv(gymnasium.Env):
    """Sees 1, takes a point less the start, and gives back minus the objective there."""

    observation_space = spaces.Box(1.0, 1.0, (1,), np.float64)
    action_space = spaces.Box(-5.0, 5.0, (4,), np.float64)

    def __init__(self, f):
        self.f = f

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1), {}

    def step(self, action):
        value = self.f(1.0 + np.asarray(action, float))
        with contextlib.suppress(TypeError):  # of a value that is no number
            value = -value
        return np.ones(1), value, True, False, {}


class Probe:
    """Makes the environment, here or in a worker process."""

    REACH = 5.0  # an output of 1 is an action of 5

    def __init__(self, f):
        self.f = f

    def __call__(self):
        return ProbeEnv(self.f)
