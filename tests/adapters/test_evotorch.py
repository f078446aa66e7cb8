"""The EvoTorch searcher in one process: PGPE's contract, and the mathematics of the method.

The examples and checks of EvoTorch's own test suite (test_examples, test_logging, test_cloning,
test_neuroevolution_vecgymne, test_core's hooks), whose files are not part of its wheel, are made
anew here over our searcher.
"""

import copy
import functools
import inspect
import logging
import math
import pickle

import gymnasium
import numpy as np
import pytest
import torch
from evotorch import Problem
from evotorch.algorithms import PGPE
from evotorch.algorithms.restarter.modify_restart import IPOP
from evotorch.algorithms.restarter.restart import Restart
from evotorch.logging import PandasLogger, PicklingLogger, StdOutLogger
from evotorch.neuroevolution import GymNE, NEProblem, SupervisedNE, VecGymNE
from evotorch.tools.ranking import rank
from scipy import stats
from scipy.linalg import hadamard

from bgs_opt.adapters.evotorch import BGS, BGSGaussian, PairedGymNE
from bgs_opt.adapters.evotorch_actors import Sample
from bgs_opt.adapters.evotorch_distribution import pair_weights
from bgs_opt.adapters.evotorch_fitness import tied
from bgs_opt.adapters.evotorch_sampling import SAMPLERS, Rows, sampler_of
from bgs_opt.errors import NonFiniteValueWarning
from bgs_opt.selection import direction_weights
from bgs_opt.walsh import hadamard_transform

logging.disable(logging.INFO)

SETTING = {"popsize": 20, "center_learning_rate": 0.2, "stdev_init": 0.1}
PGPE_KEYS = {"center", "stdev", "mean_eval", "median_eval", "pop_best", "pop_best_eval"}


def squares(x):
    return (x**2).sum(-1)


def sphere(sense="min", dim=10, *, function=squares, seed=1, **options):
    """A problem whose start is the same for each seed."""
    torch.manual_seed(seed)
    sign = 1 if sense == "min" else -1
    given = {"initial_bounds": (-1, 1), "vectorized": True, **options}
    return Problem(sense, lambda x: sign * function(x), solution_length=dim, **given)


def made(problem=None, **options):
    return BGS(sphere() if problem is None else problem, **{**SETTING, **options})


# ---- the contract of PGPE


def test_every_keyword_of_pgpe_is_accepted_and_has_its_default():
    theirs = inspect.signature(PGPE.__init__).parameters
    ours = inspect.signature(BGS.__init__).parameters
    assert set(theirs) <= set(ours)
    assert {n for n, p in ours.items() if p.kind is not p.KEYWORD_ONLY} == {"self", "problem"}
    other = {n for n in theirs if ours[n].default != theirs[n].default}
    assert other == {"stdev_learning_rate", "ranking_method"}  # 0 and none, since they are not BGS


@pytest.mark.parametrize("options", [
    {"popsize": 9}, {"stdev_init": None}, {"radius_init": 1.0},
    {"center_init": torch.zeros(7)}, {"stdev_init": torch.ones(7)}, {"optimizer": "x"},
    {"popsize_weighted_grad_avg": True},
], ids=str)  # fmt: skip
def test_a_wrong_keyword_has_the_error_of_evotorch(options):
    errors = []
    for search in (PGPE, BGS):
        with pytest.raises(ValueError, match=r"\w") as caught:
            search(sphere(), **{**SETTING, "stdev_learning_rate": 0.1, **options})
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("options", [
    {"bounds": (-1, 1)}, {"dtype": object}, {"initial_bounds": None},
], ids=str)  # fmt: skip
def test_a_problem_that_does_not_fit_has_the_error_of_evotorch(options):
    errors = []
    for search in (PGPE, BGS):
        given = {**options}
        if options.get("dtype") is object:
            problem = Problem("min", squares, dtype=object)
        else:
            problem = sphere(**given)
        with pytest.raises((ValueError, RuntimeError)) as caught:
            search(problem, **SETTING, **({"stdev_learning_rate": 0.1} if search is PGPE else {}))
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(("options", "words"), [
    ({"symmetric": False}, "symmetric: expected True"),
    ({"top_k": 11}, "top_k: expected"), ({"top_k": 0}, "top_k: expected"),
    ({"sampler": "x"}, "sampler: expected"), ({"selection": "x"}, "selection: expected"),
    ({"repeats": 0}, "repeats: expected"), ({"bounds": "clip"}, "bounds: expected"),
    ({"acceptance": -1.0}, "acceptance: expected"), ({"popsize": 0}, "popsize: expected"),
], ids=str)  # fmt: skip
def test_an_option_of_ours_out_of_range_is_named(options, words):
    with pytest.raises(ValueError, match=words):
        made(**options)


