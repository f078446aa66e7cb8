"""From the values of a generation to the mean rewards of its usable pairs.

Step 2 of the method: each end of a pair is the mean of its repeats. Lost evaluations drop their
pair; values that are not finite count as the worst finite one of their generation, or drop it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bgs_opt.candidates import Source
from bgs_opt.config import Config
from bgs_opt.orthogonal import OrthogonalDirections
from bgs_opt.protocols import Directions, FloatArray, IntArray
from bgs_opt.selection import acceptance
from bgs_opt.state import TOLD, Generation, State

__all__ = ["Pairs", "accepted_pairs", "center_rewards", "collect", "mean_of", "source_of"]


@dataclass
class Pairs:
    """Usable pairs in the order of their ids, as rewards (higher is better)."""

    source: list[Source] = field(default_factory=list)
    index: list[IntArray] = field(default_factory=list)
    plus: FloatArray = field(default_factory=lambda: np.empty(0))
    minus: FloatArray = field(default_factory=lambda: np.empty(0))
    scenarios: FloatArray = field(default_factory=lambda: np.empty((0, 1, 2)))
    """Mean rewards of both ends in each scenario, shape (n, scenarios, 2)."""

    def __len__(self) -> int:
        return len(self.plus)

    def weighted_sum(self, weights: FloatArray, dim: int, dtype: str) -> FloatArray:
        """sum_i w_i e_i over all pairs, shape (d,)."""
        out = np.zeros(dim, dtype)
        start = 0
        for source, index in zip(self.source, self.index, strict=True):
            source.weighted_sum(index, weights[start : start + len(index)], out)
            start += len(index)
        return out


def source_of(
    config: Config, generation: Generation, center: FloatArray, directions: Directions
) -> Source:
    """What the candidates of a generation are made from."""
    options = config.options
    if isinstance(directions, OrthogonalDirections):
        directions = directions.of(generation.target)
    return Source(
        generation.number, center, generation.sigma, config.scale, generation.probe,
        directions, config.entropy, config.low, config.high, options.bound_mode,
        generation.num_center, options.repeats, options.common_seeds, options.scenarios,
        generation.hair,
    )  # fmt: skip


def _rewards(config: Config, generation: Generation) -> FloatArray:
    """Rewards of the asked slots; NaN where nothing was told."""
    values = generation.values[: generation.asked]
    told = generation.status[: generation.asked] == TOLD
    return np.where(told, values if config.maximize else -values, np.nan)


def _pair_rewards(config: Config, generation: Generation) -> tuple[IntArray, FloatArray]:
    """Complete pairs and the rewards (n, repeats, 2) of their ends, lost and bad ones left out."""
    number = (generation.asked - generation.num_center) // (2 * generation.repeats)
    rewards = _rewards(config, generation)
    told = generation.status[: generation.asked] == TOLD
    worst = np.min(rewards, initial=np.inf, where=np.isfinite(rewards))
    bad = told & ~np.isfinite(rewards)
    shape = (max(number, 0), generation.repeats, 2)
    span = slice(generation.num_center, generation.num_center + 2 * generation.repeats * shape[0])
    if not bad.any() and told.all() and not generation.left[: shape[0]].any():  # nothing amiss
        return np.arange(shape[0]), rewards[span].reshape(shape)
    there, failed = told[span].reshape(shape), bad[span].reshape(shape)
    usable = (generation.left[: shape[0]] == 0) & there.all(axis=(1, 2))
    if config.options.on_failure == "worst":
        usable &= ~failed.all(axis=(1, 2))  # a pair without any finite value says nothing
        filled = np.where(failed, worst, rewards[span].reshape(shape))
    else:
        usable &= ~failed.any(axis=(1, 2))
        filled = rewards[span].reshape(shape)
    index = np.flatnonzero(usable)
    return index, filled[index]


def collect(config: Config, state: State, directions: Directions) -> Pairs:
    """Pairs of the open generation, after late ones of closed generations where asked for."""
    pairs, rewards = Pairs(), []
    earlier = state.closed if config.options.late == "use" else []
    for generation in (*earlier, state.open):
        if generation.center is None:
            continue
        index, each = _pair_rewards(config, generation)
        if generation is not state.open and generation.probe is not None:
            index, each = index[index != 0], each[index != 0]  # the probe had its own center
        generation.left[generation.left == 0] = -1  # used now
        if len(index):
            pairs.source.append(source_of(config, generation, generation.center, directions))
            pairs.index.append(index)
            rewards.append(each)
    if rewards:
        every = np.concatenate(rewards)
        means = (every / every.shape[1]).sum(axis=1)
        pairs.plus, pairs.minus = means[:, 0], means[:, 1]
        of_each = every.reshape(len(every), -1, config.options.scenarios, 2)
        pairs.scenarios = (of_each / of_each.shape[1]).sum(axis=1)
    return pairs


def center_rewards(config: Config, generation: Generation) -> FloatArray:
    """Finite rewards of the center evaluations."""
    rewards = _rewards(config, generation)[: generation.num_center]
    return rewards[np.isfinite(rewards)]


def _scenario_baselines(config: Config, generation: Generation) -> FloatArray:
    """Mean reward of the center in each scenario, shape (scenarios,); NaN where none is finite."""
    rewards = _rewards(config, generation)[: generation.num_center]
    rewards = rewards.reshape(-1, config.options.scenarios)
    there = np.isfinite(rewards)
    count = there.sum(axis=0)
    shares = np.where(there, rewards, 0) / np.maximum(count, 1)
    return np.where(count > 0, shares.sum(axis=0), np.nan)


def accepted_pairs(
    config: Config, generation: Generation, pairs: Pairs, centers: FloatArray
) -> npt.NDArray[np.bool_] | None:
    """Directions that hold up beside the center, in enough of the scenarios; None: all do."""
    options = config.options
    if options.acceptance is None or not len(centers):
        return None
    if options.scenarios == 1:
        return np.asarray(
            acceptance(pairs.plus, pairs.minus, mean_of(centers), options.acceptance)
        )
    passed = []
    for number, baseline in enumerate(_scenario_baselines(config, generation).tolist()):
        if math.isfinite(baseline):
            plus, minus = pairs.scenarios[:, number, 0], pairs.scenarios[:, number, 1]
            passed.append(acceptance(plus, minus, baseline, options.acceptance))
    return np.asarray(np.mean(passed, axis=0) >= options.accept_fraction)


def mean_of(values: FloatArray) -> float:
    """Mean of finite numbers; their sum may lie beyond the largest float."""
    largest = float(np.abs(values).max())
    if largest < 1e290:
        return float(values.mean())
    return float((values / largest).mean()) * largest
