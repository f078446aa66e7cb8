"""One update of a policy, the environment apart: ours beside the upstream package.

Both train the same actor in an environment that costs nothing, with 100 directions and episodes
of 50 steps: what is timed is making the candidates, their forward passes, and the update. Ours is
timed with factorised directions too. Peaks of memory are those of processes of their own: of the
resident set on a CPU, of the allocator on a GPU.
"""

import functools
import json
import subprocess
import sys

import numpy as np
import torch

from tests.benchmarks import _device, _table

INPUTS, OUTPUTS = 84, 8
WIDTHS = {"1e4": 64, "9e4": 256}
DIRECTIONS = 100
DUE_TIMES = 10
DUE_GROWTH = 1.25  # of our memory, from 100 to 400 directions
LANES = 64
STEPS = 50


class Free:
    """Episodes that cost nothing."""

    def __init__(self):
        from gymnasium import spaces

        self.observation_space = spaces.Box(-1.0, 1.0, (INPUTS,), np.float32)
        self.action_space = spaces.Discrete(OUTPUTS)
        self.observation = np.linspace(-1, 1, INPUTS, dtype=np.float32)

    def reset(self, seed=None):
        self.count = 0
        return self.observation, {}

    def step(self, action):
        self.count += 1
        return self.observation, float(action), self.count == STEPS, False, {}


def actor(width):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(INPUTS, width), torch.nn.Tanh(), torch.nn.Linear(width, width),
        torch.nn.Tanh(), torch.nn.Linear(width, OUTPUTS),
    )  # fmt: skip


def ours(width, directions, sampler, device):
    """A function that makes so many updates and returns the seconds of each."""
    from bgs_opt.adapters.policy import Evaluation, Rollout, train

    module = actor(width)

    def updates(count):
        result = train(
            module, Free, num_directions=directions, generations=count, sigma=0.1, seed=0,
            sampler=sampler, rollout=Rollout(lanes=LANES), evaluation=Evaluation(0, 1),
            device=device,
        )  # fmt: skip
        # after the returns have come to the host, and so waited for the device
        return np.diff(result.history["seconds"], prepend=0.0)

    return updates


def theirs(width, directions, device):
    """The same for the upstream package, without its compilation, which costs minutes."""
    from blackbox_gradient_sensing.bgs import BlackboxGradientSensing

    learner = BlackboxGradientSensing(
        actor(width), noise_pop_size=directions, num_selected=directions // 2,
        num_rollout_repeats=1, max_timesteps=STEPS, torch_compile_actor=False, cpu=device == "cpu",
        show_progress=False,
    )  # fmt: skip
    env = Free()

    def updates(count):
        begun = _device.waited(device)
        learner(env, num_env_interactions=count, show_progress=False)
        return [(_device.waited(device) - begun) / count]

    return updates


MAKERS = {
    "ours, orthogonal": functools.partial(ours, sampler="orthogonal"),
    "ours, factorised": functools.partial(ours, sampler="factorised"),
    "upstream": theirs,
}


def peak(who, width, directions, device):
    """MiB by which memory grows in two updates, in a process of its own."""
    program = (
        "from tests.benchmarks import policy_update as p; "
        f"p.report({who!r}, {width}, {directions}, {device!r})"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], text=True, check=True,
                          stdout=subprocess.PIPE)  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def report(who, width, directions, device):
    """Print the growth; run by :func:`peak`."""
    torch.set_num_threads(1)
    MAKERS[who](8, 4, device=device)(1)  # imports and warm buffers
    updates = MAKERS[who](width, directions, device=device)
    print(json.dumps(_device.growth(functools.partial(updates, 2), device) / 2**20))


def measure(options):
    """Rows and checks of the table."""
    torch.set_num_threads(1)
    device = options.device
    rows, checks = [], []
    for name, width in WIDTHS.items():
        contestants = {who: make(width, DIRECTIONS, device=device) for who, make in MAKERS.items()}
        spent = {who: [] for who in contestants}
        for turn in range(2 if options.quick else 6):
            for who, updates in contestants.items():
                found = updates(2 if who != "upstream" else 1)
                spent[who] += list(found) if turn else []
        base = np.median(spent["upstream"])
        for who, seconds in spent.items():
            low, middle, high = (1e3 * q for q in _table.quartiles(seconds))
            ratio = float(base / np.median(seconds))
            sizes = [peak(who, width, count, device) for count in (100, 400)]
            rows.append([f"{who}, d = {name}", f"{middle:,.1f}", f"{low:,.1f} to {high:,.1f}",
                         f"{ratio:.1f} x", f"{sizes[0]:.0f} / {sizes[1]:.0f}"])  # fmt: skip
            if who != "upstream":
                if device == "cpu":
                    words = f"d = {name}: {who} {ratio:.1f} times faster than upstream, due "
                    checks.append((f"{words}{DUE_TIMES}", ratio >= DUE_TIMES))
                grown = sizes[1] - sizes[0]
                allowed = max(8.0, (DUE_GROWTH - 1) * sizes[0])
                checks.append((f"d = {name}: {who}: {grown:+.1f} MiB from 100 to 400 directions, "
                               f"due at most {allowed:.0f}", grown <= allowed))  # fmt: skip
    header = ["100 directions", "ms an update", "quartiles", "upstream / this",
              "MiB at 100 / 400 directions"]  # fmt: skip
    return header, rows, checks
