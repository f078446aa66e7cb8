"""Environments of all kinds behind one ``reset`` and one ``step``.

gymnasium's, older gym's, and plain objects: ``reset`` gives an observation, or that and a dict;
``step`` gives 2 to 5 values:

    observation, reward                                  (an episode of max_steps)
    observation, reward, done
    observation, reward, done, info                      info is a dict
    observation, reward, terminated, truncated           both are bools
    observation, reward, terminated, truncated, info
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.gymnasium", extra="gym"):
    import gymnasium

from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import describe, wrong_type

from .gymnasium_spaces import observed

__all__ = ["Environment", "Maker", "choices", "makers_of", "named_environment"]

Maker = Callable[[], Any]


class Environment:
    """One environment, whatever its interface.

    Parameters
    ----------
    env : object
        With ``reset`` and ``step``; ``observation_space`` and ``action_space`` if it has them.

    Attributes
    ----------
    observation_space, action_space : gymnasium.Space or None
    endless : bool
        Whether ``step`` was seen not to say when an episode ends.
    """

    def __init__(self, env: Any) -> None:
        for method in ("reset", "step"):
            if not callable(getattr(env, method, None)):
                wrong_type("env", f"an object with the method {method}", env)
        self.env = env
        self.observation_space = getattr(env, "observation_space", None)
        self.action_space = getattr(env, "action_space", None)
        self.endless = False
        self._seeded = _takes_seed(env)

    def reset(self, seed: int) -> FloatArray:
        """Begin an episode; the seed is ignored by environments that take none."""
        if self._seeded:
            came = self.env.reset(seed=seed)
        else:
            if callable(getattr(self.env, "seed", None)):
                self.env.seed(seed)
            came = self.env.reset()
        if isinstance(came, tuple) and len(came) == 2 and isinstance(came[1], dict):
            space = self.observation_space  # where both may be the observation
            if not (isinstance(space, gymnasium.spaces.Tuple) and space.contains(came)):
                came = came[0]
        return observed(came, self.observation_space)

    def step(self, action: Any) -> tuple[FloatArray, float, bool]:
        """Observation, reward, and whether the episode is over."""
        came = self.env.step(action)
        if not isinstance(came, (tuple, list)) or not 2 <= len(came) <= 5:
            raise ArgumentTypeError(
                "env.step: expected a tuple of 2 to 5 values (observation, reward, terminated, "
                f"truncated, info); got {describe(came)}"
            )
        observation, reward, *rest = came
        self.endless = not rest
        flags = rest[:1] if len(rest) == 2 and isinstance(rest[1], dict) else rest[:2]
        over = any(bool(_single(flag)) for flag in flags)
        return observed(observation, self.observation_space), float(_single(reward)), over

    def close(self) -> None:
        """Free what the environment holds."""
        if callable(getattr(self.env, "close", None)):
            self.env.close()


def _single(value: Any) -> Any:
    """The number in a scalar, array or tensor of one element."""
    return value.item() if hasattr(value, "item") else value


def _takes_seed(env: Any) -> bool:
    try:
        parameters = inspect.signature(env.reset).parameters.values()
    except (TypeError, ValueError):
        return False
    older = callable(getattr(env, "seed", None))  # wrappers of those pass any keyword on
    return any(p.name == "seed" or (p.kind == p.VAR_KEYWORD and not older) for p in parameters)


@dataclass(frozen=True)
class _Made:
    """Makes a registered environment; can be pickled."""

    spec: str | gymnasium.envs.registration.EnvSpec

    def __call__(self) -> Any:
        return gymnasium.make(self.spec, disable_env_checker=True)  # which costs time each step


@dataclass(frozen=True)
class _Given:
    """An object that cannot be made again: there is one of it."""

    env: Any

    def __call__(self) -> Any:
        return self.env


def makers_of(env: Any) -> tuple[tuple[Maker, ...], bool]:
    """What makes each of the environments, and whether they can be made more than once.

    Parameters
    ----------
    env : str, EnvSpec, callable, gymnasium.Env, object, or a list of them
        A registered name; a function that makes one; or an environment itself, which is made
        again by its ``spec`` if it has one.
    """
    given = env if isinstance(env, (list, tuple)) else [env]
    if not given:
        raise ArgumentValueError("env: expected at least one environment; got an empty list")
    makers = tuple(_maker(one) for one in given)
    return makers, not any(isinstance(maker, _Given) for maker in makers)


def _maker(env: Any) -> Maker:
    if isinstance(env, (str, gymnasium.envs.registration.EnvSpec)):
        return _Made(env)
    if isinstance(env, gymnasium.Env) and (spec := _spec_of(env)) is not None:
        return _Made(spec)
    if callable(getattr(env, "step", None)) and not isinstance(env, type):
        return _Given(env)
    if callable(env):
        maker: Maker = env
        return maker
    wrong_type(
        "env",
        "the name of a registered environment, a function that makes one, an environment, or a "
        "list of them",
        env,
    )


def named_environment(env: Any) -> dict[str, Any] | None:
    """Name and arguments of a registered environment, if JSON can say them; else None."""
    maker = _maker(env) if not isinstance(env, (list, tuple)) else None
    if not isinstance(maker, _Made):
        return None
    spec = gymnasium.spec(maker.spec) if isinstance(maker.spec, str) else maker.spec
    kwargs = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    try:
        json.dumps(kwargs)
    except (TypeError, ValueError):
        return None
    return {"id": spec.id, "kwargs": kwargs}


def _spec_of(env: gymnasium.Env[Any, Any]) -> Any:
    """What makes the environment again; None where a wrapper does not say how it was made."""
    spec = env.spec
    wrappers = () if spec is None else spec.additional_wrappers
    return None if any(wrapper.kwargs is None for wrapper in wrappers) else spec


def choices(seeds: Sequence[int], count: int) -> np.ndarray[Any, Any]:
    """Which of several environments each episode is played in, drawn by its seed."""
    if count == 1:
        return np.zeros(len(seeds), np.int64)
    draws = [np.random.SeedSequence((int(seed), 1)).generate_state(1)[0] for seed in seeds]
    return np.asarray(draws, np.int64) % count
