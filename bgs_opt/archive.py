"""Numbers and arrays as one .npz file: no pickle, a format version, a checksum.

    header   JSON: format, sha256, the body (JSON too)
    NAME     each array, as .npy, stored without compression

Nothing is built from a file but what its owner makes of the body, and no array is read before
its size was compared with the size of the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from bgs_opt.errors import CheckpointError

__all__ = ["Arrays", "damage", "digest", "dump", "load"]

Arrays: TypeAlias = dict[str, np.ndarray[Any, Any]]
_STAMP = (1980, 1, 1, 0, 0, 0)  # equal runs give equal files


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
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in {"header": header, **arrays}.items():
            with archive.open(
                zipfile.ZipInfo(f"{name}.npy", _STAMP), "w", force_zip64=True
            ) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


@contextlib.contextmanager
def damage(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever a damaged file provokes into one error.

    Raises
    ------
    CheckpointError
        For every exception but those of a file that is missing or may not be read.
    """
    try:
        yield
    except (CheckpointError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except MemoryError as error:
        raise CheckpointError(f"{os.fspath(path)}: not enough memory to load it") from error
    except Exception as error:
        raise CheckpointError(
            f"{os.fspath(path)}: expected a checkpoint of bgs_opt; it is damaged or something "
            f"else ({type(error).__name__}: {error})"
        ) from error


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    """Read one .npy entry, after its claimed shape was compared with its size."""
    data = io.BytesIO(archive.read(info))
    version = np.lib.format.read_magic(data)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(data)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(data)
    count = 1
    for side in shape:
        count *= int(side)
    rest = info.file_size - data.tell()
    if dtype.kind not in "fiub" or fortran or count * dtype.itemsize != rest:
        raise CheckpointError(
            f"{info.filename}: expected {rest} bytes of plain numbers; its header claims shape "
            f"{shape} of {dtype}"
        )
    numbers = np.frombuffer(data.getbuffer(), dtype, offset=data.tell())
    return np.array(numbers.reshape(shape))


def load(file: BinaryIO, name: str, version: int) -> tuple[Any, Arrays]:
    """Read body and arrays from a binary file that is open; ``name`` is for messages.

    Raises
    ------
    CheckpointError
        If the file claims more than it holds, has another format version, or its checksum does
        not match. Other damage raises other errors: call it within :func:`damage`.
    """
    with zipfile.ZipFile(file) as archive:
        length = file.seek(0, os.SEEK_END)
        infos = archive.infolist()
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > length:
                raise CheckpointError(
                    f"{name}: entry {info.filename} claims {info.file_size} bytes "
                    f"in a file of {length}"
                )
        if sum(info.file_size for info in infos) > length:
            raise CheckpointError(f"{name}: its entries claim more than its size")
        arrays = {info.filename.removesuffix(".npy"): _read_array(archive, info) for info in infos}
    head = json.loads(arrays.pop("header").tobytes())
    if head["format"] != version:
        raise CheckpointError(
            f"{name}: expected format {version}; got {head['format']}. "
            "Load it with the version of bgs_opt that wrote it"
        )
    if digest(head["body"], arrays) != head["sha256"]:
        raise CheckpointError(f"{name}: its checksum does not match; it is damaged")
    return json.loads(head["body"]), arrays
