"""What pyproject.toml says is what is there."""

import ast
import importlib
import pkgutil
import re
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path
from types import ModuleType

import pytest

import bgs_opt

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = CONFIG["project"]
EXTRAS = PROJECT["optional-dependencies"]


def canonical(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def named_extras(text: str) -> set[str]:
    """Every extra in texts such as ``pip install 'bgs-opt[plots,torch]'``."""
    lists = re.findall(r"(?:bgs[-_]opt|['\"\s]\.)\[([a-z][a-z, ]*)\]", text)
    return {extra.strip() for names in lists for extra in names.split(",")}


def test_every_public_name_is_found_whatever_was_imported_before():
    for module in pkgutil.iter_modules(bgs_opt.__path__):
        if module.name != "__main__":
            importlib.import_module(f"bgs_opt.{module.name}")
    for name in bgs_opt.__all__:
        assert not isinstance(getattr(bgs_opt, name), ModuleType), name
        assert name in dir(bgs_opt)
    assert bgs_opt.minimize is importlib.import_module("bgs_opt.minimization").minimize
    with pytest.raises(AttributeError, match="module 'bgs_opt' has no attribute 'minimise'"):
        _ = bgs_opt.minimise


def test_what_type_checkers_see_is_what_is_imported_on_first_use():
    imported = {
        name.name: node.module
        for node in ast.walk(ast.parse(Path(bgs_opt.__file__).read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bgs_opt.")
        for name in node.names
    }
    assert imported == {name: f"bgs_opt.{module}" for name, module in bgs_opt._MODULE_OF.items()}
    assert {*imported, "__version__"} == set(bgs_opt.__all__)


def test_the_version_is_the_same_everywhere():
    assert bgs_opt.__version__ == PROJECT["version"] == distribution("bgs-opt").version


def test_every_extra_that_the_texts_name_exists():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile"]
    for folder, ending in (("docs", "md"), ("docs", "py"), ("bgs_opt", "py"), ("adapters", "py")):
        pages += sorted((ROOT / folder).rglob(f"*.{ending}"))
    named = {page: named_extras(page.read_text("utf-8")) for page in pages}
    assert named[ROOT / "README.md"], "the README says how to install the extras"
    assert {page.name: extras - set(EXTRAS) for page, extras in named.items()} == {
        page.name: set() for page in pages
    }


def test_named_extras_are_read_from_text():
    assert named_extras("pip install 'bgs-opt[plots, torch]' or -e '.[test]'; x[i]") == {
        "plots",
        "torch",
        "test",
    }


def test_the_extras_of_the_design_exist_and_all_holds_the_adapters_packages():
    optional = ["torch", "evotorch", "nevergrad", "gym", "policy", "plots"]
    others = {"all", "test", "demo", "bench", "hosts", "lander", "scale"}
    assert {*optional} | others == set(EXTRAS)
    assert EXTRAS["all"] == [f"bgs-opt[{','.join(optional)}]"]


def test_the_constraints_pin_every_requirement_exactly():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [
        pin
        for pin in pins
        if not re.match(r"[a-z0-9-]+==[0-9.]+(rc[0-9]+)?(; python_version .*)?$", pin)
    ] == []
    required = [*PROJECT["dependencies"], *(r for extra in EXTRAS.values() for r in extra)]
    assert {canonical(r) for r in required} - {"bgs-opt"} <= {canonical(pin) for pin in pins}
    assert "torch==2.13.0" in pins


def hashed():
    """Pins of requirements-test.txt, and how many hashes each has."""
    text = (ROOT / "requirements-test.txt").read_text("utf-8")
    joined = "".join(line for line in text.splitlines(keepends=True) if line[0] != "#")
    entries = joined.replace("\\\n", " ").splitlines()
    return {entry.partition(" --hash")[0].strip(): entry.count("--hash=sha256:")
            for entry in entries}  # fmt: skip


def test_whatever_make_test_installs_has_hashes_and_the_version_of_the_constraints():
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    versions = {pin.partition(";")[0].strip() for pin in pins}
    found = hashed()
    assert all(found.values())
    names = {pin.partition(" ")[0] for pin in found}
    by_hash_alone = {"colorama", "setuptools"}  # of Windows; of the build
    assert {n for n in names - versions if n.partition("==")[0] not in by_hash_alone} == set()
    required = {canonical(r) for r in [*PROJECT["dependencies"], *EXTRAS["test"]]}
    assert required <= {n.partition("==")[0] for n in names}
    assert "setuptools" in {n.partition("==")[0] for n in names}


def test_the_makefile_installs_the_tests_by_hash():
    text = (ROOT / "Makefile").read_text("utf-8")
    rule = text.partition("$(VENV)/.test: ")[2].partition("\n\n")[0]
    assert "--require-hashes --only-binary :all: -r $(HASHED)" in rule
    assert "--no-deps --no-build-isolation" in rule


def test_the_adapters_are_a_subpackage():
    adapters = importlib.import_module("bgs_opt.adapters")
    assert adapters.__name__ == "bgs_opt.adapters"
    assert (Path(adapters.__path__[0]) / "__init__.py").is_file()


def test_the_types_are_declared():
    assert (Path(bgs_opt.__path__[0]) / "py.typed").is_file()
    assert "py.typed" in CONFIG["tool"]["setuptools"]["package-data"]["bgs_opt"]


def test_the_command_is_installed():
    (command,) = entry_points(group="console_scripts", name="bgs-opt")
    assert command.value == PROJECT["scripts"]["bgs-opt"]
    assert callable(command.load())
