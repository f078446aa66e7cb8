"""The layers of docs/design.md: who may import whom, how long a piece may be, what gets loaded.

Everything is read from the syntax tree, so that an import inside a function or under
``TYPE_CHECKING`` counts like one at the top. Each check is also run on a planted violation.
"""

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each row may import from the rows above it, never from its own. To place a module, add it here.
LAYERS = (
    {"atomic", "errors", "extras"},
    {"archive", "protocols"},
    {"validation"},
    {"streams"},
    {"automatic_state", "walsh"},
    {"quasi_newton"},
    {"survey", "width"},
    {
        "automatic",
        "averaging",
        "bounds",
        "directions",
        "gene_operators",
        "gradient",
        "hadamard",
        "normalization",
        "optimizers",
        "selection",
        "sigma",
    },
    {"gene_state"},
    {"gene_generation", "gene_keeping"},
    {"gene_pool"},
    {"box", "orthogonal"},
    {"options"},
    {"config"},
    {"candidates"},
    {"state"},
    {"pairs"},
    {"opening"},
    {"update"},
    {"ledger"},
    {"soundness"},
    {"checkpoint"},
    {"run"},
    {"bgs"},
    {"interrupts", "raised"},
    {"processes"},
    {"evaluation"},
    {"executors"},
    {"start"},
    {"driver"},
    {"minimization"},
    {"plots"},
    {"flags"},
    {"arguments", "programs"},
    {"objectives"},
    {"console"},
    {"__init__"},
    {"cli"},
    {"__main__"},
)
LEVEL = {module: level for level, row in enumerate(LAYERS) for module in row}

EVERYWHERE = {"numpy", "array_api_compat"}
THIRD_PARTY = {"minimization": {"scipy", "tqdm"}, "plots": {"matplotlib"}}
IN_FUNCTIONS_ONLY = {"matplotlib"}
ADAPTERS = {
    "__init__": set(),
    "evotorch": {"torch"},
    "evotorch_actors": {"evotorch", "ray", "torch"},
    "evotorch_best": {"evotorch", "torch"},
    "evotorch_distribution": {"evotorch", "torch"},
    "evotorch_fitness": {"torch"},
    "evotorch_functional": {"evotorch", "torch"},
    "evotorch_gym": {"evotorch", "gymnasium", "torch"},
    "evotorch_hadamard": {"torch"},
    "evotorch_sampling": {"torch"},
    "evotorch_search": {"evotorch", "torch"},
    "gymnasium": {"gymnasium"},
    "gymnasium_environments": {"gymnasium"},
    "gymnasium_episodes": set(),
    "gymnasium_spaces": {"gymnasium"},
    "nevergrad": {"nevergrad"},
    "nevergrad_run": {"nevergrad"},
    "nevergrad_space": {"nevergrad"},
    "policy": {"gymnasium", "torch"},
    "policy_arguments": set(),
    "policy_cli": {"gymnasium"},
    "policy_file": {"torch"},
    "policy_genes": set(),
    "policy_keeping": {"torch"},
    "policy_module": {"gymnasium", "safetensors", "torch"},
    "policy_networks": {"torch"},
    "policy_normalizer": {"torch"},
    "policy_pictures": {"PIL", "matplotlib"},
    "policy_player": {"torch"},
    "policy_reading": {"safetensors", "torch"},
    "policy_run": {"tqdm"},
    "policy_setup": {"torch"},
    "policy_team": {"torch"},
    "policy_training": set(),
    "scipy": {"scipy"},
    "torch": {"torch"},
    "torch_factorised": {"torch"},
    "torch_optimizer": {"torch"},
    "torch_population": {"torch"},
}
MAY_IMPORT_ADAPTERS = {
    "nevergrad",
    "nevergrad_run",
    *(n for n in ADAPTERS if n.startswith(("evotorch", "gymnasium", "policy", "torch_"))),
}

FILE_LINES = 300
FUNCTION_LINES = 50
NEVER_LOADED = ("torch", "evotorch", "nevergrad", "matplotlib", "scipy")

Function = ast.FunctionDef | ast.AsyncFunctionDef


# ---- reading the sources


def sources(root: Path) -> dict[str, Path]:
    """Every file of the package by its dotted name: bgs_opt.bgs, bgs_opt.adapters.scipy, ..."""
    found = {}
    for folder, package in (("bgs_opt", "bgs_opt"), ("adapters", "bgs_opt.adapters")):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            found[".".join((package, *parts))] = path
    return found


def submodules(package: str, modules: set[str]) -> set[str]:
    """The names that ``from package import name`` can mean a module by."""
    return {name.rpartition(".")[2] for name in modules if name.rpartition(".")[0] == package}