def test_status_and_steps_are_those_of_pgpe():
    ours, theirs = made(), PGPE(sphere(), **SETTING, stdev_learning_rate=0.1)
    for search in (ours, theirs):
        assert set(search.status.keys()) == PGPE_KEYS
        with pytest.raises(AttributeError):
            search.status["pop_best_eval"]
        search.step()
    assert set(ours.status.keys()) == set(theirs.status.keys())
    for key, value in theirs.status.items():
        assert type(ours.status[key]) is type(value), key
        if isinstance(value, torch.Tensor):
            assert ours.status[key].shape == value.shape
    assert torch.equal(ours.status["center"], theirs.status["center"])  # the first step stays
    assert len(ours.population) == 20
    assert ours.status["mean_eval"] == pytest.approx(float(ours.population.evals.mean()))
    assert ours.status["median_eval"] == float(ours.population.evals.median())
    assert ours.status["pop_best_eval"] == float(ours.population.evals.min())
    ours.step()
    assert not torch.equal(ours.status["center"], theirs.status["center"])
    assert ours.step_count == ours.status["iter"] == 2


def test_hooks_run_in_the_order_of_evotorch():
    calls = []
    problem = sphere()
    problem.before_eval_hook.append(lambda batch: calls.append(("before", len(batch))))
    problem.after_eval_hook.append(lambda batch: {"extra": float(batch.evals.mean())})
    search = made(problem, center_eval=True)
    search.before_step_hook.append(lambda: calls.append("step"))
    search.after_step_hook.append(lambda: {"more": 1.0})
    search.log_hook.append(lambda status: calls.append(sorted(status)))
    search.end_of_run_hook.append(lambda status: calls.append("end"))
    search.run(2)
    keys = sorted({*PGPE_KEYS, "iter", "best", "best_eval", "worst", "worst_eval", "extra",
                   "more", "center_eval"})  # fmt: skip
    assert calls == ["step", ("before", 21), keys] * 2 + ["end"]


def test_the_learning_rate_of_the_optimizer_may_be_changed():
    search = made()
    search.run(2)
    search.optimizer.param_groups[0]["lr"] = 0.0
    search.optimizer.param_groups[0]["momentum"] = 0.0
    before = search.status["center"].clone()
    search.step()
    assert torch.equal(search.status["center"], before)


# ---- the examples and checks of EvoTorch


@pytest.mark.parametrize("vectorized", [False, True])
def test_the_quickstart_runs_with_ours_instead_of_pgpe(vectorized, capsys):
    problem = sphere(vectorized=vectorized)
    searcher = BGS(problem, popsize=10, center_learning_rate=0.01, stdev_learning_rate=0.1,
                   radius_init=0.27)  # fmt: skip
    StdOutLogger(searcher)
    searcher.run(2)
    assert "best_eval" in capsys.readouterr().out
    assert searcher.step_count == 2


def sign_prediction(network):
    x = torch.randn(32, 3)
    return (torch.sign(network(x)[:, 0]) == torch.sign(x.sum(-1))).float().mean() * 2 - 1


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas, as EvoTorch uses it
def test_a_network_is_evolved_and_logged():
    torch.manual_seed(1)
    problem = NEProblem("max", torch.nn.Linear(3, 1), network_eval_func=sign_prediction)
    searcher = BGS(problem, popsize=50, radius_init=2.25, center_learning_rate=0.2,
                   stdev_learning_rate=0.1)  # fmt: skip
    logger = PandasLogger(searcher)
    searcher.run(50)
    assert logger.to_dataframe()["mean_eval"].iloc[-1] > 0.8
    network = problem.parameterize_net(searcher.status["center"])
    assert sign_prediction(network) > 0.8


@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_the_table_of_the_logger_has_the_columns_of_pgpe():
    tables = []
    for searcher in (made(), PGPE(sphere(), **SETTING, stdev_learning_rate=0.1)):
        logger = PandasLogger(searcher)
        searcher.run(2)
        tables.append(logger.to_dataframe())
    assert set(tables[0].columns) == set(tables[1].columns)
    assert tables[0].shape == tables[1].shape


def test_every_key_of_the_status_but_solutions_and_vectors_is_a_number():
    """What loggers keep: MLflow takes floats alone."""
    searcher = made(center_eval=True)
    seen = []
    searcher.log_hook.append(lambda status: seen.append(dict(status)))
    searcher.run(2)
    for status in seen:
        for key in set(status) - {"center", "stdev", "best", "worst", "pop_best"}:
            assert isinstance(status[key], (int, float)), key


