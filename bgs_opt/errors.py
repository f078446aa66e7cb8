"""Exceptions and warning categories of bgs_opt.

Every exception is also a builtin one, so that callers who know nothing of this package
can catch what they always caught. Errors are for the caller's mistakes, warnings for the
objective's.
"""

from __future__ import annotations

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "BGSError",
    "BGSWarning",
    "CheckpointError",
    "DuplicateTellError",
    "NonFiniteValueError",
    "NonFiniteValueWarning",
    "SearchStalledError",
    "SigmaClampedWarning",
    "SkippedUpdateWarning",
    "StaleCandidateError",
    "UnknownCandidateError",
    "WorkerLostWarning",
]


class BGSError(Exception):
    """Base of all errors that bgs_opt raises itself."""


class ArgumentValueError(BGSError, ValueError):
    """An argument has the right type and a value that cannot be used."""


class ArgumentTypeError(BGSError, TypeError):
    """An argument has a type that cannot be used."""


class UnknownCandidateError(BGSError, LookupError):
    """An id was told or discarded that this optimizer never asked."""


class StaleCandidateError(UnknownCandidateError):
    """An id was told whose generation closed too long ago to be remembered."""


class DuplicateTellError(BGSError, ValueError):
    """An id was told a second time with another value."""


class NonFiniteValueError(BGSError, ValueError):
    """A value is NaN or infinite and ``on_failure="raise"`` was asked for."""


class SearchStalledError(BGSError, RuntimeError):
    """Too many generations in a row ended without a usable pair."""


class CheckpointError(BGSError, ValueError):
    """A checkpoint is damaged, of another format, or does not fit."""


class BGSWarning(UserWarning):
    """Base of all warnings of bgs_opt; each is issued once per cause and run."""


class NonFiniteValueWarning(BGSWarning):
    """The objective returned NaN or an infinite value."""


class SkippedUpdateWarning(BGSWarning):
    """A generation closed without enough usable pairs; nothing moved."""


class SigmaClampedWarning(BGSWarning):
    """Sigma reached its floor or its ceiling."""


class WorkerLostWarning(BGSWarning):
    """A worker died or exceeded its deadline; the evaluation was tried again or given up."""
