"""Fitnesses that are no numbers, and fitnesses that are equal."""

from __future__ import annotations

import warnings

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.evotorch", extra="evotorch"):
    import torch

from bgs_opt.errors import NonFiniteValueWarning

__all__ = ["tied", "warned_of"]


def warned_of(fitnesses: torch.Tensor) -> bool:
    """Warn of fitnesses that are not finite, where they can be seen without waiting."""
    bad = 0
    if fitnesses.device.type == "cpu":
        bad = len(fitnesses) - int(torch.isfinite(fitnesses).sum())
    if bad:
        message = (f"{bad} of {len(fitnesses)} fitnesses are NaN or infinite; they count as the "
                   "worst finite one of their generation")  # fmt: skip
        warnings.warn(message, NonFiniteValueWarning, stacklevel=4)
    return bad > 0


def tied(utilities: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """Utilities (n,) with the mean of theirs for equal rewards (n,); 0 instead of NaN.

    EvoTorch ranks equal fitnesses by their places, and its "normalized" divides 0 by 0.
    """
    ordered, order = rewards.sort()
    first = ordered.new_ones(1, dtype=torch.bool)
    group = torch.cat([first, ordered[1:] != ordered[:-1]]).cumsum(0) - 1
    zeros = torch.zeros_like(utilities)
    total = zeros.index_add(0, group, utilities[order])
    number = zeros.index_add(0, group, torch.ones_like(utilities))
    means = (total / number.clamp(min=1))[group]
    return means[order.argsort()].nan_to_num(0.0)
