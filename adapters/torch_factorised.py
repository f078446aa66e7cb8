"""What members of a factorised population add to one shared forward of the center.

(W + s sigma u v^T) x = W x + s sigma u (v . x): a rank-1 correction in each linear layer (Sarkar
et al. 2025, arXiv 2511.16652).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.torch", extra="torch"):
    import torch

from bgs_opt.candidates import Candidates
from bgs_opt.directions import FactorisedDirections

from .torch import FlatParameters

__all__ = ["Hook", "chain_of", "corrections"]

Hook = Callable[[torch.nn.Module, Any, torch.Tensor], torch.Tensor]


def corrections(
    flat: FlatParameters, candidates: Any
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


def chain_of(
    flat: FlatParameters, parameters: dict[str, torch.Tensor], hooks: dict[torch.nn.Module, Hook]
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The shared forward of layers in a row, without what a call of a module costs; else None."""
    layers = _in_a_row(flat.module)
    if layers is None:
        return None
    names = {parameter: name for name, parameter in flat.module.named_parameters()}
    steps: list[Callable[[torch.Tensor], torch.Tensor]] = []
    for layer in layers:
        if type(layer) is torch.nn.Linear:
            weight, bias = (
                None if own is None else parameters.get(names[own], own)
                for own in (layer.weight, layer.bias)
            )
            steps.append(_step(layer, weight, bias, hooks.get(layer)))
        else:
            steps.append(layer.forward)

    def chain(x: torch.Tensor) -> torch.Tensor:
        for step in steps:
            x = step(x)
        return x

    return chain


def _in_a_row(module: torch.nn.Module) -> list[torch.nn.Module] | None:
    """The layers of (nested) Sequentials in the order of their calls; None for anything else."""
    if module._forward_hooks or module._forward_pre_hooks:
        return None
    if type(module) is torch.nn.Sequential:
        parts = [_in_a_row(part) for part in module]
        return None if None in parts else [layer for part in parts for layer in part or ()]
    inner = next(module.children(), None) is not None
    known = type(module) is torch.nn.Linear or next(module.parameters(), None) is None
    return [module] if known and not inner else None


def _step(
    layer: torch.nn.Module, weight: Any, bias: Any, hook: Hook | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    def step(x: torch.Tensor) -> torch.Tensor:
        out = torch.nn.functional.linear(x, weight, bias)
        return out if hook is None else hook(layer, (x,), out)

    return step


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
