"""Files that are replaced as a whole: whoever reads one finds the old or the new, never a part."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["replaced"]

_WRITING: set[Path] = set()  # temporary files of this process


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to be written anew; what was there stays until all is written.

    It is a temporary file in the same folder, is flushed to the disk and takes the place of
    ``path`` in one step. A symbolic link stays, its target is replaced.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full.
    """
    target = Path(os.path.realpath(path))
    _sweep(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    _WRITING.add(temporary)
    try:
        with open(temporary, "xb") as file:
            with contextlib.suppress(FileNotFoundError):
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        _WRITING.discard(temporary)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(target: Path) -> None:
    """Remove what a killed process left of an earlier save."""
    for stale in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        owner = stale.name.removeprefix(f".{target.name}.").split(".")[0]
        if owner.isdigit() and stale not in _WRITING and not _alive(int(owner)):
            stale.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Whether another process has this number. A restarted container's process has its old one."""
    if process == os.getpid():
        return False
    if os.name != "posix":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
