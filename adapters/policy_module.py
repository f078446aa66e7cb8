"""A policy: a network with its normalisation of observations, that acts and is kept in a file."""

from __future__ import annotations

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

from bgs_opt.errors import ArgumentTypeError, ArgumentValueError, CheckpointError
from bgs_opt.normalization import RunningMoments

from .gymnasium_spaces import actions_of, observation_shape, observed
from .policy_networks import NETWORKS, network_of

__all__ = ["Normalizer", "Policy"]

_CLIP = 10.0
"""Normalised observations lie within so many standard deviations."""


class Normalizer(nn.Module):
    """(observation - mean) / deviation, clipped; as it is before there is anything to go by.

    A frozen picture of :class:`bgs_opt.normalization.RunningMoments`: forward changes nothing.

    Parameters
    ----------
    shape : tuple of int
        Of an observation.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("scale", torch.ones(tuple(shape)))

    def load(self, moments: RunningMoments) -> None:
        """Take the mean and the deviation of the observations so far."""
        if not moments.count:
            return
        for name in ("mean", "scale"):
            buffer = getattr(self, name)
            numbers = np.array(getattr(moments, name)).reshape(buffer.shape)
            buffer.copy_(torch.from_numpy(numbers))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Observations (..., *shape) as the network gets them."""
        moved = ((observations - self.mean) / self.scale).clamp(-_CLIP, _CLIP)
        return moved.to(observations.dtype)


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

    Attributes
    ----------
    env : dict or None
        ``id`` and ``kwargs`` of the registered environment that it was trained in.

    Examples
    --------
    >>> policy = Policy(nn.Linear(2, 3), action_space=spaces.Discrete(3), observation_shape=(2,))
    >>> int(policy([0.5, 1.0])) in (0, 1, 2)
    True
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        observation_space: Any = None,
        action_space: Any = None,
        normalize: bool = False,
        observation_shape: Sequence[int] | None = None,
        recurrent: bool | None = None,
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
        self._hidden: Any = None

    def reset(self) -> None:
        """Forget the hidden state of a recurrent network, as at the start of an episode."""
        self._hidden = None

    def prepared(self, observations: torch.Tensor) -> torch.Tensor:
        """Observations (n, *shape) as the network gets them: normalised, for ours as vectors."""
        if self.normalizer is not None:
            observations = self.normalizer(observations)
        return observations.flatten(1) if type(self.network) in NETWORKS.values() else observations

    def outputs(self, observations: torch.Tensor, *hidden: Any, **named: Any) -> Any:
        """What the network says of observations (n, *shape)."""
        return self.network(self.prepared(observations), *hidden, **named)

    @torch.no_grad()
    def forward(self, observation: Any, **named: Any) -> Any:
        """The action for one observation, the most likely one; it fits ``env.step``.

        The hidden state of a recurrent network is kept until :meth:`reset`.
        """
        array = observed(observation, self.observation_space)
        if array.shape != self.observation_shape:
            raise ArgumentValueError(
                f"observation: expected shape {self.observation_shape}; got {array.shape}"
            )
        example = next(self.network.parameters(), torch.empty(0))
        given = torch.from_numpy(array).to(example.device, example.dtype)[None]
        hidden = () if self._hidden is None else (self._hidden,)
        out = self.outputs(given, *hidden, **named)
        if self.recurrent:
            out, self._hidden = out
        numbers = out.reshape(1, -1).double().cpu().numpy()
        action = actions_of(self.action_space)(numbers, None)[0]
        return int(action) if isinstance(self.action_space, spaces.Discrete) else action

    # ---- keeping

    def description(self) -> dict[str, Any]:
        """What a file says beside the numbers, in JSON values."""
        name = next((n for n, kind in NETWORKS.items() if type(self.network) is kind), None)
        return {
            "network": name,
            "config": getattr(self.network, "config", None) if name else None,
            "normalize": self.normalizer is not None,
            "observation_shape": list(self.observation_shape),
            "observation_space": _described(self.observation_space),
            "action_space": _described(self.action_space),
            "recurrent": self.recurrent,
            "env": self.env,
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
            observation_space=_space(description["observation_space"]),
            action_space=_space(description["action_space"]),
            normalize=description["normalize"],
            observation_shape=description["observation_shape"],
            recurrent=description["recurrent"],
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
        try:
            if Path(path).suffix == ".safetensors":
                from safetensors import safe_open

                with safe_open(path, framework="pt") as file:
                    note = json.loads(file.metadata()["bgs_opt"])
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            else:
                saved = torch.load(path, weights_only=True, map_location="cpu")
                note, tensors = json.loads(saved["bgs_opt"]), saved["policy"]
            made = cls.of_description(note, network)
            made.load_state_dict(tensors)
        except (FileNotFoundError, ImportError, ArgumentValueError):
            raise
        except Exception as error:
            raise CheckpointError(
                f"{os.fspath(path)}: expected a policy of bgs_opt; it is damaged or something "
                f"else ({type(error).__name__}: {error})"
            ) from error
        return made


def _shape(space: Any) -> tuple[int, ...]:
    shape = observation_shape(space)
    if shape is None:
        raise ArgumentValueError("observation_shape: expected it, as no space says it; got None")
    return shape


# ---- spaces as JSON


def _described(space: Any) -> Any:
    if isinstance(space, spaces.Box):
        sides = {"low": space.low.tolist(), "high": space.high.tolist()}
        return {"kind": "Box", "dtype": np.dtype(space.dtype).name, **sides}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(),
                "start": space.start.tolist()}  # fmt: skip
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": list(space.shape)}
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        named = isinstance(space, spaces.Dict)
        inner = [[name, _described(part)] for name, part in
                 (space.spaces.items() if named else enumerate(space.spaces))]  # fmt: skip
        kind = "Dict" if named else "Tuple"
        return {"kind": kind, "spaces": inner} if all(part for _, part in inner) else None
    return None


def _space(described: Any) -> Any:
    if described is None:
        return None
    given = dict(described)
    kind = given.pop("kind")
    if kind == "Box":
        dtype = np.dtype(given["dtype"])
        sides = [np.array(given[side], dtype) for side in ("low", "high")]
        return spaces.Box(*sides, dtype=dtype.type)
    if kind in ("Dict", "Tuple"):
        inner = [(name, _space(part)) for name, part in given["spaces"]]
        return spaces.Dict(inner) if kind == "Dict" else spaces.Tuple([part for _, part in inner])
    made = {"Discrete": spaces.Discrete, "MultiDiscrete": spaces.MultiDiscrete,
            "MultiBinary": spaces.MultiBinary}  # fmt: skip
    return made[kind](**given)
