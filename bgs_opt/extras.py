"""Packages that only some modules need, and the extras of this one that install them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

__all__ = ["needs"]


@contextlib.contextmanager
def needs(module: str, extra: str = "") -> Iterator[None]:
    """Have the imports of a ``with`` say what to install where a package is missing.

    A package that is there and fails to load raises its own error.

    Parameters
    ----------
    module : str
        Who needs them.
    extra : str
        Extras that install them, with commas between; "" where bgs-opt itself does.

    Raises
    ------
    ImportError
        From the ModuleNotFoundError of a missing package.

    Examples
    --------
    >>> with needs("bgs_opt.adapters.torch", extra="torch"):
    ...     raise ModuleNotFoundError("No module named 'torch'", name="torch")
    Traceback (most recent call last):
    ImportError: bgs_opt.adapters.torch needs torch: pip install 'bgs-opt[torch]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package, _, part = (error.name or "").partition(".")
        blocked = sys.modules.get(package, package) is None
        if not package or (part and not blocked):  # it is there, only a part of it is not
            raise
        requirement = f"'bgs-opt[{extra}]'" if extra else "bgs-opt"
        raise ImportError(
            f"{module} needs {package}: pip install {requirement}", name=package
        ) from error
