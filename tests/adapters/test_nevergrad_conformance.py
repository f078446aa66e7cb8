"""Nevergrad's own checks, from the installed package, for every name that we register.

`TABLE` names each test function of its optimization test modules and says how it is run here,
or why it is not. A function is called directly: where it takes the name of an optimizer it gets
ours; where it names an optimizer itself ours stands in that one's place in the registry and in
`ng.optimizers` (`instead_of`). It leaves names out by hash, by chance and by length; here none is
(see `Name`, `unskipped`), and a run that never makes our optimizer, or skips itself, has failed.

One import is stubbed: `nevergrad.benchmark.experiments` needs cv2, torchvision and others, and
test_recaster takes a single small class from it (`Constraint` below does the same). So is the
`torch` of `nevergrad.benchmark.xpbase`, which seeds it and has it only where gym is installed.
"""

# ruff: noqa: NPY002  (Nevergrad draws from the legacy generator)

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import itertools
import random
import sys
import types
import unittest
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nevergrad as ng
import numpy as np
import pytest

from bgs_opt.adapters.nevergrad import REGISTERED, ParametrizedBGS

WARNINGS = "ignore::nevergrad.common.errors."
pytestmark = [
    pytest.mark.filterwarnings(WARNINGS + "InefficientSettingsWarning"),  # workers, no executor
    pytest.mark.filterwarnings(WARNINGS + "BadLossWarning"),
    pytest.mark.filterwarnings(WARNINGS + "LossTooLargeWarning"),
    pytest.mark.filterwarnings(WARNINGS + "FailedConstraintWarning"),
    pytest.mark.filterwarnings(
        "ignore:Bounds are .* sigma away:nevergrad.common.errors.NevergradRuntimeWarning"
    ),
]


@dataclass(frozen=True)
class Run:
    """How a test function of Nevergrad is run.

    instead_of : optimizers named there, in whose place ours is.
    makers : functions named there that return optimizers; they return ours.
    args : values of arguments; those not named come from its own parametrize marks.
    patches : attributes of its module, made from our family.
    ends : the failure of its last line, where that line is not meant for ours.
    ours : whether it makes an optimizer at all.
    """

    instead_of: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    args: dict[str, Any] = field(default_factory=dict)
    patches: dict[str, Callable[[ParametrizedBGS], Any]] = field(default_factory=dict)
    ends: str | None = None
    ours: bool = True


NAMED = Run()  # it takes the name of an optimizer, or is told which by its marks
DE = "differential evolution only"
RECAST = "classes that turn an optimizer with a loop of its own into ask and tell"
HELPER = "a helper; no optimizer"
RECORDED = "compares with recorded numbers of one optimizer"

