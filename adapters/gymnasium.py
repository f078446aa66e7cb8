"""Returns of policies in environments, many episodes in step.

    arena = arena_of("CartPole-v1", lanes=8)
    arena.play(lambda observations, rows: observations @ weights.T, seeds=[1, 2, 3])

An episode is played in a lane; the policies of all lanes act in one call. What an episode is
depends on its seed and its policy alone, not on the lane or on the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.gymnasium", extra="gym"):
    import gymnasium

from bgs_opt.errors import ArgumentTypeError, ArgumentValueError, BGSWarning
from bgs_opt.protocols import FloatArray

from .gymnasium_environments import Environment, Maker, choices, makers_of
from .gymnasium_episodes import Act, Episodes, Players, Rollout, Tally
from .gymnasium_spaces import Actions, actions_of, known_scale, observation_shape, observed

__all__ = ["Act", "Arena", "Episodes", "Rollout", "arena_of"]

_LONG = 100_000
"""Steps of an episode after which there is a warning."""
_LANES = 16
_ENDLESS = 10_000
"""Steps after which an episode without ``max_steps`` is taken to have no end."""


class Arena(Protocol):
    """Where episodes are played."""

    actions: Actions
    lanes: int
    observation_shape: tuple[int, ...]
    known_scale: bool
    observation_space: Any
    action_space: Any

    def play(
        self, act: Act, seeds: Sequence[int], *, observe: bool = False, greedy: bool = False
    ) -> Episodes:
        """Play one episode for each seed, up to ``lanes`` of them.

        ``observe``: gather moments of observations. ``greedy``: draw no actions.
        """
        ...

    def close(self) -> None:
        """Free the environments."""
        ...


class _Separate(Players):
    """A copy of each environment in every lane, made when it is first used."""

    def __init__(self, makers: Sequence[Maker], lanes: int, rollout: Rollout) -> None:
        self.lanes, self.rollout = lanes, rollout
        self._makers = makers
        self._made: dict[tuple[int, int], Environment] = {}
        first = self._environment(0, 0)
        self._check_alike(first)
        self.observation_space, self.action_space = first.observation_space, first.action_space
        self.actions = actions_of(first.action_space, sample=rollout.sample_actions)
        self.known_scale = known_scale(self.observation_space)
        shape = observation_shape(self.observation_space)
        self.observation_shape = first.reset(0).shape if shape is None else shape

    def _environment(self, lane: int, which: int) -> Environment:
        if (lane, which) not in self._made:
            self._made[lane, which] = Environment(self._makers[which]())
        return self._made[lane, which]

    def _check_alike(self, first: Environment) -> None:
        for which in range(1, len(self._makers)):
            other = self._environment(0, which)
            for name, of in (("observation_space", observation_shape), ("action_space", _itself)):
                due, came = getattr(first, name), getattr(other, name)
                if due is not None and of(due) != of(came):
                    raise ArgumentValueError(
                        f"env: expected environments with the same {name}; got {due} and {came}"
                    )

    def play(
        self, act: Act, seeds: Sequence[int], *, observe: bool = False, greedy: bool = False
    ) -> Episodes:
        """See :class:`Arena`."""
        self._check_count(seeds, self.lanes)
        which = choices(seeds, len(self._makers)).tolist()
        envs = [self._environment(lane, kind) for lane, kind in enumerate(which)]
        size = int(np.prod(self.observation_shape)) if observe else None
        tally = Tally(len(seeds), self.rollout.reward_shift, size)
        generators = self._generators(seeds, greedy)
        now = np.stack([env.reset(int(seed)) for env, seed in zip(envs, seeds, strict=True)])
        rows, step = np.arange(len(seeds)), 0
        while step != self.rollout.max_steps:
            tally.see(now[rows], rows)
            if tally.over.all():
                break
            self._check_end(tally, step, envs)
            alive = rows[~tally.over[rows]]
            rows = alive if 2 * len(alive) <= len(rows) else rows
            outputs = self._outputs(act, now[rows], rows)
            drawing = None if generators is None else [generators[row] for row in rows]
            actions = self._decided(outputs, drawing)
            for row, action in zip(rows.tolist(), actions, strict=True):
                if not tally.over[row]:
                    now[row], reward, over = envs[row].step(action)
                    tally.count(row, reward, over)
            step += 1
        return tally.episodes()

    def _check_end(self, tally: Tally, step: int, envs: Sequence[Environment]) -> None:
        if self.rollout.max_steps is not None or step < _ENDLESS:
            return
        if step == _LONG:
            warnings.warn(
                f"an episode has gone on for {step:,} steps; max_steps ends it", BGSWarning,
                stacklevel=2,
            )  # fmt: skip
        if any(env.endless for env, over in zip(envs, tally.over, strict=True) if not over):
            raise ArgumentValueError(
                "max_steps: expected an int, as the environment never says that an episode is "
                "over; got None"
            )

    def close(self) -> None:
        """See :class:`Arena`."""
        for environment in self._made.values():
            environment.close()
        self._made.clear()


def _itself(space: Any) -> Any:
    return space


class _InStep(Players):
    """A vectorised environment of gymnasium, one episode a slot."""

    known_scale: bool

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any], rollout: Rollout) -> None:
        self.env, self.rollout, self.lanes = env, rollout, env.num_envs
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space
        self.actions = actions_of(env.single_action_space, sample=rollout.sample_actions)
        self.known_scale = known_scale(self.observation_space)
        self.observation_shape = observation_shape(self.observation_space) or ()
        mode = env.metadata.get("autoreset_mode")
        self._by_hand = mode == gymnasium.vector.AutoresetMode.DISABLED

    def _observed(self, observations: Any) -> FloatArray:
        space = self.env.observation_space
        each = gymnasium.vector.utils.iterate(space, observations)
        return np.stack([observed(one, self.observation_space) for one in each])

    def play(
        self, act: Act, seeds: Sequence[int], *, observe: bool = False, greedy: bool = False
    ) -> Episodes:
        """See :class:`Arena`; empty slots play along with the first ones, uncounted."""
        self._check_count(seeds, self.lanes)
        count = len(seeds)
        rows = np.arange(self.lanes) % count
        size = int(np.prod(self.observation_shape)) if observe else None
        tally = Tally(count, self.rollout.reward_shift, size)
        drawn = [int(seeds[row]) for row in rows]
        generators = self._generators(drawn, greedy)
        now = self._observed(self.env.reset(seed=drawn)[0])
        step = 0
        while step != self.rollout.max_steps:
            tally.see(now[:count], rows[:count])
            if tally.over.all():
                break
            actions = self._decided(self._outputs(act, now, rows), generators)
            batch = np.asarray(actions, self.env.single_action_space.dtype)
            came, rewards, terminated, truncated, _ = self.env.step(batch)
            over = np.logical_or(terminated, truncated)
            for row in np.flatnonzero(~tally.over).tolist():
                tally.count(row, float(rewards[row]), bool(over[row]))
            if self._by_hand and over.any():
                came, _ = self.env.reset(options={"reset_mask": over})
            now = self._observed(came)
            step += 1
        return tally.episodes()

    def close(self) -> None:
        """See :class:`Arena`; the environment is the caller's and stays open."""


def arena_of(env: Any, rollout: Rollout | None = None) -> Arena:
    """Where episodes of an environment are played.

    Parameters
    ----------
    env : str, EnvSpec, callable, environment, VectorEnv, or a list of them
        A registered name, a function that makes an environment, or one itself: gymnasium's (made
        again by its ``spec`` for each lane) or any object with ``reset`` and ``step``, which has a
        single lane. One of several in a list is drawn for each episode by its seed.
    rollout : Rollout, optional

    Returns
    -------
    Arena

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        (also TypeError, ValueError) for what is no environment, and for spaces that differ.

    Examples
    --------
    >>> arena = arena_of("CartPole-v1", Rollout(lanes=2))
    >>> right = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    >>> arena.play(lambda observations, rows: observations @ right.T, seeds=[1, 2]).lengths > 8
    array([ True,  True])
    """
    rollout = Rollout() if rollout is None else rollout
    if not isinstance(rollout, Rollout):
        raise ArgumentTypeError(f"rollout: expected a Rollout; got {rollout!r}")
    if isinstance(env, gymnasium.vector.VectorEnv):
        return _InStep(env, rollout)
    makers, many = makers_of(env)
    return _Separate(makers, (rollout.lanes or _LANES) if many else 1, rollout)
