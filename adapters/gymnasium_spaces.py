"""Between numbers and the spaces of gymnasium: outputs of a policy as actions, observations as
arrays of numbers.
"""  # noqa: D205

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.gymnasium", extra="gym"):
    from gymnasium import spaces

from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import wrong_type

__all__ = [
    "Actions",
    "actions_of",
    "described",
    "known_scale",
    "observation_shape",
    "observed",
    "space_of",
]

_OPEN = 1e6
"""From this size on a side is open: that is often written as the largest number of its type."""
Outputs = npt.NDArray[Any]
Generators = Sequence[np.random.Generator] | None


class Actions(Protocol):
    """How outputs of a policy become actions."""

    @property
    def size(self) -> int | None:
        """Outputs that the policy must have; None: any number of them is an action."""
        ...

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of an action; None: any."""
        ...

    def __call__(self, outputs: Outputs, generators: Generators) -> Sequence[Any]:
        """Actions of outputs (n, size): greedy, or drawn by one generator each."""
        ...


def _gumbel(outputs: Outputs, generators: Generators) -> Outputs:
    """Logits to which noise was added whose argmax is a draw (Gumbel 1954)."""
    if generators is None:
        return outputs
    return outputs + np.stack([g.gumbel(size=outputs.shape[1:]) for g in generators])


class _Choices:
    """One choice (Discrete), or several (MultiDiscrete), each the largest of its outputs."""

    def __init__(self, space: spaces.Discrete[Any] | spaces.MultiDiscrete[Any]) -> None:
        self.several = isinstance(space, spaces.MultiDiscrete)
        self.counts = np.asarray(getattr(space, "nvec", getattr(space, "n", None))).reshape(-1)
        self.start = np.asarray(space.start).reshape(-1)
        self.shape = space.shape or ()
        self.size = int(self.counts.sum())

    def __call__(self, outputs: Outputs, generators: Generators) -> Sequence[Any]:
        scores = _gumbel(outputs, generators)
        if not self.several:
            return list(np.argmax(scores, axis=1) + self.start[0])
        edges = np.cumsum(self.counts)[:-1]
        parts = [np.argmax(part, axis=1) for part in np.split(scores, edges, axis=1)]
        return list((np.stack(parts, axis=1) + self.start).reshape(-1, *self.shape))


class _Switches:
    """MultiBinary: on where the output, a log-odds, is above 0."""

    def __init__(self, space: spaces.MultiBinary) -> None:
        self.shape = space.shape
        self.size = int(np.prod(self.shape))

    def __call__(self, outputs: Outputs, generators: Generators) -> Sequence[Any]:
        if generators is not None:
            noise = [g.logistic(size=outputs.shape[1:]) for g in generators]
            outputs = outputs + np.stack(noise)
        return list((outputs > 0).astype(np.int8).reshape(-1, *self.shape))


class _Boxed:
    """Box: -1 .. 1 is the range of each action, outputs beyond it are at its end.

    Where a side is open, outputs are actions as they are. With ``sample`` the second half of the
    outputs is log standard deviations of the first, which alone are the actions where nothing is
    drawn.
    """

    def __init__(self, space: spaces.Box, sample: bool) -> None:
        self.low, self.high = (np.asarray(x, np.float64).reshape(-1)
                               for x in (space.low, space.high))  # fmt: skip
        self.closed = (np.abs(self.low) < _OPEN) & (np.abs(self.high) < _OPEN)
        closed = self.closed
        self.middle = np.zeros(len(closed))
        self.half = np.ones(len(closed))
        self.middle[closed] = self.low[closed] / 2 + self.high[closed] / 2
        self.half[closed] = self.high[closed] / 2 - self.low[closed] / 2
        self.shape, self.dtype = space.shape, np.dtype(space.dtype)
        self.size = len(closed) * (2 if sample else 1)

    def __call__(self, outputs: Outputs, generators: Generators) -> Sequence[Any]:
        count = len(self.half)
        outputs, spread = outputs[:, :count], outputs[:, count:]
        if generators is not None:
            noise = np.stack([g.standard_normal(count) for g in generators])
            outputs = outputs + np.exp(np.clip(spread, -20, 2)) * noise
        inside = np.where(self.closed, np.clip(outputs, -1, 1), outputs)
        actions = np.clip(self.middle + self.half * inside, self.low, self.high)
        if self.dtype.kind in "iu":
            actions = np.rint(actions)
        return list(actions.astype(self.dtype).reshape(-1, *self.shape))


class _Straight:
    """Outputs are actions: an environment that says nothing of its actions."""

    size = shape = None

    def __call__(self, outputs: Outputs, generators: Generators) -> Sequence[Any]:
        return list(outputs)


def actions_of(space: object, *, sample: bool = False) -> Actions:
    """How outputs of a policy become actions of a space.

    Parameters
    ----------
    space : gymnasium.Space or None
        Discrete, MultiDiscrete (an argmax each), MultiBinary (output > 0) or Box (-1 .. 1 is its
        range). None: outputs are actions as they are.
    sample : bool
        Draw actions: outputs are logits, or for Box means and then log standard deviations.

    Raises
    ------
    ArgumentTypeError
        For other spaces.

    Examples
    --------
    >>> actions = actions_of(spaces.Box(0.0, 10.0, (1,)))
    >>> [float(a[0]) for a in actions(np.array([[-1.0], [0.5], [7.0]]), None)]
    [0.0, 7.5, 10.0]
    """
    if space is None:
        if sample:
            raise ArgumentValueError(
                "sample_actions: expected False, as the environment has no action_space; got True"
            )
        return _Straight()
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return _Choices(space)
    if isinstance(space, spaces.MultiBinary):
        return _Switches(space)
    if isinstance(space, spaces.Box):
        return _Boxed(space, sample)
    wrong_type("action_space", "Discrete, MultiDiscrete, MultiBinary, Box or None", space)


# ---- observations


def observation_shape(space: object) -> tuple[int, ...] | None:
    """Shape of what the policy gets: that of a Box, or (n,) of any other space, flattened.

    Choices are one-hot. None for an environment that says nothing of its observations.
    """
    if space is None:
        return None
    if isinstance(space, spaces.Box):
        return tuple(space.shape)
    if not isinstance(space, spaces.Space) or not space.is_np_flattenable:
        wrong_type("observation_space", "a space that can be flattened", space)
    return (spaces.flatdim(space),)


def known_scale(space: object) -> bool:
    """Whether the space says how large observations are: every side of it is closed."""
    if isinstance(space, spaces.Box):
        return bool((np.abs([space.low, space.high]) < _OPEN).all())
    return space is not None


def observed(observation: Any, space: object) -> FloatArray:
    """Observation as an array of float32 of :func:`observation_shape`.

    Lists, tuples, scalars and tensors will do.
    """
    if space is None or isinstance(space, spaces.Box):
        if hasattr(observation, "detach"):
            observation = observation.detach().cpu()
        try:
            return np.asarray(observation, np.float32)
        except (TypeError, ValueError) as error:
            raise ArgumentTypeError(
                f"observation: expected numbers; got {type(observation).__name__} ({error})"
            ) from error
    flat: Any = spaces.flatten(space, observation)
    return np.asarray(flat, np.float32)


# ---- as JSON


def described(space: Any) -> Any:
    """A space in JSON values; None where it is of a kind that is not kept."""
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
        inner = [[name, described(part)] for name, part in
                 (space.spaces.items() if named else enumerate(space.spaces))]  # fmt: skip
        kind = "Dict" if named else "Tuple"
        return {"kind": kind, "spaces": inner} if all(part for _, part in inner) else None
    return None


def space_of(saved: Any) -> Any:
    """The space that :func:`described` wrote."""
    if saved is None:
        return None
    given = dict(saved)
    kind = given.pop("kind")
    if kind == "Box":
        dtype = np.dtype(given["dtype"])
        if dtype.kind not in "fiub":
            raise ArgumentValueError(f"dtype: expected one of plain numbers; got {dtype}")
        sides = [np.array(given[side], dtype) for side in ("low", "high")]
        return spaces.Box(*sides, dtype=dtype.type)
    if kind in ("Dict", "Tuple"):
        inner = [(name, space_of(part)) for name, part in given["spaces"]]
        return spaces.Dict(inner) if kind == "Dict" else spaces.Tuple([part for _, part in inner])
    made = {"Discrete": spaces.Discrete, "MultiDiscrete": spaces.MultiDiscrete,
            "MultiBinary": spaces.MultiBinary}  # fmt: skip
    return made[kind](**given)