TABLE: dict[str, dict[str, Run | str]] = {
    "test_base": {
        "test_batch_and_steady_optimization": "the loop of minimize, with an optimizer that logs",
        "test_tell_types": Run(
            patches={"LoggingOptimizer": lambda ours: lambda num_workers: ours(1, 5, num_workers)}
        ),
        "test_base_optimizer": "an optimizer that asks for zeros only; see the test of `suggest` "
        "and of recommendations in test_nevergrad.py",
        "test_optimize_and_dump": Run(instead_of=("OnePlusOne",)),
        "test_compare": "it makes up losses for the better half of each batch that only a "
        "comparison of single points can follow (CMA and PSO do not pass either); the other half, "
        "of which an antithetic search needs the values, is never told",
        "test_naming": "the repr of RandomSearchMaker; test_nevergrad.py has that of ours",
        "test_recommendation_correct": Run(instead_of=("OnePlusOne",)),
        "test_pruning_calls": Run(instead_of=("CMA",)),
    },
    "test_callbacks": {
        # it counts the options of NoisyOnePlusOne: see `with_options_of`
        "test_log_parameters": Run(instead_of=("NoisyOnePlusOne",)),
        "test_multiobjective_log_parameters": Run(instead_of=("OnePlusOne",)),
        "test_chaining_log_parameters": Run(instead_of=("CauchyLHSSearch", "DE", "CMA")),
        "test_dump_callback": Run(instead_of=("OnePlusOne",)),
        "test_progressbar_dump": Run(instead_of=("OnePlusOne",)),
        "test_early_stopping": Run(instead_of=("OnePlusOne",)),
        "test_duration_criterion": Run(instead_of=("OnePlusOne",)),
        "test_optimization_logger": Run(instead_of=("OnePlusOne",)),
        "test_optimization_logger_MOO": Run(instead_of=("OnePlusOne",)),
    },
    "test_doc": {
        "test_simplest_example": Run(instead_of=("NGOpt",)),
        "test_base_example": Run(instead_of=("NGOpt", "DiscreteOnePlusOne")),
        "test_print_all_optimizers": Run(ours=False),
        "test_parametrization": Run(instead_of=("NGOpt",)),
        "test_doc_constrained_optimization": Run(instead_of=("NGOpt",)),
        "test_callback_doc": Run(instead_of=("NGOpt",)),
        "test_inoculation": Run(instead_of=("NGOpt",)),
    },
    "test_externalbo": {
        "test_hyperopt": "the trials that HyperOpt keeps",
        "test_hyperopt_helpers": HELPER,
    },
    "test_mutations": {
        "test_significantly_mutate": HELPER,
        "test_discrete_mutation": HELPER,
        "test_crossover": HELPER,
        "test_run_with_array": HELPER,
        "test_get_roulette": HELPER,
        "test_de_crossover": DE,
    },
    "test_optimizerlib": {
        "check_optimizer": "run by its test_optimizers",
        "test_ngopt": Run(
            instead_of=("NGOpt",),
            patches={"np": lambda ours: Wrapped(np, random=Wrapped(np.random, rand=lambda: 1.0))},
        ),
        "test_infnan": NAMED,
        "test_optimizers": NAMED,
        "test_optimizers_minimal": NAMED,
        "test_optimizers_recommendation": "run twice by "
        "test_a_repeated_seed_gives_the_recommendation_that_nevergrad_recorded",
        "test_differential_evolution_popsize": DE,
        "test_portfolio_budget": "how Portfolio shares its budget",
        "test_optimizer_families_repr": "the reprs of its families; test_nevergrad.py has ours",
        "test_tell_not_asked": "looks at the population of PSO and DE; the rest of it is "
        "test_points_that_were_not_asked_are_used_without_a_population",
        "test_tbpsa_recom_with_update": RECORDED,
        "test_optimization_doc_parametrization_example": Run(instead_of=("OnePlusOne",)),
        "test_optimization_discrete_with_one_sample": Run(
            instead_of=("PortfolioDiscreteOnePlusOne",)
        ),
        "test_optim_pickle": NAMED,
        "test_bo_init": "the Gaussian process of BO; it swallows every error",
        "test_chaining": Run(instead_of=("LHSSearch", "HaltonSearch", "OnePlusOne")),
        "test_parametrization_optimizer_reproducibility": "a recorded number of RandomSearch; "
        "the rest of it is test_a_seeded_parametrization_is_sampled_and_resampled_alike",
        "test_parallel_es": Run(makers=("EvolutionStrategy",)),
        "test_metamodel": "whether MetaModel beats CMA",
        "check_metamodel": "whether MetaModel beats CMA",
        "test_constrained_optimization": "recorded numbers of OnePlusOne; its three constraints "
        "are in test_the_optimum_at_the_edge_of_a_constraint_is_found",
        "test_parametrization_offset": NAMED,
        "test_optimizer_sequence": "how far LHSSearch spreads",
        "test_shiwa_dim1": Run(instead_of=("Shiwa",)),
        "test_ngopt_selection": "which optimizer NGOpt chooses",
        "test_bo_ordering": Run(makers=("ParametrizedBO",)),
        "test_ngo_split_optimizer": Run(
            args={
                "name": None,
                "dimension": 3,
                "num_workers": 2,
                "fake_learning": False,
                "budget": 100,
                "expected": None,
            }
        ),
        # the smallest budget alone: its kind of parametrization takes 3 ms a candidate
        "test_ngopt_on_simple_realistic_scenario": Run(
            instead_of=("NGOpt",), args={"budget": 150, "with_int": True}
        ),
        "test_mo_constrained": NAMED,
        "test_mo_with_nan": NAMED,
        "test_uniform_sampling": "whether one-shot searches start uniformly in wide bounds; ours "
        "starts at the center",
        "test_paraportfolio_de": Run(instead_of=("ParaPortfolio",)),
        "test_cma_logs": Run(instead_of=("CMA",)),
        "test_pymoo_pf": "of NSGA-II, which spreads over a front; BGS goes to one point",
        "test_pymoo_batched": "the batch that PymooBatchNSGA2 keeps",
        "test_smoother": HELPER,
        "test_voronoide": "whether VoronoiDE beats others",
        "test_weighted_moo_de": DE,
    },
    "test_recaster": {
        "what_is_going_wrong_with_this_test_test_automatic_thread_deletion": RECAST,
        "test_recast_optimizer": RECAST,
        "test_recast_optimizer_with_error": RECAST,
        "test_recast_optimizer_and_stop": RECAST,
        "test_provide_recommendation": Run(instead_of=("SQP",)),
        "test_sqp_with_constraint": Run(instead_of=("ChainMetaModelSQP",)),
        "test_recast_optimizer_error": RECAST,
        # at its end PymooNSGA2 refuses to be pickled, which ours never does
        "test_recast_pickle": Run(instead_of=("PymooNSGA2",), ends="DID NOT RAISE"),
    },
    "test_sa": {"test_sa": "empty"},
    "test_sequences": {
        "test_get_first_primes": HELPER,
        "test_samplers": HELPER,
        "test_sampler_draw": HELPER,
        "test_sampler_values": HELPER,
        "test_permutation_generator": HELPER,
        "test_rescaler_on_hammersley": HELPER,
    },
    "test_special": {
        "test_performance_ngopt": "whether NGOpt beats CMA; for hours",
        "test_metamodel_special": "whether MetaModel beats CMA; for hours",
    },
    "test_suggest": {
        "test_suggest_optimizers": NAMED,
        "test_harder_suggest_optimizers": "only for discrete optimizers: one of 100 values is "
        "wrong, and the loss says how many are only within 3 of them",
        "test_harder_continuous_suggest_optimizers": Run(instead_of=("NGOpt",)),
        "test_optimizers_suggest": NAMED,
    },
    "test_tabu": {
        "no_test_tabu": "disabled by its name; our tabu list is in test_a_tabu_list_is_obeyed",
        "no_test_tabu_sum": "disabled by its name",
    },
    "test_utils": {
        "test_value_and_point": HELPER,
        "test_sequential_executor": HELPER,
        "test_get_nash": HELPER,
        "test_archive": HELPER,
        "test_archive_errors": HELPER,
        "test_pruning": HELPER,
        "test_pruning_sensible_default": HELPER,
        "test_uid_queue": HELPER,
    },
    "multiobjective.test_core": {
        "test_hypervolume_pareto_function": HELPER,
        "test_hypervolume_pareto_with_no_good_point": HELPER,
        "test_num_losses_error": Run(instead_of=("CMA",)),
        "test_optimizers_multiobjective": NAMED,
        "test_doc_multiobjective": Run(instead_of=("CMA",)),
    },
    "multiobjective.test_hypervolume": {
        "test_initialize_empty_node": HELPER,
        "test_initialize_node": HELPER,
        "test_initialize_linked_list": HELPER,
        "test_append": HELPER,
        "test_extend": HELPER,
        "test_chain_length": HELPER,
        "test_pop": HELPER,
        "test_reinsert": HELPER,
        "test_iterate": HELPER,
        "test_reverse_iterate": HELPER,
        "test_update_coordinate_bounds": HELPER,
        "test_sort_by_index": HELPER,
        "test_create_sorted": HELPER,
        "test_version_consistency": HELPER,
        "test_reference_no_pointy": HELPER,
    },
    "multiobjective.test_nsga2": {
        "test_crowding_distance": HELPER,
        "test_nsga2_ranking_4": HELPER,
    },
}

