"""What an import says where a package is missing: to a user, in a new process."""

import importlib.metadata
import importlib.util
import pkgutil
import re
import subprocess
import sys

import pytest

from bgs_opt import adapters
from bgs_opt.extras import needs

EVOTORCH = "bgs_opt.adapters.evotorch needs {}: pip install 'bgs-opt[evotorch]'"
GYM = "bgs_opt.adapters.evotorch_gym needs {}: pip install 'bgs-opt[evotorch,gym]'"
GYMNASIUM = "bgs_opt.adapters.gymnasium needs {}: pip install 'bgs-opt[gym]'"
POLICY = "bgs_opt.adapters.policy needs {}: pip install 'bgs-opt[policy]'"
TORCH = "bgs_opt.adapters.torch needs {}: pip install 'bgs-opt[torch]'"
NEVERGRAD = "bgs_opt.adapters.nevergrad needs {}: pip install 'bgs-opt[nevergrad]'"
MISSING = {  # by module: the message, and the packages that it cannot do without
    "evotorch": (EVOTORCH, ("torch", "evotorch")),
    "evotorch_actors": (EVOTORCH, ("torch", "evotorch", "ray")),
    "evotorch_best": (EVOTORCH, ("torch", "evotorch")),
    "evotorch_distribution": (EVOTORCH, ("torch", "evotorch")),
    "evotorch_fitness": (EVOTORCH, ("torch",)),
    "evotorch_functional": (EVOTORCH, ("torch", "evotorch")),
    "evotorch_gym": (GYM, ("torch", "evotorch", "gymnasium")),
    "evotorch_hadamard": (EVOTORCH, ("torch",)),
    "evotorch_sampling": (EVOTORCH, ("torch",)),
    "evotorch_search": (EVOTORCH, ("torch", "evotorch")),
    "nevergrad": (NEVERGRAD, ("nevergrad",)),
    "nevergrad_run": (NEVERGRAD, ("nevergrad",)),
    "nevergrad_space": (NEVERGRAD, ("nevergrad",)),
    "gymnasium": (GYMNASIUM, ("gymnasium",)),
    "gymnasium_environments": (GYMNASIUM, ("gymnasium",)),
    "gymnasium_episodes": (GYMNASIUM, ("gymnasium",)),
    "gymnasium_spaces": (GYMNASIUM, ("gymnasium",)),
    "policy": (POLICY, ("torch", "gymnasium")),
    "policy_arguments": (POLICY, ("torch", "gymnasium")),
    "policy_cli": (POLICY, ("torch", "gymnasium")),
    "policy_file": (POLICY, ("torch",)),
    "policy_genes": (POLICY, ()),
    "policy_keeping": (POLICY, ("torch", "gymnasium")),
    "policy_module": (POLICY, ("torch", "gymnasium")),
    "policy_pictures": (POLICY, ("torch", "gymnasium")),
    "policy_player": (POLICY, ("torch", "gymnasium")),
    "policy_reading": (POLICY, ("torch", "gymnasium")),
    "policy_run": (POLICY, ("torch", "gymnasium")),
    "policy_setup": (POLICY, ("torch", "gymnasium")),
    "policy_team": (POLICY, ("torch", "gymnasium")),
    "policy_training": (POLICY, ("torch", "gymnasium")),
    "policy_networks": (POLICY, ("torch",)),
    "policy_normalizer": (POLICY, ("torch",)),
    "scipy": ("bgs_opt.adapters.scipy needs {}: pip install bgs-opt", ("scipy",)),
    "torch": ("bgs_opt.adapters.torch needs {}: pip install 'bgs-opt[torch]'", ("torch",)),
    "torch_factorised": (TORCH, ("torch",)),
    "torch_optimizer": (TORCH, ("torch",)),
    "torch_population": (
        "bgs_opt.adapters.torch_population needs {}: pip install 'bgs-opt[torch]'", ("torch",)
    ),
}  # fmt: skip


PROGRAM = """
import importlib, sys
sys.modules[{package!r}] = None
for module in {modules}:
    try:
        importlib.import_module(f"bgs_opt.adapters.{{module}}")
    except ImportError as error:
        print(error)
"""


def test_the_table_has_every_adapter_and_no_extra_that_does_not_exist():
    assert {module.name for module in pkgutil.iter_modules(adapters.__path__)} == set(MISSING)
    extras = re.findall(r"\[(.*)\]", "\n".join(message for message, _ in MISSING.values()))
    known = importlib.metadata.metadata("bgs-opt").get_all("Provides-Extra")
    assert {name for names in extras for name in names.split(",")} <= set(known)


@pytest.mark.parametrize(
    "package", ["evotorch", "gymnasium", "nevergrad", "ray", "scipy", "torch"]
)
def test_without_a_package_the_import_of_an_adapter_names_what_to_install(package):
    modules = [module for module, (_, packages) in MISSING.items() if package in packages]
    program = PROGRAM.format(package=package, modules=modules)
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = dict(zip(modules, done.stdout.splitlines(), strict=True))
    for name, words in said.items():
        message, packages = MISSING[name]
        absent = [p for p in packages if p == package or importlib.util.find_spec(p) is None]
        inner = {GYMNASIUM.format(p) for p in absent} if name.startswith("policy_") else set()
        assert words in {message.format(p) for p in absent} | inner, name


@pytest.mark.parametrize("error", [
    ImportError("libcudart.so: no such file", name="torch"),
    ModuleNotFoundError("No module named 'torch.func'", name="torch.func"),
    ModuleNotFoundError("raised by hand"), OSError("libc10.so"),
], ids=repr)  # fmt: skip
def test_a_package_that_is_there_and_broken_raises_its_own_error(error):
    with pytest.raises(type(error)) as caught, needs("bgs_opt.adapters.torch", "torch"):
        raise error
    assert caught.value is error


def test_the_cause_of_the_message_is_the_error_of_the_import():
    words = "^this needs absent: pip install bgs-opt$"
    with pytest.raises(ImportError, match=words) as caught, needs("this"):
        import absent.part  # noqa: F401
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert caught.value.name == caught.value.__cause__.name == "absent"
