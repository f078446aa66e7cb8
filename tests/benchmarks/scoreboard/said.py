"""What a package says: warnings, messages of loggers, errors in words."""

import logging
import re
import warnings
from contextlib import contextmanager

__all__ = ["attempt", "heard", "is_clear", "named"]

OWN = re.compile(r"nan\b|\binf|infinit|finite|fail|invalid|clipp|acceptable", re.IGNORECASE)
STRAY = re.compile(r"encountered in|Mean of empty slice|All-NaN")


@contextmanager
def heard():
    """Everything that is said of bad values meanwhile: warnings and messages of loggers.

    What NumPy says of an arithmetic that met them by accident does not count.
    """
    said = []

    class Handler(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    handler = Handler(logging.WARNING)
    loggers = [logging.getLogger(name) for name in (None, "optuna", "evotorch")]
    for logger in loggers:
        logger.addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield said
        finally:
            for logger in loggers:
                logger.removeHandler(handler)
            said += [str(warning.message) for warning in caught]
            said[:] = [text for text in said if OWN.search(text) and not STRAY.search(text)]


def attempt(call):
    """What a call raises, or None."""
    try:
        call()
    except Exception as error:
        return error
    return None


PRIVATE = re.compile(r"\x1b\[\d*m|0x[0-9a-f]{6,}|pid=\d+, ip=[\d.]+|(?<![\w.])(?:/[\w.+-]+){2,}")
"""What differs from machine to machine: colours, addresses, processes, paths."""


def named(error):
    """An error in words."""
    text = " ".join(PRIVATE.sub("", str(error)).split())
    return (
        f"{type(error).__name__}: {text[:90]}" if text else f"{type(error).__name__} without text"
    )


def is_clear(error):
    """Whether an error is of a type for mistakes (no assert), with a text."""
    return isinstance(error, (TypeError, ValueError)) and bool(str(error).strip())
