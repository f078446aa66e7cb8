"""Forward passes of a whole population of modules at once.

Members are stacked along a first axis and run under ``torch.func.vmap``. For factorised
directions one forward of the center serves all members, with a rank-1 correction in each linear
layer: of (W + s sigma u v^T) x = W x + s sigma u (v . x) only the last term is a member's own, so
that no noise of the size of W is ever made (Sarkar et al. 2025, arXiv 2511.16652).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.torch_population", extra="torch"):
    import torch

from bgs_opt.candidates import Candidates
from bgs_opt.directions import FactorisedDirections
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.validation import integer

from .torch import FlatParameters

__all__ = ["Population", "evaluate_population"]

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
        self._function = torch.func.vmap(self._called, in_dims=(0, 0), randomness="different")
        self._shared_function = torch.func.vmap(
            self._called, in_dims=(0, None), randomness="different"
        )
        self._corrections = None if factorised is False else _corrections(flat, candidates)
        self._checked = factorised is True
        if factorised and self._corrections is None:
            raise ArgumentValueError(
                "factorised: expected candidates of sampler='factorised' without bounds, and only "
                "parameters of torch.nn.Linear in the vector"
            )

    def __len__(self) -> int:
        return len(self._candidates)

    def __call__(self, inputs: torch.Tensor, *, shared: bool = False) -> torch.Tensor:
        """Outputs of all members.

        Parameters
        ----------
        inputs : tensor, shape (n, ...)
            One input (or batch of inputs) for each member; with ``shared``, one for all.
        shared : bool

        Returns
        -------
        tensor, shape (n, ...)
            What the module returns for each, without gradient.
        """
        if not shared and len(inputs) != len(self):
            raise ArgumentValueError(
                f"inputs: expected shape ({len(self)}, ...); got {tuple(inputs.shape)}"
            )
        with torch.no_grad():
            if self._corrections is not None and self._may_share(inputs, shared):
                return self._by_correction(inputs, shared)
            return self._by_vmap(inputs, shared)

    # ---- each member's own parameters

    def _called(self, parameters: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        called: torch.Tensor = torch.func.functional_call(self._flat.module, parameters, (inputs,))
        return called

    def _by_vmap(self, inputs: torch.Tensor, shared: bool) -> torch.Tensor:
        function = self._shared_function if shared else self._function
        if len(self) <= self._step:
            if self._kept is None:
                ((_, self._kept),) = self._parts()
            return function(self._kept, inputs)
        return torch.cat(
            [function(part, inputs if shared else inputs[where]) for where, part in self._parts()]
        )

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

    def _may_share(self, inputs: torch.Tensor, shared: bool) -> bool:
        """Whether the shared forward gives what the members give by themselves."""
        if not self._checked:
            self._checked = True
            few = Population(self._flat, self._candidates[: min(3, len(self))], factorised=False)
            try:
                due = few(inputs if shared else inputs[: len(few)], shared=shared)
                got = self._by_correction(inputs, shared)[: len(few)]
                same = due.shape == got.shape and torch.allclose(due, got, rtol=1e-2, atol=1e-3)
            except (RuntimeError, ValueError, IndexError):
                same = False
            if not same:
                self._corrections = None
        return self._corrections is not None

    def _by_correction(self, inputs: torch.Tensor, shared: bool) -> torch.Tensor:
        if self._corrections is None:
            raise ArgumentValueError("factorised: not possible")
        parameters, layers = self._corrections
        if shared:
            inputs = inputs.expand(len(self), *inputs.shape)
        hooks = [layer.register_forward_hook(hook) for layer, hook in layers.items()]
        try:
            called: torch.Tensor = torch.func.functional_call(
                self._flat.module, parameters, (inputs,)
            )
            return called
        finally:
            for hook in hooks:
                hook.remove()


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
    return Population(module, candidates, max_numbers=max_numbers)(inputs, shared=shared)


Hook = Callable[[torch.nn.Module, Any, torch.Tensor], torch.Tensor]


def _corrections(
    flat: FlatParameters, candidates: Members
) -> tuple[dict[str, torch.Tensor], dict[torch.nn.Module, Hook]] | None:
    """The center's parameters, and what members add to each linear layer; None: not possible."""
    if not isinstance(candidates, Candidates) or not _is_factorised(candidates, flat):
        return None
    source = candidates._source
    layers: dict[torch.nn.Module, tuple[str | None, str | None]] = {}
    named = dict(flat.module.named_modules(remove_duplicate=False))
    for name in flat.layout:
        owner, _, kind = name.rpartition(".")
        layer = named[owner]
        if type(layer) is not torch.nn.Linear or kind not in ("weight", "bias"):
            return None
        weight, bias = layers.get(layer, (None, None))
        layers[layer] = (name, bias) if kind == "weight" else (weight, name)
    vector = flat.vector
    center = torch.from_numpy(np.array(source.center)).to(vector.device, vector.dtype)
    parts = _parts_of(candidates, flat)
    found: dict[torch.nn.Module, Hook] = {}
    for layer, (weight, bias) in layers.items():
        found[layer] = _hook(*(parts.get(name) if name else None for name in (weight, bias)))
    return flat.named(center), found


