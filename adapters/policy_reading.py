"""A policy from its file; nothing is made before its size was compared with the file's."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import torch
    from torch import nn

from bgs_opt.archive import damage
from bgs_opt.errors import ArgumentValueError, CheckpointError
from bgs_opt.validation import flag, integer, wrong_type

from . import policy_file
from .gymnasium_spaces import actions_of
from .policy_networks import NETWORKS

__all__ = ["read"]

_KEYS = {"network", "config", "normalize", "observation_shape", "observation_space",
         "action_space", "recurrent", "env", "genes"}  # fmt: skip
_LAYERS = 1 << 16
_WHAT = "a policy of bgs_opt"


def read(kind: Any, path: str | os.PathLike[str], network: nn.Module | None) -> Any:
    """Read a policy of class ``kind``; see :meth:`bgs_opt.adapters.policy_module.Policy.load`.

    Raises
    ------
    CheckpointError
        If the file is something else or damaged.
    ArgumentValueError, ArgumentTypeError
        If the network is missing, or none.
    """
    if network is not None and not isinstance(network, nn.Module):
        wrong_type("network", "a torch.nn.Module", network)
    with damage(path, _WHAT):
        note, tensors = _parts(path)
        _check_note(note, tensors)
    if network is None and note["network"] is None:
        raise ArgumentValueError(
            f"network: expected the module that was trained, as it is none of "
            f"{', '.join(NETWORKS)}; got None"
        )
    with damage(path, _WHAT):
        _check_sizes(kind, note, tensors, network)
        made = kind.of_description(note, network)
        made.load_state_dict(tensors)
        _check_policy(made)
        return made


def _parts(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """Description and tensors by name."""
    if Path(path).suffix != ".safetensors":
        saved = policy_file.load(path, _WHAT)
        return json.loads(saved["bgs_opt"]), saved["policy"]
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        note = json.loads(file.metadata()["bgs_opt"])
        return note, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _check_note(note: Any, tensors: Any) -> None:
    """See that a description has the parts of one, and no more layers than there are tensors."""
    if not isinstance(note, dict) or _KEYS - set(note) > {"genes"} or set(note) - _KEYS:
        raise CheckpointError(f"expected a description of {', '.join(sorted(_KEYS))}")
    if note["network"] not in (None, *NETWORKS):
        raise CheckpointError(f"expected a network of {', '.join(NETWORKS)}")
    for name in ("normalize", "recurrent"):
        flag(name, note[name])
    for side in note["observation_shape"]:
        integer("observation_shape", side, 1)
    env = note["env"]
    if env is not None and not (
        isinstance(env, dict) and isinstance(env.get("id"), str)
        and isinstance(env.get("kwargs"), dict)
    ):  # fmt: skip
        raise CheckpointError("env: expected the name of an environment and its arguments")
    config = note["config"] or {}
    layers = max(len(config.get("hidden", ())), config.get("depth", 0))
    if layers > min(len(tensors), _LAYERS):
        raise CheckpointError(f"its description has {layers} layers, and {len(tensors)} tensors")


def _check_sizes(kind: Any, note: dict[str, Any], tensors: Any, network: Any) -> None:
    """See that a description asks for the tensors that are there, before any is made."""
    with torch.device("meta"):  # shapes alone
        expected = kind.of_description(note, network).state_dict()
    for name in sorted({*expected, *tensors}):
        shapes = [
            tuple(part[name].shape) if name in part else None for part in (expected, tensors)
        ]
        if shapes[0] != shapes[1]:
            raise CheckpointError(f"{name}: expected shape {shapes[0]}; got {shapes[1]}")


def _check_policy(policy: Any) -> None:
    """See that network, spaces and genes of a file fit one another."""
    actions = actions_of(policy.action_space).size
    if type(policy.network) in NETWORKS.values():
        if policy.recurrent != getattr(policy.network, "recurrent", False):
            raise CheckpointError("recurrent: expected what its network is")
        inputs, outputs = (policy.network.config[n] for n in ("observation_size", "outputs"))
        beside = 0 if policy.genes is None or policy.takes_gene else policy.genes.shape[1]
        if math.prod(policy.observation_shape) + beside != inputs:
            raise CheckpointError(f"observation_shape: expected one for {inputs} inputs")
        if actions is not None and outputs not in (actions, 2 * actions):
            raise CheckpointError(f"action_space: expected one for {outputs} outputs")
    if policy.genes is not None:
        integer("fittest", int(policy.fittest), 0, len(policy.genes) - 1)
