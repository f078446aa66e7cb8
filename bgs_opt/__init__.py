"""Blackbox Gradient Sensing: an evolution strategy for noisy, non-differentiable objectives."""

from bgs_opt.bgs import BGS
from bgs_opt.candidates import Candidates
from bgs_opt.directions import QR, Factorised, Gaussian, GaussianTable, Rademacher
from bgs_opt.hadamard import Hadamard
from bgs_opt.ledger import TellReport
from bgs_opt.minimize import minimize
from bgs_opt.optimizers import SGD, Adam, ClipUp
from bgs_opt.options import Options
from bgs_opt.sigma import CumulativeAdaptation, ExponentialDecay, LinearDecay
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
    "ExponentialDecay",
    "Factorised",
    "Gaussian",
    "GaussianTable",
    "Hadamard",
    "LinearDecay",
    "Options",
    "Rademacher",
    "TellReport",
    "__version__",
    "minimize",
]
