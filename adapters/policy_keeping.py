"""A training in one file that torch.load reads without running code; it goes on bit for bit.

bgs_opt    JSON: what the policy is          training   the core's checkpoint, as bytes
policy     its state_dict                    numbers, arrays, optimizer: the rest
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bgs_opt import BGS, checkpoint
from bgs_opt.atomic import replaced
from bgs_opt.errors import ArgumentValueError, CheckpointError
from bgs_opt.normalization import RunningMoments
from bgs_opt.optimizers import SGD

from .policy_training import COLUMNS, Progress, Training
from .torch_optimizer import TorchOptimizer

__all__ = ["kept_sigma", "resume", "save"]


def save(training: Training, path: Path) -> None:
    """Write everything; ``Policy.load`` reads the policy of it."""
    if training.team.ranks.rank:
        return
    training.settle()
    policy = training.team.player.policy
    progress = dataclasses.asdict(training.progress)
    arrays = {name: torch.from_numpy(np.array(progress.pop(name)))
              for name in ("best_vector", "rows") if progress[name] is not None}  # fmt: skip
    for name in ("moments", "best_moments"):
        moments = getattr(training.progress, name)
        if progress.pop(name) is not None:
            state = {key: torch.from_numpy(np.array(v)) for key, v in moments.state().items()}
            arrays |= {f"{name}.{key}": value for key, value in state.items()}
    run = io.BytesIO()
    config = training.opt._config
    if isinstance(config.optimizer, TorchOptimizer):  # its own part is in the state
        config = dataclasses.replace(config, optimizer=SGD())
    checkpoint.dump(run, config, training.opt._state)
    with replaced(path) as file:
        torch.save(
            {
                "bgs_opt": json.dumps(policy.description()),
                "policy": dict(policy.state_dict()),
                "training": torch.frombuffer(run.getbuffer(), dtype=torch.uint8).clone(),
                "arrays": arrays,
                "numbers": progress,
                "optimizer": repr(training.opt._config.optimizer),
            },
            file,
        )


def resume(training: Training, path: Path, *, seeded: bool) -> None:
    """Go on with the run that a file holds.

    Raises
    ------
    CheckpointError, ArgumentValueError
        If the file is damaged, or holds a run of other arguments.
    """
    saved = _loaded(path)
    try:
        body = io.BytesIO(saved["training"].numpy().tobytes())
        config, state = checkpoint.load(body, str(path))
        rule = training.opt._config.optimizer
        if saved["optimizer"] == repr(rule):
            config = dataclasses.replace(config, optimizer=rule)
        kept = BGS.__new__(BGS)
        kept.__setstate__({"config": config, "state": state})
        progress = _progress(saved)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint of train(); it is something else "
            f"({type(error).__name__}: {error})"
        ) from error
    if different := training.opt.differs(kept, seeded=seeded):
        raise ArgumentValueError(
            f"{', '.join(different)}: expected what the run in {path} was started with (or "
            "another path); got something else"
        )
    normalized = training.team.player.policy.normalizer is not None
    if (progress.moments is not None) != normalized:
        raise ArgumentValueError(
            f"normalize: expected {not normalized}, as in {path}; got {normalized}"
        )
    training.opt, training.progress = kept, progress


def kept_sigma(path: Path) -> float:
    """The sigma that a run was started with."""
    saved = _loaded(path)
    config, _ = checkpoint.load(io.BytesIO(saved["training"].numpy().tobytes()), str(path))
    return config.sigma


def _loaded(path: Path) -> dict[str, Any]:
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint of train(); it is damaged or something else "
            f"({type(error).__name__}: {error})"
        ) from error
    if not isinstance(saved, dict) or "training" not in saved:
        raise CheckpointError(f"{path}: expected a checkpoint of train(); got a policy alone")
    return saved


def _progress(saved: dict[str, Any]) -> Progress:
    arrays = {name: value.numpy() for name, value in saved["arrays"].items()}
    made = Progress(**saved["numbers"])
    made.rows = [tuple(row) for row in arrays["rows"].reshape(-1, len(COLUMNS)).tolist()]
    made.best_vector = arrays.get("best_vector")
    for name in ("moments", "best_moments"):
        if f"{name}.count" in arrays:
            parts = {key: arrays[f"{name}.{key}"] for key in ("count", "mean", "squares")}
            setattr(made, name, RunningMoments(int(parts["count"]), parts["mean"],
                                               parts["squares"]))  # fmt: skip
    return made
