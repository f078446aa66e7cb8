"""Test functions with noise, a budget and bounds; the loss is always reported free of noise."""

import os

import numpy as np

FUNCTIONS = ("sphere", "ellipsoid", "rosenbrock", "rastrigin")
NOISES = (0.0, 0.1, 1.0)
BOUND = 5.0
EVALUATIONS = 400  # a dimension


class Spent(Exception):
    """The budget of evaluations is spent."""


class Problem:
    """One seed of one cell: a shifted (and for the ellipsoid rotated) function and its noise.

    ``noise`` is the standard deviation of additive Gaussian noise as a share of the loss at the
    start. Each seed draws its own optimum from [-2, 2]^d (rosenbrock: [-1, 1]^d), rotation and
    start from [-4, 4]^d. (The constants of the automatic rule were chosen on other draws.)
    """

    def __init__(self, name, dim, noise, seed):
        rng = np.random.default_rng([2026, seed, dim, FUNCTIONS.index(name)])
        spread = 1.0 if name == "rosenbrock" else 2.0
        self.name, self.dim, self.seed = name, dim, seed
        self.optimum = rng.uniform(-spread, spread, dim)
        self.x0 = rng.uniform(-4, 4, dim)
        if name == "ellipsoid":
            q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
            self.rotation = q * np.sign(np.diag(r))
            self.axes = 1e4 ** (np.arange(dim) / (dim - 1))
        self.budget = EVALUATIONS * dim
        self.count = 0
        self.start = self.loss(self.x0)
        self.deviation = noise * self.start
        self.rng = np.random.default_rng([seed, dim, 77])
        self.seen = (np.inf, self.x0)

    def loss(self, x):
        """Loss free of noise."""
        z = np.clip(x, -BOUND, BOUND) - self.optimum
        if self.name == "sphere":
            return float(z @ z)
        if self.name == "ellipsoid":
            return float(self.axes @ np.square(self.rotation @ z))
        if self.name == "rastrigin":
            return float(10 * self.dim + np.sum(z * z - 10 * np.cos(2 * np.pi * z)))
        z = z + 1
        return float(np.sum(100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2))

    def relative(self, x):
        """Loss free of noise, relative to the start's."""
        return self.loss(x) / self.start

    def __call__(self, x):
        """Value as an optimizer sees it; raises Spent beyond the budget."""
        if self.count >= self.budget:
            raise Spent
        self.count += 1
        value = self.loss(x)
        if self.deviation:
            value += self.deviation * self.rng.standard_normal()
        if value < self.seen[0]:
            self.seen = (value, np.array(x))
        return value


def run_bgs(problem):
    """``minimize`` of bgs_opt, without any option but the problem's own bounds and budget."""
    from bgs_opt import minimize

    result = minimize(
        problem,
        problem.x0,
        bounds=(-BOUND, BOUND),
        budget=problem.budget,
        seed=problem.seed,
    )
    return [problem.relative(result.x)]


def run_differential_evolution(problem):
    from scipy.optimize import differential_evolution

    generations = problem.budget // (15 * problem.dim) - 1
    try:
        result = differential_evolution(
            problem, [(-BOUND, BOUND)] * problem.dim, x0=problem.x0, maxiter=generations,
            polish=False, rng=problem.seed, tol=0,
        )  # fmt: skip
    except Spent:
        return [problem.relative(problem.seen[1])]
    return [problem.relative(result.x)]


def run_dual_annealing(problem):
    from scipy.optimize import dual_annealing

    try:
        result = dual_annealing(
            problem, [(-BOUND, BOUND)] * problem.dim, x0=problem.x0, maxfun=problem.budget,
            maxiter=10**6, rng=problem.seed,
        )  # fmt: skip
    except Spent:
        return [problem.relative(problem.seen[1])]
    return [problem.relative(result.x)]


def run_cma(problem, separable=False):
    """Two answers, the best point seen and the mean of the distribution at the end."""
    import cmaes

    kind = cmaes.SepCMA if separable else cmaes.CMA
    walls = np.array([[-BOUND, BOUND]] * problem.dim)
    search = kind(mean=problem.x0, sigma=0.6 * BOUND, bounds=walls, seed=problem.seed)
    while problem.count + search.population_size <= problem.budget:
        if not problem.deviation and search.should_stop():
            break
        points = [search.ask() for _ in range(search.population_size)]
        search.tell([(x, problem(x)) for x in points])
    return [problem.relative(problem.seen[1]), problem.relative(search._mean)]


def run_sep_cma(problem):
    return run_cma(problem, separable=True)


METHODS = {
    "bgs_opt": run_bgs,
    "DE": run_differential_evolution,
    "dual_annealing": run_dual_annealing,
    "CMA": run_cma,
    "SepCMA": run_sep_cma,
}


def solve(task):
    """Answers of one method on one seed of one cell."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    method, name, dim, noise, seed = task
    return task, METHODS[method](Problem(name, dim, noise, seed))
