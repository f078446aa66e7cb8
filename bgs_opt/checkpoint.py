"""A run as one .npz file of :mod:`bgs_opt.archive`, written atomically.

Its body is the tree of numbers and names, where arrays stand as {"!": "array"}; the arrays are
named a0, a1 and so on. Loading builds only the classes named here.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, BinaryIO

import numpy as np

from bgs_opt import archive
from bgs_opt.archive import Arrays, damage, digest
from bgs_opt.atomic import replaced
from bgs_opt.automatic import AutomaticState
from bgs_opt.config import Config
from bgs_opt.errors import CheckpointError
from bgs_opt.options import REGISTERED, Options
from bgs_opt.soundness import check
from bgs_opt.state import Generation, State

__all__ = ["FORMAT", "describe", "dump", "load", "read", "write"]

FORMAT = 1
_CLASSES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (AutomaticState, Config, Generation, Options, State)
} | REGISTERED


# Once: ``dataclasses.fields`` shortens a tuple each time, and the interpreter keeps up to 2,000 of
# each length for later: memory that rises for hours where a run is saved now and then.
_FIELDS = {
    name: [field.name for field in dataclasses.fields(kind)] for name, kind in _CLASSES.items()
}


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
        items = {name: _encode(getattr(value, name), arrays) for name in _FIELDS[kind]}
        return {"!": kind, "items": items}
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
    """Each field of a configuration, and of its options, as text, for comparison."""
    fields = {name: getattr(config, name) for name in _FIELDS["Config"] if name != "options"}
    fields = fields | {
        name: getattr(config.options, name) for name in _FIELDS["Options"] if name not in fields
    }
    out = {}
    for name, value in fields.items():
        arrays: Arrays = {}
        tree = _encode(value, arrays)
        out[name] = json.dumps(tree) + "".join(digest("", {k: v}) for k, v in arrays.items())
    return out


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
    archive.dump(file, FORMAT, body, arrays)


def read(path: str | os.PathLike[str]) -> tuple[Config, State]:
    """Read a run back; never runs code from the file.

    Raises
    ------
    CheckpointError
        If the file is damaged, of another format version, or not a checkpoint.
    FileNotFoundError
        If there is no such file.
    """
    with damage(path), archive.opened(path) as file:
        return load(file, os.fspath(path))


def load(file: BinaryIO, name: str) -> tuple[Config, State]:
    """Read a run from a binary file that is open; ``name`` is for messages."""
    with damage(name):
        tree, arrays = archive.load(file, name, FORMAT)
        if "gene_pool" in tree:
            raise CheckpointError("got a gene pool")
        config, state = _decode(tree["config"], arrays), _decode(tree["state"], arrays)
        check(config, state)
        return config, state