def test_supervised_learning_runs():
    torch.manual_seed(1)
    x = torch.randn(64, 3)
    data = torch.utils.data.TensorDataset(x, x @ torch.tensor([[1.0], [-2.0], [0.5]]))
    problem = SupervisedNE(data, torch.nn.Linear(3, 1), torch.nn.MSELoss(), minibatch_size=64)
    searcher = BGS(problem, popsize=20, center_learning_rate=0.1, radius_init=0.5)
    searcher.run(100)
    assert searcher.status["mean_eval"] < 0.3  # it was about 5


@pytest.mark.parametrize("kind", [GymNE, VecGymNE, PairedGymNE])
def test_a_policy_is_trained_saved_and_made(kind, tmp_path):
    torch.manual_seed(1)
    env = "gym::CartPole-v1" if kind is VecGymNE else "CartPole-v1"
    problem = kind(env, "Linear(obs_length, act_length)", observation_normalization=True)
    searcher = BGS(problem, popsize=10, radius_init=2.25, center_learning_rate=0.2)
    pickler = PicklingLogger(searcher, interval=1, directory=tmp_path, verbose=False)
    searcher.run(3)
    assert searcher.status["total_episode_count"] == 30
    assert searcher.status["total_interaction_count"] > 30
    policy = problem.to_policy(searcher.status["center"])
    assert policy(torch.zeros(4)).shape == (2,)
    problem.save_solution(searcher.status["best"], tmp_path / "best.pickle")
    assert (tmp_path / "best.pickle").stat().st_size > 0
    assert pickler.unpickle_last_file()["center"].shape == (10,)


def test_interactions_make_the_population_grow():
    torch.manual_seed(1)
    problem = GymNE("CartPole-v1", "Linear(obs_length, act_length)")
    searcher = BGS(problem, popsize=10, radius_init=2.25, center_learning_rate=0.2,
                   num_interactions=3000, popsize_max=40, center_eval=True)  # fmt: skip
    searcher.run(3)
    assert searcher.status["popsize"] in (20, 30, 40)
    assert len(searcher.population) == searcher.status["popsize"]
    assert len(searcher.population.values.unique(dim=0)) == len(searcher.population)
    pairs = searcher.population.values
    assert torch.allclose(pairs[0::2] + pairs[1::2], 2 * searcher.status["center"], atol=1e-5)
    assert math.isfinite(searcher.status["center_eval"])


