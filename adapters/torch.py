"""Parameters of a torch module as one flat vector, in and out.

    flat = FlatParameters(policy)
    opt = bgs_opt.BGS(flat.to_numpy(), 0.1, layout=flat.layout)
    ...
    flat.from_numpy(opt.center)  # the policy acts with these numbers

The parameters become views of the vector, so that writing it is writing them.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.torch", extra="torch"):
    import torch

from bgs_opt.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["Block", "FlatParameters", "ParamLayout"]

Names = str | Iterable[str] | None


class Block(NamedTuple):
    """Where one parameter lies in the vector."""

    name: str
    shape: tuple[int, ...]
    where: slice


class ParamLayout(Mapping[str, tuple[int, ...]]):
    """Name and shape of each block of the vector, in order; ``layout=`` of ``BGS`` takes it.

    A mapping from names to shapes, with (1,) for the single number of a scalar.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        () is one number.

    Attributes
    ----------
    blocks : tuple of Block
        With the slice of each.
    size : int
        Length d of the vector.

    Examples
    --------
    >>> layout = ParamLayout({"weight": (2, 3), "bias": (2,)})
    >>> layout["weight"], layout.slices["bias"], layout.size
    ((2, 3), slice(6, 8, None), 8)
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        blocks, start = [], 0
        for name, shape in shapes.items():
            stop = start + math.prod(shape)
            blocks.append(Block(name, tuple(shape), slice(start, stop)))
            start = stop
        self.blocks = tuple(blocks)
        self.size = start
        self._shapes = {block.name: block.shape or (1,) for block in blocks}

    @property
    def slices(self) -> dict[str, slice]:
        """Slice of each block, by name."""
        return {block.name: block.where for block in self.blocks}

    def __getitem__(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __repr__(self) -> str:
        return f"ParamLayout({self._shapes})"


def _patterns(argument: str, names: Names) -> tuple[str, ...]:
    given = (names,) if isinstance(names, str) else tuple(names or ())
    for name in given:
        if not isinstance(name, str):
            raise ArgumentTypeError(f"{argument}: expected names as str; got {name!r}")
    return given


def _matches(name: str, pattern: str) -> bool:
    """By the parameter's own name, that of a submodule it lies in, or a shell pattern."""
    return name == pattern or name.startswith(pattern + ".") or fnmatch.fnmatchcase(name, pattern)


class FlatParameters:
    """Chosen parameters of a module as one vector.

    While this object lives, the parameters are views of :attr:`vector`: writing it changes the
    module at once, without a copy, and steps of a torch optimizer change the vector. Tied
    parameters are one block. Buffers are not part of it. After ``module.to(...)`` or anything
    else that gives parameters new storage, the next use attaches them again, with the numbers
    they then have.

    Parameters
    ----------
    module : torch.nn.Module
    include, exclude : str or iterable of str, optional
        Parameters by name, by the name of a submodule, or by a shell pattern ("*.weight"); all
        by default.

    Attributes
    ----------
    layout : ParamLayout
        Name, shape and slice of each block.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        (also ValueError, TypeError) for a name that matches nothing, for no parameter left, and
        for parameters that are not all of one floating dtype on one device.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(3, 2)
    >>> flat = FlatParameters(net)
    >>> flat.layout
    ParamLayout({'weight': (2, 3), 'bias': (2,)})
    >>> flat.from_numpy([0, 0, 0, 1, 1, 1, 5, 6])
    >>> net(torch.ones(3)).tolist()
    [5.0, 9.0]
    """

    def __init__(
        self, module: torch.nn.Module, *, include: Names = None, exclude: Names = None
    ) -> None:
        if not isinstance(module, torch.nn.Module):
            raise ArgumentTypeError(f"module: expected a torch.nn.Module; got {type(module)!r}")
        wanted, unwanted = _patterns("include", include), _patterns("exclude", exclude)
        every = dict(module.named_parameters())  # a tied one once, by its first name
        tied = {name for name, _ in module.named_parameters(remove_duplicate=False)}
        for argument, patterns in (("include", wanted), ("exclude", unwanted)):
            for pattern in patterns:
                if not any(_matches(name, pattern) for name in tied):
                    raise ArgumentValueError(
                        f"{argument}: expected names of parameters or submodules among "
                        f"{sorted(tied)}; got {pattern!r}"
                    )
        names = [
            name for name in every
            if (include is None or any(_matches(name, p) for p in wanted))
            and not any(_matches(name, p) for p in unwanted)
            and every[name].numel()  # nothing to search in a parameter without numbers
        ]  # fmt: skip
        if not names:
            raise ArgumentValueError(
                "expected at least one parameter; include and exclude left none"
            )
        self._module = module
        self._parameters = {name: every[name] for name in names}
        _check_alike(self._parameters)
        self.layout = ParamLayout({n: tuple(p.shape) for n, p in self._parameters.items()})
        self._aliases = _aliases_of(module)
        self._vector = torch.empty(0)
        self._attach()

    @property
    def module(self) -> torch.nn.Module:
        """The module."""
        return self._module

    @property
    def vector(self) -> torch.Tensor:
        """The numbers themselves, shape (d,), without gradient; write it to change the module."""
        if not self._attached():
            _check_alike(self._parameters)
            self._attach()
        return self._vector

    def __len__(self) -> int:
        return self.layout.size

    def __repr__(self) -> str:
        return f"FlatParameters({type(self._module).__name__}, dim={len(self)})"

    def _attached(self) -> bool:
        """Whether every parameter still lies where it was put."""
        size = self._vector.element_size()
        start = self._vector.data_ptr()
        return all(
            parameter.data_ptr() == start + size * block.where.start
            and parameter.dtype == self._vector.dtype
            and parameter.device == self._vector.device
            for parameter, block in zip(self._parameters.values(), self.layout.blocks, strict=True)
        )  # fmt: skip

    def _attach(self) -> None:
        with torch.no_grad():
            parts = [parameter.detach().reshape(-1) for parameter in self._parameters.values()]
            self._vector = torch.cat(parts)
            for parameter, block in zip(
                self._parameters.values(), self.layout.blocks, strict=True
            ):
                parameter.data = self._vector[block.where].view(block.shape)

    def set(self, values: torch.Tensor) -> None:
        """Write a vector of shape (d,) into the module; it is cast to the module's dtype."""
        if tuple(values.shape) != (len(self),):
            raise ArgumentValueError(
                f"values: expected shape ({len(self)},); got {tuple(values.shape)}"
            )
        with torch.no_grad():
            self.vector.copy_(values)

    def to_numpy(self) -> npt.NDArray[Any]:
        """Copy as an array of shape (d,), float32 for half precisions that NumPy has not."""
        vector = self.vector.detach().cpu()
        return np.array((vector.float() if vector.dtype == torch.bfloat16 else vector).numpy())

    def from_numpy(self, values: npt.ArrayLike) -> None:
        """Write an array of shape (d,) into the module; it is cast to the module's dtype."""
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            raise ArgumentTypeError(f"values: expected real numbers; got dtype {array.dtype}")
        self.set(torch.from_numpy(array.astype(array.dtype.newbyteorder("="))))

    def named(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """Vectors (..., d) as parameters (..., *shape) by name, as ``functional_call`` takes them.

        Views where torch allows. A tied parameter has its first name, as in ``named_parameters``.
        """
        if values.shape[-1] != len(self):
            raise ArgumentValueError(
                f"values: expected shape (..., {len(self)}); got {tuple(values.shape)}"
            )
        batch = values.shape[:-1]
        return {
            block.name: values[..., block.where].reshape(*batch, *block.shape)
            for block in self.layout.blocks
        }  # fmt: skip

    def call(
        self, parameters: Mapping[str, torch.Tensor], args: tuple[Any, ...], kwargs: Any = None
    ) -> Any:
        """What the module returns with parameters as :meth:`named` gives them.

        ``torch.func.functional_call`` for modules of which parts stand in several places, too:
        its own way with tied weights leaves the replaced ones in a part that is used twice.
        """
        every = {alias: parameters[name] for alias, name in self._aliases.items()
                 if name in parameters}  # fmt: skip
        return torch.func.functional_call(
            self._module, every, args, kwargs or {}, tie_weights=False
        )


def _aliases_of(module: torch.nn.Module) -> dict[str, str]:
    """One name for each place of each parameter, and the first name of that parameter."""
    first = {parameter: name for name, parameter in module.named_parameters()}
    places: dict[tuple[torch.nn.Module, str], str] = {}
    named = dict(module.named_modules(remove_duplicate=False))
    for name, _ in module.named_parameters(remove_duplicate=False):
        owner, _, kind = name.rpartition(".")
        places.setdefault((named[owner], kind), name)
    return {name: first[getattr(owner, kind)] for (owner, kind), name in places.items()}


def _check_alike(parameters: dict[str, torch.nn.Parameter]) -> None:
    """One floating dtype and one device, so that one vector can hold them."""
    kinds: dict[tuple[torch.dtype, torch.device], str] = {}
    for name, parameter in parameters.items():
        if not parameter.dtype.is_floating_point:
            raise ArgumentTypeError(
                f"{name}: expected a floating dtype (exclude it); got {parameter.dtype}"
            )
        kinds.setdefault((parameter.dtype, parameter.device), name)
    if len(kinds) > 1:
        found = ", ".join(
            f"{name}: {dtype} on {device}" for (dtype, device), name in kinds.items()
        )
        raise ArgumentTypeError(f"expected one dtype and device for all parameters; got {found}")
