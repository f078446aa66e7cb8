"""Normalisation of observations as a module that a policy carries with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import torch
    from torch import nn

from bgs_opt.normalization import RunningMoments

__all__ = ["Normalizer"]

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
