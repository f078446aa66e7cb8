"""What the benchmarks of quality keep from run to run; what is kept is what peers answer."""

import argparse
import itertools
import json

import pytest

from tests.benchmarks import _runs, _table, functions, nevergrad

PACKAGES = ("numpy",)
VERSIONS = {"numpy": _table.versions(PACKAGES)["numpy"]}


def solve(task):
    """An answer that nobody else gives, once for each call."""
    with open(task[1], "a") as file:
        file.write("x")
    return task, 1 / 3 + task[2]


def options(cache=None, ours=None):
    return argparse.Namespace(cache=cache, ours=ours, jobs=1)


@pytest.fixture
def calls(tmp_path):
    return tmp_path / "calls"


def ask(calls, given, seeds=(0, 1, 10)):
    tasks = [(method, str(calls), seed) for method in ("mine", "peer") for seed in seeds]
    before = calls.stat().st_size if calls.exists() else 0
    found = _runs.answers(solve, tasks, given, {"mine"}, PACKAGES)
    assert {task: pytest.approx(1 / 3 + task[2], rel=1e-5) for task in tasks} == found
    return (calls.stat().st_size if calls.exists() else 0) - before


def test_peers_are_asked_once_and_our_own_answers_each_time(calls, tmp_path):
    given = options(tmp_path / "peers.json")
    assert ask(calls, given) == 6
    assert ask(calls, given) == 3
    assert ask(calls, given, seeds=(0, 2)) == 3


def test_our_own_answers_are_kept_on_demand_while_the_source_is_the_same(
    calls, tmp_path, monkeypatch
):
    given = options(tmp_path / "peers.json", tmp_path / "ours.json")
    assert ask(calls, given) == 6
    assert ask(calls, given) == 0
    monkeypatch.setattr(_runs, "source", lambda: "another")
    assert ask(calls, given) == 3


def test_answers_of_another_version_are_not_used(calls, tmp_path):
    cache = tmp_path / "peers.json"
    ask(calls, options(cache))
    text = cache.read_text()
    cache.write_text(text.replace(VERSIONS["numpy"], "0.1"))
    with pytest.raises(SystemExit, match=r"made by numpy 0\.1; here is numpy"):
        ask(calls, options(cache))
    assert cache.read_text() == text.replace(VERSIONS["numpy"], "0.1")


def test_a_run_that_breaks_off_keeps_what_it_had(calls, tmp_path):
    tasks = [("peer", str(calls), 0), ("peer", str(tmp_path / "no" / "folder"), 1)]
    with pytest.raises(FileNotFoundError):
        _runs.answers(solve, tasks, options(tmp_path / "peers.json"), set(), PACKAGES)
    kept = json.loads((tmp_path / "peers.json").read_text())
    assert kept == {"made by": VERSIONS, "answers": {f"peer, {calls}": {"0": 0.333333}}}


def test_the_source_digest_follows_every_file_of_the_package(tmp_path, monkeypatch):
    for name in ("bgs_opt", "adapters"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(_runs, "ROOT", tmp_path)
    first = _runs.source()
    assert first == _runs.source()
    (tmp_path / "adapters" / "a.py").write_text("x = 2\n")
    assert first != _runs.source()


# ---- the peers' answers that stand in the repository


def kept(table):
    return json.loads(table.KEPT.read_text())


def cells(table):
    rest = (table.RATIOS,) if table is nevergrad else ()
    for peer, f, d, *ratio, z in itertools.product(
        table.PEERS, table.FUNCTIONS, table.DIMS, *rest, table.NOISES
    ):
        yield ", ".join(map(str, (peer, f, d, *ratio, z)))


@pytest.mark.parametrize("table", [nevergrad, functions])
def test_every_answer_of_a_peer_is_kept(table):
    seeds = {str(seed) for seed in range(table.SEEDS)}
    assert {name: set(row) for name, row in kept(table)["answers"].items()} == dict.fromkeys(
        cells(table), seeds
    )


@pytest.mark.parametrize(
    ("table", "task"),
    [
        *((nevergrad, (peer, *cell, 3))
          for peer in ("OnePlusOne", "TBPSA", "TwoPointsDE", "DE", "RandomSearch")
          for cell in (("sphere", 10, 20, 0.1), ("rastrigin", 10, 20, 0.0))),
        *((functions, (peer, "rastrigin", 10, 0.1, 3)) for peer in ("DE", "dual_annealing")),
    ],
)  # fmt: skip
def test_a_peer_asked_again_answers_what_is_kept(table, task):
    """Those whose steps are sums and products of single numbers: the same on every machine."""
    *cell, seed = task
    _, found = table.solve(task)
    line = kept(table)["answers"][", ".join(map(str, cell))]
    assert found == pytest.approx(line[str(seed)], rel=1e-4)
