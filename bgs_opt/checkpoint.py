"""A run as one .npz file: no pickle, a format version, a checksum, written atomically.

    header   JSON: format, sha256, the tree of numbers and names; arrays stand as {"!": "array"}
    a0, a1.. the arrays, as .npy, stored without compression

Loading builds only the classes named here, and reads no array before its size was compared
with the size of the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from bgs_opt.atomic import replaced
from bgs_opt.automatic import AutomaticState
from bgs_opt.config import Config
from bgs_opt.errors import CheckpointError
from bgs_opt.options import REGISTERED, Options
from bgs_opt.state import Generation, State

__all__ = ["FORMAT", "describe", "dump", "load", "read", "write"]

FORMAT = 1
_CLASSES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (AutomaticState, Config, Generation, Options, State)
} | REGISTERED
_STAMP = (1980, 1, 1, 0, 0, 0)  # equal runs give equal files

Arrays = dict[str, np.ndarray[Any, Any]]


def _encode(value: Any, arrays: Arrays) -> Any:
    """Tree of JSON values; arrays go to ``arrays``, the same array only once."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        for name, array in arrays.items():
            if array is value:
                return {"!": "array", "name": name}
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {"!": "array", "name": name}
    if isinstance(value, tuple):
        return {"!": "tuple", "items": [_encode(item, arrays) for item in value]}
    if isinstance(value, list):
        return [_encode(item, arrays) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"!": "dict", "items": {k: _encode(v, arrays) for k, v in value.items()}}
    kind = type(value).__name__
    if _CLASSES.get(kind) is type(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"!": kind, "items": {k: _encode(v, arrays) for k, v in fields.items()}}
    raise CheckpointError(
        f"a {kind} cannot be written into a checkpoint: expected a sampler, optimizer or "
        "schedule of bgs_opt; pickle the BGS object instead"
    )


def _decode(tree: Any, arrays: Arrays) -> Any:
    if isinstance(tree, list):
        return [_decode(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kind = tree["!"]
    if kind == "array":
        return arrays[tree["name"]]
    if kind == "tuple":
        return tuple(_decode(item, arrays) for item in tree["items"])
    items = {key: _decode(item, arrays) for key, item in tree["items"].items()}
    return items if kind == "dict" else _CLASSES[kind](**items)


def describe(config: Config) -> dict[str, str]:
    """Each field of a configuration as text, for comparison."""
    out = {}
    for item in dataclasses.fields(config):
        arrays: Arrays = {}
        tree = _encode(getattr(config, item.name), arrays)
        out[item.name] = json.dumps(tree) + "".join(_digest("", {k: v}) for k, v in arrays.items())
    return out


def _digest(body: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(body.encode())
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write(path: str | os.PathLike[str], config: Config, state: State) -> None:
    """Write a run to ``path``, or leave the file that was there as it was.

    See :func:`bgs_opt.atomic.replaced`.

    Raises
    ------
    CheckpointError
        If the run holds an object of the caller's own class.
    OSError
        If the folder cannot be written or the disk is full.
    """
    with replaced(path) as file:
        dump(file, config, state)


def dump(file: BinaryIO, config: Config, state: State) -> None:
    """Write a run into a binary file that is open."""
    arrays: Arrays = {}
    tree = {"config": _encode(config, arrays), "state": _encode(state, arrays)}
    body = json.dumps(tree)  # in order: a layout is an ordered mapping
    head = {"format": FORMAT, "sha256": _digest(body, arrays), "body": body}
    header = np.frombuffer(json.dumps(head).encode(), np.uint8)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in {"header": header, **arrays}.items():
            with archive.open(
                zipfile.ZipInfo(f"{name}.npy", _STAMP), "w", force_zip64=True
            ) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


@contextlib.contextmanager
def _damage(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever a damaged file provokes into one error."""
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


def read(path: str | os.PathLike[str]) -> tuple[Config, State]:
    """Read a run back; never runs code from the file.

    Raises
    ------
    CheckpointError
        If the file is damaged, of another format version, or not a checkpoint.
    FileNotFoundError
        If there is no such file.
    """
    with _damage(path), open(path, "rb") as file:
        return load(file, os.fspath(path))


def load(file: BinaryIO, name: str) -> tuple[Config, State]:
    """Read a run from a binary file that is open; ``name`` is for messages."""
    with _damage(name), zipfile.ZipFile(file) as archive:
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
        if head["format"] != FORMAT:
            raise CheckpointError(
                f"{name}: expected format {FORMAT}; got {head['format']}. "
                "Load it with the version of bgs_opt that wrote it"
            )
        if _digest(head["body"], arrays) != head["sha256"]:
            raise CheckpointError(f"{name}: its checksum does not match; it is damaged")
        tree = json.loads(head["body"])
        config, state = _decode(tree["config"], arrays), _decode(tree["state"], arrays)
        if not isinstance(config, Config) or not isinstance(state, State):
            raise CheckpointError(f"{name}: expected a run; got something else")
        _check(config, state)
        return config, state


def _check(config: Config, state: State) -> None:
    """Every vector of the run has the length and dtype that the description names."""
    vectors: dict[str, Any] = {
        "low": config.low, "high": config.high, "scale": config.scale, "average": state.average,
        "best_x": state.best_x, "path": state.path,
        **{name: value for name, value in state.optimizer.items() if np.ndim(value)},
    }  # fmt: skip
    for generation in (state.open, *state.closed):
        vectors[f"center of generation {generation.number}"] = generation.center
        vectors[f"probe of generation {generation.number}"] = generation.probe
    present = {name: v for name, v in vectors.items() if v is not None} | {"center": state.center}
    for name, vector in present.items():
        got = str(getattr(vector, "dtype", type(vector))), np.shape(vector)
        if got != (str(np.dtype(config.dtype)), (config.dim,)):
            raise CheckpointError(
                f"{name}: expected {config.dim} numbers of {config.dtype}; got {got[0]} of "
                f"shape {got[1]}"
            )
