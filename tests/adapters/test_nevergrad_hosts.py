"""BGS inside tools that use Nevergrad: the files of docs/nevergrad.md run as they stand there.

Those that need only Nevergrad (executors among them) are run with the other pages by
tests/test_docs.py. Those that need a tool, as their second line says, are run here; they are
marked `hosts`, because the tools are heavy: `make test-hosts` installs them.
"""

import importlib
import re
from pathlib import Path

import pytest

from tests.test_docs import commands, files, hosts, run
from tests.test_packaging import EXTRAS, ROOT, canonical

PAGE = (ROOT / "docs" / "nevergrad.md").read_text("utf-8")
HOSTS = hosts(PAGE)
PACKAGES = {
    "distributed": "dask",
    "hydra": "hydra-nevergrad-sweeper",
    "optimagic": "optimagic",
    "ray": "ray",
}  # of which a module is the sign


def run_file(name: str, folder: Path) -> None:
    (folder / name).write_text(files(PAGE)[name], "utf-8")
    (command,) = [command for command in commands(PAGE) if name in command]
    run(command, folder, HOME=str(folder), RAY_USAGE_STATS_ENABLED="0")


def test_every_tool_of_the_extra_has_one_example_and_a_command():
    needed = {canonical(requirement) for requirement in EXTRAS["hosts"]} - {"hydra-core"}
    assert sorted(PACKAGES[module] for module in HOSTS.values()) == sorted(needed)
    for name in HOSTS:
        assert [command[1] for command in commands(PAGE)].count(name) == 1


def test_the_versions_on_the_page_are_those_of_the_constraints():
    pins = set((ROOT / "constraints.txt").read_text("utf-8").splitlines())
    rows = re.findall(r"^\| [^|]+ \| ([^|]+\d[^|]*) \|", PAGE, re.MULTILINE)
    versions = [version.strip() for row in rows for version in row.split(",")]
    assert {version.split()[0] for version in versions} >= {
        canonical(requirement) for requirement in EXTRAS["hosts"]
    }
    assert {version.replace(" ", "==") for version in versions} <= pins


@pytest.mark.hosts
@pytest.mark.parametrize("name", HOSTS)
def test_an_example_inside_a_tool_runs(name, tmp_path):
    importlib.import_module(HOSTS[name])  # a failure, not a skip, without it
    run_file(name, tmp_path)
    if HOSTS[name] == "hydra":
        (results,) = tmp_path.glob("multirun/**/optimization_results.yaml")
        best = re.search(r"best_evaluated_result: (\S+)", results.read_text("utf-8"))
        assert best is not None
        assert float(best[1]) < 0.4  # the middle of both intervals has 0.49
