"""Forward passes of a whole population of modules at once.

Members are stacked along a first axis and run under ``torch.func.vmap``. For factorised
directions one forward of the center serves all members, with a rank-1 correction in each linear
layer: of (W + s sigma u v^T) x = W x + s sigma u (v . x) only the last term is a member's own, so
that no noise of the size of W is ever made (Sarkar et al. 2025, arXiv 2511.16652).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.torch_population", extra="torch"):
    import torch

from bgs_opt.candidates import Candidates
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.validation import integer

from .torch import FlatParameters
from .torch_factorised import chain_of, corrections

__all__ = ["Population", "evaluate_population", "taken"]

Members = Any  # Candidates, or an ndarray or tensor of shape (n, d)


class Population:
    """Candidates as modules that act together.

    Parameters
    ----------
    flat : FlatParameters
        Of the module; its own numbers are neither used nor changed, but for parameters that are
        not in the vector.
    candidates : Candidates, ndarray or tensor of shape (n, d)
    max_numbers : int
        Numbers of parameters that are held at a time. A population beyond it is made again, in
        parts, at each call.
    factorised : bool, optional
        Whether one shared forward is used. None: where the candidates are of
        ``sampler="factorised"`` and a first call shows that the module lets it: every parameter
        of the vector belongs to a ``torch.nn.Linear``, and members do not see one another.
    compile : bool
        Compile each member's forward by ``torch.compile``, which needs a C++ compiler. Worth it
        where one population is called many times.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        (also ValueError, TypeError) for a shape that does not fit, and for ``factorised=True``
        where it is not possible.

    Examples
    --------
    >>> import torch
    >>> flat = FlatParameters(torch.nn.Linear(2, 1, bias=False))
    >>> population = Population(flat, torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    >>> population(torch.tensor([[2.0, 3.0], [2.0, 3.0], [2.0, 3.0]])).tolist()  # one each
    [[2.0], [3.0], [5.0]]
    >>> population(torch.tensor([2.0, 3.0]), shared=True).tolist()  # the same for all
    [[2.0], [3.0], [5.0]]
    """

    def __init__(
        self,
        flat: FlatParameters,
        candidates: Members,
        *,
        max_numbers: int = 1 << 26,
        factorised: bool | None = None,
        compile: bool = False,
    ) -> None:
        self._flat, self._candidates = flat, candidates
        dim = candidates.dim if isinstance(candidates, Candidates) else candidates.shape[-1]
        ndim = 2 if isinstance(candidates, Candidates) else candidates.ndim
        if ndim != 2 or dim != len(flat) or not len(candidates):
            raise ArgumentValueError(
                f"candidates: expected shape (n, {len(flat)}), n >= 1; "
                f"got ({len(candidates)}, {dim})"
            )
        self._step = max(1, integer("max_numbers", max_numbers, 1) // dim)
        self._kept: dict[str, torch.Tensor] | None = None
        self._functions = {
            shared: torch.func.vmap(
                self._called, in_dims=(0, None if shared else 0, 0, 0), randomness="different"
            )
            for shared in (False, True)
        }
        if compile:
            self._functions = {s: torch.compile(f) for s, f in self._functions.items()}
        self._corrections = None if factorised is False else corrections(flat, candidates)
        self._chain = None if self._corrections is None else chain_of(flat, *self._corrections)
        self._checked = factorised is True
        if factorised and self._corrections is None:
            raise ArgumentValueError(
                "factorised: expected candidates of sampler='factorised' without bounds, and only "
                "parameters of torch.nn.Linear in the vector"
            )

    def __len__(self) -> int:
        return len(self._candidates)

    def release(self) -> None:
        """Let go of the members' numbers; they are made again if they are needed."""
        self._kept = None

    @property
    def shares_forward(self) -> bool | None:
        """Whether one shared forward is used; None before a first call has shown it."""
        if self._corrections is None:
            return False
        return True if self._checked else None

    def __call__(
        self, inputs: torch.Tensor, *more: Any, shared: bool = False, **named: Any
    ) -> Any:
        """Outputs of all members.

        Parameters
        ----------
        inputs : tensor, shape (n, ...)
            One input (or batch of inputs) for each member; with ``shared``, one for all.
        *more, **named
            Further arguments of the module: tensors of shape (n, ...), or tuples or dicts of
            them; one for each member in any case.
        shared : bool

        Returns
        -------
        tensor, shape (n, ...), or tuple or dict of them
            What the module returns for each, without gradient.
        """
        if not shared and len(inputs) != len(self):
            raise ArgumentValueError(
                f"inputs: expected shape ({len(self)}, ...); got {tuple(inputs.shape)}"
            )
        with torch.no_grad():
            if self._corrections is not None and self._may_share(inputs, shared, more, named):
                return self._by_correction(inputs, shared, more, named)
            return self._by_vmap(inputs, shared, more, named)

    # ---- each member's own parameters

    def _called(
        self, parameters: dict[str, torch.Tensor], inputs: torch.Tensor, more: Any, named: Any
    ) -> Any:
        return self._flat.call(parameters, (inputs, *more), named)

    def _by_vmap(self, inputs: torch.Tensor, shared: bool, more: Any, named: Any) -> Any:
        function = self._functions[shared]
        if len(self) <= self._step:
            if self._kept is None:
                ((_, self._kept),) = self._parts()
            return function(self._kept, inputs, more, named)
        return _joined([
            function(part, inputs if shared else inputs[where],
                     taken(more, where), taken(named, where))
            for where, part in self._parts()
        ])  # fmt: skip

    def _parts(self) -> Iterator[tuple[slice, dict[str, torch.Tensor]]]:
        """Parameters of consecutive members, each contiguous by itself."""
        for start in range(0, len(self), self._step):
            where = slice(start, min(start + self._step, len(self)))
            named = self._flat.named(self._rows(where))
            yield where, {name: block.contiguous() for name, block in named.items()}

    def _rows(self, where: slice) -> torch.Tensor:
        chosen = self._candidates[where]
        if isinstance(chosen, Candidates):
            chosen = chosen.x
        if isinstance(chosen, np.ndarray):
            chosen = torch.from_numpy(np.array(chosen))
        vector = self._flat.vector
        return chosen.to(vector.device, vector.dtype)

    # ---- one forward for all

    def _may_share(self, inputs: torch.Tensor, shared: bool, more: Any, named: Any) -> bool:
        """Whether the shared forward gives what the members give by themselves."""
        if not self._checked:
            self._checked = True
            some = slice(0, min(3, len(self)))
            few = Population(self._flat, self._candidates[some], factorised=False)
            try:
                due = few(inputs if shared else inputs[some], *taken(more, some),
                          shared=shared, **taken(named, some))  # fmt: skip
                got = taken(self._by_correction(inputs, shared, more, named), some)
                same = _alike(due, got)
            except (RuntimeError, ValueError, IndexError):
                same = False
            if not same:
                self._corrections = None
        return self._corrections is not None

    def _by_correction(self, inputs: torch.Tensor, shared: bool, more: Any, named: Any) -> Any:
        if self._corrections is None:
            raise ArgumentValueError("factorised: not possible")
        parameters, layers = self._corrections
        if shared:
            inputs = inputs.expand(len(self), *inputs.shape)
        if self._chain is not None and not more and not named:
            return self._chain(inputs)
        hooks = [layer.register_forward_hook(hook) for layer, hook in layers.items()]
        try:
            return self._called(parameters, inputs, more, named)
        finally:
            for hook in hooks:
                hook.remove()


def taken(tree: Any, where: Any) -> Any:
    """Rows of every tensor in tuples, lists and dicts."""
    if isinstance(tree, torch.Tensor):
        return tree[where]
    if isinstance(tree, Mapping):
        return {key: taken(item, where) for key, item in tree.items()}
    return tuple(taken(item, where) for item in tree)


def _joined(trees: list[Any]) -> Any:
    """One tree of the same tensors, one after the other along the first axis."""
    first = trees[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(trees)
    if isinstance(first, Mapping):
        return {key: _joined([tree[key] for tree in trees]) for key in first}
    return tuple(_joined(list(items)) for items in zip(*trees, strict=True))


def _alike(due: Any, got: Any) -> bool:
    """Whether two trees hold the same tensors, but for rounding."""
    if isinstance(due, torch.Tensor):
        close = due.shape == got.shape and torch.allclose(due, got, rtol=1e-2, atol=1e-3)
        return bool(close)
    if isinstance(due, Mapping):
        return all(_alike(item, got[key]) for key, item in due.items())
    return all(_alike(*items) for items in zip(due, got, strict=True))


def evaluate_population(
    module: torch.nn.Module | FlatParameters,
    candidates: Members,
    inputs: torch.Tensor,
    *,
    shared: bool = False,
    max_numbers: int = 1 << 26,
) -> torch.Tensor:
    """Outputs of a module with the parameters of each candidate, shape (n, ...).

    For several inputs in a row make a :class:`Population` once and call it; the arguments are
    explained there.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(2, 1)
    >>> evaluate_population(net, torch.zeros(4, 3), torch.ones(2), shared=True).shape
    torch.Size([4, 1])
    """
    if isinstance(module, torch.nn.Module):
        module = FlatParameters(module)
    elif not isinstance(module, FlatParameters):
        raise ArgumentTypeError(f"module: expected a Module or FlatParameters; got {module!r}")
    population = Population(module, candidates, max_numbers=max_numbers)
    outputs: torch.Tensor = population(inputs, shared=shared)
    return outputs
