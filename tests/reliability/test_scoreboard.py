"""The scoreboard: bgs_opt passes its 18 checks, and what fails a check is found.

Each check is run as the scoreboard runs it, in a process of its own, over fewer settings. Peers
beside SciPy are not needed.
"""

import json
import os
import time
from pathlib import Path

import pytest

from tests.benchmarks.scoreboard import __main__ as board
from tests.benchmarks.scoreboard.faults import START, Faulty, lives, sphere
from tests.benchmarks.scoreboard.page import page_of, plain
from tests.benchmarks.scoreboard.scene import CHECKS, mark_of, words_of
from tests.benchmarks.scoreboard.subjects import NAMES, SUBJECTS

ROOT = Path(__file__).resolve().parents[2]


def part(held, *, main=False, way="", words="words"):
    return {"part": "name", "held": held, "words": words, "main": main, "way": way}


# ---- bgs_opt passes


@pytest.mark.parametrize("number", range(1, 19))
def test_the_core_passes_every_check(number):
    mark, words = board.outcome("core", number, quick=True)
    assert mark == "ok", words


def test_a_peer_is_judged_by_what_it_does():
    assert board.outcome("scipy-de", 4, quick=True)[0] in {"ok", "~", "x"}
    mark, words = board.outcome("scipy-de", 6)
    assert mark == "-"
    assert "nothing to tell" in words


# ---- and a fault is found


def test_a_subject_that_hangs_is_killed_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED", str(tmp_path / "pids"))
    began = time.monotonic()
    mark, words = board.outcome("hangs", 8, seconds=6)
    assert mark == "x"
    assert "hangs (no return in 6 s)" in words
    assert time.monotonic() - began < 30
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    for _ in range(50):
        if not any(map(lives, pids)):
            break
        time.sleep(0.1)
    assert not any(map(lives, pids))


def test_a_subject_whose_process_ends_has_not_passed():
    mark, words = board.outcome("crashes", 8, quick=True)
    assert mark == "x"
    assert "its process ended with status 7" in words


@pytest.mark.parametrize(("number", "message"), [
    (1, "NaN are not the worst; evaluation 1: NaN passes for value 1 of 8"),
    (5, "some are used as numbers"),
    (6, "a whole generation: accepted"),
])  # fmt: skip
def test_a_subject_that_lies_is_found_out(number, message):
    mark, words = board.outcome("lies", number, quick=True)
    assert mark in {"x", "~"}
    assert message in words


def test_a_fault_of_the_scoreboard_is_no_result():
    mark, words = board.outcome("breaks", 4, quick=True)
    assert mark == "?"
    assert "a fault of the harness" in words


# ---- marks, words and figures


@pytest.mark.parametrize(("parts", "mark"), [
    ([part(True), part(True, main=True)], "ok"),
    ([part(True), part(False, main=True)], "x"),
    ([part(False), part(True, main=True)], "~"),
    ([part(False), part(False)], "x"),
    ([part(True), part(False)], "~"),
    ([part(True, main=True, way="a"), part(False, main=True, way="b")], "~"),
    ([part(False, main=True, way="a"), part(False, main=True, way="b")], "x"),
    ([{"now": "x"}], "?"),
])  # fmt: skip
def test_marks_follow_from_the_parts(parts, mark):
    assert mark_of(parts) == mark


def test_words_say_what_was_missed_and_where():
    parts = [part(True, way="a", words="fine"), part(False, way="b", words="lost")]
    assert words_of(parts) == "b: lost; 1 of 2 parts hold"
    assert words_of([part(True, words="fine"), {"beyond": "the host's"}]) == "fine; the host's"


def test_figures_that_are_due_are_missed_where_they_are():
    found = {("core", 1): ("ok", ""), ("core", 2): ("ok", ""),
             ("pycma", 1): ("ok", ""), ("pycma", 2): ("x", "")}  # fmt: skip
    assert all(holds for _, holds in board.due(found, ["core", "pycma"], [1, 2]))
    found["core", 2], found["pycma", 2] = ("~", ""), ("ok", "")
    assert [holds for _, holds in board.due(found, ["core", "pycma"], [1, 2])] == [
        False, False, True,
    ]  # fmt: skip
    found["pycma", 2] = ("?", "")
    assert not board.due(found, ["core", "pycma"], [1, 2])[-1][1]


def test_the_command_prints_writes_and_checks(tmp_path, capsys):
    page, file = tmp_path / "page.md", tmp_path / "board.json"
    arguments = ["--subjects", "core", "--checks", "8", "--quick", "--check"]
    assert board.main([*arguments, "--page", str(page), "--json", str(file)]) == 0
    assert "passed / applicable" in capsys.readouterr().out
    assert "- bgs_opt **ok**: both halves count" in page.read_text()
    assert json.loads(file.read_text())["outcomes"][0]["mark"] == "ok"


# ---- the page


def test_the_page_says_what_the_checks_demand_and_that_the_core_passes_them_all():
    page = (ROOT / "docs" / "scoreboard.md").read_text("utf-8")
    assert len(CHECKS) == 18
    for number, (title, function, _) in CHECKS.items():
        assert f"## {number} {title}\n\n{' '.join(function.__doc__.split())}\n" in page
        assert "\n- bgs_opt **ok**: " in page.partition(f"## {number} ")[2]
    assert "| passed / applicable | **18/18** |" in page
    assert "**?**" not in page
    for folder in (str(ROOT), os.path.expanduser("~"), "/tmp/"):
        assert folder not in page


def test_a_page_has_a_line_for_each_outcome():
    found = {("core", 8): ("ok", "kept [or](so)"), ("pycma", 8): ("x", "lost *all*")}
    page = page_of(found, ["core", "pycma"], [8], [(1, 1), (0, 1)])
    assert "| 8 partial tells kept | ok | x |" in page
    assert "- pycma **x**: lost \\*all\\*" in page
    assert plain("[a](b)") == "\\[a\\](b)"


def test_every_subject_says_how_it_is_used():
    for key in NAMES:
        subject = SUBJECTS[key]()
        assert subject.key == key
        assert subject.name
        assert subject.words


# ---- what the checks are made of


def test_a_fault_meets_one_evaluation_once(tmp_path):
    f = Faulty(str(tmp_path), "raise", 2)
    assert f(START) == sphere(START) == 4
    with pytest.raises(OSError, match="the simulator is down"):
        f(START)
    f(START)
    assert (f.count("started"), f.count()) == (3, 2)
