"""What episodes are and how they are counted, whatever plays them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bgs_opt.errors import ArgumentValueError
from bgs_opt.normalization import RunningMoments
from bgs_opt.protocols import FloatArray, IntArray
from bgs_opt.validation import flag, integer, real, wrong_value

from .gymnasium_spaces import Actions

__all__ = ["Act", "Episodes", "Players", "Rollout", "Tally"]

Act = Callable[[FloatArray, IntArray], npt.NDArray[Any]]
"""Outputs (m, size) for observations (m, ...) in the lanes ``rows`` (m,)."""

_SEEN = 1 << 20
"""Numbers of observations that are kept before they join the moments."""


@dataclass(frozen=True)
class Rollout:
    """How episodes are played.

    Parameters
    ----------
    max_steps : int, optional
        Longest episode; by default what the environment says.
    reward_shift : float
        Subtracted from every reward in training, for example a bonus for survival (Mania et al.
        2018, arXiv 1803.07055, sec. 4); reported returns have it still.
    sample_actions : bool
        Draw actions instead of taking the largest output or the mean; see
        :func:`bgs_opt.adapters.gymnasium_spaces.actions_of`.
    lanes : int, optional
        Episodes that are played in step, each in its own copy of the environment: a block, which
        is also what a worker is given. By default a quarter of a generation.
    """

    max_steps: int | None = None
    reward_shift: float = 0.0
    sample_actions: bool = False
    lanes: int | None = None

    def __post_init__(self) -> None:
        if self.max_steps is not None:
            integer("max_steps", self.max_steps, 1)
        real("reward_shift", self.reward_shift)
        flag("sample_actions", self.sample_actions)
        if self.lanes is not None:
            integer("lanes", self.lanes, 1, 1 << 16)


@dataclass(frozen=True, eq=False)
class Episodes:
    """What came of episodes.

    Attributes
    ----------
    returns : ndarray of float64, shape (n,)
        Sum of the rewards; NaN where an observation was not finite.
    shaped : ndarray of float64, shape (n,)
        The same less ``reward_shift`` each step.
    lengths : ndarray of int64, shape (n,)
        Steps.
    moments : RunningMoments or None
        Of the observations that were acted on, if they were asked for.
    observations : ndarray or None
        Themselves, of episodes that are played for them alone.
    """

    returns: FloatArray
    shaped: FloatArray
    lengths: IntArray
    moments: RunningMoments | None
    observations: FloatArray | None = None


class Tally:
    """Counts of episodes under way."""

    def __init__(self, count: int, shift: float, size: int | None) -> None:
        self.returns = np.zeros(count)
        self.lengths = np.zeros(count, np.int64)
        self.over = np.zeros(count, bool)
        self._shift = shift
        self._moments = None if size is None else RunningMoments.of_size(size)
        self._seen: list[FloatArray] = []
        self._held = 0

    def see(self, observations: FloatArray, rows: IntArray) -> None:
        """Observations about to be acted on; where they are no numbers, the episode ends."""
        fine = np.isfinite(observations).all(axis=tuple(range(1, observations.ndim)))
        if not fine.all():
            lost = rows[~fine]
            self.returns[lost[~self.over[lost]]] = np.nan
            self.over[lost] = True
        if self._moments is not None:
            self._seen.append(observations[~self.over[rows]])
            self._held += self._seen[-1].size
            if self._held > _SEEN:
                self._join()

    def _join(self) -> None:
        if self._moments is not None and self._seen:
            flat = [seen.reshape(len(seen), len(self._moments)) for seen in self._seen]
            self._moments = self._moments.updated(np.concatenate(flat))
        self._seen, self._held = [], 0

    def count(self, row: int, reward: float, over: bool) -> None:
        """A step of one episode."""
        self.returns[row] += reward
        self.lengths[row] += 1
        self.over[row] = over

    def episodes(self) -> Episodes:
        """What came of all of them."""
        self._join()
        shaped = self.returns - self._shift * self.lengths
        return Episodes(self.returns, shaped, self.lengths, self._moments)


class Players:
    """What both kinds of arena share: from outputs of policies to actions."""

    rollout: Rollout
    actions: Actions
    observation_shape: tuple[int, ...]

    def _outputs(self, act: Act, observations: FloatArray, rows: IntArray) -> npt.NDArray[Any]:
        outputs = np.asarray(act(observations, rows))
        size = self.actions.size
        chosen = outputs.dtype.kind in "iu"  # actions, not outputs: the policy has decided
        if outputs.ndim == 1 and (size == 1 or chosen):
            outputs = outputs[:, None]
        due = int(np.prod(self.actions.shape or ())) if chosen else size
        fits = size is None or (outputs[:1].size == due if chosen else outputs.shape[1:] == (due,))
        if len(outputs) != len(rows) or not fits:
            raise ArgumentValueError(
                f"policy: expected outputs of shape ({len(rows)}, {due}) for the actions of the "
                f"environment; got {outputs.shape}"
            )
        return outputs

    def _decided(self, outputs: npt.NDArray[Any], generators: Any) -> Sequence[Any]:
        if outputs.dtype.kind in "iu":
            shape = self.actions.shape
            if shape is None:
                return [o.item() if o.size == 1 else o for o in outputs]
            return [o.reshape(shape) if shape else o.item() for o in outputs]
        return self.actions(outputs, generators)

    def _generators(self, seeds: Sequence[int], greedy: bool) -> list[np.random.Generator] | None:
        if greedy or not self.rollout.sample_actions:
            return None
        return [np.random.default_rng((int(seed), 2)) for seed in seeds]

    def _check_count(self, seeds: Sequence[int], lanes: int) -> None:
        if not 1 <= len(seeds) <= lanes:
            wrong_value("seeds", f"1 to {lanes} of them, one a lane", len(seeds))
