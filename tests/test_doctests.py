"""The examples in the docstrings of every module."""

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import bgs_opt
import bgs_opt.adapters

# Only these need a package that is not a core dependency; each is tested where that is installed.
NEEDS = {
    "bgs_opt.adapters.evotorch": "evotorch",
    "bgs_opt.adapters.gymnasium": "gymnasium",
    "bgs_opt.adapters.nevergrad": "nevergrad",
    "bgs_opt.adapters.policy": "torch",
    "bgs_opt.adapters.torch": "torch",
}


def modules() -> list[str]:
    names = ["bgs_opt"]
    for package in (bgs_opt, bgs_opt.adapters):
        found = pkgutil.iter_modules(package.__path__, package.__name__ + ".")
        names += [module.name for module in found if not module.name.endswith("__main__")]
    return [n for n in names if n not in NEEDS or importlib.util.find_spec(NEEDS[n])]


@pytest.mark.parametrize("name", modules())
def test_the_examples_in_the_docstrings_hold(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert result.failed == 0
