"""Numbers and arrays as one .npz file: no pickle, a format version, a checksum.

    header   JSON: format, sha256, the body (JSON too)
    NAME     each array, as .npy, stored without compression

Nothing is built from a file but what its owner makes of the body, and no array is read before
its size was compared with the size of the file. The head of an array is matched by a pattern: no
expression of it is evaluated.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from bgs_opt.errors import CheckpointError

__all__ = ["Arrays", "damage", "digest", "dump", "load", "opened", "stored"]

Arrays: TypeAlias = dict[str, np.ndarray[Any, Any]]
_STAMP = (1980, 1, 1, 0, 0, 0)  # equal runs give equal files
_TEXT = 1 << 24  # bytes of a header: JSON takes some thirty times its size in memory
_HEAD = re.compile(
    rb"\x93NUMPY(?:\x01\x00..|[\x02\x03]\x00....)"
    rb"\{'descr': '([^'\\]{1,16})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\),? ?\} *\n",
    re.DOTALL,
)
_PLAIN = re.compile(r"[<>=|]?[fiub][1248]|\?|\|b1")


def digest(body: str, arrays: Arrays) -> str:
    """SHA-256 of a text and of the names, dtypes, shapes and bytes of arrays, as hex digits."""
    total = hashlib.sha256(body.encode())
    for name, array in arrays.items():
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def dump(file: BinaryIO, version: int, body: str, arrays: Arrays) -> None:
    """Write a body and its arrays into a binary file that is open."""
    head = {"format": version, "sha256": digest(body, arrays), "body": body}
    header = np.frombuffer(json.dumps(head).encode(), np.uint8)
    if header.nbytes > _TEXT:
        raise CheckpointError(
            f"expected at most {_TEXT} bytes of text in a file; got {header.nbytes}"
        )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in {"header": header, **arrays}.items():
            with archive.open(
                zipfile.ZipInfo(f"{name}.npy", _STAMP), "w", force_zip64=True
            ) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


@contextlib.contextmanager
def damage(
    path: str | os.PathLike[str],
    what: str = "a checkpoint of bgs_opt",
    *others: type[Exception],
) -> Iterator[None]:
    """Turn whatever a damaged file provokes into one error, which names the file.

    Raises
    ------
    CheckpointError
        For every exception but those of a file that is missing or may not be read, of a package
        that is not installed, and ``others``.
    """
    name = os.fspath(path)
    passed: tuple[type[Exception], ...] = (
        FileNotFoundError,
        PermissionError,
        IsADirectoryError,
        ImportError,
        *others,
    )
    try:
        yield
    except passed:
        raise
    except CheckpointError as error:
        if str(error).startswith(str(name)):
            raise
        raise CheckpointError(f"{name}: expected {what}; {error}") from error
    except MemoryError as error:
        raise CheckpointError(f"{name}: not enough memory to load it") from error
    except Exception as error:
        raise CheckpointError(
            f"{name}: expected {what}; it is damaged or something else "
            f"({type(error).__name__}: {error})"
        ) from error


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read; a pipe or a device may have no end."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise CheckpointError("got a pipe or a device")
    return open(path, "rb")


def stored(file: BinaryIO, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each entry of a .zip file that is no larger than it says.

    Raises
    ------
    CheckpointError
        If entries are compressed, or claim more than the file holds.
    """
    with zipfile.ZipFile(file) as archive:
        length = file.seek(0, os.SEEK_END)
        infos = archive.infolist()
        for info in infos:
            claimed = max(info.file_size, info.compress_size)
            if info.compress_type != zipfile.ZIP_STORED or claimed > length:
                raise CheckpointError(
                    f"{name}: entry {info.filename} claims {claimed} bytes in a file of {length}"
                )
        if sum(info.file_size for info in infos) > length:
            raise CheckpointError(f"{name}: its entries claim more than its size")
        for info in infos:
            yield info.filename, archive.read(info)


def _array_of(data: bytes, name: str) -> np.ndarray[Any, Any]:
    """Array of one .npy entry, after its claimed shape was compared with its size."""
    head = _HEAD.match(data)
    if head is None:
        raise CheckpointError(f"{name}: expected an array of plain numbers; it is damaged")
    kind, fortran, sides = (part.decode("latin-1") for part in head.groups())
    shape = tuple(int(side) for side in sides.split(",") if side.strip())
    rest = len(data) - head.end()
    plain = _PLAIN.fullmatch(kind) is not None and fortran == "False"
    if not plain or math.prod(shape) * np.dtype(kind).itemsize != rest:
        raise CheckpointError(
            f"{name}: expected {rest} bytes of plain numbers; its header claims shape "
            f"{shape} of {kind}"
        )
    return np.frombuffer(data, kind, offset=head.end()).reshape(shape).copy()


def load(file: BinaryIO, name: str, version: int) -> tuple[Any, Arrays]:
    """Read body and arrays from a binary file that is open; ``name`` is for messages.

    Raises
    ------
    CheckpointError
        If the file claims more than it holds, has another format version, or its checksum does
        not match. Other damage raises other errors: call it within :func:`damage`.
    """
    arrays: Arrays = {}
    for entry, data in stored(file, name):
        if not entry.endswith(".npy"):
            torch = " (a policy or a run of train())" if entry.endswith("/data.pkl") else ""
            raise CheckpointError(f"got an archive with {entry}{torch}")
        arrays[entry.removesuffix(".npy")] = _array_of(data, f"{name}: {entry}")
    if "header" not in arrays:
        raise CheckpointError("got an .npz without a header of bgs_opt")
    if arrays["header"].nbytes > _TEXT:
        raise CheckpointError(f"{name}: expected at most {_TEXT} bytes of text in its header")
    head = json.loads(arrays.pop("header").tobytes().decode())  # UTF-8, no other codec
    if head["format"] != version:
        raise CheckpointError(
            f"{name}: expected format {version}; got {head['format']}. "
            "Load it with the version of bgs_opt that wrote it"
        )
    if digest(head["body"], arrays) != head["sha256"]:
        raise CheckpointError(f"{name}: its checksum does not match; it is damaged")
    return json.loads(head["body"]), arrays
