"""The golden runs: samplers x optimizers, 30 generations each, kept as hexadecimal numbers.

    python -m tests.golden.refresh [FILE]

writes tests/golden/golden.json (or FILE) anew. Do that when the numbers were meant to change,
and say in CHANGELOG.md why they did.
"""

import hashlib
import itertools
import json
import math
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

from bgs_opt import BGS

FILE = Path(__file__).with_name("golden.json")
COMMAND = "python -m tests.golden.refresh"
SAMPLERS = ("hadamard", "rademacher", "gaussian", "qr")
OPTIMIZERS = ("sgd", "adam", "clipup")
NAMES = [
    f"{sampler}-{optimizer}" for sampler, optimizer in itertools.product(SAMPLERS, OPTIMIZERS)
]
DIM, GENERATIONS = 21, 30
SHOWN = ("best_value", "mean_value", "step_norm", "kept_difference")


def objective(x: np.ndarray) -> float:
    """A valley along x_i = 1/4, exactly rounded: the same bits from the same x anywhere."""
    return math.fsum((i + 1) * (v - 0.25) ** 2 for i, v in enumerate(x.tolist()))


def run(name: str) -> dict[str, str]:
    """The numbers of one run, as words that keep every bit."""
    sampler, optimizer = name.split("-")
    opt = BGS(
        np.linspace(-1, 1, DIM), 0.1, num_directions=12, sampler=sampler, optimizer=optimizer,
        seed=20220714,
    )  # fmt: skip
    while opt.generation < GENERATIONS:
        candidates = opt.ask()
        opt.tell(candidates, [objective(x) for x in candidates])
    numbers = {"center": opt.center, "best_x": opt.best.x, "sigma": np.array([opt.sigma])}
    numbers |= {column: opt.history[column] for column in SHOWN}
    return {key: written(array) for key, array in numbers.items()}


def written(numbers: np.ndarray) -> str:
    """Numbers as words, every bit kept."""
    return " ".join(number.hex() for number in numbers.tolist())


def read(words: str) -> np.ndarray:
    """What ``written`` was given."""
    return np.array([float.fromhex(word) for word in words.split()])


def environment() -> dict[str, str]:
    """What the bits may depend on; ``qr`` stands for the kernel that LAPACK runs on this CPU."""
    matrix = np.cos(np.arange(DIM * 12, dtype=np.float64)).round(6).reshape(DIM, 12)
    q, r = np.linalg.qr(matrix)
    return {
        "numpy": np.__version__,
        "machine": platform.machine(),
        "platform": sysconfig.get_platform(),
        "libc": " ".join(platform.libc_ver()),
        "qr": hashlib.sha256(q.tobytes() + r.tobytes()).hexdigest()[:16],
    }


def record() -> dict[str, Any]:
    """Everything that the file holds."""
    return {"environment": environment(), "runs": {name: run(name) for name in NAMES}}


def main(arguments: list[str]) -> None:
    """Write the file."""
    file = Path(arguments[0]) if arguments else FILE
    file.write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
    print(f"{file}: {len(NAMES)} runs")


if __name__ == "__main__":
    main(sys.argv[1:])
