"""bgs, bgs_ask and bgs_tell: batches, vmap, and the mathematics of the searcher."""

import math

import numpy as np
import pytest
import torch
from evotorch.algorithms.functional import pgpe, pgpe_ask, pgpe_tell

from bgs_opt.adapters.evotorch import BGS, BGSState, bgs, bgs_ask, bgs_tell
from bgs_opt.selection import direction_weights

SETTING = {"center_learning_rate": 0.2, "stdev_init": 0.1, "objective_sense": "min"}


def squares(x):
    return (x**2).sum(-1)


def run(state, steps, function=squares, popsize=20):
    for _ in range(steps):
        population = bgs_ask(state, popsize=popsize)
        state = bgs_tell(state, population, function(population))
    return state


def test_the_keywords_are_those_of_pgpe():
    """The example of EvoTorch's page with its names changed, but for the rate of the stdev."""
    torch.manual_seed(1)
    start = torch.rand(5)
    for begin, ask, tell, more in ((pgpe, pgpe_ask, pgpe_tell, {"stdev_learning_rate": 0.1}),
                                   (bgs, bgs_ask, bgs_tell, {})):  # fmt: skip
        state = begin(center_init=start, center_learning_rate=0.1, radius_init=0.5,
                      objective_sense="min", ranking_method="centered", optimizer="clipup",
                      optimizer_config={"max_speed": 0.2}, **more)  # fmt: skip
        population = ask(state, popsize=10)
        assert population.shape == (10, 5)
        state = tell(state, population, squares(population))
        assert state.optimizer_state.center.shape == (5,)
        assert torch.allclose(state.stdev.norm(), torch.tensor(0.5), rtol=0.3)
    assert isinstance(state, BGSState)


@pytest.mark.parametrize("optimizer", ["clipup", "adam", "sgd"])
@pytest.mark.parametrize("sense", ["min", "max"])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_searches_of_any_batch_shape_go_downhill(batch, sense, optimizer):
    torch.manual_seed(1)
    rate = {"clipup": 0.2, "adam": 0.1, "sgd": 0.05}[optimizer]
    state = bgs(center_init=torch.ones(*batch, 6), center_learning_rate=rate, stdev_init=0.1,
                objective_sense=sense, optimizer=optimizer)  # fmt: skip
    sign = 1 if sense == "min" else -1
    state = run(state, 60, lambda x: sign * squares(x))
    assert state.optimizer_state.center.shape == (*batch, 6)
    assert (squares(state.optimizer_state.center) < 1).all()


def test_a_batch_is_as_good_as_its_searches():
    """One tell of a batch is the tells of its items, told the same."""
    torch.manual_seed(1)
    whole = bgs(center_init=torch.randn(4, 7), **SETTING)
    population = bgs_ask(whole, popsize=12)
    evals = torch.randn(4, 12)
    told = bgs_tell(whole, population, evals).optimizer_state.center
    for place in range(4):
        single = bgs(center_init=whole.optimizer_state.center[place], **SETTING)
        alone = bgs_tell(single, population[place], evals[place]).optimizer_state.center
        assert torch.allclose(alone, told[place], atol=1e-6)


def test_a_step_under_vmap_is_that_of_the_batch():
    torch.manual_seed(1)
    whole = bgs(center_init=torch.randn(4, 7), **SETTING)
    population, evals = bgs_ask(whole, popsize=12), torch.randn(4, 12)

    def step(center, rows, values):
        state = bgs(center_init=center, **SETTING)
        return bgs_tell(state, rows, values).optimizer_state.center

    mapped = torch.func.vmap(step)(whole.optimizer_state.center, population, evals)
    told = bgs_tell(whole, population, evals).optimizer_state.center
    assert torch.allclose(mapped, told, atol=1e-6)

    def ask(center):
        return bgs_ask(bgs(center_init=center, **SETTING), popsize=12)

    asked = torch.func.vmap(ask, randomness="different")(whole.optimizer_state.center)
    assert asked.shape == (4, 12, 7)
    middle = whole.optimizer_state.center[:, None].expand(4, 6, 7)
    assert torch.allclose(asked[:, 0::2] + asked[:, 1::2], 2 * middle, atol=1e-5)
    assert not torch.allclose(asked[0] - asked[0].mean(0), asked[1] - asked[1].mean(0))


