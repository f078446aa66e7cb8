"""Blackbox Gradient Sensing: an evolution strategy for noisy, non-differentiable objectives.

A name is imported when it is first used: a worker process needs few of them and starts sooner.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bgs_opt.bgs import BGS
    from bgs_opt.candidates import Candidates
    from bgs_opt.directions import QR, Factorised, Gaussian, GaussianTable, Rademacher
    from bgs_opt.gene_generation import EvolutionReport
    from bgs_opt.gene_pool import GenePool
    from bgs_opt.hadamard import Hadamard
    from bgs_opt.ledger import TellReport
    from bgs_opt.minimization import minimize
    from bgs_opt.optimizers import SGD, Adam, ClipUp
    from bgs_opt.options import Options
    from bgs_opt.sigma import CumulativeAdaptation, ExponentialDecay, InverseDecay, LinearDecay
    from bgs_opt.state import Best

__version__ = "0.1.0"

__all__ = [
    "BGS",
    "QR",
    "SGD",
    "Adam",
    "Best",
    "Candidates",
    "ClipUp",
    "CumulativeAdaptation",
    "EvolutionReport",
    "ExponentialDecay",
    "Factorised",
    "Gaussian",
    "GaussianTable",
    "GenePool",
    "Hadamard",
    "InverseDecay",
    "LinearDecay",
    "Options",
    "Rademacher",
    "TellReport",
    "__version__",
    "minimize",
]

_NAMES_OF = {
    "bgs": ["BGS"],
    "candidates": ["Candidates"],
    "directions": ["QR", "Factorised", "Gaussian", "GaussianTable", "Rademacher"],
    "gene_generation": ["EvolutionReport"],
    "gene_pool": ["GenePool"],
    "hadamard": ["Hadamard"],
    "ledger": ["TellReport"],
    "minimization": ["minimize"],
    "optimizers": ["SGD", "Adam", "ClipUp"],
    "options": ["Options"],
    "sigma": ["CumulativeAdaptation", "ExponentialDecay", "InverseDecay", "LinearDecay"],
    "state": ["Best"],
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
