"""A policy: a network with its normalisation and its genes, that acts and is kept in a file."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import torch
    from gymnasium import spaces
    from torch import nn

from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import integer, wrong_type, wrong_value

from .gymnasium_spaces import actions_of, described, observation_shape, observed, space_of
from .policy_networks import NETWORKS, network_of
from .policy_normalizer import Normalizer
from .policy_reading import read

__all__ = ["Policy"]


class Policy(nn.Module):
    """What acts in an environment.

    Parameters
    ----------
    network : torch.nn.Module
        Outputs of observations; a recurrent one takes ``(observations, hidden)`` and returns
        ``(outputs, hidden)``, the first ``hidden`` not being given.
    observation_space, action_space : gymnasium.Space, optional
        By which observations become numbers and outputs become actions.
    normalize : bool
        Whether there is a :class:`Normalizer` before the network.
    observation_shape : tuple of int, optional
        Where no space says it.
    recurrent : bool, optional
        By default what ``network.recurrent`` says, else False.
    genes : (int, int), optional
        How many latent genes the policy has, and of how many numbers. A network whose ``forward``
        has an argument ``gene`` is given it there; for others it follows the observation, as one
        vector.

    Attributes
    ----------
    env : dict or None
        ``id`` and ``kwargs`` of the registered environment that it was trained in.
    genes : tensor, shape (n, dim), or None
    fittest : tensor of int64, shape (), or None
        Number of the gene that acts where none is named.

    Examples
    --------
    >>> policy = Policy(nn.Linear(2, 3), action_space=spaces.Discrete(3), observation_shape=(2,))
    >>> int(policy([0.5, 1.0])) in (0, 1, 2)
    True
    """

    genes: torch.Tensor | None
    fittest: torch.Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        observation_space: Any = None,
        action_space: Any = None,
        normalize: bool = False,
        observation_shape: Sequence[int] | None = None,
        recurrent: bool | None = None,
        genes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ArgumentTypeError(f"network: expected a torch.nn.Module; got {network!r}")
        shape = observation_shape or _shape(observation_space)
        self.network = network
        self.normalizer = Normalizer(shape) if normalize else None
        self.observation_space, self.action_space = observation_space, action_space
        self.observation_shape = tuple(shape)
        self.recurrent = bool(getattr(network, "recurrent", False)
                              if recurrent is None else recurrent)  # fmt: skip
        self.env: dict[str, Any] | None = None
        self.register_buffer("genes", None if genes is None else torch.zeros(tuple(genes)))
        self.register_buffer(
            "fittest", None if genes is None else torch.zeros((), dtype=torch.long)
        )
        self.takes_gene = "gene" in inspect.signature(network.forward).parameters
        self._hidden: Any = None

    def reset(self) -> None:
        """Forget the hidden state of a recurrent network, as at the start of an episode."""
        self._hidden = None

    def hold(self, genes: FloatArray | torch.Tensor, fittest: int) -> None:
        """Take genes (n, dim) as the policy's own, and which of them is the fittest."""
        if self.genes is None or self.fittest is None:
            wrong_value("genes", "a policy that was made for genes", None)
        self.genes.copy_(torch.tensor(genes) if isinstance(genes, np.ndarray) else genes)
        self.fittest.fill_(fittest)

    def prepared(self, observations: torch.Tensor) -> torch.Tensor:
        """Observations (n, *shape) as the network gets them: normalised, for ours as vectors."""
        if self.normalizer is not None:
            observations = self.normalizer(observations)
        return observations.flatten(1) if type(self.network) in NETWORKS.values() else observations

    def given(
        self, observations: torch.Tensor, gene: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What the network is called with for observations (n, *shape) and genes (n, dim)."""
        prepared = self.prepared(observations)
        if gene is None:
            return prepared, {}
        if self.takes_gene:
            return prepared, {"gene": gene}
        return torch.cat([prepared.flatten(1), gene], dim=1), {}

    def outputs(
        self, observations: torch.Tensor, *hidden: Any, gene: torch.Tensor | None = None
    ) -> Any:
        """What the network says of observations (n, *shape), with a gene (n, dim) for each."""
        prepared, named = self.given(observations, gene)
        return self.network(prepared, *hidden, **named)

    @torch.no_grad()
    def forward(self, observation: Any, *, gene: Any = None) -> Any:
        """The action for one observation, the most likely one; it fits ``env.step``.

        The hidden state of a recurrent network is kept until :meth:`reset`.

        Parameters
        ----------
        observation
            As the environment gives it.
        gene : int or array_like of float, shape (dim,), optional
            Number of one of the policy's genes, or numbers of any; by default the fittest.
        """
        array = observed(observation, self.observation_space)
        if array.shape != self.observation_shape:
            raise ArgumentValueError(
                f"observation: expected shape {self.observation_shape}; got {array.shape}"
            )
        example = next(self.network.parameters(), torch.empty(0))
        given = torch.from_numpy(array).to(example.device, example.dtype)[None]
        hidden = () if self._hidden is None else (self._hidden,)
        chosen = self._gene(gene)
        out = self.outputs(given, *hidden, gene=None if chosen is None else chosen.to(given)[None])
        if self.recurrent:
            out, self._hidden = out
        numbers = out.reshape(1, -1).double().cpu().numpy()
        action = actions_of(self.action_space)(numbers, None)[0]
        return int(action) if isinstance(self.action_space, spaces.Discrete) else action

    def _gene(self, gene: Any) -> torch.Tensor | None:
        """A gene by its number or its numbers."""
        if gene is None:
            return None if self.genes is None else self.genes[self.fittest]
        if self.genes is None and not self.takes_gene:
            wrong_value("gene", "None, as the policy has none", gene)
        if isinstance(gene, (int, np.integer)) and not isinstance(gene, bool):
            if self.genes is None:
                wrong_type("gene", "numbers, as the policy holds no genes", gene)
            return self.genes[integer("gene", gene, 0, len(self.genes) - 1)]
        made = torch.as_tensor(gene)
        if made.ndim != 1 or (self.genes is not None and made.shape != self.genes.shape[1:]):
            size = "dim" if self.genes is None else self.genes.shape[1]
            raise ArgumentValueError(f"gene: expected shape ({size},); got {tuple(made.shape)}")
        return made

    # ---- keeping

    def description(self) -> dict[str, Any]:
        """What a file says beside the numbers, in JSON values."""
        name = next((n for n, kind in NETWORKS.items() if type(self.network) is kind), None)
        return {
            "network": name,
            "config": getattr(self.network, "config", None) if name else None,
            "normalize": self.normalizer is not None,
            "observation_shape": list(self.observation_shape),
            "observation_space": described(self.observation_space),
            "action_space": described(self.action_space),
            "recurrent": self.recurrent,
            "env": self.env,
            "genes": None if self.genes is None else list(self.genes.shape),
        }

    @classmethod
    def of_description(
        cls, description: dict[str, Any], network: nn.Module | None = None
    ) -> Policy:
        """Make a policy as it was described; a network of the caller's class must be given."""
        if network is None:
            if not description["network"]:
                raise ArgumentValueError(
                    "network: expected the module that was trained, as it is none of "
                    f"{', '.join(NETWORKS)}; got None"
                )
            network = network_of(description["network"], description["config"])
        made = cls(
            network,
            observation_space=space_of(description["observation_space"]),
            action_space=space_of(description["action_space"]),
            normalize=description["normalize"],
            observation_shape=description["observation_shape"],
            recurrent=description["recurrent"],
            genes=description.get("genes"),
        )
        made.env = description["env"]
        return made

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file: ``.safetensors`` (needs that package), or any other by torch.save.

        Neither kind runs code when it is loaded.
        """
        note = json.dumps(self.description())
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import save_file

            tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
            save_file(tensors, path, metadata={"bgs_opt": note})
        else:
            torch.save({"bgs_opt": note, "policy": dict(self.state_dict())}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], network: nn.Module | None = None) -> Policy:
        """Read a policy that :meth:`save` or a training's checkpoint holds.

        Parameters
        ----------
        path : path
        network : torch.nn.Module, optional
            Of the same shape, where it was none of this package's.

        Raises
        ------
        CheckpointError
            (also ValueError) if the file is something else or damaged.
        """
        made: Policy = read(cls, path, network)
        return made


def _shape(space: Any) -> tuple[int, ...]:
    shape = observation_shape(space)
    if shape is None:
        raise ArgumentValueError("observation_shape: expected it, as no space says it; got None")
    return shape
