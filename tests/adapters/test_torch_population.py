"""Whole populations through a network: the outputs of the loop that fills parameters."""

import numpy as np
import pytest
import torch
from torch.nn.utils.parametrizations import weight_norm

from bgs_opt import BGS, Options
from bgs_opt.adapters.torch import FlatParameters
from bgs_opt.adapters.torch_population import Population, evaluate_population

NETWORKS = {
    "mlp": lambda: torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1), torch.nn.SiLU(),
        torch.nn.Linear(1, 3, bias=False)),
    "norms": lambda: torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3)),
    "weight norm": lambda: torch.nn.Sequential(
        weight_norm(torch.nn.Linear(5, 8)), torch.nn.ReLU(), torch.nn.Linear(8, 3)),
    "convolution": lambda: torch.nn.Sequential(
        torch.nn.Unflatten(-1, (1, 5)), torch.nn.Conv1d(1, 2, 3), torch.nn.Flatten(-2),
        torch.nn.Linear(6, 3)),
}  # fmt: skip


def network(name="mlp", dtype=torch.float32):
    torch.manual_seed(0)
    return NETWORKS[name]().to(dtype)


def looped(net, rows, inputs, *, shared=False):
    """Each member by itself, its parameters filled in."""
    flat = FlatParameters(net)
    before, out = flat.vector.clone(), []
    with torch.no_grad():
        for number, row in enumerate(rows):
            flat.set(torch.as_tensor(np.array(row)))
            x = inputs if shared else inputs[number]
            out.append(net(x[None])[0] if x.ndim == 1 else net(x))
    flat.set(before)
    return torch.stack(out)


def asked(net, sampler="factorised", **options):
    flat = FlatParameters(net)
    opt = BGS(flat.to_numpy(), 0.3, layout=flat.layout, sampler=sampler, num_directions=6, seed=1,
              **options)  # fmt: skip
    return flat, opt.ask()


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap of _weight_norm
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sampler", ["orthogonal", "factorised"])
@pytest.mark.parametrize("batch", [(), (4,)])
@pytest.mark.parametrize("shared", [False, True])
def test_outputs_are_those_of_the_loop(name, sampler, batch, shared):
    net = network(name)
    flat, candidates = asked(net, sampler)
    inputs = torch.randn(*(batch if shared else (len(candidates), *batch)), 5)
    got = Population(flat, candidates)(inputs, shared=shared)
    due = looped(net, candidates, inputs, shared=shared)
    assert torch.allclose(got, due, atol=1e-4)
    assert torch.allclose(
        evaluate_population(net, candidates, inputs, shared=shared), due, atol=1e-4
    )


@pytest.mark.parametrize("options", [
    {}, {"options": Options(acceptance=0.5)}, {"options": Options(repeats=2)},
    {"options": Options(scale=np.repeat([0.5, 1.0, 2.0, 1.0, 3.0], [40, 8, 8, 1, 3]))},
], ids=["pairs", "center", "repeats", "scale"])  # fmt: skip
def test_one_shared_forward_with_corrections_is_the_loop(options):
    net = network(dtype=torch.float64)
    flat, candidates = asked(net, **options)
    candidates = candidates[np.random.default_rng(0).permutation(len(candidates))]
    population = Population(flat, candidates, factorised=True)
    for shape, shared in (((len(candidates), 5), False), ((len(candidates), 3, 5), False),
                          ((7, 5), True)):  # fmt: skip
        inputs = torch.randn(*shape, dtype=torch.float64)
        due = looped(net, candidates, inputs, shared=shared)
        assert torch.allclose(population(inputs, shared=shared), due, atol=1e-12)
    assert population._kept is None  # no member was ever made


