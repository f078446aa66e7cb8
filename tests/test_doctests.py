"""The examples in the docstrings of every module."""

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import bgs_opt
import bgs_opt.adapters

# Only these need a package that is not a core dependency; each is tested where that is installed.
NEEDS = {"gymnasium": "gymnasium", "nevergrad": "nevergrad", "policy": "torch", "torch": "torch",
         "evotorch": "evotorch"}  # fmt: skip


def needed(module: str) -> str | None:
    """The package that a module needs, by the first word of an adapter's name."""
    name = module.removeprefix("bgs_opt.adapters.").partition("_")[0]
    return NEEDS.get(name) if module.startswith("bgs_opt.adapters.") else None


def modules() -> list[str]:
    names = ["bgs_opt"]
    for package in (bgs_opt, bgs_opt.adapters):
        found = pkgutil.iter_modules(package.__path__, package.__name__ + ".")
        names += [module.name for module in found if not module.name.endswith("__main__")]
    return [n for n in names if not (need := needed(n)) or importlib.util.find_spec(need)]


@pytest.mark.parametrize("name", modules())
def test_the_examples_in_the_docstrings_hold(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert result.failed == 0