FOLDER = Path(ng.optimizers.__file__).parent


def functions_of(path: Path) -> set[str]:
    """Names of the functions of a module, but for what serves its tests."""
    kept = ("test_", "check_", "no_test_", "what_")
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {d.name for d in body if isinstance(d, ast.FunctionDef) and d.name.startswith(kept)}


def test_the_table_names_every_test_function_of_the_installed_modules():
    found = {}
    for path in FOLDER.rglob("test_*.py"):
        name = ".".join(path.relative_to(FOLDER).with_suffix("").parts)
        found[name] = functions_of(path)
    assert found == {module: set(tests) for module, tests in TABLE.items()}


class Wrapped:
    """A module, some of whose names are others."""

    def __init__(self, module: Any, **others: Any) -> None:
        self.__dict__.update(_module=module, **others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class Name(str):
    """A name that no test leaves out for what its characters sum up to, or for its length."""

    def __iter__(self):
        return iter("\x00\x08")  # 7 + 1 * 8 is a multiple of 5, and 0 + 8 is one of 4

    def __len__(self):
        return min(super().__len__(), 8)

    @staticmethod
    def code(character):
        """`ord`, but for names that are no `Name`."""
        return ord(character) if character in "\x00\x08" else 0


class Constraint:
    """`nevergrad.benchmark.experiments._Constraint("sum", as_bool=True)`."""

    def __init__(self, name: str, as_bool: bool) -> None:
        assert (name, as_bool) == ("sum", True)

    def __call__(self, data: np.ndarray) -> bool:
        return bool(np.sum(data) > 0)


@pytest.fixture(autouse=True)
def _seeded(monkeypatch):
    """The same numbers each time, and an import that needs cv2 and torchvision stubbed."""
    stub = types.ModuleType("nevergrad.benchmark.experiments")
    stub.registry, stub._Constraint = {}, Constraint
    monkeypatch.setitem(sys.modules, "nevergrad.benchmark.experiments", stub)
    xpbase = importlib.import_module("nevergrad.benchmark.xpbase")
    seeding = types.SimpleNamespace(manual_seed=lambda seed: None)
    monkeypatch.setattr(xpbase, "torch", seeding, raising=False)  # known only where gym is
    state = np.random.get_state()
    importlib.import_module("nevergrad.optimization.test_optimizerlib")  # it seeds numpy
    np.random.seed(1)
    random.seed(1)
    yield
    np.random.set_state(state)


@contextlib.contextmanager
def unskipped():
    """A test that skips itself has failed."""
    try:
        yield
    except (unittest.SkipTest, pytest.skip.Exception) as skip:
        pytest.fail(f"it left our optimizer out: {skip}")


def take_the_place(monkeypatch, family, others, makers=()):
    for other in others:
        known = [other in ng.optimizers.registry, hasattr(ng.optimizers, other)]
        assert any(known), other
        monkeypatch.setitem(ng.optimizers.registry, other, family)
        monkeypatch.setattr(ng.optimizers, other, family, raising=False)
    for maker in makers:
        monkeypatch.setattr(ng.optimizers, maker, lambda *args, **options: family)


def cases_of(function: Any, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Arguments from the parametrize marks, but for those that are given."""
    marks = [m for m in getattr(function, "pytestmark", []) if m.name == "parametrize"]
    axes = []
    for mark in marks:
        names, values = mark.args[:2]
        names = names.replace(" ", "").split(",") if isinstance(names, str) else list(names)
        if set(names) <= set(given):
            continue
        rows = [value if len(names) > 1 else (value,) for value in values]
        axes.append([dict(zip(names, row, strict=True)) for row in rows])
    cases = [
        dict(itertools.chain(*(c.items() for c in case))) for case in itertools.product(*axes)
    ]
    return [{**case, **given} for case in cases]


def made_counter(monkeypatch) -> list[ParametrizedBGS]:
    """A list that grows with each optimizer of our families."""
    made: list[ParametrizedBGS] = []
    make = ParametrizedBGS.__call__

    def counted(family, *args, **options):
        made.append(family)
        return make(family, *args, **options)

    monkeypatch.setattr(ParametrizedBGS, "__call__", counted)
    return made


def with_options_of(other, monkeypatch):
    """Let our families show as many options as another one has; one more for its sigma."""
    config = ParametrizedBGS.config

    def shown(family):
        own = config(family)
        return own | {f"more{i}": None for i in range(len(other.config()) + 1 - len(own))}

    monkeypatch.setattr(ParametrizedBGS, "config", shown)


RUNS = [
    pytest.param(module, test, how, id=f"{module}.{test}")
    for module, tests in TABLE.items()
    for test, how in tests.items()
    if isinstance(how, Run)
]


@pytest.mark.parametrize("name", REGISTERED)
@pytest.mark.parametrize(("module", "test", "how"), RUNS)
def test_nevergrads_check(module, test, how, name, request, monkeypatch):
    family = REGISTERED[name]
    where = importlib.import_module(f"nevergrad.optimization.{module}")
    function = getattr(where, test)
    monkeypatch.setattr(where, "CI", False, raising=False)  # there it skips more
    monkeypatch.setattr(where, "long_name", lambda name: False, raising=False)
    monkeypatch.setattr(where, "ord", Name.code, raising=False)
    monkeypatch.setattr(ng.optimizers, name, family, raising=False)
    if test == "test_log_parameters":
        with_options_of(ng.optimizers.NoisyOnePlusOne, monkeypatch)
    take_the_place(monkeypatch, family, how.instead_of, how.makers)
    for attribute, make in how.patches.items():
        monkeypatch.setattr(where, attribute, make(family))
    wanted = list(inspect.signature(function).parameters)
    given = dict(how.args)
    if "name" in wanted:
        given["name"] = Name(name)
    if test == "test_ngo_split_optimizer":
        given["expected"] = [name, name]
    cases = cases_of(function, given)
    fixtures = [w for w in wanted if w not in cases[0]]
    given |= {fixture: request.getfixturevalue(fixture) for fixture in fixtures}
    made = made_counter(monkeypatch)
    for case in cases:
        with unskipped(), contextlib.ExitStack() as stack:
            if how.ends is not None:
                stack.enter_context(pytest.raises(pytest.fail.Exception, match=how.ends))
            function(**case, **{f: given[f] for f in fixtures})
    assert bool(made) == how.ours
    if how.ours:
        assert len(made) >= len(cases)
        assert family in made


@pytest.mark.parametrize("name", REGISTERED)
def test_a_repeated_seed_gives_the_recommendation_that_nevergrad_recorded(
    name, tmp_path, monkeypatch
):
    """Its test records what a new name recommends, fails once, and then compares.

    It seeds numpy with nothing, so that only the random state of the parametrization counts, and
    wants `optimizer.name` to be the name in the registry.
    """
    where = importlib.import_module("nevergrad.optimization.test_optimizerlib")
    monkeypatch.setattr(where, "CI", False)
    keeper = where.RecommendationKeeper(tmp_path / "recommendations.csv")
    with unskipped(), pytest.raises(ValueError, match="Recorded the value"):
        where.test_optimizers_recommendation(name, keeper)
    made = made_counter(monkeypatch)
    with unskipped():
        where.test_optimizers_recommendation(name, keeper)
    assert made == [REGISTERED[name]]


# What the table says of checks that compare with recorded numbers or look into one optimizer:
# the rest of them.


@pytest.mark.parametrize("name", REGISTERED)
def test_points_that_were_not_asked_are_used_without_a_population(name):
    optimizer = REGISTERED[name](ng.p.Scalar(), 2, 2)
    ten = optimizer.parametrization.spawn_child(new_value=10)
    hundred = optimizer.parametrization.spawn_child(new_value=100)
    optimizer.tell(ten, 90)
    optimizer.tell(optimizer.ask(), 88)
    optimizer.tell(hundred, 0)
    optimizer.tell(optimizer.ask(), 89)
    assert (optimizer.num_tell, optimizer.num_ask, optimizer.num_tell_not_asked) == (4, 2, 2)
    assert int(optimizer.recommend().value) == 100
    assert all(value.count == 1 for _, value in optimizer.archive.items_as_arrays())


@pytest.mark.parametrize("name", REGISTERED)
def test_a_seeded_parametrization_is_sampled_and_resampled_alike(name):
    def square(x, y):
        return float(((x - 0.5) ** 2).sum()) + abs(y)

    values = []
    for _ in range(2):
        parametrization = ng.p.Instrumentation(
            ng.p.Array(shape=(1,)), y=ng.p.Choice(list(range(9)))
        )
        parametrization.random_state.seed(12)
        optimizer = REGISTERED[name](parametrization, budget=20)
        found = optimizer.minimize(square)
        assert found.loss == square(*found.args, **found.kwargs)  # of the sample that was told
        values.append((found.args[0].tolist(), found.kwargs["y"]))
    assert values[0] == values[1]


def at_least_one(value):
    return value[1]["x"][0] >= 1


def one_or_penalty(value):
    return -float(abs(value[1]["x"][0] - 1))


def at_least_one_as_layer(value):
    return float(value[1]["x"][0] < 1)


def sum_of_both(x, y):
    return float(((x - 0.5) ** 2).sum()) + abs(y)


def constrained(name, constraint, budget, **options):
    parametrization = ng.p.Instrumentation(x=ng.p.Array(shape=(1,)), y=ng.p.Scalar())
    optimizer = REGISTERED[name](parametrization, budget=budget)
    optimizer.parametrization.random_state.seed(12)
    optimizer.parametrization.register_cheap_constraint(constraint, **options)
    return optimizer


@pytest.mark.parametrize("name", REGISTERED)
def test_the_optimum_at_the_edge_of_a_constraint_is_found(name):
    found = constrained(name, at_least_one, 300).minimize(sum_of_both).kwargs
    assert 1 <= found["x"][0] < 1.2
    assert abs(found["y"]) < 0.2


@pytest.mark.parametrize(
    "name", [n if n == "BGS" else pytest.param(n, marks=pytest.mark.slow) for n in REGISTERED]
)
def test_a_constraint_that_is_a_layer_is_kept(name):
    found = constrained(name, at_least_one_as_layer, 2, as_layer=True).minimize(sum_of_both)
    assert found.kwargs["x"][0] >= 1


@pytest.mark.parametrize("name", REGISTERED)
def test_a_constraint_that_hardly_any_point_meets_leaves_the_search_alive(name):
    """Each ask gives up after five trials; OnePlusOne is recorded to end at (0, 0), its start."""
    optimizer = constrained(name, one_or_penalty, 40)
    optimizer._constraints_manager.update(max_trials=10, penalty_factor=10)
    found = optimizer.minimize(sum_of_both)
    assert optimizer.num_tell == 40
    assert np.isfinite(found.kwargs["y"])


@pytest.mark.parametrize(
    ("name", "least"), [("BGS", 50), pytest.param("BGSWide", 35, marks=pytest.mark.slow)]
)
def test_a_tabu_list_is_obeyed(name, least):
    """After 30 values in vain Nevergrad asks for a known one: rare, but for wide steps."""
    domain = ng.p.TransitionChoice(range(7), repetitions=4)
    domain.specify_tabu_length(1000)
    optimizer = REGISTERED[name](domain, budget=60)
    optimizer.parametrization.random_state.seed(3)
    asked = []
    optimizer.register_callback("tell", lambda o, candidate, loss: asked.append(candidate.value))
    optimizer.minimize(lambda x: float(sum(abs(v - 5) for v in x)))
    assert len(asked) == 60
    assert len(set(asked)) > least


# Nevergrad's benchmark: those of its checks that run an optimizer named in the registry.

EXPERIMENTS = ["test_run_with_error", "test_multiobjective_experiment"]


@pytest.mark.parametrize("name", REGISTERED)
@pytest.mark.parametrize("test", EXPERIMENTS)
def test_nevergrads_experiments(test, name, monkeypatch):
    where = importlib.import_module("nevergrad.benchmark.test_xpbase")
    take_the_place(monkeypatch, REGISTERED[name], ["OnePlusOne", "TwoPointsDE"])
    made = made_counter(monkeypatch)
    with unskipped():
        getattr(where, test)()
    assert made


@pytest.mark.parametrize("batch_mode", [False, True])
@pytest.mark.parametrize("name", REGISTERED)
def test_an_experiment_with_a_seed_gives_the_same_loss_again(name, batch_mode):
    from nevergrad.benchmark.xpbase import Experiment
    from nevergrad.functions import ArtificialFunction

    losses = []
    for seed in (12, 12, 13):
        np.random.seed(seed)
        function = ArtificialFunction(name="sphere", block_dimension=2)
        run = Experiment(
            function, optimizer=name, budget=24, num_workers=2, batch_mode=batch_mode, seed=seed
        )
        summary = run.run()
        assert summary["elapsed_budget"] == 24
        losses.append(summary["loss"])
    assert losses[0] == losses[1] != losses[2]
