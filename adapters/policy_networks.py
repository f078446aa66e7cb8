"""Networks for policies: linear, multilayer perceptron, and an actor with gated memory.

Each maps observations (..., size) to outputs (..., outputs) and says by ``config`` how it is
made again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import torch
    from torch import nn

from bgs_opt.errors import ArgumentValueError
from bgs_opt.validation import choice, flag, integer

__all__ = ["MLP", "NETWORKS", "Actor", "Linear", "network_of"]


class Linear(nn.Module):
    """One linear map that starts at zero, as in ARS (Mania et al. 2018, arXiv 1803.07055).

    Parameters
    ----------
    observation_size, outputs : int
    bias : bool
        Whether outputs have a part that does not depend on the observation.
    """

    def __init__(self, observation_size: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        integer("observation_size", observation_size, 1)
        integer("outputs", outputs, 1)
        self.config = {"observation_size": observation_size, "outputs": outputs,
                       "bias": flag("bias", bias)}  # fmt: skip
        self.map = nn.Linear(observation_size, outputs, bias=bias)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Outputs (..., outputs) of observations (..., size)."""
        out: torch.Tensor = self.map(observations)
        return out


class MLP(nn.Module):
    """Linear layers with tanh between them; the last one starts at zero.

    Parameters
    ----------
    observation_size, outputs : int
    hidden : sequence of int
        Width of each layer between.
    """

    def __init__(
        self, observation_size: int, outputs: int, *, hidden: Sequence[int] = (32, 32)
    ) -> None:
        super().__init__()
        integer("observation_size", observation_size, 1)
        integer("outputs", outputs, 1)
        sizes = [observation_size, *(integer("hidden", size, 1) for size in hidden)]
        self.config = {"observation_size": observation_size, "outputs": outputs,
                       "hidden": list(hidden)}  # fmt: skip
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.Tanh()]
        last = nn.Linear(sizes[-1], outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Outputs (..., outputs) of observations (..., size)."""
        out: torch.Tensor = self.layers(observations)
        return out


class _Normed(nn.Module):
    """Linear layer with a length and a direction for each row: w_i = g_i v_i / |v_i|.

    Weight normalisation (Salimans & Kingma 2016, arXiv 1602.07868, eq. 2), of operations that
    torch.func.vmap knows, which its own is not.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        made = nn.Linear(inputs, outputs)
        self.direction, self.bias = made.weight, made.bias
        self.length = nn.Parameter(made.weight.detach().norm(dim=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lengths = torch.linalg.vector_norm(self.direction, dim=1).clamp_min(1e-12)
        return nn.functional.linear(x, self.direction) * (self.length / lengths) + self.bias


class _Block(nn.Module):
    """x + W2 silu(W1 rms(x)): a residual block of SimBa (Lee et al. 2024, arXiv 2410.09754)."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.up = _Normed(width, expansion * width)
        self.down = _Normed(expansion * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.down(nn.functional.silu(self.up(self.norm(x))))
        return out


class _Memory(nn.Module):
    """h <- (1 - z) h + z tanh(W x + U h), z = sigmoid(V x + T h); what comes out is x + h."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.norm = nn.RMSNorm(width)
        self.update = _Normed(2 * width, width)
        self.content = _Normed(2 * width, width)

    def forward(
        self, x: torch.Tensor, hidden: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if hidden is None:
            hidden = torch.zeros_like(x)
        both = torch.cat([self.norm(x), hidden], dim=-1)
        gate = torch.sigmoid(self.update(both))
        hidden = (1 - gate) * hidden + gate * torch.tanh(self.content(both))
        return x + hidden, hidden


class Actor(nn.Module):
    """Residual blocks with RMSNorm, SiLU and weight-normalised layers; memory if wanted.

    After SimBa (Lee et al. 2024, arXiv 2410.09754). Whether outputs are logits of choices or
    numbers of a Box is the environment's matter; for drawn continuous actions ``outputs`` is
    twice their number (means, then log standard deviations).

    Parameters
    ----------
    observation_size, outputs : int
    width, depth, expansion : int
        Of the residual stream; blocks; width within a block over that.
    memory : bool
        A gated hidden state: ``actor(observations, hidden) -> outputs, hidden``, the first
        ``hidden`` being None.
    gene_size : int
        Length of a latent gene, given as ``actor(..., gene=g)``; 0: none.
    """

    def __init__(
        self,
        observation_size: int,
        outputs: int,
        *,
        width: int = 32,
        depth: int = 1,
        expansion: int = 2,
        memory: bool = False,
        gene_size: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"observation_size": observation_size, "outputs": outputs, "width": width,
                 "depth": depth, "expansion": expansion}  # fmt: skip
        for name, size in sizes.items():
            integer(name, size, 1)
        integer("gene_size", gene_size, 0)
        self.config = {**sizes, "memory": flag("memory", memory), "gene_size": gene_size}
        self.recurrent = memory
        self.inputs = _Normed(observation_size, width)
        self.gene = nn.Linear(gene_size, width, bias=False) if gene_size else None
        self.memory = _Memory(width) if memory else None
        self.blocks = nn.ModuleList(_Block(width, expansion) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, outputs)
        nn.init.normal_(self.head.weight, std=0.1 / math.sqrt(width))
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        observations: torch.Tensor,
        hidden: torch.Tensor | None = None,
        *,
        gene: torch.Tensor | None = None,
    ) -> Any:
        """Outputs (..., outputs) of observations (..., size), and with memory the hidden state."""
        x = self.inputs(observations)
        if self.gene is not None:
            if gene is None:
                raise ArgumentValueError("gene: expected a tensor, as gene_size > 0; got None")
            x = x + self.gene(gene)
        elif gene is not None:
            raise ArgumentValueError("gene: expected None, as gene_size is 0; got one")
        if self.memory is not None:
            x, hidden = self.memory(x, hidden)
        for block in self.blocks:
            x = block(x)
        out = self.head(self.norm(x))
        return (out, hidden) if self.memory is not None else out


NETWORKS: dict[str, type[nn.Module]] = {"linear": Linear, "mlp": MLP, "actor": Actor}


def network_of(name: str, config: dict[str, Any]) -> nn.Module:
    """Make a network by its name and arguments."""
    return NETWORKS[choice("policy", name, tuple(NETWORKS))](**config)
