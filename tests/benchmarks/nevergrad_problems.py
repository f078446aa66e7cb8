"""Shifted, rotated and noisy functions in Nevergrad's standardized space, and one run on one."""

import numpy as np

FUNCTIONS = ("sphere", "cigar", "ellipsoid 1e2", "ellipsoid 1e4", "rosenbrock", "rastrigin")
NOISES = (0.0, 0.1, 1.0, 10.0)


class Problem:
    """One seed of one cell.

    The start is the origin, where Nevergrad's prior has its mean; the optimum is drawn from that
    prior, N(0, 1) in each coordinate. ``noise`` is the standard deviation of additive Gaussian
    noise as a share of the loss at the start.
    """

    def __init__(self, name, dim, noise, seed):
        rng = np.random.default_rng([1012, seed, dim, FUNCTIONS.index(name)])
        self.name, self.dim = name, dim
        self.optimum = rng.standard_normal(dim)
        self.rotation, self.axes = None, None
        if name.startswith("ellipsoid"):
            q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
            self.rotation = q * np.sign(np.diag(r))
            self.axes = float(name.split()[1]) ** (np.arange(dim) / (dim - 1))
        elif name == "cigar":
            self.axes = np.full(dim, 1e6)
            self.axes[0] = 1.0
        self.start = self.loss(np.zeros(dim))
        self.deviation = noise * self.start
        self.rng = np.random.default_rng([seed, dim, 78])

    def loss(self, x):
        """Loss free of noise; the optimum's is 0."""
        z = np.asarray(x) - self.optimum
        if self.name == "rastrigin":
            return float(10 * self.dim + np.sum(z * z - 10 * np.cos(2 * np.pi * z)))
        if self.name == "rosenbrock":
            z = z + 1
            return float(np.sum(100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2))
        if self.axes is None:
            return float(z @ z)
        if self.rotation is not None:
            z = self.rotation @ z
        return float(self.axes @ np.square(z))

    def __call__(self, x):
        """Value as an optimizer sees it."""
        value = self.loss(x)
        return value + self.deviation * self.rng.standard_normal() if self.deviation else value


def repair():
    """Let Nevergrad 1.0.12 work with NumPy 2.4, so that no peer loses by it.

    Its meta-models call ``float`` on arrays of one number, which NumPy refuses since 2.4: NGOpt
    and NgIohTuned end with a TypeError in a few small cells without noise.
    """
    from nevergrad.optimization import metamodel

    metamodel.float = lambda value: np.asarray(value, dtype=float).item()


def solve(task):
    """Noise-free loss at the recommendation relative to the start; None if the optimizer breaks.

    Nevergrad is told the truth about noise, as a user who knows would do; nothing else is set.
    """
    import nevergrad as ng

    import bgs_opt.adapters.nevergrad  # noqa: F401  (registers)

    repair()
    method, name, dim, ratio, noise, seed = task
    problem = Problem(name, dim, noise, seed)
    space = ng.p.Array(shape=(dim,))
    space.function.deterministic = not noise
    space.random_state = np.random.RandomState(seed)
    np.random.seed(seed)  # noqa: NPY002  (some optimizers draw from the global generator)
    try:
        found = ng.optimizers.registry[method](space, budget=ratio * dim).minimize(problem)
    except Exception:
        return task, None
    score = problem.loss(found.value) / problem.start
    return task, score if np.isfinite(score) else 1e9
