"""A training in one file of torch.save that is read without running code; it goes on bit for bit.

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

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import torch

from bgs_opt import BGS, checkpoint
from bgs_opt.archive import damage
from bgs_opt.atomic import replaced
from bgs_opt.config import Config
from bgs_opt.errors import ArgumentValueError, CheckpointError
from bgs_opt.normalization import RunningMoments
from bgs_opt.optimizers import SGD
from bgs_opt.start import same_run
from bgs_opt.validation import integer, real

from . import policy_file
from .gymnasium_episodes import Episodes
from .policy_genes import GeneRun
from .policy_player import Player
from .policy_training import COLUMNS, Progress, Training
from .torch_optimizer import TorchOptimizer

__all__ = ["restore", "resume", "save"]

_WHAT = "a checkpoint of train()"
_KEYS = {"bgs_opt", "policy", "training", "arrays", "columns", "genes", "numbers", "optimizer",
         "finished"}  # fmt: skip


def save(training: Training, path: Path) -> None:
    """Write everything; ``Policy.load`` reads the policy of it."""
    if training.team.ranks.rank:
        return
    training.settle()
    policy = training.team.player.policy
    progress = dict(vars(training.progress))
    finished = {str(start): _block(block) for start, block in progress.pop("finished").items()}
    columns = list(training.progress.rows[0]) if progress["rows"] else []
    progress["rows"] = [list(row.values()) for row in training.progress.rows]
    arrays = {name: torch.from_numpy(np.array(progress.pop(name)))
              for name in ("rows", "best_vector", "best_genes") if progress[name] is not None
              }  # fmt: skip
    for name in ("moments", "best_moments"):
        moments = getattr(training.progress, name)
        if progress.pop(name) is not None:
            state = {key: torch.from_numpy(np.array(v)) for key, v in moments.state().items()}
            arrays |= {f"{name}.{key}": value for key, value in state.items()}
    run = io.BytesIO()
    checkpoint.dump(run, _plain(training.opt._config), training.opt._state)
    with replaced(path) as file:
        torch.save(
            {
                "bgs_opt": json.dumps(policy.description()),
                "policy": dict(policy.state_dict()),
                "training": torch.frombuffer(run.getbuffer(), dtype=torch.uint8).clone(),
                "arrays": arrays,
                "columns": columns,
                "genes": None if training.genes is None else _as_tensors(training.genes.state()),
                "numbers": progress,
                "optimizer": repr(training.opt._config.optimizer),
                "finished": _as_tensors(finished),
            },
            file,
        )


def restore(player: Player, genes: GeneRun | None, path: Path) -> tuple[BGS, Progress, str]:
    """Give the policy and the genes what a file holds, and read the run to go on with.

    Raises
    ------
    CheckpointError
        If the file is damaged or something else.
    """
    with damage(path, _WHAT):
        saved = policy_file.load(path, _WHAT)
        if set(saved) != _KEYS:
            raise CheckpointError(f"got one of {', '.join(saved)[:200]}, a policy alone perhaps")
        config, state = checkpoint.load(io.BytesIO(saved["training"].numpy().tobytes()), str(path))
        kept = BGS.__new__(BGS)
        kept.__setstate__({"config": config, "state": state})
        progress, optimizer = _progress(saved, config.dim, player), str(saved["optimizer"])
    normalized = player.policy.normalizer is not None
    if (progress.moments is not None) != normalized:
        raise ArgumentValueError(
            f"normalize: expected {not normalized} (or the environment of the run in {path}); got "
            f"{normalized}"
        )
    if (genes is None) != (saved["genes"] is None):
        raise ArgumentValueError(
            f"genes: expected {'a pool' if genes is None else 'None'}, as in {path}; got "
            f"{'None' if genes is None else 'a pool'}"
        )
    with damage(path, _WHAT, ArgumentValueError):
        if genes is not None:
            genes.restore(_as_arrays(saved["genes"]), str(path))
            if progress.best_genes is not None:
                _numbers("best_genes", progress.best_genes, *genes.pool.genes.shape)
            integer("best_fittest", progress.best_fittest, 0, len(genes.pool) - 1)
        try:
            player.policy.load_state_dict(saved["policy"])
        except RuntimeError as error:
            raise ArgumentValueError(
                f"policy: expected a module like that of the run in {path}; {error}"
            ) from error
    return kept, progress, optimizer


def resume(training: Training, kept: BGS, optimizer: str, path: Path, *, seeded: bool) -> None:
    """Go on with a run that was restored from a file, after a check that it is the same run.

    Raises
    ------
    ArgumentValueError
        If it was started with other arguments.
    """
    config, rule = training.opt._config, training.opt._config.optimizer
    asked = BGS.__new__(BGS)
    asked.__setstate__({"config": _plain(config), "state": training.opt._state})
    different = [name for name in asked.differs(kept, seeded=seeded) if name != "x0"]
    if repr(rule) != optimizer:
        different = [*(name for name in different if name != "optimizer"), "optimizer"]
    same_run(different, path)
    if missing := set(rule.init(kept.center) if rule else ()) - set(kept._state.optimizer):
        raise CheckpointError(f"{path}: expected {', '.join(missing)} in the optimizer's state")
    kept._config = dataclasses.replace(kept._config, optimizer=rule)
    training.opt = kept


def _plain(config: Config) -> Config:
    """The description without an optimizer of torch, whose own part is in the state."""
    if isinstance(config.optimizer, TorchOptimizer):
        return dataclasses.replace(config, optimizer=SGD())
    return config


def _block(block: Episodes) -> dict[str, Any]:
    """A block that was played, as what :func:`_episodes` takes."""
    moments = block.moments
    return {**vars(block), "moments": None if moments is None else moments.state()}


def _as_tensors(tree: Any) -> Any:
    """Arrays in dicts as tensors, which torch loads without running code."""
    if isinstance(tree, dict):
        return {name: _as_tensors(item) for name, item in tree.items()}
    return torch.from_numpy(tree.copy()) if isinstance(tree, np.ndarray) else tree


def _as_arrays(tree: Any) -> Any:
    """What :func:`_as_tensors` was given."""
    if isinstance(tree, dict):
        return {name: _as_arrays(item) for name, item in tree.items()}
    return tree.numpy() if isinstance(tree, torch.Tensor) else tree


def _numbers(name: str, array: Any, *shape: int) -> Any:
    """Array of float64 or float32 of this shape; -1: any length."""
    fits = array.dtype.kind == "f" and array.ndim == len(shape)
    if not fits or any(n not in (-1, m) for n, m in zip(shape, array.shape, strict=True)):
        raise CheckpointError(f"{name}: expected numbers of shape {shape}; got {array.shape}")
    return array


def _episodes(name: str, kept: dict[str, Any], size: int) -> Episodes:
    """A block that was played."""
    count = len(_numbers(name, kept["returns"], -1))
    lengths = kept["lengths"]
    if lengths.dtype != np.int64 or lengths.shape != (count,) or (lengths < 0).any():
        raise CheckpointError(f"{name}: expected {count} lengths >= 0")
    moments = kept["moments"]
    if moments is not None:
        mean, squares = (_numbers(name, moments[key], size) for key in ("mean", "squares"))
        moments = RunningMoments(integer(name, moments["count"], 0), mean, squares)
    return Episodes(kept["returns"], _numbers(name, kept["shaped"], count), lengths, moments)


def _progress(saved: dict[str, Any], dim: int, player: Player) -> Progress:
    """What was kept beside the optimizer, with the types and sizes that it has."""
    arrays = {name: value.numpy() for name, value in saved["arrays"].items()}
    columns, counts = saved["columns"], dict(saved["numbers"])
    made = Progress()
    for name in ("episodes", "steps", "evaluation_episodes", "best_fittest"):
        setattr(made, name, integer(name, counts.pop(name), 0, 1 << 62))
    made.seconds = real("seconds", counts.pop("seconds"), 0)
    made.best = best = counts.pop("best")
    if not isinstance(best, float) or any(value is not None for value in counts.values()):
        raise CheckpointError(f"best: expected a number; got {made.best!r}, {sorted(counts)}")
    if len(arrays["rows"]):
        rows = _numbers("rows", arrays["rows"], -1, len(columns))
        if not set(COLUMNS) <= set(columns):
            raise CheckpointError(f"columns: expected {', '.join(COLUMNS)}")
        made.rows = [dict(zip(columns, row, strict=True)) for row in rows.tolist()]
    if "best_vector" in arrays:
        made.best_vector = _numbers("best_vector", arrays["best_vector"], dim)
    if "best_genes" in arrays:
        made.best_genes = _numbers("best_genes", arrays["best_genes"], -1, -1)
    size = -1 if player.policy.normalizer is None else player.policy.normalizer.mean.numel()
    for name in ("moments", "best_moments"):
        if f"{name}.count" in arrays:
            mean, squares = (_numbers(name, arrays[f"{name}.{key}"], size)
                             for key in ("mean", "squares"))  # fmt: skip
            count = integer(f"{name}.count", arrays[f"{name}.count"].item(), 0)
            setattr(made, name, RunningMoments(count, mean, squares))
    for start, kept in _as_arrays(saved["finished"]).items():
        made.finished[int(start)] = _episodes(f"finished.{start}", kept, size)
    return made
