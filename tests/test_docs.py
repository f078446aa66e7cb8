"""The pages for people: their code runs, their links lead somewhere, no public name is missing.

The ``python`` blocks of a page are one script: each stands at its own line number, so that a
traceback names the line of the page. A block whose first line is a comment with a file name
(``# search.py``) is that file instead; commands of the page in ``sh`` blocks (``python FILE`` of
such a file, and ``bgs-opt``) run it. Everything happens in one empty folder for each page.

A block that imports one of `HEAVY` is left out where that is not installed, and so is the whole
page if it is its first block: `make test-torch` runs them.

A file whose second line is ``# needs MODULE`` needs a tool that is not installed with the tests.
It is not run here: tests/adapters/test_nevergrad_hosts.py runs it, by ``make test-hosts``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import bgs_opt
from tests.test_architecture import LEVEL

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", *ROOT.glob("docs/*.md")])
LANGUAGES = {"python", "sh", "bash", "console", "text", "toml", "yaml"}
SECONDS = 150
HEAVY = {"torch": "torch", "evotorch": "evotorch", "gymnasium": "gymnasium",
         r"bgs_opt\.adapters\.policy": "torch"}  # fmt: skip
KNOWN = ("-W", "ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # by evotorch

FENCE = re.compile(r"^```(.*)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
FILE_NAME = re.compile(r"# (\w+\.py)\n")
NEEDS = re.compile(r"# \w+\.py\n# needs (\w+)\n")


class Block(NamedTuple):
    line: int  # of the page, where its text begins
    language: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    for match in FENCE.finditer(page):
        yield Block(page.count("\n", 0, match.start(2)) + 1, match[1], match[2])


def files(page: str) -> dict[str, str]:
    """The blocks that are files of their own, by name."""
    named = [b for b in blocks(page) if b.language == "python" and FILE_NAME.match(b.text)]
    return {FILE_NAME.match(b.text)[1]: b.text for b in named}  # type: ignore[index]


def hosts(page: str) -> dict[str, str]:
    """The files that need a tool, by name, and the module that must be there."""
    return {name: found[1] for name, text in files(page).items() if (found := NEEDS.match(text))}


def is_heavy(block: Block) -> bool:
    """Whether a block imports what is not installed."""
    modules = [name for name, needed in HEAVY.items() if importlib.util.find_spec(needed) is None]
    return any(re.search(rf"^(import|from) {name}\b", block.text, re.M) for name in modules)


def script(page: str) -> str:
    """All other ``python`` blocks, each at its own line."""
    lines = [""] * page.count("\n")
    own = [b for b in blocks(page) if b.language == "python" and not FILE_NAME.match(b.text)]
    if own and is_heavy(own[0]):
        return "\n"
    for block in own:
        if not is_heavy(block):
            text = block.text.splitlines()
            lines[block.line - 1 : block.line - 1 + len(text)] = text
    return "\n".join(lines).rstrip() + "\n"


def commands(page: str) -> Iterator[list[str]]:
    """What a page with files of its own tells the reader to run with them."""
    own = files(page)
    for block in blocks(page):
        if block.language != "sh" or not own:
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["bgs-opt"]:
                yield [sys.executable, "-m", "bgs_opt", *words[1:]]
            elif words[:1] == ["python"] and words[1] in own:
                yield [sys.executable, *words[1:]]


def run(command: list[str], folder: Path, **variables: str) -> None:
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    env = os.environ | {"PATH": os.pathsep.join(folders), "MPLBACKEND": "Agg"} | variables
    done = subprocess.run(
        command, cwd=folder, env=env, timeout=SECONDS, check=False, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"{shlex.join(command)}\n{done.stdout}")


def run_page(page: str, folder: Path, stem: str) -> None:
    for name, text in files(page).items():
        (folder / name).write_text(text, "utf-8")
    if script(page).strip():
        (folder / f"{stem}.py").write_text(script(page), "utf-8")
        run([sys.executable, "-W", "error", *KNOWN, f"{stem}.py"], folder)
    for command in commands(page):
        if not set(command) & set(hosts(page)):
            run(command, folder)


# ---- links and names


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    text = FENCE.sub("", page)
    titles = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    return {s if n == 0 else f"{s}-{n}" for i, s in enumerate(slugs) for n in [slugs[:i].count(s)]}


def broken_links(path: Path) -> list[str]:
    """Relative links to no file or no heading, and files of the project that do not exist."""
    page = FENCE.sub("", path.read_text("utf-8"))
    wrong = []
    for target in re.findall(r"\]\(([^()\s]+)\)", page):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            wrong.append(target)
    for name in re.findall(r"`((?:bgs_opt|adapters|tests|docs)/[\w./]*)`", page):
        if not (ROOT / name).exists():
            wrong.append(name)
    return wrong


def names_in_code(page: str) -> set[str]:
    code = "\n".join([*(b.text for b in blocks(page)), *re.findall(r"`([^`\n]+)`", page)])
    return set(re.findall(r"\w+", code))


def modules_drawn(page: str) -> list[str]:
    """The modules of the layer picture from the top: single words, two spaces or more apart."""
    (picture,) = [b.text for b in blocks(page) if "__main__" in b.text]
    rows = [line[12:] for line in picture.partition("=====")[0].splitlines()]
    return [word for row in rows for word in re.split(r" {2,}", row) if re.fullmatch(r"\w+", word)]


# ---- the pages


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_the_code_of_a_page_runs(path, tmp_path):
    run_page(path.read_text("utf-8"), tmp_path, f"page_{path.stem.lower()}")


def test_every_block_names_a_known_language(path):
    page = path.read_text("utf-8")
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert page.count("```") == 2 * len(list(blocks(page)))


def test_every_file_of_a_page_is_used_by_it(path):
    page = path.read_text("utf-8")
    used = [word for command in commands(page) for word in command]
    used += re.findall(r"(?:from|import) (\w+)", script(page))
    for name in files(page):
        assert any(name in word or name.removesuffix(".py") in word for word in used), name


def test_every_relative_link_leads_to_a_file_and_heading(path):
    assert broken_links(path) == []


def test_every_public_name_is_in_the_documentation():
    pages = [path.read_text("utf-8") for path in ROOT.glob("docs/*.md")]
    assert set(bgs_opt.__all__) - set().union(*map(names_in_code, pages)) == set()


def test_the_design_page_draws_the_layers_as_they_are():
    drawn = modules_drawn((ROOT / "docs" / "design.md").read_text("utf-8"))
    assert set(drawn) == {path.stem for path in ROOT.glob("bgs_opt/*.py")}
    assert [LEVEL[name] for name in drawn] == sorted(LEVEL[name] for name in drawn)


# ---- and what is wrong is found

PAGE = """# A page
```python
import pathlib
x = 1
```
Text with [a link](#a-page).
```python
# tool.py
import sys
sys.exit(len(sys.argv))
```
```text
python is not run here
```
```python
pathlib.Path("made").write_text(str(x))
```
"""


def test_the_blocks_of_a_page_share_names_and_a_folder(tmp_path):
    run_page(PAGE, tmp_path, "page")
    assert (tmp_path / "made").read_text() == "1"
    assert (tmp_path / "tool.py").exists()


def test_an_error_names_the_line_of_the_page(tmp_path):
    page = PAGE + "```python\ny = x\nz = 1 / 0\n```\n"
    with pytest.raises(AssertionError, match=r"page\.py\", line 20(.|\n)*ZeroDivisionError"):
        run_page(page, tmp_path, "page")


def test_a_warning_is_an_error(tmp_path):
    with pytest.raises(AssertionError, match="UserWarning: careful"):
        run_page("```python\nimport warnings\nwarnings.warn('careful')\n```\n", tmp_path, "page")


@pytest.mark.parametrize("command", ["python tool.py one", "bgs-opt no-such-command"])
def test_a_command_that_fails_is_found(tmp_path, command):
    with pytest.raises(AssertionError, match=command.rpartition(" ")[2]):
        run_page(f"{PAGE}```sh\n{command}\n```\n", tmp_path, "page")


def test_a_file_that_needs_a_tool_is_left_to_another_test(tmp_path):
    page = PAGE + "```python\n# app.py\n# needs ray\nraise SystemExit(1)\n```\n"
    page += "```sh\npython app.py\n```\n"
    assert hosts(page) == {"app.py": "ray"}
    assert list(commands(page)) == [[sys.executable, "app.py"]]
    run_page(page, tmp_path, "page")
    assert (tmp_path / "made").exists()
    with pytest.raises(AssertionError, match=r"app\.py"):
        run_page(page.replace("needs", "wants"), tmp_path, "page")


def test_only_commands_of_the_page_are_run(tmp_path):
    page = PAGE + "```sh\nmake demo\npython -m tests\npython other.py\n\n# python tool.py\n```\n"
    assert list(commands(page)) == []


@pytest.mark.parametrize(
    "text",
    ["[x](missing.md)", "[x](page.md#nowhere)", "[x](#nowhere)", "![x](a.png)", "`tests/no.py`"],
)
def test_a_broken_link_is_found(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(PAGE + text + "\n", "utf-8")
    assert len(broken_links(path)) == 1


def test_anchors_are_those_of_github():
    page = "# The `auto` rule: a *first*\n## Same\n## Same\n```sh\n# no heading\n```\n"
    assert anchors(page) == {"the-auto-rule-a-first", "same", "same-1"}


def test_modules_are_read_from_the_picture():
    page = "```text\n words      errors            what is raised\n            sigma  bounds\n"
    page += " people     __main__          python -m bgs_opt\n =====\n            scipy   a\n```\n"
    assert modules_drawn(page) == ["errors", "sigma", "bounds", "__main__"]


def test_names_are_read_from_code_only():
    assert names_in_code("QR and `Adam(beta1)`\n```python\nBGS\n```\n") == {"Adam", "beta1", "BGS"}