def test_layers_in_a_row_may_be_nested_used_twice_watched_and_partly_fixed():
    """Each is run as the loop runs it; only those without hooks are run without module calls."""
    torch.manual_seed(0)
    twice, act = torch.nn.Linear(5, 5), torch.nn.Tanh()
    inner = torch.nn.Sequential(twice, act, torch.nn.Linear(5, 5, bias=False))
    net = torch.nn.Sequential(inner, act, twice, torch.nn.Identity(), torch.nn.Linear(5, 2))
    seen = []
    for watched in (False, True):
        if watched:
            net[3].register_forward_hook(lambda *given: seen.append(1))
        for options in ({}, {"exclude": "4"}):
            flat = FlatParameters(net, **options)
            opt = BGS(flat.to_numpy(), 0.1, layout=flat.layout, sampler="factorised",
                      num_directions=4, seed=0)  # fmt: skip
            candidates = opt.ask()
            population = Population(flat, candidates, factorised=True)
            assert (population._chain is None) == watched
            inputs = torch.randn(len(candidates), 5)
            due = Population(flat, candidates, factorised=False)(inputs)
            seen.clear()
            assert torch.allclose(population(inputs), due, atol=1e-5)
            assert len(seen) == watched
            assert not any(torch._C._functorch.is_batchedtensor(p) for p in net.parameters())


def test_a_subset_of_the_parameters_is_enough():
    net = network(dtype=torch.float64)
    flat = FlatParameters(net, include="0")
    opt = BGS(
        flat.to_numpy(), 0.3, layout=flat.layout, sampler="factorised", num_directions=6, seed=1
    )
    candidates = opt.ask()
    inputs = torch.randn(12, 5, dtype=torch.float64)
    due = []
    for row, x in zip(candidates, inputs, strict=True):
        full = {n: p.detach() for n, p in net.named_parameters()}
        full |= flat.named(torch.tensor(row))
        due.append(torch.func.functional_call(net, full, (x,)))
    for factorised in (True, False):
        got = Population(flat, candidates, factorised=factorised)(inputs)
        assert torch.allclose(got, torch.stack(due), atol=1e-12)


def test_a_module_whose_members_see_one_another_is_run_one_by_one():
    class Mixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(5, 3)

        def forward(self, x):
            return self.layer(x) - x.mean()

    net = Mixed()
    flat, candidates = asked(net)
    inputs = torch.randn(len(candidates), 5)
    due = torch.stack([out[0] for out in (
        torch.func.functional_call(net, flat.named(torch.tensor(row)), (x[None],))
        for row, x in zip(candidates, inputs, strict=True))]).detach()  # fmt: skip
    assert torch.allclose(Population(flat, candidates)(inputs), due, atol=1e-5)


@pytest.mark.parametrize("most", [1, 60, 130, 10**6])
def test_memory_may_be_bounded(most):
    net = network()
    flat, candidates = asked(net, "gaussian")
    inputs = torch.randn(len(candidates), 5)
    whole = Population(flat, candidates)(inputs)
    parts = Population(flat, candidates, max_numbers=most)
    assert torch.allclose(parts(inputs), whole, atol=1e-6)
    assert (parts._kept is None) == (most < len(flat) * len(candidates))


def test_the_module_is_left_as_it_was():
    net = network()
    flat, candidates = asked(net)
    before = flat.vector.clone()
    Population(flat, candidates)(torch.randn(len(candidates), 5))
    assert torch.equal(flat.vector, before)
    assert not net[0]._forward_hooks


@pytest.mark.parametrize(("candidates", "inputs", "words"), [
    (torch.zeros(3, 59), torch.zeros(3, 5), r"candidates: expected shape \(n, 60\)"),
    (torch.zeros(60), torch.zeros(3, 5), r"candidates: expected shape \(n, 60\)"),
    (torch.zeros(0, 60), torch.zeros(0, 5), r"candidates: expected shape \(n, 60\), n >= 1"),
    (torch.zeros(3, 60), torch.zeros(4, 5), r"inputs: expected shape \(3, \.\.\.\)"),
], ids=str)  # fmt: skip
def test_shapes_that_do_not_fit_are_named(candidates, inputs, words):
    with pytest.raises(ValueError, match=words):
        evaluate_population(network(), candidates, inputs)


@pytest.mark.parametrize("sampler", ["orthogonal", "gaussian"])
def test_other_candidates_have_no_shared_forward(sampler):
    flat, candidates = asked(network(), sampler)
    with pytest.raises(ValueError, match="factorised: expected candidates"):
        Population(flat, candidates, factorised=True)
