"""Parameters of modules as one vector: nothing is copied, lost, or left behind."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn.utils.parametrizations import weight_norm

from bgs_opt import BGS
from bgs_opt.adapters.torch import FlatParameters, ParamLayout


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Tanh(), torch.nn.Linear(4, 2)
    )


def concatenated(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def test_the_vector_is_the_parameters_in_their_order():
    net = network()
    due = concatenated(net).clone()
    flat = FlatParameters(net)
    assert torch.equal(flat.vector, due)
    assert len(flat) == due.numel() == flat.layout.size
    assert list(flat.layout) == [name for name, _ in net.named_parameters()]
    for name, parameter in net.named_parameters():
        assert flat.layout[name] == tuple(parameter.shape)
        where = flat.layout.slices[name]
        assert torch.equal(flat.vector[where].view(parameter.shape), parameter)


def test_writing_the_vector_writes_the_module_without_a_copy():
    net = network()
    flat = FlatParameters(net)
    places = [p.data_ptr() for p in net.parameters()]
    flat.set(torch.arange(float(len(flat))))
    assert [p.data_ptr() for p in net.parameters()] == places
    assert torch.equal(concatenated(net), torch.arange(float(len(flat))))
    flat.vector[0] = 77.0
    assert float(net[0].weight.detach()[0, 0]) == 77.0
    with torch.no_grad():
        net[3].bias += 1
    assert float(flat.vector[-1]) == len(flat)


def test_the_output_is_that_of_a_module_that_was_filled_by_torch():
    net, other = network().eval(), network().eval()
    values = torch.randn(len(FlatParameters(net)))
    FlatParameters(net).set(values)
    torch.nn.utils.vector_to_parameters(values, other.parameters())
    x = torch.randn(5, 3)
    assert torch.equal(net(x), other(x))


def test_gradients_and_optimizers_work_on_the_views():
    net = network()
    flat = FlatParameters(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.randn(8, 3)).square().sum().backward()
    gradient = torch.cat([p.grad.reshape(-1) for p in net.parameters()])
    due = flat.vector.clone() - 0.1 * gradient
    optimizer.step()
    assert torch.allclose(flat.vector, due)
    assert not flat.vector.requires_grad


def test_buffers_are_left_alone():
    net = network()
    before = {name: b.clone() for name, b in net.named_buffers()}
    FlatParameters(net).set(torch.ones(len(FlatParameters(net))))
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize(("options", "names"), [
    ({"include": "0"}, ["0.weight", "0.bias"]),
    ({"include": ["0.bias", "3"]}, ["0.bias", "3.weight", "3.bias"]),
    ({"include": "*.weight"}, ["0.weight", "1.weight", "3.weight"]),
    ({"exclude": ["1", "*.bias"]}, ["0.weight", "3.weight"]),
    ({"include": "3", "exclude": "3.bias"}, ["3.weight"]),
], ids=str)  # fmt: skip
def test_parameters_are_chosen_by_name_by_submodule_or_by_pattern(options, names):
    net = network()
    others = {n: p.clone() for n, p in net.named_parameters() if n not in names}
    flat = FlatParameters(net, **options)
    assert list(flat.layout) == names
    flat.set(torch.full((len(flat),), 9.0))
    for name, parameter in net.named_parameters():
        assert (parameter == 9).all() if name in names else torch.equal(parameter, others[name])


def test_tied_parameters_are_one_block():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    net[1].weight = net[0].weight
    flat = FlatParameters(net)
    assert list(flat.layout) == ["0.weight", "0.bias", "1.bias"]
    flat.set(torch.arange(15.0))
    assert net[1].weight is net[0].weight
    assert net[1].weight.data_ptr() == flat.vector.data_ptr()
    x = torch.randn(4, 3)
    called = torch.func.functional_call(net, flat.named(torch.arange(15.0)), (x,))
    assert torch.equal(called, net(x))


def test_a_weight_normalised_layer_is_searched_in_its_own_parameters():
    net = torch.nn.Sequential(weight_norm(torch.nn.Linear(3, 4)), torch.nn.Linear(4, 1))
    flat = FlatParameters(net)
    magnitude = flat.layout.slices["0.parametrizations.weight.original0"]
    values = flat.vector.clone()
    values[magnitude] = 2.0
    flat.set(values)
    assert torch.allclose(net[0].weight.norm(dim=1), torch.full((4,), 2.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_are_kept_on_the_way_to_numpy_and_back(dtype):
    net = network().to(dtype)
    flat = FlatParameters(net)
    before = flat.vector.clone()
    array = flat.to_numpy()
    assert array.dtype == ("float32" if dtype == torch.bfloat16 else str(dtype).split(".")[1])
    array += 1  # a copy
    assert torch.equal(flat.vector, before)
    flat.from_numpy(array - 1)
    assert flat.vector.dtype == net[0].weight.dtype == dtype
    assert torch.allclose(
        flat.vector.double(), before.double(), atol=1e-2 if dtype.itemsize == 2 else 1e-6
    )


def test_parameters_that_got_new_storage_are_attached_again():
    net = network()
    flat = FlatParameters(net)
    flat.set(torch.ones(len(flat)))
    net.double()
    assert flat.vector.dtype == torch.float64
    net[0].weight.data = torch.full((4, 3), 5.0, dtype=torch.float64)
    assert (flat.vector[:12] == 5).all()
    flat.set(torch.zeros(len(flat)))
    assert not concatenated(net).any()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_its_own_numbers(copied):
    flat = FlatParameters(network())
    before = flat.vector.clone()
    twin = copied(flat)
    twin.set(torch.zeros(len(twin)))
    assert not concatenated(twin.module).any()
    assert torch.equal(flat.vector, before)
    assert torch.equal(concatenated(flat.module), before)


def test_the_core_searches_with_the_layout():
    net = torch.nn.Linear(3, 2)
    flat = FlatParameters(net)
    x, y = torch.randn(20, 3), torch.randn(20, 2)

    def loss(values):
        flat.from_numpy(values)
        with torch.no_grad():
            return float((net(x) - y).square().mean())

    for sampler in ("orthogonal", "factorised"):
        opt = BGS(
            flat.to_numpy(), 0.1, layout=flat.layout, sampler=sampler, num_directions=4, seed=0
        )
        first = loss(opt.center)
        for _ in range(60):
            candidates = opt.ask()
            opt.tell(candidates, [loss(row) for row in candidates])
        assert loss(opt.center) < first


def test_a_layout_is_a_mapping_with_slices():
    layout = ParamLayout({"a": (2, 3), "b": (), "c": (4,)})
    assert dict(layout) == {"a": (2, 3), "b": (1,), "c": (4,)}
    assert layout.slices == {"a": slice(0, 6), "b": slice(6, 7), "c": slice(7, 11)}
    assert layout.blocks[1].shape == ()
    assert layout.size == 11


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"include": "x"}, ValueError, "include: expected names .* got 'x'"),
    ({"exclude": ["0", "y"]}, ValueError, "exclude: expected names .* got 'y'"),
    ({"exclude": "*"}, ValueError, "left none"),
    ({"include": [3]}, TypeError, "include: expected names as str; got 3"),
], ids=str)  # fmt: skip
def test_a_wrong_choice_is_named(options, error, words):
    with pytest.raises(error, match=words):
        FlatParameters(network(), **options)


def test_what_does_not_fit_into_one_vector_is_refused_and_nothing_changes():
    net = network()
    net[3].double()
    before = [p.data_ptr() for p in net.parameters()]
    with pytest.raises(TypeError, match=r"one dtype and device .* 0\.weight: torch\.float32"):
        FlatParameters(net)
    assert [p.data_ptr() for p in net.parameters()] == before
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        FlatParameters([1])


def test_values_of_another_shape_or_kind_are_refused_and_nothing_changes():
    flat = FlatParameters(network())
    before = flat.vector.clone()
    with pytest.raises(ValueError, match=r"expected shape \(34,\); got \(33,\)"):
        flat.set(torch.zeros(33))
    with pytest.raises(ValueError, match=r"expected shape \(34,\)"):
        flat.from_numpy(np.zeros((1, 34)))
    with pytest.raises(TypeError, match="expected real numbers"):
        flat.from_numpy(np.array(["a"] * 34))
    with pytest.raises(ValueError, match=r"expected shape \(\.\.\., 34\)"):
        flat.named(torch.zeros(2, 33))
    assert torch.equal(flat.vector, before)