def targets(node: ast.AST, module: str, modules: set[str]) -> list[str]:
    """The dotted names of what one node imports; [] for a node that imports nothing."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module.split(".")[: -node.level]
            base = ".".join([*package, base] if base else package)
        known = submodules(base, modules)
        return [f"{base}.{a.name}" if a.name in known else base for a in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def imports(path: Path, module: str, modules: set[str]) -> Iterator[tuple[int, str, bool]]:
    """Line, target and "inside a function" of every import of a file."""
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text("utf-8")), False)]
    while pending:
        node, inside = pending.pop()
        for target in targets(node, module, modules):
            yield node.lineno, target, inside  # type: ignore[attr-defined]
        inside = inside or isinstance(node, Function | ast.Lambda)
        pending += [(child, inside) for child in ast.iter_child_nodes(node)]


# ---- the rules; each returns the violations in words


def unplaced_modules(root: Path) -> list[str]:
    placed = {f"bgs_opt.{m}" for m in LEVEL} | {f"bgs_opt.adapters.{m}" for m in ADAPTERS}
    return [f"{name} is in no layer" for name in sources(root) if name not in placed]


def own_import_is_allowed(module: str, target: str) -> bool:
    package, _, name = module.rpartition(".")
    to_adapter = target == "bgs_opt.adapters" or target.startswith("bgs_opt.adapters.")
    if package == "bgs_opt.adapters":
        if to_adapter:
            return name in MAY_IMPORT_ADAPTERS
        return name != "__init__" and target not in {"bgs_opt.cli", "bgs_opt.__main__"}
    if to_adapter:
        return (module, target) == ("bgs_opt.cli", "bgs_opt.adapters.policy_cli")
    used = "__init__" if target == "bgs_opt" else target.split(".")[1]
    return LEVEL.get(used, len(LAYERS)) < LEVEL.get(name, -1)


def foreign_import_is_allowed(module: str, top: str, inside: bool) -> bool:
    package, _, name = module.rpartition(".")
    if package == "bgs_opt.adapters":
        if name == "__init__":
            return False
        return top in EVERYWHERE | {"scipy"} | ADAPTERS.get(name, set())
    if top in IN_FUNCTIONS_ONLY and not inside:
        return False
    return top in EVERYWHERE | THIRD_PARTY.get(name, set())


def forbidden_imports(root: Path) -> list[str]:
    files = sources(root)
    wrong = []
    for module, path in files.items():
        for line, target, inside in imports(path, module, set(files)):
            top = target.partition(".")[0]
            if top in sys.stdlib_module_names:
                continue
            if top == "bgs_opt":
                allowed = own_import_is_allowed(module, target)
            else:
                allowed = foreign_import_is_allowed(module, top, inside)
            if not allowed:
                wrong.append(f"{path.relative_to(root)}:{line}: {module} imports {target}")
    return wrong


def docstring_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            lines.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def code_lines(text: str) -> set[int]:
    """The numbers of the lines with code: not blank, not only a comment."""
    layout = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    layout |= {tokenize.COMMENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def long_pieces(root: Path) -> list[str]:
    wrong = []
    for path in sources(root).values():
        where, text = path.relative_to(root), path.read_text("utf-8")
        if (length := len(text.splitlines())) > FILE_LINES:
            wrong.append(f"{where} has {length} lines, at most {FILE_LINES}")
        tree = ast.parse(text)
        counted = code_lines(text) - docstring_lines(tree)
        for node in ast.walk(tree):
            if isinstance(node, Function):
                body = range(node.body[0].lineno, (node.end_lineno or 0) + 1)
                if (length := len(counted.intersection(body))) > FUNCTION_LINES:
                    wrong.append(
                        f"{where}:{node.lineno}: {node.name} has {length} lines of code, "
                        f"at most {FUNCTION_LINES}"
                    )
    return wrong


def assert_statements(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}:{node.lineno}: assert; raise a typed error instead"
        for path in sources(root).values()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Assert)
    ]


def set_flags(root: Path) -> list[str]:
    """Assignments to ``array.flags.writeable``.

    NumPy makes a new string ("setflags") for each, and CPython's cache of methods, 4,096 places by
    the string's address, keeps them: memory that rises for hours. ``setflags`` itself makes none.
    """
    return [
        f"{path.relative_to(root)}:{node.lineno}: array.setflags(write=...) instead"
        for path in sources(root).values()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Assign)
        for target in node.targets
        if ast.unparse(target).endswith(".flags.writeable")
    ]


def loaded_by(statement: str, folder: Path) -> list[str]:
    """Which of the packages that must stay out a new interpreter has after a statement."""
    program = f"import sys\n{statement}\nprint(*(m for m in {NEVER_LOADED} if m in sys.modules))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split()


# ---- the rules hold


@pytest.mark.parametrize(
    "rule", [unplaced_modules, forbidden_imports, long_pieces, assert_statements, set_flags]
)
def test_the_source_tree_keeps_the_rule(rule):
    assert sources(ROOT)
    assert rule(ROOT) == []


@pytest.mark.parametrize(
    "statement",
    ["import bgs_opt", "from bgs_opt import *", "import bgs_opt.adapters",
     "import bgs_opt.processes"],
)  # fmt: skip
def test_an_import_loads_no_heavy_package(statement):
    assert loaded_by(statement, ROOT) == []


# ---- and a violation is found


@pytest.fixture
def plant(tmp_path):
    """Write files of a small package, by their paths, and return its root."""

    def write(**files: str) -> Path:
        for name, text in {"bgs_opt/__init__": "", "adapters/__init__": "", **files}.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return tmp_path

    return write


ALLOWED = {
    "bgs_opt/errors": "import sys",
    "bgs_opt/sigma": "import numpy as np\nfrom bgs_opt.errors import X\nfrom . import errors",
    "bgs_opt/candidates": "from bgs_opt import sigma\nfrom .errors import X",
    "bgs_opt/bgs": "from bgs_opt.candidates import Candidates",
    "bgs_opt/minimization": "from .bgs import BGS\ndef f():\n    import scipy.optimize, tqdm",
    "bgs_opt/plots": "def f():\n    import matplotlib.pyplot as plt",
    "bgs_opt/__init__": "from bgs_opt.bgs import BGS\nfrom .minimization import minimize",
    "bgs_opt/cli": "from bgs_opt import __version__, plots",
    "bgs_opt/__main__": "from bgs_opt.cli import main",
    "adapters/scipy": "import scipy\nfrom bgs_opt import minimize\nfrom bgs_opt.bgs import BGS",
    "adapters/torch": "import torch",
    "adapters/policy": "import torch\nfrom .torch import X\nfrom bgs_opt import BGS",
}


def test_a_tree_that_keeps_the_layers_has_no_violation(plant):
    root = plant(**ALLOWED)
    assert unplaced_modules(root) + forbidden_imports(root) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bgs_opt/sigma", "from bgs_opt.bounds import clip"),
        ("bgs_opt/sigma", "from . import bounds"),
        ("bgs_opt/sigma", "from bgs_opt import bounds"),
        ("bgs_opt/sigma", "import bgs_opt.bounds"),
        ("bgs_opt/sigma", "from .bgs import BGS"),
        ("bgs_opt/sigma", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import scipy"),
        ("bgs_opt/sigma", "def f():\n    import scipy.special"),
        ("bgs_opt/sigma", "import importlib\nx = importlib.import_module('scipy')"),
        ("bgs_opt/protocols", "from .sigma import X"),
        ("bgs_opt/bgs", "from bgs_opt import BGS"),
        ("bgs_opt/bgs", "from bgs_opt.minimization import minimize"),
        ("bgs_opt/bgs", "from tqdm import tqdm"),
        ("bgs_opt/bgs", "import bgs_opt.adapters.scipy"),
        ("bgs_opt/bgs", "from .adapters.scipy import bgs"),
        ("bgs_opt/__init__", "from .cli import main"),
        ("bgs_opt/plots", "import matplotlib"),
        ("bgs_opt/cli", "def f():\n    import matplotlib"),
        ("adapters/__init__", "from .scipy import bgs"),
        ("adapters/__init__", "import numpy"),
        ("adapters/scipy", "import torch"),
        ("adapters/scipy", "from .torch import X"),
        ("adapters/scipy", "from bgs_opt.adapters.torch import X"),
        ("adapters/scipy", "from bgs_opt.adapters import torch"),
        ("adapters/scipy", "from bgs_opt.cli import main"),
    ],
)
def test_an_import_against_the_layers_is_found(plant, name, text):
    files = dict.fromkeys(["bgs_opt/bounds", "bgs_opt/bgs", "bgs_opt/cli", "adapters/torch"], "")
    assert len(forbidden_imports(plant(**{**files, name: text}))) == 1


@pytest.mark.parametrize("name", ["bgs_opt/helpers", "adapters/jax", "bgs_opt/sub/sigma"])
def test_a_module_in_no_layer_is_found(plant, name):
    assert unplaced_modules(plant(**{name: ""})) == [f"{dotted(name)} is in no layer"]


def dotted(name: str) -> str:
    return name.replace("adapters/", "bgs_opt/adapters/").replace("/", ".")


def test_a_long_file_is_found_and_one_at_the_limit_is_not(plant):
    assert long_pieces(plant(**{"bgs_opt/sigma": "x = 1\n" * FILE_LINES})) == []
    assert len(long_pieces(plant(**{"bgs_opt/sigma": "x = 1\n" * (FILE_LINES + 1)}))) == 1


def test_a_long_function_is_found_and_its_docstring_is_not_counted(plant):
    head = 'def f():\n    """A docstring\n\n    of several lines."""\n\n    # a comment\n'
    body = "    x = 1\n" * FUNCTION_LINES
    assert long_pieces(plant(**{"bgs_opt/sigma": head + body})) == []
    assert len(long_pieces(plant(**{"bgs_opt/sigma": head + body + "    y = 2\n"}))) == 1


def test_an_assert_is_found(plant):
    assert len(assert_statements(plant(**{"adapters/scipy": "def f(x):\n    assert x"}))) == 1


def test_an_assignment_to_flags_is_found(plant):
    assert (
        len(set_flags(plant(**{"bgs_opt/sigma": "def f(x):\n    x.flags.writeable = False"}))) == 1
    )


def test_a_heavy_package_loaded_by_the_import_is_found(plant):
    root = plant(**{"bgs_opt/__init__": "import scipy"})
    assert loaded_by("import bgs_opt", root) == ["scipy"]