def test_a_step_is_the_formula():
    torch.manual_seed(1)
    state = bgs(center_init=torch.randn(5), center_learning_rate=0.5, stdev_init=0.1,
                objective_sense="max", optimizer="sgd", top_k=3)  # fmt: skip
    rows = bgs_ask(state, popsize=16)
    evals = torch.randn(16)
    told = bgs_tell(state, rows, evals).optimizer_state.center
    plus, minus = evals.double().numpy()[0::2], evals.double().numpy()[1::2]
    weights = direction_weights(plus, minus, top_k=3)
    e = (rows.double().numpy()[0::2] - rows.double().numpy()[1::2]) / 2 / 0.1
    due = state.optimizer_state.center.double().numpy() + 0.5 * weights @ e
    assert np.allclose(told.numpy(), due, atol=1e-5)


def test_it_descends_like_the_searcher():
    """The same start, function and setting: the ends agree within the noise of the seeds."""
    from evotorch import Problem

    ends = {"trio": [], "searcher": []}
    for seed in range(8):
        torch.manual_seed(seed)
        state = run(bgs(center_init=torch.ones(30), **SETTING), 30)
        ends["trio"].append(float(squares(state.optimizer_state.center)))
        problem = Problem("min", squares, solution_length=30, initial_bounds=(-1, 1),
                          vectorized=True)  # fmt: skip
        search = BGS(problem, popsize=20, center_learning_rate=0.2, stdev_init=0.1,
                     center_init=torch.ones(30), sampler="gaussian")  # fmt: skip
        search.run(31)
        ends["searcher"].append(float(squares(search.status["center"])))
    a, b = np.array(ends["trio"]), np.array(ends["searcher"])
    assert abs(a.mean() - b.mean()) < 4 * math.hypot(a.std(), b.std()) / 8**0.5


@pytest.mark.parametrize("optimizer", ["clipup", "adam", "sgd"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 2.0])
def test_a_search_without_differences_stays_and_the_others_go_on(value, optimizer):
    torch.manual_seed(1)
    state = bgs(center_init=torch.ones(2, 4), center_learning_rate=0.1, stdev_init=0.1,
                objective_sense="min", optimizer=optimizer)  # fmt: skip
    for _ in range(3):
        rows = bgs_ask(state, popsize=10)
        evals = squares(rows)
        evals[0] = value
        state = bgs_tell(state, rows, evals)
    center = state.optimizer_state.center
    assert torch.equal(center[0], torch.ones(4))
    assert float(squares(center[1])) < 4
    rows = bgs_ask(state, popsize=10)  # and it can go on
    center = bgs_tell(state, rows, squares(rows)).optimizer_state.center
    assert torch.isfinite(center).all()
    assert not torch.equal(center[0], torch.ones(4))


def test_a_bad_fitness_counts_as_the_worst():
    torch.manual_seed(1)
    state = bgs(center_init=torch.ones(4), **SETTING)
    rows = bgs_ask(state, popsize=10)
    evals = squares(rows)
    worst = int(evals.argmax())
    due = bgs_tell(state, rows, evals).optimizer_state.center
    evals = evals.clone()
    evals[worst] = math.nan
    got = bgs_tell(state, rows, evals).optimizer_state.center
    assert torch.isfinite(got).all()
    assert torch.dot(due - 1, got - 1) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_nothing_is_changed_in_place(dtype):
    state = bgs(center_init=torch.ones(4, dtype=dtype), **SETTING)
    rows = bgs_ask(state, popsize=10)
    kept = [part.clone() for part in (state.optimizer_state.center, state.stdev, rows)]
    after = bgs_tell(state, rows, squares(rows))
    assert after.optimizer_state.center.dtype == rows.dtype == dtype
    for part, before in zip((state.optimizer_state.center, state.stdev, rows), kept, strict=True):
        assert torch.equal(part, before)


@pytest.mark.parametrize(("options", "words"), [
    ({"center_init": torch.tensor(1.0)}, "center_init: expected shape"),
    ({"center_init": torch.ones(0)}, "center_init: expected shape"),
    ({"objective_sense": "maximum"}, "objective_sense: expected"),
    ({"stdev_init": None}, "exactly one of stdev_init"),
    ({"radius_init": 1.0}, "exactly one of stdev_init"),
    ({"top_k": 0}, "top_k: expected"), ({"selection": "x"}, "selection: expected"),
], ids=str)  # fmt: skip
def test_a_wrong_option_is_named(options, words):
    with pytest.raises(ValueError, match=words):
        bgs(**{"center_init": torch.ones(4), **SETTING, **options})


@pytest.mark.parametrize("popsize", [0, 1, 7])
def test_an_odd_population_is_refused(popsize):
    with pytest.raises(ValueError, match="popsize: expected an even number"):
        bgs_ask(bgs(center_init=torch.ones(4), **SETTING), popsize=popsize)
