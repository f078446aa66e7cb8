"""What torch.save wrote, read by a short list of names: containers, numbers, text, tensors.

``torch.load(weights_only=True)`` runs no code either, but it makes tensors as large as a file
says, unpacks what was compressed, and knows many kinds of object. Here nothing is made that is
larger than what the file holds, and nothing but what a policy and its training consist of.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import sys
from typing import Any, ClassVar

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import torch

from bgs_opt.archive import damage, opened, stored
from bgs_opt.errors import CheckpointError

__all__ = ["load"]

_TEXT = 1 << 24  # bytes of what is no tensor
_OPCODES = (
    "PROTO", "STOP", "MARK", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "SETITEM", "SETITEMS",
    "APPEND", "APPENDS", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BINPUT", "LONG_BINPUT", "BINGET",
    "LONG_BINGET", "BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "NONE",
    "NEWTRUE", "NEWFALSE", "GLOBAL", "BINPERSID", "REDUCE",
)  # fmt: skip
"""What torch.save writes of plain objects; none of them sets an attribute."""
_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip


def _no_hooks() -> dict[str, Any]:
    """In the place of the OrderedDict of a tensor's hooks, which is empty."""
    return {}


def _tensor(
    storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> torch.Tensor:
    """View of a storage, which has to hold all of it."""
    counts: tuple[Any, ...] = (offset, *size, *stride)
    if not isinstance(storage, torch.Tensor) or len(size) != len(stride):
        raise CheckpointError("expected a tensor of a storage")
    if any(type(count) is not int or count < 0 for count in counts):
        raise CheckpointError(f"expected sizes >= 0 of a tensor; got {counts}")
    numel = math.prod(list[int](size))
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if numel > len(storage) or (numel and last >= len(storage)):
        raise CheckpointError(
            f"a tensor claims shape {size} in a storage of {len(storage)} numbers"
        )
    return storage.as_strided(size, stride, offset)


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _no_hooks,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}
_Unpickler: Any = pickle._Unpickler  # its memo is a dict


class _Reader(_Unpickler):
    """The unpickler written in Python, with the opcodes and names above and no others."""

    dispatch: ClassVar[dict[int, Any]] = {
        code[0]: _Unpickler.dispatch[code[0]]
        for code in (getattr(pickle, name) for name in _OPCODES)
    }

    def __init__(self, text: bytes, storages: dict[str, bytes]) -> None:
        super().__init__(io.BytesIO(text))
        self._bytes = storages
        self._made: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise CheckpointError(f"it names {module}.{name}, which is none of a policy's parts")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> torch.Tensor:
        _, dtype, key, _, count = pid
        if key not in self._made:
            data = self._bytes[key]
            if count * dtype.itemsize != len(data):
                raise CheckpointError(
                    f"a storage claims {count} numbers of {dtype} in {len(data)} bytes"
                )
            self._made[key] = (
                torch.frombuffer(bytearray(data), dtype=dtype) if data
                else torch.empty(0, dtype=dtype)
            )  # fmt: skip
        if self._made[key].dtype != dtype:
            raise CheckpointError(f"a storage is said to be of {dtype} and of another type")
        return self._made[key]


def _check(tree: Any, seen: set[int]) -> None:
    """No container stands in two places, which could multiply it; keys are texts."""
    if isinstance(tree, (dict, list, tuple)) and tree:
        if id(tree) in seen:
            raise CheckpointError("it holds the same container in two places")
        seen.add(id(tree))
        if isinstance(tree, dict) and not all(isinstance(key, str) for key in tree):
            raise CheckpointError("expected names in its dicts")
        for item in tree.values() if isinstance(tree, dict) else tree:
            _check(item, seen)
    elif callable(tree):
        raise CheckpointError("expected containers, numbers, texts and tensors alone")


def load(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """Read a dict of plain objects and tensors, on the CPU; ``what`` is for messages.

    Raises
    ------
    CheckpointError
        If the file is damaged, claims more than it holds, or has anything else in it.
    """
    name = os.fspath(path)
    with damage(name, what), opened(path) as file:
        entries = dict(stored(file, name))
        text = next((entry for entry in entries if entry.endswith("/data.pkl")), "")
        if not text:
            raise CheckpointError("got an archive without data.pkl, which torch.save writes")
        root = text.removesuffix("data.pkl")
        if entries.get(f"{root}byteorder", b"little") != sys.byteorder.encode():
            raise CheckpointError(f"{name}: expected numbers of this machine's byte order")
        if len(entries[text]) > _TEXT:
            raise CheckpointError(f"{name}: expected at most {_TEXT} bytes beside its tensors")
        start = f"{root}data/"
        storages = {e.removeprefix(start): d for e, d in entries.items() if e.startswith(start)}
        tree = _Reader(entries[text], storages).load()
        if not isinstance(tree, dict):
            raise CheckpointError(f"{name}: expected a dict; got {type(tree).__name__}")
        _check(tree, set())
        return tree
