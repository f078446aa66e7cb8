"""Pictures of a training: the learning curve, and an episode as a GIF."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from bgs_opt.errors import ArgumentValueError
from bgs_opt.protocols import FloatArray

from .gymnasium_environments import Environment
from .policy_module import Policy

__all__ = ["film", "plot_training"]

_MEAN, _EVALUATION = "#f0a04b", "#0b4f8a"
_FRAMES_PER_SECOND = 25
_WIDTH = 320
"""Of a GIF, in pixels."""


def plot_training(
    history: dict[str, FloatArray], path: str | os.PathLike[str] | None = None, title: str = ""
) -> Any:
    """Draw returns over episodes.

    Parameters
    ----------
    history : dict of ndarray
        Of a :class:`bgs_opt.adapters.policy.TrainResult`.
    path : path, optional
        Where the picture is written; the suffix says the format.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    episodes = history["episodes"]
    axes.plot(episodes, history["mean_return"], color=_MEAN, lw=1.2,
              label="mean of the training episodes")  # fmt: skip
    there = np.isfinite(history["evaluation"])
    axes.plot(episodes[there], history["evaluation"][there], "o-", color=_EVALUATION, lw=2, ms=4,
              label="evaluation of the center")  # fmt: skip
    axes.set(xlabel="training episodes", ylabel="return", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def film(
    policy: Policy, env: Any, path: str | os.PathLike[str], *, seed: int = 0, max_steps: int = 1000
) -> float:
    """Play one episode and write it as a GIF.

    Parameters
    ----------
    policy : Policy
    env : gymnasium.Env
        Made with ``render_mode="rgb_array"``.
    path : path
        ``.gif``.
    seed : int
        Of the episode.
    max_steps : int

    Returns
    -------
    float
        Its return.
    """
    from PIL import Image

    if getattr(env, "render_mode", None) != "rgb_array":
        raise ArgumentValueError(
            "env: expected an environment made with render_mode='rgb_array'; got "
            f"{getattr(env, 'render_mode', None)!r}"
        )
    every = max(1, round(env.metadata.get("render_fps", 50) / _FRAMES_PER_SECOND))
    frames: list[Any] = []
    environment = Environment(env)
    policy.reset()
    observation, total, over, step = environment.reset(seed), 0.0, False, 0
    while not over and step < max_steps:
        if step % every == 0:
            picture = Image.fromarray(np.asarray(env.render(), np.uint8))
            size = _WIDTH, round(picture.height * _WIDTH / picture.width)
            frames.append(picture.resize(size).quantize(64))
        observation, reward, over = environment.step(policy(observation))
        total, step = total + reward, step + 1
    policy.reset()
    frames[0].save(path, save_all=True, append_images=frames[1:], loop=0, optimize=True,
                   duration=1000 // _FRAMES_PER_SECOND)  # fmt: skip
    return total
