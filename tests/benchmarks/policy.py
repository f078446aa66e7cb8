"""Policies: an update, a population through one step, and episodes until a task is solved.

    python -m tests.benchmarks.policy [--device DEVICE] [--quick] [--json FILE] [--check]
        [--part NAME] [--jobs N]

update: :mod:`tests.benchmarks.policy_update`; lander: :mod:`tests.benchmarks.policy_lander`.

population: 256 MLPs with one observation each, on one thread, float32. "loop": each member's
numbers are copied into the module's parameters, which then acts. "vmap": the stacked members at
once. "one forward": factorised candidates of BGS by a shared forward and rank-1 corrections. All
take turns; making the population, once a generation, is not part of it.

With ``--device cuda`` tensors and modules are on the GPU; times that are due are those of a CPU.

``--json FILE`` writes one file for each part.
"""

import copy
import functools
import os
import sys

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
import torch

from bgs_opt import BGS
from bgs_opt.adapters.torch import FlatParameters
from bgs_opt.adapters.torch_population import Population
from tests.benchmarks import _device, _table, policy_lander, policy_update

MEMBERS = 256
WIDTHS = {"1e4": 64, "9e4": 256}  # of the two hidden layers
DUE = {"1e4": {"vmap": 8, "one forward": 50}, "9e4": {"vmap": 2.5, "one forward": 20}}
TURNS = 25
INPUTS, OUTPUTS = 84, 8


def loop(net, rows, observations):
    """Each member by itself, its numbers copied into the module's own parameters."""
    parameters = list(net.parameters())
    out = []
    with torch.no_grad():
        for row, observation in zip(rows, observations, strict=True):
            start = 0
            for parameter in parameters:
                stop = start + parameter.numel()
                parameter.copy_(row[start:stop].view_as(parameter))
                start = stop
            out.append(net(observation))
    return torch.stack(out)


def made(width, device):
    """The contestants as functions of the observations."""
    torch.manual_seed(0)
    layers = (torch.nn.Linear(INPUTS, width), torch.nn.Tanh(), torch.nn.Linear(width, width),
              torch.nn.Tanh(), torch.nn.Linear(width, OUTPUTS))  # fmt: skip
    net = torch.nn.Sequential(*layers).to(device)
    flat = FlatParameters(net)
    opt = BGS(flat.to_numpy(), 0.05, layout=flat.layout, sampler="factorised",
              num_directions=MEMBERS // 2, seed=0)  # fmt: skip
    candidates = opt.ask()
    rows = torch.from_numpy(np.array(candidates.x)).to(device)
    other = copy.deepcopy(net)
    by_vmap = Population(flat, candidates, factorised=False)
    by_correction = Population(flat, candidates, factorised=True)
    return len(flat), {
        "loop": lambda x: loop(other, rows, x), "vmap": by_vmap, "one forward": by_correction,
    }  # fmt: skip


def measure(options):
    """Rows and checks of the table."""
    torch.set_num_threads(1)
    rows, checks = [], []
    for name, width in WIDTHS.items():
        dim, contestants = made(width, options.device)
        x = torch.randn(MEMBERS, INPUTS).to(options.device)
        answers = {who: act(x) for who, act in contestants.items()}
        apart = max(float((answers["loop"] - out).abs().max()) for out in answers.values())
        checks.append((f"d = {dim:,}: outputs agree within {apart:.0e}, due 1e-4", apart < 1e-4))
        times = {who: [] for who in contestants}
        for _ in range(5 if options.quick else TURNS):
            for who, act in contestants.items():
                step = functools.partial(act, x)
                times[who].append(_device.seconds(step, options.device, 1 if who == "loop" else 5))
        for who, spent in times.items():
            low, middle, high = (1e3 * q for q in _table.quartiles(spent))
            ratio = float(np.median(times["loop"]) / np.median(spent))
            rows.append([f"{who}, d = {dim:,}", f"{middle:,.2f}", f"{low:,.2f} to {high:,.2f}",
                         f"{ratio:.1f} x"])  # fmt: skip
            due = DUE[name].get(who)
            if due is not None and options.device == "cpu":
                checks.append((f"d = {dim:,}: {who} {ratio:.1f} times the loop, due {due}",
                               ratio >= due))  # fmt: skip
    header = ["256 members", "ms a step", "quartiles", "loop / this"]
    return header, rows, checks


PACKAGES = ("bgs_opt", "numpy", "torch", "gymnasium", "blackbox-gradient-sensing")


def main(argv=None):
    """Run the benchmark."""
    parser = _table.parser(__doc__)
    parser.add_argument("--part", choices=("update", "population", "lander"), action="append",
                        help="only this; may be repeated")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="processes of the part lander")
    parser.add_argument("--policy", choices=tuple(policy_lander.LIMITS), action="append",
                        help="of the part lander: only this; may be repeated")  # fmt: skip
    _device.add(parser)
    options = parser.parse_args(argv)
    _device.check(options.device)
    parts = {
        "update": policy_update.measure,
        "population": measure,
        "lander": lambda options: policy_lander.measure(options, options.jobs),
    }
    status = 0
    file = options.json
    for name, part in parts.items():
        if options.part is None or name in options.part:
            if file is not None:
                options.json = file.with_name(f"{file.stem}_{name}{file.suffix}")
            status |= _table.finish(options, *part(options), packages=PACKAGES, part=name,
                                    device=options.device)  # fmt: skip
    return status


if __name__ == "__main__":
    sys.exit(main())
