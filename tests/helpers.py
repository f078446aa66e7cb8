"""What several test modules share: comparing runs bit for bit, driving them, refused calls."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bgs_opt import BGS
from bgs_opt.state import Generation, State

ROOT = Path(__file__).resolve().parent.parent
"""The folder that new processes start in, so that they find the tests."""

OLDER_CPU = {
    "OPENBLAS_CORETYPE": ("Prescott" if platform.machine() in {"x86_64", "AMD64"} else "ARMV8"),
    "NPY_DISABLE_CPU_FEATURES": " ".join(
        np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    ),
}
"""Environment of a new process: a kernel of OpenBLAS that the oldest CPUs run (other libraries
ignore the name), and no wider loops of NumPy than the least it was built for."""


def pickled(opt: BGS) -> bytes:
    """The state of one object as bytes: equal before and after a call that changed nothing."""
    return pickle.dumps(opt._state, protocol=5)  # no copy first: it is taken thousands of times


def fingerprint(opt: BGS) -> Any:
    """The state by its content, equal for two objects with the same bits.

    Spare room at the end of growing arrays and the order of the warnings given are left out.
    """
    return _content(opt._state)


def contents(opt: BGS) -> dict[str, Any]:
    """What a run shows, its state and its description, by content: equal bits, equal dicts."""
    public = {
        name: getattr(opt, name)
        for name in (
            "center", "sigma", "best", "history", "counts", "generation", "num_evaluations",
            "average", "recommendation", "noisy",
        )
    }  # fmt: skip
    pending = opt.pending
    public |= {"ids": pending.ids, "seeds": pending.seeds, "x": pending.x, "stop": opt.stop()}
    shown = {name: _content(value) for name, value in public.items()}
    return shown | {"state": fingerprint(opt), "config": _content(opt._config)}


def digest(opt: BGS) -> str:
    """``contents`` in 64 characters, to be compared between processes."""
    return hashlib.sha256(repr(contents(opt)).encode()).hexdigest()


def python(code: str, *arguments: object, timeout: float = 120, **environment: str) -> str:
    """Run code in a new interpreter, warnings being errors; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **environment}, text=True, timeout=timeout,
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"the new process ended with {done.returncode}:\n{done.stderr}{done.stdout}")
    return done.stdout


_PLAIN = (int, str, bool, bytes, type(None))


@functools.cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _content(value: Any) -> Any:
    """Nested lists of plain values; the kinds that are met most often come first."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is np.ndarray:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, dict):
        return [(key, _content(item)) for key, item in value.items()]  # their order counts
    if isinstance(value, (list, tuple)):
        return [_content(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {name: getattr(value, name) for name in _field_names(kind)}
    if isinstance(value, Generation):
        pairs = -(-max(0, value.asked - value.num_center) // (2 * value.repeats))
        fields["values"] = value.values[: value.asked]
        fields["status"] = value.status[: value.asked]
        fields["left"] = value.left[:pairs]
    if isinstance(value, State):
        fields["history"] = value.history[: value.history_rows]
        fields["warned"] = sorted(value.warned)
    return {"class": kind.__name__} | {name: _content(item) for name, item in fields.items()}


def sphere(x: np.ndarray) -> float:
    """Sum of squares around 1/2, exactly rounded, so that every machine agrees."""
    return float(sum((float(v) - 0.5) ** 2 for v in x))


def play(opt: BGS, generations: int, objective: Callable[[np.ndarray], float] = sphere) -> BGS:
    """Run whole generations, everything told in one call."""
    goal = opt.generation + generations
    while opt.generation < goal:
        candidates = opt.ask()
        assert len(candidates), "all were asked and some were not told: this would never end"
        opt.tell(candidates, [objective(x) for x in candidates])
    return opt


@contextlib.contextmanager
def refused(
    opt: BGS, *errors: type[BaseException], match: str | None = None
) -> Iterator[pytest.ExceptionInfo[BaseException]]:
    """The call raises an error that is all of the given types, and changes nothing."""
    before = pickled(opt)
    with pytest.raises(errors[0], match=match) as caught:
        yield caught
    for error in errors:
        assert isinstance(caught.value, error)
    assert pickled(opt) == before


def deviation(values: Sequence[float]) -> float:
    """Standard deviation, divided by n, in two passes."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))


def slow_weights(
    plus: Sequence[float],
    minus: Sequence[float],
    top_k: int,
    mean_weight: float = 0.0,
    reward_scale: str = "kept",
    accepted: Sequence[bool] | None = None,
) -> list[float]:
    """Steps 3 and 4 of the method, pair by pair, from the formulas alone."""
    n = len(plus)
    keys = []
    for a, b in zip(plus, minus, strict=True):
        if mean_weight == 1.0:
            keys.append(max(a, b))  # ARS, algorithm 2
        else:
            keys.append(mean_weight * (a + b) / 2 + abs(a - b) / 2)
    allowed = [i for i in range(n) if accepted is None or accepted[i]]
    kept = sorted(allowed, key=lambda i: (-keys[i], i))[:top_k]
    if not kept:
        return [0.0] * n
    values = [*plus, *minus]
    if reward_scale == "rank":
        from scipy.stats import rankdata  # here, so that new processes start fast

        ranks = (rankdata(values) - 1) / (2 * n - 1) - 0.5
        plus, minus, scale = ranks[:n], ranks[n:], 1.0
    elif reward_scale == "all":
        scale = deviation(values)
    else:
        scale = deviation([plus[i] for i in kept] + [minus[i] for i in kept])
    weights = [0.0] * n
    for i in kept:
        weights[i] = (plus[i] - minus[i]) / (len(kept) * scale) if scale else 0.0
    return weights