def _is_factorised(candidates: Candidates, flat: FlatParameters) -> bool:
    """Whether every member is the center and one factor pair in each matrix."""
    source = candidates._source
    if not isinstance(source.directions, FactorisedDirections) or source.low is not None:
        return False
    if source.probe is not None or source.hair >= 0:
        return False
    return source.scale is None or all(
        np.ptp(source.scale[block.where]) == 0 for block in flat.layout.blocks
    )


def _parts_of(candidates: Candidates, flat: FlatParameters) -> dict[str, Any]:
    """By block: u (n, out) with sign and sigma, and v (n, in); or the move itself (n, out)."""
    source = candidates._source
    directions: Any = source.directions
    pairs, signs, _ = source.pairs_of(candidates._slots)
    unique, which = np.unique(np.where(signs == 0, 0, pairs), return_inverse=True)
    dtype, vector = source.center.dtype, flat.vector
    factors = [directions.factors(source.generation, int(p), dtype) for p in unique]
    vectors = [directions.vectors(source.generation, int(p), dtype) for p in unique]

    def stacked(rows: list[Any], gains: Any | None = None) -> torch.Tensor:
        made = np.stack(rows)[which]
        made = made if gains is None else made * gains[:, None].astype(dtype)
        return torch.from_numpy(made).to(vector.device, vector.dtype)

    parts: dict[str, Any] = {}
    for block in flat.layout.blocks:
        scale = 1.0 if source.scale is None else float(source.scale[block.where.start])
        gains = source.sigma * scale * signs
        if block.name in factors[0]:
            left = stacked([f[block.name][0] for f in factors], gains)
            parts[block.name] = left, stacked([f[block.name][1] for f in factors])
        else:
            rows = [v[block.name].reshape(-1) for v in vectors]
            parts[block.name] = stacked(rows, gains)
    return parts


def _hook(weight: Any, bias: torch.Tensor | None) -> Hook:
    def corrected(layer: torch.nn.Module, given: Any, out: torch.Tensor) -> torch.Tensor:
        # in place: it was just made by the layer, and no gradient is taken
        (x,) = given
        between = (1,) * (out.ndim - 2)
        if isinstance(weight, tuple):
            u, v = weight
            along = torch.linalg.vecdot(x, v.view(len(v), *between, -1)).unsqueeze(-1)
            out.addcmul_(along, u.view(len(u), *between, -1))
        elif weight is not None:  # a single row or column is no matrix
            full = weight.view(len(weight), *layer.weight.shape)
            out += torch.einsum("n...i,noi->n...o", x, full)
        if bias is not None:
            out += bias.view(len(bias), *between, -1)
        return out

    return corrected
