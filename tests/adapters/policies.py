"""What tests of policies share: tiny environments and modules that worker processes can import."""

import os
import signal
from pathlib import Path

import gymnasium
import numpy as np
import torch
from gymnasium import spaces


class Target(gymnasium.Env):
    """Steps of one episode: reward -(action - W x)^2 for a fixed W; best return 0."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float64)
    wanted = np.array([[0.5, -0.3, 0.2], [-0.1, 0.4, 0.3]])

    def __init__(self, steps=5):
        self.steps = steps

    def _observe(self):
        self.now = self.np_random.uniform(-1, 1, 3)
        return self.now

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {}

    def step(self, action):
        reward = -float(np.square(action - self.wanted @ self.now).sum())
        self.count += 1
        return self._observe(), reward, self.count >= self.steps, False, {}


class Unscaled(Target):
    """The same with observations of another size, which its space does not tell."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def _observe(self):
        return super()._observe() * 50 + 200


class Memory(gymnasium.Env):
    """The sign seen at the first step is the right action of the last."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sign, self.count = int(self.np_random.integers(2)), 0
        return np.array([2 * self.sign - 1, 0], np.float32), {}

    def step(self, action):
        self.count += 1
        last = self.count == 3
        reward = float(last and action == self.sign)
        return np.array([0, float(self.count == 2)], np.float32), reward, last, False, {}


class Deadly(Target):
    """Kills its process once, in the episode that finds the file there."""

    def __init__(self, file):
        super().__init__()
        self.file = Path(file)

    def step(self, action):
        try:
            self.file.unlink()
        except FileNotFoundError:
            return super().step(action)
        os.kill(os.getpid(), signal.SIGKILL)
        return None


class Interrupted(Unscaled):
    """Counts its episodes in a folder, over all processes; the one of this number raises once."""

    def __init__(self, folder, number):
        super().__init__()
        self.folder, self.number = Path(folder), number

    def reset(self, *, seed=None, options=None):
        if not (self.folder / "raised").exists() and len(self.played()) + 1 >= self.number:
            (self.folder / "raised").touch()
            raise OSError("the simulator is down")
        return super().reset(seed=seed)

    def step(self, action):
        found = super().step(action)
        if found[2]:
            name = f"episode-{os.getpid()}-{len(self.played())}-{os.urandom(4).hex()}"
            (self.folder / name).touch()
        return found

    def played(self):
        return list(self.folder.glob("episode-*"))


class Recurrent(torch.nn.Module):
    """A recurrent policy in another form than Actor's: its hidden state is a tuple."""

    recurrent = True

    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Linear(2 + 4, 4)
        self.out = torch.nn.Linear(4, 2)

    def forward(self, x, hidden=None):
        (h,) = hidden if hidden is not None else (x.new_zeros(*x.shape[:-1], 4),)
        h = torch.tanh(self.mix(torch.cat([x, h], -1)) + h)
        return self.out(h), (h,)


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))


def vector_of(result):
    return torch.nn.utils.parameters_to_vector(result.policy.parameters()).detach().numpy().copy()