def test_a_distribution_is_cloned():
    given = {"mu": torch.arange(3.0), "sigma": torch.ones(3), "top_k": 2, "sampler": "gaussian"}
    first = BGSGaussian(given)
    for twin in (first.clone(), copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(twin.mu, first.mu)
        assert twin.mu.data_ptr() != first.mu.data_ptr()
        assert twin.parameters["top_k"] == 2
    assert first.to("meta").mu.is_meta
    assert BGSGaussian(parameters=given, solution_length=3, device="cpu").dtype == torch.float32


@pytest.mark.parametrize("restarter", [Restart, IPOP])
def test_restarters_work(restarter):
    options = {**SETTING, "popsize": 10}
    given = {"min_fitness_stdev": 1e9, "popsize_multiplier": 2} if restarter is IPOP else {}
    search = restarter(sphere(), BGS, options, **given)
    search.run(4)
    if restarter is IPOP:
        assert search.search_algorithm._popsize > 10


def test_the_objective_may_be_one_of_several():
    torch.manual_seed(1)

    def two(x):
        return torch.stack([squares(x), -squares(x - 1)], dim=-1)

    ends = []
    for index in (0, 1, -1):
        torch.manual_seed(1)
        problem = Problem(["min", "max"], two, solution_length=4, initial_bounds=(-1, 1),
                          vectorized=True)  # fmt: skip
        search = made(problem, obj_index=index)
        search.run(60)
        ends.append(search.status["center"].clone())
        assert search.obj_index == index % 2
    assert float(squares(ends[0])) < 0.1
    assert float(squares(ends[1] - 1)) < 0.1
    assert torch.equal(ends[1], ends[2])


# ---- the method


@pytest.mark.parametrize("options", [
    {}, {"top_k": 3}, {"selection": "max"}, {"ranking_method": "centered"},
    {"ranking_method": "nes"}, {"optimizer": "adam", "center_learning_rate": 0.05},
    {"optimizer": None, "center_learning_rate": 0.05}, {"sampler": "gaussian"},
    {"sampler": "hadamard"}, {"sampler": "rademacher"}, {"acceptance": 0.5}, {"repeats": 2},
    {"stdev_learning_rate": 0.1}, {"stdev_min": 0.05, "stdev_max": 0.2, "stdev_max_change": 0.1},
], ids=str)  # fmt: skip
def test_the_sphere_is_descended_and_maximizing_its_negative_is_the_same(options):
    ends = {}
    for sense in ("min", "max"):
        search = made(sphere(sense), **options)
        search.run(80)
        ends[sense] = search.status["center"].clone()
        assert float(squares(ends[sense])) < 0.6
    assert torch.equal(ends["min"], ends["max"])


def test_one_step_is_the_formula():
    """g = sum over kept of (R+ - R-) e / (k s_R), in NumPy over the rows of the population."""
    search = made(optimizer=None, center_learning_rate=0.5, top_k=4)
    search.step()
    rows = search.population.values.double().numpy()
    rewards = -search.population.evals[:, 0].double().numpy()
    start = search.status["center"].clone().double().numpy()
    plus, minus = rewards[0::2], rewards[1::2]
    kept = np.argsort(-np.abs(plus - minus), kind="stable")[:4]
    spread = np.concatenate([plus[kept], minus[kept]]).std()
    e = (rows[0::2] - rows[1::2])[kept] / 2 / 0.1
    g = ((plus - minus)[kept] / (4 * spread)) @ e
    search.step()
    assert np.allclose(search.status["center"].numpy(), start + 0.5 * g, rtol=0, atol=2e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_gradient_is_in_units_of_the_deviations_that_there_are_now(frozen):
    """Also after they were written anew; a gradient of twice the deviation is half as large."""
    with torch.inference_mode(frozen):
        distribution = BGSGaussian({"mu": torch.zeros(4), "sigma": torch.ones(4)})
        samples, fitnesses = torch.randn(8, 4), torch.randn(8)

        def gradient():
            return distribution.compute_gradients(samples, fitnesses, objective_sense="max")["mu"]

        first = gradient()
        distribution.sigma.mul_(2)
        assert torch.equal(gradient(), first / 2)
        distribution.sigma = torch.full((4,), 4.0)
        assert torch.equal(gradient(), first / 4)
        assert torch.equal(gradient(), first / 4)


def test_the_weights_are_those_of_the_core():
    evals = np.random.default_rng(1).normal(size=40)
    for center, threshold in ((None, None), (0.3, 0.2)):
        weights, utilities = pair_weights(
            evals, maximize=True, top_k=7, center=center, acceptance_threshold=threshold,
            with_utilities=True,
        )  # fmt: skip
        accepted = None
        if center is not None:
            accepted = np.maximum(evals[0::2], evals[1::2]) >= center - threshold * evals.std()
            assert 0 < accepted.sum() < 20
        due = direction_weights(evals[0::2], evals[1::2], top_k=7, accepted=accepted)
        assert np.array_equal(weights, due)
        assert np.isclose(utilities.sum(), 0)


@pytest.mark.parametrize("size", [1, 2, 32, 64, 2048])
def test_the_transform_of_the_core_takes_tensors(size):
    x = torch.arange(3.0 * size).reshape(3, size) % 7
    due = x.numpy() @ hadamard(size)
    got = hadamard_transform(x, lambda part: torch.from_numpy(hadamard(part)).float())
    assert torch.equal(got, torch.from_numpy(due).float())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dim", [1, 2, 7, 100, 1_000, 70_000])
def test_a_direction_depends_on_entropy_generation_and_index_alone(sampler, dim):
    rows = Rows(sampler, dim, 6, 12345)
    whole = torch.zeros(6, dim)
    for place, cols, block in rows.pieces(3, 0, 6, torch.zeros(dim)):
        whole[place, cols] = block
    for first, count in ((0, 1), (5, 1), (2, 3)):
        part = torch.full((count, dim), math.nan)
        for place, cols, block in rows.pieces(3, first, count, torch.zeros(dim)):
            part[place, cols] = block
        assert torch.equal(part, whole[first : first + count])
    others = [Rows(sampler, dim, 6, 12346), rows]
    for other, generation in zip(others, (3, 4), strict=True):
        for place, cols, block in other.pieces(generation, 0, 6, torch.zeros(dim)):
            if dim >= 100:
                assert not torch.equal(block, whole[place, cols])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dim", [7, 1_000, 70_000])
def test_a_weighted_sum_is_that_of_the_rows(sampler, dim):
    rows, like = Rows(sampler, dim, 9, 5), torch.zeros(dim, dtype=torch.float64)
    index, weights = [0, 2, 3, 7, 8, 130], [0.5, -1.0, 2.0, 0.25, -3.0, 1.0]
    due = torch.zeros_like(like)
    for number, weight in zip(index, weights, strict=True):
        for _, cols, block in rows.pieces(2, number, 1, like):
            due[cols] += weight * block[0]
    got = rows.weighted_sum(2, index, weights, torch.zeros_like(like))
    assert torch.allclose(got, due, atol=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_directions_have_the_norm_root_d_and_are_orthogonal_where_they_say_so(sampler, dtype):
    dim, count = 200, 150
    e = torch.zeros(count, dim, dtype=torch.float64)
    for place, cols, block in Rows(sampler, dim, count, 7).pieces(
        0, 0, count, torch.zeros(dim, dtype=dtype)
    ):
        assert block.dtype == dtype
        e[place, cols] = block.double()
    norms = e.norm(dim=1) / dim**0.5
    exact = 2e-3 if dtype == torch.float16 else 1e-5
    assert torch.allclose(
        norms, torch.ones_like(norms), atol=0.3 if "gaussian" in sampler else exact
    )
    products = e @ e.T / dim - torch.eye(count)
    if sampler == "orthogonal":
        assert float(products.abs().max()) < (2e-2 if dtype == torch.float16 else 1e-5)
    if sampler == "hadamard":  # over the tile of 128 columns that is whole
        tile = e[:128, :128] @ e[:128, :128].T / 128 - torch.eye(128)
        assert float(tile.abs().max()) < 2e-2
    assert float(e.mean().abs()) < 5 / (count * dim) ** 0.5


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_mean_of_e_e_transposed_is_the_identity(sampler):
    dim, count = 12, 6_000
    like = torch.zeros(dim)
    total = torch.zeros(dim, dim)
    rows = Rows(sampler, dim, 12, 99)
    for generation in range(count // 12):
        e = torch.zeros(12, dim)
        for place, cols, block in rows.pieces(generation, 0, 12, like):
            e[place, cols] = block
        total += e.T @ e
    off = total / count - torch.eye(dim)
    assert float(off.abs().max()) < 5 * (2 / count) ** 0.5


@pytest.mark.parametrize("sampler", ["gaussian", "gaussian_table"])
def test_the_numbers_of_the_gaussian_samplers_pass_a_kolmogorov_smirnov_test(sampler):
    numbers = torch.zeros(50, 1_001)  # not a multiple of the numbers of a random word
    for place, cols, block in Rows(sampler, 1_001, 50, 3).pieces(0, 0, 50, numbers[0]):
        numbers[place, cols] = block
    assert stats.kstest(numbers.ravel().numpy(), "norm").pvalue > 1e-3
    for column in range(4):  # of a word
        assert stats.kstest(numbers.ravel()[column::4].numpy(), "norm").pvalue > 1e-3


def test_the_default_sampler_is_orthogonal_where_there_are_many_directions():
    assert sampler_of(None, 40, 10) == "orthogonal"
    assert sampler_of(None, 41, 10) == "gaussian_table"
    assert sampler_of(None, 4096, 10) == "hadamard"


def test_the_gradient_of_a_linear_function_is_unbiased():
    slope = torch.arange(1.0, 7.0)
    found = []
    for seed in range(200):
        search = made(sphere(dim=6, function=lambda x: x @ slope, seed=seed), top_k=10,
                      sampler="gaussian", optimizer=None, center_learning_rate=1.0)  # fmt: skip
        search.step()
        before = search.status["center"].clone()
        search.step()
        found.append((before - search.status["center"]).numpy())
    mean, error = np.mean(found, 0), np.std(found, 0) / 200**0.5
    scale = mean @ slope.numpy() / float(slope @ slope)
    assert scale > 0
    assert (np.abs(mean - scale * slope.numpy()) < 4 * error).all()


# ---- dtypes and devices


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_every_floating_dtype_is_kept(dtype, sampler):
    left = []
    for seed in range(5):
        problem = sphere(dtype=dtype, eval_dtype=torch.float32, seed=seed)
        search = made(problem, sampler=sampler, center_eval=True)
        start = float(squares(search.status["center"].float()))
        search.run(60)
        assert search.status["center"].dtype == search.population.values.dtype == dtype
        left.append(float(squares(search.status["center"].float())) / start)
    assert sum(left) / len(left) < 1 / 3


def test_large_fitnesses_do_not_overflow_half_precision():
    problem = sphere(dtype=torch.float16, eval_dtype=torch.float32,
                     function=lambda x: 1e6 * squares(x.float()))  # fmt: skip
    search = made(problem)
    search.run(60)
    assert float(squares(search.status["center"].float())) < 0.5


@pytest.mark.parametrize("optimizer", [None, "adam"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_is_read_back_from_the_device(optimizer, sampler):
    """On the device "meta" any .item(), bool() or .numpy() raises."""
    problem = Problem("min", squares, solution_length=8, initial_bounds=(-1, 1), vectorized=True,
                      device="meta", store_solution_stats=False)  # fmt: skip
    search = made(problem, optimizer=optimizer, sampler=sampler, center_learning_rate=0.1)
    for _ in range(3):
        search.step()
    assert search.status["center"].is_meta


def test_no_vector_passes_through_numpy(monkeypatch):
    search = made(sphere(dim=5_000), center_eval=True)
    search.step()

    def refuse(self, *args, **kwargs):
        assert self.numel() < 5_000
        return original(self, *args, **kwargs)

    original = torch.Tensor.numpy
    monkeypatch.setattr(torch.Tensor, "numpy", refuse)
    monkeypatch.setattr(torch.Tensor, "__array__", refuse)
    search.run(3)
    assert search.step_count == 4


# ---- failures


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sense", ["min", "max"])
def test_bad_fitnesses_never_become_parameters_and_never_rank_best(sense, bad):
    """About half of the first population fails."""
    problem = sphere(sense, function=lambda x: torch.where(x[:, 0] > 0.3, bad, squares(x)))
    search = made(problem, center_init=torch.full((10,), 0.3), stdev_init=0.2)
    with pytest.warns(NonFiniteValueWarning, match=r"\d+ of 20 fitnesses are NaN or inf") as said:
        search.run(60)
    assert len(said) == 1
    center = search.status["center"]
    assert torch.isfinite(center).all()
    assert float(squares(center)) < 0.4
    assert math.isfinite(search.status["best_eval"])
    assert math.isfinite(search.status["pop_best_eval"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sense", ["min", "max"])
@pytest.mark.parametrize("failing", [range(5, 9), range(4), range(9)])
@pytest.mark.filterwarnings("ignore::bgs_opt.errors.NonFiniteValueWarning")
def test_a_generation_that_fails_as_a_whole_has_no_best_solution(failing, sense, bad):
    values = []

    def fun(x):
        fails = len(values) in failing
        values.append(torch.full((len(x),), bad) if fails else squares(x))
        return values[-1]

    search = made(sphere(sense, function=fun))
    for number in range(9):
        search.step()
        seen = torch.cat(values)
        seen = seen[seen.isfinite()]
        sign = 1 if sense == "min" else -1
        best, worst = (sign * seen.min(), sign * seen.max()) if len(seen) else (None, None)
        status = dict(search.status)
        assert status.get("best_eval") == best, number
        assert status.get("worst_eval") == worst, number
        if best is not None:
            assert float(status["best"].evals[0]) == best


@pytest.mark.filterwarnings("ignore::bgs_opt.errors.NonFiniteValueWarning")
def test_an_objective_that_fails_keeps_its_best_beside_another():
    count = [0]

    def two(x):
        count[0] += 1
        failed = torch.full((len(x),), -math.inf) if count[0] != 2 else squares(x)
        return torch.stack([squares(x), failed], dim=-1)

    problem = Problem(["min", "min"], two, solution_length=4, initial_bounds=(-1, 1),
                      vectorized=True)  # fmt: skip
    search = made(problem, obj_index=0)
    search.step()
    assert search.status["best"][1] is None
    assert float(search.status["best"][0].evals[0]) >= 0
    search.run(3)
    assert all(float(found.evals[1]) >= 0 for found in search.status["best"][1:])


@pytest.mark.parametrize("value", [math.nan, 3.0, math.inf])
@pytest.mark.parametrize("optimizer", [None, "clipup", "adam"])
@pytest.mark.filterwarnings("ignore::bgs_opt.errors.NonFiniteValueWarning")
def test_without_any_difference_no_step_is_taken(value, optimizer):
    problem = sphere(function=lambda x: torch.full((len(x),), value))
    search = made(problem, optimizer=optimizer)
    search.run(3)
    assert torch.equal(
        search.status["center"], made(sphere(), optimizer=optimizer)._distribution.mu
    )


RANKINGS = ["centered", "linear", "nes", "normalized", "raw"]


@pytest.mark.parametrize("method", RANKINGS)
@pytest.mark.parametrize("stdev_learning_rate", [0.0, 0.1])
def test_equal_fitnesses_are_equal_under_every_ranking(method, stdev_learning_rate):
    """EvoTorch ranks them by their places, and its "normalized" divides 0 by 0."""
    problem = sphere(function=lambda x: torch.full((len(x),), 3.0))
    search = made(problem, ranking_method=method, stdev_learning_rate=stdev_learning_rate)
    before = search._distribution.mu.clone()
    search.run(5)
    assert torch.equal(search.status["center"], before)
    assert torch.equal(search.status["stdev"], torch.full((10,), 0.1))


@pytest.mark.parametrize("method", RANKINGS)
def test_tied_fitnesses_share_the_mean_of_their_utilities_and_others_keep_theirs(method):
    alone = torch.tensor([3.0, -1.0, 2.0, 7.0])
    due = rank(alone, method, higher_is_better=True)
    assert torch.equal(tied(due, alone), due)
    shared = torch.tensor([3.0, -1.0, 3.0, 7.0])
    theirs = rank(shared, method, higher_is_better=True)
    found = tied(theirs, shared)
    assert found[0] == found[2] == pytest.approx(float((theirs[0] + theirs[2]) / 2))
    assert torch.equal(found[[1, 3]], theirs[[1, 3]])


def test_a_center_that_is_given_stays_the_callers():
    given = torch.full((10,), 0.5)
    search = made(center_init=given, stdev_init=(stdev := torch.full((10,), 0.2)))
    given.fill_(1e6)
    stdev.fill_(1e6)
    search.run(2)
    assert float(search.status["center"].abs().max()) < 5
    assert float(search.status["stdev"].max()) == pytest.approx(0.2)


@pytest.mark.parametrize("options", [
    {"stdev_init": 0.0}, {"stdev_init": -1.0}, {"stdev_init": math.nan},
    {"stdev_init": math.inf}, {"stdev_init": torch.tensor([0.1] * 9 + [math.nan])},
    {"stdev_init": None, "radius_init": 0.0}, {"center_init": torch.full((10,), math.nan)},
    {"center_init": np.full(10, math.inf)}, {"center_learning_rate": math.nan},
    {"stdev_learning_rate": math.inf},
], ids=str)  # fmt: skip
def test_numbers_that_cannot_be_used_are_refused_at_once_by_name(options):
    name = next(name for name, value in options.items() if value is not None)
    with pytest.raises(ValueError, match=f"{name}: expected finite numbers"):
        made(**options)


def test_no_accepted_direction_is_no_step():
    """The center is the best point there is."""
    problem = sphere(function=lambda x: squares(x) + 100 * (squares(x) > 0).float())
    search = made(problem, acceptance=0.0, center_init=torch.zeros(10))
    search.run(3)
    assert search.status["center_eval"] == 0
    assert not search.status["center"].any()


def test_an_evaluation_that_raises_leaves_the_searcher_as_it_was():
    failing = {"now": False}

    def function(x):
        if failing["now"]:
            raise OSError("the simulator is down")
        return squares(x)

    twin, search = made(), made(sphere(function=function))
    for number in range(6):
        if number in (0, 3):
            failing["now"] = True
            with pytest.raises(OSError, match="simulator"):
                search.step()
            failing["now"] = False
        search.step()
        twin.step()
        assert torch.equal(search.status["center"], twin.status["center"])
        assert torch.equal(search.population.values, twin.population.values)


def test_bounds_are_kept_by_reflection_if_that_is_asked_for():
    seen = []

    def function(x):
        seen.append((float(x.min()), float(x.max())))
        return squares(x - 1.5)

    problem = sphere(function=function, bounds=(-1, 1), initial_bounds=(-0.5, 0.5))
    search = made(problem, bounds="reflect", stdev_init=0.3, center_eval=True)
    search.run(80)
    assert min(low for low, _ in seen) >= -1
    assert max(high for _, high in seen) <= 1
    assert float((search.status["center"] - 1).abs().max()) < 0.25
    with pytest.raises(ValueError, match="unbounded"):
        made(sphere(bounds=(-1, 1), initial_bounds=(-0.5, 0.5)))


def test_one_open_side_is_no_wall():
    problem = sphere(function=lambda x: squares(x - 3), bounds=(-1, math.inf))
    search = made(problem, bounds="reflect")
    search.run(150)
    assert float((search.status["center"] - 3).abs().max()) < 0.5


@pytest.mark.parametrize("bounds", [None, "reflect"])
def test_the_shares_of_actors_have_the_rows_of_the_population(bounds):
    """In memory that holds NaN, and with so many numbers that they are folded in parts."""
    dim = 300_000
    problem = sphere(dim=dim, **({} if bounds is None else {"bounds": (-1, 1)}))
    search = made(problem, bounds=bounds, center_eval=True, popsize=10)
    search.step()
    shared = (search.status["center"], search.status["stdev"], *(search._box or ()))
    parts = []
    for first, count in ((0, 2), (2, 3)):
        last = first + count == 5
        share = Sample(search._rows, 0, first, count, 5, last, 0, shared)
        parts.append(share.sample(out=torch.full((2 * count + last, dim), math.nan)))
    whole = search._population.values
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(whole[-1], search.status["center"])
    assert bool((whole.abs() > 1).any()) == (bounds is None)


# ---- repeats, the center, seeds and resuming


def test_repeats_are_averaged():
    torch.manual_seed(1)
    search = made(sphere(function=lambda x: squares(x) + torch.randn(len(x))), repeats=400)
    search.step()
    exact = squares(search.population.values)
    assert float((search.population.evals[:, 0] - exact).std()) < 2 / 400**0.5


def test_the_center_is_one_more_row_of_the_same_evaluation():
    search = made(center_eval=True)
    assert math.isnan(search.status["center_eval"])
    search.run(2)
    assert search.status["center_eval"] == pytest.approx(float(squares(search.status["center"])))
    assert len(search.population) == 20
    assert "center_eval" not in made().status


@pytest.mark.parametrize("options", [
    {}, {"optimizer": "adam"}, {"optimizer": None}, {"center_eval": True, "repeats": 2},
    {"stdev_learning_rate": 0.1}, {"sampler": "hadamard"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_copy_goes_on_with_the_same_bits(options, steps):
    def noisy(x):
        return squares(x)

    torch.manual_seed(1)
    problem = Problem("min", noisy, solution_length=10, initial_bounds=(-1, 1), vectorized=True)
    problem._objective_func = squares  # can be pickled
    search = made(problem, **options)
    search.run(steps)
    twins = [copy.deepcopy(search), pickle.loads(pickle.dumps(search))]
    for twin in (search, *twins):
        torch.manual_seed(9)
        twin.run(4)
        assert torch.equal(twin.status["center"], search.status["center"])
        assert torch.equal(twin.population.values, search.population.values)
        assert twin.step_count == steps + 4


def test_the_seed_of_torch_or_of_the_problem_fixes_a_run():
    ends = []
    for seed in (1, 1, 2):
        search = made(sphere(seed=seed))
        search.run(5)
        ends.append(search.status["center"].clone())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    problems = [Problem("min", squares, solution_length=10, initial_bounds=(-1, 1),
                        vectorized=True, seed=5) for _ in range(2)]  # fmt: skip
    found = []
    for problem in problems:
        search = made(problem)
        torch.manual_seed(len(found))
        search.run(5)
        found.append(search.status["center"].clone())
    assert torch.equal(*found)


def test_both_ends_of_a_pair_play_the_same_episodes():
    """Differences of CartPole's returns, of one policy at both ends: none are left."""
    differences = {}
    for kind in (GymNE, PairedGymNE):
        torch.manual_seed(1)
        problem = kind("CartPole-v1", "Linear(obs_length, act_length)", num_episodes=2)
        batch = problem.generate_batch(40)
        batch.access_values()[1::2] = batch.access_values()[0::2]
        problem.evaluate(batch)
        returns = batch.evals[:, 0]
        differences[kind] = returns[0::2] - returns[1::2]
        assert len(returns[0::2].unique()) > 3  # other pairs, other episodes
    assert differences[GymNE].abs().max() > 0
    assert not differences[PairedGymNE].any()


def test_a_seeded_environment_makes_a_run_repeat():
    ends = []
    for seed in (3, 3, 4):
        torch.manual_seed(1)
        problem = PairedGymNE("CartPole-v1", "Linear(obs_length, act_length)", env_seed=seed,
                              observation_normalization=True)  # fmt: skip
        search = BGS(problem, popsize=10, radius_init=2.25, center_learning_rate=0.2)
        search.run(3)
        twin = pickle.loads(pickle.dumps(search))
        search.run(2)
        twin.run(2)
        assert torch.equal(twin.status["center"], search.status["center"])
        ends.append(search.status["center"].clone())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    with pytest.raises(ValueError, match="env_seed: expected"):
        PairedGymNE("CartPole-v1", "Linear(obs_length, act_length)", env_seed=-1)


class Logged(gymnasium.Wrapper):
    """Keeps the seed of every reset."""

    def __init__(self, seeds):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.seeds = seeds

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        return self.env.reset(seed=seed, options=options)


def test_every_pair_of_an_adaptive_population_has_episodes_of_its_own_however_it_is_shared_out():
    """Three batches of each share, as actors make them."""
    found = []
    for shares in ([(0, 5)], [(0, 2), (2, 3)]):
        seeds = []
        problem = PairedGymNE(functools.partial(Logged, seeds), "Linear(obs_length, act_length)")
        shared = (torch.zeros(problem.solution_length), torch.ones(problem.solution_length))
        for first, count in shares:
            share = Sample(Rows("gaussian", 10, 5, 1), 4, first, count, 5, False, 0, shared)
            problem._sample_and_compute_gradients(
                share, 2 * count, obj_index=0, num_interactions=10**9, popsize_max=6 * count
            )
            assert share.spans == [first, first + 5, first + 10]
        assert seeds[0::2] == seeds[1::2]
        found.append(sorted(seeds[0::2]))
    assert found[0] == found[1]
    assert len(set(found[0])) == 15
